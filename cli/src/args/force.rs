//! `mesh force` as it is typed.

use std::path::PathBuf;

use clap::Args;

use super::values::slots;

#[derive(Args, Debug)]
pub(crate) struct ForceArgs {
    /// T…, T…#tag, or a file in which `mesh infer` left a placeholder; - reads thunks as JSON lines
    #[arg(required = true, value_name = "NAME|FILE")]
    pub(crate) names: Vec<String>,
    /// Cores of this machine to keep busy (default: all); 0: thunks run on other members alone
    #[arg(long, value_name = "N", value_parser = slots())]
    pub(crate) slots: Option<u32>,
    /// Run everything here, also if this home's node is a member of a mesh
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub(crate) local: Option<bool>,
    /// Record what ran when and where, for Perfetto, chrome://tracing and the simulator, in this file
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// Print one JSON object per NAME in place of the value's name (- always does)
    #[arg(long)]
    pub(crate) json: bool,
    /// Go on with what does not depend on a failed thunk
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub(crate) keep_going: Option<bool>,
    /// No progress, no closing line
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub(crate) quiet: Option<bool>,
}
