//! What a node needs of a network, whatever carries it.
//!
//! Everything above this line - claiming, transfer, records - speaks to peers through
//! [`Network`] and hears from them through [`NetworkEvent`]s; it knows no transport. Below it, every
//! connection has been admitted before an event tells of it: a [`PeerId`] here is a member.

mod door;
pub mod identity;
mod link;
mod meeting;
mod member_stream;
pub mod membership;
pub mod memory;
mod probing;
mod reconnect;
mod streams;
pub mod swarm;
mod transport;

use std::future::Future;
use std::pin::Pin;

use mesh_protocol::limits;
use mesh_protocol::peer::PeerId;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};

/// A stream between two members: ordered bytes both ways, closed by either side.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// One of them.
pub type BoxStream = Box<dyn ByteStream>;

/// What a stream is for. Each has its own protocol name, which carries the mesh's id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Service {
    /// A worker asks a requester for work ([`mesh_protocol::wire::claim`]).
    Claim,
    /// Objects by name.
    Transfer,
    /// Provider records and reductions.
    Records,
}

/// What is gossiped: soft state that may be lost.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Topic {
    /// "I have work" ([`mesh_protocol::wire::offer`]).
    Offers,
    /// "This peer is a member no more."
    Revocations,
}

impl Topic {
    /// The longest message; what is longer is not sent on.
    pub fn bytes_max(self) -> usize {
        match self {
            Self::Offers => limits::OFFER_BYTES as usize,
            Self::Revocations => limits::REVOCATION_BYTES as usize,
        }
    }
}

/// A network of members.
pub trait Network: Send + Sync {
    /// Who we are.
    fn own(&self) -> PeerId;

    /// Opens a stream to a member, over a connection that is there or can be made.
    fn open(&self, peer: PeerId, service: Service) -> OpenFuture<'_>;

    /// Tells all members; nobody may hear it. What does not fit the outbox is dropped.
    fn publish(&self, topic: Topic, message: Vec<u8>);
}

/// What [`Network::open`] gives.
pub type OpenFuture<'a> =
    Pin<Box<dyn Future<Output = Result<BoxStream, NetworkError>> + Send + 'a>>;

/// What a network tells. Comes through a bounded channel, in order for each peer.
pub enum NetworkEvent {
    /// A member opened a stream to us.
    Incoming {
        /// Who.
        peer: PeerId,
        /// What for.
        service: Service,
        /// The stream.
        stream: BoxStream,
    },
    /// A member said something to all.
    Gossip {
        /// Who said it first; its signature was checked.
        from: PeerId,
        /// Where.
        topic: Topic,
        /// What, at most as long as the topic allows.
        message: Vec<u8>,
    },
    /// A member can be reached now.
    Connected(PeerId),
    /// A member cannot be reached any more.
    Disconnected(PeerId),
}

/// Why no stream could be opened.
#[derive(Debug, Error)]
pub enum NetworkError {
    /// Nobody knows a way to this peer.
    #[error("{0} cannot be reached")]
    Unreachable(PeerId),
    /// It does not offer this service.
    #[error("{0} does not offer {1:?}")]
    Refused(PeerId, Service),
    /// It did not answer in time.
    #[error("{0} did not answer in time")]
    TimedOut(PeerId),
    /// The network is being shut down.
    #[error("the network is closed")]
    Closed,
}
