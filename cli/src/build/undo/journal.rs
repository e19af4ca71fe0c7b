//! The records of an undo log, in a file that outlives a build which is killed.
//!
//! One file per build, locked while the build lives. A record is some fields that each end in a
//! zero byte, and an empty one. It need not survive a power cut, so it is not synced.
//! [`clean`] takes back what a dead build had not finished: run by the
//! [`super::super::guardian`] at once, or by the next build at the latest.

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use mesh_cli::frontend::Inode;
use mesh_store::files;
use rustix::fs::{FlockOperation, flock};

use super::{aside, replay};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Number of a step of one pass, in the order in which they were answered.
pub(crate) type StepNumber = u64;

/// The journal of this build.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    path: PathBuf,
}

/// What a build is about to do, with what it takes to undo it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Record {
    /// A step will be answered. Others were the last ones so far of recipes that had not ended.
    Step { step: StepNumber, open: BTreeSet<StepNumber> },
    /// A step has finished.
    Finished(StepNumber),
    /// A directory for kept files will be made.
    Aside(PathBuf),
    /// There is nothing at this path, and will be: by a step or by a program of the build.
    Absent { path: PathBuf, step: Option<StepNumber> },
    /// The file at this path, kept aside, will be removed or replaced.
    Entry { path: PathBuf, aside: PathBuf, inode: Inode, step: Option<StepNumber> },
    /// This directory may be removed.
    Directory { path: PathBuf, attributes: Attributes },
    /// Something in this directory will be made or removed.
    Times { path: PathBuf, attributes: Attributes },
    /// This file will get another name, in place of the one it has.
    Moved { from: PathBuf, to: PathBuf, inode: Inode },
    /// The file at this path will be written to; its content is in the copy.
    Content { path: PathBuf, copy: PathBuf, attributes: Attributes },
    /// Permissions or times at this path will change.
    Attributes { path: PathBuf, attributes: Attributes },
    /// A placeholder of another build will be filled.
    Filling { path: PathBuf, inode: Inode },
    /// It is whole.
    Filled { inode: Inode },
}

/// Permissions and times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    /// Seconds and nanoseconds of the last access.
    pub(super) accessed: (i64, i64),
    /// Seconds and nanoseconds of the last change of content.
    pub(super) modified: (i64, i64),
}

impl Attributes {
    pub(super) fn of(found: &Metadata) -> Self {
        Self {
            mode: found.mode() & 0o7777,
            accessed: (found.atime(), found.atime_nsec()),
            modified: (found.mtime(), found.mtime_nsec()),
        }
    }

    fn text(self) -> String {
        let ((a, b), (c, d)) = (self.accessed, self.modified);
        format!("{:o} {a} {b} {c} {d}", self.mode)
    }

    fn parse(text: &str) -> Option<Self> {
        let (mode, times) = text.split_once(' ')?;
        let times: Vec<i64> = times.split(' ').map(str::parse).collect::<Result<_, _>>().ok()?;
        let [a, b, c, d] = times[..] else { return None };
        let mode = u32::from_str_radix(mode, 8).ok()?;
        Some(Self { mode, accessed: (a, b), modified: (c, d) })
    }
}

impl Journal {
    /// Gives a free path for a journal in this directory, which is made if it is missing. The guardian knows it
    /// before the journal is there.
    pub(crate) fn new_path(directory: &Path) -> io::Result<PathBuf> {
        files::create_private_directory(directory)?;
        loop {
            // No name comes again: the guardian of an earlier pass may still look for its own.
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = directory.join(format!("{}.{number}", std::process::id()));
            if !fs::exists(&path)? {
                return Ok(path);
            }
        }
    }

