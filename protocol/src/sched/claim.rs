//! Claim: keep this machine's slots busy with the work of others, and only as far as its owner
//! allows.
//!
//! Goals: a free slot finds work within moments of it being offered; what runs next is fetched, and made
//! ready to start, while something else runs; never more cores busy than there are slots; requesters
//! share the slots evenly; a requester that vanishes is cleaned up after within seconds. Non-goals: choosing thunks (the
//! requester knows its graph), taking running thunks away from a requester to be fair, and delivering
//! receipts after the stream broke.
//!
//! ```text
//!  one requester:         chosen               said something         all leases gone, dry for long
//!    (on the board) ----------------> Open ------------------> Serving -------------------------> closed
//!                                      | refused, broken, silent |                                  |
//!                                      '------> left alone <-----'      back on the board <---------'
//!  one lease:
//!    Lease --> Fetching --> Queued --> Running --> Receipt        Cancel, stream gone, drained: dropped
//! ```

mod job;
#[cfg(test)]
mod tests;
mod windows;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use self::job::{JobState, Stage, Stream};
use crate::limits;
use crate::name::{ThunkName, ValueName};
use crate::peer::{PeerId, StreamId};
use crate::random::Random;
use crate::sched::force::{Failure, FailureClass};
use crate::sched::offer::Board;
use crate::thunk::Thunk;
use crate::time::Time;
use crate::wire::claim::{
    Capabilities, FromRequester, FromWorker, InlineObject, Lease, LeaseFailure, LeaseId, Open,
    Receipt, SignedReduction, Window,
};
use crate::wire::offer::Offer;

/// One lease of one requester.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Job {
    /// The claim stream that it came on.
    pub stream: StreamId,
    /// Its number there.
    pub lease: LeaseId,
}

/// What the machine is told.
#[derive(Debug)]
pub enum Input {
    /// So many cores may be kept busy for others from now on; what runs goes on.
    Slots(u32),
    /// Trees that this machine has.
    Holds(BTreeSet<ValueName>),
    /// A member gossiped that.
    Offer(PeerId, Offer),
    /// A claim stream brought this.
    Received(StreamId, FromRequester),
    /// A claim stream could not be opened, or is no more.
    Closed(StreamId),
    /// A job's thunk and all its inputs are here; or why not.
    Fetched(Job, Result<Arc<Thunk>, String>),
    /// A job's run ended.
    Ended(Job, Result<SignedReduction, Failure>, Vec<InlineObject>),
    /// Take nothing more, finish what runs, hand the rest back.
    Drain,
}

/// What the machine wants done.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Open a claim stream to a requester and say this; failing is [`Input::Closed`].
    Open(StreamId, PeerId, Open),
    /// Say this.
    Send(StreamId, FromWorker),
    /// Close the stream; [`Input::Closed`] is not awaited.
    Close(StreamId),
    /// Get the thunk and its inputs; answer with [`Input::Fetched`], in bounded time.
    Fetch(Job, Lease),
    /// Do what can be done before it runs; no answer is awaited. [`Effect::Run`] or [`Effect::Stop`] follows.
    Prepare(Job, ThunkName, Arc<Thunk>),
    /// Run it; answer with [`Input::Ended`].
    Run {
        /// The lease.
        job: Job,
        /// Its name.
        name: ThunkName,
        /// Its content.
        thunk: Arc<Thunk>,
        /// Cores that it may keep busy.
        cores: u32,
    },
    /// Stop fetching, preparing or running it; no answer is awaited.
    Stop(Job),
    /// Everything is finished or handed back: the node may go.
    Drained,
}

/// The machine. One per node.
pub struct Claims {
    me: Capabilities,
    slots: u32,
    holds: BTreeSet<ValueName>,
    board: Board,
    random: Random,
    streams: BTreeMap<StreamId, Stream>,
    jobs: BTreeMap<Job, JobState>,
    running_cores: u32,
    next_stream: u64,
    next_order: u64,
    /// When to look for a requester.
    next_claim: Option<Time>,
    /// Claims to one offer come within this span of each other.
    spread_us: u64,
    last_claim: Option<Time>,
    drain: Option<Time>,
    is_drained: bool,
}

