//! One node put together: store, engine, network, transfer and claims, and who may have what of it.
//!
//! ```text
//!   network events ──▶ route ─┬─ Claim, Offers ──▶ claims      of peers whose role allows it
//!                             ├─ Transfer ───────▶ transfer
//!                             ├─ Records ────────▶ records
//!                             └─ what people may want to know ──▶ NodeEvents
//! ```
//!
//! Goals: a worker works for submitters only, and a submitter gives thunks to workers only, whatever
//! either of them says; nothing that people look at can hold the node up. Non-goals: reading
//! configuration, and answering the owner ([`crate::api`] does).

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mesh_protocol::owner::Wishes;
use mesh_protocol::peer::PeerId;
use mesh_protocol::sched::lease;
use mesh_protocol::sched::named::PolicyNames;
use mesh_protocol::thunk::Platform;
use mesh_protocol::wire::admission::{Roles, Verifier as _};
use mesh_protocol::wire::claim::Capabilities;
use mesh_store::Store;
use mesh_store::records::RecordStore;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::claims::{Mesh, MeshParts, Signer, Verifier};
use crate::exec::{EngineError, SandboxEngine, SandboxOptions};
use crate::net::identity::{Ed25519, Key};
use crate::net::membership::Membership;
use crate::net::swarm::{self, StartError, Started, SwarmConfig, SwarmHandle};
use crate::net::{BoxStream, NetworkEvent, Service, Topic};
use crate::owner::Keeper;
use crate::records::{MembersAndKademlia, Office, Records, RecordsParts};
use crate::transfer::Transfers;

/// How nice the thunks of a machine are that helps only when idle (nice(2)).
const STANDS_BACK: u8 = 10;

/// Events for people that may wait; when there are more, some are not told.
const EVENTS_MAX: usize = 1024;

/// What a node gives others, and over which network.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// Its network.
    pub network: SwarmConfig,
    /// Cores that others' thunks may keep busy.
    pub slots: u32,
    /// Memory that one of them, and all together, may take, in bytes.
    pub memory_bytes: u64,
    /// What the files and outputs of one of them may take, in bytes.
    pub files_bytes: u64,
    /// Help only while nobody else uses the machine, and let thunks stand back behind everybody.
    pub only_when_idle: bool,
    /// The share of others' results that are computed once more here, in thousandths.
    pub check_permille: u32,
    /// How what is built from here is leased to others.
    pub policies: PolicyNames,
}

impl Default for NodeOptions {
    /// All of this machine.
    fn default() -> Self {
        let memory_bytes = memory();
        Self {
            network: SwarmConfig::default(),
            slots: cores(),
            memory_bytes,
            files_bytes: SandboxOptions::default().files_bytes,
            only_when_idle: false,
            check_permille: 0,
            policies: PolicyNames::default(),
        }
    }
}

/// Memory of this machine, in bytes.
fn memory() -> u64 {
    let information = rustix::system::sysinfo();
    information.totalram.saturating_mul(u64::from(information.mem_unit))
}

/// Cores of this machine that this process may use.
pub fn cores() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(cores).unwrap_or(u32::MAX)
}

/// Why a node does not start.
#[derive(Debug, Error)]
pub enum NodeError {
    /// Its network does not.
    #[error(transparent)]
    Network(#[from] StartError),
    /// Sandboxes do not work here, so that nothing can be run for anybody.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Thunks are for other machines.
    #[error("this machine is neither x86-64 nor aarch64 Linux")]
    Platform,
}

/// What happens, for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NodeEvent {
    /// A member can be reached now; what people call it.
    Connected(PeerId, String),
    /// A member cannot be reached any more.
    Disconnected(PeerId),
    /// A member wants something that it may not have, or that this node does not do.
    Declined(PeerId, Service),
}

/// A handle on a running node; clones share it.
#[derive(Clone)]
pub struct Node {
    store: Store,
    mesh: Mesh,
    transfers: Transfers,
    records: Records,
    swarm: SwarmHandle,
    own: PeerId,
    owner: Keeper,
    policies: PolicyNames,
    /// Members that are connected.
    here: Arc<AtomicUsize>,
}

