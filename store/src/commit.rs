//! Group commit: brings results to the disk itself, many at a time, in the background.
//!
//! A result is in the log (so other processes see it, and it outlives this one) before it is on
//! the disk. The committer then, at most every quarter of a second or when told to:
//!
//! 1. notes the time;
//! 2. `syncfs`: all objects that were written before are on the disk, and the log with them;
//! 3. `fdatasync` of the log, should it be elsewhere;
//! 4. writes the durable mark with the time noted.
//!
//! So what is older than the mark needs no suspicion after a power cut, and the rest is checked
//! (see [`crate::recovery`]). One `syncfs` costs about as much as one `fsync`, however many objects
//! there are; the price is that it also writes what other programs have waiting on the same disk,
//! which is why it waits longer when it was slow.

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crate::blob::Blobs;
use crate::durable::DurableMark;
use crate::error::{Context, StoreError};
use crate::fault::{self, At};
use crate::layout::Layout;
use crate::memo::Memo;
use crate::notice::{Notice, Notices};
use crate::sync;

/// What a power cut may cost at most, in finished work, on a disk that keeps up.
const INTERVAL_MIN: Duration = Duration::from_millis(250);

/// However slow the disk is.
const INTERVAL_MAX: Duration = Duration::from_secs(5);

/// What it takes to commit.
#[derive(Debug)]
pub(crate) struct Committer {
    layout: Layout,
    blobs: Arc<Blobs>,
    memo: Arc<Memo>,
    mark: DurableMark,
    notices: Arc<Notices>,
    boot_id: String,
    durable: bool,
    /// Has the log got something that is not on the disk?
    log_dirty: AtomicBool,
    /// One commit at a time.
    committing: Mutex<()>,
    wanted: Mutex<Wanted>,
    wake: Condvar,
}

#[derive(Default, Debug)]
struct Wanted {
    pending: bool,
    stop: bool,
    thread: Option<JoinHandle<()>>,
}

/// What the committer works with.
pub(crate) struct Parts {
    pub(crate) layout: Layout,
    pub(crate) blobs: Arc<Blobs>,
    pub(crate) memo: Arc<Memo>,
    pub(crate) mark: DurableMark,
    pub(crate) notices: Arc<Notices>,
    pub(crate) boot_id: String,
    pub(crate) durable: bool,
}

impl Committer {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { layout, blobs, memo, mark, notices, boot_id, durable } = parts;
        Self {
            layout,
            blobs,
            memo,
            mark,
            notices,
            boot_id,
            durable,
            log_dirty: AtomicBool::new(false),
            committing: Mutex::default(),
            wanted: Mutex::default(),
            wake: Condvar::new(),
        }
    }

    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something was appended to the log: commit it soon.
    pub(crate) fn request(self: &Arc<Self>) {
        self.log_dirty.store(true, Ordering::Release);
        if !self.durable {
            return;
        }
        let mut wanted = self.wanted();
        wanted.pending = true;
        if wanted.thread.is_none() && !wanted.stop {
            let this = Arc::clone(self);
            let thread = std::thread::Builder::new().name("store-commit".to_owned());
            // Without a thread, flush and the end of the session still commit.
            wanted.thread = thread.spawn(move || this.run()).ok();
        }
        self.wake.notify_all();
    }

    fn run(&self) {
        let mut interval = INTERVAL_MIN;
        loop {
            if !self.wait(interval) {
                return;
            }
            let started = Instant::now();
            if let Err(error) = self.commit() {
                self.notices.push(Notice::CommitFailed(error.to_string()));
            }
            interval = (4 * started.elapsed()).clamp(INTERVAL_MIN, INTERVAL_MAX);
        }
    }

    /// Waits until there is something, and then a while for more. False in the end.
    fn wait(&self, interval: Duration) -> bool {
        let wanted = self.wanted();
        let idle = |wanted: &mut Wanted| !wanted.pending && !wanted.stop;
        let wanted = self.wake.wait_while(wanted, idle).unwrap_or_else(PoisonError::into_inner);
        let going_on = |wanted: &mut Wanted| !wanted.stop;
        let (mut wanted, _) = self
            .wake
            .wait_timeout_while(wanted, interval, going_on)
            .unwrap_or_else(PoisonError::into_inner);
        wanted.pending = false;
        !wanted.stop
    }

    /// Brings everything that was written so far to the disk, unless it is there already.
    pub(crate) fn commit(&self) -> Result<(), StoreError> {
        let _one = self.committing.lock().unwrap_or_else(PoisonError::into_inner);
        let log_dirty = self.log_dirty.swap(false, Ordering::AcqRel);
        let blobs_dirty = self.blobs.dirty.swap(false, Ordering::AcqRel);
        if !log_dirty && !blobs_dirty {
            return Ok(());
        }
        let result = self.synchronise();
        if result.is_err() {
            self.log_dirty.fetch_or(log_dirty, Ordering::AcqRel);
            self.blobs.dirty.fetch_or(blobs_dirty, Ordering::AcqRel);
        }
        result
    }

    fn synchronise(&self) -> Result<(), StoreError> {
        let begun = SystemTime::now();
        let blobs = self.layout.path("blobs");
        let directory = File::open(&blobs).at("open", &blobs)?;
        fault::at(At::Commit).at("write", &blobs)?;
        sync::sync_file_system(&directory).at("write", &blobs)?;
        self.memo.sync()?;
        let _lock = self.mark.lock()?;
        self.mark.write(begun, &self.boot_id)
    }

    /// Ends the thread, and commits what is left if results are to be durable.
    pub(crate) fn close(&self) {
        let thread = {
            let mut wanted = self.wanted();
            wanted.stop = true;
            wanted.thread.take()
        };
        self.wake.notify_all();
        if let Some(thread) = thread {
            // It reports its own failures.
            let _ = thread.join();
        }
        if self.durable
            && let Err(error) = self.commit()
        {
            self.notices.push(Notice::CommitFailed(error.to_string()));
        }
    }
}
