//! What takes time: fetching a lease's inputs, running it, and bringing a receipt's outputs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use mesh_protocol::limits;
use mesh_protocol::name::{ThunkName, ValueName};
use mesh_protocol::peer::PeerId;
use mesh_protocol::sched::force::{Failure, FailureClass};
use mesh_protocol::thunk::{Reduction, Thunk};
use mesh_protocol::wire::claim::{InlineObject, Lease, SignedReduction};
use mesh_store::{Store, StoreError};

use super::compose::{inline, results, values};
use super::sign::{self, Signer};
use crate::exec::{Engine, Job, Outcome, Turn};
use crate::in_place::in_place;
use crate::records::Records;
use crate::transfer::{FetchError, Sources, Transfers};
use crate::verdict;

/// Fetching is given up after this long, whatever progress it makes.
const FETCH: Duration = Duration::from_micros(limits::FETCH_US);

/// Why a task that panicked has no end of its own.
pub(super) const BROKEN: &str = "mesh itself failed there; its log says where";

/// The same as a failure of this machine.
pub(super) fn broken() -> Failure {
    Failure { class: FailureClass::Machine, reason: BROKEN.into() }
}

/// What jobs need; clones share it.
#[derive(Clone)]
pub(super) struct Workshop {
    pub(super) store: Store,
    pub(super) engine: Arc<dyn Engine>,
    pub(super) transfers: Transfers,
    pub(super) records: Option<Records>,
    pub(super) signer: Arc<dyn Signer>,
    pub(super) own: PeerId,
}

/// What a run of somebody else's thunk came to.
pub(super) type JobEnd = (Result<SignedReduction, Failure>, Vec<InlineObject>);

/// What a run of an own thunk came to: its outcome for people, its reduction for the machines.
pub(super) type OwnEnd = (Result<Outcome, String>, Result<Reduction, Failure>);

impl Workshop {
    /// Brings a lease's thunk and all that it reads.
    pub(super) async fn fetch(self, requester: PeerId, lease: Lease) -> Result<Arc<Thunk>, String> {
        let fetch = self.fetch_inputs(requester, lease);
        let fetched = tokio::time::timeout(FETCH, fetch).await;
        fetched.map_err(|_| "its inputs did not come in time".to_owned())?
    }

    async fn fetch_inputs(&self, origin: PeerId, lease: Lease) -> Result<Arc<Thunk>, String> {
        let own = self.own;
        let hints = lease.sources.into_iter().filter(|peer| *peer != own).collect();
        let sources = Sources { origin: Some(origin), hints };
        let bytes = match lease.bytes {
            Some(bytes) => bytes,
            None => self.fetch_bytes(lease.thunk, &sources).await?,
        };
        if ThunkName::of(&bytes) != lease.thunk {
            return Err("the thunk is not the one that it is named".to_owned());
        }
        let thunk = Thunk::decode(&bytes).map_err(|error| error.to_string())?;
        drop(bytes);
        if !thunk.dependencies().is_empty() {
            return Err("the thunk waits for others".to_owned());
        }
        let (files, trees) = values(&thunk);
        self.bring(files, trees, &sources).await.map_err(|error| verdict::chain(&error))?;
        Ok(Arc::new(thunk))
    }

    async fn fetch_bytes(&self, name: ThunkName, sources: &Sources) -> Result<Vec<u8>, String> {
        let digest = name.digest();
        if digest.length > limits::THUNK_BYTES {
            return Err("the thunk is longer than any may be".to_owned());
        }
        let wanted = BTreeSet::from([ValueName(digest)]);
        let fetched = self.transfers.fetch(wanted, sources).await;
        fetched.map_err(|error| verdict::chain(&error))?;
        let store = self.store.clone();
        let read = tokio::task::spawn_blocking(move || store.read(digest, limits::THUNK_BYTES));
        let read = read.await.map_err(|error| error.to_string())?;
        read.map_err(|error| error.to_string())
    }

    async fn bring(
        &self,
        files: BTreeSet<ValueName>,
        trees: BTreeSet<ValueName>,
        sources: &Sources,
    ) -> Result<(), FetchError> {
        let files = self.transfers.fetch(files, sources);
        let trees = self.transfers.fetch_trees(trees, sources);
        tokio::try_join!(files, trees)?;
        Ok(())
    }

