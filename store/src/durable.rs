//! The durable mark: up to when everything in the store is known to be on the disk itself.
//!
//! `durable` has two slots of 64 bytes, written in turn, each in one sector and with a checksum:
//!
//! ```text
//! 0  8  time, in seconds since 1970, little-endian: what changed before is on the disk
//! 8  8  a number that grows: the slot with the greater one counts
//! 16 36 boot id of the run of the machine that wrote it
//! 60 4  CRC-32 of what is before
//! ```
//!
//! A slot that was torn by a power cut leaves the other: an earlier time, so more is checked than
//! need be, never less. While the boot id is that of this run there was no power cut since, and
//! the disk cache has everything.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::{Context, StoreError};
use crate::fault::{self, At};
use crate::layout::Layout;
use crate::lock::FileLock;
use crate::sys;

const SLOT_BYTES: usize = 64;
const BOOT_ID_BYTES: usize = 36;

/// Coarse time stamps lag behind the clock by a tick, and whole seconds are kept: so two.
const SLACK: Duration = Duration::from_secs(2);

/// What a slot says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Mark {
    /// What changed before this moment is on the disk.
    pub(crate) until: SystemTime,
    pub(crate) boot_id: String,
    number: u64,
}

/// The file with the mark.
#[derive(Debug)]
pub(crate) struct DurableMark {
    file: File,
    path: PathBuf,
}

impl DurableMark {
    pub(crate) fn open(layout: &Layout) -> Result<Self, StoreError> {
        let path = layout.path("durable");
        Ok(Self { file: sys::open_lock_file(&path)?, path })
    }

    /// Held while one process deals with what a power cut left.
    pub(crate) fn lock(&self) -> Result<FileLock<'_>, StoreError> {
        FileLock::exclusive(&self.file, &self.path)
    }

    /// The newest mark. None in a new store.
    pub(crate) fn read(&self) -> Result<Option<Mark>, StoreError> {
        let mut bytes = [0; 2 * SLOT_BYTES];
        let mut filled = 0;
        while filled < bytes.len() {
            match self.file.read_at(&mut bytes[filled..], filled as u64).at("read", &self.path)? {
                0 => break,
                read => filled += read,
            }
        }
        let (first, second) = bytes.split_at(SLOT_BYTES);
        Ok([first, second].into_iter().filter_map(decode).max_by_key(|mark| mark.number))
    }

    /// Notes that what changed before `begun` is on the disk. To be called with [`Self::lock`]
    /// held by nobody else for long, after the disk was brought up to date.
    pub(crate) fn write(&self, begun: SystemTime, boot_id: &str) -> Result<(), StoreError> {
        let number = self.read()?.map_or(0, |mark| mark.number) + 1;
        let mark = Mark { until: begun - SLACK, boot_id: boot_id.to_owned(), number };
        let offset = number % 2 * SLOT_BYTES as u64;
        fault::at(At::Mark).at("write", &self.path)?;
        self.file.write_all_at(&encode(&mark), offset).at("write", &self.path)?;
        self.file.sync_data().at("write", &self.path)
    }
}

fn encode(mark: &Mark) -> [u8; SLOT_BYTES] {
    let mut slot = [0; SLOT_BYTES];
    let seconds = mark.until.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    slot[..8].copy_from_slice(&seconds.to_le_bytes());
    slot[8..16].copy_from_slice(&mark.number.to_le_bytes());
    let id = mark.boot_id.as_bytes();
    let id = &id[..id.len().min(BOOT_ID_BYTES)];
    slot[16..16 + id.len()].copy_from_slice(id);
    let sum = crc32fast::hash(&slot[..60]);
    slot[60..].copy_from_slice(&sum.to_le_bytes());
    slot
}

fn decode(slot: &[u8]) -> Option<Mark> {
    let number = |at: usize| Some(u64::from_le_bytes(slot.get(at..at + 8)?.try_into().ok()?));
    let sum = u32::from_le_bytes(slot.get(60..SLOT_BYTES)?.try_into().ok()?);
    if sum != crc32fast::hash(&slot[..60]) {
        return None;
    }
    let id = slot[16..16 + BOOT_ID_BYTES].split(|byte| *byte == 0).next()?;
    Some(Mark {
        until: UNIX_EPOCH.checked_add(Duration::from_secs(number(0)?))?,
        boot_id: String::from_utf8(id.to_vec()).ok()?,
        number: number(8)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_slot_leaves_the_one_before() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::open(directory.path()).unwrap();
        let mark = DurableMark::open(&layout).unwrap();
        assert_eq!(mark.read().unwrap(), None);
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        mark.write(at(1000), "one").unwrap();
        mark.write(at(2000), "two").unwrap();
        assert_eq!(mark.read().unwrap().unwrap().boot_id, "two");
        // The third goes where the first was; tear it at every byte.
        mark.write(at(3000), "three").unwrap();
        let whole = mark.read().unwrap().unwrap();
        assert_eq!((whole.until, whole.boot_id.as_str()), (at(2998), "three"));
        let offset = whole.number % 2 * SLOT_BYTES as u64;
        for byte in 0..SLOT_BYTES as u64 {
            let slot = encode(&whole);
            mark.file.write_all_at(&[slot[byte as usize] ^ 1], offset + byte).unwrap();
            assert_eq!(mark.read().unwrap().unwrap().boot_id, "two", "byte {byte}");
            mark.file.write_all_at(&slot, offset).unwrap();
        }
    }
}
