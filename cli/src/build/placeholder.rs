//! Placeholders: small files that stand for outputs which do not exist yet.
//!
//! A lazy build answers a compiler call before the compiler has run and leaves a placeholder at the
//! output's path. It is known by its *inode*, not by its path: a build that renames it, links to it
//! or reaches it through a symbolic link still meets the same placeholder, and when the output
//! exists its bytes are written into that very inode, so all its names get them. Its mtime stays
//! what it was, so that `make` sees the order in which its commands ran.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use mesh_protocol::name::OutputRef;

const MAGIC: &str = "mesh placeholder 1\n";

/// Longer than any placeholder is: a bigger file need not be opened to know that it is none.
const BYTES_MAX: u64 = 256;

/// Which file, whatever its path.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Inode {
    device: u64,
    number: u64,
}

impl Inode {
    /// The inode that a stat found.
    pub(crate) fn of(metadata: &fs::Metadata) -> Self {
        Self { device: metadata.dev(), number: metadata.ino() }
    }
}

/// A placeholder that this build made and that has not become a file yet.
#[derive(Debug)]
pub(crate) struct Placeholder {
    /// What it stands for.
    pub(crate) output: OutputRef,
    /// Where it was made; the build may have moved it since.
    pub(crate) path: PathBuf,
    file: File,
}

/// The placeholders of one build.
#[derive(Debug, Default)]
pub(crate) struct Placeholders(Mutex<BTreeMap<Inode, Placeholder>>);

impl Placeholders {
    fn table(&self) -> MutexGuard<'_, BTreeMap<Inode, Placeholder>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a placeholder at `path`, in place of what is there, as assemblers and linkers replace
    /// their output: the old file is unlinked, never written to.
    pub(crate) fn create(&self, path: &Path, output: OutputRef, mode: u32) -> io::Result<Inode> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(format!("{MAGIC}{output}\n").as_bytes())?;
        let inode = Inode::of(&file.metadata()?);
        let placeholder = Placeholder { output, path: path.to_owned(), file };
        self.table().insert(inode, placeholder);
        Ok(inode)
    }

    /// What the file with this inode stands for, if it is one of this build's placeholders.
    pub(crate) fn output(&self, inode: Inode) -> Option<OutputRef> {
        self.table().get(&inode).map(|placeholder| placeholder.output.clone())
    }

    /// Forgets a placeholder whose file somebody else is about to overwrite.
    pub(crate) fn abandon(&self, inode: Inode) {
        self.table().remove(&inode);
    }

    /// Takes a placeholder out, to be filled or removed.
    pub(crate) fn take(&self, inode: Inode) -> Option<Placeholder> {
        self.table().remove(&inode)
    }

    /// All that are left.
    pub(crate) fn remaining(&self) -> Vec<(Inode, OutputRef)> {
        let outputs = self.table();
        outputs.iter().map(|(inode, placeholder)| (*inode, placeholder.output.clone())).collect()
    }
}

