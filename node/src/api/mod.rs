//! What the node of a home and the commands of its owner say to each other, over a Unix socket.
//!
//! One question is one connection: a request, then a reply. Frames are a length (u32 LE) and a canonical
//! encoding, bounded before memory is given. Nobody but the owner of the home can connect.
//!
//! A node outlives the command that started it, so a command may meet a node of another version: all messages
//! on the socket, those of builds too, carry one number, [`VERSION`], and whoever is asked in
//! another says so in its own ([`AskError::Version`]).

mod find;
#[cfg(test)]
mod messages;
mod serve;
mod session;
mod status;

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mesh_protocol::codec::{self, CodecError, Format};
use mesh_protocol::limits;
use mesh_protocol::name::Digest;
use mesh_protocol::peer::PeerId;
use mesh_protocol::thunk::Reduction;
use mesh_protocol::wire::admission::{MeshId, Roles, TicketId};
use mesh_protocol::wire::records::RecordKey;
use mesh_store::files;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::net::membership::Membership;
pub use crate::net::membership::TicketInfo;
pub use crate::net::swarm::{MemberInfo, RevokedBy};

pub use serve::{Heard, ServeError, ServeOptions, alone, serve};
pub use session::Session;
pub use status::{LeaseCounts, NodeStatus, PeerStatus, RecordCounts};

/// To be raised whenever a message on the socket looks different: a test has their bytes.
const VERSION: u8 = 4;

/// The longest is a list of names.
const REQUEST: Format = format(*b"\x89MASK\0\0", 64 * 1024);

/// All members with their addresses.
const REPLY: Format = format(
    *b"\x89MREPLY",
    (limits::MEMBERS_KEPT * (limits::ADDRESSES * limits::ADDRESS_BYTES + 512)) as u64,
);

/// A kind of messages on the socket.
const fn format(kind: [u8; 7], bytes_max: u64) -> Format {
    let [a, b, c, d, e, f, g] = kind;
    Format { magic: [a, b, c, d, e, f, g, VERSION], bytes_max }
}

/// How long a node may take to answer its owner.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Request {
    /// Who is there?
    Peers,
    /// Make a ticket.
    Invite {
        /// What its holder will be.
        roles: Roles,
        /// How many machines it lets in.
        uses: u32,
        /// For how many seconds.
        life_s: u64,
    },
    /// Declare that a peer is a member no more.
    Revoke(PeerId),
    /// Which tickets may still let somebody in?
    Tickets,
    /// Let nobody in any more by this ticket.
    Withdraw(TicketId),
    /// Take a member from the list, unless it comes back.
    Forget(PeerId),
    /// How does it stand?
    Status,
    /// Give others nothing, or as before.
    Pause(bool),
    /// Who has this object; of a thunk, what came of it too?
    Find(RecordKey),
    /// Bring this object, or what came of this thunk, here from whoever has it.
    Bring(RecordKey),
    /// These came into the store by a person's hand: tell the mesh. At most [`limits::STORED_NAMES`].
    Stored(Vec<Digest>),
    /// Have a build's thunks run: what follows on this connection is a [`Session`].
    Build,
    /// End.
    Stop,
}

/// What is answered.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// The node and all other members that it knows.
    Peers(Peers),
    /// How it stands.
    Status(Box<NodeStatus>),
    /// What is known of an object.
    Whereabouts(Whereabouts),
    /// A ticket, as text.
    Ticket(String),
    /// Those that may still let somebody in.
    Tickets(Vec<TicketInfo>),
    /// It is done.
    Done,
    /// It cannot be done, and why.
    Failed(String),
}

/// Where an object is, and what came of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Whereabouts {
    /// Does this node have it?
    pub is_here: bool,
    /// Who else says that they do, and what people call them.
    pub providers: Vec<(PeerId, String)>,
    /// If it is a thunk of which something is known: what, by whose word.
    pub reduction: Option<(Box<Reduction>, PeerId)>,
}

impl Request {
    /// How long its answer may take: bringing something large takes what it takes.
    fn patience(&self) -> Duration {
        match self {
            Self::Bring(_) => Duration::from_micros(limits::FETCH_US),
            _ => PATIENCE,
        }
    }
}

