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
use super::message::{self, Ended, Event, OutOfMemory, StepError};
use crate::exec::plan::PlanError;
use crate::exec::{EngineError, Excess, Exit, Outcome, collect};

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
    /// What all jobs together may hold.
    memory_bytes: Option<u64>,
    socket: OwnedFd,
    pidfd: Option<OwnedFd>,
    stdout: Stream,
    stderr: Stream,
    started: Instant,
    deadline: Option<Instant>,
    timed_out: bool,
    ended: Option<(Ended, Duration)>,
    outputs: BTreeMap<Tag, OutputObject>,
    excess: Option<Excess>,
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
        order: OwnedFd,
        thunk: Arc<Thunk>,
        memory_bytes: Option<u64>,
        send: impl FnOnce(&[BorrowedFd<'_>]) -> Result<(), Errno>,
    ) -> Result<Self, EngineError> {
        let (near, far) = message::socket_pair().map_err(std::io::Error::from)?;
        let (stdout, stdout_write) = Stream::open().map_err(std::io::Error::from)?;
        let (stderr, stderr_write) = Stream::open().map_err(std::io::Error::from)?;
        let fds = [&far, &order, &stdout_write, &stderr_write];
        match send(&fds.map(|fd| fd.as_fd())) {
            Ok(()) => {}
            Err(Errno::PIPE | Errno::CONNRESET) => return Err(EngineError::Died),
            Err(error) => return Err(EngineError::System(error.into())),
        }
        Ok(Self {
            thunk,
            memory_bytes,
            socket: near,
            pidfd: None,
            stdout,
            stderr,
            started: Instant::now(),
            deadline: None,
            timed_out: false,
            ended: None,
            outputs: BTreeMap::new(),
            excess: None,
            complete: false,
        })
    }

    /// Lets the program start, and sees it to its end. When `cancelled` closes, or anything goes wrong,
    /// nothing of the job is left either. The job's time counts since `turn`, and until its outputs are in the
    /// store.
    pub(super) fn finish(
        mut self,
        store: &Store,
        cancelled: &OwnedFd,
        turn: Instant,
    ) -> Result<Outcome, EngineError> {
        // If nobody is there to hear it, what was said before tells why.
        let _ = message::send(&self.socket, &(), &[]);
        self.started = Instant::now();
        let thunk = Arc::clone(&self.thunk);
        let time = Duration::from_millis(thunk.spec().limits.timeout_ms);
        self.deadline = turn.checked_add(time);
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
                self.apply(&outputs, store, cancelled)?;
            }
            self.look_at_the_clock();
        }
        self.outcome(&outputs, store)
    }

    fn is_done(&self) -> bool {
        self.complete && self.stdout.pipe.is_none() && self.stderr.pipe.is_none()
    }

    fn wait(&self, cancelled: &OwnedFd) -> Result<Found, EngineError> {
        let deadline = self.deadline.filter(|_| !self.complete);
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
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

    fn apply(
        &mut self,
        outputs: &[(&Tag, &Output)],
        store: &Store,
        cancelled: &OwnedFd,
    ) -> Result<(), EngineError> {
        let received = message::receive::<Event>(&self.socket).map_err(std::io::Error::from)?;
        let Some((event, fds)) = received else {
            // Nobody is there: it had to be killed, or is gone for a reason that is not known.
            if !self.timed_out {
                return Err(EngineError::Died);
            }
            self.end_without(OutOfMemory::No);
            return Ok(());
        };
        match event {
            Event::Started => self.pidfd = fds.into_iter().next(),
            Event::Failed(error) => return Err(build_error(error)),
            Event::Ended(ended) => self.ended = Some((ended, self.started.elapsed())),
            Event::Overwhelmed(out_of_memory) => self.end_without(out_of_memory),
            Event::Excess(excess) => {
                self.excess = Some(excess);
                self.complete = true;
            }
            Event::Outputs { found, last } => {
                for (index, fd) in found.into_iter().zip(fds) {
                    let Some((tag, output)) = outputs.get(index as usize) else { continue };
                    let go_on = || go_on(self.deadline, cancelled);
                    match collect::collect(store, output, fd, &go_on) {
                        Ok(Some(object)) => drop(self.outputs.insert((*tag).clone(), object)),
                        Ok(None) => {}
                        // The clock is looked at next.
                        Err(_) if is_over(self.deadline) => return Ok(()),
                        Err(error) => return Err(error),
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

    /// The first process has ended before it could tell how the job did.
    fn end_without(&mut self, out_of_memory: OutOfMemory) {
        let status = Signal::KILL.as_raw();
        let ended = Ended { status, out_of_memory, cpu_us: 0, memory_peak_bytes: 0 };
        self.ended.get_or_insert((ended, self.started.elapsed()));
        if let Some((ended, _)) = &mut self.ended
            && out_of_memory != OutOfMemory::No
        {
            ended.out_of_memory = out_of_memory;
        }
        self.outputs.clear();
        self.complete = true;
    }

    /// At the deadline the first process is asked to end the others and to report; if it does not
    /// do so in time, it is ended itself. So it is when only outputs are left to do, which then do not count.
    fn look_at_the_clock(&mut self) {
        if self.complete || !is_over(self.deadline) {
            return;
        }
        let is_asked = !self.timed_out && self.ended.is_none();
        self.timed_out = true;
        if is_asked && message::send(&self.socket, &(), &[]).is_ok() {
            self.deadline = Instant::now().checked_add(GRACE);
            return;
        }
        self.kill();
        self.deadline = None;
        if self.ended.is_some() {
            self.end_without(OutOfMemory::No);
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
        let exit = self.exit(&ended)?;
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

impl Running {
    fn exit(&self, ended: &Ended) -> Result<Exit, EngineError> {
        if self.timed_out {
            return Ok(Exit::TimedOut);
        }
        match (ended.out_of_memory, self.memory_bytes) {
            (OutOfMemory::No, _) => {}
            (OutOfMemory::AtItsBound, _) | (OutOfMemory::BelowItsBound, None) => {
                return Ok(Exit::OutOfMemory);
            }
            (OutOfMemory::BelowItsBound, Some(bytes)) => return Err(EngineError::Memory(bytes)),
        }
        if let Some(excess) = self.excess {
            return Ok(Exit::TooLarge(excess));
        }
        // As wait(2) lays it out: the signal in the low seven bits, the status above them.
        Ok(match ended.status & 0x7f {
            0 => Exit::Code((ended.status >> 8) & 0xff),
            signal => Exit::Signal(signal),
        })
    }
}

impl Stream {
    fn closed() -> Self {
        Self { pipe: None, kept: Vec::new(), cut: 0 }
    }
}

/// Failures to build a sandbox that are the thunk's: it wants more than there is room for, or names what cannot be
/// named.
fn build_error(error: StepError) -> EngineError {
    let of_thunk = [Errno::NOSPC, Errno::NAMETOOLONG, Errno::LOOP, Errno::TOOBIG];
    match of_thunk.iter().any(|errno| errno.raw_os_error() == error.errno) {
        true => EngineError::Refused(PlanError::Build(error.into())),
        false => EngineError::Build(error.into()),
    }
}

fn is_over(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() >= deadline)
}

/// May collecting go on? An error: not when the time is up, or nobody wants the job any more.
fn go_on(deadline: Option<Instant>, cancelled: &OwnedFd) -> std::io::Result<()> {
    if is_over(deadline) {
        return Err(std::io::ErrorKind::TimedOut.into());
    }
    let mut polled = [PollFd::new(cancelled, PollFlags::IN)];
    match rustix::event::poll(&mut polled, Some(&Timespec::default()))? {
        0 => Ok(()),
        _ => Err(std::io::ErrorKind::ConnectionAborted.into()),
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
