//! `mesh gc` as it is typed.

use clap::Args;

use super::values::parse_size;

#[derive(Args, Debug)]
pub(crate) struct GcArgs {
    /// Bytes the objects may take: a number, or one with K, M, G or T [default: 20G]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) quota: Option<u64>,
    /// Only say what would be removed
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// As one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
