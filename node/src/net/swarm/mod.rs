//! The network over libp2p: start it, and what can be asked of it.
//!
//! One task owns the swarm: it waits for what happens next, decides, and carries out. Everything
//! else holds a [`SwarmHandle`] or a [`Network`] and sends it commands through a bounded channel.

mod behaviour;
mod links;
mod member_loop;
mod perform;
mod routing;

use std::collections::BTreeMap;
use std::net::{IpAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, Swarm};
use mesh_protocol::limits;
use mesh_protocol::peer::PeerId;
use mesh_protocol::records::{Closest, Target};
use mesh_protocol::wire::admission::{
    Judge as _, MeshId, Refusal, Revocation, Roles, Secret, Ticket, TicketId,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use self::behaviour::Behaviour;
use self::member_loop::{Command, MemberLoop, Parts};
use super::door::{Refusals, Waiting};
use super::identity::{IdentityError, random};
use super::membership::{Member, Membership, MembershipError, Shared, TicketInfo, now_s};
use super::streams::OpenError;
use super::transport::{Door, transport};
use super::{BoxStream, Network, NetworkError, NetworkEvent, OpenFuture, Service, Topic};

/// How long those who are connected may take to hear that this node leaves.
const FAREWELL_PATIENCE: Duration = Duration::from_secs(2);

/// How long a member that leaves looks for somebody to tell.
const MEETING_PATIENCE: Duration = Duration::from_secs(3);

/// How a node takes part.
#[derive(Clone, Debug)]
pub struct SwarmConfig {
    /// Where to listen: multiaddresses, TCP over IPv4 or IPv6.
    pub listen: Vec<String>,
    /// Where else others may find it (behind a forwarded port): multiaddresses.
    pub external: Vec<String>,
    /// Look for members on the local network, and be found there? Shows the node's public key to it.
    pub mdns: bool,
    /// How long an admission, or the opening of a stream, may take.
    pub patience: Duration,
    /// How long to wait after a first failed attempt to reach a member; doubled by further ones.
    pub backoff_min: Duration,
    /// … up to this.
    pub backoff_max: Duration,
    /// Members that it connects to by itself. In a mesh of more, Kademlia says who is close to what.
    pub peers_wanted: usize,
    /// How often gossip is put in order.
    pub gossip_heartbeat: Duration,
}

impl Default for SwarmConfig {
    fn default() -> Self {
        Self {
            listen: vec!["/ip4/0.0.0.0/tcp/0".to_owned()],
            external: vec![],
            mdns: true,
            patience: Duration::from_micros(limits::ADMISSION_US),
            backoff_min: Duration::from_micros(limits::BACKOFF_US_MIN),
            backoff_max: Duration::from_micros(limits::BACKOFF_US_MAX),
            peers_wanted: limits::PEERS_WANTED,
            gossip_heartbeat: Duration::from_secs(1),
        }
    }
}

/// Why there is no network.
#[derive(Debug, Error)]
pub enum StartError {
    /// Not an address.
    #[error("{address:?} is no address to listen on: {reason} (try /ip4/0.0.0.0/tcp/4001)")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An address that cannot be had.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// Where.
        address: String,
        /// Why not.
        reason: String,
    },
    /// Gossip refuses its settings.
    #[error("gossip cannot start: {0}")]
    Gossip(String),
    /// Routing refuses its name.
    #[error("routing cannot start: {0}")]
    Routing(String),
    /// The local network cannot be asked.
    #[error("members cannot be looked for on the local network: {0}")]
    Mdns(std::io::Error),
    /// No random numbers.
    #[error("no random numbers: {0}")]
    Random(std::io::Error),
}

/// How far a node is with joining.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JoinState {
    /// It has a ticket, and no answer yet.
    Waiting,
    /// It is a member.
    Joined,
    /// The issuer refused; it keeps trying, but that will hardly help.
    Refused(Refusal),
    /// The issuer cannot be reached; it keeps trying.
    Unreachable(String),
}

/// Why this node holds itself to be a member no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RevokedBy {
    /// An admin signed it.
    Signed,
    /// This member says so.
    Word(PeerId),
}

/// Another member, as this node sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MemberInfo {
    /// Who.
    pub peer: PeerId,
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub roles: Roles,
    /// Where it may be found.
    pub addresses: Vec<String>,
    /// Is there a connection?
    pub is_connected: bool,
    /// The last round trip, in microseconds.
    pub round_trip_us: Option<u64>,
    /// When we last met, in seconds since 1970; 0 if never.
    pub met_s: u64,
    /// When somebody last met it, as far as this node was told, in seconds since 1970.
    pub seen_s: u64,
}

