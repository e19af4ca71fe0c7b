//! `mesh put` as it is typed.

use std::path::PathBuf;

use clap::Args;

#[derive(Args, Debug)]
pub(crate) struct PutArgs {
    /// Files or directories; - is standard input
    #[arg(required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// Never let `mesh gc` remove them
    #[arg(long)]
    pub(crate) pin: bool,
}
