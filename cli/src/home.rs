//! Where this user's state and settings are: `MESH_HOME`, or the XDG directories.

use std::path::PathBuf;

use mesh_store::{Store, StoreOptions, files};

use crate::config::{self, Config};
use crate::error::CliError;
use crate::{exit, stderr};

/// The directory that holds all state.
pub(crate) fn directory() -> Result<PathBuf, CliError> {
    match variable("MESH_HOME") {
        Some(home) => Ok(home),
        None => Ok(xdg("XDG_DATA_HOME", ".local/share")?.join("mesh")),
    }
}

/// The file with this user's settings, which need not exist.
pub(crate) fn config_file() -> Result<PathBuf, CliError> {
    match variable("MESH_HOME") {
        Some(home) => Ok(home.join("config.toml")),
        None => Ok(config_directory()?.join("mesh/config.toml")),
    }
}

/// Where programs of this user have their settings.
pub(crate) fn config_directory() -> Result<PathBuf, CliError> {
    xdg("XDG_CONFIG_HOME", ".config")
}

/// A directory of the XDG specification: a relative one does not count.
fn xdg(name: &str, below_home: &str) -> Result<PathBuf, CliError> {
    if let Some(directory) = variable(name).filter(|directory| directory.is_absolute()) {
        return Ok(directory);
    }
    match variable("HOME") {
        Some(home) => Ok(home.join(below_home)),
        None => Err(CliError::new(exit::NOT_FOUND, "there is no place for mesh's state")
            .hint("set MESH_HOME to a directory, or HOME")),
    }
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Opens this user's store for some work, and closes it: what was stored is on the disk then, and the
/// store within its quota, whatever came of the work.
pub(crate) fn with_store<T>(
    work: impl FnOnce(&Store) -> Result<T, CliError>,
) -> Result<T, CliError> {
    let store = open_store()?;
    let done = work(&store);
    let closed = store.close();
    let done = done?;
    closed?;
    Ok(done)
}

/// Opens this user's store, and says once how it was found. Whoever has worked with it closes it.
pub(crate) fn open_store() -> Result<Store, CliError> {
    let quota_bytes = config::quota(&Config::of_home()?, None).value;
    let home = directory()?;
    // Its own directory first, so that nobody else looks into what is beside the store.
    files::create_private_directory(&home).map_err(CliError::io(&home))?;
    let options = StoreOptions::new(home.join("store")).quota_bytes(quota_bytes);
    let store = Store::open(options)?;
    if let Some(notice) = store.notice() {
        stderr::write_line(format_args!("mesh: {notice}"));
    }
    Ok(store)
}
