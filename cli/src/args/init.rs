//! `mesh init` as it is typed.

use clap::Args;

#[derive(Args, Debug)]
pub(crate) struct InitArgs {
    /// What people call this machine (default: its host name)
    #[arg(long)]
    pub(crate) name: Option<String>,
}
