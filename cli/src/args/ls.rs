//! `mesh ls` as it is typed.

use clap::Args;

#[derive(Args, Debug)]
pub(crate) struct LsArgs {
    /// V…, T… or T…#tag of a tree
    pub(crate) name: String,
    /// With everything below
    #[arg(short, long)]
    pub(crate) recursive: bool,
    /// One JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}
