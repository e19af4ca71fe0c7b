//! When what members did happened by the clock of this machine.
//!
//! A worker tells times by a clock of its own, of which nothing is known but that it goes as fast as ours. A lease
//! came there after it was given, and had ended there before its receipt was here: so each lease bounds how far
//! the clocks are apart, and all of a member's leases together bound it closely. What is here is this machine's
//! node, which has a clock of its own as well; but of it we hear at once, now and then.

use mesh_node::claims::Trip;
use mesh_protocol::wire::claim::Timeline;

/// What is known of a lease that came to an end. Microseconds; wide enough for whatever a worker says.
#[derive(Debug)]
pub(super) struct Lease {
    heard: i128,
    /// These by the node's clock.
    given: i128,
    received: i128,
    settled: i128,
    /// By the worker's.
    told: Timeline,
}

/// How far clocks are ahead of others.
#[derive(Clone, Copy)]
pub(super) struct Clocks {
    /// The node's of ours.
    node: i128,
    /// The worker's of the node's. None: its leases contradict each other.
    worker: Option<i128>,
}

/// When it was how far, in microseconds by our clock.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) given: u64,
    pub(super) came: u64,
    pub(super) fetched: u64,
    pub(super) started: u64,
    pub(super) ended: u64,
    pub(super) settled: u64,
}

impl Lease {
    /// One of which was heard then, in microseconds by our clock.
    pub(super) fn new(heard: u64, trip: Trip) -> Self {
        Self {
            heard: heard.into(),
            given: trip.given_us.into(),
            received: trip.received_us.into(),
            settled: trip.settled_us.into(),
            told: trip.timeline,
        }
    }

    /// Between which times it can have come.
    fn bounds(&self) -> (i128, i128) {
        (self.given, self.received - i128::from(self.told.ended_us))
    }

    /// Its times by our clock.
    pub(super) fn times(&self, clocks: Clocks) -> Times {
        let (first, last) = self.bounds();
        let told = clocks.worker.map(|ahead| i128::from(self.told.came_us) - ahead);
        // Whose word cannot be true is shown in the middle of what can.
        let came = told.filter(|came| (first..=last).contains(came)).unwrap_or((first + last) / 2);
        let at = |time: i128| u64::try_from((time - clocks.node).max(0)).unwrap_or(u64::MAX);
        let after = |us: u64| at(came + i128::from(us));
        Times {
            given: at(self.given),
            came: at(came),
            fetched: after(self.told.fetched_us),
            started: after(self.told.started_us),
            ended: after(self.told.ended_us),
            settled: at(self.settled),
        }
    }
}

/// How far the node's clock is ahead of ours: what was heard the soonest was heard at once.
pub(super) fn node<'a>(leases: impl Iterator<Item = &'a Lease>) -> i128 {
    leases.map(|lease| lease.settled - lease.heard).max().unwrap_or(0)
}

impl Clocks {
    /// From all leases of a member: the middle of what they allow.
    pub(super) fn new<'a>(node: i128, leases: impl Iterator<Item = &'a Lease>) -> Self {
        let bounds = leases.map(|lease| {
            let (came, (first, last)) = (i128::from(lease.told.came_us), lease.bounds());
            (came - last, came - first)
        });
        let bounds = bounds.reduce(|(a, b), (c, d)| (a.max(c), b.min(d)));
        let bounds = bounds.filter(|(least, most)| least <= most);
        Self { node, worker: bounds.map(|(least, most)| (least + most) / 2) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The node's clock is ahead of ours by so much.
    const NODE: u64 = 1_000_000;

    /// A lease that was on its way for so long, there and back, and ran for 10 in between.
    fn lease(given: u64, there: u64, back: u64, clock: u64) -> Lease {
        let came_us = clock.saturating_add(given + there);
        let timeline = Timeline { came_us, fetched_us: 0, started_us: 1, ended_us: 11 };
        let received = given + there + 11 + back;
        let trip = Trip {
            given_us: NODE + given,
            received_us: NODE + received,
            settled_us: NODE + received + 5,
            timeline,
        };
        // Some are heard of late.
        Lease::new(received + 5 + back - 2, trip)
    }

    fn clocks(leases: &[Lease]) -> Clocks {
        Clocks::new(node(leases.iter()), leases.iter())
    }

    #[test]
    fn the_quickest_ways_tell_how_far_clocks_are_apart() {
        let leases = [lease(100, 40, 2, 9000), lease(200, 2, 70, 9000), lease(300, 30, 30, 9000)];
        let clocks = clocks(&leases);
        let came: Vec<_> = leases.iter().map(|lease| lease.times(clocks).came).collect();
        assert_eq!(came, [140, 202, 330], "two of them leave no doubt but of two each way");
        let times = leases[0].times(clocks);
        let expected =
            Times { given: 100, came: 140, fetched: 140, started: 141, ended: 151, settled: 158 };
        assert_eq!(times, expected);
    }

    #[test]
    fn one_lease_is_shown_in_the_middle_of_its_way() {
        let only = [lease(100, 42, 2, 7)];
        assert_eq!(only[0].times(clocks(&only)).came, 122);
    }

    #[test]
    fn a_clock_that_cannot_be_is_not_believed() {
        let leases = [lease(100, 2, 2, 50), lease(200, 2, 2, u64::MAX)];
        assert_eq!(leases[1].times(clocks(&leases)).came, 202);
    }
}
