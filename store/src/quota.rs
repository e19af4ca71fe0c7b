//! Keeps the store to its quota, without anybody asking for it.
//!
//! Every process counts what it adds, and adds that to the number in `usage` now and then and when it
//! ends. If the number is above the quota then, it collects down to nine tenths of it, in a thread of its
//! own as long as it works: what was used least recently goes first, and never what a live session uses or
//! what is pinned (see [`crate::gc`]). One process at a time does it; the others go on.
//!
//! So a store is above its quota by what live sessions have used, and by what each process adds before
//! it looks ([`Growth::step`]); once nobody has it open, by nothing but what is pinned.
//!
//! The number is an estimate: two processes that end at once may lose one of their sums. Each
//! collection counts exactly and writes down what it found.
//!
//! A node is a session that lasts. When a collection finds too much held, it touches `wanted`, and a node
//! that is idle renews its session and so lets go of what it used.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::error::{Context, StoreError};
use crate::gc::{GcOptions, GcReport};
use crate::layout::Layout;
use crate::lock::FileLock;
use crate::{Store, files, session, sys};

/// The share of the quota that a collection leaves.
const LEFT_PERCENT: u64 = 90;

/// A process looks at the number after having added so much at most.
const STEP_BYTES_MAX: u64 = 64 * 1024 * 1024;
const STEP_BYTES_MIN: u64 = 64 * 1024;

/// How long a process that ends waits for its own collection.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// How often a process that asks for room looks whether there is some.
const LOOK: Duration = Duration::from_millis(50);

/// What this process has added since it last wrote it down.
#[derive(Debug)]
pub(crate) struct Growth {
    quota_bytes: u64,
    added: AtomicU64,
    is_collecting: Mutex<bool>,
    ended: Condvar,
}

impl Growth {
    pub(crate) fn new(quota_bytes: u64) -> Self {
        let (added, is_collecting, ended) = Default::default();
        Self { quota_bytes, added, is_collecting, ended }
    }

