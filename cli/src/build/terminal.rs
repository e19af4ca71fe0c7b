//! A terminal of the build's own, where ours shows a live block.
//!
//! The build writes to the same terminal as the block, which would break both. So it gets a
//! pseudo-terminal, and what it writes is copied above the block, line by line. Programs still see
//! a terminal, with colours and width; signals still come from the real one, which stays the
//! controlling terminal and standard input. Where there is no block the build writes directly.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, Winsize, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use crate::ui::Console;

/// How long the beginning of a line is held back for the rest of it, in seconds.
const PARTIAL_LINE_S: i64 = 1;

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Terminal {
    theirs: File,
    /// One byte asks the copying thread to write what there is; one byte answers.
    settle: UnixStream,
}

impl Terminal {
    /// Opens one if the console shows a live block.
    pub(crate) fn open(console: &Console) -> io::Result<Option<Self>> {
        if !console.is_live() {
            return Ok(None);
        }
        let ours = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        rustix::io::fcntl_setfd(&ours, rustix::io::FdFlags::CLOEXEC)?;
        rustix::pty::grantpt(&ours)?;
        rustix::pty::unlockpt(&ours)?;
        let path = rustix::pty::ptsname(&ours, Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let theirs = rustix::fs::open(path, flags, rustix::fs::Mode::empty())?;
        // Line ends are the real terminal's business.
        let mut attributes = tcgetattr(&theirs)?;
        attributes.output_modes.remove(rustix::termios::OutputModes::OPOST);
        tcsetattr(&theirs, OptionalActions::Now, &attributes)?;
        let (settle, asked) = UnixStream::pair()?;
        let mut copy = Copy { ours, asked, console: console.clone(), line: Vec::new(), size: None };
        copy.follow_size();
        std::thread::Builder::new().name("mesh-terminal".to_owned()).spawn(move || copy.run())?;
        Ok(Some(Self { theirs: File::from(theirs), settle }))
    }

    /// Where the build writes: also what tells whether a call's stream is this one.
    pub(crate) fn file(&self) -> &File {
        &self.theirs
    }

    /// Lets a command write to it, where it would have written to the real one.
    pub(crate) fn lend(&self, command: &mut Command) -> io::Result<()> {
        if io::stdout().is_terminal() {
            command.stdout(Stdio::from(self.theirs.try_clone()?));
        }
        command.stderr(Stdio::from(self.theirs.try_clone()?));
        Ok(())
    }

    /// Returns when everything that was written so far is shown.
    pub(crate) fn settle(&self) {
        let mut answer = [0];
        let asked =
            (&self.settle).write_all(&[0]).and_then(|()| (&self.settle).read_exact(&mut answer));
        // A thread that has ended has shown what it could.
        drop(asked);
    }
}

/// The thread that copies.
struct Copy {
    ours: OwnedFd,
    asked: UnixStream,
    console: Console,
    /// The beginning of a line.
    line: Vec<u8>,
    size: Option<(u16, u16)>,
}

impl Copy {
    fn run(&mut self) {
        loop {
            let patience = Timespec { tv_sec: PARTIAL_LINE_S, tv_nsec: 0 };
            let mut polled =
                [PollFd::new(&self.ours, PollFlags::IN), PollFd::new(&self.asked, PollFlags::IN)];
            let ready = rustix::event::poll(&mut polled, Some(&patience));
            let [written, asked] = polled.map(|one| one.revents());
            self.follow_size();
            match ready {
                Ok(0) => self.flush(),
                Ok(_) if !written.is_empty() => {
                    if !self.copy_some() {
                        return;
                    }
                }
                Ok(_) if !asked.is_empty() => {
                    // Only when nothing is left to be copied.
                    self.flush();
                    let mut question = [0];
                    let taken = (&self.asked).read_exact(&mut question);
                    if taken.and_then(|()| (&self.asked).write_all(&question)).is_err() {
                        return;
                    }
                }
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    fn copy_some(&mut self) -> bool {
        let mut bytes = [0; 16 * 1024];
        let read = match rustix::io::read(&self.ours, &mut bytes) {
            Ok(0) | Err(_) => return false,
            Ok(read) => &bytes[..read],
        };
        match read.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => {
                self.line.extend_from_slice(&read[..=end]);
                self.flush();
                self.line.extend_from_slice(&read[end + 1..]);
            }
            None => self.line.extend_from_slice(read),
        }
        true
    }

    fn flush(&mut self) {
        if !self.line.is_empty() {
            self.console.print(&self.line);
            self.line.clear();
        }
    }

    fn follow_size(&mut self) {
        let Ok(size) = tcgetwinsize(io::stderr()) else { return };
        let seen = Some((size.ws_row, size.ws_col));
        if self.size != seen {
            self.size = seen;
            let size = Winsize { ws_row: size.ws_row, ws_col: size.ws_col, ..size };
            // A program then sees the old size.
            let _ = tcsetwinsize(self.ours.as_fd(), size);
        }
    }
}
