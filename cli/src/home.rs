//! Where this user's state is: `MESH_HOME`, or the XDG data directory.

use std::path::PathBuf;

use mesh_store::{Store, StoreOptions};

use crate::error::CliError;
use crate::exit;

/// The directory that holds all state.
pub(crate) fn directory() -> Result<PathBuf, CliError> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(home) = variable("MESH_HOME") {
        return Ok(home.into());
    }
    if let Some(data) = variable("XDG_DATA_HOME").map(PathBuf::from)
        && data.is_absolute()
    {
        return Ok(data.join("mesh"));
    }
    match variable("HOME") {
        Some(home) => Ok(PathBuf::from(home).join(".local/share/mesh")),
        None => Err(CliError::new(exit::NOT_FOUND, "there is no place for mesh's state")
            .hint("set MESH_HOME to a directory, or HOME")),
    }
}

/// Opens this user's store, and says once how it was found.
pub(crate) fn open_store() -> Result<Store, CliError> {
    let store = Store::open(StoreOptions::new(directory()?.join("store")))?;
    if let Some(notice) = store.notice() {
        eprintln!("mesh: {notice}");
    }
    Ok(store)
}
