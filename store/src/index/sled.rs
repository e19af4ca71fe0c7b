//! The index on disk, in sled: the only file that names it.
//!
//! sled 0.34 does not sync what it says it has flushed: a power cut can leave it unreadable or,
//! worse, readable and empty. So nothing here is believed after an end that was not clean, and any
//! error or panic inside sled turns into "not known".

use std::cell::Cell;
use std::fs::{self, File};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use mesh_protocol::name::{Digest, ThunkName};
use rustix::fs::{FlockOperation, flock};

use super::Index;
use crate::stat_cache::{FileIdentity, FileState};

/// What made the files of sled worthless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SledTrouble {
    /// Its last owner was killed, or the machine went down.
    Unclean,
    /// sled could not open its files.
    Unreadable,
}

#[derive(Debug)]
pub(crate) struct SledIndex {
    database: sled::Db,
    reductions: sled::Tree,
    stats: sled::Tree,
    clean: PathBuf,
    broken: Cell<bool>,
    _lock: File,
}

const POSITION: &[u8] = b"log position";

impl SledIndex {
    /// Opens it in `directory`, anew if need be; `None` if another process owns it or it cannot be
    /// made at all: then the caller does without.
    pub(crate) fn open(directory: &Path) -> Option<(Self, Option<SledTrouble>)> {
        let lock = File::create(directory.join("lock")).ok()?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
        let (clean, data) = (directory.join("clean"), directory.join("sled"));
        let was_clean = fs::remove_file(&clean).is_ok();
        let mut trouble = None;
        if !was_clean && data.exists() {
            trouble = Some(SledTrouble::Unclean);
            fs::remove_dir_all(&data).ok()?;
        }
        let opened = guarded(|| open_database(&data)).or_else(|| {
            trouble = Some(SledTrouble::Unreadable);
            fs::remove_dir_all(&data).ok()?;
            guarded(|| open_database(&data))
        })?;
        let (database, reductions, stats) = opened;
        let broken = Cell::new(false);
        Some((Self { database, reductions, stats, clean, broken, _lock: lock }, trouble))
    }

    fn attempt<T>(&self, work: impl FnOnce() -> sled::Result<T>) -> Option<T> {
        if self.broken.get() {
            return None;
        }
        let done = guarded(work);
        self.broken.set(done.is_none());
        done
    }

    /// Ends as a killed process would.
    #[cfg(test)]
    pub(crate) fn abandon(self) {
        self.broken.set(true);
    }
}

fn guarded<T>(work: impl FnOnce() -> sled::Result<T>) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()?.ok()
}

fn open_database(path: &Path) -> sled::Result<(sled::Db, sled::Tree, sled::Tree)> {
    let database = sled::Config::new()
        .path(path)
        .cache_capacity(64 * 1024 * 1024)
        .flush_every_ms(None)
        .open()?;
    let (reductions, stats) = (database.open_tree("reductions")?, database.open_tree("stats")?);
    Ok((database, reductions, stats))
}

impl Drop for SledIndex {
    fn drop(&mut self) {
        if self.attempt(|| self.database.flush()).is_some() {
            // Without the mark the next owner starts anew, which is all that can go wrong.
            let _ = File::create(&self.clean);
        }
    }
}

fn digest_bytes(digest: Digest) -> [u8; 40] {
    let mut bytes = [0; 40];
    bytes[..32].copy_from_slice(&digest.sha256);
    bytes[32..].copy_from_slice(&digest.length.to_le_bytes());
    bytes
}

fn words<const N: usize>(bytes: &[u8]) -> Option<[u64; N]> {
    let mut words = [0; N];
    if bytes.len() != N * 8 {
        return None;
    }
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_le_bytes(chunk.try_into().ok()?);
    }
    Some(words)
}

fn bytes_of(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

impl Index for SledIndex {
    fn reduction(&self, thunk: &ThunkName) -> Option<u64> {
        let found = self.attempt(|| self.reductions.get(digest_bytes(thunk.digest())))??;
        words::<1>(&found).map(|[position]| position)
    }

    fn set_reduction(&mut self, thunk: ThunkName, position: Option<u64>) {
        let key = digest_bytes(thunk.digest());
        self.attempt(|| match position {
            Some(position) => self.reductions.insert(key, bytes_of(&[position])),
            None => self.reductions.remove(key),
        });
    }

    fn stat(&self, file: FileIdentity) -> Option<(FileState, Digest)> {
        let found = self.attempt(|| self.stats.get(bytes_of(&[file.device, file.inode])))??;
        let (state, digest) = found.split_at_checked(24)?;
        let [size, mtime, ctime] = words::<3>(state)?;
        let state = FileState { size, mtime_ns: mtime as i64, ctime_ns: ctime as i64 };
        let (sha256, length) = digest.split_at_checked(32)?;
        let length = u64::from_le_bytes(length.try_into().ok()?);
        Some((state, Digest { sha256: sha256.try_into().ok()?, length }))
    }

    fn set_stat(&mut self, file: FileIdentity, state: FileState, digest: Digest) {
        let mut value = bytes_of(&[state.size, state.mtime_ns as u64, state.ctime_ns as u64]);
        value.extend_from_slice(&digest_bytes(digest));
        self.attempt(|| self.stats.insert(bytes_of(&[file.device, file.inode]), value));
    }

    fn log_position(&self) -> (u64, u64) {
        let found = self.attempt(|| self.database.get(POSITION)).flatten();
        let [position, log] = found.and_then(|bytes| words::<2>(&bytes)).unwrap_or_default();
        (position, log)
    }

    fn set_log_position(&mut self, (position, log): (u64, u64)) {
        self.attempt(|| self.database.insert(POSITION, bytes_of(&[position, log])));
    }

    fn clear_reductions(&mut self) {
        self.attempt(|| self.reductions.clear());
    }
}
