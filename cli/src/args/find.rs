//! `mesh find` as it is typed.

use clap::Args;

#[derive(Args, Debug)]
pub(crate) struct FindArgs {
    /// V… or T…
    pub(crate) name: String,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}
