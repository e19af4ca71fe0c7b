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
//!          Ready                lease                receipt              Settled
//!  (force) -----> in the pool ---------> leased, once -------> settling ---------> Ended (force)
//!                   ^                    |   ^     \  late for its kind               ^
//!                   |   stream broken,   |   |      `------> leased twice ------------' what settles first wins,
//!                   '-- silent, handed --'   '-- one copy        |                      the other is cancelled
//!                       back, the machine's      lost -----------'
//!                       failure
//! ```
//!
//! A lease *settles* while what its receipt names is fetched, and checked if that is the policy: its worker has
//! done its part, and may leave or fall silent; the lease takes its place among that worker's until then, so
//! that nobody is given more than can be fetched.
//!
//! A claimant: `Opened` -> leases within its window -> `Closed`, silent for
//! [`limits::SILENCE_US`], replaced by a newer stream of its peer, or breaking a rule.

mod books;
mod hear;
mod look;
mod place;
mod pool;
mod seat;
mod seats;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use self::look::Job;
use self::pool::{Place, Pool, Shared};
use self::seat::Claimant;
pub use self::seat::Seat;
use self::seats::Seats;
use crate::graph::Outputs;
use crate::limits;
use crate::name::{ThunkName, ValueName};
use crate::peer::{PeerId, StreamId};
use crate::sched::force::{Failure, FailureClass, RunId};
use crate::sched::kinds::Kinds;
use crate::sched::level::Level;
use crate::sched::policy::{CriticalPath, Placement};
use crate::sched::score::{Scores, Trust};
use crate::sched::speculation::{Speculation, Stragglers};
use crate::thunk::{OutputObject, Reduction, Thunk};
use crate::time::Time;
use crate::wire::claim::{
    Capabilities, FromRequester, FromWorker, LeaseFailure, LeaseId, Open, Receipt, SignedReduction,
    Timeline, Window,
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
        level: Level,
    },
    /// More is known of the b-levels of these runs.
    Levels(Vec<(RunId, Level)>),
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
    /// The values that a receipt names are here, or why they are not: answers [`Effect::Settle`].
    Settled(LeaseId, Result<(), String>),
    /// A peer was found out to give false results: it gets nothing any more.
    Lied(PeerId),
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
    /// Fetch what this reduction names, and check it if that is the policy; answer with [`Input::Settled`],
    /// in bounded time.
    Settle(Box<Settle>),
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
    /// Keep this reduction, which came of that lease, before the [`Effect::Ended`] that it belongs to.
    Record(LeaseId, SignedReduction),
    /// Tell force.
    Ended(RunId, Result<Outputs, Failure>),
    /// Something a person may want to see.
    Event(Event),
}

/// A lease that settles.
#[derive(Debug, PartialEq)]
pub struct Settle {
    /// Which one.
    pub lease: LeaseId,
    /// Who had it.
    pub peer: PeerId,
    /// What it was given.
    pub thunk: Arc<Thunk>,
    /// What it says came of it: of that thunk, with all outputs that it must leave and no other.
    pub reduction: Reduction,
    /// When it was given.
    pub granted: Time,
    /// What it says of its time.
    pub timeline: Timeline,
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
    level: Level,
    place: Place,
    class: ResourceClass,
    heavy: Vec<ValueName>,
    input_bytes: u64,
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
    /// What its holder said came of it, while that is fetched.
    settling: Option<(PeerId, SignedReduction)>,
}

/// The policies of a requester.
pub struct LeasePolicy {
    /// Who gets what.
    pub placement: Box<dyn Placement>,
    /// What is worth a second copy: see [`SpeculationName`](crate::sched::speculation::SpeculationName).
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
    shared: Shared,
    pool: Pool,
    granted: BTreeMap<LeaseId, Granted>,
    seats: Seats,
    scores: Scores,
    kinds: Kinds,
    /// Where a thunk failed: it goes elsewhere if there is an elsewhere.
    avoid: BTreeMap<ThunkName, BTreeSet<Option<PeerId>>>,
    has_others: bool,
    job: Job,
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
            shared: Shared::default(),
            pool: Pool::default(),
            granted: BTreeMap::new(),
            seats: Seats::new(own),
            scores: Scores::default(),
            kinds: Kinds::default(),
            avoid: BTreeMap::new(),
            has_others: false,
            job: Job::default(),
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

