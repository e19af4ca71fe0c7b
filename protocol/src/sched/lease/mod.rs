//! Lease: decide who runs what is ready, and survive whoever does not.
//!
//! Goals: every thunk that force wants run ends in exactly one answer, whatever becomes of the
//! workers; a late, double or foreign receipt changes nothing; a worker gets no more than it asks
//! for, and one that fails, vanishes or is slow does not hold the build up; the cost of a lease does
//! not grow with the number of ready thunks. Non-goals: keeping leases across a broken stream (a
//! worker drops them too, and what it had finished is found through the memo), and checking that a
//! reduction is true.
//!
//! One thunk:
//!
//! ```text
//!          Ready                lease                    receipt
//!  (force) -----> in the pool ---------> leased, once --------------------> Ended (force)
//!                   ^                    |   ^     \  late for its kind      ^
//!                   |   stream broken,   |   |      `------> leased twice ---' the first receipt wins,
//!                   '-- silent, handed --'   '-- one copy        |             the other is cancelled
//!                       back, the machine's      lost -----------'
//!                       failure
//! ```
//!
//! A claimant: `Opened` -> leases within its window -> `Closed`, silent for
//! [`limits::SILENCE_US`], replaced by a newer stream of its peer, or breaking a rule.

mod place;
mod pool;
mod seat;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use self::pool::{Place, Pool};
use self::seat::Claimant;
pub use self::seat::Seat;
use crate::graph::Outputs;
use crate::limits;
use crate::name::{ThunkName, ValueName};
use crate::peer::{PeerId, StreamId};
use crate::sched::force::{Failure, FailureClass, RunId};
use crate::sched::kinds::Kinds;
use crate::sched::policy::{CriticalPath, Placement, Speculation, Stragglers};
use crate::sched::score::{Scores, Trust};
use crate::thunk::{OutputObject, Thunk};
use crate::time::Time;
use crate::wire::claim::{
    Capabilities, FromRequester, FromWorker, LeaseFailure, LeaseId, Open, Receipt, SignedReduction,
    Window,
};
use crate::wire::offer::ResourceClass;

/// What the machine is told.
#[derive(Debug)]
pub enum Input {
    /// Force wants this run: its [`Effect::Start`](crate::sched::force::Effect::Start).
    Ready {
        /// Force's number for it.
        run: RunId,
        /// Its name.
        name: ThunkName,
        /// Its content.
        thunk: Arc<Thunk>,
        /// Its b-level.
        level: u32,
    },
    /// Force does not want it any more.
    Stop(RunId),
    /// Are there other members, so that somebody may come for what this machine fails at?
    Others(bool),
    /// So many cores of this machine may be kept busy from now on.
    OwnSlots(u32),
    /// A run on this machine ended.
    OwnEnded(LeaseId, Result<Outputs, Failure>),
    /// A member opened a claim stream, and said this.
    Opened(StreamId, PeerId, Open),
    /// A claim stream brought this. The signature of a reduction has been checked.
    Received(StreamId, FromWorker),
    /// A claim stream is no more.
    Closed(StreamId),
}

/// What the machine wants done.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Lease this to a worker: the driver adds bytes, small inputs and sources (see
    /// [`Leases::holders`]), as far as they fit.
    Lease {
        /// On which stream.
        stream: StreamId,
        /// The lease.
        lease: LeaseId,
        /// Its name.
        name: ThunkName,
        /// Its content.
        thunk: Arc<Thunk>,
    },
    /// Say this.
    Send(StreamId, FromRequester),
    /// Close the stream; [`Input::Closed`] is not awaited.
    Close(StreamId),
    /// Run this here; answer with [`Input::OwnEnded`].
    Run {
        /// The lease.
        lease: LeaseId,
        /// Its name.
        name: ThunkName,
        /// Its content.
        thunk: Arc<Thunk>,
        /// Cores that it may keep busy.
        cores: u32,
    },
    /// Stop that run of our own; no answer is awaited.
    StopOwn(LeaseId),
    /// Keep this reduction: it comes before the [`Effect::Ended`] that it belongs to.
    Record(SignedReduction),
    /// Tell force.
    Ended(RunId, Result<Outputs, Failure>),
    /// Something a person may want to see.
    Event(Event),
}

