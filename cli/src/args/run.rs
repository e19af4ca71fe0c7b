//! `mesh run` as it is typed.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::values::{parse_seconds, parse_size};

#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// A file or directory that the command reads; of a program, what it loads as well
    #[arg(short, long = "input", value_name = "PATH")]
    pub(crate) inputs: Vec<PathBuf>,
    /// A file or directory that it leaves; a path that ends in / is a directory
    #[arg(short, long = "output", value_name = "PATH")]
    pub(crate) outputs: Vec<PathBuf>,
    /// A variable of its environment; without a value, the one that it has here
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<OsString>,
    /// What it reads on standard input (default: nothing); - is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) stdin: Option<PathBuf>,
    /// Wall time that it may take (default: a day)
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    pub(crate) timeout: Option<u64>,
    /// Memory that it may take: a number of bytes, or one with K, M, G or T
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) memory: Option<u64>,
    /// Run it even if its result is known
    #[arg(long)]
    pub(crate) no_memo: bool,
    /// Run it here, also if this home's node is a member of a mesh
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub(crate) local: Option<bool>,
    /// Print one JSON object in place of what the command writes
    #[arg(long)]
    pub(crate) json: bool,
    /// Say nothing but what the command says
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub(crate) quiet: Option<bool>,
    /// The command
    #[arg(required = true, last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}
