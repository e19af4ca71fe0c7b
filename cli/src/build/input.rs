//! The standard input of a build that may be taken back to its start.
//!
//! What a program has read from a file can be read again. What was typed, or came through a pipe,
//! cannot: as soon as there is any, the build stops running ahead.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{FileType, SeekFrom};

/// See the module's description. The watch ends when this is dropped.
#[derive(Debug)]
pub(super) struct Input {
    /// How far a file has been read.
    offset: Option<u64>,
    _watch: Option<UnixStream>,
}

impl Input {
    /// Remembers where the input is.
    pub(super) fn at_start() -> Self {
        Self { offset: rustix::fs::tell(io::stdin()).ok(), _watch: None }
    }

    /// Goes back to where it was.
    pub(super) fn rewind(&self) {
        if let Some(offset) = self.offset {
            // It worked when it was asked for its place.
            let _ = rustix::fs::seek(io::stdin(), SeekFrom::Start(offset));
        }
    }

    /// Calls `arrived` once there is something that could be read, if it could be read only once.
    pub(super) fn watch(arrived: impl FnOnce() + Send + 'static) -> Self {
        let none = Self { offset: None, _watch: None };
        let kind =
            rustix::fs::fstat(io::stdin()).map(|found| FileType::from_raw_mode(found.st_mode));
        let is_terminal = io::IsTerminal::is_terminal(&io::stdin());
        if !is_terminal && !matches!(kind, Ok(FileType::Fifo | FileType::Socket)) {
            return none;
        }
        let Ok((ours, theirs)) = UnixStream::pair() else { return none };
        let wait = move || {
            if has_input_before(&theirs) {
                arrived();
            }
        };
        let thread = std::thread::Builder::new().name("mesh-input".to_owned()).spawn(wait);
        match thread {
            Ok(_) => Self { _watch: Some(ours), ..none },
            Err(_) => none,
        }
    }
}

/// Does input come before the other end of this closes?
fn has_input_before(end: &UnixStream) -> bool {
    let stdin = io::stdin();
    loop {
        let mut polled = [
            PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN),
            PollFd::new(end, PollFlags::IN),
        ];
        match rustix::event::poll(&mut polled, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return false,
        }
        let [input, end] = polled.map(|one| one.revents());
        if !end.is_empty() {
            return false;
        }
        // Closed without anything: its end can be read again.
        return input.contains(PollFlags::IN);
    }
}