/// What [`Node::start`] gives.
pub struct StartedNode {
    /// For commands.
    pub node: Node,
    /// What happens; ends when the network does.
    pub events: mpsc::Receiver<NodeEvent>,
    /// The network's task: it ends with the network.
    pub network: JoinHandle<()>,
}

impl Node {
    /// Starts everything on the current tokio runtime. The program must call
    /// [`run_launcher_if_asked`](crate::exec::run_launcher_if_asked) first thing in `main`.
    pub fn start(
        membership: Membership,
        store: Store,
        kept: RecordStore,
        options: NodeOptions,
    ) -> Result<StartedNode, NodeError> {
        // Thunks that do not stand back could not be told from what the owner does.
        let nice = if options.only_when_idle { STANDS_BACK } else { 0 };
        let sandbox = SandboxOptions {
            files_bytes: options.files_bytes,
            memory_bytes: Some(options.memory_bytes.min(memory() / 16 * 15)),
            nice,
            ready: options.slots,
            ..SandboxOptions::default()
        };
        let engine = SandboxEngine::start(store.clone(), sandbox)?;
        let platform = Platform::host().ok_or(NodeError::Platform)?;
        let key = membership.key().clone();
        let started = swarm::start(membership, options.network)?;
        let Started { network, events, handle, task } = started;
        let transfers = Transfers::new(store.clone(), Arc::clone(&network));
        let own = network.own();
        let slots = options.slots.max(cores());
        let signer: Arc<dyn Signer> = Arc::new(NodeKey(key));
        let records = Records::start(RecordsParts {
            store: store.clone(),
            kept,
            network: Arc::clone(&network),
            neighbours: Arc::new(MembersAndKademlia(handle.clone())),
            transfers: transfers.clone(),
            signer: Arc::clone(&signer),
            notary: Arc::new(Office(handle.clone())),
            seed: seed(own),
        });
        let mesh = Mesh::start(MeshParts {
            store: store.clone(),
            engine: Arc::new(engine),
            network,
            transfers: transfers.clone(),
            records: Some(records.clone()),
            signer,
            verifier: Arc::new(PeerKeys),
            capabilities: Capabilities {
                platform,
                cores: slots,
                memory_mib: options.memory_bytes / (1024 * 1024),
                speed_permille: 1000,
            },
            slots,
            policy: options.policies.make(chance()),
            seed: chance(),
            check_permille: options.check_permille,
            watcher: Box::new(log),
        });
        let wishes = Wishes { slots: options.slots, only_when_idle: options.only_when_idle };
        let owner = Keeper::start(wishes, mesh.clone());
        let here = Arc::default();
        let policies = options.policies;
        let node =
            Self { store, mesh, transfers, records, swarm: handle, own, owner, policies, here };
        let (tell, told) = mpsc::channel(EVENTS_MAX);
        tokio::spawn(node.clone().pump(events, tell));
        Ok(StartedNode { node, events: told, network: task })
    }

    /// Its objects and reductions.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What leases and claims.
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// What moves objects.
    pub fn transfers(&self) -> &Transfers {
        &self.transfers
    }

    /// What says who has what, and what came of which thunk.
    pub fn records(&self) -> &Records {
        &self.records
    }

    /// Its network.
    pub fn swarm(&self) -> &SwarmHandle {
        &self.swarm
    }

    /// How much its owner lets others have.
    pub fn owner(&self) -> &Keeper {
        &self.owner
    }

    /// How it leases.
    pub fn policies(&self) -> PolicyNames {
        self.policies
    }

    /// Takes no more work, finishes or hands back what there is, and disconnects. After
    /// [`DRAIN_US`](mesh_protocol::limits::DRAIN_US) and a little more at the latest.
    pub async fn stop(&self) {
        self.mesh.drain().await;
        self.disconnect().await;
    }

    /// Leaves the network: for good if this node was to be there for a while only.
    pub(crate) async fn disconnect(&self) {
        if self.swarm.is_ephemeral()
            && let Err(error) = self.swarm.part().await
        {
            tracing::warn!(%error, "the others could not be told that this node leaves");
        }
        self.swarm.stop().await;
    }

