//! The worker's side: leases in, receipts out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use mesh_protocol::limits;
use mesh_protocol::name::{ThunkName, ValueName};
use mesh_protocol::peer::{PeerId, StreamId};
use mesh_protocol::sched::claim::{Effect, Input, Job};
use mesh_protocol::sched::force::Failure;
use mesh_protocol::thunk::{Reduction, Thunk};
use mesh_protocol::wire::claim::{FromWorker, Lease, LeaseId};
use mesh_protocol::wire::offer::Offer;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::check::Settled;
use super::client::ClientId;
use super::job::{self, JobEnd, OwnEnd};
use super::line::ToRequester;
use super::shell::Shell;
use super::{JobCounts, JobEvent, compose};
use crate::exec::Turn;

/// What the claim machine's effects act on.
#[derive(Default)]
pub(super) struct Worker {
    requesters: BTreeMap<StreamId, (PeerId, ToRequester)>,
    jobs: BTreeMap<Job, AbortHandle>,
    /// When each lease came whose end has not been told: what it needs must stay in the store.
    held_since: BTreeMap<Job, Instant>,
    /// Of those that wait for their turn.
    turns: BTreeMap<Job, oneshot::Sender<()>>,
    holds: BTreeSet<ValueName>,
    hold_order: VecDeque<ValueName>,
    /// Streams whose queue was full.
    pub(super) broken: Vec<StreamId>,
    pub(super) is_drained: bool,
    /// What runs, for those who watch.
    running: BTreeMap<Job, (PeerId, ThunkName)>,
    pub(super) watchers: Vec<mpsc::Sender<JobEvent>>,
    /// What became of what ran.
    pub(super) counts: JobCounts,
}

/// What a task of the node's came to.
pub(super) enum Done {
    /// Which trees of an offer are here.
    Looked(PeerId, Offer, BTreeSet<ValueName>),
    Fetched(Job, Result<Arc<Thunk>, String>),
    Ran(Job, Box<JobEnd>),
    Own(LeaseId, ThunkName, Box<OwnEnd>),
    Settled(LeaseId, Settled),
    /// Reductions that came from workers were written down, or could not be.
    Recorded(Vec<(ThunkName, Result<(), Failure>)>),
    /// What others know of a thunk that a build needs.
    Recalled(ClientId, ThunkName, Option<Arc<Reduction>>),
}

impl Worker {
    /// For how long the oldest lease has been held.
    pub(super) fn oldest_job(&self) -> Option<Duration> {
        self.held_since.values().min().map(Instant::elapsed)
    }

    fn tell(&mut self, event: &JobEvent) {
        self.watchers.retain(|watcher| {
            !matches!(watcher.try_send(event.clone()), Err(TrySendError::Closed(_)))
        });
    }

    fn begun(&mut self, job: Job, name: ThunkName, thunk: &Arc<Thunk>) {
        let Some((peer, _)) = self.requesters.get(&job.stream) else { return };
        let peer = *peer;
        tracing::info!(%peer, thunk = %name, "a lease runs");
        self.running.insert(job, (peer, name));
        self.tell(&JobEvent::Started { peer, name, thunk: Arc::clone(thunk) });
    }

    fn ended(&mut self, job: Job, failure: Option<Arc<str>>) {
        if let Some((peer, name)) = self.running.remove(&job) {
            match &failure {
                Some(reason) => {
                    self.counts.failed += 1;
                    tracing::info!(%peer, thunk = %name, ?reason, "a lease failed");
                }
                None => {
                    self.counts.succeeded += 1;
                    tracing::info!(%peer, thunk = %name, "a lease is done");
                }
            }
            self.tell(&JobEvent::Ended { peer, name, failure });
        }
    }

    fn withdrawn(&mut self, job: Job) {
        if let Some((peer, name)) = self.running.remove(&job) {
            self.counts.withdrawn += 1;
            tracing::info!(%peer, thunk = %name, "a lease was withdrawn");
            let failure = Some("it is not wanted any more".into());
            self.tell(&JobEvent::Ended { peer, name, failure });
        }
    }

    /// Remembers trees that are here. False: they were known.
    fn hold(&mut self, trees: BTreeSet<ValueName>) -> bool {
        let before = self.hold_order.len();
        for tree in trees {
            if self.holds.insert(tree) {
                self.hold_order.push_back(tree);
            }
        }
        let news = self.hold_order.len() > before;
        while self.hold_order.len() > limits::TREES_HELD {
            if let Some(oldest) = self.hold_order.pop_front() {
                self.holds.remove(&oldest);
            }
        }
        news
    }
}

