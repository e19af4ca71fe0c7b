//! Sessions: which processes have the store open, and since when.
//!
//! Each holds a lock on a file of its own, so that a killed process is not counted: its lock is
//! gone. Garbage collection spares whatever has been touched since the oldest session began.

use std::fs::{self, File};
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{FlockOperation, flock};

use crate::error::StoreError;

/// This process's mark; removed when the store is closed.
#[derive(Debug)]
pub(crate) struct Session {
    file: tempfile::NamedTempFile,
    pub(crate) began: SystemTime,
}

impl Session {
    pub(crate) fn begin(directory: &Path) -> Result<Self, StoreError> {
        let at = || StoreError::at(directory);
        let file = tempfile::NamedTempFile::new_in(directory).map_err(at())?;
        flock(&file, FlockOperation::NonBlockingLockShared).map_err(|error| at()(error.into()))?;
        let began = file.as_file().metadata().and_then(|found| found.modified()).map_err(at())?;
        Ok(Self { file, began })
    }

    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }
}

/// When the oldest session that still lives began, this one not counted if `own` is given.
pub(crate) fn oldest(directory: &Path, own: &Path) -> Result<Option<SystemTime>, StoreError> {
    let mut oldest: Option<SystemTime> = None;
    for entry in fs::read_dir(directory).map_err(StoreError::at(directory))? {
        let path = entry.map_err(StoreError::at(directory))?.path();
        // Another collection may remove a dead session's file first.
        let Ok(file) = File::open(&path) else { continue };
        if path == own {
            continue;
        }
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = fs::remove_file(&path);
            continue;
        }
        let began = file.metadata().and_then(|found| found.modified());
        let began = began.map_err(StoreError::at(&path))?;
        oldest = Some(oldest.map_or(began, |known| known.min(began)));
    }
    Ok(oldest)
}
