//! What goes into a frontend and what comes out.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mesh_protocol::name::{Tag, ValueName};
use mesh_protocol::thunk::{Source, Thunk};
use thiserror::Error;

use super::reason::LocalReason;
use super::writing::Writing;

/// One call of a tool, as the interposer reported it.
#[derive(Debug, Clone)]
pub struct Call {
    /// The real tool, found on `PATH` behind the interposer: absolute, its symbolic links kept.
    pub program: PathBuf,
    /// `argv`, the name it was called by first.
    pub arguments: Vec<String>,
    /// Where it was called.
    pub working_directory: PathBuf,
    /// Its environment.
    pub environment: BTreeMap<String, String>,
}

/// Where the bytes of a host file come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSource {
    /// Its content, or the output that its placeholder stands for.
    pub source: Source,
    /// Is one of its execute bits set?
    pub executable: bool,
}

/// What a frontend may ask about the contents of the host's files.
pub trait Files: Send + Sync {
    /// The content of the regular file at `path`, or the thunk output that a placeholder there
    /// stands for. Follows symbolic links. None if there is no regular file.
    fn source(&self, path: &Path) -> io::Result<Option<FileSource>>;

    /// The bytes of the file at `path`.
    fn read(&self, path: &Path) -> Result<Arc<[u8]>, ReadError>;

    /// Keeps the bytes of a tree or another generated value.
    fn put(&self, bytes: &[u8]) -> io::Result<ValueName>;
}

/// Why a file has no bytes to read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// A placeholder: its thunk has not been forced.
    #[error("the file is a placeholder")]
    Placeholder,
    /// No regular file is there.
    #[error("no such file")]
    Missing,
    /// The system says no.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What becomes of a call.
#[derive(Debug)]
pub enum Plan {
    /// This thunk does the same.
    Thunk(Box<PlannedThunk>),
    /// It has to run here.
    Local(LocalReason),
    /// The bytes of these placeholders are needed to plan: force them, then plan again.
    NeedReal(Vec<PathBuf>),
}

/// A thunk, and what the caller needs to know to stand in for the tool.
#[derive(Debug, Clone)]
pub struct PlannedThunk {
    /// The step.
    pub thunk: Thunk,
    /// What the tool would have left.
    pub outputs: Vec<PlannedOutput>,
    /// Colours were asked for on the user's behalf: take them out again unless the diagnostics
    /// go to a terminal.
    pub strip_colour_unless_tty: bool,
    /// A few words for a progress line, such as `cc src/a.c`.
    pub description: String,
}

/// One file that the tool would have left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedOutput {
    /// The thunk's tag for it.
    pub tag: Tag,
    /// Where the tool would have written it.
    pub path: PathBuf,
    /// Does the tool leave it whenever it succeeds?
    pub required: bool,
    /// Is it a program?
    pub executable: bool,
    /// How the tool writes it over what is there.
    pub writing: Writing,
}