impl Shell {
    pub(super) fn on_done(&mut self, done: Done) {
        match done {
            Done::Looked(peer, offer, held) => self.on_looked(peer, offer, held),
            Done::Fetched(job, fetched) => self.on_fetched(job, fetched),
            // It broke before its turn.
            Done::Ran(job, _) if self.worker.turns.contains_key(&job) => {}
            Done::Ran(job, end) => {
                self.worker.jobs.remove(&job);
                self.worker.held_since.remove(&job);
                let (end, objects) = *end;
                let failure = end.as_ref().err().map(|failure| Arc::clone(&failure.reason));
                self.worker.ended(job, failure);
                self.claim(Input::Ended(job, end, objects));
            }
            Done::Own(lease, name, end) => self.on_own_ended(lease, name, *end),
            Done::Recorded(all) => self.on_recorded(all),
            Done::Recalled(client, name, known) => self.on_recalled(client, name, known),
            Done::Settled(lease, settled) => self.on_settled(lease, settled),
        }
    }

    pub(super) fn on_offer(&mut self, peer: PeerId, offer: Offer, held: BTreeSet<ValueName>) {
        self.hold(held);
        self.claim(Input::Offer(peer, offer));
    }

    pub(super) fn on_claim_closed(&mut self, stream: StreamId) {
        self.worker.requesters.remove(&stream);
        self.worker.held_since.retain(|job, _| job.stream != stream);
        self.claim(Input::Closed(stream));
    }

    fn on_fetched(&mut self, job: Job, fetched: Result<Arc<Thunk>, String>) {
        self.worker.jobs.remove(&job);
        match &fetched {
            Ok(thunk) => self.hold(compose::values(thunk).1),
            Err(_) => drop(self.worker.held_since.remove(&job)),
        }
        self.claim(Input::Fetched(job, fetched));
    }

    fn hold(&mut self, trees: BTreeSet<ValueName>) {
        if self.worker.hold(trees) {
            self.claim(Input::Holds(self.worker.holds.clone()));
        }
    }

    pub(super) fn claim_effect(&mut self, effect: Effect) {
        match effect {
            Effect::Open(stream, peer, open) => {
                let queue = self.lines.claim(stream, peer, open);
                self.worker.requesters.insert(stream, (peer, queue));
            }
            Effect::Send(stream, message) => self.say(stream, message),
            Effect::Close(stream) => {
                self.worker.requesters.remove(&stream);
                self.worker.held_since.retain(|job, _| job.stream != stream);
            }
            Effect::Fetch(job, lease) => self.fetch(job, lease),
            Effect::Prepare(job, name, thunk) => {
                let (sender, turn) = Turn::new();
                self.worker.turns.insert(job, sender);
                self.run(job, name, thunk, Some(turn));
            }
            Effect::Run { job, name, thunk, .. } => {
                self.worker.begun(job, name, &thunk);
                let turn = self.worker.turns.remove(&job);
                // What was not prepared, or broke by that, begins here.
                if turn.is_none_or(|turn| turn.send(()).is_err()) {
                    self.run(job, name, thunk, None);
                }
            }
            Effect::Stop(job) => {
                self.worker.turns.remove(&job);
                self.worker.held_since.remove(&job);
                if let Some(task) = self.worker.jobs.remove(&job) {
                    task.abort();
                }
                self.worker.withdrawn(job);
            }
            Effect::Drained => self.on_drained(),
        }
    }

    fn fetch(&mut self, job: Job, lease: Lease) {
        let Some((requester, _)) = self.worker.requesters.get(&job.stream) else { return };
        tracing::debug!(peer = %requester, thunk = %lease.thunk, "a lease was taken");
        self.worker.held_since.insert(job, Instant::now());
        let fetch = self.workshop.clone().fetch(*requester, lease);
        let broken = Done::Fetched(job, Err(job::BROKEN.to_owned()));
        self.spawn(job, broken, async move { Done::Fetched(job, fetch.await) });
    }

    fn run(&mut self, job: Job, name: ThunkName, thunk: Arc<Thunk>, turn: Option<Turn>) {
        let workshop = self.workshop.clone();
        let broken = Done::Ran(job, Box::new((Err(job::broken()), Vec::new())));
        self.spawn(job, broken, async move {
            Done::Ran(job, Box::new(workshop.run(name, thunk, turn).await))
        });
    }

    fn spawn(
        &mut self,
        job: Job,
        if_it_panics: Done,
        work: impl Future<Output = Done> + Send + 'static,
    ) {
        let task = self.tasks.spawn(if_it_panics, work);
        self.worker.jobs.insert(job, task);
    }

    fn say(&mut self, stream: StreamId, message: FromWorker) {
        let Some((peer, queue)) = self.worker.requesters.get(&stream) else { return };
        if let FromWorker::HandBack(leases) = &message {
            tracing::info!(%peer, leases = leases.len(), "leases go back");
        }
        if queue.try_send(message).is_err() {
            tracing::debug!(%peer, "a requester does not read what it is told");
            self.worker.requesters.remove(&stream);
            self.worker.broken.push(stream);
        }
    }
}
