//! Claims: a node as requester and as worker, with real streams, stores and engines.
//!
//! [`Mesh`] is the handle on one task that owns the node's lease, offer and claim machines
//! ([`mesh_protocol::sched`]) and carries out what they want. Builds bring their ready thunks to it
//! ([`Driver::start_in_mesh`](crate::driver::Driver::start_in_mesh)); whoever runs the network brings its events
//! ([`Mesh::deliver`]).
//!
//! Goals: what a build gets told is true: outputs are in its store, and hashed, before its force machine
//! hears of them, and a reduction carries its executor's signature; own builds and others' work
//! never keep more cores busy than the owner gave; every wait has a deadline; a peer costs bounded
//! memory, whatever it sends. Non-goals: whether a reduction is what the program would really have
//! come to (nobody knows without running it), and more than one claim stream for each pair of peers.
//!
//! ```text
//!   drivers ──Ready, Stop──▶ ┌───────────────┐ ◀──offers── network events
//!           ◀──Ended──────── │ the one task: │ ◀──▶ lines: one task per claim stream
//!                            │ select, apply │ ◀──▶ jobs: fetch, run, settle receipts
//!                            └───────────────┘
//! ```

mod check;
pub mod client;
mod compose;
mod job;
mod line;
mod recalls;
mod requester;
mod runs;
mod shell;
mod sign;
mod tasks;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mesh_protocol::name::ThunkName;
use mesh_protocol::peer::{PeerId, StreamId};
use mesh_protocol::sched::lease::{self, LeasePolicy};
use mesh_protocol::sched::score::Score;
use mesh_protocol::thunk::Thunk;
use mesh_protocol::wire::claim::{Capabilities, FromRequester, FromWorker, Open};
use mesh_store::Store;
use tokio::sync::{mpsc, oneshot, watch};

use self::client::{Client, ClientId, ToMesh};
pub use self::client::{News, Trip};
pub(crate) use self::compose::results;
pub use self::recalls::RecallCounts;
pub(crate) use self::sign::peer_of;
pub use self::sign::{Signer, Verifier};
use crate::driver::Load;
use crate::exec::Engine;
use crate::net::{Network, NetworkEvent, Service};
use crate::records::Records;
use crate::transfer::Transfers;

/// What may wait for the task before its senders do. A message of a peer holds at most one
/// reduction (a mebibyte), an ordinary one some hundred bytes.
const INBOX_MAX: usize = 64;

/// What a node's mesh is made of.
pub struct MeshParts {
    /// Where inputs, outputs and reductions are.
    pub store: Store,
    /// What runs thunks, own ones and others'.
    pub engine: Arc<dyn Engine>,
    /// The members.
    pub network: Arc<dyn Network>,
    /// What moves objects over it.
    pub transfers: Transfers,
    /// What the mesh is told of results, and asked for them; none: nothing.
    pub records: Option<Records>,
    /// Signs what this node ran.
    pub signer: Arc<dyn Signer>,
    /// Checks what others signed.
    pub verifier: Arc<dyn Verifier>,
    /// What this machine is.
    pub capabilities: Capabilities,
    /// Cores that own builds and others' work may keep busy together.
    pub slots: u32,
    /// Who gets what of the own builds' thunks.
    pub policy: LeasePolicy,
    /// Breaks ties between requesters, and chooses what is checked: a secret.
    pub seed: u64,
    /// The share of others' results that are computed once more here, in thousandths.
    pub check_permille: u32,
    /// Hears what happens to leases; called from the task, so it must be quick.
    pub watcher: Box<dyn FnMut(lease::Event) + Send>,
}

/// How things stand.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Counts of the requester's side.
    pub counts: lease::Counts,
    /// Leases that run elsewhere or here for own builds, and thunks that own builds want run.
    pub leases: (usize, usize),
    /// Leases held for others, and requesters served.
    pub jobs: (usize, usize),
    /// How long the oldest of those leases has been held.
    pub oldest_job: Option<Duration>,
    /// Cores busy for own builds, and for others.
    pub cores: (u32, u32),
    /// Cores that may be busy, and how many of them for others.
    pub slots: (u32, u32),
    /// Builds of this machine.
    pub builds: usize,
    /// Requesters that are served: leases held, and cores of those that run.
    pub serving: Vec<(PeerId, usize, u32)>,
    /// Workers that are attached: leases held, cores of those, and cores that would run at once.
    pub workers: Vec<(PeerId, usize, u32, u32)>,
    /// What other members are asked for builds.
    pub recalls: RecallCounts,
    /// What became of others' thunks that began here.
    pub ended: JobCounts,
    /// What is thought of peers as workers; none: this machine.
    pub scores: Vec<(Option<PeerId>, Score)>,
}

