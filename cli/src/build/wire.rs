//! What an interposed tool and the supervisor say to each other, over a Unix socket.
//!
//! One call is one connection: a request with the caller's standard streams attached, then a
//! reply. Frames are a length (u32 LE) and a canonical encoding. Both ends are the same binary of
//! the same user, but a program of the build could connect as well, so lengths are bounded before
//! memory is given.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use mesh_protocol::codec::{self, Format};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Linux gives a program at most 6 MiB of arguments and environment (3/4 of the largest stack that
/// exec takes into account).
const REQUEST: Format = Format { magic: *b"\x89MCALL\0\x02", bytes_max: 8 * 1024 * 1024 };

/// What a tool wrote, twice [`mesh_protocol::limits::STREAM_BYTES`], and a little.
const REPLY: Format = Format { magic: *b"\x89MDONE\0\x01", bytes_max: 33 * 1024 * 1024 };

/// One call of a tool.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    /// `argv`, as the tool was called.
    pub(crate) arguments: Vec<String>,
    /// The tool's own file, without symbolic links, where it is known.
    pub(crate) file: Option<String>,
    /// Where.
    pub(crate) working_directory: String,
    /// Its whole environment.
    pub(crate) environment: BTreeMap<String, String>,
    /// Which permission bits it takes away from files that it makes.
    pub(crate) umask: u32,
}

/// What the interposed tool is to do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// Write this and exit with that status.
    Done {
        /// For standard output.
        stdout: Vec<u8>,
        /// For standard error.
        stderr: Vec<u8>,
        /// The exit status.
        status: u8,
    },
    /// Become the real tool: the program at this path.
    Local(String),
    /// Run the real tool, and report its exit status in one byte.
    Report(String),
}

/// The caller's standard input, output and error.
pub(crate) type Streams = [OwnedFd; 3];

/// Sends a request with three streams.
pub(crate) fn send_request(
    socket: &UnixStream,
    request: &Request,
    streams: [BorrowedFd<'_>; 3],
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&streams));
    let frame = frame(REQUEST, request)?;
    let sent = sendmsg(socket, &[IoSlice::new(&frame)], &mut ancillary, SendFlags::NOSIGNAL)?;
    (&mut &*socket).write_all(&frame[sent..])
}

/// Takes a request; `None` if the other end closed without one.
pub(crate) fn receive_request(socket: &UnixStream) -> io::Result<Option<(Request, Streams)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut length = [0; 4];
    let read = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut length)],
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
    if read.bytes < length.len() {
        return Err(malformed("the request ends early"));
    }
    let body = read_body(&mut &*socket, REQUEST, length)?;
    Ok(Some((body, streams)))
}

/// Sends a reply.
pub(crate) fn send_reply(mut socket: impl Write, reply: &Reply) -> io::Result<()> {
    socket.write_all(&frame(REPLY, reply)?)
}

/// Waits for the reply.
pub(crate) fn receive_reply(mut socket: impl Read) -> io::Result<Reply> {
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    read_body(&mut socket, REPLY, length)
}

fn frame<T: Serialize>(format: Format, value: &T) -> io::Result<Vec<u8>> {
    let body = codec::encode(format, value).map_err(malformed)?;
    // The format's bound fits.
    let length = u32::try_from(body.len()).map_err(malformed)?;
    Ok([&length.to_le_bytes(), body.as_slice()].concat())
}

fn read_body<T: Serialize + DeserializeOwned>(
    socket: &mut dyn Read,
    format: Format,
    length: [u8; 4],
) -> io::Result<T> {
    let length = u64::from(u32::from_le_bytes(length));
    if length > format.bytes_max {
        return Err(malformed("a longer message than is allowed"));
    }
    let mut body = Vec::new();
    socket.take(length).read_to_end(&mut body)?;
    codec::decode(format, &body).map_err(malformed)
}

fn malformed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// The three standard streams of this process.
pub(crate) fn standard_streams<'a>(
    stdin: &'a io::Stdin,
    stdout: &'a io::Stdout,
    stderr: &'a io::Stderr,
) -> [BorrowedFd<'a>; 3] {
    [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn request() -> Request {
        Request {
            arguments: vec!["gcc".into(), "-c".into(), "a b.c".into()],
            file: Some("/usr/bin/gcc-12".into()),
            working_directory: "/tmp".into(),
            // Larger than a socket's buffer.
            environment: BTreeMap::from([("BIG".into(), "x".repeat(1_000_000))]),
            umask: 0o022,
        }
    }

    #[test]
    fn a_call_and_its_answer() {
        let (caller, supervisor) = UnixStream::pair().unwrap();
        let (mut theirs, ours) = io::pipe().unwrap();
        let null = File::open("/dev/null").unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                send_request(&caller, &request(), [null.as_fd(), ours.as_fd(), null.as_fd()])
                    .unwrap();
                drop(ours);
            });
            let (received, [_, stdout, _]) = receive_request(&supervisor).unwrap().unwrap();
            assert_eq!(received, request());
            File::from(stdout).write_all(b"through their own stream").unwrap();
        });
        let mut text = String::new();
        theirs.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through their own stream");
        let reply = Reply::Done { stdout: vec![], stderr: b"warning".to_vec(), status: 3 };
        send_reply(&supervisor, &reply).unwrap();
        assert_eq!(receive_reply(&caller).unwrap(), reply);
    }

    #[test]
    fn what_is_no_call_is_refused_without_memory() {
        let (mut caller, supervisor) = UnixStream::pair().unwrap();
        caller.write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert!(receive_request(&supervisor).is_err(), "no streams");
        caller.write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert!(receive_reply(&supervisor).is_err(), "too long");
        let (caller, supervisor) = UnixStream::pair().unwrap();
        drop(caller);
        assert!(receive_request(&supervisor).unwrap().is_none());
    }
}
