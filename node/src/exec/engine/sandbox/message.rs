//! What engine, launcher and a job's first process say to each other.
//!
//! All three are the same program, so the encoding needs no versions; it is bounded like any
//! other. Messages travel over sequenced-packet sockets, file descriptors beside them; the work
//! order, which may be large, lies in a memory file of its own with the small files behind it.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use mesh_protocol::codec::{self, CodecError, Format};
use mesh_protocol::limits;
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::exec::Excess;

/// File descriptors beside one message; the kernel takes 253.
pub(super) const FDS_PER_MESSAGE: usize = 64;

const MESSAGE: Format =
    Format { magic: *b"\x89MSBMSG\x01", bytes_max: limits::SANDBOX_MESSAGE_BYTES as u64 };
const ORDER: Format = Format { magic: *b"\x89MSBORD\x01", bytes_max: limits::SANDBOX_ORDER_BYTES };

/// Why a step on the way into the sandbox did not work.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{step}: {}", std::io::Error::from_raw_os_error(*.errno))]
pub(super) struct StepError {
    pub(super) step: String,
    pub(super) errno: i32,
}

/// Names the step that a system call belongs to.
pub(super) trait Step<T> {
    fn step(self, step: impl Into<String>) -> Result<T, StepError>;
    fn step_at(self, step: &str, path: &str) -> Result<T, StepError>;
}

impl<T, E: Into<std::io::Error>> Step<T> for Result<T, E> {
    fn step(self, step: impl Into<String>) -> Result<T, StepError> {
        self.map_err(|error| StepError {
            step: step.into(),
            errno: error.into().raw_os_error().unwrap_or(Errno::IO.raw_os_error()),
        })
    }

    fn step_at(self, step: &str, path: &str) -> Result<T, StepError> {
        // The text is made for failures only: this runs for every small file.
        match self {
            Ok(value) => Ok(value),
            Err(error) => Err(error).step(format!("{step} {path}")),
        }
    }
}

/// Engine to launcher, once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Setup {
    /// The store's root.
    pub(super) store: String,
    /// May control groups be used?
    pub(super) control_groups: bool,
    /// How far jobs stand back.
    pub(super) nice: u8,
    /// The most that a sandbox's own files may take.
    pub(super) files_bytes: u64,
    /// The most memory that all jobs together may take.
    pub(super) memory_bytes: Option<u64>,
    /// For how many jobs first processes are made ahead.
    pub(super) ready: u32,
}

/// Launcher to engine, once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Ready {
    /// Jobs can come.
    Yes {
        /// Which bounds are kept by control groups.
        control_groups: Vec<String>,
    },
    /// They cannot.
    No(StepError),
}

/// About one job, to the engine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Event {
    /// The first process exists; its process descriptor comes along.
    Started,
    /// It could not be made, or could not make the sandbox.
    Failed(StepError),
    /// The program has ended, and so has everything it left behind.
    Ended(Ended),
    /// The first process itself was killed for want of memory.
    Overwhelmed(OutOfMemory),
    /// The outputs are too large. None of them comes.
    Excess(Excess),
    /// Outputs, by index; the descriptors come along in the same order.
    Outputs {
        found: Vec<u32>,
        /// Are there no more?
        last: bool,
    },
}

/// How a program ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Ended {
    /// As `wait` gives it.
    pub(super) status: i32,
    /// Did a process end because there was no more memory?
    pub(super) out_of_memory: OutOfMemory,
    pub(super) cpu_us: u64,
    pub(super) memory_peak_bytes: u64,
}

/// Was there memory enough?
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum OutOfMemory {
    /// It was.
    No,
    /// The job wanted more than its thunk allows it.
    AtItsBound,
    /// There was no more for all jobs together, or on the machine.
    BelowItsBound,
}

