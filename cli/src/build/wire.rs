//! What an interposed tool and the supervisor say to each other, over a Unix socket.
//!
//! One call is one connection: a request with the caller's standard streams attached, then an
//! answer, in the format of [`frame`]. A program of the build could connect as well, so lengths are
//! bounded before memory is given.

use std::collections::BTreeMap;
use std::io::{self, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use mesh_cli::frontend::Frontends;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use frame::{ANSWER_HEAD, DONE, MAGIC, REQUEST_HEAD, SCRUBBED, TOOL, WATCHED_TOOL};

// The interposer has the same file.
#[path = "../../interposer/frame.rs"]
pub(crate) mod frame;

/// Linux gives a program at most 6 MiB of arguments and environment (3/4 of the largest stack that
/// exec takes into account).
const REQUEST_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// One call of a tool.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Request {
    /// `argv`, as the tool was called.
    pub(crate) arguments: Vec<String>,
    /// The tool's own file, without symbolic links, if the interposer is bound over it.
    pub(crate) file: Option<String>,
    /// Where.
    pub(crate) working_directory: String,
    /// Its whole environment.
    pub(crate) environment: BTreeMap<String, String>,
    /// Which permission bits it takes away from files that it makes.
    pub(crate) umask: u32,
}

/// What the interposed tool is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// The tool need not run.
    Done(Done),
    /// Become the real tool.
    Tool(RealTool),
}

/// What to write, and to exit with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Done {
    /// For standard output.
    pub(crate) stdout: Vec<u8>,
    /// For standard error.
    pub(crate) stderr: Vec<u8>,
    /// The exit status.
    pub(crate) status: u8,
}

/// How the real tool is called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RealTool {
    /// Where the caller can execute it.
    pub(crate) file: PathBuf,
    /// Its `argv[0]`; if none, the caller's.
    pub(crate) name: Option<String>,
    /// Unless what it starts is to be interposed.
    pub(crate) scrub: Option<Scrub>,
    /// Run it, and report its exit status in one byte.
    pub(crate) is_watched: bool,
}

/// What a tool's environment has to be for the tools that it starts not to be interposed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Scrub {
    /// Its `PATH`, if it is to have another.
    pub(crate) path: Option<String>,
}

/// The caller's standard input, output and error.
pub(crate) type Streams = [OwnedFd; 3];

/// Takes a request; `None` if the other end closed without one.
pub(crate) fn receive_request(socket: &UnixStream) -> io::Result<Option<(Request, Streams)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut head = [0; REQUEST_HEAD];
    let read = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut head)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC | RecvFlags::WAITALL,
    )?;
    if read.bytes == 0 {
        return Ok(None);
    }
    let streams: Vec<OwnedFd> = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    let streams = Streams::try_from(streams).map_err(|_| malformed("three streams are missing"))?;
    if read.bytes < head.len() {
        return Err(malformed("the request ends early"));
    }
    Ok(Some((read_request(&mut &*socket, &head)?, streams)))
}

fn read_request(socket: &mut dyn Read, head: &[u8; REQUEST_HEAD]) -> io::Result<Request> {
    let numbers = head.strip_prefix(&MAGIC).ok_or_else(|| malformed("it is no request"))?;
    let mut numbers = numbers.as_chunks().0.iter().copied().map(u32::from_le_bytes);
    let mut next = || numbers.next().unwrap_or(0);
    let lengths = [next(), next(), next(), next()];
    let (count, umask) = (next() as usize, next());
    let length: u64 = lengths.iter().copied().map(u64::from).sum();
    if length > REQUEST_BYTES_MAX {
        return Err(malformed("a longer message than is allowed"));
    }
    let mut body = String::new();
    // What is not UTF-8 is refused here: the real tool knows what to do with it.
    if socket.take(length).read_to_string(&mut body)? as u64 != length {
        return Err(malformed("the request ends early"));
    }
    let mut rest = body.as_str();
    let mut parts = lengths.into_iter().map(|length| {
        let (part, after) = rest.split_at_checked(length as usize)?;
        rest = after;
        Some(part)
    });
    let mut part = || parts.next().flatten().ok_or_else(|| malformed("a letter is split"));
    let (arguments, variables, directory, file) = (part()?, part()?, part()?, part()?);
    let arguments: Vec<String> = texts(arguments).map(str::to_owned).collect();
    if arguments.len() != count {
        return Err(malformed("another number of arguments than it says"));
    }
    // The first letter may be one of a name in any case, as std::env has it.
    let variables = texts(variables).filter_map(|text| {
        let at = text.char_indices().skip(1).find(|(_, letter)| *letter == '=')?.0;
        Some((text[..at].to_owned(), text[at + 1..].to_owned()))
    });
    let is_bound = Path::new(file).file_name().and_then(|name| name.to_str());
    Ok(Request {
        arguments,
        file: is_bound.is_some_and(Frontends::is_modelled).then(|| file.to_owned()),
        working_directory: directory.to_owned(),
        environment: variables.collect(),
        umask,
    })
}

