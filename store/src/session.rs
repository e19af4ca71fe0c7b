//! Sessions: which processes have the store open, and since when.
//!
//! Each holds a lock on a file of its own, so that a process that was killed is not counted. The
//! file is locked before it gets its place in `sessions/`: nobody can take it for a dead one.
//! Its modification time says when the session began, by the clock that access times go by.

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
    _lock: File,
}

impl Session {
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
                Ok(()) => return Ok(Self { path, start, _lock: lock }),
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
    let mut live = Live { count: 0, oldest: SystemTime::now() };
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
        live.count += 1;
        if let Ok(start) = file.metadata().and_then(|metadata| metadata.modified()) {
            live.oldest = live.oldest.min(start);
        }
    }
    live.oldest -= CLOCK_SLACK;
    Ok(live)
}
