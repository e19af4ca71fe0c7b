//! From parts to a valid thunk: every rule that a thunk keeps.

use std::collections::BTreeMap;

use thiserror::Error;

use super::Thunk;
use super::spec::{Function, InputMode, ThunkSpec};
use crate::limits;
use crate::path::{AbsPath, ancestors};
use crate::tree::is_link_target;

/// Why parts do not make a thunk.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ThunkError {
    /// More of something than is allowed.
    #[error("{count} {what}, but {max} are allowed")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        count: u64,
        /// The bound.
        max: u64,
    },
    /// `arguments` is empty: a program needs an `argv[0]`.
    #[error("arguments are empty: the first is the program's own name")]
    NoArguments,
    /// A zero byte in an argument or the environment, or `=` in a variable's name.
    #[error("{0:?} cannot be an argument or environment entry")]
    Argument(String),
    /// Two things claim one path.
    #[error("path {0} is named twice")]
    Duplicate(String),
    /// Something stands below a path that is a file, a link or an output.
    #[error("path {inner} is below {outer}, which is not a directory")]
    Overlap {
        /// The longer path.
        inner: String,
        /// The file, link or output that it is below.
        outer: String,
    },
    /// The root directory where a file, link or output is meant.
    #[error("the root directory cannot be {0}")]
    Root(&'static str),
    /// A symbolic link with an impossible target.
    #[error("{0} cannot be a symbolic link to that")]
    Link(String),
    /// A thunk that leaves nothing.
    #[error("no outputs: a thunk must leave something")]
    NoOutputs,
    /// A time or core limit of zero, or over the bound.
    #[error("limit {0} is zero or too large")]
    Limit(&'static str),
    /// A dependency that has not been reduced, or is not of the kind that is read.
    #[error("{0} reads an output that has not been reduced to a value")]
    Unreduced(String),
}

impl TryFrom<ThunkSpec> for Thunk {
    type Error = ThunkError;

    fn try_from(spec: ThunkSpec) -> Result<Self, ThunkError> {
        check_counts(&spec)?;
        check_function(&spec.function)?;
        check_limits(&spec)?;
        check_paths(&spec)?;
        Ok(Self(spec))
    }
}

fn at_most(what: &'static str, count: usize, max: usize) -> Result<(), ThunkError> {
    if count > max {
        return Err(ThunkError::TooMany { what, count: count as u64, max: max as u64 });
    }
    Ok(())
}

fn check_counts(spec: &ThunkSpec) -> Result<(), ThunkError> {
    let entries = spec.inputs.len() + spec.symlinks.len() + spec.directories.len();
    at_most("inputs, links and directories", entries, limits::THUNK_ENTRIES)?;
    at_most("outputs", spec.outputs.len(), limits::THUNK_OUTPUTS)?;
    if spec.outputs.is_empty() {
        return Err(ThunkError::NoOutputs);
    }
    Ok(())
}

fn check_function(function: &Function) -> Result<(), ThunkError> {
    if function.arguments.is_empty() {
        return Err(ThunkError::NoArguments);
    }
    if function.executable.is_root() {
        return Err(ThunkError::Root("the executable"));
    }
    let mut total = 0;
    let mut check = |text: &str, extra: usize| {
        total += text.len() + extra;
        at_most("bytes in one argument", text.len(), limits::ARGUMENT_BYTES)?;
        if text.contains('\0') {
            return Err(ThunkError::Argument(text.chars().take(64).collect()));
        }
        Ok(())
    };
    for argument in &function.arguments {
        check(argument, 1)?;
    }
    for (key, value) in &function.environment {
        if key.is_empty() || key.contains('=') {
            return Err(ThunkError::Argument(key.chars().take(64).collect()));
        }
        check(key, 1)?;
        check(value, 1)?;
    }
    at_most("bytes of arguments and environment", total, limits::ARGUMENTS_TOTAL_BYTES)
}

fn check_limits(spec: &ThunkSpec) -> Result<(), ThunkError> {
    let given = &spec.limits;
    if given.timeout_ms == 0 || given.timeout_ms > limits::TIMEOUT_MS_MAX {
        return Err(ThunkError::Limit("timeout_ms"));
    }
    if given.memory_bytes == Some(0) {
        return Err(ThunkError::Limit("memory_bytes"));
    }
    if given.cpus == 0 {
        return Err(ThunkError::Limit("cpus"));
    }
    Ok(())
}

/// May other paths stand below this one?
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Directory,
    Leaf,
}

fn check_paths<'a>(spec: &'a ThunkSpec) -> Result<(), ThunkError> {
    let mut places: BTreeMap<&'a str, Place> = BTreeMap::new();
    let mut claim = |path: &'a AbsPath, place| match places.insert(path.as_str(), place) {
        Some(_) => Err(ThunkError::Duplicate(path.to_string())),
        None => Ok(()),
    };
    for (path, input) in &spec.inputs {
        match input.mode {
            InputMode::Tree => claim(path, Place::Directory)?,
            _ if path.is_root() => return Err(ThunkError::Root("a file")),
            InputMode::File | InputMode::Executable => claim(path, Place::Leaf)?,
        }
    }
    for (path, target) in &spec.symlinks {
        if path.is_root() || !is_link_target(target) {
            return Err(ThunkError::Link(path.to_string()));
        }
        claim(path, Place::Leaf)?;
    }
    for path in &spec.directories {
        claim(path, Place::Directory)?;
    }
    let mut outputs: BTreeMap<&AbsPath, ()> = BTreeMap::new();
    for output in spec.outputs.values() {
        if output.path.is_root() {
            return Err(ThunkError::Root("an output"));
        }
        if outputs.insert(&output.path, ()).is_some() {
            return Err(ThunkError::Duplicate(output.path.to_string()));
        }
        // A step that changes a file in place (`strip`, `ranlib`) has it as input and output.
        places.entry(output.path.as_str()).or_insert(Place::Leaf);
    }
    check_nesting(&places)
}

/// Nothing stands below a leaf. What shares its directory with the path before it (most do) needs
/// no second look.
fn check_nesting(places: &BTreeMap<&str, Place>) -> Result<(), ThunkError> {
    let mut checked = None;
    for path in places.keys() {
        let nearest = ancestors(path).next();
        if nearest == checked {
            continue;
        }
        if let Some(outer) = ancestors(path).find(|outer| places.get(outer) == Some(&Place::Leaf)) {
            return Err(ThunkError::Overlap { inner: path.to_string(), outer: outer.to_owned() });
        }
        checked = nearest;
    }
    Ok(())
}
