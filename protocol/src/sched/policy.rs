//! Placement: which thunk goes where. A small trait, as [`Speculation`](super::speculation::Speculation)
//! is, so that research needs no machine of its own: the node and the simulator take any of them.
//!
//! A policy sees what one requester knows: the graph so far, and what claimants said or were sent.
//! Nobody has a view of the mesh.

use serde::{Deserialize, Serialize};

use crate::random::Random;
use crate::sched::level::Level;
use crate::wire::claim::Capabilities;

/// One thunk that could be leased now.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Its b-level.
    pub level: Level,
    /// Bytes of its trees and large inputs that others need, too, and the claimant is not known to have: what
    /// nobody else needs has to be brought wherever it runs.
    pub missing_bytes: u64,
}

/// Decides which thunk a claimant gets.
///
/// The queue is kept sorted by [`Placement::key`], so that a lease costs the same however many are
/// ready; [`Placement::choose`] sees its first few, as many as
/// [`limits::LEASE_CHOICE`](crate::limits::LEASE_CHOICE).
pub trait Placement: Send {
    /// Where a thunk stands in the queue, the smallest first; equal ones by `order`. `input_bytes`: of the
    /// files that it reads, without trees.
    fn key(&mut self, level: Level, order: u64, input_bytes: u64) -> u64;

    /// Is the key to be asked for again when more is known of a thunk's level?
    fn follows_levels(&self) -> bool {
        false
    }

    /// Which of these a claimant gets: an index. There is at least one, and they come in the order of
    /// the queue. Not called for what is not to be chosen from.
    fn choose(&mut self, claimant: &Capabilities, candidates: &[Candidate]) -> usize {
        let _ = (claimant, candidates);
        0
    }
}

/// In the order in which they became ready.
#[derive(Debug, Default)]
pub struct Fifo;

impl Placement for Fifo {
    fn key(&mut self, _: Level, order: u64, _: u64) -> u64 {
        order
    }
}

/// The last one first: deep before broad, and so little is unfinished at once.
#[derive(Debug, Default)]
pub struct Lifo;

impl Placement for Lifo {
    fn key(&mut self, _: Level, order: u64, _: u64) -> u64 {
        !order
    }
}

/// In an order drawn from a seed.
#[derive(Debug)]
pub struct Shuffled(Random);

impl Shuffled {
    /// The order of this seed.
    pub fn new(seed: u64) -> Self {
        Self(Random::new(seed))
    }
}

impl Placement for Shuffled {
    fn key(&mut self, _: Level, _: u64, _: u64) -> u64 {
        self.0.bits()
    }
}

/// What holds up the most thunks first, as it was known when a thunk became ready; among equals, what the
/// claimant has most of, by bytes still to be fetched; and then what reads most, as it will probably take
/// longest (Graham, SIAM J. Appl. Math. 1969: longest processing time first). The default.
#[derive(Debug, Default)]
pub struct CriticalPath;

impl Placement for CriticalPath {
    fn key(&mut self, level: Level, _: u64, input_bytes: u64) -> u64 {
        let kib = u32::try_from(input_bytes >> 10).unwrap_or(u32::MAX);
        u64::from(u32::MAX - level.thunks) << 32 | u64::from(u32::MAX - kib)
    }

    fn choose(&mut self, _: &Capabilities, candidates: &[Candidate]) -> usize {
        closest(candidates, |candidate| u64::from(candidate.level.thunks))
    }
}

/// What holds up the longest time first, by the run times of kinds that receipts have told so far, also of
/// what waits already; else like [`CriticalPath`].
#[derive(Debug, Default)]
pub struct BLevel;

impl Placement for BLevel {
    fn key(&mut self, level: Level, _: u64, _: u64) -> u64 {
        u64::MAX - level.us
    }

    fn follows_levels(&self) -> bool {
        true
    }

    fn choose(&mut self, _: &Capabilities, candidates: &[Candidate]) -> usize {
        closest(candidates, |candidate| candidate.level.us)
    }
}

/// Of what became ready first, that of which the claimant has most.
#[derive(Debug, Default)]
pub struct Locality;

impl Placement for Locality {
    fn key(&mut self, _: Level, order: u64, _: u64) -> u64 {
        order
    }

    fn choose(&mut self, _: &Capabilities, candidates: &[Candidate]) -> usize {
        closest(candidates, |_| 0)
    }
}

