//! The log: reductions and pins, appended one after the other, each with its checksum.
//!
//! ```text
//! record := length: u32 LE | kind: u8 | checksum: 8 bytes of BLAKE3 over kind and body | body
//! ```
//!
//! A process that dies while it appends leaves a torn record at the end: the next one that appends
//! cuts it off. A record whose checksum fails with others behind it (a bad sector) ends what can be
//! trusted to be framed, so the rest is set aside as well and said to be.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use mesh_protocol::limits;
use mesh_protocol::name::{Digest, ThunkName};
use rustix::fs::{FlockOperation, flock};

use crate::error::StoreError;

const HEADER: usize = 4 + 1 + 8;
const BODY_MAX: u64 = limits::REDUCTION_BYTES;

/// One thing worth remembering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// The canonical bytes of a reduction.
    Reduction(Vec<u8>),
    /// Never collect this object, for this reason.
    Pin(Digest, String),
    /// It may be collected again.
    Unpin(Digest),
    /// The reduction of this thunk is not to be used any more.
    Forget(ThunkName),
}

impl Record {
    fn kind(&self) -> u8 {
        match self {
            Self::Reduction(_) => 1,
            Self::Pin(..) => 2,
            Self::Unpin(_) => 3,
            Self::Forget(_) => 4,
        }
    }

    fn body(&self) -> Vec<u8> {
        match self {
            Self::Reduction(bytes) => bytes.clone(),
            Self::Pin(name, note) => format!("{name} {note}").into_bytes(),
            Self::Unpin(name) => name.to_string().into_bytes(),
            Self::Forget(thunk) => thunk.to_string().into_bytes(),
        }
    }

    fn parse(kind: u8, body: &[u8]) -> Option<Self> {
        let text = || std::str::from_utf8(body).ok();
        match kind {
            1 => Some(Self::Reduction(body.to_vec())),
            2 => {
                let (name, note) = text()?.split_once(' ')?;
                Some(Self::Pin(name.parse().ok()?, note.to_owned()))
            }
            3 => Some(Self::Unpin(text()?.parse().ok()?)),
            4 => Some(Self::Forget(text()?.parse().ok()?)),
            _ => None,
        }
    }

    fn encode(&self) -> Vec<u8> {
        let (kind, body) = (self.kind(), self.body());
        let mut bytes = (body.len() as u32).to_le_bytes().to_vec();
        bytes.push(kind);
        bytes.extend_from_slice(&checksum(kind, &body));
        bytes.extend_from_slice(&body);
        bytes
    }
}

fn checksum(kind: u8, body: &[u8]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[kind]).update(body);
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    first
}

/// The file, and how far this process has read it.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    read_to: u64,
}

/// Holds the log's lock as long as it lives.
struct Locked<'a>(&'a File);

impl<'a> Locked<'a> {
    fn exclusive(file: &'a File) -> io::Result<Self> {
        flock(file, FlockOperation::LockExclusive)?;
        Ok(Self(file))
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // The lock goes with the last descriptor at the latest.
        let _ = flock(self.0, FlockOperation::Unlock);
    }
}

impl Log {
    pub(crate) fn open(path: PathBuf) -> Result<Self, StoreError> {
        let file = open_file(&path)?;
        Ok(Self { path, file, read_to: 0 })
    }

    /// Where the next unread record begins.
    pub(crate) fn position(&self) -> u64 {
        self.read_to
    }

    /// Has another process put a shorter log in this one's place? Then everything is to be read anew.
    pub(crate) fn was_replaced(&mut self) -> Result<bool, StoreError> {
        let inode = |found: &std::fs::Metadata| (found.dev(), found.ino());
        let ours = self.file.metadata().map_err(StoreError::at(&self.path))?;
        if std::fs::metadata(&self.path).is_ok_and(|there| inode(&there) == inode(&ours)) {
            return Ok(false);
        }
        self.file = open_file(&self.path)?;
        self.read_to = 0;
        Ok(true)
    }

    /// The records that have come since the last call, each with its position.
    pub(crate) fn read_new(&mut self, take: &mut dyn FnMut(u64, Record)) -> Result<(), StoreError> {
        let length = self.file.metadata().map_err(StoreError::at(&self.path))?.len();
        if length <= self.read_to {
            return Ok(());
        }
        let mut reader = io::BufReader::with_capacity(256 * 1024, &self.file);
        io::Seek::seek(&mut reader, io::SeekFrom::Start(self.read_to))
            .map_err(StoreError::at(&self.path))?;
        let (end, torn) = scan(&mut reader, self.read_to, length, take);
        self.read_to = end;
        torn.map_or(Ok(()), |error| Err(StoreError::at(&self.path)(error)))
    }