/// Texts that each end with a zero byte.
fn texts(block: &str) -> impl Iterator<Item = &str> {
    block.split_terminator('\0')
}

/// Sends an answer.
pub(crate) fn send_answer(mut socket: impl Write, answer: &Answer) -> io::Result<()> {
    let (kind, status, [first, second]) = match answer {
        Answer::Done(Done { stdout, stderr, status }) => (DONE, *status, [stdout, stderr]),
        Answer::Tool(tool) => {
            let kind = if tool.is_watched { WATCHED_TOOL } else { TOOL };
            let status = if tool.scrub.is_some() { SCRUBBED } else { 0 };
            (kind, status, [&tool.words()?, &Vec::new()])
        }
    };
    let mut message = Vec::with_capacity(ANSWER_HEAD + first.len() + second.len());
    message.extend([kind, status, 0, 0]);
    for part in [first, second] {
        message.extend(u32::try_from(part.len()).map_err(malformed)?.to_le_bytes());
    }
    message.extend(first);
    message.extend(second);
    socket.write_all(&message)
}

impl RealTool {
    fn words(&self) -> io::Result<Vec<u8>> {
        let file = self.file.to_str().ok_or_else(|| malformed("a path that is not UTF-8"))?;
        let path = self.scrub.as_ref().and_then(|scrub| scrub.path.as_ref());
        let path = path.map(|path| format!("PATH={path}"));
        let words = [file, self.name.as_deref().unwrap_or(""), path.as_deref().unwrap_or("")];
        Ok(words.map(|word| format!("{word}\0")).concat().into_bytes())
    }
}

fn malformed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

    /// What [`receive_request`] makes of these bytes, with streams or without.
    fn received(bytes: &[u8], with_streams: bool) -> io::Result<Option<(Request, Streams)>> {
        let (mut caller, supervisor) = UnixStream::pair().unwrap();
        let null = File::open("/dev/null").unwrap();
        let streams = [null.as_fd(); 3];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if with_streams {
            ancillary.push(SendAncillaryMessage::ScmRights(&streams));
        }
        let (head, rest) = bytes.split_at(REQUEST_HEAD.min(bytes.len()));
        let parts = [std::io::IoSlice::new(head)];
        sendmsg(&caller, &parts, &mut ancillary, SendFlags::NOSIGNAL).unwrap();
        caller.write_all(rest).unwrap();
        drop(caller);
        receive_request(&supervisor)
    }

    fn bytes(numbers: [u32; 6], words: &[u8]) -> Vec<u8> {
        let numbers = numbers.map(u32::to_le_bytes);
        [&MAGIC[..], numbers.as_flattened(), words].concat()
    }

    #[test]
    fn variables_as_the_standard_library_has_them() {
        let words = b"gcc\0-c\0A=1\0=B=2\0A=3\0none\0/tmp/usr/bin/gcc-12";
        let (request, _) = received(&bytes([7, 18, 4, 15, 2, 0o22], words), true).unwrap().unwrap();
        assert_eq!(request.arguments, ["gcc", "-c"]);
        let environment = [("A", "3"), ("=B", "2")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(request.environment, BTreeMap::from(environment));
        assert_eq!(request.working_directory, "/tmp");
        assert_eq!(request.file.as_deref(), Some("/usr/bin/gcc-12"));
        assert_eq!(request.umask, 0o22);
    }

    #[test]
    fn what_is_no_call_is_refused_without_memory() {
        let right = [4, 0, 1, 0, 1, 0];
        assert!(received(&bytes(right, b"gcc\0/"), true).is_ok());
        for (numbers, words, with_streams) in [
            (right, &b"gcc\0/"[..], false),
            ([u32::MAX, u32::MAX, 0, 0, 0, 0], b"", true),
            (right, b"gcc", true),
            (right, b"g\xffc\0/", true),
            ([4, 0, 1, 0, 2, 0], b"gcc\0/", true),
            ([1, 3, 1, 0, 1, 0], "\u{e9}c\0/".as_bytes(), true),
        ] {
            assert!(received(&bytes(numbers, words), with_streams).is_err(), "{numbers:?}");
        }
        assert!(received(b"something else, and as long as a head is", true).is_err());
        assert!(received(b"short", true).is_err());
        let (caller, supervisor) = UnixStream::pair().unwrap();
        drop(caller);
        assert!(receive_request(&supervisor).unwrap().is_none());
    }
}
