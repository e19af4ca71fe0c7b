//! When to dial whom: back-off, and a bound on attempts at once. Pure: time and chance are given.

use std::collections::BTreeMap;

use mesh_protocol::limits;
use mesh_protocol::peer::PeerId;
use mesh_protocol::random::Random;
use mesh_protocol::time::Time;

/// How patient it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    /// After a first failure, in microseconds.
    pub(super) min_us: u64,
    /// After many.
    pub(super) max_us: u64,
}

#[derive(Clone, Copy, Debug)]
struct Attempts {
    failures: u32,
    next: Time,
    is_under_way: bool,
}

/// All peers to which this node would like to be connected and is not.
pub(super) struct Reconnect {
    backoff: Backoff,
    peers: BTreeMap<PeerId, Attempts>,
    random: Random,
}

impl Reconnect {
    pub(super) fn new(backoff: Backoff, seed: u64) -> Self {
        Self { backoff, peers: BTreeMap::new(), random: Random::new(seed) }
    }

    /// This peer should be dialled; at once if it is new here, else in its time.
    pub(super) fn want(&mut self, peer: PeerId, now: Time) {
        if self.peers.len() < limits::MEMBERS_KEPT {
            let new = Attempts { failures: 0, next: now, is_under_way: false };
            self.peers.entry(peer).or_insert(new);
        }
    }

    /// There is news of this peer (an address, a need): no more waiting.
    pub(super) fn hurry(&mut self, peer: PeerId, now: Time) {
        self.want(peer, now);
        if let Some(attempts) = self.peers.get_mut(&peer) {
            attempts.next = attempts.next.min(now);
        }
    }

    /// It is connected, or should not be.
    pub(super) fn forget(&mut self, peer: PeerId) {
        self.peers.remove(&peer);
    }

    /// The attempt failed. How long to wait: doubled each time, and spread, so that a mesh that
    /// lost its network does not come back all at once.
    pub(super) fn failed(&mut self, peer: PeerId, now: Time) {
        let Backoff { min_us, max_us } = self.backoff;
        let Some(attempts) = self.peers.get_mut(&peer) else { return };
        let doubled = min_us.saturating_mul(1 << attempts.failures.min(20));
        let wait_us = doubled.min(max_us);
        let spread = self.random.below(wait_us / 2 + 1);
        attempts.next = now + (wait_us - wait_us / 4 + spread);
        attempts.failures = attempts.failures.saturating_add(1);
        attempts.is_under_way = false;
    }

    /// Whom to dial now; they are under way until [`Reconnect::failed`] or [`Reconnect::forget`].
    pub(super) fn due(&mut self, now: Time) -> Vec<PeerId> {
        let under_way = self.peers.values().filter(|attempts| attempts.is_under_way).count();
        let room = limits::DIALS.saturating_sub(under_way);
        let due = self.peers.iter_mut();
        let due = due.filter(|(_, attempts)| !attempts.is_under_way && attempts.next <= now);
        let start = |(peer, attempts): (&PeerId, &mut Attempts)| {
            attempts.is_under_way = true;
            *peer
        };
        due.take(room).map(start).collect()
    }

    /// When somebody will be due; none if nobody waits, or if the next one waits for an end of those
    /// under way.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        let under_way = self.peers.values().filter(|attempts| attempts.is_under_way).count();
        let waiting = self.peers.values().filter(|attempts| !attempts.is_under_way);
        waiting.map(|attempts| attempts.next).min().filter(|_| under_way < limits::DIALS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: PeerId = PeerId([1; 32]);

    fn reconnect() -> Reconnect {
        Reconnect::new(Backoff { min_us: 1_000, max_us: 60_000 }, 1)
    }

    #[test]
    fn waits_double_up_to_a_bound_and_news_end_them() {
        let mut reconnect = reconnect();
        let mut now = Time::ZERO;
        reconnect.want(PEER, now);
        let mut waits = Vec::new();
        for _ in 0..12 {
            assert_eq!(reconnect.due(now), [PEER]);
            assert_eq!(reconnect.due(now), [], "one attempt at a time");
            reconnect.failed(PEER, now);
            let next = reconnect.next_deadline().unwrap();
            waits.push(next - now);
            now = next;
        }
        for (count, wait) in waits.iter().enumerate() {
            let middle = (1_000 << count.min(20)).min(60_000);
            assert!((middle * 3 / 4..=middle * 5 / 4).contains(wait), "{count}: {wait}");
        }
        reconnect.due(now);
        reconnect.failed(PEER, now);
        assert_eq!(reconnect.due(now), []);
        reconnect.hurry(PEER, now);
        assert_eq!(reconnect.due(now), [PEER]);
        reconnect.forget(PEER);
        assert_eq!(reconnect.next_deadline(), None);
    }

    #[test]
    fn not_all_are_dialled_at_once() {
        let mut reconnect = reconnect();
        for number in 0..100 {
            reconnect.want(PeerId([number; 32]), Time::ZERO);
        }
        let first = reconnect.due(Time::ZERO);
        assert_eq!(first.len(), limits::DIALS);
        assert_eq!(reconnect.next_deadline(), None);
        reconnect.forget(first[0]);
        assert_eq!(reconnect.next_deadline(), Some(Time::ZERO));
        assert_eq!(reconnect.due(Time::ZERO).len(), 1);
    }
}
