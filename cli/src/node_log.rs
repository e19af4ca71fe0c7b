//! The file in which a node that runs in the background says what it has to say, for months if need be.
//!
//! When it has become long it is put aside, in place of the one that was put aside before, and another is begun.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use mesh_store::files;

/// A file is put aside when it is longer: both together are some days of all that a busy node logs.
const BYTES_MAX: u64 = 8 * 1024 * 1024;

/// The log of the node of a home.
pub(crate) struct NodeLog {
    path: PathBuf,
    file: File,
    bytes_max: u64,
    /// Does standard error go where this goes?
    is_stderr: bool,
}

impl NodeLog {
    /// What is in it stays.
    pub(crate) fn open(home: &Path) -> io::Result<Self> {
        Self::open_bounded(home, BYTES_MAX, false)
    }

    fn open_bounded(home: &Path, bytes_max: u64, is_stderr: bool) -> io::Result<Self> {
        let path = Self::path(home);
        let mut log = Self { file: open(&path)?, path, bytes_max, is_stderr };
        log.turn_if_long()?;
        Ok(log)
    }

    /// The same by whoever has it as standard error, which goes on to the next file too: what the system and
    /// panics say is written there.
    pub(crate) fn of_stderr(home: &Path) -> io::Result<Self> {
        Self::open_bounded(home, BYTES_MAX, true)
    }

    /// Where it is.
    pub(crate) fn path(home: &Path) -> PathBuf {
        home.join("node.log")
    }

    pub(crate) fn into_file(self) -> File {
        self.file
    }

    fn turn_if_long(&mut self) -> io::Result<()> {
        if self.file.metadata()?.len() <= self.bytes_max {
            return Ok(());
        }
        fs::rename(&self.path, self.path.with_extension("log.old"))?;
        self.file = open(&self.path)?;
        if self.is_stderr {
            rustix::stdio::dup2_stderr(&self.file)?;
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    let file = files::open(path, OpenOptions::new().append(true).create(true).mode(0o600))?;
    files::make_private(&file)?;
    Ok(file)
}

/// Lines are written whole, so that none is in two files.
impl Write for NodeLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all(bytes)?;
        // A file that cannot be put aside goes on.
        let _ = self.turn_if_long();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_log_is_put_aside_and_one_old_one_is_kept() {
        let home = tempfile::tempdir().unwrap();
        let read = |name: &str| fs::read_to_string(home.path().join(name)).unwrap_or_default();
        let both = || (read("node.log.old"), read("node.log"));
        let text = |one: &str, two: &str| (one.to_owned(), two.to_owned());
        let open_short = || NodeLog::open_bounded(home.path(), 8, false);
        let mut log = open_short().unwrap();
        log.write_all(b"one\n").unwrap();
        drop(log);
        let mut log = open_short().unwrap();
        log.write_all(b"two\n").unwrap();
        assert_eq!(both(), text("", "one\ntwo\n"), "what was said before stays");
        log.write_all(b"three\n").unwrap();
        log.write_all(b"four\n").unwrap();
        assert_eq!(both(), text("one\ntwo\nthree\n", "four\n"));
        log.write_all(b"five\n").unwrap();
        assert_eq!(both(), text("four\nfive\n", ""));
        fs::write(home.path().join("node.log"), "of a node that could not put it aside\n").unwrap();
        drop(open_short().unwrap());
        assert_eq!(both(), text("of a node that could not put it aside\n", ""));
    }
}
