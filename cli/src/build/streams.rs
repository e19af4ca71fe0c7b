//! Where a call's words go, and whether anybody could be waiting for them.

use std::io::IsTerminal;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use super::wire::Streams;
use super::words::{Stream, Words, metadata_of};

/// Where a tool's standard output and error go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Destination {
    stdout: Option<Stream>,
    stderr: Option<Stream>,
}

/// How a tool's words are handed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Manner {
    /// Colours that nobody asked for are taken out.
    pub(crate) strip_colour: bool,
    /// Standard output and error lead to one place. The order of what was written does not show
    /// afterwards, so that a tool that writes on both runs here.
    pub(crate) is_one: bool,
}

/// A caller's standard output and error.
#[derive(Debug)]
pub(crate) struct Diagnostics {
    pub(crate) words: Destination,
    /// Both lead to one place, where somebody may read them.
    pub(crate) is_one: bool,
    /// Do colours make sense there?
    pub(crate) is_terminal: bool,
    /// Somebody reads them who may wait for their end: they have to be there when the call returns.
    pub(crate) must_wait: bool,
}

/// What a stream leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// The same as one of the build's own.
    Own(Stream),
    Null,
    Other,
}

impl Diagnostics {
    /// Looks at the streams of a call.
    pub(crate) fn of(streams: &Streams, words: &Words) -> Self {
        let [_, stdout, stderr] = streams;
        let kind = |stream| match metadata_of(stream) {
            Ok(found) => match words.stream_to(&found) {
                Some(own) => Kind::Own(own),
                None if found.file_type().is_char_device() && is_null(found.rdev()) => Kind::Null,
                None => Kind::Other,
            },
            // Closed: nobody reads it.
            Err(_) => Kind::Null,
        };
        let (out, err) = (kind(stdout), kind(stderr));
        let inode = |stream| metadata_of(stream).ok().map(|found| (found.dev(), found.ino()));
        let own = |kind| match kind {
            Kind::Own(stream) => Some(stream),
            _ => None,
        };
        Self {
            words: Destination { stdout: own(out), stderr: own(err) },
            is_one: out != Kind::Null && inode(stdout) == inode(stderr),
            is_terminal: stderr.is_terminal(),
            // Errors that are thrown away belong to a question: what counts is the exit status.
            must_wait: out == Kind::Other || !matches!(err, Kind::Own(_)),
        }
    }
}

impl Destination {
    /// Our own streams, whatever the caller's are.
    pub(crate) const OWN: Self = Self { stdout: Some(Stream::Out), stderr: Some(Stream::Err) };

    /// What a tool wrote, with the streams that it goes to; a compiler's errors come first.
    pub(crate) fn address(self, stdout: Vec<u8>, stderr: Vec<u8>) -> Vec<(Stream, Vec<u8>)> {
        let all = [(self.stderr, stderr), (self.stdout, stdout)].into_iter();
        all.filter_map(|(stream, bytes)| Some((stream?, bytes))).collect()
    }
}

fn is_null(device: u64) -> bool {
    std::fs::metadata("/dev/null").is_ok_and(|null| null.rdev() == device)
}
