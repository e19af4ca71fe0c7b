//! Learning that processes which are not our children have ended.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::epoll;
use rustix::process::{PidfdFlags, pidfd_open};

use super::slots::Pid;

/// The mark of our own end of the socket, which no process has.
const CLOSED: u64 = 0;

/// How many ends are taken at once.
const EVENTS_MAX: usize = 64;

/// Watches processes on a thread of its own; the thread ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Exits {
    shared: Arc<Shared>,
    _open: UnixStream,
}

#[derive(Debug)]
struct Shared {
    epoll: OwnedFd,
    /// By process: the descriptor that is being watched.
    watched: Mutex<BTreeMap<Pid, OwnedFd>>,
}

impl Shared {
    fn watched(&self) -> MutexGuard<'_, BTreeMap<Pid, OwnedFd>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Exits {
    /// Starts the thread, which calls `ended` for each process that has.
    pub(crate) fn start(ended: impl Fn(Pid) + Send + 'static) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let (open, far) = UnixStream::pair()?;
        let closed = epoll::EventData::new_u64(CLOSED);
        epoll::add(&epoll, &far, closed, epoll::EventFlags::IN)?;
        let shared = Arc::new(Shared { epoll, watched: Mutex::default() });
        let watching = Arc::clone(&shared);
        std::thread::Builder::new().name("mesh-exits".to_owned()).spawn(move || {
            watch(&watching, ended);
            drop(far);
        })?;
        Ok(Self { shared, _open: open })
    }

    /// Watches a process. False if it has ended already.
    pub(crate) fn add(&self, pid: Pid) -> bool {
        let Some(number) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else {
            return false;
        };
        let Ok(process) = pidfd_open(number, PidfdFlags::empty()) else { return false };
        let data = epoll::EventData::new_u64(u64::from(pid));
        let mut watched = self.shared.watched();
        if watched.contains_key(&pid) {
            return true;
        }
        let added = epoll::add(&self.shared.epoll, &process, data, epoll::EventFlags::IN);
        watched.insert(pid, process);
        added.is_ok()
    }
}

fn watch(shared: &Shared, ended: impl Fn(Pid)) {
    let mut events = Vec::with_capacity(EVENTS_MAX);
    loop {
        events.clear();
        let buffer = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&shared.epoll, buffer, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
        for event in &events {
            let data = event.data.u64();
            if data == CLOSED {
                return;
            }
            let Ok(pid) = Pid::try_from(data) else { continue };
            // Closing the descriptor takes it out of the set.
            shared.watched().remove(&pid);
            ended(pid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::sync::mpsc;

    #[test]
    fn an_end_is_told_once() {
        let (tell, told) = mpsc::channel();
        let exits = Exits::start(move |pid| tell.send(pid).unwrap()).unwrap();
        let mut child = Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        assert!(exits.add(child.id()));
        assert!(exits.add(child.id()), "it is watched already");
        drop(child.stdin.take());
        assert_eq!(told.recv().unwrap(), child.id());
        child.wait().unwrap();
        drop(exits);
        assert!(told.recv().is_err(), "the thread has ended");
    }
}