impl Placeholder {
    /// Makes it the real file: bytes, and execute bits if the output has them. Its mtime stays.
    ///
    /// Does nothing if the build has deleted or overwritten it meanwhile.
    pub(crate) fn fill(mut self, bytes: &mut File, executable: bool) -> io::Result<()> {
        let before = self.file.metadata()?;
        if before.nlink() == 0 || !self.is_untouched()? {
            return Ok(());
        }
        self.file.set_len(0)?;
        self.file.rewind()?;
        io::copy(bytes, &mut self.file)?;
        let mut permissions = before.permissions();
        let mode = before.mode();
        let wanted = if executable { mode | (mode & 0o444) >> 2 } else { mode & !0o111 };
        if wanted != mode {
            std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, wanted);
            self.file.set_permissions(permissions)?;
        }
        self.file.set_modified(before.modified()?)
    }

    /// Removes it, wherever the build has moved it: what it stood for will not come.
    pub(crate) fn remove(mut self) -> io::Result<()> {
        if self.file.metadata()?.nlink() == 0 || !self.is_untouched()? {
            return Ok(());
        }
        let wanted = Inode::of(&self.file.metadata()?);
        let Some(directory) = self.path.parent() else { return Ok(()) };
        let beside = fs::read_dir(directory)?.filter_map(|entry| Some(entry.ok()?.path()));
        for path in std::iter::once(self.path.clone()).chain(beside) {
            if fs::symlink_metadata(&path).is_ok_and(|found| Inode::of(&found) == wanted) {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    fn is_untouched(&mut self) -> io::Result<bool> {
        Ok(read_from(&mut self.file)?.as_ref() == Some(&self.output))
    }
}

/// The output that the file at `path` stands for, if it is a placeholder of any build.
pub(crate) fn read(path: &Path) -> io::Result<Option<OutputRef>> {
    let mut file = File::open(path)?;
    read_from(&mut file)
}

fn read_from(file: &mut File) -> io::Result<Option<OutputRef>> {
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > BYTES_MAX {
        return Ok(None);
    }
    file.rewind()?;
    let mut text = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut text)?;
    let text = std::str::from_utf8(&text).ok();
    let output = text.and_then(|text| text.strip_prefix(MAGIC)?.strip_suffix('\n')?.parse().ok());
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_protocol::name::ThunkName;

    fn output() -> OutputRef {
        OutputRef { thunk: ThunkName::of(b"thunk"), tag: "object".parse().unwrap() }
    }

    fn bytes(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file.rewind().unwrap();
        file
    }

    #[test]
    fn every_name_of_a_placeholder_gets_the_bytes_and_keeps_its_time() {
        let directory = tempfile::tempdir().unwrap();
        let [made, moved, linked] = ["a.Tpo", "a.Po", "b"].map(|name| directory.path().join(name));
        let table = Placeholders::default();
        let inode = table.create(&made, output(), 0o644).unwrap();
        let past = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        File::options().write(true).open(&made).unwrap().set_modified(past).unwrap();
        fs::rename(&made, &moved).unwrap();
        fs::hard_link(&moved, &linked).unwrap();
        assert_eq!(table.output(Inode::of(&fs::metadata(&linked).unwrap())), Some(output()));
        table.take(inode).unwrap().fill(&mut bytes(b"real"), true).unwrap();
        for path in [moved, linked] {
            assert_eq!(fs::read(&path).unwrap(), b"real");
            let metadata = fs::metadata(&path).unwrap();
            assert_eq!(metadata.modified().unwrap(), past);
            assert_eq!(metadata.mode() & 0o777, 0o755);
        }
    }

    #[test]
    fn what_the_build_overwrote_or_deleted_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let [first, second] = ["a", "b"].map(|name| directory.path().join(name));
        let table = Placeholders::default();
        let overwritten = table.create(&first, output(), 0o644).unwrap();
        let deleted = table.create(&second, output(), 0o644).unwrap();
        fs::write(&first, "mine").unwrap();
        fs::remove_file(&second).unwrap();
        for inode in [overwritten, deleted] {
            table.take(inode).unwrap().fill(&mut bytes(b"real"), false).unwrap();
        }
        assert_eq!(fs::read(&first).unwrap(), b"mine");
        assert!(!second.exists());
    }

    #[test]
    fn a_placeholder_is_removed_also_after_a_move_beside() {
        let directory = tempfile::tempdir().unwrap();
        let [made, moved] = ["a.Tpo", "a.Po"].map(|name| directory.path().join(name));
        let table = Placeholders::default();
        let inode = table.create(&made, output(), 0o644).unwrap();
        fs::rename(&made, &moved).unwrap();
        assert_eq!(read(&moved).unwrap(), Some(output()));
        table.take(inode).unwrap().remove().unwrap();
        assert!(!moved.exists());
        assert!(table.remaining().is_empty());
    }
}
