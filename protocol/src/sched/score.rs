//! What a requester thinks of its peers: whoever fails fast, or cannot be reached, must not
//! attract work.
//!
//! ```text
//!            failure                      back-off over                success
//!  Trusted ----------> Backing off -----------------------> Probed -------------> Trusted
//!                      ^ twice as long      one thunk at a     |
//!                      '------ failure ------ time ------------'
//! ```

use std::collections::BTreeMap;

use crate::limits;
use crate::peer::PeerId;
use crate::time::Time;

/// One peer's record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Score {
    /// Thunks that it reduced.
    pub succeeded: u64,
    /// Machine failures and lost leases.
    pub failed: u64,
    /// Time from start to receipt, of those that succeeded.
    pub busy_us: u64,
    /// Its speed against others on the same kinds of thunks, in thousandths.
    pub speed_permille: u64,
    failures_in_a_row: u32,
    /// How often it asked for work and gave it back, since it last reduced anything.
    hand_backs: u32,
    until: Time,
    touched: Time,
}

impl Score {
    fn new(now: Time) -> Self {
        Self {
            succeeded: 0,
            failed: 0,
            busy_us: 0,
            speed_permille: 1000,
            failures_in_a_row: 0,
            hand_backs: 0,
            until: Time::ZERO,
            touched: now,
        }
    }
}

/// How much a peer may be given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trust {
    /// As much as it takes.
    Full,
    /// One thunk at a time, to see.
    Probe,
    /// Nothing until then.
    Nothing(Time),
}

/// The records of all peers, up to [`limits::SCORES_KEPT`]; and, by no name, of this machine itself.
#[derive(Debug, Default)]
pub struct Scores(BTreeMap<Option<PeerId>, Score>);

impl Scores {
    /// The record of a peer, if it has one.
    pub fn get(&self, peer: Option<PeerId>) -> Option<&Score> {
        self.0.get(&peer)
    }

    /// All records.
    pub fn iter(&self) -> impl Iterator<Item = (&Option<PeerId>, &Score)> {
        self.0.iter()
    }

    /// How much it may be given.
    pub fn trust(&self, now: Time, peer: Option<PeerId>) -> Trust {
        match self.0.get(&peer) {
            Some(score) if score.failures_in_a_row == 0 => Trust::Full,
            Some(score) if score.until > now => Trust::Nothing(score.until),
            Some(_) => Trust::Probe,
            None => Trust::Full,
        }
    }

    /// It reduced a thunk in `took_us`, where the mean for such thunks is `usual_us` (none known: 0).
    pub fn succeeded(&mut self, now: Time, peer: Option<PeerId>, took_us: u64, usual_us: u64) {
        let score = self.entry(now, peer);
        score.succeeded += 1;
        score.busy_us = score.busy_us.saturating_add(took_us);
        (score.failures_in_a_row, score.hand_backs) = (0, 0);
        if usual_us > 0 {
            let speed = (usual_us.saturating_mul(1000) / took_us.max(1)).clamp(10, 100_000);
            score.speed_permille = (score.speed_permille * 7 + speed) / 8;
        }
    }

    /// It failed of its own, or vanished with leases.
    pub fn failed(&mut self, now: Time, peer: Option<PeerId>) {
        let score = self.entry(now, peer);
        score.failed += 1;
        let doubled = limits::BACKOFF_US_MIN << score.failures_in_a_row.min(20);
        score.failures_in_a_row += 1;
        score.until = score.until.max(now + doubled.min(limits::BACKOFF_US_MAX));
    }

    /// It asked for work, and gave it back. That is its right (its owner came), but not time and
    /// again: those who would do the work would never get it.
    pub fn handed_back(&mut self, now: Time, peer: Option<PeerId>) {
        let score = self.entry(now, peer);
        score.hand_backs = score.hand_backs.saturating_add(1);
        if score.hand_backs >= limits::HAND_BACKS {
            self.failed(now, peer);
        }
    }

