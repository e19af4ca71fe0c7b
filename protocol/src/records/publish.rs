//! Publication: what goes to whom, and when.
//!
//! Goals: one message to a peer carries all that is new and belongs there; reductions go before
//! provider records; a bounded number of records a second and of messages at once; what nobody took
//! is tried again, later and later; what was taken is published again before it ends. Non-goals:
//! making records (the driver signs them when they go), and knowing who left: who does not
//! answer is passed over until the next round.

use std::collections::{BTreeMap, BTreeSet};

use super::{Closest, Target, Unplaced, unplaced};
use crate::limits;
use crate::peer::PeerId;
use crate::random::Random;
use crate::time::Time;
use crate::wire::records::RecordKey;

/// Failures after which waiting grows no more: 10 s doubled so often is above an hour.
const FAILURES_MAX: u32 = 9;

/// The longest wait after failures.
const RETRY_US_MAX: u64 = 60 * 60 * 1_000_000;

/// What the machine is told.
#[derive(Debug)]
pub enum Input {
    /// This is to be published, from now on and until it is [`Input::Gone`].
    New(RecordKey),
    /// It is not to be published any more.
    Gone(RecordKey),
    /// The answer to [`Effect::FindClosest`]; of no peers if none could be found.
    Closest(Closest),
    /// What came of [`Effect::Send`]: how many of the batch, from the first on, are kept; none if the peer
    /// could not be asked.
    Sent(PeerId, Option<u32>),
    /// A member came, and there are so many others now.
    Joined(usize),
}

/// What the machine wants done. Each must be answered in the end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Find out who is closest.
    FindClosest(Target),
    /// Have that peer keep these, in this order.
    Send(PeerId, Vec<RecordKey>),
}

/// How things stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Records that are published, or will be.
    pub records: usize,
    /// Messages that were sent.
    pub messages: u64,
    /// Records in them.
    pub sent: u64,
    /// Walks through the mesh.
    pub walks: u64,
    /// Records for which there was no room.
    pub refused: u64,
}

#[derive(Debug)]
struct Item {
    due: Time,
    failures: u32,
    /// Peers that keep it, as of the last round.
    kept: u32,
}

/// Of one round: where its records go, and how far they are.
#[derive(Debug, Default)]
struct Sweep {
    keys: BTreeMap<RecordKey, u32>,
    unplaced: Unplaced,
    asked: Option<Target>,
    outbox: BTreeMap<PeerId, BTreeSet<RecordKey>>,
    sending: BTreeMap<PeerId, Vec<RecordKey>>,
}

/// The machine. One per node.
#[derive(Debug)]
pub struct Publisher {
    items: BTreeMap<RecordKey, Item>,
    /// By kind, then by time. What is in a sweep is not here.
    due: BTreeSet<(bool, Time, RecordKey)>,
    sweep: Option<Sweep>,
    /// When the last one began.
    swept: Option<Time>,
    /// When the budget allows the next message.
    send_at: Time,
    random: Random,
    counts: Counts,
}

fn is_provider(key: &RecordKey) -> bool {
    matches!(key, RecordKey::Provider(_))
}

impl Publisher {
    /// A machine that has nothing to publish. Nodes with different seeds do not move in step.
    pub fn new(seed: u64) -> Self {
        Self {
            items: BTreeMap::new(),
            due: BTreeSet::new(),
            sweep: None,
            swept: None,
            send_at: Time::ZERO,
            random: Random::new(seed),
            counts: Counts::default(),
        }
    }

    /// How things stand.
    pub fn counts(&self) -> Counts {
        Counts { records: self.items.len(), ..self.counts }
    }

    /// Does it publish this?
    pub fn has(&self, key: &RecordKey) -> bool {
        self.items.contains_key(key)
    }