impl MemberInfo {
    /// What is known of it without a connection.
    pub(crate) fn away(peer: PeerId, member: &Member) -> Self {
        let grant = &member.certificate.member.grant;
        Self {
            peer,
            name: grant.name.clone(),
            roles: grant.roles,
            addresses: member.addresses.clone(),
            is_connected: false,
            round_trip_us: None,
            met_s: member.met_s,
            seen_s: member.seen_s,
        }
    }
}

/// What goes on at the door.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DoorInfo {
    /// Connections that are being admitted.
    pub waiting: usize,
    /// Connections that were refused, by reason.
    pub refused: BTreeMap<Refusal, u64>,
    /// Lines that this made in the log.
    pub logged: u64,
}

/// What one can ask of a running network. When the last one is dropped the network ends, and when
/// the last [`Network`] of it is: whichever comes later.
#[derive(Clone)]
pub struct SwarmHandle {
    membership: Shared,
    waiting: Waiting,
    refusals: Refusals,
    commands: mpsc::Sender<Command>,
    addresses: watch::Receiver<Vec<String>>,
    joined: watch::Receiver<JoinState>,
    revoked_by: watch::Receiver<Option<RevokedBy>>,
}

/// What [`start`] gives.
pub struct Started {
    /// For the node above.
    pub network: Arc<dyn Network>,
    /// What it hears.
    pub events: mpsc::Receiver<NetworkEvent>,
    /// For commands.
    pub handle: SwarmHandle,
    /// Ends with the network.
    pub task: JoinHandle<()>,
}

/// Starts the network of a member, or of one that has a ticket. Must be called in a tokio runtime.
pub fn start(membership: Membership, config: SwarmConfig) -> Result<Started, StartError> {
    let (own, mesh) = (membership.own(), membership.mesh());
    let keypair = membership.key().keypair();
    let is_member = membership.certificate().is_some();
    let membership = Shared::new(membership);
    let (waiting, refusals) = (Waiting::default(), Refusals::default());
    let door = Door {
        membership: membership.clone(),
        waiting: waiting.clone(),
        refusals: refusals.clone(),
        patience: config.patience,
    };
    let behaviour = Behaviour::new(&keypair, mesh, &config)?;
    let settings = libp2p::swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(Duration::from_secs(60 * 60))
        .with_max_negotiating_inbound_streams(limits::OPENS_WAITING);
    let peer = keypair.public().to_peer_id();
    let mut swarm = Swarm::new(transport(door), behaviour, peer, settings);
    for address in &config.listen {
        listen(&mut swarm, address)?;
    }
    for address in &config.external {
        parse(address)?;
    }
    let (commands, asked) = mpsc::channel(limits::NETWORK_COMMANDS);
    let (events, heard) = mpsc::channel(limits::NETWORK_EVENTS);
    let state = if is_member { JoinState::Joined } else { JoinState::Waiting };
    let (joined, joined_seen) = watch::channel(state);
    let (addresses, addresses_seen) = watch::channel(config.external.clone());
    let (revoked_by, revoked_seen) = watch::channel(None);
    let seed = u64::from_le_bytes(random().map_err(StartError::Random)?);
    let membership_seen = membership.clone();
    let parts =
        Parts { swarm, membership, asked, events, joined, addresses, revoked_by, seed, mesh };
    let task = tokio::spawn(MemberLoop::new(parts, &config).run());
    let handle = SwarmHandle {
        membership: membership_seen,
        waiting,
        refusals,
        commands: commands.clone(),
        addresses: addresses_seen,
        joined: joined_seen,
        revoked_by: revoked_seen,
    };
    let patience = config.patience;
    let network = Arc::new(SwarmNetwork { own, commands, patience });
    Ok(Started { network, events: heard, handle, task })
}

/// Connects for a moment to tell that this member leaves, for good: to whoever can be reached within
/// a few seconds. Gives how many have heard it; they tell the others.
pub async fn say_farewell(membership: Membership) -> Result<usize, StartError> {
    if membership.certificate().is_none() || membership.members().next().is_none() {
        return Ok(0);
    }
    let config = SwarmConfig { listen: vec![], ..SwarmConfig::default() };
    let Started { mut events, handle, task, network: _network } = start(membership, config)?;
    let meets = async {
        while let Some(event) = events.recv().await {
            if matches!(event, NetworkEvent::Connected(_)) {
                return;
            }
        }
    };
    let has_met = tokio::time::timeout(MEETING_PATIENCE, meets).await.is_ok();
    let told = if has_met { handle.part().await.unwrap_or(0) } else { 0 };
    handle.stop().await;
    // It ends by itself; if it panicked, there is nothing more to tell.
    let _ = task.await;
    Ok(told)
}