    /// It gets nothing any more.
    pub fn bar(&mut self, now: Time, peer: PeerId) {
        self.failed(now, Some(peer));
        self.entry(now, Some(peer)).until = Time::MAX;
    }

    fn entry(&mut self, now: Time, peer: Option<PeerId>) -> &mut Score {
        if self.0.len() >= limits::SCORES_KEPT && !self.0.contains_key(&peer) {
            let oldest = self.0.iter().min_by_key(|(peer, score)| (score.touched, **peer));
            if let Some(oldest) = oldest.map(|(peer, _)| *peer) {
                self.0.remove(&oldest);
            }
        }
        let score = self.0.entry(peer).or_insert_with(|| Score::new(now));
        score.touched = now;
        score
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: Option<PeerId> = Some(PeerId([1; 32]));

    #[test]
    fn who_is_barred_stays_so() {
        let mut scores = Scores::default();
        scores.bar(Time::ZERO, PeerId([1; 32]));
        scores.failed(Time::ZERO, PEER);
        assert_eq!(scores.trust(Time::from_us(u64::MAX - 1), PEER), Trust::Nothing(Time::MAX));
    }

    #[test]
    fn failures_back_off_twice_as_long_each_time_and_success_ends_it() {
        let mut scores = Scores::default();
        let mut now = Time::ZERO;
        assert_eq!(scores.trust(now, PEER), Trust::Full);
        for exponent in 0..10_u32 {
            scores.failed(now, PEER);
            let until = now + (limits::BACKOFF_US_MIN << exponent).min(limits::BACKOFF_US_MAX);
            assert_eq!(scores.trust(now, PEER), Trust::Nothing(until));
            assert_eq!(scores.trust(until, PEER), Trust::Probe);
            now = until;
        }
        scores.succeeded(now, PEER, 1000, 0);
        assert_eq!(scores.trust(now, PEER), Trust::Full);
        scores.failed(now, PEER);
        assert_eq!(scores.trust(now, PEER), Trust::Nothing(now + limits::BACKOFF_US_MIN));
    }

    #[test]
    fn whoever_gives_back_time_and_again_is_tried_less_and_less() {
        let mut scores = Scores::default();
        for _ in 1..limits::HAND_BACKS {
            scores.handed_back(Time::ZERO, PEER);
        }
        assert_eq!(scores.trust(Time::ZERO, PEER), Trust::Full);
        scores.handed_back(Time::ZERO, PEER);
        let first = Time::ZERO + limits::BACKOFF_US_MIN;
        assert_eq!(scores.trust(Time::ZERO, PEER), Trust::Nothing(first));
        scores.handed_back(first, PEER);
        assert_eq!(scores.trust(first, PEER), Trust::Nothing(first + 2 * limits::BACKOFF_US_MIN));
        scores.succeeded(first, PEER, 1, 0);
        scores.handed_back(first, PEER);
        assert_eq!(scores.trust(first + 3 * limits::BACKOFF_US_MIN, PEER), Trust::Full);
    }

    #[test]
    fn speed_is_learned_from_what_others_take() {
        let mut scores = Scores::default();
        for _ in 0..50 {
            scores.succeeded(Time::ZERO, PEER, 500, 1000);
        }
        let speed = scores.get(PEER).unwrap().speed_permille;
        assert!((1950..=2000).contains(&speed), "{speed}");
    }

    #[test]
    fn the_longest_unheard_is_forgotten_first() {
        let mut scores = Scores::default();
        let peer = |i: u32| {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&i.to_be_bytes());
            Some(PeerId(key))
        };
        for i in 0..=limits::SCORES_KEPT as u32 {
            scores.failed(Time::from_us(u64::from(i)), peer(i));
        }
        assert_eq!(scores.iter().count(), limits::SCORES_KEPT);
        assert!(scores.get(peer(0)).is_none() && scores.get(peer(1)).is_some());
    }
}
