//! A running job, seen from the engine: what it writes, its time, its end, its outputs.
//!
//! One thread per job, with one `poll`. States: launched → running → (time up: asked to end) → ended →
//! outputs taken → done.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_protocol::limits;
use mesh_protocol::name::{Tag, ValueName};
use mesh_protocol::thunk::{KeptStream, Output, OutputObject, Thunk, Usage};
use mesh_store::Store;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Gid, Uid};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::Signal;

use super::base::NOBODY;
use super::message::{self, Ended, Event};
use super::order::Prepared;
use crate::exec::{EngineError, Exit, Outcome, collect};

/// How long the first process may take to end the others when the time is up.
const GRACE: Duration = Duration::from_secs(5);

/// One of the job's output streams.
struct Stream {
    pipe: Option<File>,
    kept: Vec<u8>,
    cut: u64,
}

impl Stream {
    fn open() -> Result<(Self, OwnedFd), Errno> {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&read, true)?;
        if rustix::process::geteuid().is_root() {
            // A job may open its own standard output again, as /dev/stdout.
            let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
            rustix::fs::fchown(&write, Some(user), Some(group))?;
        }
        Ok((Self { pipe: Some(File::from(read)), kept: Vec::new(), cut: 0 }, write))
    }

    /// Takes what is there, up to a bound, so that a job that never stops writing does not keep
    /// its clock from being looked at.
    fn take(&mut self, buffer: &mut [u8]) -> Result<(), std::io::Error> {
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        match pipe.read(buffer) {
            Ok(0) => self.pipe = None,
            Ok(length) => self.keep(&buffer[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = limits::STREAM_BYTES as usize - self.kept.len();
        let (kept, cut) = bytes.split_at(room.min(bytes.len()));
        self.kept.extend_from_slice(kept);
        self.cut += cut.len() as u64;
    }

    fn store(self, store: &Store) -> Result<ValueName, EngineError> {
        let object = KeptStream { bytes: self.kept, cut_bytes: self.cut }.into_object();
        let put = store.put_bytes(&object).map_err(|error| EngineError::Store(error.into()))?;
        Ok(ValueName(put))
    }
}

/// A job whose sandbox the launcher has been asked for. Dropped before its end, it ends too.
pub(super) struct Running {
    thunk: Arc<Thunk>,
    socket: OwnedFd,
    pidfd: Option<OwnedFd>,
    stdout: Stream,
    stderr: Stream,
    started: Instant,
    deadline: Option<Instant>,
    timed_out: bool,
    ended: Option<(Ended, Duration)>,
    outputs: BTreeMap<Tag, OutputObject>,
    complete: bool,
}

/// What one `poll` has found.
struct Found {
    cancelled: bool,
    event: bool,
    stdout: bool,
    stderr: bool,
}

impl Running {
    /// Hands a job to the launcher.
    pub(super) fn launch(
        prepared: Prepared,
        thunk: Arc<Thunk>,
        send: impl FnOnce(&[BorrowedFd<'_>]) -> Result<(), Errno>,
    ) -> Result<Self, EngineError> {
        let (near, far) = message::socket_pair().map_err(std::io::Error::from)?;
        let (stdout, stdout_write) = Stream::open().map_err(std::io::Error::from)?;
        let (stderr, stderr_write) = Stream::open().map_err(std::io::Error::from)?;
        let fds = [&far, &prepared.order, &prepared.stdin, &stdout_write, &stderr_write];
        match send(&fds.map(|fd| fd.as_fd())) {
            Ok(()) => {}
            Err(Errno::PIPE | Errno::CONNRESET) => return Err(EngineError::Died),
            Err(error) => return Err(EngineError::System(error.into())),
        }
        Ok(Self {
            thunk,
            socket: near,
            pidfd: None,
            stdout,
            stderr,
            started: Instant::now(),
            deadline: None,
            timed_out: false,
            ended: None,
            outputs: BTreeMap::new(),
            complete: false,
        })
    }

    /// Lets the program start, and sees it to its end. When `cancelled` closes, or anything goes wrong,
    /// nothing of the job is left either.
    pub(super) fn finish(
        mut self,
        store: &Store,
        cancelled: &OwnedFd,
    ) -> Result<Outcome, EngineError> {
        // If nobody is there to hear it, what was said before tells why.
        let _ = message::send(&self.socket, &(), &[]);
        self.started = Instant::now();
        let thunk = Arc::clone(&self.thunk);
        let time = Duration::from_millis(thunk.spec().limits.timeout_ms);
        self.deadline = self.started.checked_add(time);
        let outputs: Vec<_> = thunk.spec().outputs.iter().collect();
        let mut buffer = vec![0; 64 * 1024];
        while !self.is_done() {
            let found = self.wait(cancelled)?;
            if found.cancelled {
                return Err(EngineError::Died);
            }
            if found.stdout {
                self.stdout.take(&mut buffer)?;
            }
            if found.stderr {
                self.stderr.take(&mut buffer)?;
            }
            if found.event {
                self.apply(&outputs, store)?;
            }
            self.look_at_the_clock();
        }
        self.outcome(&outputs, store)
    }

    fn is_done(&self) -> bool {
        self.complete && self.stdout.pipe.is_none() && self.stderr.pipe.is_none()
    }

    fn wait(&self, cancelled: &OwnedFd) -> Result<Found, EngineError> {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        let mut polled = vec![
            PollFd::new(cancelled, PollFlags::IN),
            PollFd::new(
                &self.socket,
                if self.complete { PollFlags::empty() } else { PollFlags::IN },
            ),
        ];
        for stream in [&self.stdout, &self.stderr] {
            polled.extend(stream.pipe.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        }
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut polled, left.as_ref()))
            .map_err(std::io::Error::from)?;
        let mut ready = polled.iter().map(|fd| !fd.revents().is_empty());
        let mut next = || ready.next().unwrap_or_default();
        let (cancelled, event) = (next(), next());
        let stdout = self.stdout.pipe.is_some() && next();
        let stderr = self.stderr.pipe.is_some() && next();
        Ok(Found { cancelled, event: event && !self.complete, stdout, stderr })
    }

    fn apply(&mut self, outputs: &[(&Tag, &Output)], store: &Store) -> Result<(), EngineError> {
        let received = message::receive::<Event>(&self.socket).map_err(std::io::Error::from)?;
        let (event, fds) = received.ok_or(EngineError::Died)?;
        match event {
            Event::Started => self.pidfd = fds.into_iter().next(),
            Event::Failed(error) => return Err(EngineError::Build(error.into())),
            Event::Ended(ended) => {
                self.ended = Some((ended, self.started.elapsed()));
                // What is left to do is ours and takes the time that it takes.
                self.deadline = None;
            }
            Event::Outputs { found, last } => {
                for (index, fd) in found.into_iter().zip(fds) {
                    let Some((tag, output)) = outputs.get(index as usize) else { continue };
                    if let Some(object) = collect::collect(store, output, fd)? {
                        self.outputs.insert((*tag).clone(), object);
                    }
                }
                self.complete = last;
                match message::send(&self.socket, &(), &[]) {
                    Err(error) if !last => return Err(EngineError::System(error.into())),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// At the deadline the first process is asked to end the others and to report; if it does not
    /// do so in time, it is ended itself.
    fn look_at_the_clock(&mut self) {
        let now = Instant::now();
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return;
        }
        if self.timed_out || message::send(&self.socket, &(), &[]).is_err() {
            self.kill();
            self.deadline = None;
        } else {
            self.timed_out = true;
            self.deadline = now.checked_add(GRACE);
        }
    }

    fn kill(&self) {
        if let Some(pidfd) = &self.pidfd {
            // It may have ended by itself: as good.
            let _ = rustix::process::pidfd_send_signal(pidfd, Signal::KILL);
        }
    }

    fn outcome(
        mut self,
        outputs: &[(&Tag, &Output)],
        store: &Store,
    ) -> Result<Outcome, EngineError> {
        let (ended, wall) = self.ended.take().ok_or(EngineError::Died)?;
        let found = std::mem::take(&mut self.outputs);
        let missing = outputs.iter().filter(|(tag, o)| o.required && !found.contains_key(*tag));
        let missing = missing.map(|(tag, _)| (*tag).clone()).collect();
        let exit = exit(&ended, self.timed_out);
        let stream = |stream: &mut Stream| std::mem::replace(stream, Stream::closed());
        Ok(Outcome {
            exit,
            outputs: found,
            missing,
            stdout: stream(&mut self.stdout).store(store)?,
            stderr: stream(&mut self.stderr).store(store)?,
            usage: Usage {
                wall_us: wall.as_micros().try_into().unwrap_or(u64::MAX),
                cpu_us: ended.cpu_us,
                memory_peak_bytes: ended.memory_peak_bytes,
            },
        })
    }
}

impl Stream {
    fn closed() -> Self {
        Self { pipe: None, kept: Vec::new(), cut: 0 }
    }
}

fn exit(ended: &Ended, timed_out: bool) -> Exit {
    if timed_out {
        return Exit::TimedOut;
    }
    if ended.out_of_memory {
        return Exit::OutOfMemory;
    }
    // As wait(2) lays it out: the signal in the low seven bits, the status above them.
    match ended.status & 0x7f {
        0 => Exit::Code((ended.status >> 8) & 0xff),
        signal => Exit::Signal(signal),
    }
}

/// Whatever the way out: the job does not outlive its supervision.
impl Drop for Running {
    fn drop(&mut self) {
        if !self.complete {
            self.kill();
        }
    }
}