/// A node and those it knows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Peers {
    /// The mesh.
    pub mesh: MeshId,
    /// The node itself.
    pub own: PeerId,
    /// What people call it.
    pub name: String,
    /// Where it listens; empty if it does not run.
    pub listening: Vec<String>,
    /// The others.
    pub members: Vec<MemberInfo>,
}

impl Peers {
    /// What a home knows while no node runs in it.
    pub fn at_rest(membership: &Membership) -> Self {
        let members = membership.members().map(|(peer, member)| MemberInfo::away(peer, member));
        Self {
            mesh: membership.mesh(),
            own: membership.own(),
            name: membership.name().to_owned(),
            listening: vec![],
            members: members.collect(),
        }
    }
}

/// Why a node that runs does not answer.
#[derive(Debug, Error)]
pub enum AskError {
    /// It speaks of other things than we do.
    #[error("the node of this home runs another version of mesh")]
    Version,
    /// It hung up.
    #[error("the node of this home gave no answer: it ends, or runs another version of mesh")]
    Silent,
    /// The socket.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<CodecError> for AskError {
    fn from(error: CodecError) -> Self {
        match error {
            CodecError::Version(_) => Self::Version,
            other => Self::Io(io::Error::new(io::ErrorKind::InvalidData, other)),
        }
    }
}

/// Where the node of a home can be asked.
fn socket(home: &Path) -> PathBuf {
    home.join("node.sock")
}

/// Asks the node of that home; `None` if none runs.
pub fn ask(home: &Path, request: &Request) -> Result<Option<Reply>, AskError> {
    let Some(mut stream) = connect(home)? else { return Ok(None) };
    stream.set_read_timeout(Some(PATIENCE + request.patience()))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&frame(REQUEST, request)?)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => AskError::Silent,
        _ => error.into(),
    })?;
    let length = bounded(length, REPLY)?;
    let mut body = Vec::new();
    stream.take(length).read_to_end(&mut body)?;
    Ok(Some(codec::decode(REPLY, &body)?))
}

/// `None` if no node runs there.
fn connect(home: &Path) -> io::Result<Option<UnixStream>> {
    match UnixStream::connect(socket(home)) {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if is_nobody(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Has the node of that home end, whatever version it is of; false if none runs. It first finishes what it
/// runs: see [`wait_for_end`].
pub fn stop(home: &Path) -> Result<bool, AskError> {
    match ask(home, &Request::Stop) {
        // A signal is the same in all versions.
        Err(AskError::Version | AskError::Silent) => {
            // If it is gone, it ended meanwhile.
            if let Some(stream) = connect(home)? {
                kill_process(process_behind(stream)?, Signal::TERM).map_err(io::Error::from)?;
            }
            Ok(true)
        }
        asked => Ok(asked?.is_some()),
    }
}

/// Who listens at the other end.
fn process_behind(stream: UnixStream) -> io::Result<Pid> {
    stream.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _here = runtime.enter();
    let pid = tokio::net::UnixStream::from_std(stream)?.peer_cred()?.pid();
    let foreign = || io::Error::other("the node runs where its process cannot be seen from here");
    pid.and_then(Pid::from_raw).ok_or_else(foreign)
}

/// Does it mean that no node runs there?
fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

/// Waits until no node runs in this home: one that was asked to stop first finishes what it runs.
pub fn wait_for_end(home: &Path) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    match files::open(&home.join("node.lock"), options.read(true)) {
        Ok(lock) => Ok(flock(&lock, FlockOperation::LockExclusive)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn frame<T: Serialize>(format: Format, value: &T) -> io::Result<Vec<u8>> {
    let body = codec::encode(format, value).map_err(io::Error::other)?;
    // The format's bound fits.
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    Ok([&length.to_le_bytes(), body.as_slice()].concat())
}

fn bounded(length: [u8; 4], format: Format) -> io::Result<u64> {
    let length = u64::from(u32::from_le_bytes(length));
    match length <= format.bytes_max {
        true => Ok(length),
        false => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "a longer message than is allowed"))
        }
    }
}

fn parse<T: Serialize + DeserializeOwned>(format: Format, body: &[u8]) -> io::Result<T> {
    codec::decode(format, body).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
