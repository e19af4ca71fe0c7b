//! The stat cache: which bytes a file of the user has, without reading it again.
//!
//! Keyed by device and inode; good as long as size, modification time and change time are those
//! of the moment when it was hashed. A file that was changed just before it was hashed may be
//! changed again within one tick of the clock and keep its times: as in git's index, such a file
//! is not remembered, but hashed each time until it has rested.
//!
//! Not seen: changes through a memory map that have not been written back, and those on a network
//! file system whose clock lags behind ours by more than the rest that is asked for.

use std::fs::{self, File, Metadata, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use mesh_protocol::name::ValueName;

use crate::Store;
use crate::error::{Context, StoreError};
use crate::index::Table;
use crate::log::record;
use crate::sys;

/// How long a file must have rested. The kernel's coarse clock ticks every 10 ms at the slowest.
const REST: Duration = Duration::from_millis(30);

/// The same where times are whole seconds: FAT counts in twos.
const REST_COARSE: Duration = Duration::from_millis(2_100);

/// A file of the user, stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamedFile {
    /// Its bytes.
    pub name: ValueName,
    /// Is one of its execute bits set?
    pub executable: bool,
    /// In bytes.
    pub length: u64,
    /// When it was last modified.
    pub mtime: SystemTime,
    /// Permission bits.
    pub mode: u32,
}

impl Store {
    /// The name of a file's bytes, which are in the store when this returns. Follows symbolic
    /// links. If the file was named before and has not changed since, it is not read.
    pub fn name_file(&self, path: &Path) -> Result<NamedFile, StoreError> {
        let metadata = fs::metadata(path).at("look at", path)?;
        check_regular(path, &metadata)?;
        let key = key_of(&metadata);
        if let Some(value) = self.shared().memo.cached(Table::Stat, &key)?
            && let Some(digest) = value.strip_prefix(&times_of(&metadata)[..])
            && let Some(digest) = record::digest_from(digest)
            && digest.length == metadata.len()
            && self.contains(digest)
        {
            return Ok(named(ValueName(digest), &metadata));
        }
        self.read_and_name(path)
    }

    fn read_and_name(&self, path: &Path) -> Result<NamedFile, StoreError> {
        // Something else may have taken its place: do not hang on a pipe.
        let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let mut options = OpenOptions::new();
        let file: File = options.read(true).custom_flags(flags).open(path).at("open", path)?;
        let now = SystemTime::now();
        let before = file.metadata().at("look at", path)?;
        check_regular(path, &before)?;
        let digest = self.put_file(&file)?;
        let after = file.metadata().at("look at", path)?;
        let rested = times_of(&before) == times_of(&after) && has_rested(&before, now);
        if rested && digest.length == after.len() {
            let value = [&times_of(&after)[..], &record::digest_bytes(digest)].concat();
            self.shared().memo.cache(Table::Stat, key_of(&after), value)?;
        }
        Ok(named(ValueName(digest), &after))
    }
}

fn check_regular(path: &Path, metadata: &Metadata) -> Result<(), StoreError> {
    if metadata.is_file() {
        return Ok(());
    }
    Err(StoreError::Unsupported { path: path.to_owned(), problem: "not a regular file" })
}

fn named(name: ValueName, metadata: &Metadata) -> NamedFile {
    NamedFile {
        name,
        executable: metadata.mode() & 0o111 != 0,
        length: name.digest().length,
        mtime: sys::system_time(metadata.mtime(), metadata.mtime_nsec()),
        mode: metadata.mode() & 0o7777,
    }
}

fn key_of(metadata: &Metadata) -> Vec<u8> {
    [metadata.dev().to_be_bytes(), metadata.ino().to_be_bytes()].concat()
}

/// What changes when the file does.
fn times_of(metadata: &Metadata) -> [u8; 40] {
    let mut bytes = [0; 40];
    let fields = [
        metadata.len() as i64,
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    ];
    for (chunk, field) in bytes.chunks_exact_mut(8).zip(fields) {
        chunk.copy_from_slice(&field.to_le_bytes());
    }
    bytes
}

/// Could another change after `now` still leave the same times?
fn has_rested(metadata: &Metadata, now: SystemTime) -> bool {
    let coarse = metadata.mtime_nsec() == 0 && metadata.ctime_nsec() == 0;
    let rest = if coarse { REST_COARSE } else { REST };
    let modified = sys::system_time(metadata.mtime(), metadata.mtime_nsec());
    let changed = sys::change_time(metadata);
    now.duration_since(modified.max(changed)).is_ok_and(|since| since >= rest)
}
