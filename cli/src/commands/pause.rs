//! `mesh pause`, `mesh resume`

use mesh_node::api::Request;

use super::ask_node;
use crate::error::CliError;

pub(crate) fn run(paused: bool) -> Result<(), CliError> {
    ask_node(&Request::Pause(paused)).map(|_| ())
}