    /// Reads one record again.
    pub(crate) fn read_at(&self, position: u64) -> Result<Option<Record>, StoreError> {
        let mut header = [0; HEADER];
        let read = |bytes: &mut [u8], at| match self.file.read_exact_at(bytes, at) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(StoreError::at(&self.path)(error)),
        };
        if !read(&mut header, position)? {
            return Ok(None);
        }
        let Some(length) = body_length(&header) else { return Ok(None) };
        let mut body = vec![0; length];
        if !read(&mut body, position + HEADER as u64)? || header[5..] != checksum(header[4], &body)
        {
            return Ok(None);
        }
        Ok(Record::parse(header[4], &body))
    }

    /// Appends, after whatever other processes have appended; tells `take` of theirs and of ours.
    pub(crate) fn append(
        &mut self,
        records: &[Record],
        take: &mut dyn FnMut(u64, Record),
    ) -> Result<bool, StoreError> {
        let mut replaced = self.was_replaced()?;
        let file = self.file.try_clone().map_err(StoreError::at(&self.path))?;
        let _lock = Locked::exclusive(&file).map_err(StoreError::at(&self.path))?;
        replaced |= self.was_replaced()?;
        self.read_new(take)?;
        let length = self.file.metadata().map_err(StoreError::at(&self.path))?.len();
        if length > self.read_to {
            self.file.set_len(self.read_to).map_err(StoreError::at(&self.path))?;
        }
        let bytes: Vec<u8> = records.iter().flat_map(Record::encode).collect();
        if let Err(error) = self.file.write_all_at(&bytes, self.read_to) {
            // A full disk takes a part: the log ends where it ended before.
            self.file.set_len(self.read_to).map_err(StoreError::at(&self.path))?;
            return Err(StoreError::at(&self.path)(error));
        }
        self.read_new(take)?;
        Ok(replaced)
    }

    /// Waits until what has been appended is on the disk.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(StoreError::at(&self.path))
    }
}

fn open_file(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path).map_err(StoreError::at(path))
}

fn body_length(header: &[u8; HEADER]) -> Option<usize> {
    let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    (u64::from(length) <= BODY_MAX).then_some(length as usize)
}

/// Reads whole records; stops before the first that is torn or false, and says where that is.
fn scan(
    reader: &mut dyn Read,
    start: u64,
    length: u64,
    take: &mut dyn FnMut(u64, Record),
) -> (u64, Option<io::Error>) {
    let mut at = start;
    loop {
        let mut header = [0; HEADER];
        if at + HEADER as u64 > length {
            return (at, None);
        }
        if let Err(error) = reader.read_exact(&mut header) {
            return (at, Some(error).filter(|e| e.kind() != io::ErrorKind::UnexpectedEof));
        }
        let Some(body_length) = body_length(&header) else { return (at, None) };
        let end = at + HEADER as u64 + body_length as u64;
        if end > length {
            return (at, None);
        }
        let mut body = vec![0; body_length];
        if let Err(error) = reader.read_exact(&mut body) {
            return (at, Some(error).filter(|e| e.kind() != io::ErrorKind::UnexpectedEof));
        }
        if header[5..] != checksum(header[4], &body) {
            return (at, None);
        }
        if let Some(record) = Record::parse(header[4], &body) {
            take(at, record);
        }
        at = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Record> {
        vec![
            Record::Reduction(b"first".to_vec()),
            Record::Pin(Digest::of(b"x"), "a note, with spaces".to_owned()),
            Record::Forget(ThunkName::of(b"t")),
            Record::Unpin(Digest::of(b"x")),
        ]
    }

    fn all(log: &mut Log) -> Vec<Record> {
        let mut found = Vec::new();
        log.read_new(&mut |_, record| found.push(record)).unwrap();
        found
    }

    #[test]
    fn cut_anywhere_it_keeps_what_was_whole_and_takes_more() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut ends = vec![0];
        let mut log = Log::open(path.clone()).unwrap();
        for record in records() {
            log.append(&[record], &mut |_, _| {}).unwrap();
            ends.push(log.position());
        }
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..=whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let kept = ends.iter().filter(|end| **end > 0 && **end <= cut as u64).count();
            let mut log = Log::open(path.clone()).unwrap();
            assert_eq!(all(&mut log), records()[..kept], "cut at {cut}");
            let more = Record::Reduction(b"more".to_vec());
            log.append(std::slice::from_ref(&more), &mut |_, _| {}).unwrap();
            let mut again = Log::open(path.clone()).unwrap();
            assert_eq!(all(&mut again).last(), Some(&more));
        }
    }

    #[test]
    fn a_flipped_bit_is_never_believed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        Log::open(path.clone()).unwrap().append(&records(), &mut |_, _| {}).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 4;
            std::fs::write(&path, &bytes).unwrap();
            let found = all(&mut Log::open(path.clone()).unwrap());
            assert!(records().starts_with(&found), "at {at}: {found:?}");
            assert!(found.len() < records().len());
        }
    }

    #[test]
    fn two_writers_see_each_others_records() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let [mut one, mut two] = [(); 2].map(|()| Log::open(path.clone()).unwrap());
        let [first, second, ..] = <[Record; 4]>::try_from(records()).unwrap();
        one.append(std::slice::from_ref(&first), &mut |_, _| {}).unwrap();
        let mut seen = Vec::new();
        two.append(std::slice::from_ref(&second), &mut |_, record| seen.push(record)).unwrap();
        assert_eq!(seen, [first, second.clone()]);
        assert_eq!(all(&mut one), [second]);
    }
}