impl Claims {
    /// A machine that has no slots so far and knows of no work.
    pub fn new(me: Capabilities, seed: u64) -> Self {
        Self {
            me,
            slots: 0,
            holds: BTreeSet::new(),
            board: Board::default(),
            random: Random::new(seed),
            streams: BTreeMap::new(),
            jobs: BTreeMap::new(),
            running_cores: 0,
            next_stream: 0,
            next_order: 0,
            next_claim: None,
            spread_us: limits::CLAIM_SPREAD_US,
            last_claim: None,
            drain: None,
            is_drained: false,
        }
    }

    /// The same, but a claim follows an offer after at most so many microseconds in place of
    /// [`limits::CLAIM_SPREAD_US`].
    pub fn with_spread(self, spread_us: u64) -> Self {
        Self { spread_us, ..self }
    }

    /// Cores that run for others.
    pub fn running_cores(&self) -> u32 {
        self.running_cores
    }

    /// Leases held, and requesters served.
    pub fn load(&self) -> (usize, usize) {
        (self.jobs.len(), self.streams.len())
    }

    /// Who is served: leases held, and cores of those that run.
    pub fn serving(&self) -> impl Iterator<Item = (PeerId, usize, u32)> {
        let streams = self.streams.values();
        streams.map(|stream| (stream.peer, stream.leases.len(), stream.running_cores))
    }

