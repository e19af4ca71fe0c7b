//! `mesh stop`

use mesh_node::api::{stop, wait_for_end};

use super::nobody;
use crate::error::CliError;
use crate::home;

pub(crate) fn run() -> Result<(), CliError> {
    match end(&home::directory()?)? {
        true => Ok(()),
        false => Err(nobody()),
    }
}

/// Has the node of that home end, and waits until it has; false if none runs.
pub(crate) fn end(home: &std::path::Path) -> Result<bool, CliError> {
    let is_asked = stop(home)?;
    if is_asked {
        wait_for_end(home).map_err(CliError::io(home.join("node.lock")))?;
    }
    Ok(is_asked)
}
