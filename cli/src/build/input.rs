//! The standard input of a build that may be taken back to its start.
//!
//! What a program has read from a file can be read again. What is typed, or comes through a pipe,
//! cannot: whoever reads it waits until nothing is pending.

use std::io::{self, IsTerminal};

use mesh_cli::frontend::Inode;
use rustix::fs::SeekFrom;

use super::words::metadata_of;

/// How far a file has been read that is the build's input.
#[derive(Debug)]
pub(super) struct Input {
    offset: Option<u64>,
}

impl Input {
    /// Remembers where the input is.
    pub(super) fn at_start() -> Self {
        Self { offset: rustix::fs::tell(io::stdin()).ok() }
    }

    /// Goes back to where it was.
    pub(super) fn rewind(&self) {
        if let Some(offset) = self.offset {
            // It worked when it was asked for its place.
            let _ = rustix::fs::seek(io::stdin(), SeekFrom::Start(offset));
        }
    }
}

/// The input, if it can be read only once.
pub(super) fn read_once() -> Option<Inode> {
    use std::os::unix::fs::FileTypeExt;
    let found = metadata_of(&io::stdin()).ok()?;
    let kind = found.file_type();
    let is_once = kind.is_fifo() || kind.is_socket() || io::stdin().is_terminal();
    is_once.then(|| Inode::of(&found))
}
