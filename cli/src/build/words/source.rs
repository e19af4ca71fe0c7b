//! Where a build writes in place of our streams, and where we read it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::OFlags;
use rustix::pipe::PipeFlags;
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, Winsize, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use super::{Cover, Stream, are_terminals, is_same, leads_somewhere};

/// The end that we read; it never blocks.
#[derive(Debug)]
pub(super) struct Source {
    end: OwnedFd,
    /// Where it goes.
    pub(super) stream: Stream,
    /// Lines are kept whole, because other things are shown on the same terminal.
    pub(super) is_terminal: bool,
    /// Rows and columns that the build sees.
    size: Mutex<Option<(u16, u16)>>,
}

/// What the build writes to, with the ends that we read.
#[derive(Debug, Default)]
pub(super) struct Ends {
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
    pub(super) sources: Vec<Arc<Source>>,
}

/// Opens a substitute for each of our streams that is to be covered.
pub(super) fn open(cover: Cover, is_live: bool) -> io::Result<Ends> {
    let mut ends = Ends::default();
    if cover == Cover::LiveTerminal && !is_live {
        return Ok(ends);
    }
    let (stdout, stderr) = are_terminals();
    if stdout || stderr {
        let theirs = ends.terminal()?;
        if stdout {
            ends.stdout = Some(theirs.try_clone()?);
        }
        if stderr {
            ends.stderr = Some(theirs);
        }
    }
    if cover == Cover::All {
        let shared = is_same(&io::stdout(), &io::stderr());
        if !stdout && leads_somewhere(&io::stdout()) {
            let theirs = ends.pipe(Stream::Out)?;
            if shared {
                ends.stderr = Some(theirs.try_clone()?);
            }
            ends.stdout = Some(theirs);
        }
        if !stderr && !shared && leads_somewhere(&io::stderr()) {
            ends.stderr = Some(ends.pipe(Stream::Err)?);
        }
    }
    Ok(ends)
}

impl Ends {
    /// What the build writes to, with where that is shown.
    pub(super) fn given(&self) -> impl Iterator<Item = (&OwnedFd, Stream)> {
        let (stdout, stderr) = are_terminals();
        let shared = !stderr && is_same(&io::stdout(), &io::stderr());
        let out = if stdout && stderr { Stream::Err } else { Stream::Out };
        let err = if shared { Stream::Out } else { Stream::Err };
        let out = self.stdout.as_ref().map(|end| (end, out));
        out.into_iter().chain(self.stderr.as_ref().map(|end| (end, err)))
    }

    fn pipe(&mut self, stream: Stream) -> io::Result<OwnedFd> {
        let (ours, theirs) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        rustix::fs::fcntl_setfl(&ours, OFlags::NONBLOCK)?;
        self.add(Source { end: ours, stream, is_terminal: false, size: Mutex::new(None) });
        Ok(theirs)
    }

    fn terminal(&mut self) -> io::Result<OwnedFd> {
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
        rustix::fs::fcntl_setfl(&ours, OFlags::NONBLOCK)?;
        let (_, stderr) = are_terminals();
        let stream = if stderr { Stream::Err } else { Stream::Out };
        let source = Source { end: ours, stream, is_terminal: true, size: Mutex::new(None) };
        source.follow_size();
        self.add(source);
        Ok(theirs)
    }

    fn add(&mut self, source: Source) {
        self.sources.push(Arc::new(source));
    }
}

impl Source {
    /// Gives a terminal of the build the size of ours.
    pub(super) fn follow_size(&self) {
        if !self.is_terminal {
            return;
        }
        let Ok(size) = tcgetwinsize(io::stderr()).or_else(|_| tcgetwinsize(io::stdout())) else {
            return;
        };
        let mut known = self.size.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = Some((size.ws_row, size.ws_col));
        if *known != seen {
            *known = seen;
            let size = Winsize { ws_row: size.ws_row, ws_col: size.ws_col, ..size };
            // A program then sees the old size.
            let _ = tcsetwinsize(self.end.as_fd(), size);
        }
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }
}