/// What happened to a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Given to a claimant.
    Leased(LeaseId, ThunkName, Seat),
    /// It is late: a second copy goes to that claimant.
    Speculated(ThunkName, Seat),
    /// It waited in a queue while slots were idle, and is taken to that claimant.
    Moved(ThunkName, Seat),
    /// A copy was in vain; microseconds since it was leased.
    Wasted(ThunkName, u64),
    /// A lease ended without a receipt that counts, there (none: here), and the thunk goes to
    /// somebody else.
    PutBack(ThunkName, Option<PeerId>, Arc<str>),
    /// A receipt for a lease that is not (any more) this claimant's.
    Stray(LeaseId),
    /// A peer broke a rule of the protocol.
    Misbehaved(PeerId, &'static str),
}

/// Counts for the closing line and the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Leases given.
    pub leased: u64,
    /// Of those, second copies.
    pub speculated: u64,
    /// Taken from a queue to an idle slot.
    pub moved: u64,
    /// Put back after a loss or a machine's failure.
    pub put_back: u64,
    /// Receipts that counted for nothing.
    pub stray: u64,
    /// Time that copies ran in vain.
    pub wasted_us: u64,
}

/// A thunk that force wants run.
struct Work {
    name: ThunkName,
    thunk: Arc<Thunk>,
    level: u32,
    place: Place,
    class: ResourceClass,
    heavy: Vec<ValueName>,
    leases: Vec<LeaseId>,
    failures: u32,
    losses: u32,
}

/// A lease that runs.
struct Granted {
    run: RunId,
    seat: Seat,
    cores: u32,
    at: Time,
    started: Option<Time>,
    /// When its holder last named it.
    named: Time,
}

/// The policies of a requester.
pub struct LeasePolicy {
    /// Who gets what.
    pub placement: Box<dyn Placement>,
    /// What is late.
    pub speculation: Box<dyn Speculation>,
}

impl Default for LeasePolicy {
    fn default() -> Self {
        Self { placement: Box::new(CriticalPath), speculation: Box::new(Stragglers) }
    }
}

/// The machine. One per requester.
pub struct Leases {
    policy: LeasePolicy,
    works: BTreeMap<RunId, Work>,
    pool: Pool,
    granted: BTreeMap<LeaseId, Granted>,
    seats: BTreeMap<Seat, Claimant>,
    scores: Scores,
    kinds: Kinds,
    /// Where a thunk failed: it goes elsewhere if there is an elsewhere.
    avoid: BTreeMap<ThunkName, BTreeSet<Option<PeerId>>>,
    has_others: bool,
    next_lease: u64,
    next_order: u64,
    /// Late leases by class for which no claimant here has a slot, as of the last look.
    overdue: BTreeMap<ResourceClass, u32>,
    /// When to look what could be done with idle slots.
    next_look: Option<Time>,
    /// When the next claimant may be tried again, if there is something to try it with.
    next_pardon: Option<Time>,
    counts: Counts,
}

impl Leases {
    /// A machine without work and without claimants but this machine, with no slots so far.
    pub fn new(policy: LeasePolicy, own: Capabilities) -> Self {
        let own = Claimant::new(Time::ZERO, None, own, Window::default());
        Self {
            policy,
            works: BTreeMap::new(),
            pool: Pool::default(),
            granted: BTreeMap::new(),
            seats: BTreeMap::from([(Seat::Own, own)]),
            scores: Scores::default(),
            kinds: Kinds::default(),
            avoid: BTreeMap::new(),
            has_others: false,
            next_lease: 0,
            next_order: 0,
            overdue: BTreeMap::new(),
            next_look: None,
            next_pardon: None,
            counts: Counts::default(),
        }
    }

    /// What to offer: thunks by class that nobody has taken, or that are late where they are; and
    /// trees of those that come next.
    pub fn unplaced(&self) -> (BTreeMap<ResourceClass, u32>, BTreeSet<ValueName>) {
        let mut counts = self.pool.counts();
        if counts.is_empty() {
            counts.clone_from(&self.overdue);
        }
        let heads = self.pool.heads().filter_map(|run| self.works.get(&run));
        let trees = heads.flat_map(|work| pool::trees(&work.thunk));
        (counts, trees.take(limits::OFFER_TREES).collect())
    }

