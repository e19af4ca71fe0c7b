//! Transfer: brings objects from other members into the store, and gives them ours.
//!
//! Goals: an object is fetched once, however many want it at the same moment; what is large comes
//! from several members at once, and goes on elsewhere when one of them breaks off; nothing enters the
//! store but what hashes to its name; whoever sends something else is named and not asked again; every
//! wait has a deadline. Non-goals: finding out who has what (the caller names sources), and
//! deciding who may have it (members may, and names cannot be guessed).
//!
//! ```text
//!   fetch ── here? ──────────────────────────────────────────────▶ done
//!     └─▶ somebody fetches it? ── wait for them, look again
//!     └─▶ small: in batches, of one source after the other ──┬─▶ hashed ─▶ stored
//!     └─▶ large: parts of it, of several sources at once, ───┘      └─▶ wrong: who lied?
//!         each piece proven as it comes
//! ```
//!
//! **Who lied about a large object.** The first piece that comes says what the root of the object's
//! [BLAKE3 tree](mesh_protocol::outboard) is. A later piece that does not fit it, from someone whose
//! pieces did, is a lie, and is not written. Who says another root from the start fills a file of
//! their own: one of the two lies, and does not hold up the other. A file that is complete is held against the
//! name, a SHA-256: either it is the object, and whoever said another root lied, or all lied
//! whose pieces are in it. Whoever has the right bytes is never taken for a liar.

mod ask;
mod fetch;
mod flight;
mod kept;
mod large;
mod outboards;
mod packing;
mod serve;
mod suspects;
#[cfg(test)]
mod tests;
mod traffic;
mod tree;

use std::collections::BTreeSet;
use std::sync::Arc;

use mesh_protocol::name::ValueName;
use mesh_protocol::peer::PeerId;
use mesh_store::{Store, StoreError};
use thiserror::Error;

pub use suspects::Suspicion;
pub use traffic::Traffic;

use crate::net::{BoxStream, Network};

/// Where objects may be had, each list the best first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sources {
    /// Who wants it done, and so has all of it.
    pub origin: Option<PeerId>,
    /// Who is said to have the large objects.
    pub hints: Vec<PeerId>,
}

impl Sources {
    /// That one alone.
    pub fn only(peer: PeerId) -> Self {
        Self { origin: Some(peer), hints: Vec::new() }
    }
}

/// Why something is not here.
#[derive(Debug, Error)]
pub enum FetchError {
    /// Nobody who was asked gave it.
    #[error("{name} cannot be had from any of {asked} peers{}", last.as_ref().map(|text| format!("; the last one: {text}")).unwrap_or_default())]
    Nowhere {
        /// One of what is missing.
        name: ValueName,
        /// How many were asked.
        asked: usize,
        /// What the last of them did.
        last: Option<String>,
    },
    /// It is larger, deeper or wider than anything that is fetched.
    #[error("{0} is {1}")]
    TooMuch(ValueName, &'static str),
    /// The store cannot take it.
    #[error("the store: {0}")]
    Store(#[from] StoreError),
    /// The node is being shut down.
    #[error("the node is being shut down")]
    Closed,
}

/// A handle; clones share everything. When the last one is dropped, nothing more is served.
#[derive(Clone)]
pub struct Transfers(Arc<Shared>);

struct Shared {
    store: Store,
    asker: ask::Asker,
    flights: Arc<flight::Flights>,
    suspects: suspects::Suspects,
    traffic: Arc<traffic::Ledger>,
    server: serve::Server,
}

impl Transfers {
    /// Nothing is asked so far.
    pub fn new(store: Store, network: Arc<dyn Network>) -> Self {
        let traffic = Arc::new(traffic::Ledger::default());
        Self(Arc::new(Shared {
            asker: ask::Asker::new(network, Arc::clone(&traffic)),
            flights: Arc::default(),
            suspects: suspects::Suspects::default(),
            server: serve::Server::new(store.clone(), Arc::clone(&traffic)),
            traffic,
            store,
        }))
    }

    /// Gives a member what it asks for on this stream. More streams than
    /// [`TRANSFER_SERVED_PER_PEER`](mesh_protocol::limits::TRANSFER_SERVED_PER_PEER) are closed.
    pub fn serve(&self, peer: PeerId, stream: BoxStream) {
        self.0.server.accept(peer, stream);
    }

    /// Brings these objects here. Dropping the future ends what it began.
    pub async fn fetch(
        &self,
        names: BTreeSet<ValueName>,
        sources: &Sources,
    ) -> Result<(), FetchError> {
        self.0.fetch(names, sources).await
    }

    /// Brings these trees here, with all that they reach.
    pub async fn fetch_trees(
        &self,
        roots: BTreeSet<ValueName>,
        sources: &Sources,
    ) -> Result<(), FetchError> {
        self.0.fetch_trees(roots, sources).await
    }

    /// Who is not asked, or asked last, and why.
    pub fn suspicions(&self) -> Vec<(PeerId, Suspicion)> {
        self.0.suspects.list()
    }

    /// Somebody was caught lying elsewhere: it is not asked for objects either.
    pub(crate) fn lied(&self, peer: PeerId, what: String) {
        self.0.suspects.lied(peer, what);
    }

    /// Counts objects' bytes that went another way: inside leases and receipts.
    pub(crate) fn note(&self, peer: PeerId, received: u64, sent: u64) {
        if received + sent > 0 {
            self.0.traffic.inline(peer, received, sent);
        }
    }

    /// What came from whom, and went to whom, inside leases and receipts too.
    pub fn traffic(&self) -> Vec<(PeerId, Traffic)> {
        self.0.traffic.list()
    }
}

/// Runs what may block on the disk.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, FetchError> {
    // Nothing here panics, so only a runtime that shuts down takes such work away.
    tokio::task::spawn_blocking(work).await.map_err(|_| FetchError::Closed)
}
