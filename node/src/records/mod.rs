//! Records: tells the mesh what this node has and what came of which thunk, keeps what others tell,
//! and finds out who knows.
//!
//! Goals: nothing waits for publication, and what cannot be published is forgotten rather than piled
//! up; a name is looked up while its thunk is already on its way to run; a reduction is handed to a
//! build only when a member vouches for it and its outputs are here, hashed. Non-goals: whether a
//! reduction is what the program would really have come to (its publisher's word; who ran it is kept
//! with it), and moving objects ([`crate::transfer`] does).
//!
//! ```text
//!   publish_* ─▶ ┌───────────────┐ ─▶ own: the record, signed ─▶ ask: a stream to each peer
//!   look-ups  ─▶ │ the one task: │ ◀── answers, checked
//!                │ select, apply │ ─▶ neighbours: who is closest?
//!                └───────────────┘
//!   streams of others ─▶ serve ─▶ kept records, and what is in this node's own store
//! ```
//!
//! What a node has itself it answers for without having published it: in a mesh of a few members
//! that is all it takes.

mod ask;
mod learn;
mod neighbours;
mod own;
mod serve;
mod shell;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use mesh_protocol::limits;
use mesh_protocol::name::{Digest, ThunkName};
use mesh_protocol::peer::PeerId;
use mesh_protocol::records::publish::Counts;
use mesh_protocol::records::{Closest, Target};
use mesh_protocol::thunk::Reduction;
use mesh_protocol::wire::records::{Fact, Notary, Record, RecordKey};
use mesh_store::records::{RecordLimits, RecordStore};
use mesh_store::{Store, StoreError};
use tokio::sync::{mpsc, oneshot};

pub use self::learn::Learned;
pub use self::neighbours::{MembersAndKademlia, Office};
use crate::claims::Signer;
use crate::net::membership::now_s;
use crate::net::{BoxStream, Network};
use crate::transfer::Transfers;

/// Requests that may wait for the task. What is to be published is dropped beyond.
const REQUESTS_MAX: usize = 1024;

/// What [`Neighbours::closest`] gives.
pub type ClosestFuture<'a> = Pin<Box<dyn Future<Output = Closest> + Send + 'a>>;

/// Knows which members are closest to a key.
pub trait Neighbours: Send + Sync {
    /// The closest ones that can be reached, this node apart; none if that cannot be found out. Comes
    /// to an end by itself.
    fn closest(&self, target: Target) -> ClosestFuture<'_>;
}

/// What records are made of.
pub struct RecordsParts {
    /// What this node has.
    pub store: Store,
    /// What it keeps for others.
    pub kept: RecordStore,
    /// The members.
    pub network: Arc<dyn Network>,
    /// Who of them is close to what.
    pub neighbours: Arc<dyn Neighbours>,
    /// What brings the outputs of a reduction here.
    pub transfers: Transfers,
    /// Signs what this node has.
    pub signer: Arc<dyn Signer>,
    /// Says who is a member, and who signed what.
    pub notary: Arc<dyn Notary + Send + Sync>,
    /// Not the same for two nodes.
    pub seed: u64,
}

/// How many records a node keeps for others, by default.
pub const KEPT: RecordLimits = RecordLimits {
    records: limits::RECORDS_KEPT,
    bytes: limits::RECORDS_KEPT_BYTES,
    publisher_records: limits::RECORDS_KEPT_PER_PUBLISHER,
    publisher_bytes: limits::RECORDS_KEPT_PER_PUBLISHER_BYTES,
    key_publishers: limits::PROVIDERS,
    record_bytes: limits::RECORD_BYTES as usize,
};

/// Opens the records that are kept in a node's home.
pub fn open_kept(home: &Path) -> Result<RecordStore, StoreError> {
    RecordStore::open(&home.join("records"), KEPT, now_s())
}

/// A handle; clones share everything. When the last one is gone, nothing more is published or served.
#[derive(Clone)]
pub struct Records {
    requests: mpsc::Sender<Request>,
    shared: Arc<Shared>,
}

/// What several tasks need.
struct Shared {
    store: Store,
    kept: Mutex<RecordStore>,
    transfers: Transfers,
    signer: Arc<dyn Signer>,
    notary: Arc<dyn Notary + Send + Sync>,
    own: PeerId,
    /// Members that were here and went.
    away: Mutex<BTreeSet<PeerId>>,
    asker: ask::Asker,
    server: serve::Server,
}

/// What the task is asked.
enum Request {
    Publish(Vec<RecordKey>),
    Look(RecordKey, oneshot::Sender<Vec<Record>>),
    Joined(usize),
    Counts(oneshot::Sender<Counts>),
}

