//! Who gets what: new leases, and what to do with slots that would idle.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Claimant, Effect, Event, Granted, Leases, Seat};
use crate::limits;
use crate::sched::force::RunId;
use crate::sched::policy::Candidate;
use crate::sched::score::Trust;
use crate::sched::speculation::Overview;
use crate::time::Time;
use crate::wire::claim::{FromRequester, LeaseId};
use crate::wire::offer::ResourceClass;

/// How long idle slots wait until somebody looks for what is late or stuck in a queue.
pub(super) const LOOK_US: u64 = limits::LEASE_STALE_US / 2;

/// Thunks are first spread over slots that would run them, only then over queues.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Depth {
    Slots,
    Queues,
}

impl Leases {
    /// Leases as much as claimants take.
    pub(super) fn place(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if !self.pool.is_empty() {
            self.seats.settle_roomy();
        }
        for depth in [Depth::Slots, Depth::Queues] {
            let mut passed = BTreeSet::new();
            while !self.pool.is_empty() {
                let Some(seat) = self.neediest(now, depth, &passed) else { break };
                match self.pick(now, seat, depth) {
                    Some(run) => self.grant(now, run, seat, effects),
                    None => {
                        passed.insert(seat);
                    }
                }
            }
        }
        self.say_dry(now, effects);
        self.seats.settle_due();
        self.next_pardon = if self.pool.is_empty() { None } else { self.first_pardon(now) };
        if self.granted.is_empty() {
            self.overdue.clear();
        } else if self.pool.is_empty() {
            let is_eager = self.policy.speculation.is_eager(self.job.thunks);
            let look = now + if is_eager { 0 } else { LOOK_US };
            self.next_look = Some(self.next_look.map_or(look, |next| next.min(look)));
        }
    }

    /// The claimant to serve next: this machine, then the one with most of its slots free, then the
    /// fastest.
    fn neediest(&self, now: Time, depth: Depth, passed: &BTreeSet<Seat>) -> Option<Seat> {
        let rooms = self.seats.roomy().filter_map(|(seat, claimant)| {
            let (room, bound) = self.room_of(now, claimant, depth)?;
            if passed.contains(seat) {
                return None;
            }
            let speed = self.speed_permille(claimant.peer);
            Some((*seat == Seat::Own, u64::from(room) * 1000 / u64::from(bound), speed, *seat))
        });
        let first = |a: &(bool, u64, u64, Seat), b: &(bool, u64, u64, Seat)| {
            (a.0, a.1, a.2).cmp(&(b.0, b.1, b.2)).then(b.3.cmp(&a.3))
        };
        rooms.max_by(first).map(|(_, _, _, seat)| seat)
    }

    /// Free cores of a claimant at that depth, and how many it has there; none if it gets nothing.
    fn room(&self, now: Time, seat: Seat, depth: Depth) -> Option<(u32, u32)> {
        self.room_of(now, self.seats.get(&seat)?, depth)
    }

    fn room_of(&self, now: Time, claimant: &Claimant, depth: Depth) -> Option<(u32, u32)> {
        let window = match depth {
            Depth::Slots => claimant.window.slots,
            Depth::Queues => claimant.window.cores(),
        };
        if window <= claimant.cores {
            return None;
        }
        let trust = self.scores.trust(now, claimant.peer);
        let bound = match trust {
            Trust::Full => window,
            Trust::Probe => window.min(u32::from(claimant.leases.is_empty())),
            Trust::Nothing(_) => 0,
        };
        let room = bound.saturating_sub(claimant.cores);
        (room > 0).then_some((room, bound))
    }

    /// The thunk that a claimant gets.
    fn pick(&mut self, now: Time, seat: Seat, depth: Depth) -> Option<RunId> {
        let (_, bound) = self.room(now, seat, depth)?;
        let claimant = self.seats.get(&seat)?;
        let suits = |class: ResourceClass, run: RunId| {
            claimant.has_room(claimant.cores_of(class.cores), bound)
                && !self.is_avoided(now, run, seat)
        };
        let places = self.pool.first_for(&claimant.capabilities, suits);
        let works = places.iter().filter_map(|(_, _, run)| self.works.get(run));
        let candidates: Vec<Candidate> = works
            .map(|work| {
                let missing = work
                    .heavy
                    .iter()
                    .filter(|name| self.shared.has(name) && !claimant.holds.contains(name));
                let missing_bytes = match seat {
                    Seat::Own => 0,
                    // A tree's name says nothing of what is below it: at least a piece for each.
                    Seat::Stream(_) => missing
                        .map(|name| name.digest().length.max(limits::LOCALITY_BYTES_MIN))
                        .sum(),
                };
                Candidate { level: work.level, missing_bytes }
            })
            .collect();
        if candidates.is_empty() {
            return None;
        }
        let chosen = self.policy.placement.choose(&claimant.capabilities, &candidates);
        places.get(chosen).or(places.first()).map(|(_, _, run)| *run)
    }