    /// Takes one input and appends what is to be done about it.
    pub fn handle(&mut self, now: Time, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Slots(slots) => self.slots = slots.min(self.me.cores),
            Input::Holds(holds) => self.holds = holds,
            Input::Offer(peer, offer) => {
                self.board.insert(now, peer, offer);
            }
            Input::Received(stream, message) => self.on_received(now, stream, message, effects),
            Input::Closed(stream) => self.drop_stream(now, stream, effects),
            Input::Fetched(job, fetched) => self.on_fetched(now, job, fetched, effects),
            Input::Ended(job, end, objects) => self.on_ended(now, job, end, objects, effects),
            Input::Drain => {
                self.drain.get_or_insert(now + limits::DRAIN_US);
            }
        }
        self.settle(now, effects);
        self.check_books();
    }

    /// What holds after each event, in builds with assertions: each lease stands with its stream, and cores are
    /// those of what runs.
    fn check_books(&self) {
        let cores = |state: &JobState| match state.stage {
            Stage::Running { cores, .. } => cores,
            Stage::Fetching | Stage::Queued { .. } => 0,
        };
        debug_assert!(self.jobs.len() <= limits::CLAIM_LEASES);
        debug_assert_eq!(self.jobs.values().map(cores).sum::<u32>(), self.running_cores);
        let leases = self.streams.iter().flat_map(|(id, stream)| {
            stream.leases.iter().map(|lease| Job { stream: *id, lease: *lease })
        });
        debug_assert!(self.jobs.keys().copied().eq(leases), "in the same order");
        let streams = self.streams.values().map(|stream| stream.running_cores);
        debug_assert_eq!(streams.sum::<u32>(), self.running_cores);
    }

    /// When [`Claims::handle_timeout`] must be called at the latest.
    pub fn next_deadline(&self) -> Option<Time> {
        let streams = self.streams.values().map(Stream::deadline);
        let drain = self.drain.filter(|_| !self.is_drained);
        streams.chain(self.next_claim).chain(self.next_prepare()).chain(drain).min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let due: Vec<StreamId> = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.deadline() <= now)
            .map(|(id, _)| *id)
            .collect();
        for stream in due {
            self.on_stream_due(now, stream, effects);
        }
        if self.drain.is_some_and(|bound| bound <= now) {
            self.hand_back(now, |_| true, effects);
        }
        if self.next_claim.is_some_and(|claim| claim <= now) {
            self.next_claim = None;
            self.claim(now, effects);
        }
        self.settle(now, effects);
        self.check_books();
    }

    fn on_stream_due(&mut self, now: Time, id: StreamId, effects: &mut Vec<Effect>) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.heard + limits::SILENCE_US <= now {
            self.drop_stream(now, id, effects);
            return effects.push(Effect::Close(id));
        }
        if stream.lingers_until().is_some_and(|until| until <= now) {
            // A lease may be on its way: first say that none is wanted, then wait for it to arrive.
            if stream.leaving.is_none() {
                stream.leaving = Some(now);
                return;
            }
            self.streams.remove(&id);
            return effects.push(Effect::Close(id));
        }
        let leases = stream.leases.clone();
        self.tell(now, id, FromWorker::Heartbeat(leases), effects);
    }

    fn on_received(
        &mut self,
        now: Time,
        id: StreamId,
        message: FromRequester,
        effects: &mut Vec<Effect>,
    ) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        (stream.heard, stream.is_answered) = (now, true);
        match message {
            FromRequester::Alive => {}
            FromRequester::Dry => {
                if stream.leases.is_empty() {
                    stream.dry_since.get_or_insert(now);
                }
            }
            FromRequester::Refuse(wait_ms) => {
                let peer = stream.peer;
                self.drop_stream(now, id, effects);
                self.board.refused(now, peer, u64::from(wait_ms) * 1000);
                effects.push(Effect::Close(id));
            }
            FromRequester::Lease(lease) => self.on_lease(now, id, lease, effects),
            FromRequester::Cancel(leases) => {
                for lease in leases {
                    self.drop_job(now, Job { stream: id, lease }, effects);
                }
            }
        }
    }

    fn on_lease(&mut self, now: Time, id: StreamId, lease: Lease, effects: &mut Vec<Effect>) {
        let job = Job { stream: id, lease: lease.lease };
        let Some(stream) = self.streams.get_mut(&id) else { return };
        (stream.dry_since, stream.leaving) = (None, None);
        if self.jobs.contains_key(&job) {
            return;
        }
        // It may not have heard of a smaller window yet; and each lease takes a core at least.
        let is_within = stream.leases.len() < stream.widest as usize;
        if self.drain.is_some() || !is_within || self.jobs.len() >= limits::CLAIM_LEASES {
            let back = FromWorker::HandBack(BTreeSet::from([lease.lease]));
            return self.tell(now, id, back, effects);
        }
        stream.leases.insert(lease.lease);
        let order = self.next_order;
        self.next_order += 1;
        let (name, stage) = (lease.thunk, Stage::Fetching);
        self.jobs.insert(job, JobState { name, order, came: now, fetched: None, stage });
        effects.push(Effect::Fetch(job, lease));
    }

    fn on_fetched(
        &mut self,
        now: Time,
        job: Job,
        fetched: Result<Arc<Thunk>, String>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(state) = self.jobs.get_mut(&job) else { return };
        if !matches!(state.stage, Stage::Fetching) {
            return;
        }
        match fetched {
            Ok(thunk) if thunk.spec().limits.platform == self.me.platform => {
                state.fetched = Some(now);
                state.stage = Stage::Queued { thunk, is_prepared: false };
            }
            Ok(_) => self.fail(now, job, "this machine is of another platform", effects),
            Err(reason) => self.fail(now, job, &reason, effects),
        }
    }

    fn fail(&mut self, now: Time, job: Job, reason: &str, effects: &mut Vec<Effect>) {
        let failure = Failure { class: FailureClass::Machine, reason: reason.into() };
        self.end(now, job, Err(failure), Vec::new(), effects);
    }

    fn on_ended(
        &mut self,
        now: Time,
        job: Job,
        end: Result<SignedReduction, Failure>,
        objects: Vec<InlineObject>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(JobState { stage: Stage::Running { since, cores }, .. }) = self.jobs.get(&job)
        else {
            return;
        };
        let used = (now - *since).saturating_mul(u64::from(*cores));
        if let Some(stream) = self.streams.get(&job.stream) {
            self.board.serve(stream.peer, used);
            self.board.worked(&stream.peer);
        }
        self.end(now, job, end, objects, effects);
    }

    /// Takes a job off the books with a receipt.
    fn end(
        &mut self,
        now: Time,
        job: Job,
        end: Result<SignedReduction, Failure>,
        objects: Vec<InlineObject>,
        effects: &mut Vec<Effect>,
    ) {
        let timeline = self.forget(job).map(|state| state.timeline(now)).unwrap_or_default();
        let end = end.map_err(|Failure { class, reason }| LeaseFailure {
            class,
            reason: shortened(&reason),
        });
        let receipt = Receipt { lease: job.lease, end, objects, timeline };
        self.tell(now, job.stream, FromWorker::Receipt(Box::new(receipt)), effects);
    }

    /// Takes a job off the books; what stood there.
    fn forget(&mut self, job: Job) -> Option<JobState> {
        let state = self.jobs.remove(&job)?;
        if let Some(stream) = self.streams.get_mut(&job.stream) {
            stream.leases.remove(&job.lease);
        }
        if let Stage::Running { cores, .. } = state.stage {
            self.running_cores -= cores;
            if let Some(stream) = self.streams.get_mut(&job.stream) {
                stream.running_cores -= cores;
            }
        }
        Some(state)
    }

    fn drop_job(&mut self, now: Time, job: Job, effects: &mut Vec<Effect>) {
        let Some(JobState { stage, .. }) = self.forget(job) else { return };
        if let (Stage::Running { since, cores }, Some(stream)) =
            (&stage, self.streams.get(&job.stream))
        {
            self.board.serve(stream.peer, (now - *since).saturating_mul(u64::from(*cores)));
        }
        if !matches!(stage, Stage::Queued { is_prepared: false, .. }) {
            effects.push(Effect::Stop(job));
        }
    }

    /// A requester is gone, and so is what was done for it.
    fn drop_stream(&mut self, now: Time, id: StreamId, effects: &mut Vec<Effect>) {
        let Some(stream) = self.streams.get(&id) else { return };
        let (peer, leases, answered) = (stream.peer, stream.leases.clone(), stream.is_answered);
        if !answered || !leases.is_empty() {
            self.board.failed(now, peer);
        }
        for lease in leases {
            self.drop_job(now, Job { stream: id, lease }, effects);
        }
        self.streams.remove(&id);
    }

    /// Gives back jobs at such a stage.
    fn hand_back(&mut self, now: Time, which: impl Fn(&Stage) -> bool, effects: &mut Vec<Effect>) {
        let mut back: BTreeMap<StreamId, BTreeSet<LeaseId>> = BTreeMap::new();
        for (job, state) in &self.jobs {
            if which(&state.stage) {
                back.entry(job.stream).or_default().insert(job.lease);
            }
        }
        for (id, leases) in back {
            for lease in &leases {
                self.drop_job(now, Job { stream: id, lease: *lease }, effects);
            }
            self.tell(now, id, FromWorker::HandBack(leases), effects);
        }
    }

    /// After anything happened: start what can start, say what is wanted, look for more.
    fn settle(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if self.drain.is_some() || self.slots == 0 {
            // Nobody should wait in the queue of a machine that does not serve.
            self.hand_back(now, |stage| !matches!(stage, Stage::Running { .. }), effects);
            // And who asks for nothing is not told that there is nothing.
            for stream in self.streams.values_mut().filter(|stream| stream.leases.is_empty()) {
                stream.dry_since.get_or_insert(now);
            }
        }
        self.start_queued(now, effects);
        self.prepare_queued(now, effects);
        self.say_windows(now, effects);
        self.plan_claim(now);
        self.end_drain(effects);
    }

    fn end_drain(&mut self, effects: &mut Vec<Effect>) {
        if self.drain.is_none() || self.is_drained || !self.jobs.is_empty() {
            return;
        }
        for (id, _) in std::mem::take(&mut self.streams) {
            effects.push(Effect::Close(id));
        }
        self.is_drained = true;
        effects.push(Effect::Drained);
    }

    fn tell(&mut self, now: Time, id: StreamId, message: FromWorker, effects: &mut Vec<Effect>) {
        if let Some(stream) = self.streams.get_mut(&id) {
            match message {
                FromWorker::Heartbeat(_) => stream.told = now,
                // Whoever hands back gets nothing until it asks again.
                FromWorker::HandBack(_) => stream.window = Window::default(),
                _ => {}
            }
            effects.push(Effect::Send(id, message));
        }
    }
}

/// As much of a text as goes into a receipt.
fn shortened(text: &str) -> String {
    let mut end = text.len().min(limits::CLAIM_REASON_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
