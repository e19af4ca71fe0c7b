//! Locks that processes share, waited for with a deadline.
//!
//! Whoever holds a lock may be stopped (Ctrl-Z), traced or stuck on a dead disk. A process that waits
//! for it without end would be stuck as well, and with it whoever waits for that one. So each wait
//! ends, with an error that names the lock and, where the kernel tells, who holds it.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::error::{Context, StoreError};
use crate::fault::{self, At};
use crate::sys;

/// How long a lock is waited for. Appending to the log takes microseconds and compacting it seconds,
/// so whoever holds a lock for longer does not work on it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Between two tries: `flock` itself has no deadline.
const PAUSE_MIN: Duration = Duration::from_micros(200);
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// An advisory lock on a whole file, held until dropped. It dies with the process.
#[derive(Debug)]
pub(crate) struct FileLock<'file>(&'file File);

impl<'file> FileLock<'file> {
    /// Waits for the lock, for [`PATIENCE`] at most.
    pub(crate) fn exclusive(file: &'file File, path: &Path) -> Result<Self, StoreError> {
        Self::within(file, path, PATIENCE)
    }

    fn within(file: &'file File, path: &Path, patience: Duration) -> Result<Self, StoreError> {
        let until = Instant::now() + patience;
        let mut pause = PAUSE_MIN;
        loop {
            // As if somebody had it for longer than anybody waits.
            let is_refused = fault::at(At::Lock).is_err();
            if let Some(lock) = Self::if_free(file, path)?.filter(|_| !is_refused) {
                return Ok(lock);
            }
            if Instant::now() >= until || is_refused {
                let (path, holder) = (path.to_owned(), holder(file));
                return Err(StoreError::Locked { path, seconds: patience.as_secs(), holder });
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// The lock, unless somebody has it.
    pub(crate) fn if_free(file: &'file File, path: &Path) -> Result<Option<Self>, StoreError> {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self(file))),
            Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(None),
            Err(error) => Err(StoreError::io("lock", path, error)),
        }
    }
}

impl Drop for FileLock<'_> {
    fn drop(&mut self) {
        // An unlock of a lock that is held cannot fail.
        let _ = rustix::fs::flock(self.0, FlockOperation::Unlock);
    }
}

/// The process that holds the lock on a file, in words; none if the kernel does not tell, as for
/// processes of another PID namespace.
fn holder(file: &File) -> Option<String> {
    let metadata = file.metadata().ok()?;
    let (major, minor) = (rustix::fs::major(metadata.dev()), rustix::fs::minor(metadata.dev()));
    let place = format!("{major:02x}:{minor:02x}:{}", metadata.ino());
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let pid = locks.lines().find_map(|line| {
        // "1: FLOCK  ADVISORY  WRITE 1234 08:02:5678 0 EOF"; those that wait begin with "1: ->".
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_it = fields.get(1) == Some(&"FLOCK") && fields.get(5) == Some(&place.as_str());
        fields.get(4).filter(|_| is_it)?.parse::<u32>().ok()
    })?;
    if pid == 0 {
        return None;
    }
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(match name.trim() {
        "" => format!("process {pid}"),
        name => format!("process {pid} ({name})"),
    })
}

/// A lock that threads of this process and other processes take in turn.
#[derive(Debug)]
pub(crate) struct SharedLock {
    file: File,
    path: PathBuf,
    /// Does a thread of this process have it, or wait for the others?
    taken: Mutex<bool>,
    freed: Condvar,
}

/// Held until dropped.
#[derive(Debug)]
pub(crate) struct Held<'lock> {
    // In this order: no other thread tries for the file before it is free.
    _file: FileLock<'lock>,
    _turn: Turn<'lock>,
}

#[derive(Debug)]
struct Turn<'lock>(&'lock SharedLock);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.taken() = false;
        self.0.freed.notify_one();
    }
}

impl SharedLock {
    pub(crate) fn open(path: PathBuf) -> Result<Self, StoreError> {
        let file = sys::open_lock_file(&path)?;
        Ok(Self { file, path, taken: Mutex::default(), freed: Condvar::new() })
    }

    fn taken(&self) -> MutexGuard<'_, bool> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the lock, for [`PATIENCE`] at most.
    pub(crate) fn hold(&self) -> Result<Held<'_>, StoreError> {
        self.hold_within(PATIENCE)
    }

    fn hold_within(&self, patience: Duration) -> Result<Held<'_>, StoreError> {
        let until = Instant::now() + patience;
        let waited = self.freed.wait_timeout_while(self.taken(), patience, |taken| *taken);
        let (mut taken, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if *taken {
            let (path, holder) = (self.path.clone(), holder(&self.file));
            return Err(StoreError::Locked { path, seconds: patience.as_secs(), holder });
        }
        *taken = true;
        drop(taken);
        let turn = Turn(self);
        let left = until.saturating_duration_since(Instant::now());
        let file = FileLock::within(&self.file, &self.path, left)?;
        Ok(Held { _file: file, _turn: turn })
    }

    /// The lock, if nobody has it.
    pub(crate) fn hold_if_free(&self) -> Result<Option<Held<'_>>, StoreError> {
        let mut taken = self.taken();
        if *taken {
            return Ok(None);
        }
        *taken = true;
        drop(taken);
        let turn = Turn(self);
        let file = FileLock::if_free(&self.file, &self.path)?;
        Ok(file.map(|file| Held { _file: file, _turn: turn }))
    }
}

/// Takes the lock if nobody has it, and keeps it as long as the file is open.
pub(crate) fn keep_if_free(file: &File) -> bool {
    rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive).is_ok()
}

/// Gives up a lock that [`keep_if_free`] took.
pub(crate) fn give_up(file: &File, path: &Path) -> Result<(), StoreError> {
    rustix::fs::flock(file, FlockOperation::Unlock).at("unlock", path)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn a_wait_ends_and_names_the_lock_and_its_holder() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("lock");
        let lock = SharedLock::open(path.clone()).unwrap();
        // Another open file of the same path: as good as another process.
        let other = sys::open_lock_file(&path).unwrap();
        assert!(keep_if_free(&other));
        assert!(lock.hold_if_free().unwrap().is_none());
        let error = lock.hold_within(Duration::ZERO).unwrap_err();
        let StoreError::Locked { path: named, holder, .. } = &error else { panic!("{error}") };
        assert_eq!(*named, path);
        if fs::read_to_string("/proc/locks").is_ok_and(|text| !text.is_empty()) {
            let own = format!("process {} (", std::process::id());
            assert!(holder.as_ref().is_some_and(|it| it.starts_with(&own)), "{error}");
        }
        give_up(&other, &path).unwrap();
        let held = lock.hold().unwrap();
        assert!(lock.hold_within(Duration::ZERO).is_err(), "another thread has it");
        drop(held);
        assert!(lock.hold_if_free().unwrap().is_some());
    }

    #[test]
    fn threads_take_turns() {
        let home = tempfile::tempdir().unwrap();
        let lock = SharedLock::open(home.path().join("lock")).unwrap();
        let (inside, rounds) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let _held = lock.hold().unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        rounds.fetch_add(1, Ordering::SeqCst);
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(rounds.into_inner(), 400);
    }
}
