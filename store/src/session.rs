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

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use crate::error::{Context, StoreError};
use crate::files;
use crate::layout::Layout;
use crate::lock;
use crate::sys::{self, Temporary};

/// Time stamps of files lag behind the clock by up to a tick; a second covers any of them.
const CLOCK_SLACK: Duration = Duration::from_secs(1);

/// What the file of a session holds that renews itself.
const RENEWED: &[u8] = b"renewed\n";

/// This process' session. Ends when dropped, or when the process does.
#[derive(Debug)]
pub(crate) struct Session {
    path: PathBuf,
    pub(crate) start: SystemTime,
    lock: File,
    is_over: AtomicBool,
}

impl Session {
    /// It renews itself now and then, and when it is asked to.
    pub(crate) fn mark_renewed(&self) -> Result<(), StoreError> {
        (&self.lock).write_all(RENEWED).at("write", &self.path)?;
        self.begun_at(self.start)
    }

    /// From now on, nothing is in use by it.
    pub(crate) fn end(&self) {
        if !self.is_over.swap(true, Ordering::AcqRel) {
            // If it stays, it is unlocked in a moment, and the next that looks removes it.
            let _ = fs::remove_file(&self.path);
            let _ = lock::give_up(&self.lock, &self.path);
        }
    }

    /// From now on, it counts as begun at that time.
    pub(crate) fn begun_at(&self, start: SystemTime) -> Result<(), StoreError> {
        sys::set_modification_time(&self.lock, start).at("set the times of", &self.path)
    }

    pub(crate) fn begin(layout: &Layout) -> Result<Self, StoreError> {
        let temporary = Temporary::file(&layout.tmp())?;
        let lock = temporary.file_handle().try_clone().at("open", temporary.path())?;
        lock::keep_if_free(&lock);
        let start = lock.metadata().and_then(|metadata| metadata.modified());
        let start = start.at("look at", temporary.path())?;
        let directory = layout.path("sessions");
        loop {
            // Another process of this number, in another PID namespace, may have the name.
            let name = sys::unique_name("");
            let path = directory.join(name);
            match sys::rename_to_free(temporary.path(), &path) {
                Ok(()) => {
                    return Ok(Self { path, start, lock, is_over: AtomicBool::new(false) });
                }
                Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(StoreError::io("register in", &directory, error)),
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.end();
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
    let (mut count, mut oldest) = (0, None::<SystemTime>);
    for_each_live(layout, &mut |_, metadata| {
        count += 1;
        if let Ok(start) = metadata.modified() {
            oldest = Some(oldest.map_or(start, |oldest| oldest.min(start)));
        }
    })?;
    let oldest = oldest.unwrap_or_else(SystemTime::now) - CLOCK_SLACK;
    Ok(Live { count, oldest })
}

/// The live sessions that renew themselves, with the time that each counts as begun at.
pub(crate) fn renewals(layout: &Layout) -> Result<BTreeMap<PathBuf, SystemTime>, StoreError> {
    let mut renewals = BTreeMap::new();
    for_each_live(layout, &mut |path, metadata| {
        if metadata.len() > 0
            && let Ok(start) = metadata.modified()
        {
            renewals.insert(path.to_owned(), start);
        }
    })?;
    Ok(renewals)
}

fn for_each_live(
    layout: &Layout,
    take: &mut dyn FnMut(&Path, &fs::Metadata),
) -> Result<(), StoreError> {
    let directory = layout.path("sessions");
    for entry in fs::read_dir(&directory).at("list", &directory)? {
        let path = entry.at("list", &directory)?.path();
        let Ok(file) = files::open(&path, OpenOptions::new().read(true)) else {
            // It ended meanwhile, or is none.
            continue;
        };
        if lock::keep_if_free(&file) {
            sys::remove(&path)?;
            continue;
        }
        take(&path, &file.metadata().at("look at", &path)?);
    }
    Ok(())
}