fn parse(address: &str) -> Result<Multiaddr, StartError> {
    address.parse().map_err(|error: libp2p::multiaddr::Error| StartError::Address {
        address: address.to_owned(),
        reason: error.to_string(),
    })
}

/// Is that an address to listen on, as far as its form tells?
pub fn check_address(address: &str) -> Result<(), StartError> {
    parse(address).map(|_| ())
}

fn listen(swarm: &mut Swarm<Behaviour>, address: &str) -> Result<(), StartError> {
    let multiaddr = parse(address)?;
    if let Some(reason) = in_use(&multiaddr) {
        return Err(StartError::Listen { address: address.to_owned(), reason });
    }
    let listened = swarm.listen_on(multiaddr);
    let failed = |error: libp2p::TransportError<_>| StartError::Listen {
        address: address.to_owned(),
        reason: error.to_string(),
    };
    listened.map(|_| ()).map_err(failed)
}

/// Does somebody listen there already? libp2p shares ports (`SO_REUSEPORT`, socket(7)), and of two
/// nodes of one user each would get some of the connections that are meant for the other.
fn in_use(address: &Multiaddr) -> Option<String> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Tcp(port) if port != 0 => match TcpListener::bind((ip, port)) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                Some("another program listens there".to_owned())
            }
            _ => None,
        },
        _ => None,
    }
}

impl SwarmHandle {
    /// This node.
    pub fn own(&self) -> PeerId {
        self.membership.lock().own()
    }

    /// The mesh.
    pub fn mesh(&self) -> MeshId {
        self.membership.lock().mesh()
    }

    /// What a member may do; `None` if it is none. Of this node itself too.
    pub fn roles(&self, peer: PeerId) -> Option<Roles> {
        self.membership.lock().roles(peer, now_s())
    }

    /// What people call a member.
    pub fn name_of(&self, peer: PeerId) -> Option<String> {
        let membership = self.membership.lock();
        membership.member(peer).map(|member| member.certificate.member.grant.name.clone())
    }

    /// Waits for the next state that satisfies, and gives it; `None` if the network ends before.
    pub async fn joined(&self, mut until: impl FnMut(&JoinState) -> bool) -> Option<JoinState> {
        let mut joined = self.joined.clone();
        joined.wait_for(|state| until(state)).await.ok().map(|state| state.clone())
    }

    /// Waits until it listens somewhere, and says where; empty if the network ends before.
    pub async fn listening(&self) -> Vec<String> {
        let mut addresses = self.addresses.clone();
        let some = addresses.wait_for(|addresses| !addresses.is_empty()).await;
        some.map(|addresses| addresses.clone()).unwrap_or_default()
    }

    /// Waits until it listens elsewhere than that.
    pub async fn listening_other_than(&self, known: Option<Vec<String>>) -> Vec<String> {
        let mut addresses = self.addresses.clone();
        let other = |now: &Vec<String>| known.as_ref() != Some(now) && !now.is_empty();
        match addresses.wait_for(other).await.map(|addresses| addresses.clone()) {
            Ok(addresses) => addresses,
            // The network ends: whoever waits hears that elsewhere.
            Err(_) => std::future::pending().await,
        }
    }

    /// Where others can find it.
    pub fn addresses(&self) -> Vec<String> {
        self.addresses.borrow().clone()
    }

    /// What people call it.
    pub fn name(&self) -> String {
        self.membership.lock().name().to_owned()
    }

    /// Makes a ticket, with the addresses at which this node listens.
    pub async fn invite(
        &self,
        roles: Roles,
        uses: u32,
        life_s: u64,
    ) -> Result<Ticket, MembershipError> {
        let addresses = self.addresses.borrow().clone();
        let random = IdentityError::io("read", Path::new("/dev/random"));
        let secret = Secret(super::identity::random().map_err(random)?);
        let now_s = now_s();
        let invite = move |membership: &mut Membership| {
            membership.invite(secret, (roles, uses, life_s), addresses.clone(), now_s)
        };
        self.membership.commit(invite).await
    }

    /// The tickets that may still let somebody in.
    pub fn tickets(&self) -> Vec<TicketInfo> {
        self.membership.lock().tickets(now_s())
    }

    /// A ticket lets nobody in any more.
    pub async fn withdraw(&self, ticket: TicketId) -> Result<(), MembershipError> {
        self.membership.commit(move |membership| membership.withdraw(ticket)).await
    }

    /// Its owner wants to see a member no more, unless it comes back.
    pub async fn forget(&self, peer: PeerId) -> Result<(), MembershipError> {
        let now_s = now_s();
        self.membership.commit(move |membership| membership.forget(peer, now_s)).await?;
        let _ = self.commands.send(Command::Forgotten(peer)).await;
        Ok(())
    }