    /// Has it failed there, and is there somebody else to try it?
    pub(super) fn is_avoided(&self, now: Time, run: RunId, seat: Seat) -> bool {
        let Some(work) = self.works.get(&run) else { return false };
        let Some(peers) = self.avoid.get(&work.name) else { return false };
        let peer = self.seats.get(&seat).and_then(|claimant| claimant.peer);
        let could = |claimant: &Claimant| {
            let trusted = !matches!(self.scores.trust(now, claimant.peer), Trust::Nothing(_));
            let machine = &claimant.capabilities;
            trusted
                && claimant.window.slots > 0
                && work.class.fits(machine.platform, machine.memory_mib)
        };
        peers.contains(&peer)
            && self.seats.values().any(|other| !peers.contains(&other.peer) && could(other))
    }

    fn grant(&mut self, now: Time, run: RunId, seat: Seat, effects: &mut Vec<Effect>) {
        let Some(work) = self.works.get_mut(&run) else { return };
        let Some(claimant) = self.seats.get_mut(&seat) else { return };
        let lease = LeaseId(self.next_lease);
        self.next_lease += 1;
        self.counts.leased += 1;
        let cores = claimant.cores_of(work.class.cores);
        claimant.leases.insert(lease);
        claimant.cores += cores;
        claimant.told = now;
        claimant.told_dry = false;
        work.heavy.iter().for_each(|name| claimant.holds.insert(*name));
        work.leases.push(lease);
        self.pool.remove(work.class, work.place);
        let started = (seat == Seat::Own).then_some(now);
        let granted = Granted { run, seat, cores, at: now, started, named: now, settling: None };
        self.granted.insert(lease, granted);
        let (name, thunk) = (work.name, work.thunk.clone());
        effects.push(Effect::Event(Event::Leased(lease, name, seat)));
        effects.push(match seat {
            Seat::Own => Effect::Run { lease, name, thunk, cores },
            Seat::Stream(stream) => Effect::Lease { stream, lease, name, thunk },
        });
    }

    /// Tells claimants that get nothing, once, so that they may serve somebody else.
    fn say_dry(&mut self, now: Time, effects: &mut Vec<Effect>) {
        for seat in self.seats.take_touched() {
            let Some(claimant) = self.seats.get(&seat) else { continue };
            let is_idle = claimant.leases.is_empty() && claimant.window.slots > 0;
            if is_idle && claimant.peer.is_some() && !claimant.told_dry {
                self.tell(now, seat, FromRequester::Dry, effects);
                if let Some(claimant) = self.seats.get_mut(&seat) {
                    claimant.told_dry = true;
                }
            }
        }
    }

    fn first_pardon(&self, now: Time) -> Option<Time> {
        let roomy = self.seats.roomy().map(|(_, claimant)| claimant);
        let idle = roomy.filter(|claimant| claimant.window.slots > claimant.cores);
        let pardons = idle.filter_map(|claimant| match self.scores.trust(now, claimant.peer) {
            Trust::Nothing(until) => Some(until),
            Trust::Full | Trust::Probe => None,
        });
        pardons.min()
    }

    /// Nothing is ready, but slots are free: take to them what waits in a queue elsewhere, or run a second
    /// copy of what is late.
    pub(super) fn use_idle_slots(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.seats.settle_roomy();
        let all = self.overview(now);
        let (mut stuck, mut late) = (self.stuck(now), self.late(now, &all));
        let mut copies = self.policy.speculation.copies_max(&all).saturating_sub(all.copies);
        let mut passed = BTreeSet::new();
        while self.pool.is_empty() && !(stuck.is_empty() && late.is_empty()) {
            let Some(seat) = self.neediest(now, Depth::Slots, &passed) else { break };
            passed.insert(seat);
            while let Some(run) = self.take_first_for(now, &mut stuck, seat) {
                self.relocate(now, run, seat, effects);
            }
            let speed = self.speed_permille(self.seats.get(&seat).and_then(|seat| seat.peer));
            let takes = self.policy.speculation.takes(speed, &all);
            while takes
                && copies > 0
                && let Some(run) = self.take_first_for(now, &mut late, seat)
            {
                let Some(work) = self.works.get(&run) else { break };
                copies -= 1;
                self.counts.speculated += 1;
                effects.push(Effect::Event(Event::Speculated(work.name, seat)));
                self.grant(now, run, seat, effects);
            }
        }
        // Those for which there was no slot are offered to others.
        let late = if copies > 0 { late } else { VecDeque::new() };
        let left: BTreeSet<LeaseId> = late.into_iter().chain(stuck).collect();
        let mut overdue = BTreeMap::new();
        for granted in left.iter().filter_map(|lease| self.granted.get(lease)) {
            if let Some(work) = self.works.get(&granted.run).filter(|work| work.leases.len() == 1) {
                *overdue.entry(work.class).or_insert(0) += 1;
            }
        }
        self.overdue = overdue;
    }

