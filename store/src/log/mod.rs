//! The log: what was found out, in the order it was found out, appended by any number of
//! processes.
//!
//! Goals: a record that was appended is seen by every process that looks; a torn end costs only
//! the record it tore; damage in the middle costs only the records it hit; the log never grows
//! far beyond what is still true.
//! Non-goals: order between processes beyond that of the file; reading backwards.
//!
//! - Only who holds the lock on `log.lock` changes the file. Readers hold no lock: a record that
//!   is half there when they look is looked at again the next time.
//! - An appender first reads what others appended. If behind the last good record there is
//!   something that is not one, it holds the lock, so nobody is writing it: it is cut off.
//! - Compaction writes a new file and renames it into place; the header's generation, drawn anew,
//!   tells files apart. A reader that finds another inode at the path starts from its beginning.

pub(crate) mod record;
mod scan;

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use mesh_protocol::name::Digest;

use crate::error::{Context, StoreError};
use crate::fault::{self, At};
use crate::files;
use crate::layout::Layout;
use crate::lock::{Held, SharedLock};
use crate::notice::{Notice, Notices};
use crate::sys::{self, Temporary};
use record::{HEADER_BYTES, Kind, Record};

/// `\x89MSLOG\0` and the version, the generation (16 bytes), zeros.
pub(crate) const LOG_HEADER_BYTES: u64 = 32;
const LOG_MAGIC: [u8; 8] = *b"\x89MSLOG\0\x01";

/// Tells one log file from the one that replaces it.
pub(crate) type Generation = [u8; 16];

/// Where a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Location {
    pub(crate) offset: u64,
    /// The whole record, padding included.
    pub(crate) bytes: u32,
}

/// What reading the log brings.
#[derive(Debug)]
pub(crate) enum Event<'log> {
    /// Everything read so far is void: the log starts again.
    Reset,
    /// The next record.
    Record(Location, Record<'log>),
}

/// Takes what reading the log brings.
pub(crate) type Sink<'sink> = &'sink mut dyn FnMut(Event<'_>) -> Result<(), StoreError>;

/// The log as one process sees it.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    tmp: PathBuf,
    notices: Arc<Notices>,
    file: Arc<File>,
    inode: (u64, u64),
    generation: Generation,
    /// Everything before it has been given to the sink.
    position: u64,
}

/// What a compacted log is to hold.
pub(crate) enum Keep {
    /// Copied from where it is.
    At(Location),
    /// A pin.
    Pin(Digest, String),
}

