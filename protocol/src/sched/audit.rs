//! Audit: which results of others are computed once more here, and what it says of whom.
//!
//! Goals: who gives false results is found out soon and left out for good; who gave true ones is asked
//! to prove it less and less often (BOINC's adaptive replication); a program whose results vary by
//! themselves brings nobody into disrepute. Non-goals: results that were taken unchecked before their
//! author was found out, and machines that lie only when they are not looked at: the share says how
//! likely each of their lies is found.
//!
//! ```text
//!  a peer:     New -- agrees, PROVEN times in a row --> Proven    checked at random, by the share
//!               |  each result is checked                |
//!               '---------------- lies ------------------'-----> Liar    for good
//!
//!  a result:   run here --same--> Agrees
//!                 `--other--> run here again --as the first--> Lied
//!                                            `--other-------> Varies
//! ```

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::Outputs;
use crate::limits;
use crate::peer::PeerId;
use crate::random::Random;

/// What a check found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The same comes of it here.
    Agrees,
    /// Something else comes of it here, each time.
    Lied,
    /// Something else comes of it each time.
    Varies,
}

/// What is known of one peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    /// So many checks in a row agreed.
    Agreed(u32),
    Liar,
}

/// The machine. One per node.
#[derive(Debug)]
pub struct Audits {
    share_permille: u32,
    random: Random,
    peers: BTreeMap<PeerId, Standing>,
}

impl Audits {
    /// Checks this share of the results of proven peers, in thousandths; 0: nobody's. What is checked
    /// is not to be foreseen, so the seed is a secret.
    pub fn new(share_permille: u32, seed: u64) -> Self {
        Self { share_permille, random: Random::new(seed), peers: BTreeMap::new() }
    }

    /// Is anything checked at all?
    pub fn is_on(&self) -> bool {
        self.share_permille > 0
    }

    /// Is a result of this peer's to be checked?
    pub fn wants(&mut self, peer: PeerId) -> bool {
        self.is_on()
            && match self.peers.get(&peer) {
                Some(Standing::Agreed(times)) if *times >= limits::AUDITS_PROVEN => {
                    self.random.permille(self.share_permille.into())
                }
                _ => true,
            }
    }

    /// Takes what a check of a result of this peer's found.
    pub fn record(&mut self, peer: PeerId, verdict: Verdict) {
        if self.peers.len() >= limits::SCORES_KEPT && !self.peers.contains_key(&peer) {
            // Whoever is forgotten is new again, and checked; liars are remembered.
            let honest = self.peers.iter().find(|(_, standing)| **standing != Standing::Liar);
            let Some(forgotten) = honest.map(|(peer, _)| *peer) else { return };
            self.peers.remove(&forgotten);
        }
        let standing = self.peers.entry(peer).or_insert(Standing::Agreed(0));
        match (*standing, verdict) {
            (Standing::Agreed(times), Verdict::Agrees) => {
                *standing = Standing::Agreed(times.saturating_add(1));
            }
            (_, Verdict::Lied) => *standing = Standing::Liar,
            (Standing::Liar, _) | (_, Verdict::Varies) => {}
        }
    }

    /// Those whose word is taken without a check, most of the time.
    pub fn proven(&self) -> BTreeSet<PeerId> {
        let proven = self.peers.iter().filter(
            |(_, s)| matches!(s, Standing::Agreed(times) if *times >= limits::AUDITS_PROVEN),
        );
        proven.map(|(peer, _)| *peer).collect()
    }
}

/// What somebody else said, beside one own run, or two. None is a run that failed. No verdict: one
/// more run is needed.
pub fn compare(
    told: &Outputs,
    first: Option<&Outputs>,
    second: Option<Option<&Outputs>>,
) -> Option<Verdict> {
    match second {
        _ if first == Some(told) || second == Some(Some(told)) => Some(Verdict::Agrees),
        None => None,
        Some(second) if second == first => Some(Verdict::Lied),
        Some(_) => Some(Verdict::Varies),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::name::ValueName;
    use crate::thunk::OutputObject;

    const PEER: PeerId = PeerId([1; 32]);

    fn outputs(bytes: &[u8]) -> Outputs {
        let file = OutputObject::File { name: ValueName::of(bytes), executable: false };
        Arc::new(BTreeMap::from([("out".parse().unwrap(), file)]))
    }

    #[test]
    fn a_result_is_held_against_one_run_or_two() {
        let [a, b, c] = [b"a", b"b", b"c"].map(|bytes| outputs(bytes));
        assert_eq!(compare(&a, Some(&a), None), Some(Verdict::Agrees));
        assert_eq!(compare(&a, Some(&b), None), None);
        assert_eq!(compare(&a, None, None), None, "it failed here");
        assert_eq!(compare(&a, Some(&b), Some(Some(&a))), Some(Verdict::Agrees));
        assert_eq!(compare(&a, Some(&b), Some(Some(&b))), Some(Verdict::Lied));
        assert_eq!(compare(&a, None, Some(None)), Some(Verdict::Lied));
        assert_eq!(compare(&a, Some(&b), Some(Some(&c))), Some(Verdict::Varies));
        assert_eq!(compare(&a, None, Some(Some(&c))), Some(Verdict::Varies));
    }

    #[test]
    fn who_is_proven_is_checked_by_the_share_alone() {
        let mut audits = Audits::new(100, 7);
        for _ in 0..limits::AUDITS_PROVEN {
            assert!(audits.wants(PEER) && audits.proven().is_empty());
            audits.record(PEER, Verdict::Agrees);
            audits.record(PEER, Verdict::Varies);
        }
        assert_eq!(audits.proven(), BTreeSet::from([PEER]));
        let checked = (0..10_000).filter(|_| audits.wants(PEER)).count();
        assert!((800..1200).contains(&checked), "{checked} of 10,000");
        audits.record(PEER, Verdict::Lied);
        audits.record(PEER, Verdict::Agrees);
        assert!(audits.proven().is_empty() && audits.wants(PEER));
    }

    #[test]
    fn all_or_nothing() {
        let (mut none, mut all) = (Audits::new(0, 1), Audits::new(1000, 1));
        for _ in 0..100 {
            assert!(!none.wants(PEER) && all.wants(PEER));
            all.record(PEER, Verdict::Agrees);
        }
    }

    #[test]
    fn liars_are_remembered_and_memory_is_bounded() {
        let mut audits = Audits::new(1000, 1);
        audits.record(PEER, Verdict::Lied);
        for number in 0..2 * limits::SCORES_KEPT as u64 {
            let mut bytes = [2; 32];
            bytes[..8].copy_from_slice(&number.to_le_bytes());
            audits.record(PeerId(bytes), Verdict::Agrees);
        }
        assert!(audits.peers.len() <= limits::SCORES_KEPT);
        assert_eq!(audits.peers.get(&PEER), Some(&Standing::Liar));
    }
}
