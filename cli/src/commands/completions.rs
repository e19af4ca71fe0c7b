//! `mesh completions`

use clap::CommandFactory;

use super::print_bytes;
use crate::args::{Args, CompletionsArgs};
use crate::error::CliError;

pub(crate) fn run(args: &CompletionsArgs) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "mesh", &mut script);
    print_bytes(&script)
}
