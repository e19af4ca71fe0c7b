//! The program at the other end of two pipes.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{GRACE, Invocation};
use crate::limits::{ANSWER_BYTES_MAX, MESSAGE_BYTES_MAX};

/// What a pipe that is ready to be written takes without blocking (`PIPE_BUF` of Linux).
const PIECE: usize = 4096;
/// How much of a wrong answer an error repeats.
const SHOWN: usize = 120;

/// A running program. It is waited for when this is dropped.
pub(super) struct Program {
    /// What errors call it.
    title: String,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    /// Read, and not taken yet.
    buffer: Vec<u8>,
    timeout: Duration,
    /// How long it has to end when its input has: none once it failed.
    grace: Duration,
}

impl Program {
    pub(super) fn start(invocation: &Invocation) -> Result<Self, String> {
        let title = invocation.command.join(" ");
        let (name, arguments) = invocation.command.split_first().ok_or("there is no command")?;
        // A path is relative to the scenario, as all paths of it are.
        let path = if name.contains('/') { invocation.directory.join(name) } else { name.into() };
        let mut command = Command::new(path);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        if !invocation.directory.as_os_str().is_empty() {
            command.current_dir(&invocation.directory);
        }
        let mut child =
            command.spawn().map_err(|error| format!("{title} does not start: {error}"))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(format!("{title} has no pipes"));
        };
        let (buffer, timeout) = (Vec::new(), invocation.timeout);
        Ok(Self { title, child, stdin: Some(stdin), stdout, buffer, timeout, grace: GRACE })
    }

    /// Sends a message and takes the answer.
    pub(super) fn ask<A: DeserializeOwned>(
        &mut self,
        message: &impl Serialize,
    ) -> Result<A, String> {
        let grace = std::mem::take(&mut self.grace);
        let answer = self.exchange(message)?;
        self.grace = grace;
        Ok(answer)
    }

    fn exchange<A: DeserializeOwned>(&mut self, message: &impl Serialize) -> Result<A, String> {
        let mut line = serde_json::to_vec(message).map_err(|error| error.to_string())?;
        line.push(b'\n');
        if line.len() > MESSAGE_BYTES_MAX {
            let (size, most) = (line.len(), MESSAGE_BYTES_MAX);
            return Err(format!("{self} would be told {size} bytes at once, more than {most}"));
        }
        self.refuse_unasked()?;
        self.write(&line)?;
        let answer = self.read_line()?;
        serde_json::from_slice(&answer).map_err(|error| {
            let shown = String::from_utf8_lossy(&answer[..answer.len().min(SHOWN)]);
            let more = if answer.len() > SHOWN { " …" } else { "" };
            format!("{self} answered what is no answer: {error}: {shown}{more}")
        })
    }

    /// A line too many would be taken for the next answer.
    fn refuse_unasked(&mut self) -> Result<(), String> {
        if self.buffer.is_empty() && self.can(Duration::ZERO, Direction::Read)? {
            self.fill()?;
        }
        if self.buffer.is_empty() {
            return Ok(());
        }
        let shown = String::from_utf8_lossy(&self.buffer[..self.buffer.len().min(SHOWN)]);
        Err(format!("{self} wrote more than one line: {}", shown.trim_end()))
    }

    fn write(&mut self, line: &[u8]) -> Result<(), String> {
        for piece in line.chunks(PIECE) {
            if !self.can(self.timeout, Direction::Write)? {
                return Err(format!("{self} did not read for {:?}", self.timeout));
            }
            let Some(stdin) = &mut self.stdin else { return Err(self.ended()) };
            match stdin.write_all(piece) {
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Err(self.ended()),
                written => written.map_err(|error| format!("{self}: {error}"))?,
            }
        }
        Ok(())
    }

    /// A line without its end.
    fn read_line(&mut self) -> Result<Vec<u8>, String> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.buffer[searched..].iter().position(|&byte| byte == b'\n') {
                let rest = self.buffer.split_off(searched + at + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.pop();
                return Ok(line);
            }
            searched = self.buffer.len();
            if searched > ANSWER_BYTES_MAX {
                return Err(format!("{self} wrote a line of more than {ANSWER_BYTES_MAX} bytes"));
            }
            if !self.can(self.timeout, Direction::Read)? {
                let timeout = self.timeout;
                return Err(format!("{self} did not answer for {timeout:?} (policy.timeout)"));
            }
            self.fill()?;
        }
    }

    /// Reads what is there.
    fn fill(&mut self) -> Result<(), String> {
        let mut chunk = [0; 16 * PIECE];
        match self.stdout.read(&mut chunk) {
            Ok(0) => Err(self.ended()),
            Ok(count) => {
                self.buffer.extend_from_slice(&chunk[..count]);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(format!("{self}: {error}")),
        }
    }

    /// Whether a pipe is ready, or broken, within that time.
    fn can(&self, within: Duration, direction: Direction) -> Result<bool, String> {
        let mut fd = match (direction, &self.stdin) {
            (Direction::Write, Some(stdin)) => {
                PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::OUT)
            }
            _ => PollFd::from_borrowed_fd(self.stdout.as_fd(), PollFlags::IN),
        };
        let within =
            Timespec { tv_sec: within.as_secs() as i64, tv_nsec: within.subsec_nanos().into() };
        loop {
            match poll(std::slice::from_mut(&mut fd), Some(&within)) {
                Ok(ready) => return Ok(ready > 0),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(format!("{self}: {error}")),
            }
        }
    }

    /// That it is gone, and how. One that only closed its output is made to end.
    fn ended(&mut self) -> String {
        self.stdin = None;
        let _ = self.child.kill();
        match self.child.wait() {
            Ok(status) => format!("{self} ended too early ({status})"),
            Err(error) => format!("{self} ended too early: {error}"),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Read,
    Write,
}

impl Drop for Program {
    fn drop(&mut self) {
        self.stdin = None;
        // Its end closes its output; until then, whatever it says is for nobody.
        self.buffer.clear();
        while self.buffer.len() <= ANSWER_BYTES_MAX
            && let Ok(true) = self.can(self.grace, Direction::Read)
            && self.fill().is_ok()
        {}
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.title)
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("title", &self.title).finish_non_exhaustive()
    }
}