    /// Brings what a worker's receipt names.
    pub(super) async fn settle(self, worker: PeerId, reduction: Reduction) -> Result<(), String> {
        let (files, trees) = results(&reduction);
        let sources = Sources::only(worker);
        let bring = tokio::time::timeout(FETCH, self.bring(files, trees, &sources));
        match bring.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(format!("its outputs cannot be had: {}", verdict::chain(&error))),
            Err(_) => Err("its outputs did not come in time".to_owned()),
        }
    }

    /// Runs somebody else's thunk, now or in turn - unless this node did before, for somebody who went
    /// away.
    pub(super) async fn run(
        self,
        name: ThunkName,
        thunk: Arc<Thunk>,
        turn: Option<Turn>,
    ) -> JobEnd {
        let executor = sign::executor(self.own);
        let known = in_place(|| self.store.recall(name)).ok().flatten();
        let known = known.filter(|known| known.executor == executor);
        let remembered = known.is_some();
        let reduction = match known {
            None => self.reduce(name, thunk, turn).await.1,
            Some(known) => {
                if let Some(turn) = turn {
                    turn.come().await;
                }
                Ok((*known).clone())
            }
        };
        match reduction.and_then(|reduction| in_place(|| self.sign(reduction, remembered))) {
            Ok((signed, objects)) => (Ok(signed), objects),
            Err(failure) => (Err(failure), Vec::new()),
        }
    }

    fn sign(
        &self,
        reduction: Reduction,
        remembered: bool,
    ) -> Result<(SignedReduction, Vec<InlineObject>), Failure> {
        let (files, _) = results(&reduction);
        let objects = inline(&self.store, files, limits::CLAIM_INLINE_BYTES as u64);
        let class = FailureClass::Machine;
        let signed = sign::signed(&*self.signer, reduction, remembered);
        let signed = signed.map_err(|reason| Failure { class, reason: reason.into() })?;
        Ok((signed, objects))
    }

    /// Runs a thunk, now or in turn. Nothing is written down.
    pub(super) async fn execute(
        &self,
        name: ThunkName,
        thunk: Arc<Thunk>,
        turn: Option<Turn>,
    ) -> OwnEnd {
        let job = Job { name, thunk };
        let ended = match turn {
            Some(turn) => self.engine.run_in_turn(job, turn).await,
            None => self.engine.run(job).await,
        };
        let reduction = match &ended {
            Ok(outcome) => {
                in_place(|| verdict::judge(&self.store, name, outcome, &sign::executor(self.own)))
            }
            Err(error) => Err(verdict::machine(error)),
        };
        (ended.map_err(|error| verdict::chain(&error)), reduction)
    }

    /// Runs a thunk and writes down what it came to.
    pub(super) async fn reduce(
        &self,
        name: ThunkName,
        thunk: Arc<Thunk>,
        turn: Option<Turn>,
    ) -> OwnEnd {
        let (ended, reduction) = self.execute(name, thunk, turn).await;
        let recorded = reduction.and_then(|reduction| {
            in_place(|| self.record(&reduction)).map_err(|error| verdict::machine(&error))?;
            Ok(reduction)
        });
        (ended, recorded)
    }

    /// Writes down what a thunk came to, and tells the mesh some time. May wait for another process
    /// that writes.
    fn record(&self, reduction: &Reduction) -> Result<(), StoreError> {
        self.store.record(reduction)?;
        if let Some(records) = &self.records {
            records.publish_reduction(reduction);
        }
        Ok(())
    }

    /// The same of several. Once one has waited for a lock in vain, the others do not wait.
    pub(super) fn record_all(
        &self,
        reductions: &[Reduction],
    ) -> Vec<(ThunkName, Result<(), Failure>)> {
        let mut locked: Option<Failure> = None;
        let record = |reduction: &Reduction| {
            if let Some(failure) = &locked {
                return (reduction.thunk, Err(failure.clone()));
            }
            let recorded = self.record(reduction).map_err(|error| {
                let failure = verdict::machine(&error);
                if matches!(error, StoreError::Locked { .. }) {
                    locked = Some(failure.clone());
                }
                failure
            });
            (reduction.thunk, recorded)
        };
        reductions.iter().map(record).collect()
    }
}