impl Status {
    /// Is there no build, and no work of others?
    pub fn is_idle(&self) -> bool {
        self.builds == 0 && self.leases.0 == 0 && self.jobs.0 == 0
    }
}

/// What became of others' thunks that ran here, since the node began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct JobCounts {
    /// Came to a result.
    pub succeeded: u64,
    /// Came to nothing.
    pub failed: u64,
    /// Were not wanted any more.
    pub withdrawn: u64,
}

/// What happens to others' work on this machine.
#[derive(Clone, Debug)]
pub enum JobEvent {
    /// It runs.
    Started {
        /// For whom.
        peer: PeerId,
        /// Its name.
        name: ThunkName,
        /// Its content.
        thunk: Arc<Thunk>,
    },
    /// It does not run any more.
    Ended {
        /// For whom.
        peer: PeerId,
        /// Its name.
        name: ThunkName,
        /// Why it came to nothing, if it did.
        failure: Option<Arc<str>>,
    },
}

/// A handle on a node's mesh; clones share it. When the last one, and the last driver, is gone, so
/// is all it runs.
#[derive(Clone)]
pub struct Mesh {
    inbox: mpsc::Sender<Message>,
    load: watch::Receiver<Load>,
    next_client: Arc<AtomicU64>,
}

/// What the task is told.
pub(crate) enum Message {
    Network(NetworkEvent),
    /// A stream that was opened to us has said who it is for.
    Opened(StreamId, PeerId, Open),
    FromWorker(StreamId, FromWorker),
    ServedClosed(StreamId),
    FromRequester(StreamId, FromRequester),
    ClaimClosed(StreamId),
    Join(ClientId, mpsc::Sender<client::FromMesh>),
    Client(ClientId, ToMesh),
    Slots(u32),
    Give(u32),
    Drain(oneshot::Sender<()>),
    Status(oneshot::Sender<Status>),
    Watch(mpsc::Sender<JobEvent>),
}

impl Mesh {
    /// Starts the task on the current tokio runtime.
    pub fn start(parts: MeshParts) -> Self {
        let (inbox, messages) = mpsc::channel(INBOX_MAX);
        let (tell_load, load) = watch::channel(Load::default());
        let shell = shell::Shell::new(parts, inbox.downgrade(), tell_load);
        tokio::spawn(shell.serve(messages));
        Self { inbox, load, next_client: Arc::default() }
    }

    /// Takes what the network told, if it is for us; gives back what is for others.
    pub async fn deliver(&self, event: NetworkEvent) -> Option<NetworkEvent> {
        use crate::net::Topic;
        match event {
            NetworkEvent::Incoming { service: Service::Claim, .. }
            | NetworkEvent::Gossip { topic: Topic::Offers, .. } => {
                self.send(Message::Network(event)).await;
                None
            }
            NetworkEvent::Connected(peer) => {
                self.send(Message::Network(NetworkEvent::Connected(peer))).await;
                Some(event)
            }
            NetworkEvent::Disconnected(peer) => {
                self.send(Message::Network(NetworkEvent::Disconnected(peer))).await;
                Some(event)
            }
            other => Some(other),
        }
    }

    /// From now on, so many cores may be kept busy; what runs goes on.
    pub async fn set_slots(&self, slots: u32) {
        self.send(Message::Slots(slots)).await;
    }

    /// From now on, others' work may keep at most so many of them busy; what runs goes on. All of
    /// them until this is said.
    pub async fn give(&self, slots: u32) {
        self.send(Message::Give(slots)).await;
    }

    /// Takes no more work of others, finishes or hands back what there is, and comes back then: after
    /// [`DRAIN_US`](mesh_protocol::limits::DRAIN_US) at the latest.
    pub async fn drain(&self) {
        let (sender, drained) = oneshot::channel();
        self.send(Message::Drain(sender)).await;
        // A task that has ended has nothing left to drain.
        let _ = drained.await;
    }

    /// Tells from now on what happens to others' work here. What does not fit is not told.
    pub async fn watch_jobs(&self, watcher: mpsc::Sender<JobEvent>) {
        self.send(Message::Watch(watcher)).await;
    }

    /// How things stand.
    pub async fn status(&self) -> Status {
        let (sender, status) = oneshot::channel();
        self.send(Message::Status(sender)).await;
        status.await.unwrap_or_default()
    }

    /// One more build.
    pub(crate) fn client(&self) -> Client {
        let id = ClientId(self.next_client.fetch_add(1, Ordering::Relaxed));
        Client::new(id, self.inbox.clone(), self.load.clone())
    }

    async fn send(&self, message: Message) {
        // A task that has ended needs nothing told.
        let _ = self.inbox.send(message).await;
    }
}
