//! Streams between members, each for one purpose.
//!
//! Goals: streams opened in parallel all arrive (`libp2p-stream` drops some); whoever asks for one
//! hears what became of it; nothing is kept for a peer that is gone. When nobody takes what has
//! come, the connection stops being read, which is how TCP tells the other end.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::handler::{ConnectionEvent, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
    NetworkBehaviour, NotifyHandler, StreamUpgradeError, SubstreamProtocol, ToSwarm,
};
use libp2p::{PeerId, Stream, StreamProtocol};
use mesh_protocol::limits;
use mesh_protocol::wire::admission::MeshId;
use tokio::sync::oneshot;

use super::Service;
use super::member_stream::{MemberStream, User};

/// What a stream is for, inside this module's node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Channel {
    /// For the node above.
    Service(Service),
    /// [`mesh_protocol::wire::roster`].
    Roster,
    /// [`super::probing`].
    Probe,
}

impl Channel {
    /// Does something depend on the connection as long as there is such a stream?
    pub(super) fn is_use(self) -> bool {
        matches!(self, Self::Service(_))
    }
}

const CHANNELS: [(Channel, &str); 5] = [
    (Channel::Service(Service::Claim), "claim"),
    (Channel::Service(Service::Transfer), "transfer"),
    (Channel::Service(Service::Records), "records"),
    (Channel::Roster, "roster"),
    (Channel::Probe, "probe"),
];

/// A channel by the name it has on the wire.
#[derive(Clone, Debug)]
pub(super) struct Named {
    channel: Channel,
    protocol: StreamProtocol,
}

impl AsRef<str> for Named {
    fn as_ref(&self) -> &str {
        self.protocol.as_ref()
    }
}

/// All channels of a mesh.
type Names = Arc<[Named]>;

fn names(mesh: MeshId) -> Names {
    let name = |(channel, name)| {
        let protocol = StreamProtocol::try_from_owned(format!("/mesh/{mesh}/{name}/1"));
        protocol.ok().map(|protocol| Named { channel, protocol })
    };
    CHANNELS.into_iter().filter_map(name).collect()
}

/// One of these names is agreed on, and the stream is there.
#[derive(Clone, Debug)]
pub(super) struct Upgrade(Names);

impl UpgradeInfo for Upgrade {
    type Info = Named;
    type InfoIter = Vec<Named>;

    fn protocol_info(&self) -> Vec<Named> {
        self.0.to_vec()
    }
}

impl InboundUpgrade<Stream> for Upgrade {
    type Output = (Channel, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, name: Named) -> Self::Future {
        ready(Ok((name.channel, stream)))
    }
}

impl OutboundUpgrade<Stream> for Upgrade {
    type Output = (Channel, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, name: Named) -> Self::Future {
        ready(Ok((name.channel, stream)))
    }
}

/// Why there is no stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum OpenError {
    TimedOut,
    Refused,
    Gone,
}

/// Where the answer goes. Dropped without one if the connection ended.
pub(super) type Reply = oneshot::Sender<Result<MemberStream, OpenError>>;

/// A stream that somebody wants.
pub(super) struct Open {
    pub(super) channel: Channel,
    /// Who uses the connection with it.
    pub(super) user: Option<User>,
    pub(super) reply: Reply,
}

/// Who waits for a stream.
pub(super) struct Asker {
    user: Option<User>,
    reply: Reply,
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Open({:?})", self.channel)
    }
}

/// A stream that a member opened.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) peer: PeerId,
    pub(super) connection: ConnectionId,
    pub(super) channel: Channel,
    pub(super) stream: Stream,
}

/// The behaviour: hands on what is asked for, and what came.
pub(super) struct Streams {
    names: Names,
    patience: Duration,
    queue: VecDeque<ToSwarm<Incoming, Open>>,
}

impl Streams {
    pub(super) fn new(mesh: MeshId, patience: Duration) -> Self {
        Self { names: names(mesh), patience, queue: VecDeque::new() }
    }

    /// Opens a stream to a peer that is connected, over this connection or any. Whoever calls polls
    /// the swarm afterwards.
    pub(super) fn open(&mut self, peer_id: PeerId, over: Option<ConnectionId>, open: Open) {
        let handler = over.map_or(NotifyHandler::Any, NotifyHandler::One);
        self.queue.push_back(ToSwarm::NotifyHandler { peer_id, handler, event: open });
    }

    fn handler(&self) -> Handler {
        let (names, patience) = (self.names.clone(), self.patience);
        Handler { names, patience, asked: VecDeque::new(), came: VecDeque::new(), waker: None }
    }
}

impl NetworkBehaviour for Streams {
    type ConnectionHandler = Handler;
    type ToSwarm = Incoming;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.handler())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.handler())
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        (channel, stream): (Channel, Stream),
    ) {
        let incoming = Incoming { peer, connection, channel, stream };
        self.queue.push_back(ToSwarm::GenerateEvent(incoming));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Incoming, Open>> {
        self.queue.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// One connection's part.
pub(super) struct Handler {
    names: Names,
    patience: Duration,
    asked: VecDeque<Open>,
    came: VecDeque<(Channel, Stream)>,
    waker: Option<Waker>,
}

impl Handler {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Open;
    type ToBehaviour = (Channel, Stream);
    type InboundProtocol = Upgrade;
    type OutboundProtocol = Upgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Asker;

    fn listen_protocol(&self) -> SubstreamProtocol<Upgrade> {
        SubstreamProtocol::new(Upgrade(self.names.clone()), ()).with_timeout(self.patience)
    }

    /// Members stay connected: a claim that waits for work has no other stream.
    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Upgrade, Asker, (Channel, Stream)>> {
        if let Some(came) = self.came.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(came));
        }
        if let Some(Open { channel, user, reply }) = self.asked.pop_front() {
            let named = self.names.iter().filter(|named| named.channel == channel).cloned();
            let upgrade = Upgrade(named.collect());
            let patience = match channel {
                // Its own end is that of the connection.
                Channel::Probe => Duration::from_micros(limits::LINK_PATIENCE_US),
                Channel::Service(_) | Channel::Roster => self.patience,
            };
            let asker = Asker { user, reply };
            let protocol = SubstreamProtocol::new(upgrade, asker).with_timeout(patience);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        self.waker = Some(context.waker().clone());
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, open: Open) {
        self.asked.push_back(open);
        self.wake();
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Upgrade, Upgrade, (), Asker>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol, ..
            }) => {
                self.came.push_back(protocol);
                self.wake();
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (_, stream),
                info: Asker { user, reply },
            }) => {
                // Whoever asked may have given up.
                let _ = reply.send(Ok(MemberStream::new(stream, user)));
            }
            ConnectionEvent::DialUpgradeError(failed) => {
                let error = match failed.error {
                    StreamUpgradeError::Timeout => OpenError::TimedOut,
                    StreamUpgradeError::NegotiationFailed => OpenError::Refused,
                    StreamUpgradeError::Io(_) => OpenError::Gone,
                    StreamUpgradeError::Apply(never) => match never {},
                };
                let _ = failed.info.reply.send(Err(error));
            }
            _ => (),
        }
    }
}