/// What the first process of a job has to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) layers: Vec<LayerOrder>,
    pub(super) mounts: Vec<(String, MountOrder)>,
    pub(super) executable: String,
    pub(super) arguments: Vec<String>,
    pub(super) environment: Vec<String>,
    pub(super) working_directory: String,
    pub(super) outputs: Vec<String>,
    /// What it reads on standard input: a file of the store.
    pub(super) stdin: Option<String>,
    /// The bound of the thunk.
    pub(super) memory_bytes: Option<u64>,
    /// The bound where no control group keeps one.
    pub(super) watched_bytes: Option<u64>,
    /// The most that its files may take.
    pub(super) files_bytes: u64,
    /// The most that its outputs may come to, holes in files included.
    pub(super) outputs_bytes: u64,
    pub(super) processes: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct LayerOrder {
    /// Relative to the new root; empty for the root itself.
    pub(super) at: String,
    /// Directories of the store, upper ones first.
    pub(super) lower: Vec<String>,
    pub(super) entries: Vec<(String, EntryOrder)>,
    pub(super) writable: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum EntryOrder {
    Directory {
        mode: u32,
    },
    /// Bytes of the order's memory file, from behind the order on.
    Packed {
        mode: u32,
        offset: u64,
        length: u64,
    },
    /// A copy of a file of the store.
    Stored {
        mode: u32,
        path: String,
    },
    Symlink(String),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum MountOrder {
    Overlay(u32),
    Writable,
    /// A file or directory of the store, read-only.
    Bind(String),
    Devices,
    Processes,
}

fn invalid<E>(_: E) -> Errno {
    Errno::BADMSG
}

/// Two ends of a socket that keeps messages apart.
pub(super) fn socket_pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    let flags = SocketFlags::CLOEXEC;
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
}

/// Sends one message with descriptors.
pub(super) fn send<T: Serialize>(
    socket: impl AsFd,
    message: &T,
    fds: &[BorrowedFd<'_>],
) -> Result<(), Errno> {
    let bytes = codec::encode(MESSAGE, message).map_err(invalid)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_PER_MESSAGE))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::MSGSIZE);
    }
    let slices = [IoSlice::new(&bytes)];
    rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(&socket, &slices, &mut ancillary, SendFlags::NOSIGNAL)
    })?;
    Ok(())
}

/// Receives one message; none when the other end is closed.
pub(super) fn receive<T: Serialize + DeserializeOwned>(
    socket: impl AsFd,
) -> Result<Option<(T, Vec<OwnedFd>)>, Errno> {
    let mut bytes = vec![0; limits::SANDBOX_MESSAGE_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_PER_MESSAGE))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        let mut slices = [IoSliceMut::new(&mut bytes)];
        rustix::net::recvmsg(&socket, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    });
    let received = match received {
        Ok(received) => received,
        Err(Errno::CONNRESET) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(Errno::MSGSIZE);
    }
    let message = codec::decode(MESSAGE, &bytes[..received.bytes]).map_err(invalid)?;
    Ok(Some((message, fds)))
}

/// The encoding of an order; an error if it is too long.
pub(super) fn encode_order(order: &Order) -> Result<Vec<u8>, CodecError> {
    codec::encode(ORDER, order)
}

/// Puts an encoded order and the small files behind it into a memory file.
pub(super) fn write_order(order: &[u8], packed: &[impl AsRef<[u8]>]) -> std::io::Result<OwnedFd> {
    let fd = rustix::fs::memfd_create("mesh-order", MemfdFlags::CLOEXEC)?;
    let mut file = std::io::BufWriter::with_capacity(256 * 1024, File::from(fd));
    file.write_all(&(order.len() as u64).to_le_bytes())?;
    file.write_all(order)?;
    for piece in packed {
        file.write_all(piece.as_ref())?;
    }
    let mut file = file.into_inner().map_err(|error| error.into_error())?;
    file.rewind()?;
    Ok(file.into())
}

/// Reads the order; what follows in the file are the small files.
pub(super) fn read_order(file: &mut File) -> Result<Order, Errno> {
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(invalid)?;
    let length = u64::from_le_bytes(length);
    if length > limits::SANDBOX_ORDER_BYTES {
        return Err(Errno::FBIG);
    }
    let mut bytes = Vec::new();
    Read::by_ref(file).take(length).read_to_end(&mut bytes).map_err(invalid)?;
    codec::decode(ORDER, &bytes).map_err(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_carry_descriptors_and_end() {
        let (near, far) = socket_pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        send(&near, &Event::Started, &[file.as_fd()]).unwrap();
        drop(near);
        let (event, fds) = receive::<Event>(&far).unwrap().unwrap();
        assert!(matches!(event, Event::Started));
        assert_eq!(fds.len(), 1);
        assert!(receive::<Event>(&far).unwrap().is_none());
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let (near, far) = socket_pair().unwrap();
        rustix::net::send(&near, b"nonsense", SendFlags::empty()).unwrap();
        assert_eq!(receive::<Event>(&far).unwrap_err(), Errno::BADMSG);
    }
}
