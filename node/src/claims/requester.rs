//! The requester's side: leases out, receipts in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_protocol::graph::Outputs;
use mesh_protocol::limits;
use mesh_protocol::name::{ThunkName, ValueName};
use mesh_protocol::peer::{PeerId, StreamId};
use mesh_protocol::sched::audit::Verdict;
use mesh_protocol::sched::force::{Failure, RunId};
use mesh_protocol::sched::lease::{Effect, Event, Input, Settle};
use mesh_protocol::thunk::{Reduction, Thunk};
use mesh_protocol::time::Time;
use mesh_protocol::wire::claim::{FromWorker, LeaseId, SignedReduction, Timeline};
use tokio::task::AbortHandle;

use super::check::{Check, Checked, Settled};
use super::client::{News, Trip};
use super::compose::{self, LeaseDraft};
use super::job::{self, OwnEnd};
use super::line::{Outgoing, ToWorker};
use super::runs::{self, Runs};
use super::shell::Shell;
use super::sign;
use super::worker::Done;
use crate::net::BoxStream;

/// Streams of one peer: the one in use, one that replaces it, and slack for those that are ending.
const STREAMS_PER_PEER: usize = 4;

/// What the lease machine's effects act on.
#[derive(Default)]
pub(super) struct Requester {
    pub(super) runs: Runs,
    workers: BTreeMap<StreamId, (PeerId, ToWorker)>,
    next_stream: u64,
    /// Where the time of those went that are being settled.
    settling: BTreeMap<LeaseId, Settling>,
    own: BTreeMap<LeaseId, AbortHandle>,
    /// Streams whose queue was full.
    pub(super) broken: Vec<StreamId>,
    /// Thunks whose reductions are being written down, which may take as long as another process has
    /// the log. The runs that end with them are told so afterwards.
    recording: BTreeMap<ThunkName, Recording>,
    /// What is to be written down next. One task writes at a time: they would wait for each other, and
    /// keep threads from those who wait for nobody.
    unrecorded: Vec<Reduction>,
    is_recording: bool,
}

#[derive(Default)]
struct Recording {
    /// Tasks that write.
    writes: u32,
    runs: Vec<(RunId, Outputs)>,
}

#[derive(Clone, Copy)]
struct Settling {
    granted: Time,
    received: Time,
    /// What its worker says of its time.
    told: Timeline,
}

impl Requester {
    /// Runs under way on this machine.
    pub(super) fn own_running(&self) -> u32 {
        u32::try_from(self.own.len()).unwrap_or(u32::MAX)
    }

    fn queue(&mut self, stream: StreamId, outgoing: Outgoing) {
        let Some((peer, queue)) = self.workers.get(&stream) else { return };
        if queue.try_send(outgoing).is_err() {
            tracing::debug!(%peer, "a worker does not read what it is told");
            self.workers.remove(&stream);
            self.broken.push(stream);
        }
    }
}

impl Shell {
    pub(super) fn on_incoming(&mut self, peer: PeerId, stream: BoxStream) {
        let workers = &mut self.requester.workers;
        let of_peer = workers.values().filter(|(other, _)| *other == peer).count();
        if of_peer >= STREAMS_PER_PEER || workers.len() >= limits::CLAIMANTS + STREAMS_PER_PEER {
            return tracing::debug!(%peer, "too many claim streams");
        }
        let id = StreamId(self.requester.next_stream);
        self.requester.next_stream += 1;
        let queue = self.lines.serve(id, peer, stream);
        self.requester.workers.insert(id, (peer, queue));
    }

    pub(super) fn on_served_closed(&mut self, stream: StreamId) {
        self.requester.workers.remove(&stream);
        self.lease(Input::Closed(stream));
    }

    pub(super) fn on_worker(&mut self, stream: StreamId, message: FromWorker) {
        if let FromWorker::Started(lease) = message
            && let Some(name) = self.member.leases().and_then(|leases| leases.held(stream, lease))
        {
            self.requester.runs.begun(name);
        }
        self.lease(Input::Received(stream, message));
    }