impl Records {
    /// Starts the task on the current tokio runtime.
    pub fn start(parts: RecordsParts) -> Self {
        let own = parts.network.own();
        let (requests, asked) = mpsc::channel(REQUESTS_MAX);
        let shared = Arc::new(Shared {
            store: parts.store,
            kept: Mutex::new(parts.kept),
            transfers: parts.transfers,
            signer: parts.signer,
            notary: parts.notary,
            own,
            away: Mutex::default(),
            asker: ask::Asker::new(parts.network),
            server: serve::Server::default(),
        });
        let shell = shell::Shell::new(Arc::clone(&shared), parts.neighbours, parts.seed);
        tokio::spawn(shell.serve(asked));
        Self { requests, shared }
    }

    /// Tells the mesh, some time, that this node has these objects.
    pub fn publish_objects(&self, names: impl IntoIterator<Item = Digest>) {
        self.publish(own::providers(names.into_iter()).collect());
    }

    /// The same of what a person put into the store, who expects it to be found: waits for room.
    pub async fn publish_put(&self, names: Vec<Digest>) {
        self.publish_all(own::providers(names.into_iter()).collect()).await;
    }

    /// Tells the mesh, some time, what came of a thunk, and that this node has the outputs.
    pub fn publish_reduction(&self, reduction: &Reduction) {
        self.publish(own::keys(&self.shared.store, reduction));
    }

    /// Publishes what was put into this node's store, and what its memo holds: all of it, as far as there is
    /// room.
    pub async fn publish_store(&self) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        let listed = tokio::task::spawn_blocking(move || own::all_keys(&shared.store)).await;
        let Ok(keys) = listed else { return Ok(()) };
        self.publish_all(keys?).await;
        Ok(())
    }

    async fn publish_all(&self, keys: Vec<RecordKey>) {
        for some in keys.chunks(limits::RECORDS_SWEEP) {
            if self.requests.send(Request::Publish(some.to_vec())).await.is_err() {
                break;
            }
        }
    }

    fn publish(&self, keys: Vec<RecordKey>) {
        if !keys.is_empty() && self.requests.try_send(Request::Publish(keys)).is_err() {
            tracing::debug!("too much to publish at once: some is not");
        }
    }

    /// Members that say that they have an object, and have not been seen to go; at most
    /// [`limits::PROVIDERS`], and after [`limits::LOOKUP_US`] at the latest.
    pub async fn providers(&self, object: Digest) -> Vec<PeerId> {
        let found = self.look(RecordKey::Provider(object)).await;
        let here = |peer: &PeerId| !self.shared.is_away(*peer);
        let peers = found.iter().map(|record| record.statement.publisher).filter(here);
        peers.collect::<BTreeSet<PeerId>>().into_iter().collect()
    }

    /// What a member says came of a thunk: checked to be its word, and nothing else. After
    /// [`limits::LOOKUP_US`] at the latest.
    pub async fn reduction(&self, thunk: ThunkName) -> Option<Record> {
        let found = self.look(RecordKey::Reduction(thunk)).await;
        found.into_iter().find(|record| match &record.statement.fact {
            Fact::Reduced(reduction) => reduction.thunk == thunk,
            Fact::Provides(_) => false,
        })
    }

    async fn look(&self, key: RecordKey) -> Vec<Record> {
        let (sender, found) = oneshot::channel();
        // A task that has ended finds nothing.
        let _ = self.requests.send(Request::Look(key, sender)).await;
        found.await.unwrap_or_default()
    }

    /// Keeps and answers what a member says on this stream. Beyond
    /// [`limits::RECORDS_SERVED_PER_PEER`], streams are closed.
    pub fn serve(&self, peer: PeerId, stream: BoxStream) {
        serve::accept(&self.shared, peer, stream);
    }

    /// A member can be reached, and so many can now.
    pub fn connected(&self, peer: PeerId, others: usize) {
        self.shared.away().remove(&peer);
        // Full: the next round reaches it.
        let _ = self.requests.try_send(Request::Joined(others));
    }

    /// A member cannot be reached: it is not named as a provider any more.
    pub fn disconnected(&self, peer: PeerId) {
        self.shared.away().insert(peer);
        self.shared.asker.forget(peer);
    }

    /// How publication stands.
    pub async fn counts(&self) -> Counts {
        let (sender, counts) = oneshot::channel();
        let _ = self.requests.send(Request::Counts(sender)).await;
        counts.await.unwrap_or_default()
    }

    /// How many records are kept for others, and their bytes.
    pub fn kept(&self) -> (usize, u64) {
        self.shared.kept().size()
    }
}

impl Shared {
    fn away(&self) -> std::sync::MutexGuard<'_, BTreeSet<PeerId>> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_away(&self, peer: PeerId) -> bool {
        self.away().contains(&peer)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, RecordStore> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
