//! A node that runs: its network, and the socket on which its owner asks.

use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mesh_protocol::peer::PeerId;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc};

use super::{MemberInfo, PATIENCE, Peers, REPLY, REQUEST, Reply, Request, bounded, frame, parse};
use crate::net::membership::{Membership, MembershipError};
use crate::net::swarm::{self, JoinState, StartError, Started, SwarmConfig, SwarmHandle};
use crate::net::{NetworkEvent, Service};

/// Questions that are answered at once.
const QUESTIONS: usize = 16;

/// How a node serves.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Where its state is.
    pub home: PathBuf,
    /// Its network.
    pub config: SwarmConfig,
}

/// What happens to a node that serves, for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Heard {
    /// It listens there.
    Listening(Vec<String>),
    /// How far it is with joining.
    Join(JoinState),
    /// A member can be reached now; what people call it.
    Connected(PeerId, String),
    /// A member cannot be reached any more.
    Disconnected(PeerId),
    /// A member wants something that this node does not do.
    Declined(PeerId, Service),
    /// It ends.
    Stopping,
}

/// Why a node does not serve.
#[derive(Debug, Error)]
pub enum ServeError {
    /// One is enough.
    #[error("a node runs in this home already")]
    Running,
    /// Neither member nor invited.
    #[error("this node is a member of no mesh")]
    NoMember,
    /// The issuer of the ticket says no.
    #[error("the ticket was refused: {0}")]
    Refused(mesh_protocol::wire::admission::Refusal),
    /// Its membership cannot be read or changed.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// Its network does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The socket, or a file.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Serves until somebody asks it to stop, by the socket or by SIGINT or SIGTERM. `prepare` gives
/// the membership, once it is sure that no other node runs in this home.
pub async fn serve(
    options: ServeOptions,
    prepare: impl FnOnce(&Path) -> Result<Option<Membership>, MembershipError>,
    mut tell: impl FnMut(Heard),
) -> Result<(), ServeError> {
    let ServeOptions { home, config } = options;
    let _lock = lock(&home)?;
    let membership = prepare(&home)?.ok_or(ServeError::NoMember)?;
    let socket = super::socket(&home);
    let at = |source| ServeError::Io { path: socket.clone(), source };
    // We have the lock: who made it is gone.
    match std::fs::remove_file(&socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(error)),
        _ => (),
    }
    let listener = UnixListener::bind(&socket).map_err(at)?;
    std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o600)).map_err(at)?;
    let started = swarm::start(membership, config)?;
    let (stop, stopped) = mpsc::channel(1);
    let answering = tokio::spawn(answer(listener, started.handle.clone(), stop));
    let ended = watch(started, stopped, &mut tell).await;
    answering.abort();
    let _ = std::fs::remove_file(&socket);
    ended
}

/// Held as long as a node runs in this home.
fn lock(home: &Path) -> Result<File, ServeError> {
    let path = home.join("node.lock");
    let at = |source| ServeError::Io { path: path.clone(), source };
    std::fs::create_dir_all(home).map_err(at)?;
    let mut options = File::options();
    let file = options.create(true).truncate(false).write(true).open(&path).map_err(at)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(ServeError::Running),
        Err(error) => Err(at(error.into())),
    }
}

/// Runs `change` while no node runs in this home.
pub fn alone<T>(
    home: &Path,
    change: impl FnOnce() -> Result<T, MembershipError>,
) -> Result<T, ServeError> {
    let _lock = lock(home)?;
    Ok(change()?)
}

/// What may happen next.
enum Next {
    Event(Option<NetworkEvent>),
    Join(Option<JoinState>),
    Listening(Vec<String>),
    Stop,
}

