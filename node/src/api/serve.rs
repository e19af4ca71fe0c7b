//! A node that runs: its network, and the socket on which its owner asks.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mesh_protocol::codec::{self, CodecError};
use mesh_protocol::limits;
use mesh_protocol::owner::Reason;
use mesh_store::{Store, StoreError, StoreOptions, files};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{
    NodeStatus, PATIENCE, Peers, REPLY, REQUEST, Reply, Request, bounded, find, frame, session,
};
use crate::accept::accepted;
use crate::claims::{JobEvent, Mesh};
use crate::metrics::{self, Loopback};
use crate::net::membership::{Membership, MembershipError};
use crate::net::swarm::{JoinState, RevokedBy, SwarmHandle};
use crate::node::{Node, NodeError, NodeEvent, NodeOptions, StartedNode};
use crate::{records, renewal};

/// Questions that are answered at once.
const QUESTIONS: usize = 16;

/// What happens to others' work, for people: when more waits to be told, some is not.
const JOB_EVENTS: usize = 1024;

/// How often a node that ends when idle looks whether it is: what begins and ends in between does not
/// count, so it looks often.
const LOOK_MAX: Duration = Duration::from_millis(500);
const LOOK_MIN: Duration = Duration::from_millis(10);

/// How a node serves.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Where its state is.
    pub home: PathBuf,
    /// What its store is kept to, in bytes.
    pub quota_bytes: u64,
    /// What it gives, and over which network.
    pub node: NodeOptions,
    /// It ends after having had nothing to do for this long.
    pub idle_exit: Option<Duration>,
    /// Where it serves metrics, if it does.
    pub metrics: Option<Loopback>,
}

/// What happens to a node that serves, for people.
#[derive(Clone, Debug)]
pub enum Heard {
    /// It listens there.
    Listening(Vec<String>),
    /// How far it is with joining.
    Join(JoinState),
    /// What happens between members.
    Node(NodeEvent),
    /// Others get nothing now, and why; or something again.
    Held(Option<Reason>),
    /// A thunk of that member runs here, or does not any more; what people call the member.
    Job(String, JobEvent),
    /// It is a member no more, as that one says.
    Revoked(RevokedBy),
    /// It had nothing to do for as long as it was to wait.
    Idle,
    /// It finishes what it runs for others, and ends then.
    Draining,
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
    /// It does not start.
    #[error(transparent)]
    Start(#[from] NodeError),
    /// Its store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Metrics cannot be served there.
    #[error("cannot serve metrics on {address}: {source}")]
    Metrics {
        /// Where.
        address: Loopback,
        /// Why not.
        source: io::Error,
    },
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
    let ServeOptions { home, quota_bytes, node, idle_exit, metrics } = options;
    let _lock = lock(&home)?;
    let membership = prepare(&home)?.ok_or(ServeError::NoMember)?;
    let socket = super::socket(&home);
    let at = |source| ServeError::Io { path: socket.clone(), source };
    // We have the lock: who made it is gone.
    match std::fs::remove_file(&socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(error)),
        _ => (),
    }
    let store = Store::open(StoreOptions::new(home.join("store")).quota_bytes(quota_bytes))?;
    let kept = records::open_kept(&home)?;
    let metrics = match metrics {
        Some(address) => Some(listen(address).await?),
        None => None,
    };
    let started = Node::start(membership, store.clone(), kept, node)?;
    let listener = UnixListener::bind(&socket).map_err(at)?;
    std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o600)).map_err(at)?;
    let (stop, stopped) = mpsc::channel(1);
    let mut beside = JoinSet::new();
    let at = metrics.as_ref().map(|(at, _)| *at);
    beside.spawn(answer(listener, started.node.clone(), at, stop));
    beside.spawn(renewal::serve(started.node.clone()));
    if let Some((_, listener)) = metrics {
        beside.spawn(metrics::serve(listener, started.node.clone()));
    }
    let ended = watch(started, stopped, idle_exit, &mut tell).await;
    beside.shutdown().await;
    let _ = std::fs::remove_file(&socket);
    store.close()?;
    ended
}

/// The port is known from then on.
async fn listen(address: Loopback) -> Result<(SocketAddr, TcpListener), ServeError> {
    let failed = |source| ServeError::Metrics { address, source };
    let listener = TcpListener::bind(address.address()).await.map_err(failed)?;
    Ok((listener.local_addr().map_err(failed)?, listener))
}

