//! The index on disk. This file is the only one that names sled.
//!
//! sled 0.34 is not developed any more; it was measured to lose or brick its data when the power
//! fails (its flush does not reach the disk), and damaged files make it panic. So it holds nothing
//! that cannot be rebuilt, every call catches its panics, and the store opens it only if its last
//! owner closed it in the same run of the machine.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::{Change, Index, IndexError, Table};
use crate::fault::{self, At};

/// Enough for the hot part of a million reductions.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// A sled database with all tables in one tree.
#[derive(Debug)]
pub(crate) struct SledIndex {
    // Emptied on drop, where a panic must not get out.
    database: Option<sled::Db>,
}

impl SledIndex {
    /// Opens or makes the database in `directory`.
    pub(crate) fn open(directory: &Path) -> Result<Self, IndexError> {
        let config = sled::Config::new()
            .path(directory)
            .cache_capacity(CACHE_BYTES)
            // Its own flushing thread only delays closing: the store flushes when it commits.
            .flush_every_ms(None);
        let database = guarded(|| config.open())?;
        Ok(Self { database: Some(database) })
    }

    fn with<T>(&self, call: impl FnOnce(&sled::Db) -> sled::Result<T>) -> Result<T, IndexError> {
        fault::at(At::Index).map_err(|error| IndexError(error.to_string()))?;
        match &self.database {
            Some(database) => guarded(|| call(database)),
            None => Err(IndexError("closed".to_owned())),
        }
    }
}

/// Turns sled's errors and panics into errors.
fn guarded<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, IndexError> {
    // After a panic nobody uses the database again, so a broken invariant inside goes unseen.
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(IndexError(error.to_string())),
        Err(payload) => {
            let text = payload
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| payload.downcast_ref::<&str>().copied());
            Err(IndexError(format!("panic: {}", text.unwrap_or("without a message"))))
        }
    }
}

impl Index for SledIndex {
    fn kind(&self) -> &'static str {
        "sled"
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        self.with(|database| Ok(database.get(table.key(key))?.map(|value| value.to_vec())))
    }

    fn apply(&self, changes: &[Change]) -> Result<(), IndexError> {
        // Not as a batch, which sled writes to its file at once, by seven threads that all wake up.
        self.with(|database| {
            changes.iter().try_for_each(|change| {
                let key = change.table.key(&change.key);
                match &change.value {
                    Some(value) => database.insert(key, value.as_slice()),
                    None => database.remove(key),
                }
                .map(drop)
            })
        })
    }

    fn scan(&self, table: Table, take: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), IndexError> {
        self.with(|database| {
            for entry in database.scan_prefix([table.prefix()]) {
                let (key, value) = entry?;
                take(&key[1..], &value);
            }
            Ok(())
        })
    }

    fn clear(&self, table: Table) -> Result<(), IndexError> {
        self.with(|database| {
            for key in database.scan_prefix([table.prefix()]).keys() {
                database.remove(key?)?;
            }
            Ok(())
        })
    }

    fn flush(&self) -> Result<(), IndexError> {
        self.with(|database| database.flush().map(|_| ()))
    }
}

impl Drop for SledIndex {
    fn drop(&mut self) {
        // What it fails to write in the end is rebuilt.
        let database = self.database.take();
        let _ = guarded(|| {
            drop(database);
            Ok(())
        });
    }
}