    /// Will this node be gone soon, and not come back?
    pub fn is_ephemeral(&self) -> bool {
        self.membership.lock().is_ephemeral()
    }

    /// Tells all that are connected that this node leaves, for good. Gives how many have heard it.
    pub async fn part(&self) -> Result<usize, MembershipError> {
        let farewell = self.membership.lock().farewell(now_s())?;
        let (told, heard) = oneshot::channel();
        let _ = self.commands.send(Command::Part(Box::new(farewell), told)).await;
        let heard = tokio::time::timeout(FAREWELL_PATIENCE, heard).await;
        Ok(heard.ok().and_then(Result::ok).unwrap_or(0))
    }

    /// Is this node a member no more, and who says so?
    pub fn revoked(&self) -> Option<RevokedBy> {
        let membership = self.membership.lock();
        let is_signed = membership.is_revoked(membership.own());
        is_signed.then_some(RevokedBy::Signed).or(*self.revoked_by.borrow())
    }

    /// Waits until it is. Cancel-safe.
    pub async fn told_that_it_was_revoked(&self) -> RevokedBy {
        let mut revoked_by = self.revoked_by.clone();
        match revoked_by.wait_for(Option::is_some).await.map(|by| *by) {
            Ok(Some(by)) => by,
            // The network ends: whoever waits hears that elsewhere.
            _ => std::future::pending().await,
        }
    }

    /// Declares that a peer is a member no more, and tells all.
    pub async fn revoke(&self, peer: PeerId) -> Result<Revocation, MembershipError> {
        let now_s = now_s();
        let revocation =
            self.membership.commit(move |membership| membership.revoke(peer, now_s)).await?;
        let _ = self.commands.send(Command::Revoked(Box::new(revocation.clone()))).await;
        Ok(revocation)
    }

    /// All other members that are known.
    pub async fn peers(&self) -> Vec<MemberInfo> {
        let (reply, answer) = oneshot::channel();
        let _ = self.commands.send(Command::Peers(reply)).await;
        answer.await.unwrap_or_default()
    }

    /// The members that are closest to a key and can be reached: all that are connected, if the mesh
    /// is so small that those are all; else the answer of Kademlia.
    pub async fn closest(&self, target: Target) -> Closest {
        let (reply, answer) = oneshot::channel();
        let _ = self.commands.send(Command::Closest(target, reply)).await;
        answer.await.unwrap_or(Closest { target, peers: Vec::new(), are_all: true })
    }

    /// What goes on at the door.
    pub fn door(&self) -> DoorInfo {
        let (refused, logged) = self.refusals.counts();
        DoorInfo { waiting: self.waiting.count(), refused, logged }
    }

    /// Waits until so many were refused for that reason.
    pub async fn refused(&self, refusal: Refusal, count: u64) {
        self.refusals.reach(refusal, count).await;
    }

    /// Waits until so many connections are being admitted.
    pub async fn waiting(&self, count: usize) {
        self.waiting.reach(count).await;
    }

    /// Ends the network: connections are closed, what is known is saved.
    pub async fn stop(&self) {
        let _ = self.commands.send(Command::Stop).await;
    }
}

/// The trait's view of it.
struct SwarmNetwork {
    own: PeerId,
    commands: mpsc::Sender<Command>,
    patience: Duration,
}

impl SwarmNetwork {
    async fn open_stream(&self, peer: PeerId, service: Service) -> Result<BoxStream, NetworkError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Open { peer, service, reply };
        self.commands.send(command).await.map_err(|_| NetworkError::Closed)?;
        // Dialling, admission and negotiation have deadlines of their own; this one is for all.
        let answer = tokio::time::timeout(3 * self.patience, answer).await;
        match answer.map_err(|_| NetworkError::TimedOut(peer))? {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(OpenError::TimedOut)) => Err(NetworkError::TimedOut(peer)),
            Ok(Err(OpenError::Refused)) => Err(NetworkError::Refused(peer, service)),
            Ok(Err(OpenError::Gone)) => Err(NetworkError::Unreachable(peer)),
            Err(_) if self.commands.is_closed() => Err(NetworkError::Closed),
            Err(_) => Err(NetworkError::Unreachable(peer)),
        }
    }
}

impl Network for SwarmNetwork {
    fn own(&self) -> PeerId {
        self.own
    }

    fn open(&self, peer: PeerId, service: Service) -> OpenFuture<'_> {
        Box::pin(self.open_stream(peer, service))
    }

    fn publish(&self, topic: Topic, message: Vec<u8>) {
        if message.len() <= topic.bytes_max() {
            // Full: gossip may be lost.
            let _ = self.commands.try_send(Command::Publish(topic, message));
        }
    }
}