/// Of those that rank like the first, the one of which the claimant has most.
fn closest(candidates: &[Candidate], rank: impl Fn(&Candidate) -> u64) -> usize {
    let first = candidates.first().map(&rank);
    let equals = candidates.iter().enumerate().filter(|(_, c)| Some(rank(c)) == first);
    equals.min_by_key(|(_, c)| c.missing_bytes).map_or(0, |(i, _)| i)
}

/// The choices, by [name](super::named).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum PlacementName {
    /// [`Fifo`].
    Fifo,
    /// [`Lifo`].
    Lifo,
    /// [`Shuffled`].
    Random,
    /// [`CriticalPath`].
    #[default]
    CriticalPath,
    /// [`BLevel`].
    BLevel,
    /// [`Locality`].
    Locality,
}

impl PlacementName {
    /// The policy of this name; the seed is for the one that draws.
    pub fn make(self, seed: u64) -> Box<dyn Placement> {
        match self {
            Self::Fifo => Box::new(Fifo),
            Self::Lifo => Box::new(Lifo),
            Self::Random => Box::new(Shuffled::new(seed)),
            Self::CriticalPath => Box::new(CriticalPath),
            Self::BLevel => Box::new(BLevel),
            Self::Locality => Box::new(Locality),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::thunk::Platform;

    const CLAIMANT: Capabilities = Capabilities {
        platform: Platform::X86_64Linux,
        cores: 4,
        memory_mib: 1024,
        speed_permille: 1000,
    };

    fn level(thunks: u32, us: u64) -> Level {
        Level { thunks, us }
    }

    fn sorted(placement: &mut dyn Placement, levels: &[Level]) -> Vec<u64> {
        let numbered = levels.iter().zip(0_u64..);
        let mut keys: Vec<(u64, u64)> =
            numbered.map(|(level, order)| (placement.key(*level, order, 0), order)).collect();
        keys.sort_unstable();
        keys.into_iter().map(|(_, order)| order).collect()
    }

    #[test]
    fn queues_are_in_their_policys_order() {
        let levels = [level(1, 40), level(5, 20), level(3, 70), level(5, 40)];
        assert_eq!(sorted(&mut Fifo, &levels), [0, 1, 2, 3]);
        assert_eq!(sorted(&mut Locality, &levels), [0, 1, 2, 3]);
        assert_eq!(sorted(&mut Lifo, &levels), [3, 2, 1, 0]);
        assert_eq!(sorted(&mut CriticalPath, &levels), [1, 3, 2, 0]);
        assert_eq!(sorted(&mut BLevel, &levels), [2, 0, 3, 1]);
        let equals = [level(1, 1); 50];
        let shuffled = sorted(&mut Shuffled::new(3), &equals);
        assert_eq!(shuffled, sorted(&mut Shuffled::new(3), &equals));
        assert_ne!(shuffled, sorted(&mut Shuffled::new(4), &equals));
    }

    #[test]
    fn what_reads_most_is_expected_to_take_longest() {
        let key = |thunks, bytes| CriticalPath.key(level(thunks, 0), 0, bytes);
        assert!(key(1, 60 << 10) < key(1, 59 << 10));
        assert!(key(1, u64::MAX) > key(2, 0), "whatever it reads");
        assert_eq!(BLevel.key(level(1, 5), 0, 9), BLevel.key(level(1, 5), 0, 0));
    }

    #[test]
    fn bytes_decide_only_among_equals() {
        let candidate = |level, missing_bytes| Candidate { level, missing_bytes };
        let candidates = [(5, 50), (5, 40), (4, 40)].map(|(thunks, us)| level(thunks, us));
        let [first, second, third] = candidates;
        let candidates = [candidate(first, 900), candidate(second, 10), candidate(third, 0)];
        assert_eq!(CriticalPath.choose(&CLAIMANT, &candidates), 1);
        assert_eq!(BLevel.choose(&CLAIMANT, &candidates), 0);
        assert_eq!(BLevel.choose(&CLAIMANT, &candidates[1..]), 1);
        assert_eq!(Fifo.choose(&CLAIMANT, &candidates), 0);
        assert_eq!(Locality.choose(&CLAIMANT, &candidates), 2, "they decide alone");
    }
}