    /// A new journal at this path.
    pub(crate) fn create(path: PathBuf) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.append(true).create_new(true).mode(0o600).open(&path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(Self { file, path })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A placeholder that another build left is about to be filled.
    pub(crate) fn filling(&self, inode: Inode, path: &Path) -> io::Result<()> {
        self.write(&Record::Filling { path: path.to_owned(), inode })
    }

    /// It is whole.
    pub(crate) fn filled(&self, inode: Inode) -> io::Result<()> {
        self.write(&Record::Filled { inode })
    }

    pub(super) fn write(&self, record: &Record) -> io::Result<()> {
        (&self.file).write_all(&record.encode())
    }

    pub(super) fn read(&self) -> io::Result<Vec<Record>> {
        Ok(Record::decode(&files::read(&self.path, u64::MAX)?))
    }

    /// Forgets all records.
    pub(super) fn clear(&self) -> io::Result<()> {
        self.file.set_len(0)
    }

    /// All is well: nothing is left to be cleaned.
    pub(crate) fn finish(&self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

impl Record {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut field = |field: &[u8]| {
            bytes.extend_from_slice(field);
            bytes.push(0);
        };
        let mut path = |kind: &[u8], paths: &[&Path], more: &[String]| {
            field(kind);
            paths.iter().for_each(|path| field(path.as_os_str().as_bytes()));
            more.iter().for_each(|more| field(more.as_bytes()));
        };
        match self {
            Self::Step { step, open } => {
                let numbers = std::iter::once(step).chain(open).map(StepNumber::to_string);
                path(b"step", &[], &numbers.collect::<Vec<_>>());
            }
            Self::Finished(step) => path(b"finished", &[], &[step.to_string()]),
            Self::Aside(directory) => path(b"aside", &[directory], &[]),
            Self::Absent { path: at, step } => path(b"absent", &[at], &[step_text(*step)]),
            Self::Entry { path: at, aside, inode, step } => {
                path(b"entry", &[at, aside], &[inode_text(*inode), step_text(*step)]);
            }
            Self::Directory { path: at, attributes } => {
                path(b"directory", &[at], &[attributes.text()]);
            }
            Self::Times { path: at, attributes } => path(b"times", &[at], &[attributes.text()]),
            Self::Moved { from, to, inode } => path(b"moved", &[from, to], &[inode_text(*inode)]),
            Self::Content { path: at, copy, attributes } => {
                path(b"content", &[at, copy], &[attributes.text()]);
            }
            Self::Attributes { path: at, attributes } => {
                path(b"attributes", &[at], &[attributes.text()]);
            }
            Self::Filling { path: at, inode } => path(b"filling", &[at], &[inode_text(*inode)]),
            Self::Filled { inode } => path(b"filled", &[], &[inode_text(*inode)]),
        }
        bytes.push(0);
        bytes
    }

    /// All whole records. A last one that was being written when the build died is left out: what
    /// it announces has not been done.
    fn decode(bytes: &[u8]) -> Vec<Self> {
        let mut records = Vec::new();
        let mut fields = Vec::new();
        for field in bytes.split_inclusive(|byte| *byte == 0) {
            match field {
                [0] => {
                    records.extend(Self::of_fields(&fields));
                    fields.clear();
                }
                [field @ .., 0] => fields.push(field),
                _ => {}
            }
        }
        records
    }

    fn of_fields(fields: &[&[u8]]) -> Option<Self> {
        let (kind, fields) = fields.split_first()?;
        let path =
            |at: usize| Some(PathBuf::from(std::ffi::OsString::from_vec(fields.get(at)?.to_vec())));
        let text = |at: usize| std::str::from_utf8(fields.get(at)?).ok();
        let step = |at: usize| text(at)?.parse().ok();
        let attributes = |at: usize| Attributes::parse(text(at)?);
        let inode = |at: usize| {
            let (device, number) = text(at)?.split_once(':')?;
            Some(Inode::of_parts(device.parse().ok()?, number.parse().ok()?))
        };
        Some(match *kind {
            b"step" => {
                Self::Step { step: step(0)?, open: (1..fields.len()).filter_map(step).collect() }
            }
            b"finished" => Self::Finished(step(0)?),
            b"aside" => Self::Aside(path(0)?),
            b"absent" => Self::Absent { path: path(0)?, step: step(1) },
            b"entry" => {
                Self::Entry { path: path(0)?, aside: path(1)?, inode: inode(2)?, step: step(3) }
            }
            b"directory" => Self::Directory { path: path(0)?, attributes: attributes(1)? },
            b"times" => Self::Times { path: path(0)?, attributes: attributes(1)? },
            b"content" => {
                Self::Content { path: path(0)?, copy: path(1)?, attributes: attributes(2)? }
            }
            b"moved" => Self::Moved { from: path(0)?, to: path(1)?, inode: inode(2)? },
            b"attributes" => Self::Attributes { path: path(0)?, attributes: attributes(1)? },
            b"filling" => Self::Filling { path: path(0)?, inode: inode(1)? },
            b"filled" => Self::Filled { inode: inode(0)? },
            _ => return None,
        })
    }
}

fn step_text(step: Option<StepNumber>) -> String {
    step.map_or_else(|| "-".to_owned(), |step| step.to_string())
}

fn inode_text(inode: Inode) -> String {
    let (device, number) = inode.parts();
    format!("{device}:{number}")
}

/// Takes back what builds had not finished that were killed, if their guardians were killed as well.
pub(crate) fn clean_all(directory: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        match aside::journal_of(&path) {
            // The journal comes first and goes first.
            Some(journal) if !journal.exists() => aside::remove(&path),
            None if entry.file_type()?.is_file() => {
                clean(&path, FlockOperation::NonBlockingLockExclusive)?;
            }
            // It belongs to a journal, or is the directory of a build's socket.
            _ => {}
        }
    }
    Ok(())
}

/// Takes back what the build with this journal had not finished, once the build lets go of its
/// lock.
pub(crate) fn clean(journal: &Path, lock: FlockOperation) -> io::Result<()> {
    let mut file = match files::open(journal, OpenOptions::new().read(true)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    match flock(&file, lock) {
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(()),
        locked => locked?,
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let records = Record::decode(&bytes);
    replay::replay(&records, replay::To::FirstUnfinished, None);
    for record in &records {
        if let Record::Aside(directory) = record {
            aside::remove(directory);
        }
    }
    match fs::remove_file(journal) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_they_were_written_but_for_a_torn_one() {
        let attributes = Attributes { mode: 0o644, accessed: (1, 2), modified: (-3, 4) };
        let (path, aside) = (PathBuf::from("/a b\nc"), PathBuf::from("/aside/1"));
        let inode = Inode::of_parts(5, 6);
        let records = vec![
            Record::Step { step: 1, open: BTreeSet::new() },
            Record::Step { step: 2, open: BTreeSet::from([1, 2]) },
            Record::Aside(aside.clone()),
            Record::Absent { path: path.clone(), step: None },
            Record::Entry { path: path.clone(), aside: aside.clone(), inode, step: Some(1) },
            Record::Directory { path: path.clone(), attributes },
            Record::Times { path: path.clone(), attributes },
            Record::Moved { from: path.clone(), to: aside.clone(), inode },
            Record::Content { path: path.clone(), copy: aside.clone(), attributes },
            Record::Attributes { path: aside, attributes },
            Record::Filling { path, inode },
            Record::Filled { inode },
            Record::Finished(1),
        ];
        let bytes: Vec<u8> = records.iter().flat_map(Record::encode).collect();
        assert_eq!(Record::decode(&bytes), records);
        let torn = &bytes[..bytes.len() - 1];
        assert_eq!(Record::decode(torn), records[..records.len() - 1]);
        assert!(Record::decode(b"\0\0nonsense\0\0").is_empty());
    }
}