async fn watch(
    started: Started,
    mut stopped: mpsc::Receiver<()>,
    tell: &mut impl FnMut(Heard),
) -> Result<(), ServeError> {
    let Started { network, mut events, handle, task } = started;
    let signals = |kind| {
        let path = PathBuf::from("signals");
        signal(kind).map_err(|source| ServeError::Io { path, source })
    };
    let (mut interrupt, mut terminate) =
        (signals(SignalKind::interrupt())?, signals(SignalKind::terminate())?);
    let (mut listening, mut join) = (None::<Vec<String>>, None::<JoinState>);
    let mut ended = Ok(());
    loop {
        let (known_listening, known_join) = (listening.clone(), join.clone());
        let next = tokio::select! {
            event = events.recv() => Next::Event(event),
            state = handle.joined(|state| Some(state) != known_join.as_ref()) => Next::Join(state),
            addresses = handle.listening_other_than(known_listening) => Next::Listening(addresses),
            _ = interrupt.recv() => Next::Stop,
            _ = terminate.recv() => Next::Stop,
            _ = stopped.recv() => Next::Stop,
        };
        match next {
            Next::Event(None) | Next::Join(None) | Next::Stop => break,
            Next::Event(Some(event)) => on_event(event, &handle, tell).await,
            Next::Listening(addresses) => {
                listening = Some(addresses.clone());
                tell(Heard::Listening(addresses));
            }
            Next::Join(Some(state)) => {
                join = Some(state.clone());
                // What is not told may pass: a full door looks like a stranger's.
                if let JoinState::Refused(refusal) = state
                    && refusal.is_told()
                {
                    ended = Err(ServeError::Refused(refusal));
                    break;
                }
                tell(Heard::Join(state));
            }
        }
    }
    tell(Heard::Stopping);
    drop((network, events));
    handle.stop().await;
    // It saves what it knows; a loop that panicked has said so.
    let _ = task.await;
    ended
}

async fn on_event(event: NetworkEvent, handle: &SwarmHandle, tell: &mut impl FnMut(Heard)) {
    match event {
        NetworkEvent::Connected(peer) => {
            let peers = handle.peers().await;
            let known = peers.into_iter().find(|known| known.peer == peer);
            let name = known.map_or_else(|| "unnamed".to_owned(), |known| known.name);
            tell(Heard::Connected(peer, name));
        }
        NetworkEvent::Disconnected(peer) => tell(Heard::Disconnected(peer)),
        // The stream is reset when it is dropped.
        NetworkEvent::Incoming { peer, service, .. } => tell(Heard::Declined(peer, service)),
        NetworkEvent::Gossip { .. } => (),
    }
}

/// Answers questions, a few at once.
async fn answer(listener: UnixListener, handle: SwarmHandle, stop: mpsc::Sender<()>) {
    let places = Arc::new(Semaphore::new(QUESTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (handle, stop) = (handle.clone(), stop.clone());
        tokio::spawn(async move {
            let answered = tokio::time::timeout(PATIENCE, converse(stream, &handle, &stop)).await;
            if !matches!(answered, Ok(Ok(()))) {
                tracing::debug!("a question on the socket was not answered");
            }
            drop(place);
        });
    }
}

async fn converse(
    mut stream: UnixStream,
    handle: &SwarmHandle,
    stop: &mpsc::Sender<()>,
) -> io::Result<()> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let length = bounded(length, REQUEST)?;
    let mut body = Vec::new();
    (&mut stream).take(length).read_to_end(&mut body).await?;
    let request: Request = parse(REQUEST, &body)?;
    let is_last = request == Request::Stop;
    let reply = reply(request, handle).await;
    stream.write_all(&frame(REPLY, &reply)?).await?;
    if is_last {
        // Full: it stops already.
        let _ = stop.try_send(());
    }
    Ok(())
}

async fn reply(request: Request, handle: &SwarmHandle) -> Reply {
    let failed = |error: MembershipError| Reply::Failed(error.to_string());
    match request {
        Request::Peers => Reply::Peers(peers(handle).await),
        Request::Invite { roles, uses, life_s } => {
            let ticket = handle.invite(roles, uses, life_s).await;
            ticket.map_or_else(failed, |ticket| Reply::Ticket(ticket.to_string()))
        }
        Request::Revoke(peer) => handle.revoke(peer).await.map_or_else(failed, |_| Reply::Done),
        Request::Stop => Reply::Done,
    }
}

async fn peers(handle: &SwarmHandle) -> Peers {
    let members = handle.peers().await.into_iter().map(|peer| MemberInfo {
        peer: peer.peer,
        name: peer.name,
        roles: peer.roles,
        addresses: peer.addresses,
        is_connected: peer.is_connected,
        round_trip_us: peer.round_trip_us,
        met_s: peer.met_s,
    });
    Peers {
        mesh: handle.mesh(),
        own: handle.own(),
        name: handle.name(),
        listening: handle.addresses(),
        members: members.collect(),
    }
}
