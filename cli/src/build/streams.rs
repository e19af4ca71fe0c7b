//! Where a call's diagnostics go when its compiler has run long after the call was answered.

use std::fs::{File, Metadata};
use std::io::{IsTerminal, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use super::wire::Streams;
use crate::ui::Console;

/// A caller's standard output and error, and what to do about them.
#[derive(Debug)]
pub(crate) struct Diagnostics {
    stdout: Sink,
    stderr: Sink,
    /// Do colours make sense there?
    pub(crate) is_terminal: bool,
    /// The caller looks at the exit status, or its file has to hold the words when it returns.
    pub(crate) must_wait: bool,
}

/// One stream of a call.
#[derive(Debug)]
enum Sink {
    /// What we write to ourselves.
    Console,
    /// Nobody reads it.
    Nobody,
    /// Held open, so that whoever reads the other end waits for what is still to come.
    Held(File),
}

/// What a stream leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Ours,
    Null,
    Pipe,
    Deleted,
    File,
    Other,
}

impl Diagnostics {
    /// Looks at the streams of a call. `own`: what we write to ourselves. `drained_by_caller`: whoever started the call reads its
    /// pipes to their end before it goes on, as ninja does, so they must not be held.
    pub(crate) fn of(
        streams: Streams,
        own: &OwnStreams,
        drained_by_caller: impl Fn() -> bool,
    ) -> Self {
        let [_, stdout, stderr] = streams;
        let is_terminal = stderr.is_terminal();
        let (out, err) = (kind(&stdout, own), kind(&stderr, own));
        let drained = [out, err].contains(&Kind::Pipe) && drained_by_caller();
        Self {
            stdout: sink(stdout, out, drained),
            stderr: sink(stderr, err, drained),
            is_terminal,
            // Words that are thrown away belong to a question: what counts is the exit status.
            must_wait: matches!(err, Kind::File | Kind::Null),
        }
    }

    /// Forgets the caller's streams: what is still to come goes to ours.
    pub(crate) fn detach(&mut self) {
        (self.stdout, self.stderr) = (Sink::Console, Sink::Console);
        self.must_wait = false;
    }

    /// Writes what the tool wrote, each stream in one piece. A reader that has gone is its own
    /// business.
    pub(crate) fn write(self, stdout: &[u8], stderr: &[u8], console: &Console) {
        match self.stderr {
            Sink::Console if !stderr.is_empty() => console.print(stderr),
            Sink::Held(mut file) => drop(file.write_all(stderr)),
            _ => {}
        }
        match self.stdout {
            Sink::Console if !stdout.is_empty() => {
                drop(console.aside(|| std::io::stdout().lock().write_all(stdout)));
            }
            Sink::Held(mut file) => drop(file.write_all(stdout)),
            _ => {}
        }
    }
}

fn sink(stream: OwnedFd, kind: Kind, drained: bool) -> Sink {
    match kind {
        // `make -O` collects a command's words in a file without a name.
        Kind::Ours | Kind::Deleted => Sink::Console,
        Kind::Pipe if drained => Sink::Console,
        Kind::Null => Sink::Nobody,
        Kind::Pipe | Kind::File | Kind::Other => Sink::Held(File::from(stream)),
    }
}

fn kind(stream: &OwnedFd, own: &OwnStreams) -> Kind {
    let Ok(theirs) = metadata_of(stream) else { return Kind::Null };
    if own.0.contains(&(theirs.dev(), theirs.ino())) {
        return Kind::Ours;
    }
    let kind = theirs.file_type();
    match () {
        () if kind.is_char_device() && is_null(&theirs) => Kind::Null,
        () if kind.is_fifo() || kind.is_socket() => Kind::Pipe,
        () if kind.is_file() && theirs.nlink() == 0 => Kind::Deleted,
        () if kind.is_file() => Kind::File,
        () => Kind::Other,
    }
}

/// The files that we write to ourselves: standard output and error, and the build's terminal.
#[derive(Clone, Debug)]
pub(crate) struct OwnStreams(Vec<(u64, u64)>);

impl OwnStreams {
    pub(crate) fn new(terminal: Option<&File>) -> Self {
        let standard = [metadata_of(&std::io::stdout()), metadata_of(&std::io::stderr())];
        let all = standard.into_iter().chain(terminal.map(File::metadata)).flatten();
        Self(all.map(|metadata| (metadata.dev(), metadata.ino())).collect())
    }
}

fn metadata_of(stream: &impl std::os::fd::AsFd) -> std::io::Result<Metadata> {
    File::from(stream.as_fd().try_clone_to_owned()?).metadata()
}

fn is_null(metadata: &Metadata) -> bool {
    std::fs::metadata("/dev/null").is_ok_and(|null| null.rdev() == metadata.rdev())
}
