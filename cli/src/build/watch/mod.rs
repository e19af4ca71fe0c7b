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
pub(crate) mod usher;

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) use calls::{Call, Change, Peer, words};
pub(crate) use filter::{Given, can_listen, is_available, spawn, spawn_unwatched};

/// Set of calls that a build's filter reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Watch {
    /// Executions, opens, looks at files, and all that changes something: for builds that run ahead.
    Changes,
    /// The same, and reads of standard input.
    ChangesAndInput,
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
    descriptor: Arc<OwnedFd>,
    /// A process may have another root directory than we have.
    has_roots: AtomicBool,
}

impl Listener {
    fn new(descriptor: OwnedFd) -> Self {
        filter::hand_over_processor(&descriptor);
        Self { descriptor: Arc::new(descriptor), has_roots: AtomicBool::new(false) }
    }

    /// The descriptor, for whoever answers after this process.
    pub(crate) fn descriptor(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.descriptor)
    }

    /// Waits for the next call; looks at files go on at once unless they matter, by who looks.
    /// `None` when no process of the build is left.
    pub(crate) fn next(
        &self,
        look_matters: impl Fn(u32) -> bool,
    ) -> io::Result<Option<Notification>> {
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
            // Some thousands in a build that has nothing to do: not even the path is read.
            if calls::is_look(&raw) && !look_matters(raw.pid) {
                self.proceed(raw.id)?;
                continue;
            }
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

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::mpsc;

    use rustix::process::{Resource, getrlimit};

    use super::*;

    /// Names of the changes that a shell line makes, with the paths' last components.
    fn changes_of(line: &str) -> Vec<String> {
        let place = tempfile::tempdir().unwrap();
        let (tell, told) = mpsc::channel();
        let serve = move |listener: Listener| {
            while let Ok(Some(notification)) = listener.next(|_| true) {
                tell.send(format!("{:?}", notification.call)).unwrap();
                listener.allow(&notification).unwrap();
            }
        };
        let open_files = getrlimit(Resource::Nofile);
        let given = Given { inherited: Vec::new(), mounts: None, open_files };
        let mut command = Command::new("sh");
        command.args(["-ec", line]).current_dir(&place);
        let mut child = spawn(&mut command, Watch::Changes, given, serve).unwrap();
        assert!(child.wait().unwrap().success());
        let is_change = |call: &String| call.starts_with("Change") || call.starts_with("Affect");
        let calls = told.into_iter().filter(is_change);
        calls
            .map(|call| {
                let words = call.split('"').map(|word| match word.rsplit_once("/cwd/") {
                    Some((_, path)) => path.to_owned(),
                    None => word.to_owned(),
                });
                words.collect::<Vec<_>>().join("\"")
            })
            .collect()
    }

    #[test]
    fn changes_are_reported_before_they_are_made() {
        if !can_listen() {
            return crate::stderr::write_line("skipped: this system lets nobody watch a build");
        }
        let reported = |line: &str, expected: &str| {
            let changes = changes_of(line);
            assert!(changes.iter().any(|change| change == expected), "{line}: {changes:?}");
        };
        reported("mkdir d", r#"Change(Make("d"))"#);
        reported("mkdir d; rmdir d", r#"Change(RemoveDirectory("d"))"#);
        reported(": > a; mv a b", r#"Change(Move("a", "b"))"#);
        reported(": > a; ln a b", r#"Change(Link("a", "b"))"#);
        reported("ln -s a b", r#"Change(Make("b"))"#);
        reported("mkfifo p", r#"Change(Make("p"))"#);
        reported(": > a; rm a", r#"Change(Remove("a"))"#);
        reported(": > a; chmod 600 a", r#"Change(Attributes("a", true))"#);
        let signalled = changes_of("kill -CONT $$");
        assert!(signalled[0].starts_with("Affect("), "{signalled:?}");
        assert_eq!(changes_of("test -e a || kill -0 $$"), Vec::<String>::new());
    }
}