    /// The thunk of a lease that a worker holds.
    pub fn held(&self, stream: StreamId, lease: LeaseId) -> Option<ThunkName> {
        let granted = self.granted.get(&lease)?;
        let is_theirs = granted.seat == Seat::Stream(stream) && granted.settling.is_none();
        is_theirs.then(|| self.works.get(&granted.run).map(|work| work.name))?
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

    /// Workers that are attached: leases held, cores of those, and cores that would run at once.
    pub fn claimants(&self) -> impl Iterator<Item = (PeerId, usize, u32, u32)> {
        self.seats.values().filter_map(|claimant| {
            let Claimant { peer, leases, cores, window, .. } = claimant;
            peer.map(|peer| (peer, leases.len(), *cores, window.slots))
        })
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
            Input::Ready { run, name, thunk, level } => {
                self.count_of_job(now);
                self.on_ready(run, name, thunk, level);
            }
            // What comes in another order takes no other room.
            Input::Levels(levels) => return self.on_levels(levels),
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
                    self.check_books();
                    return self.seats.settle_due();
                }
            }
            Input::Settled(lease, settled) => self.on_settled(now, lease, settled, effects),
            Input::Lied(peer) => self.on_liar(now, peer, effects),
            Input::Closed(stream) => {
                self.lose(now, Seat::Stream(stream), "its stream broke", effects);
            }
        }
        self.place(now, effects);
        self.check_books();
    }

    /// When [`Leases::handle_timeout`] must be called at the latest.
    pub fn next_deadline(&self) -> Option<Time> {
        let seats = self.seats.next_deadline().into_iter();
        seats.chain(self.next_pardon).chain(self.next_look).min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let due = self.seats.due(now);
        let is_silent = |seat: &Seat| {
            let claimant = self.seats.get(seat);
            claimant.is_some_and(|claimant| claimant.heard + limits::SILENCE_US <= now)
        };
        let (silent, quiet): (Vec<Seat>, Vec<Seat>) = due.into_iter().partition(is_silent);
        for seat in silent {
            self.evict(now, seat, "it has not been heard", effects);
        }
        for seat in quiet {
            let told = self.seats.get(&seat).map(|claimant| claimant.told);
            if told.is_some_and(|told| told + limits::HEARTBEAT_US <= now) {
                self.tell(now, seat, FromRequester::Alive, effects);
            }
        }
        self.place(now, effects);
        if self.next_look.is_some_and(|look| look <= now) {
            self.next_look = (!self.granted.is_empty()).then_some(now + place::LOOK_US);
            // While thunks are ready, no slot idles that could do with anything else.
            if self.pool.is_empty() {
                self.use_idle_slots(now, effects);
            }
        }
        self.check_books();
    }

    fn on_ready(&mut self, run: RunId, name: ThunkName, thunk: Arc<Thunk>, level: Level) {
        let order = self.next_order;
        self.next_order += 1;
        let class = ResourceClass::of(&thunk.spec().limits);
        let input_bytes = pool::input_bytes(&thunk);
        let place = (self.policy.placement.key(level, order, input_bytes), order, run);
        let heavy = pool::heavy_inputs(&thunk);
        self.shared.need(&heavy);
        let (leases, failures, losses) = (Vec::new(), 0, 0);
        let work =
            Work { name, thunk, level, place, class, heavy, input_bytes, leases, failures, losses };
        self.pool.insert(class, place);
        self.works.insert(run, work);
    }

    fn on_levels(&mut self, levels: Vec<(RunId, Level)>) {
        if !self.policy.placement.follows_levels() {
            return;
        }
        for (run, level) in levels {
            let Some(work) = self.works.get_mut(&run) else { continue };
            let (_, order, _) = work.place;
            let place = (self.policy.placement.key(level, order, work.input_bytes), order, run);
            if work.leases.is_empty() {
                self.pool.remove(work.class, work.place);
                self.pool.insert(work.class, place);
            }
            (work.level, work.place) = (level, place);
        }
    }

    fn on_stop(&mut self, now: Time, run: RunId, effects: &mut Vec<Effect>) {
        self.cancel_copies(now, run, effects);
        if let Some(work) = self.works.remove(&run) {
            self.shared.release(&work.heavy);
            self.pool.remove(work.class, work.place);
            self.job.empty = now;
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
}