    /// Takes one input and appends what is to be done about it.
    pub fn handle(&mut self, now: Time, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::New(key) => self.on_new(now, key),
            Input::Gone(key) => self.on_gone(key),
            Input::Closest(closest) => self.on_closest(&closest),
            Input::Sent(peer, kept) => self.on_sent(peer, kept),
            Input::Joined(others) => self.on_joined(now, others),
        }
        self.go_on(now, effects);
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub fn next_deadline(&self) -> Option<Time> {
        match &self.sweep {
            Some(sweep) => sweep.can_send().then_some(self.send_at),
            None => self.first_due().map(|(_, due, _)| due),
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.go_on(now, effects);
    }

    fn on_new(&mut self, now: Time, key: RecordKey) {
        if self.items.contains_key(&key) {
            return;
        }
        if self.items.len() >= limits::RECORDS_PUBLISHED {
            self.counts.refused += 1;
            return;
        }
        let gathered = now + limits::RECORDS_GATHER_US;
        let round = self.swept.map(|swept| swept + limits::RECORDS_ROUND_US);
        let due = round.map_or(gathered, |round| round.max(gathered));
        self.items.insert(key, Item { due, failures: 0, kept: 0 });
        self.due.insert((is_provider(&key), due, key));
    }

    fn on_gone(&mut self, key: RecordKey) {
        if let Some(item) = self.items.remove(&key) {
            self.due.remove(&(is_provider(&key), item.due, key));
        }
    }

    fn on_closest(&mut self, closest: &Closest) {
        let Some(sweep) = &mut self.sweep else { return };
        if sweep.asked != Some(closest.target) {
            return;
        }
        sweep.asked = None;
        if closest.peers.is_empty() {
            // Nobody now: all of it is tried again later.
            sweep.unplaced.clear();
        }
        for (key, peers) in closest.place(&mut sweep.unplaced) {
            for peer in peers {
                sweep.outbox.entry(peer).or_default().insert(key);
            }
        }
    }

    fn on_sent(&mut self, peer: PeerId, kept: Option<u32>) {
        let Some(sweep) = &mut self.sweep else { return };
        let Some(keys) = sweep.sending.remove(&peer) else { return };
        let count = kept.unwrap_or(0) as usize;
        for key in keys.iter().take(count) {
            *sweep.keys.entry(*key).or_default() += 1;
        }
        if count < keys.len() {
            // It is away, or full.
            sweep.outbox.remove(&peer);
        }
    }

    /// What has fewer keepers than it could have goes out again.
    fn on_joined(&mut self, now: Time, others: usize) {
        let wanted = others.min(limits::RECORD_REPLICAS) as u32;
        let due = now + limits::RECORDS_GATHER_US;
        for (key, item) in &mut self.items {
            let entry = (is_provider(key), item.due, *key);
            if item.kept < wanted && item.due > due && self.due.remove(&entry) {
                (item.due, item.failures) = (due, 0);
                self.due.insert((entry.0, due, *key));
            }
        }
    }

    fn go_on(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if self.sweep.as_ref().is_some_and(Sweep::is_over) {
            self.end_sweep(now);
        }
        if self.sweep.is_none() && self.first_due().is_some_and(|(_, due, _)| due <= now) {
            self.begin_sweep(now);
        }
        let Some(sweep) = &mut self.sweep else { return };
        if let (None, Some((_, key))) = (sweep.asked, sweep.unplaced.first()) {
            let target = Target::of(key);
            sweep.asked = Some(target);
            self.counts.walks += 1;
            return effects.push(Effect::FindClosest(target));
        }
        while now >= self.send_at
            && sweep.can_send()
            && let Some((peer, keys)) = sweep.next_batch()
        {
            self.counts.messages += 1;
            self.counts.sent += keys.len() as u64;
            let cost = keys.len() as u64 * 1_000_000 / limits::RECORDS_PER_S;
            self.send_at = self.send_at.max(now) + cost.max(limits::RECORDS_PAUSE_US);
            effects.push(Effect::Send(peer, keys));
        }
    }

    fn first_due(&self) -> Option<(bool, Time, RecordKey)> {
        let first = |provider| self.due_of_kind(provider).next().copied();
        [first(false), first(true)].into_iter().flatten().min_by_key(|(_, due, _)| *due)
    }

    fn due_of_kind(&self, provider: bool) -> impl Iterator<Item = &(bool, Time, RecordKey)> {
        let from = (provider, Time::ZERO, RecordKey::Reduction(LOWEST));
        self.due.range(from..).take_while(move |(kind, _, _)| *kind == provider)
    }

    fn begin_sweep(&mut self, now: Time) {
        let mut sweep = Sweep::default();
        // What would have been next need not wait for a round of its own.
        let until = now + limits::RECORDS_GATHER_US;
        let of_kind = |provider| self.due_of_kind(provider).take_while(|(_, due, _)| *due <= until);
        let due = of_kind(false).chain(of_kind(true)).take(limits::RECORDS_SWEEP);
        for entry in due.copied().collect::<Vec<_>>() {
            self.due.remove(&entry);
            sweep.keys.insert(entry.2, 0);
            sweep.unplaced.insert(unplaced(entry.2));
        }
        self.sweep = Some(sweep);
        self.swept = Some(now);
    }

    fn end_sweep(&mut self, now: Time) {
        let keys = self.sweep.take().map(|sweep| sweep.keys).unwrap_or_default();
        for (key, kept) in keys {
            let Some(item) = self.items.get_mut(&key) else { continue };
            item.kept = kept;
            item.failures = if kept > 0 { 0 } else { (item.failures + 1).min(FAILURES_MAX) };
            let wait = match item.failures {
                0 => limits::RECORD_REPUBLISH_S * 1_000_000,
                failures => (limits::RECORDS_RETRY_US << (failures - 1)).min(RETRY_US_MAX),
            };
            // Sooner by up to an eighth: what began together drifts apart.
            item.due = now + (wait - self.random.below(wait / 8));
            self.due.insert((is_provider(&key), item.due, key));
        }
    }
}

/// No key is before it.
const LOWEST: crate::name::ThunkName =
    crate::name::ThunkName(crate::name::Digest { sha256: [0; 32], length: 0 });

impl Sweep {
    fn is_over(&self) -> bool {
        let placed = self.unplaced.is_empty() && self.asked.is_none();
        placed && self.outbox.is_empty() && self.sending.is_empty()
    }

    /// Everything is placed, so that messages are as full as they can be.
    fn can_send(&self) -> bool {
        let placed = self.unplaced.is_empty() && self.asked.is_none();
        placed && self.sending.len() < limits::RECORDS_SENDING && self.next_peer().is_some()
    }

    fn next_peer(&self) -> Option<PeerId> {
        self.outbox.keys().find(|peer| !self.sending.contains_key(peer)).copied()
    }

    fn next_batch(&mut self) -> Option<(PeerId, Vec<RecordKey>)> {
        let peer = self.next_peer()?;
        let outbox = self.outbox.get_mut(&peer)?;
        let keys: Vec<RecordKey> =
            std::iter::from_fn(|| outbox.pop_first()).take(limits::RECORDS_BATCH).collect();
        if outbox.is_empty() {
            self.outbox.remove(&peer);
        }
        self.sending.insert(peer, keys.clone());
        Some((peer, keys))
    }
}
