//! `mesh store` as it is typed.

use clap::Subcommand;

use super::JsonArgs;

#[derive(Subcommand, Debug)]
pub(crate) enum StoreCommand {
    /// Compare every object with its name; what is corrupt is put aside and will be made again
    Verify(JsonArgs),
    /// Say how much the store holds
    Stats(JsonArgs),
}