/// Held as long as a node runs in this home.
fn lock(home: &Path) -> Result<File, ServeError> {
    let path = home.join("node.lock");
    let at = |source| ServeError::Io { path: path.clone(), source };
    files::create_private_directory(home).map_err(at)?;
    let file = files::open_lock(&path).map_err(at)?;
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
    Event(Option<NodeEvent>),
    Join(Option<JoinState>),
    Listening(Vec<String>),
    Job(JobEvent),
    Held(Option<Reason>),
    Revoked(RevokedBy),
    Idle,
    Stop,
}

/// What ends a node from outside.
struct Ends {
    interrupt: Signal,
    terminate: Signal,
    asked: mpsc::Receiver<()>,
}

impl Ends {
    fn new(asked: mpsc::Receiver<()>) -> Result<Self, ServeError> {
        let signals = |kind| {
            let path = PathBuf::from("signals");
            signal(kind).map_err(|source| ServeError::Io { path, source })
        };
        let interrupt = signals(SignalKind::interrupt())?;
        Ok(Self { interrupt, terminate: signals(SignalKind::terminate())?, asked })
    }

    /// Cancel-safe.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            asked = self.asked.recv() => if asked.is_none() {
                std::future::pending::<()>().await;
            }
        }
    }
}

async fn watch(
    started: StartedNode,
    stopped: mpsc::Receiver<()>,
    idle_exit: Option<Duration>,
    tell: &mut impl FnMut(Heard),
) -> Result<(), ServeError> {
    let StartedNode { node, mut events, network } = started;
    let mut ends = Ends::new(stopped)?;
    let (tell_job, mut jobs) = mpsc::channel(JOB_EVENTS);
    node.mesh().watch_jobs(tell_job).await;
    let mut idle = Idleness::new(node.mesh().clone(), idle_exit);
    let (mut listening, mut join) = (None::<Vec<String>>, None::<JoinState>);
    let (mut held, mut is_revoked) = (None, false);
    let mut ended = Ok(());
    loop {
        let (known_listening, known_join) = (listening.clone(), join.clone());
        let swarm = node.swarm();
        let next = tokio::select! {
            event = events.recv() => Next::Event(event),
            state = swarm.joined(|state| Some(state) != known_join.as_ref()) => Next::Join(state),
            addresses = swarm.listening_other_than(known_listening) => Next::Listening(addresses),
            Some(job) = jobs.recv() => Next::Job(job),
            reason = node.owner().reason_other_than(held) => Next::Held(reason),
            by = swarm.told_that_it_was_revoked(), if !is_revoked => Next::Revoked(by),
            () = idle.lasts() => Next::Idle,
            () = ends.next() => Next::Stop,
        };
        match next {
            Next::Event(None) | Next::Join(None) => break,
            Next::Stop => {
                drain(&node, &mut ends, tell).await;
                break;
            }
            Next::Idle => {
                tell(Heard::Idle);
                drain(&node, &mut ends, tell).await;
                break;
            }
            Next::Job(job) => {
                idle.since = Instant::now();
                let (JobEvent::Started { peer, .. } | JobEvent::Ended { peer, .. }) = &job;
                let name = node.swarm().name_of(*peer).unwrap_or_else(|| peer.to_string());
                tell(Heard::Job(name, job));
            }
            Next::Held(reason) => {
                held = reason;
                tell(Heard::Held(reason));
            }
            Next::Revoked(by) => {
                is_revoked = true;
                tell(Heard::Revoked(by));
            }
            Next::Event(Some(event)) => tell(Heard::Node(event)),
            Next::Listening(addresses) => {
                tracing::info!(?addresses, "listening");
                listening = Some(addresses.clone());
                tell(Heard::Listening(addresses));
            }
            Next::Join(Some(state)) => {
                tracing::info!(?state, "joining");
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
    node.disconnect().await;
    drop((node, events));
    // It saves what it knows; a loop that panicked has said so.
    let _ = network.await;
    ended
}

/// For how long a node has had nothing to do.
struct Idleness {
    mesh: Mesh,
    bound: Option<Duration>,
    since: Instant,
}

impl Idleness {
    fn new(mesh: Mesh, bound: Option<Duration>) -> Self {
        Self { mesh, bound, since: Instant::now() }
    }

    /// Waits until that has been too long; for ever, if there is no bound. Cancel-safe.
    async fn lasts(&mut self) {
        let Some(bound) = self.bound else { return std::future::pending().await };
        loop {
            let now = Instant::now();
            let status = self.mesh.status().await;
            if !status.is_idle() {
                self.since = now;
            } else if now.duration_since(self.since) >= bound {
                return;
            }
            let next = (self.since + bound).max(now + LOOK_MIN).min(now + LOOK_MAX);
            tokio::time::sleep_until(next).await;
        }
    }
}

/// Whoever asks twice does not want to wait.
async fn drain(node: &Node, ends: &mut Ends, tell: &mut impl FnMut(Heard)) {
    if node.mesh().status().await.jobs.0 > 0 {
        tell(Heard::Draining);
    }
    tokio::select! {
        () = node.mesh().drain() => {}
        () = ends.next() => {}
    }
}

/// Answers questions, a few at once, and serves builds.
async fn answer(
    listener: UnixListener,
    node: Node,
    metrics: Option<SocketAddr>,
    stop: mpsc::Sender<()>,
) {
    let places = Arc::new(Semaphore::new(QUESTIONS));
    let sessions = Arc::new(Semaphore::new(limits::SESSIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = accepted(|| listener.accept()).await;
        let (node, stop, sessions) = (node.clone(), stop.clone(), sessions.clone());
        tokio::spawn(async move {
            let asked = converse(stream, &node, metrics, &stop, sessions);
            let Ok(build) = asked.await else {
                return tracing::debug!("a question on the socket was not answered");
            };
            drop(place);
            if let Some((stream, _session)) = build
                && let Err(error) = session::serve(stream, node.mesh()).await
            {
                tracing::debug!(%error, "a build's session ended");
            }
        });
    }
}

/// A build that begins on this connection, if that was asked.
async fn converse(
    mut stream: UnixStream,
    node: &Node,
    metrics: Option<SocketAddr>,
    stop: &mpsc::Sender<()>,
    sessions: Arc<Semaphore>,
) -> io::Result<Option<(UnixStream, OwnedSemaphorePermit)>> {
    let request = match within(PATIENCE, read_request(&mut stream)).await? {
        Ok(request) => request,
        Err(error) => {
            // Whoever is of another version sees that by ours.
            let reply = frame(REPLY, &Reply::Failed(error.to_string()))?;
            within(PATIENCE, stream.write_all(&reply)).await?;
            return Ok(None);
        }
    };
    let patience = request.patience();
    let is_last = request == Request::Stop;
    let session = match request {
        Request::Build => sessions.try_acquire_owned().ok(),
        _ => None,
    };
    let reply = match (&request, &session) {
        (Request::Build, None) => Reply::Failed("too many builds use this node".to_owned()),
        _ => within(patience, async { Ok(reply(request, node, metrics).await) }).await?,
    };
    let bytes = frame(REPLY, &reply)?;
    within(PATIENCE, stream.write_all(&bytes)).await?;
    if is_last {
        // Full: it stops already.
        let _ = stop.try_send(());
    }
    Ok(session.map(|session| (stream, session)))
}

async fn read_request(stream: &mut UnixStream) -> io::Result<Result<Request, CodecError>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let length = bounded(length, REQUEST)?;
    let mut body = Vec::new();
    stream.take(length).read_to_end(&mut body).await?;
    Ok(codec::decode(REQUEST, &body))
}

async fn within<T>(patience: Duration, act: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(patience, act).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
}

async fn reply(request: Request, node: &Node, metrics: Option<SocketAddr>) -> Reply {
    let failed = |error: MembershipError| Reply::Failed(error.to_string());
    let handle = node.swarm();
    match request {
        Request::Peers => Reply::Peers(peers(handle).await),
        Request::Pause(paused) => {
            node.owner().pause(paused).await;
            Reply::Done
        }
        Request::Status => Reply::Status(Box::new(NodeStatus::of(node, metrics).await)),
        Request::Invite { roles, uses, life_s } => {
            let ticket = handle.invite(roles, uses, life_s).await;
            ticket.map_or_else(failed, |ticket| Reply::Ticket(ticket.to_string()))
        }
        Request::Revoke(peer) => handle.revoke(peer).await.map_or_else(failed, |_| Reply::Done),
        Request::Tickets => Reply::Tickets(handle.tickets()),
        Request::Withdraw(ticket) => {
            handle.withdraw(ticket).await.map_or_else(failed, |()| Reply::Done)
        }
        Request::Forget(peer) => handle.forget(peer).await.map_or_else(failed, |()| Reply::Done),
        Request::Find(name) => Reply::Whereabouts(find::find(node, name).await),
        Request::Bring(name) => match find::bring(node, name).await {
            Ok(()) => Reply::Done,
            Err(reason) => Reply::Failed(reason),
        },
        Request::Stored(names) => {
            node.records().publish_put(names).await;
            Reply::Done
        }
        Request::Build | Request::Stop => Reply::Done,
    }
}

async fn peers(handle: &SwarmHandle) -> Peers {
    Peers {
        mesh: handle.mesh(),
        own: handle.own(),
        name: handle.name(),
        listening: handle.addresses(),
        members: handle.peers().await,
    }
}
