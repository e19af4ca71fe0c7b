//! `mesh make`, `mesh build` and `mesh infer` as they are typed.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::values::slots;

#[derive(Args, Debug)]
pub(crate) struct MakeArgs {
    /// Arguments of make
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) arguments: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(crate) struct BuildArgs {
    /// Let each tool's caller wait until the tool has run
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub(crate) eager: Option<bool>,
    /// Run and bring only what these files need; the rest stays placeholders
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "eager")]
    pub(crate) targets_only: Vec<PathBuf>,
    /// Write counts and what ran locally, as JSON, to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Record what ran when and where, for Perfetto, chrome://tracing and the simulator, in this file
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// Cores of this machine to keep busy (default: all); 0: thunks run on other members alone
    #[arg(long, value_name = "N", value_parser = slots())]
    pub(crate) slots: Option<u32>,
    /// Run everything here, also if this home's node is a member of a mesh
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub(crate) local: Option<bool>,
    /// Leave the build in the mount namespace it is in: tools called by their absolute paths run here
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub(crate) no_bind: Option<bool>,
    /// Say nothing but what the build and its tools say
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub(crate) quiet: Option<bool>,
    /// The build command
    #[arg(required = true, last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(crate) struct InferArgs {
    /// Say nothing but what the build says
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub(crate) quiet: Option<bool>,
    /// The build command
    #[arg(required = true, last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}
