//! The slots of a build, shared by thunks and by the commands that `make` runs itself.
//!
//! We are the GNU make jobserver of the build: a pipe that holds one byte for each slot but one;
//! the last is the implicit slot of the top `make`. Whoever wants to keep a core busy takes a byte
//! and puts it back. A thunk takes one too, so compilers in sandboxes and commands on the host
//! together never exceed the slots. See "POSIX Jobserver Interaction" in the manual of GNU make.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags};
use tokio::net::unix::pipe::Receiver;

/// The pool, behind a named pipe so that every kind of client finds it.
#[derive(Debug)]
pub(crate) struct Jobserver {
    /// For clients that inherit descriptors (GNU make before 4.4), blocking.
    shared: File,
    /// Our own end, which never blocks.
    own: Receiver,
    /// Where slots are put back.
    back: Arc<File>,
}

/// A slot taken from the pool; put back when dropped.
#[derive(Debug)]
pub(crate) struct Slot(Arc<File>);

impl Jobserver {
    /// A pool of `slots`, its pipe at `path`. To be called on a tokio runtime.
    pub(crate) fn create(path: &Path, slots: u32) -> io::Result<Self> {
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, path, FileType::Fifo, mode, 0)?;
        let open = |flags: OFlags| {
            use std::os::unix::fs::OpenOptionsExt;
            let flags = i32::try_from(flags.bits()).unwrap_or(0);
            OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)
        };
        let (shared, back) = (open(OFlags::empty())?, Arc::new(open(OFlags::NONBLOCK)?));
        for _ in 1..slots {
            (&*back).write_all(b"+")?;
        }
        let own = Receiver::from_file(open(OFlags::NONBLOCK)?)?;
        Ok(Self { shared, own, back })
    }

    /// Waits until a slot may be free.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.own.readable().await
    }

    /// Takes a slot if one is free.
    pub(crate) fn try_take(&self) -> io::Result<Option<Slot>> {
        let mut byte = [0];
        match self.own.try_read(&mut byte) {
            Ok(_) => Ok(Some(Slot(Arc::clone(&self.back)))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// How many slots lie in the pipe.
    pub(crate) fn free(&self) -> u32 {
        let bytes = rustix::io::ioctl_fionread(&self.own).unwrap_or(0);
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }

    /// The descriptor that commands of the build inherit.
    pub(crate) fn shared(&self) -> &File {
        &self.shared
    }

    /// What `MAKEFLAGS` must say for ninja: the pipe's path.
    pub(crate) fn flags_by_path(path: &Path) -> String {
        format!(" -j --jobserver-auth=fifo:{}", path.display())
    }

    /// What `MAKEFLAGS` must say for any GNU make that inherits this descriptor.
    pub(crate) fn flags_by_descriptor(shared: &File) -> String {
        let number = shared.as_raw_fd();
        format!(" -j --jobserver-auth={number},{number}")
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // The pipe has room for what was taken out of it.
        let _ = (&*self.0).write_all(b"+");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[tokio::test]
    async fn slots_are_taken_and_come_back() {
        let place = tempfile::tempdir().unwrap();
        let pool = Jobserver::create(&place.path().join("slots"), 3).unwrap();
        pool.readable().await.unwrap();
        let first = pool.try_take().unwrap().unwrap();
        let second = pool.try_take().unwrap().unwrap();
        assert!(pool.try_take().unwrap().is_none(), "the third is make's own");
        drop(first);
        pool.readable().await.unwrap();
        let again = pool.try_take().unwrap();
        assert!(again.is_some());
        drop((again, second));
        assert_eq!(pool.free(), 2);
    }

    /// Two recipes meet if, and only if, make runs them at once: each waits for the other.
    #[tokio::test]
    async fn make_runs_as_many_commands_as_there_are_slots() {
        let place = tempfile::tempdir().unwrap();
        let makefile = "all: a b\n\
            a: ; @mkfifo there; : > there; : < back\n\
            b: ; @while ! test -p there; do :; done; : < there; mkfifo back; : > back\n";
        // `back` must be there before `a` opens it.
        let makefile = makefile.replace("mkfifo back; ", "");
        std::fs::write(place.path().join("Makefile"), makefile).unwrap();
        let made = Command::new("mkfifo").arg(place.path().join("back")).status().unwrap();
        assert!(made.success());
        let pool = Jobserver::create(&place.path().join("slots"), 2).unwrap();
        rustix::io::fcntl_setfd(pool.shared(), rustix::io::FdFlags::empty()).unwrap();
        let made = Command::new("make")
            .current_dir(place.path())
            .env("MAKEFLAGS", Jobserver::flags_by_descriptor(pool.shared()))
            .status()
            .unwrap();
        assert!(made.success());
        assert_eq!(pool.free(), 1, "make gave its slot back");
    }
}
