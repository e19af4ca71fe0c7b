//! The parts of a thunk, as plain data: fill in a [`ThunkSpec`], then make a thunk of it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::name::{OutputRef, Tag, ValueName};
use crate::path::AbsPath;

/// Everything a thunk says. Plain data, checked when it becomes a [`super::Thunk`].
///
/// Collections are sorted, so that the order in which they were filled leaves no trace.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ThunkSpec {
    /// What runs.
    pub function: Function,
    /// What it may read, by path. A tree may hold paths *below* which other inputs stand (they
    /// are laid over it); a file may not.
    pub inputs: BTreeMap<AbsPath, Input>,
    /// Symbolic links, by path: the text that each holds.
    pub symlinks: BTreeMap<AbsPath, String>,
    /// Directories that exist even if nothing is in them.
    pub directories: BTreeSet<AbsPath>,
    /// What it leaves, by tag.
    pub outputs: BTreeMap<Tag, Output>,
    /// What it reads on standard input; nothing if none.
    pub stdin: Option<Source>,
    /// How much it may take.
    pub limits: Limits,
}

/// The program to run and how it is called.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Function {
    /// The program: a path among the inputs.
    pub executable: AbsPath,
    /// `argv`, the program's own name (`argv[0]`) first.
    pub arguments: Vec<String>,
    /// The whole environment: nothing is added but what is here.
    pub environment: BTreeMap<String, String>,
    /// Where it starts.
    pub working_directory: AbsPath,
}

/// One readable path.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Input {
    /// Where the bytes come from.
    pub source: Source,
    /// What they become.
    pub mode: InputMode,
}

/// A value, or what another thunk will make.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// These bytes.
    Value(ValueName),
    /// That output.
    Output(OutputRef),
}

/// What an input becomes in the sandbox. All are read-only.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputMode {
    /// A file, mode 0444.
    File,
    /// A file that may be executed, mode 0555.
    Executable,
    /// A directory: the value is a [`crate::tree::Tree`].
    Tree,
}

/// One file or directory that a thunk leaves.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Output {
    /// Where it appears.
    pub path: AbsPath,
    /// Is its absence a failure?
    pub required: bool,
    /// May its bytes be a thunk, to be evaluated in place of this one? Where this is not set,
    /// bytes that look like a thunk are just bytes.
    pub dynamic: bool,
}

/// What a job may take. More than it has ends it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// Wall time, in milliseconds.
    pub timeout_ms: u64,
    /// Memory of all its processes together, in bytes; no bound of its own if none.
    pub memory_bytes: Option<u64>,
    /// Cores it keeps busy: the slots it takes.
    pub cpus: u16,
    /// Which machines can run it.
    pub platform: Platform,
}

/// The machine that a thunk's executable is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize, Deserialize)]
pub enum Platform {
    /// Linux on x86-64.
    #[serde(rename = "x86_64-linux")]
    X86_64Linux,
    /// Linux on 64-bit Arm.
    #[serde(rename = "aarch64-linux")]
    Aarch64Linux,
}

impl Platform {
    /// The platform that this program was built for, if it is one of ours.
    pub fn host() -> Option<Self> {
        match (std::env::consts::ARCH, std::env::consts::OS) {
            ("x86_64", "linux") => Some(Self::X86_64Linux),
            ("aarch64", "linux") => Some(Self::Aarch64Linux),
            _ => None,
        }
    }
}

impl Limits {
    /// No bound but a day, one core.
    pub fn for_platform(platform: Platform) -> Self {
        Self { timeout_ms: limits::TIMEOUT_MS_DEFAULT, memory_bytes: None, cpus: 1, platform }
    }
}

impl Input {
    /// A file with these bytes.
    pub fn file(name: ValueName) -> Self {
        Self { source: Source::Value(name), mode: InputMode::File }
    }

    /// A file with these bytes that may be executed.
    pub fn executable(name: ValueName) -> Self {
        Self { source: Source::Value(name), mode: InputMode::Executable }
    }

    /// A directory.
    pub fn tree(name: ValueName) -> Self {
        Self { source: Source::Value(name), mode: InputMode::Tree }
    }

    /// What another thunk makes.
    pub fn output(output: OutputRef) -> Self {
        Self { source: Source::Output(output), mode: InputMode::File }
    }
}

impl Output {
    /// An output that must be there, and whose bytes are final.
    pub fn required(path: AbsPath) -> Self {
        Self { path, required: true, dynamic: false }
    }

    /// An output that may be missing.
    pub fn optional(path: AbsPath) -> Self {
        Self { path, required: false, dynamic: false }
    }
}