    /// That many bytes more are in the store.
    pub(crate) fn add(&self, bytes: u64) {
        self.added.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn added(&self) -> u64 {
        self.added.load(Ordering::Relaxed)
    }

    fn forget(&self, bytes: u64) {
        let less = |added: u64| Some(added.saturating_sub(bytes));
        let _ = self.added.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    fn step(&self) -> u64 {
        (self.quota_bytes / 16).clamp(STEP_BYTES_MIN, STEP_BYTES_MAX)
    }

    fn is_due(&self) -> bool {
        self.added.load(Ordering::Relaxed) >= self.step()
    }

    fn is_collecting(&self) -> MutexGuard<'_, bool> {
        self.is_collecting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end_collecting(&self) {
        *self.is_collecting() = false;
        self.ended.notify_all();
    }

    /// Waits for the thread that collects, if there is one, but not for long.
    fn wait_for_collecting(&self) {
        let collecting = self.is_collecting();
        // What it has not done then, whoever opens the store next goes on with.
        drop(self.ended.wait_timeout_while(collecting, CLOSE_PATIENCE, |collecting| *collecting));
    }
}

/// The number that all processes share.
struct Usage {
    file: File,
    path: PathBuf,
}

impl Usage {
    fn open(layout: &Layout) -> Result<Self, StoreError> {
        let path = layout.path("usage");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = files::open(&path, &mut options).at("open", &path)?;
        Ok(Self { file, path })
    }

    /// None if nobody has counted yet.
    fn read(&self) -> Result<Option<u64>, StoreError> {
        let mut text = String::new();
        let mut file = &self.file;
        file.rewind().at("read", &self.path)?;
        match file.take(32).read_to_string(&mut text) {
            Err(error) if error.kind() == ErrorKind::InvalidData => Ok(None),
            read => read.at("read", &self.path).map(|_| text.trim_end().parse().ok()),
        }
    }

    fn write(&self, bytes: u64) -> Result<(), StoreError> {
        let mut file = &self.file;
        self.file.set_len(0).at("write", &self.path)?;
        file.rewind().at("write", &self.path)?;
        file.write_all(format!("{bytes}\n").as_bytes()).at("write", &self.path)
    }
}

impl Store {
    /// Writes down what was added, if that is much, and begins to collect if it is too much.
    pub(crate) fn grown(&self) {
        if self.shared().blobs.growth.is_due() {
            self.collect_in_background();
        }
    }

    /// Begins to collect, if the store is above its quota and this process does not collect yet.
    pub fn collect_in_background(&self) {
        let growth = &self.shared().blobs.growth;
        if std::mem::replace(&mut *growth.is_collecting(), true) {
            return;
        }
        let store = self.clone();
        let thread = std::thread::Builder::new().name("store-collect".to_owned());
        let begun = thread.spawn(move || {
            // The next one tries again; what stands in the way of it shows elsewhere, too.
            let _ = store.keep_to_quota();
            store.shared().blobs.growth.end_collecting();
        });
        if begun.is_err() {
            growth.end_collecting();
        }
    }

    /// When this process is about to end: what it used is in use no more.
    pub(crate) fn collect_in_the_end(&self) {
        self.shared().blobs.growth.wait_for_collecting();
        // It is tried again when the store is next opened.
        let _ = self.keep_to_quota();
    }

    /// Collects, if the store is above its quota and nobody else does. What came of it, if so.
    pub(crate) fn keep_to_quota(&self) -> Result<Option<GcReport>, StoreError> {
        let quota_bytes = self.quota_bytes();
        match self.note_growth()? {
            Some(bytes) if bytes <= quota_bytes => return Ok(None),
            _ => {}
        }
        let (file, path) = self.collection_lock()?;
        let Some(_lock) = FileLock::if_free(&file, &path)? else { return Ok(None) };
        let added_before = self.shared().blobs.growth.added();
        let counted = self.collect(&GcOptions { quota_bytes: u64::MAX, dry_run: true })?;
        if counted.kept_bytes <= quota_bytes {
            self.note_usage(counted.kept_bytes, added_before)?;
            return Ok(None);
        }
        let left = (u128::from(quota_bytes) * u128::from(LEFT_PERCENT) / 100) as u64;
        let report = self.collect(&GcOptions { quota_bytes: left, dry_run: false })?;
        if report.kept_bytes > quota_bytes && report.held_bytes > 0 {
            self.want_room()?;
        }
        Ok(Some(report))
    }

    /// Adds what this process added to the number that all share. The sum; none if nobody has
    /// counted yet.
    pub(crate) fn note_growth(&self) -> Result<Option<u64>, StoreError> {
        let shared = self.shared();
        note_growth(&shared.layout, &shared.blobs.growth)
    }

    /// Notes what a collection counted, and how much this process had added when it began: what came
    /// since may not have been counted.
    pub(crate) fn note_usage(&self, bytes: u64, added_before: u64) -> Result<(), StoreError> {
        let usage = Usage::open(&self.shared().layout)?;
        let _lock = FileLock::if_free(&usage.file, &usage.path)?;
        self.shared().blobs.growth.forget(added_before);
        usage.write(bytes)
    }

    fn want_room(&self) -> Result<(), StoreError> {
        let path = self.shared().layout.path("wanted");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = files::open(&path, &mut options).at("open", &path)?;
        sys::set_modification_time(&file, SystemTime::now()).at("set the times of", &path)
    }

    /// When a collection last found too much held by sessions. Costs one look at a file.
    pub fn room_wanted_at(&self) -> Option<SystemTime> {
        let path = self.shared().layout.path("wanted");
        std::fs::symlink_metadata(path).and_then(|metadata| metadata.modified()).ok()
    }

    /// This process looks at [`Store::room_wanted_at`] from now on, and renews its session if it can.
    pub fn makes_room(&self) -> Result<(), StoreError> {
        self.shared().session.mark_renewed()
    }

    /// Asks processes that last to let go of what they do not use, and waits until one has; not
    /// longer than this. False if nobody has, or could.
    pub fn ask_for_room(&self, patience: Duration) -> Result<bool, StoreError> {
        let layout = &self.shared().layout;
        let before = session::renewals(layout)?;
        if before.is_empty() {
            return Ok(false);
        }
        self.want_room()?;
        let until = Instant::now() + patience;
        while Instant::now() < until {
            if session::renewals(layout)? != before {
                return Ok(true);
            }
            std::thread::sleep(LOOK);
        }
        Ok(false)
    }
}

/// See [`Store::note_growth`]; while another process does the same, it waits for the next time.
pub(crate) fn note_growth(layout: &Layout, growth: &Growth) -> Result<Option<u64>, StoreError> {
    let usage = Usage::open(layout)?;
    let Some(_lock) = FileLock::if_free(&usage.file, &usage.path)? else { return usage.read() };
    let added = growth.added.swap(0, Ordering::Relaxed);
    let Some(known) = usage.read()? else { return Ok(None) };
    let bytes = known.saturating_add(added);
    if added > 0 {
        usage.write(bytes)?;
    }
    Ok(Some(bytes))
}