impl Log {
    /// Opens the log, or makes an empty one. Reads nothing yet.
    pub(crate) fn open(
        layout: &Layout,
        lock: &SharedLock,
        notices: Arc<Notices>,
    ) -> Result<Self, StoreError> {
        let path = layout.path("log");
        let file = match open_file(&path) {
            Ok(file) if file.metadata().at("look at", &path)?.len() >= LOG_HEADER_BYTES => file,
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(StoreError::io("open", &path, error));
            }
            _ => {
                let _held = lock.hold()?;
                create_if_missing(&path, &layout.tmp())?
            }
        };
        let mut log = Self {
            path,
            tmp: layout.tmp(),
            notices,
            inode: (0, 0),
            generation: [0; 16],
            position: LOG_HEADER_BYTES,
            file: Arc::new(file),
        };
        log.read_header()?;
        Ok(log)
    }

    fn read_header(&mut self) -> Result<(), StoreError> {
        let metadata = self.file.metadata().at("look at", &self.path)?;
        let mut header = [0; LOG_HEADER_BYTES as usize];
        self.file.read_exact_at(&mut header, 0).at("read", &self.path)?;
        let [.., version] = LOG_MAGIC;
        if header[..7] == LOG_MAGIC[..7] && header[7] != version {
            return Err(StoreError::Version {
                path: self.path.clone(),
                found: format!("log {}", header[7]),
                known: "log 1",
            });
        }
        if header[..8] != LOG_MAGIC {
            // The records stand for themselves.
            self.notices.push(Notice::CorruptLog { at: 0, bytes: LOG_HEADER_BYTES });
        }
        self.generation.copy_from_slice(&header[8..24]);
        self.inode = (metadata.dev(), metadata.ino());
        self.position = LOG_HEADER_BYTES;
        Ok(())
    }

    /// Where reading has come to: to be kept beside what was made of the records.
    pub(crate) fn position(&self) -> (Generation, u64) {
        (self.generation, self.position)
    }

    /// Goes on from a position that an earlier process kept. False if it means nothing here.
    pub(crate) fn resume(&mut self, generation: Generation, position: u64) -> bool {
        let length = self.file.metadata().map(|metadata| metadata.len()).unwrap_or(0);
        let known = generation == self.generation
            && (LOG_HEADER_BYTES..=length).contains(&position)
            && position.is_multiple_of(record::ALIGNMENT);
        self.position = if known { position } else { LOG_HEADER_BYTES };
        known
    }

    /// Starts from the beginning.
    pub(crate) fn rewind(&mut self) {
        self.position = LOG_HEADER_BYTES;
    }

    /// Has the file changed since it was last read? One `stat`.
    pub(crate) fn has_changed(&self) -> bool {
        match fs::metadata(&self.path) {
            Ok(metadata) => {
                (metadata.dev(), metadata.ino()) != self.inode || metadata.len() != self.position
            }
            Err(_) => true,
        }
    }

    /// Gives the sink what was appended since the last time.
    pub(crate) fn refresh(&mut self, sink: Sink<'_>) -> Result<(), StoreError> {
        self.read_new(sink).map(|_| ())
    }

    /// As [`Log::refresh`]; says where unreadable bytes begin that reach to the end of the file.
    fn read_new(&mut self, sink: Sink<'_>) -> Result<Option<u64>, StoreError> {
        self.reopen_if_replaced(sink)?;
        let length = self.file.metadata().at("look at", &self.path)?.len();
        if length < self.position {
            // Nobody shortens what has been read, except by hand.
            self.rewind();
            sink(Event::Reset)?;
        }
        let scanned = scan::scan(&self.file, self.position, length, &mut |location, record| {
            sink(Event::Record(location, record))
        });
        let scan::Scanned { position, skipped, torn } = match scanned {
            Ok(scanned) => scanned,
            Err(scan::ScanError::Read(error)) => {
                return Err(StoreError::io("read", &self.path, error));
            }
            Err(scan::ScanError::Sink(error)) => return Err(error),
        };
        for (at, bytes) in skipped {
            self.notices.push(Notice::CorruptLog { at, bytes });
        }
        self.position = position;
        Ok(torn.then_some(position))
    }

    fn reopen_if_replaced(&mut self, sink: Sink<'_>) -> Result<(), StoreError> {
        let same = match fs::metadata(&self.path) {
            Ok(metadata) => (metadata.dev(), metadata.ino()) == self.inode,
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => return Err(StoreError::io("look at", &self.path, error)),
        };
        if !same {
            self.file = Arc::new(open_file(&self.path).at("open", &self.path)?);
            self.read_header()?;
            sink(Event::Reset)?;
        }
        Ok(())
    }

    /// Reads what is new, and cuts off an end that is not a record: with the lock, nobody can be
    /// writing it.
    pub(crate) fn read_new_locked(
        &mut self,
        _held: &Held<'_>,
        sink: Sink<'_>,
    ) -> Result<(), StoreError> {
        let Some(at) = self.read_new(sink)? else { return Ok(()) };
        let length = self.file.metadata().at("look at", &self.path)?.len();
        self.file.set_len(at).at("shorten", &self.path)?;
        self.notices.push(Notice::TornTail { at, bytes: length - at });
        Ok(())
    }

    /// Reads what is new and mends the end if it is torn, unless somebody is writing it.
    pub(crate) fn refresh_and_mend(
        &mut self,
        lock: &SharedLock,
        sink: Sink<'_>,
    ) -> Result<(), StoreError> {
        if self.read_new(sink)?.is_none() {
            return Ok(());
        }
        match lock.hold_if_free()? {
            Some(held) => self.read_new_locked(&held, sink),
            // Whoever appends next mends it.
            None => Ok(()),
        }
    }

    /// Appends one record, after giving the sink what others appended before it; then gives it
    /// the record itself.
    pub(crate) fn append(
        &mut self,
        held: &Held<'_>,
        kind: Kind,
        digest: Digest,
        body: &[u8],
        sink: Sink<'_>,
    ) -> Result<(), StoreError> {
        self.read_new_locked(held, sink)?;
        let offset = self.position;
        let bytes = record::encode(offset, kind, digest, body);
        if let Err(error) = fault::write(At::Append, &self.file, &bytes) {
            // What was written of it would be cut off by the next one anyway.
            let _ = self.file.set_len(offset);
            return Err(StoreError::io("append to", &self.path, error));
        }
        self.position += bytes.len() as u64;
        let location = Location { offset, bytes: bytes.len() as u32 };
        sink(Event::Record(location, Record { kind: Some(kind), digest, body }))
    }

    /// The bytes of one record, for [`record::decode`].
    pub(crate) fn read(&self, location: Location) -> Result<Vec<u8>, StoreError> {
        read_at(&self.file, location).at("read", &self.path)
    }

    /// The file, to be synchronised without holding up anybody.
    pub(crate) fn file(&self) -> (Arc<File>, PathBuf) {
        (Arc::clone(&self.file), self.path.clone())
    }

    /// How long the log is, in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.position
    }

    /// The file as it is now, for [`Source::replace`].
    pub(crate) fn source(&self) -> Source {
        Source { file: Arc::clone(&self.file), path: self.path.clone(), tmp: self.tmp.clone() }
    }
}

