//! The requester's side: leases out, receipts in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_protocol::graph::Outputs;
use mesh_protocol::limits;
use mesh_protocol::name::{ThunkName, ValueName};
use mesh_protocol::peer::{PeerId, StreamId};
use mesh_protocol::sched::audit::Verdict;
use mesh_protocol::sched::force::{Failure, FailureClass, RunId};
use mesh_protocol::sched::lease::{Effect, Event, Input};
use mesh_protocol::thunk::{Reduction, Thunk};
use mesh_protocol::time::Time;
use mesh_protocol::wire::claim::{
    FromRequester, FromWorker, LeaseFailure, LeaseId, Receipt, SignedReduction, Timeline,
};
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
    granted: BTreeMap<LeaseId, Granted>,
    /// Leases whose receipt is here, and whose outputs are on their way.
    settling: BTreeMap<LeaseId, Settling>,
    /// Streams that ended while receipts of theirs are being settled: those still count.
    ending: BTreeSet<StreamId>,
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

struct Granted {
    stream: StreamId,
    name: ThunkName,
    thunk: Arc<Thunk>,
    at: Time,
}

struct Settling {
    stream: StreamId,
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

    fn forget_stream(&mut self, stream: StreamId) {
        self.workers.remove(&stream);
        self.granted.retain(|_, granted| granted.stream != stream);
        self.settling.retain(|_, settling| settling.stream != stream);
        self.ending.remove(&stream);
    }

    fn is_settling(&self, stream: StreamId) -> bool {
        self.settling.values().any(|settling| settling.stream == stream)
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
        if self.requester.is_settling(stream) {
            self.requester.workers.remove(&stream);
            self.requester.ending.insert(stream);
            return;
        }
        self.requester.forget_stream(stream);
        self.lease(Input::Closed(stream));
    }

    pub(super) fn on_worker(&mut self, stream: StreamId, message: FromWorker) {
        match message {
            FromWorker::Receipt(receipt) => self.on_receipt(stream, *receipt),
            FromWorker::Heartbeat(mut leases) => {
                // The worker has done its part; what is missing is ours.
                let settling = self.requester.settling.iter();
                leases.extend(
                    settling.filter(|(_, of)| of.stream == stream).map(|(lease, _)| *lease),
                );
                self.lease(Input::Received(stream, FromWorker::Heartbeat(leases)));
            }
            FromWorker::Started(lease) => {
                if let Some(granted) = self.requester.granted.get(&lease)
                    && granted.stream == stream
                {
                    self.requester.runs.begun(granted.name);
                }
                self.lease(Input::Received(stream, message));
            }
            FromWorker::HandBack(leases) => {
                let granted = &mut self.requester.granted;
                granted.retain(|lease, of| of.stream != stream || !leases.contains(lease));
                self.lease(Input::Received(stream, FromWorker::HandBack(leases)));
            }
            other => self.lease(Input::Received(stream, other)),
        }
    }

    /// Brings the outputs first: what force hears of is here.
    fn on_receipt(&mut self, stream: StreamId, receipt: Receipt) {
        let granted = self.requester.granted.get(&receipt.lease);
        let granted = match granted.filter(|granted| granted.stream == stream) {
            Some(_) => self.requester.granted.remove(&receipt.lease),
            None => None,
        };
        let (Some((peer, _)), Ok(signed), Some(granted)) =
            (self.requester.workers.get(&stream), &receipt.end, granted)
        else {
            return self.lease(Input::Received(stream, FromWorker::Receipt(Box::new(receipt))));
        };
        let peer = *peer;
        let (received, told) = (self.now(), receipt.timeline);
        let settling = Settling { stream, granted: granted.at, received, told };
        self.requester.settling.insert(receipt.lease, settling);
        let settle = self.workshop.clone().settle(peer, signed.reduction.clone());
        let check = self.audits.wants(peer).then(|| Check {
            peer,
            name: granted.name,
            thunk: granted.thunk,
            told: Arc::new(signed.reduction.outputs.clone()),
            workshop: self.workshop.clone(),
            turns: Arc::clone(&self.check_turns),
        });
        let failure = LeaseFailure { class: FailureClass::Machine, reason: job::BROKEN.to_owned() };
        let end = Err(failure);
        let timeline = Timeline::default();
        let broken = Receipt { lease: receipt.lease, end, objects: Vec::new(), timeline };
        let broken = Done::Settled(stream, Box::new(broken), Ok(None));
        self.tasks.spawn(broken, async move {
            let settled = match (settle.await, check) {
                (Ok(()), Some(check)) => Ok(check.run().await),
                (settled, _) => settled.map(|()| None),
            };
            Done::Settled(stream, Box::new(receipt), settled)
        });
    }

    pub(super) fn on_settled(&mut self, stream: StreamId, mut receipt: Receipt, settled: Settled) {
        let lease = receipt.lease;
        let settled = settled.and_then(|check| check.map_or(Ok(()), |it| self.on_checked(it)));
        if let Err(reason) = settled {
            receipt.end = Err(LeaseFailure {
                class: FailureClass::Machine,
                reason: reason.chars().take(limits::CLAIM_REASON_BYTES / 4).collect(),
            });
        }
        self.lease(Input::Received(stream, FromWorker::Receipt(Box::new(receipt))));
        self.requester.settling.remove(&lease);
        if self.requester.ending.contains(&stream) {
            self.on_served_closed(stream);
        }
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

    pub(super) fn lease_effects(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Lease { stream, lease, name, thunk } => {
                    self.grant(stream, lease, name, thunk);
                }
                Effect::Send(stream, message) => {
                    if let FromRequester::Cancel(leases) = &message {
                        self.requester.granted.retain(|lease, _| !leases.contains(lease));
                    }
                    self.requester.queue(stream, Outgoing::Say(message));
                }
                Effect::Close(stream) => self.requester.forget_stream(stream),
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
    }

    fn grant(&mut self, stream: StreamId, lease: LeaseId, name: ThunkName, thunk: Arc<Thunk>) {
        let Some((worker, _)) = self.requester.workers.get(&stream) else { return };
        let sources = self.sources(*worker, &thunk, lease);
        let granted = Granted { stream, name, thunk: Arc::clone(&thunk), at: self.now() };
        self.requester.granted.insert(lease, granted);
        let draft = LeaseDraft { lease, name, thunk, sources };
        self.requester.queue(stream, Outgoing::Lease(draft));
    }

    /// Who may have the large inputs; not always the same first, so that nobody is asked by all.
    fn sources(&self, worker: PeerId, thunk: &Thunk, lease: LeaseId) -> Vec<PeerId> {
        let (files, trees) = compose::values(thunk);
        let large = files.iter().filter(|name| name.digest().length > limits::LEASE_INLINE_BYTES);
        let heavy: Vec<&ValueName> =
            trees.iter().chain(large).take(limits::LOCALITY_INPUTS).collect();
        let holders = heavy.into_iter().flat_map(|name| self.leases.holders(name));
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
