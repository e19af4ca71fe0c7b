//! `mesh get` as it is typed.

use std::path::PathBuf;

use clap::Args;

#[derive(Args, Debug)]
pub(crate) struct GetArgs {
    /// V…, T… or T…#tag
    pub(crate) name: String,
    /// Where to: a file that is replaced, or for a tree a directory that does not exist yet; - is
    /// standard output
    pub(crate) path: PathBuf,
}