    /// Brings the outputs, and checks them now and then: what force hears of is here.
    fn bring(&mut self, settle: Settle) {
        let Settle { lease, peer, thunk, reduction, granted, timeline } = settle;
        let trip = Settling { granted, received: self.now(), told: timeline };
        self.requester.settling.insert(lease, trip);
        let (name, told) = (reduction.thunk, Arc::new(reduction.outputs.clone()));
        let bring = self.workshop.clone().settle(peer, reduction);
        let (workshop, turns) = (self.workshop.clone(), Arc::clone(&self.check_turns));
        let is_checked = self.audits.wants(peer);
        let check = is_checked.then(|| Check { peer, name, thunk, told, workshop, turns });
        let broken = Done::Settled(lease, Err(job::BROKEN.to_owned()));
        self.tasks.spawn(broken, async move {
            let settled = match (bring.await, check) {
                (Ok(()), Some(check)) => Ok(check.run().await),
                (settled, _) => settled.map(|()| None),
            };
            Done::Settled(lease, settled)
        });
    }

    pub(super) fn on_settled(&mut self, lease: LeaseId, settled: Settled) {
        let settled = settled.and_then(|check| check.map_or(Ok(()), |it| self.on_checked(it)));
        let shortened =
            |reason: String| reason.chars().take(limits::CLAIM_REASON_BYTES / 4).collect();
        let settled = settled.map_err(shortened);
        self.lease(Input::Settled(lease, settled));
        self.requester.settling.remove(&lease);
    }

    fn on_checked(&mut self, Checked { peer, name, verdict }: Checked) -> Result<(), String> {
        self.audits.record(peer, verdict);
        self.requester.runs.news(name, &News::Checked(name));
        match verdict {
            Verdict::Agrees => Ok(()),
            Verdict::Varies => {
                tracing::info!(%name, "what comes of it varies, so it says nothing of whoever ran it");
                Ok(())
            }
            Verdict::Lied => {
                let what = format!("other outputs than its own come of {name} here");
                self.workshop.transfers.lied(peer, what);
                self.liars.push(peer);
                Err("its outputs are not those that come of the thunk here".to_owned())
            }
        }
    }

    pub(super) fn on_own_ended(&mut self, lease: LeaseId, name: ThunkName, end: OwnEnd) {
        self.requester.own.remove(&lease);
        let (outcome, reduction) = end;
        self.requester.runs.tried(name, &outcome);
        if let Ok(reduction) = &reduction {
            self.requester.runs.news(name, &ran(reduction, None, None));
        }
        let outputs = reduction.map(|reduction| Arc::new(reduction.outputs));
        self.lease(Input::OwnEnded(lease, outputs));
    }

    pub(super) fn lease_effect(&mut self, effect: Effect) {
        match effect {
            Effect::Lease { stream, lease, name, thunk } => {
                self.grant(stream, lease, name, thunk);
            }
            Effect::Send(stream, message) => {
                self.requester.queue(stream, Outgoing::Say(message));
            }
            Effect::Close(stream) => drop(self.requester.workers.remove(&stream)),
            Effect::Settle(settle) => self.bring(*settle),
            Effect::Run { lease, name, thunk, .. } => self.run_own(lease, name, thunk),
            Effect::StopOwn(lease) => {
                if let Some(run) = self.requester.own.remove(&lease) {
                    run.abort();
                }
            }
            Effect::Record(lease, signed) => self.record(lease, &signed),
            Effect::Ended(run, end) => self.end_run(run, end),
            Effect::Event(event) => self.on_event(event),
        }
    }

    fn grant(&mut self, stream: StreamId, lease: LeaseId, name: ThunkName, thunk: Arc<Thunk>) {
        let Some((worker, _)) = self.requester.workers.get(&stream) else { return };
        let sources = self.sources(*worker, &thunk, lease);
        let draft = LeaseDraft { lease, name, thunk, sources };
        self.requester.queue(stream, Outgoing::Lease(draft));
    }

    /// Who may have the large inputs; not always the same first, so that nobody is asked by all.
    fn sources(&self, worker: PeerId, thunk: &Thunk, lease: LeaseId) -> Vec<PeerId> {
        let (files, trees) = compose::values(thunk);
        let large = files.iter().filter(|name| name.digest().length > limits::LEASE_INLINE_BYTES);
        let heavy: Vec<&ValueName> =
            trees.iter().chain(large).take(limits::LOCALITY_INPUTS).collect();
        let leases = self.member.leases();
        let holders = leases
            .into_iter()
            .flat_map(|leases| heavy.iter().flat_map(|name| leases.holders(name)));
        let holders: BTreeSet<PeerId> = holders.filter(|peer| *peer != worker).collect();
        let mut sources: Vec<PeerId> = holders.into_iter().collect();
        if !sources.is_empty() {
            let turn = lease.0 as usize % sources.len();
            sources.rotate_left(turn);
        }
        sources.truncate(limits::LEASE_SOURCES);
        sources
    }

