//! Which placeholders a build has made, so that they can be removed when it is killed.
//!
//! A placeholder that nobody fills any more looks like a finished file to `make`, and so does one
//! that was being filled when the build died. So each is written down before it is made, and again
//! before and after it is filled. [`clean`] removes what a dead build left: run by the
//! [`super::guardian`] at once, or by the next build at the latest.
//!
//! One file per build, locked while the build lives, of records that end in a zero byte:
//! `P<output> <path>` will be made, `F<device>:<inode> <path>` is being filled, `D<device>:<inode>`
//! is filled. It need not survive a power cut, so it is not synced.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use mesh_cli::frontend::Inode;
use mesh_protocol::name::OutputRef;
use rustix::fs::{FlockOperation, flock};

use super::placeholder;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// The journal of this build.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    path: PathBuf,
}

impl Journal {
    /// A new journal in this directory, which is made if it is missing.
    pub(crate) fn create(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        loop {
            // No name comes again: the guardian of an earlier pass may still look for its own.
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = directory.join(format!("{}.{number}", std::process::id()));
            match OpenOptions::new().append(true).create_new(true).open(&path) {
                Ok(file) => {
                    flock(&file, FlockOperation::LockExclusive)?;
                    return Ok(Self { file, path });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A placeholder for `output` is about to appear at `path`.
    pub(crate) fn promise(&self, output: &OutputRef, path: &Path) -> io::Result<()> {
        self.write(format!("P{output} "), Some(path))
    }

    /// It is about to be filled.
    pub(crate) fn filling(&self, inode: Inode, path: &Path) -> io::Result<()> {
        self.write(format!("F{} ", number(inode)), Some(path))
    }

    /// It is whole.
    pub(crate) fn filled(&self, inode: Inode) -> io::Result<()> {
        self.write(format!("D{}", number(inode)), None)
    }

    fn write(&self, head: String, path: Option<&Path>) -> io::Result<()> {
        let mut record = head.into_bytes();
        record.extend(path.into_iter().flat_map(|path| path.as_os_str().as_bytes()));
        record.push(0);
        (&self.file).write_all(&record)
    }

    /// All is well: nothing is left to be cleaned.
    pub(crate) fn finish(&self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

fn number(inode: Inode) -> String {
    let (device, number) = inode.parts();
    format!("{device}:{number}")
}

/// Removes what builds left that were killed, if their guardians were killed as well.
pub(crate) fn clean_all(directory: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        clean(&path, FlockOperation::NonBlockingLockExclusive)?;
    }
    Ok(())
}

/// Removes what the build with this journal left, once the build lets go of its lock.
pub(crate) fn clean(journal: &Path, lock: FlockOperation) -> io::Result<()> {
    let mut file = match File::open(journal) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    match flock(&file, lock) {
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(()),
        locked => locked?,
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Leftovers::read(&bytes).remove()?;
    match fs::remove_file(journal) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What a journal says is unfinished.
#[derive(Debug, Default)]
struct Leftovers {
    outputs: BTreeSet<String>,
    filling: BTreeSet<String>,
    directories: BTreeSet<PathBuf>,
}

impl Leftovers {
    fn read(journal: &[u8]) -> Self {
        let mut found = Self::default();
        let mut filling: BTreeMap<String, ()> = BTreeMap::new();
        for record in journal.split(|byte| *byte == 0) {
            let Some((kind, rest)) = record.split_first() else { continue };
            let mut parts = rest.splitn(2, |byte| *byte == b' ');
            let what = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
            if let Some(path) = parts.next() {
                let path = PathBuf::from(std::ffi::OsString::from_vec(path.to_vec()));
                found.directories.extend(path.parent().map(Path::to_owned));
            }
            match kind {
                b'P' => drop(found.outputs.insert(what)),
                b'F' => drop(filling.insert(what, ())),
                b'D' => drop(filling.remove(&what)),
                _ => {}
            }
        }
        found.filling = filling.into_keys().collect();
        found
    }

    fn remove(&self) -> io::Result<()> {
        for directory in &self.directories {
            // It may have been removed with all that was in it.
            let Ok(entries) = fs::read_dir(directory) else { continue };
            for entry in entries {
                let path = entry?.path();
                if self.is_unfinished(&path) {
                    fs::remove_file(&path)?;
                }
            }
        }
        Ok(())
    }

    fn is_unfinished(&self, path: &Path) -> bool {
        let Ok(metadata) = fs::symlink_metadata(path) else { return false };
        if !metadata.is_file() {
            return false;
        }
        if self.filling.contains(&number(Inode::of(&metadata))) {
            return true;
        }
        match placeholder::read(path) {
            Ok(Some(output)) => self.outputs.contains(&output.to_string()),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::placeholder::Placeholders;
    use mesh_protocol::name::ThunkName;
    use std::sync::Arc;

    fn output(text: &str) -> OutputRef {
        OutputRef { thunk: ThunkName::of(text.as_bytes()), tag: "out".parse().unwrap() }
    }

    #[test]
    fn a_dead_build_is_cleaned_up_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let [a, b, c, moved] = ["a", "b", "c", "moved"].map(|name| place.path().join(name));
        let journals = place.path().join("builds");
        let journal = Arc::new(Journal::create(&journals).unwrap());
        let table = Placeholders::new(Some(Arc::clone(&journal)));
        table.create(&a, output("a"), 0o644).unwrap();
        let filled = table.create(&b, output("b"), 0o644).unwrap();
        table.create(&c, output("c"), 0o644).unwrap();
        fs::rename(&c, &moved).unwrap();
        let bytes = place.path().join("bytes");
        fs::write(&bytes, "real").unwrap();
        table.fill(filled, &mut File::open(&bytes).unwrap(), false).unwrap();
        // Half filled when the build died.
        let half = place.path().join("half");
        fs::write(&half, "re").unwrap();
        let inode = Inode::of(&fs::metadata(&half).unwrap());
        journal.filling(inode, &half).unwrap();

        clean_all(&journals).unwrap();
        assert!(a.exists(), "the build lives");
        let path = journal.path().to_owned();
        drop((table, journal));
        // A child that another test forked may hold the lock for a moment.
        clean(&path, FlockOperation::LockExclusive).unwrap();
        assert!(!a.exists() && !moved.exists() && !half.exists());
        assert_eq!(fs::read(&b).unwrap(), b"real");
        assert_eq!(fs::read_dir(&journals).unwrap().count(), 0);
    }
}