/// The log as a compaction found it. To write a new one takes a while, in which others go on
/// reading the old one.
pub(crate) struct Source {
    file: Arc<File>,
    path: PathBuf,
    tmp: PathBuf,
}

impl Source {
    /// Replaces the log by one that holds only this. Nobody appends meanwhile.
    pub(crate) fn replace(&self, _held: &Held<'_>, keep: Vec<Keep>) -> Result<(), StoreError> {
        let temporary = Temporary::file(&self.tmp)?;
        self.write_compacted(&temporary, keep)?;
        // Durable before it takes the place of what is durable.
        fault::at(At::Sync).at("write", &self.path)?;
        temporary.file_handle().sync_all().at("write", &self.path)?;
        temporary.persist(&self.path)?;
        let parent = self.path.parent().unwrap_or(&self.path);
        File::open(parent).and_then(|directory| directory.sync_all()).at("write", parent)
    }

    fn write_compacted(&self, temporary: &Temporary, keep: Vec<Keep>) -> Result<(), StoreError> {
        let mut out = std::io::BufWriter::new(temporary.file_handle());
        let mut offset = LOG_HEADER_BYTES;
        out.write_all(&header()).at("write", temporary.path())?;
        for item in keep {
            let bytes = match item {
                Keep::Pin(digest, note) => {
                    record::encode(offset, Kind::Pin, digest, note.as_bytes())
                }
                Keep::At(location) => {
                    let old = read_at(&self.file, location).at("read", &self.path)?;
                    match record::decode(location.offset, &old) {
                        Some(Record { kind: Some(kind), digest, body }) => {
                            record::encode(offset, kind, digest, body)
                        }
                        // Damaged since it was read: there is nothing to keep.
                        _ => continue,
                    }
                }
            };
            out.write_all(&bytes).at("write", temporary.path())?;
            offset += bytes.len() as u64;
        }
        out.flush().at("write", temporary.path())
    }
}

fn read_at(file: &File, location: Location) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; location.bytes as usize];
    fault::at(At::ReadLog)?;
    file.read_exact_at(&mut bytes, location.offset)?;
    Ok(bytes)
}

fn open_file(path: &std::path::Path) -> std::io::Result<File> {
    files::open(path, OpenOptions::new().read(true).append(true))
}

fn create_if_missing(path: &std::path::Path, tmp: &std::path::Path) -> Result<File, StoreError> {
    match open_file(path) {
        Ok(file) if file.metadata().at("look at", path)?.len() >= LOG_HEADER_BYTES => Ok(file),
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(StoreError::io("open", path, error))
        }
        _ => {
            let temporary = Temporary::file(tmp)?;
            temporary.write_all(&header())?;
            temporary.persist(path)?;
            open_file(path).at("open", path)
        }
    }
}

/// The header of a new log.
fn header() -> [u8; LOG_HEADER_BYTES as usize] {
    let mut header = [0; LOG_HEADER_BYTES as usize];
    header[..8].copy_from_slice(&LOG_MAGIC);
    // Unlike any earlier one of this store; nobody has reason to forge it.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let seed = format!("{now} {} {}", std::process::id(), sys::boot_id());
    header[8..24].copy_from_slice(&Digest::of(seed.as_bytes()).sha256[..16]);
    header
}

const _: () = assert!(LOG_HEADER_BYTES.is_multiple_of(record::ALIGNMENT));
const _: () = assert!(HEADER_BYTES.is_multiple_of(record::ALIGNMENT as usize));