    async fn pump(self, mut events: mpsc::Receiver<NetworkEvent>, tell: mpsc::Sender<NodeEvent>) {
        tokio::spawn(publish_store(self.records.clone()));
        while let Some(event) = events.recv().await {
            if let Some(event) = self.route(event).await {
                // Whoever looks may look too slowly.
                let _ = tell.try_send(event);
            }
        }
    }

    /// Gives an event to whom it is for; what people may want to know of it.
    async fn route(&self, event: NetworkEvent) -> Option<NodeEvent> {
        match event {
            NetworkEvent::Incoming { peer, service, stream } => {
                self.on_stream(peer, service, stream).await
            }
            NetworkEvent::Gossip { from, topic: Topic::Offers, .. } => {
                if self.may(self.own, Roles::WORKER) && self.may(from, Roles::SUBMITTER) {
                    self.mesh.deliver(event).await;
                }
                None
            }
            NetworkEvent::Gossip { .. } => None,
            NetworkEvent::Connected(peer) => {
                let others = self.here.fetch_add(1, Ordering::Relaxed) + 1;
                self.records.connected(peer, others);
                self.mesh.deliver(NetworkEvent::Connected(peer)).await;
                let name = self.swarm.name_of(peer).unwrap_or_else(|| "unnamed".to_owned());
                tracing::info!(%peer, ?name, "a member joined");
                Some(NodeEvent::Connected(peer, name))
            }
            NetworkEvent::Disconnected(peer) => {
                self.here.fetch_sub(1, Ordering::Relaxed);
                tracing::info!(%peer, "a member left");
                self.records.disconnected(peer);
                self.mesh.deliver(NetworkEvent::Disconnected(peer)).await;
                Some(NodeEvent::Disconnected(peer))
            }
        }
    }

    /// A stream that is not taken is reset when it is dropped.
    async fn on_stream(
        &self,
        peer: PeerId,
        service: Service,
        stream: BoxStream,
    ) -> Option<NodeEvent> {
        match service {
            Service::Claim => {
                if !(self.may(self.own, Roles::SUBMITTER) && self.may(peer, Roles::WORKER)) {
                    tracing::debug!(%peer, ?service, "declined");
                    return Some(NodeEvent::Declined(peer, service));
                }
                self.mesh.deliver(NetworkEvent::Incoming { peer, service, stream }).await;
                None
            }
            Service::Transfer => {
                self.transfers.serve(peer, stream);
                None
            }
            Service::Records => {
                self.records.serve(peer, stream);
                None
            }
        }
    }

    fn may(&self, peer: PeerId, roles: Roles) -> bool {
        self.swarm.roles(peer).is_some_and(|its| its.include(roles))
    }
}

/// What was put here or found out before this node ran, or is beside it.
async fn publish_store(records: Records) {
    if let Err(error) = records.publish_store().await {
        tracing::warn!(%error, "what the store holds is not published");
    }
}

/// This node's word.
struct NodeKey(Key);

impl Signer for NodeKey {
    fn sign(&self, bytes: &[u8]) -> [[u8; 32]; 2] {
        self.0.sign(bytes)
    }
}

/// A peer's id is its key.
struct PeerKeys;

impl Verifier for PeerKeys {
    fn verify(&self, peer: PeerId, bytes: &[u8], signature: &[[u8; 32]; 2]) -> bool {
        Ed25519.verify(&peer.0, bytes, signature)
    }
}

/// Different each time.
fn chance() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Different for each node: whoever hears the same offer should not choose the same.
fn seed(own: PeerId) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|at| own.0[at]))
}

/// Of leases that this node gave.
fn log(event: lease::Event) {
    match event {
        lease::Event::PutBack(thunk, peer, reason) => {
            let peer = peer.map(tracing::field::display);
            tracing::info!(%thunk, peer, %reason, "a lease came back");
        }
        lease::Event::Misbehaved(peer, rule) => tracing::warn!(%peer, rule, "a peer broke a rule"),
        event => tracing::debug!(?event, "lease"),
    }
}
