//! Sessions: which processes have the store open, and since when.
//!
//! Each holds a lock on a file of its own, so that a process that was killed is not counted. The
//! file is locked before it gets its place in `sessions/`: nobody can take it for a dead one.
//! Its modification time says when the session began, by the clock that access times go by.
//!
//! A process that runs for weeks would keep all that was used since it began. So it renews its session now and
//! then, which begins an *era*: whatever is used in it is marked as used once more. From the second renewal on
//! the session counts as begun with the era before, so that what was used just before a renewal, by
//! somebody who does not know of it, is kept for another era.
//!
//! ```text
//!   begin      renew      renew      renew
//!     |--------- | -------- | -------- | ----- now
//!                           ^ what was used since counts as in use
//! ```

use std::fs::{self, File, OpenOptions};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::error::{Context, StoreError};
use crate::layout::Layout;
use crate::sys::{self, Temporary};

/// Time stamps of files lag behind the clock by up to a tick; a second covers any of them.
const CLOCK_SLACK: Duration = Duration::from_secs(1);

/// This process' session. Ends when dropped, or when the process does.
#[derive(Debug)]
pub(crate) struct Session {
    path: PathBuf,
    pub(crate) start: SystemTime,
    lock: File,
}

impl Session {
    /// From now on, it counts as begun at that time.
    pub(crate) fn begun_at(&self, start: SystemTime) -> Result<(), StoreError> {
        sys::set_modification_time(&self.lock, start).at("set the times of", &self.path)
    }

    pub(crate) fn begin(layout: &Layout) -> Result<Self, StoreError> {
        let temporary = Temporary::file(&layout.tmp())?;
        let lock = temporary.file_handle().try_clone().at("open", temporary.path())?;
        sys::try_lock(&lock);
        let start = lock.metadata().and_then(|metadata| metadata.modified());
        let start = start.at("look at", temporary.path())?;
        let directory = layout.path("sessions");
        loop {
            // Another process of this number, in another PID namespace, may have the name.
            let name = sys::unique_name("");
            let path = directory.join(name);
            match sys::rename_to_free(temporary.path(), &path) {
                Ok(()) => return Ok(Self { path, start, lock }),
                Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(StoreError::io("register in", &directory, error)),
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // If it stays, it is unlocked in a moment, and the next that looks removes it.
        let _ = fs::remove_file(&self.path);
    }
}

/// The sessions that are alive: how many, and when the oldest began.
pub(crate) struct Live {
    pub(crate) count: u64,
    /// What was used since then is in use. The present, if nobody has the store open.
    pub(crate) oldest: SystemTime,
}

/// Looks which sessions are alive, and removes what dead ones left.
pub(crate) fn live(layout: &Layout) -> Result<Live, StoreError> {
    let directory = layout.path("sessions");
    let (mut count, mut oldest) = (0, None::<SystemTime>);
    for entry in fs::read_dir(&directory).at("list", &directory)? {
        let path = entry.at("list", &directory)?.path();
        let Ok(file) = OpenOptions::new().read(true).open(&path) else {
            // It ended meanwhile.
            continue;
        };
        if sys::try_lock(&file) {
            sys::remove(&path)?;
            continue;
        }
        count += 1;
        if let Ok(start) = file.metadata().and_then(|metadata| metadata.modified()) {
            oldest = Some(oldest.map_or(start, |oldest| oldest.min(start)));
        }
    }
    let oldest = oldest.unwrap_or_else(SystemTime::now) - CLOCK_SLACK;
    Ok(Live { count, oldest })
}