    /// Claimants that have a value, as far as is known: sources for a lease.
    pub fn holders(&self, name: &ValueName) -> impl Iterator<Item = PeerId> {
        let holding = self.seats.values().filter(|claimant| claimant.holds.contains(name));
        holding.filter_map(|claimant| claimant.peer)
    }

    /// Cores of this machine that its own leases keep busy.
    pub fn own_cores(&self) -> u32 {
        self.seats.get(&Seat::Own).map_or(0, |own| own.cores)
    }

    /// Leases that run, and thunks in all.
    pub fn load(&self) -> (usize, usize) {
        (self.granted.len(), self.works.len())
    }

    /// Counts so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What is thought of peers.
    pub fn scores(&self) -> &Scores {
        &self.scores
    }

    /// Takes one input and appends what is to be done about it.
    pub fn handle(&mut self, now: Time, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Ready { run, name, thunk, level } => self.on_ready(run, name, thunk, level),
            Input::Stop(run) => self.on_stop(now, run, effects),
            Input::OwnSlots(slots) => {
                if let Some(own) = self.seats.get_mut(&Seat::Own) {
                    own.window = Window { slots, prefetch: 0 };
                }
            }
            Input::Others(others) => self.has_others = others,
            Input::OwnEnded(lease, end) => self.on_own_ended(now, lease, end, effects),
            Input::Opened(stream, peer, open) => self.on_opened(now, stream, peer, open, effects),
            Input::Received(stream, message) => {
                // The most frequent message of all makes room for nothing.
                let is_start = matches!(message, FromWorker::Started(_));
                self.on_received(now, stream, message, effects);
                if is_start {
                    return;
                }
            }
            Input::Closed(stream) => {
                self.lose(now, Seat::Stream(stream), "its stream broke", effects);
            }
        }
        self.place(now, effects);
    }

    /// When [`Leases::handle_timeout`] must be called at the latest.
    pub fn next_deadline(&self) -> Option<Time> {
        let seats = self.seats.values().filter_map(Claimant::deadline);
        seats.chain(self.next_pardon).chain(self.next_look).min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let silent = |claimant: &Claimant| {
            claimant.peer.is_some() && claimant.heard + limits::SILENCE_US <= now
        };
        let gone: Vec<Seat> =
            self.seats.iter().filter(|(_, c)| silent(c)).map(|(seat, _)| *seat).collect();
        for seat in gone {
            self.evict(now, seat, "it has not been heard", effects);
        }
        for (seat, claimant) in &mut self.seats {
            if let Seat::Stream(stream) = seat
                && claimant.told + limits::HEARTBEAT_US <= now
            {
                claimant.told = now;
                effects.push(Effect::Send(*stream, FromRequester::Alive));
            }
        }
        self.place(now, effects);
        if self.next_look.is_some_and(|look| look <= now) {
            self.next_look = (!self.granted.is_empty()).then_some(now + place::LOOK_US);
            self.use_idle_slots(now, effects);
        }
    }

    fn on_ready(&mut self, run: RunId, name: ThunkName, thunk: Arc<Thunk>, level: u32) {
        let order = self.next_order;
        self.next_order += 1;
        let class = ResourceClass::of(&thunk.spec().limits);
        let place = (self.policy.placement.key(level, order), order, run);
        let heavy = pool::heavy_inputs(&thunk);
        let leases = Vec::new();
        let work = Work { name, thunk, level, place, class, heavy, leases, failures: 0, losses: 0 };
        self.pool.insert(class, place);
        self.works.insert(run, work);
    }

    fn on_stop(&mut self, now: Time, run: RunId, effects: &mut Vec<Effect>) {
        self.cancel_copies(now, run, effects);
        if let Some(work) = self.works.remove(&run) {
            self.pool.remove(work.class, work.place);
        }
    }

    fn on_own_ended(
        &mut self,
        now: Time,
        lease: LeaseId,
        end: Result<Outputs, Failure>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(granted) = self.take(Seat::Own, lease) else { return self.stray(lease, effects) };
        let Some(work) = self.works.get(&granted.run) else { return };
        match end {
            Ok(outputs) => {
                self.kinds.record(&work.thunk.spec().function.executable, now - granted.at);
                let kind = self.kinds.get(&work.thunk.spec().function.executable);
                self.scores.succeeded(now, None, now - granted.at, kind.mean_us);
                self.blame(now, work.name, None);
                self.finish(now, granted.run, Ok(outputs), effects);
            }
            Err(Failure { class, reason }) => {
                let reason = reason.to_string();
                self.on_failed(now, None, granted, LeaseFailure { class, reason }, effects);
            }
        }
    }

    fn on_opened(
        &mut self,
        now: Time,
        stream: StreamId,
        peer: PeerId,
        open: Open,
        effects: &mut Vec<Effect>,
    ) {
        let older = self.seats.iter().find(|(_, claimant)| claimant.peer == Some(peer));
        if let Some(seat) = older.map(|(seat, _)| *seat) {
            // It knows best whether its older stream is alive.
            self.evict(now, seat, "it opened another stream", effects);
        }
        let wait_us = match self.scores.trust(now, Some(peer)) {
            Trust::Nothing(until) => until - now,
            _ if self.seats.len() > limits::CLAIMANTS => limits::OFFER_LIFE_US,
            _ => {
                let mut claimant = Claimant::new(now, Some(peer), open.capabilities, open.window);
                open.holds.into_iter().for_each(|name| claimant.holds.insert(name));
                self.seats.insert(Seat::Stream(stream), claimant);
                return;
            }
        };
        let wait_ms = u32::try_from(wait_us.div_ceil(1000)).unwrap_or(u32::MAX);
        effects.push(Effect::Send(stream, FromRequester::Refuse(wait_ms)));
        effects.push(Effect::Close(stream));
    }

    fn on_received(
        &mut self,
        now: Time,
        stream: StreamId,
        message: FromWorker,
        effects: &mut Vec<Effect>,
    ) {
        let seat = Seat::Stream(stream);
        let Some(claimant) = self.seats.get_mut(&seat) else { return };
        claimant.heard = now;
        match message {
            FromWorker::Open(_) => self.misbehaved(now, seat, "it opened a stream twice", effects),
            FromWorker::Window(window) => {
                claimant.told_dry = false;
                claimant.window = window;
            }
            FromWorker::Started(lease) => {
                if let Some(granted) = self.granted.get_mut(&lease)
                    && granted.seat == seat
                {
                    granted.started.get_or_insert(now);
                    granted.named = now;
                }
            }
            FromWorker::Heartbeat(leases) => self.on_heartbeat(now, seat, &leases, effects),
            FromWorker::Receipt(receipt) => self.on_receipt(now, seat, *receipt, effects),
            FromWorker::HandBack(leases) => {
                claimant.window = Window::default();
                for lease in leases {
                    if let Some(granted) = self.take(seat, lease) {
                        self.put_back(granted.run, seat, "it was handed back", effects);
                    }
                }
            }
        }
    }

    /// What a claimant has not named for too long, it does not hold.
    fn on_heartbeat(
        &mut self,
        now: Time,
        seat: Seat,
        named: &BTreeSet<LeaseId>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(claimant) = self.seats.get(&seat) else { return };
        let mut expired = BTreeSet::new();
        for lease in &claimant.leases {
            let Some(granted) = self.granted.get_mut(lease) else { continue };
            if named.contains(lease) {
                granted.named = now;
            } else if granted.named + limits::SILENCE_US <= now {
                expired.insert(*lease);
            }
        }
        if expired.is_empty() {
            return;
        }
        self.tell(now, seat, FromRequester::Cancel(expired.clone()), effects);
        for lease in expired {
            if let Some(granted) = self.take(seat, lease) {
                self.lost(now, granted.run, seat, "its lease expired", effects);
            }
        }
    }

    fn on_receipt(&mut self, now: Time, seat: Seat, receipt: Receipt, effects: &mut Vec<Effect>) {
        let Some(granted) = self.take(seat, receipt.lease) else {
            return self.stray(receipt.lease, effects);
        };
        let Some(work) = self.works.get(&granted.run) else { return };
        let Some(peer) = self.seats.get(&seat).and_then(|claimant| claimant.peer) else { return };
        match receipt.end {
            Ok(signed) if is_answer(work, &signed) => {
                self.on_reduced(now, peer, granted, signed, effects);
            }
            Ok(_) => {
                effects.push(Effect::Event(Event::Misbehaved(
                    peer,
                    "its receipt is for another thunk",
                )));
                let reason = "its receipt does not fit the thunk".to_owned();
                let failure = LeaseFailure { class: FailureClass::Machine, reason };
                self.on_failed(now, Some(peer), granted, failure, effects);
            }
            Err(failure) => self.on_failed(now, Some(peer), granted, failure, effects),
        }
    }

    fn on_reduced(
        &mut self,
        now: Time,
        peer: PeerId,
        granted: Granted,
        signed: SignedReduction,
        effects: &mut Vec<Effect>,
    ) {
        let Some(work) = self.works.get(&granted.run) else { return };
        let kind = &work.thunk.spec().function.executable;
        let took = now - granted.started.unwrap_or(granted.at);
        self.scores.succeeded(now, Some(peer), took, self.kinds.get(kind).mean_us);
        self.kinds.record(kind, took);
        self.blame(now, work.name, Some(peer));
        if let Some(claimant) = self.seats.get_mut(&granted.seat) {
            signed.reduction.values().for_each(|name| claimant.holds.insert(name));
        }
        let outputs = Arc::new(signed.reduction.outputs.clone());
        effects.push(Effect::Record(signed));
        self.finish(now, granted.run, Ok(outputs), effects);
    }

    /// It succeeded there. Where it failed, it was that machine after all.
    fn blame(&mut self, now: Time, name: ThunkName, succeeded_at: Option<PeerId>) {
        let failed_at = self.avoid.remove(&name).unwrap_or_default();
        for peer in failed_at.into_iter().filter(|peer| *peer != succeeded_at) {
            self.scores.failed(now, peer);
        }
    }

    /// `peer` is none for this machine.
    fn on_failed(
        &mut self,
        now: Time,
        peer: Option<PeerId>,
        granted: Granted,
        failure: LeaseFailure,
        effects: &mut Vec<Effect>,
    ) {
        let Some(work) = self.works.get_mut(&granted.run) else { return };
        let peers = self.avoid.entry(work.name).or_default();
        if peers.len() < limits::LEASE_SOURCES {
            peers.insert(peer);
        }
        if self.avoid.len() > limits::LEASE_AVOIDED {
            self.avoid.pop_first();
        }
        let LeaseFailure { class, reason } = failure;
        if class == FailureClass::Machine {
            work.failures += 1;
            let has_copy = !work.leases.is_empty();
            let again = work.failures < limits::LEASE_MACHINE_FAILURES;
            // Where there is nobody else, force decides at once whether to try again here.
            let elsewhere = self.has_others || self.seats.len() > 1;
            if elsewhere {
                self.scores.failed(now, peer);
            }
            if has_copy || (again && elsewhere) {
                return self.put_back(granted.run, granted.seat, &reason, effects);
            }
        }
        let failure = Failure { class, reason: reason.into() };
        self.finish(now, granted.run, Err(failure), effects);
    }

    /// Ends a run: its other copies are in vain.
    fn finish(
        &mut self,
        now: Time,
        run: RunId,
        end: Result<Outputs, Failure>,
        effects: &mut Vec<Effect>,
    ) {
        self.cancel_copies(now, run, effects);
        if self.works.remove(&run).is_some() {
            effects.push(Effect::Ended(run, end));
        }
    }

    fn cancel_copies(&mut self, now: Time, run: RunId, effects: &mut Vec<Effect>) {
        let Some(work) = self.works.get(&run) else { return };
        let name = work.name;
        for lease in work.leases.clone() {
            if let Some(wasted) = self.revoke(now, lease, effects) {
                self.counts.wasted_us += wasted;
                effects.push(Effect::Event(Event::Wasted(name, wasted)));
            }
        }
    }

    /// Takes a lease back, and tells its holder. How long it had it.
    fn revoke(&mut self, now: Time, lease: LeaseId, effects: &mut Vec<Effect>) -> Option<u64> {
        let seat = self.granted.get(&lease)?.seat;
        let granted = self.take(seat, lease)?;
        match seat {
            Seat::Own => effects.push(Effect::StopOwn(lease)),
            Seat::Stream(_) => {
                let cancel = FromRequester::Cancel(BTreeSet::from([lease]));
                self.tell(now, seat, cancel, effects);
            }
        }
        Some(now - granted.started.unwrap_or(now))
    }

    /// Takes a lease off the books, if it is that claimant's.
    fn take(&mut self, seat: Seat, lease: LeaseId) -> Option<Granted> {
        if self.granted.get(&lease)?.seat != seat {
            return None;
        }
        let granted = self.granted.remove(&lease)?;
        if let Some(claimant) = self.seats.get_mut(&seat) {
            claimant.leases.remove(&lease);
            claimant.cores -= granted.cores;
        }
        if let Some(work) = self.works.get_mut(&granted.run) {
            work.leases.retain(|other| *other != lease);
        }
        Some(granted)
    }

    /// A lease ended with its holder.
    fn lost(&mut self, now: Time, run: RunId, seat: Seat, reason: &str, effects: &mut Vec<Effect>) {
        let Some(work) = self.works.get_mut(&run) else { return };
        work.losses += 1;
        if work.losses < limits::LEASE_LOSSES || !work.leases.is_empty() {
            return self.put_back(run, seat, reason, effects);
        }
        let reason =
            format!("{} machines were lost with it, the last one because {reason}", work.losses);
        let failure = Failure { class: FailureClass::Machine, reason: reason.into() };
        self.finish(now, run, Err(failure), effects);
    }

    fn put_back(&mut self, run: RunId, seat: Seat, reason: &str, effects: &mut Vec<Effect>) {
        let Some(work) = self.works.get(&run) else { return };
        if work.leases.is_empty() {
            self.pool.insert(work.class, work.place);
        }
        self.counts.put_back += 1;
        let peer = self.seats.get(&seat).and_then(|claimant| claimant.peer);
        effects.push(Effect::Event(Event::PutBack(work.name, peer, reason.into())));
    }

    /// A claimant is gone, and what it held goes to others.
    fn lose(&mut self, now: Time, seat: Seat, reason: &str, effects: &mut Vec<Effect>) {
        let Some(claimant) = self.seats.get(&seat) else { return };
        let leases = claimant.leases.clone();
        if !leases.is_empty() {
            self.scores.failed(now, claimant.peer);
        }
        for lease in leases {
            if let Some(granted) = self.take(seat, lease) {
                self.lost(now, granted.run, seat, reason, effects);
            }
        }
        self.seats.remove(&seat);
    }

    fn evict(&mut self, now: Time, seat: Seat, reason: &str, effects: &mut Vec<Effect>) {
        self.lose(now, seat, reason, effects);
        if let Seat::Stream(stream) = seat {
            effects.push(Effect::Close(stream));
        }
    }

    fn misbehaved(&mut self, now: Time, seat: Seat, what: &'static str, effects: &mut Vec<Effect>) {
        if let Some(peer) = self.seats.get(&seat).and_then(|claimant| claimant.peer) {
            self.scores.failed(now, Some(peer));
            effects.push(Effect::Event(Event::Misbehaved(peer, what)));
        }
        self.evict(now, seat, what, effects);
    }

    fn stray(&mut self, lease: LeaseId, effects: &mut Vec<Effect>) {
        self.counts.stray += 1;
        effects.push(Effect::Event(Event::Stray(lease)));
    }

    fn tell(&mut self, now: Time, seat: Seat, message: FromRequester, effects: &mut Vec<Effect>) {
        if let (Seat::Stream(stream), Some(claimant)) = (seat, self.seats.get_mut(&seat)) {
            claimant.told = now;
            effects.push(Effect::Send(stream, message));
        }
    }
}

/// Is this about that thunk, with all outputs that it must leave and none that it does not declare?
fn is_answer(work: &Work, signed: &SignedReduction) -> bool {
    let (declared, reduction) = (&work.thunk.spec().outputs, &signed.reduction);
    let left = reduction.outputs.iter().all(|(tag, object)| {
        let dynamic = declared.get(tag).map(|output| output.dynamic);
        dynamic.is_some_and(|dynamic| dynamic || !matches!(object, OutputObject::Thunk(_)))
    });
    let required = declared.iter().filter(|(_, output)| output.required);
    reduction.thunk == work.name
        && left
        && required.into_iter().all(|(tag, _)| reduction.outputs.contains_key(tag))
}