    fn relocate(&mut self, now: Time, run: RunId, seat: Seat, effects: &mut Vec<Effect>) {
        let Some(work) = self.works.get(&run) else { return };
        let (name, leases) = (work.name, work.leases.clone());
        for lease in leases {
            self.revoke(now, lease, effects);
        }
        self.counts.moved += 1;
        effects.push(Effect::Event(Event::Moved(name, seat)));
        self.grant(now, run, seat, effects);
    }

    /// The leases of thunks that nobody else has.
    fn alone(&self) -> impl Iterator<Item = (&LeaseId, &Granted)> {
        self.granted.iter().filter(|(_, granted)| self.is_alone(granted))
    }

    fn is_alone(&self, granted: &Granted) -> bool {
        self.works.get(&granted.run).is_some_and(|work| work.leases.len() == 1)
    }

    /// Those of them that wait for a slot and will so for long, the oldest first. (Where there are slots for
    /// all leases of a claimant, one waits for its inputs, and would do so again elsewhere.)
    fn stuck(&self, now: Time) -> VecDeque<LeaseId> {
        let mut stuck = Vec::new();
        for holder in self.seats.values().filter(|holder| holder.cores > holder.window.slots) {
            let is_busy = self.next_free_us(now, holder) >= limits::LEASE_STALE_US;
            for lease in &holder.leases {
                let Some(granted) = self.granted.get(lease) else { continue };
                let is_old = granted.at + limits::LEASE_STALE_US <= now;
                let is_waiting = granted.started.is_none() && granted.settling.is_none();
                if is_waiting && (is_old || is_busy) && self.is_alone(granted) {
                    stuck.push((granted.at, granted.run, *lease));
                }
            }
        }
        stuck.sort_unstable();
        stuck.into_iter().map(|(_, _, lease)| lease).collect()
    }

    /// Takes the first of these leases of which `seat`, another, may have a copy.
    fn take_first_for(
        &self,
        now: Time,
        leases: &mut VecDeque<LeaseId>,
        seat: Seat,
    ) -> Option<RunId> {
        let could_take = |lease: &LeaseId| {
            let granted = self.granted.get(lease);
            granted.is_some_and(|granted| self.could_take(now, granted, seat))
        };
        let lease = leases.remove(leases.iter().position(could_take)?)?;
        self.granted.get(&lease).map(|granted| granted.run)
    }

    /// When a slot of a claimant's will be free, from now, as far as usual times tell; 0 if they do
    /// not.
    fn next_free_us(&self, now: Time, holder: &Claimant) -> u64 {
        let running = holder.leases.iter().filter_map(|lease| {
            let granted = self.granted.get(lease)?;
            let work = self.works.get(&granted.run)?;
            let usual = self.kinds.get(&work.thunk.spec().function.executable).mean_us;
            Some(usual.saturating_sub(now - granted.started?))
        });
        running.min().unwrap_or(0)
    }

    /// Those of them that are worth a copy, the most urgent first.
    fn late(&self, now: Time, all: &Overview) -> VecDeque<LeaseId> {
        let late = self.alone().filter_map(|(lease, granted)| {
            Some((self.late_by(now, granted, all)?, granted.run, *lease))
        });
        let mut late: Vec<_> = late.collect();
        late.sort_unstable_by(|a, b| b.cmp(a));
        late.into_iter().map(|(_, _, lease)| lease).collect()
    }

    /// How urgent a copy of it is, if one is wanted.
    fn late_by(&self, now: Time, granted: &Granted, all: &Overview) -> Option<u64> {
        let urgency = self.policy.speculation.urgency(&self.solo(now, granted)?, all);
        match granted.started {
            Some(_) => urgency,
            None => urgency.or((now - granted.at).checked_sub(limits::UNSTARTED_US)),
        }
    }

    /// May `seat` have a copy of what somebody else holds alone?
    fn could_take(&self, now: Time, granted: &Granted, seat: Seat) -> bool {
        let Some(work) = self.works.get(&granted.run) else { return false };
        let Some(claimant) = self.seats.get(&seat) else { return false };
        let Some((_, bound)) = self.room(now, seat, Depth::Slots) else { return false };
        let machine = &claimant.capabilities;
        granted.seat != seat
            && work.leases.len() == 1
            && work.class.fits(machine.platform, machine.memory_mib)
            && claimant.has_room(claimant.cores_of(work.class.cores), bound)
            && !self.is_avoided(now, granted.run, seat)
    }
}
