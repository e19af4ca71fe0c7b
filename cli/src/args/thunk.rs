//! `mesh thunk` as it is typed.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Subcommand, Debug)]
pub(crate) enum ThunkCommand {
    /// Store a thunk given as JSON and print its name
    ///
    /// The form: {"function": {"executable": "/bin/cp", "arguments": ["cp", "/in", "/out"]},
    /// "inputs": {"/in": "V…", …}, "outputs": {"out": "/out"}}. docs/thunk.md has the whole.
    Create(ThunkCreateArgs),
    /// Print a thunk as JSON
    Show(ThunkShowArgs),
    /// Print the graph of some thunks and all they depend on, in DOT
    Graph(ThunkGraphArgs),
}

#[derive(Args, Debug)]
pub(crate) struct ThunkCreateArgs {
    /// A file with the JSON form; - is standard input
    #[arg(default_value = "-")]
    pub(crate) file: PathBuf,
    /// Write the thunk's bytes to this file and use no store: for programs that run as thunks and
    /// return thunks
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct ThunkShowArgs {
    /// T… of a thunk
    pub(crate) name: String,
}

#[derive(Args, Debug)]
pub(crate) struct ThunkGraphArgs {
    /// T… of thunks
    #[arg(required = true)]
    pub(crate) names: Vec<String>,
}
