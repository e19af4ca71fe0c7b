//! Seeing what a build's processes do to files before they do it (seccomp user notification).
//!
//! Goals: an unmodelled program that uses a placeholder waits until the real file is there; the old
//! state of whatever a build changes is saved before the change; what cannot be undone waits until
//! nothing can fail any more. No preloaded library is needed, so static programs are seen too. The
//! build command gets a [`filter`] that sends the watched [`calls`] to a listener of ours and lets
//! each go on after our answer; every child inherits it. Each such call costs the build some 10 us.
//!
//! Non-goals: security. A program may change a path between our look and the kernel's; then only
//! that build is wrong.
//!
//! See seccomp_unotify(2).

mod calls;
mod filter;
mod memory;

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) use calls::{Call, Change, Peer, words};
pub(crate) use filter::{Given, can_listen, is_available, spawn, spawn_unwatched};

/// Set of calls that a build's filter reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Watch {
    /// Executions, opens, looks at files, and all that changes something: for builds that run ahead.
    Changes,
    /// Executions and opens.
    Opens,
    /// Executions only: there are no placeholders to be opened.
    Executions,
}

/// One call that waits for an answer.
#[derive(Debug)]
pub(crate) struct Notification {
    id: u64,
    /// The calling thread; where it is the only one, the calling process.
    pub(crate) pid: u32,
    /// What the caller is about to do.
    pub(crate) call: Call,
}

/// Our end: where the calls of the build arrive.
#[derive(Debug)]
pub(crate) struct Listener {
    descriptor: OwnedFd,
    /// A process may have another root directory than we have.
    has_roots: AtomicBool,
}

impl Listener {
    fn new(descriptor: OwnedFd) -> Self {
        filter::hand_over_processor(&descriptor);
        Self { descriptor, has_roots: AtomicBool::new(false) }
    }

    /// Waits for the next call. `None` when no process of the build is left.
    pub(crate) fn next(&self) -> io::Result<Option<Notification>> {
        loop {
            let raw = match filter::receive(&self.descriptor) {
                Ok(raw) => raw,
                // The caller died before we looked, or a signal came.
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => continue,
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                    if filter::is_abandoned(&self.descriptor)? {
                        return Ok(None);
                    }
                    continue;
                }
                Err(error) => return Err(error),
            };
            let caller = calls::Caller {
                pid: raw.pid,
                has_own_root: self.has_roots.load(Ordering::Relaxed),
            };
            match calls::decode(&raw, &caller) {
                Some(call) => {
                    if matches!(call, Call::ChangeRoot) {
                        self.has_roots.store(true, Ordering::Relaxed);
                    }
                    return Ok(Some(Notification { id: raw.id, pid: raw.pid, call }));
                }
                None => self.proceed(raw.id)?,
            }
        }
    }

    /// Lets the call go on.
    pub(crate) fn allow(&self, notification: &Notification) -> io::Result<()> {
        self.proceed(notification.id)
    }

    /// Answers an open for reading with this file, whatever is at its path.
    pub(crate) fn give(&self, notification: &Notification, file: &File) -> io::Result<()> {
        let Call::Open { flags, .. } = notification.call else { return self.allow(notification) };
        let has = |flag: i32| flags & flag as u64 != 0;
        // The caller wants to know about the path, not what is in the file.
        if has(libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW) {
            return self.allow(notification);
        }
        let number = file.as_raw_fd();
        match filter::send_file(&self.descriptor, notification.id, number, has(libc::O_CLOEXEC)) {
            // The caller has died meanwhile, or cannot have another descriptor, or this is before
            // Linux 5.14.
            Err(_) => self.allow(notification),
            Ok(()) => Ok(()),
        }
    }

    fn proceed(&self, id: u64) -> io::Result<()> {
        match filter::proceed(&self.descriptor, id) {
            // The caller has died meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            other => other,
        }
    }
}