    fn run_own(&mut self, lease: LeaseId, name: ThunkName, thunk: Arc<Thunk>) {
        self.requester.runs.begun(name);
        let workshop = self.workshop.clone();
        let broken = (Err(job::BROKEN.to_owned()), Err(job::broken()));
        let broken = Done::Own(lease, name, Box::new(broken));
        let run = self.tasks.spawn(broken, async move {
            let end = workshop.reduce(name, thunk, None).await;
            Done::Own(lease, name, Box::new(end))
        });
        self.requester.own.insert(lease, run);
    }

    fn record(&mut self, lease: LeaseId, signed: &SignedReduction) {
        let (now, reduction) = (self.now(), &signed.reduction);
        let at = sign::peer_of(&reduction.executor);
        let runs = &mut self.requester.runs;
        if signed.remembered {
            runs.learned(reduction.thunk, &Arc::new(reduction.outputs.clone()), at);
        } else {
            let settling = self.requester.settling.get(&lease);
            let trip = settling.map(|it| Trip::new([it.granted, it.received, now], it.told));
            runs.news(reduction.thunk, &ran(reduction, at, trip));
            runs.tried(reduction.thunk, &Ok(runs::outcome(reduction)));
        }
        self.requester.recording.entry(reduction.thunk).or_default().writes += 1;
        self.requester.unrecorded.push(reduction.clone());
        self.record_next();
    }

    fn record_next(&mut self) {
        if self.requester.is_recording || self.requester.unrecorded.is_empty() {
            return;
        }
        self.requester.is_recording = true;
        let reductions = std::mem::take(&mut self.requester.unrecorded);
        let workshop = self.workshop.clone();
        let broken = |reduction: &Reduction| (reduction.thunk, Err(job::broken()));
        let broken = Done::Recorded(reductions.iter().map(broken).collect());
        self.tasks.spawn_blocking(broken, move || Done::Recorded(workshop.record_all(&reductions)));
    }

    pub(super) fn on_recorded(&mut self, all: Vec<(ThunkName, Result<(), Failure>)>) {
        self.requester.is_recording = false;
        self.record_next();
        all.into_iter().for_each(|(thunk, recorded)| self.on_recorded_one(thunk, recorded));
    }

    /// What force hears of is in the store.
    fn on_recorded_one(&mut self, thunk: ThunkName, recorded: Result<(), Failure>) {
        let Some(recording) = self.requester.recording.get_mut(&thunk) else { return };
        recording.writes -= 1;
        // One that is written down is enough.
        if recorded.is_err() && recording.writes > 0 {
            return;
        }
        let runs = std::mem::take(&mut recording.runs);
        if recording.writes == 0 {
            self.requester.recording.remove(&thunk);
        }
        for (run, outputs) in runs {
            self.requester.runs.ended(run, recorded.clone().map(|()| outputs));
        }
    }

    fn end_run(&mut self, run: RunId, end: Result<Outputs, Failure>) {
        let name = self.requester.runs.name(run);
        let recording = name.and_then(|name| self.requester.recording.get_mut(&name));
        match (recording, end) {
            (Some(recording), Ok(outputs)) => recording.runs.push((run, outputs)),
            (_, end) => self.requester.runs.ended(run, end),
        }
    }

    fn on_event(&mut self, event: Event) {
        let runs = &mut self.requester.runs;
        match &event {
            Event::PutBack(thunk, at, reason) => {
                let (thunk, at, reason) = (*thunk, *at, reason.to_string());
                runs.news(thunk, &News::PutBack { thunk, at, reason: reason.clone() });
                runs.tried(thunk, &Err(reason));
            }
            Event::Speculated(thunk, _) => runs.news(*thunk, &News::Speculated(*thunk)),
            Event::Wasted(thunk, us) => runs.news(*thunk, &News::Wasted(*thunk, *us)),
            _ => {}
        }
        (self.watcher)(event);
    }
}

fn ran(reduction: &Reduction, at: Option<PeerId>, trip: Option<Trip>) -> News {
    News::Ran { thunk: reduction.thunk, at, busy_us: reduction.usage.wall_us, trip }
}
