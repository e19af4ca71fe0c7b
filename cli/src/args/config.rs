//! `mesh config` as it is typed.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Subcommand, Debug)]
pub(crate) enum ConfigCommand {
    /// Check a config file, and print what is in effect and where it comes from
    ///
    /// A command behind -- adds its flags: mesh config check -- join --slots 2. It is not run.
    Check(ConfigCheckArgs),
}

#[derive(Args, Debug)]
pub(crate) struct ConfigCheckArgs {
    /// The file (default: that of this home)
    pub(crate) file: Option<PathBuf>,
    /// As one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// A command whose flags are laid over the file
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}
