//! All claimants, and which of them to look at.
//!
//! There may be a thousand, and of most nothing is to be said at most moments: whoever may have changed is
//! noted, so that what an event costs does not grow with the claimants that it is not about.

use std::collections::{BTreeMap, BTreeSet};

use super::seat::{Claimant, Seat};
use crate::peer::{PeerId, StreamId};
use crate::time::Time;

/// Claimants by where leases go.
#[derive(Debug)]
pub(super) struct Seats {
    all: BTreeMap<Seat, Claimant>,
    by_peer: BTreeMap<PeerId, Seat>,
    /// Those that may have room: all that do are among them.
    roomy: BTreeSet<Seat>,
    /// Those that may have changed since [`Seats::take_touched`].
    touched: BTreeSet<Seat>,
    /// When to look after each, which is never after its deadline: deadlines only move on.
    due: BTreeSet<(Time, Seat)>,
}

impl Seats {
    /// This machine alone.
    pub(super) fn new(own: Claimant) -> Self {
        let all = BTreeMap::from([(Seat::Own, own)]);
        let (roomy, touched) = (BTreeSet::from([Seat::Own]), BTreeSet::new());
        Self { all, by_peer: BTreeMap::new(), roomy, touched, due: BTreeSet::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn get(&self, seat: &Seat) -> Option<&Claimant> {
        self.all.get(seat)
    }

    pub(super) fn of_peer(&self, peer: PeerId) -> Option<Seat> {
        self.by_peer.get(&peer).copied()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Claimant> {
        self.all.values()
    }

    /// To change it: whatever is noted of claimants is noted of this one.
    pub(super) fn get_mut(&mut self, seat: &Seat) -> Option<&mut Claimant> {
        let claimant = self.all.get_mut(seat)?;
        self.roomy.insert(*seat);
        self.touched.insert(*seat);
        Some(claimant)
    }

    /// One more. No other seat may have its peer.
    pub(super) fn insert(&mut self, stream: StreamId, claimant: Claimant) {
        let seat = Seat::Stream(stream);
        if let Some(peer) = claimant.peer {
            self.by_peer.insert(peer, seat);
        }
        if let Some(deadline) = claimant.deadline() {
            self.due.insert((deadline, seat));
        }
        self.all.insert(seat, claimant);
        self.roomy.insert(seat);
        self.touched.insert(seat);
    }

    pub(super) fn remove(&mut self, seat: Seat) {
        let peer = self.all.remove(&seat).and_then(|claimant| claimant.peer);
        if let Some(peer) = peer {
            self.by_peer.remove(&peer);
        }
        self.roomy.remove(&seat);
        self.touched.remove(&seat);
    }

    /// Those that have room at all, now that some have less than before.
    pub(super) fn settle_roomy(&mut self) {
        let Self { all, roomy, .. } = self;
        roomy.retain(|seat| all.get(seat).is_some_and(Claimant::is_roomy));
    }

    /// As of the last [`Seats::settle_roomy`], and those that changed since.
    pub(super) fn roomy(&self) -> impl Iterator<Item = (&Seat, &Claimant)> {
        self.roomy.iter().filter_map(|seat| self.all.get_key_value(seat))
    }

    /// Those that may have changed since this was last asked.
    pub(super) fn take_touched(&mut self) -> BTreeSet<Seat> {
        std::mem::take(&mut self.touched)
    }

    /// Those whose deadline may be over, in their order.
    pub(super) fn due(&self, now: Time) -> BTreeSet<Seat> {
        self.due.iter().take_while(|(at, _)| *at <= now).map(|(_, seat)| *seat).collect()
    }

    /// The first deadline of all.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.due.first().map(|(at, _)| *at)
    }

    /// To be called when claimants have been heard, told or removed, so that the first deadline is one.
    pub(super) fn settle_due(&mut self) {
        while let Some((at, seat)) = self.due.first().copied() {
            let deadline = self.all.get(&seat).and_then(Claimant::deadline);
            if deadline == Some(at) {
                return;
            }
            self.due.pop_first();
            if let Some(deadline) = deadline {
                self.due.insert((deadline, seat));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;
    use crate::random::Random;
    use crate::thunk::Platform;
    use crate::wire::claim::{Capabilities, Window};

    const MACHINE: Capabilities = Capabilities {
        platform: Platform::X86_64Linux,
        cores: 4,
        memory_mib: 1024,
        speed_permille: 1000,
    };

    fn claimant(now: Time, peer: Option<u8>) -> Claimant {
        let window = Window { slots: 4, prefetch: 1 };
        Claimant::new(now, peer.map(|peer| PeerId([peer; 32])), MACHINE, window)
    }

    /// Against a look at everybody.
    #[test]
    fn what_is_noted_is_what_a_look_at_all_would_find() {
        let mut random = Random::new(7);
        let mut seats = Seats::new(claimant(Time::ZERO, None));
        let mut now = Time::ZERO;
        for step in 0..5_000_u64 {
            now = now + random.below(limits::HEARTBEAT_US / 20);
            let peer = random.below(40) as u8;
            match (random.below(8), seats.of_peer(PeerId([peer; 32]))) {
                (0, Some(seat)) => seats.remove(seat),
                (1..4, Some(seat)) => seats.get_mut(&seat).unwrap().told = now,
                (4, Some(seat)) => seats.get_mut(&seat).unwrap().heard = now,
                (_, Some(seat)) => seats.get_mut(&seat).unwrap().cores = random.below(7) as u32,
                (_, None) => seats.insert(StreamId(step), claimant(now, Some(peer))),
            }
            seats.settle_due();
            assert_eq!(seats.next_deadline(), seats.values().filter_map(Claimant::deadline).min());
            let over = |claimant: &Claimant| claimant.deadline().is_some_and(|at| at <= now);
            let due = seats.due(now);
            assert!(seats.all.iter().all(|(seat, claimant)| !over(claimant) || due.contains(seat)));
            let roomy =
                |seats: &Seats| seats.roomy().map(|(seat, _)| *seat).collect::<BTreeSet<_>>();
            let is_roomy = |(_, claimant): &(&Seat, &Claimant)| claimant.is_roomy();
            let found: BTreeSet<Seat> =
                seats.all.iter().filter(is_roomy).map(|(s, _)| *s).collect();
            assert!(found.is_subset(&roomy(&seats)));
            seats.settle_roomy();
            assert_eq!(roomy(&seats), found);
        }
        assert!(seats.len() > 10);
        assert!(seats.due.len() < 10 * seats.len(), "{}", seats.due.len());
    }

    #[test]
    fn who_changed_is_told_once() {
        let mut seats = Seats::new(claimant(Time::ZERO, None));
        seats.insert(StreamId(1), claimant(Time::ZERO, Some(1)));
        seats.insert(StreamId(2), claimant(Time::ZERO, Some(2)));
        let [one, two] = [1, 2].map(|stream| Seat::Stream(StreamId(stream)));
        assert_eq!(seats.take_touched(), BTreeSet::from([one, two]));
        assert!(seats.get(&one).is_some() && seats.take_touched().is_empty());
        seats.get_mut(&two);
        assert_eq!(seats.take_touched(), BTreeSet::from([two]));
    }
}
