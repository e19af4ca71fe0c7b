//! `mesh log` as it is typed.

use clap::Args;

#[derive(Args, Debug)]
pub(crate) struct LogArgs {
    /// T… of a thunk
    pub(crate) name: String,
    /// What it took as well, all as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
