//! `mesh stop`

use mesh_node::api::{Request, wait_for_end};

use super::ask_node;
use crate::error::CliError;
use crate::home;

pub(crate) fn run() -> Result<(), CliError> {
    ask_node(&Request::Stop)?;
    let home = home::directory()?;
    wait_for_end(&home).map_err(CliError::io(home.join("node.lock")))
}
