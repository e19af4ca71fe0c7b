//! How long thunks of a kind take: those with the same executable.

use std::collections::BTreeMap;

use crate::limits;
use crate::path::AbsPath;

/// Run times of one kind, as moving estimates.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct KindTimes {
    /// Runs that ended well.
    pub runs: u64,
    /// Their mean, recent ones counting more.
    pub mean_us: u64,
    /// Their mean distance from it.
    pub deviation_us: u64,
}

impl KindTimes {
    fn record(&mut self, took_us: u64) {
        let towards = |from: u64, to: u64, share: u64| from - from / share + to / share;
        match self.runs {
            0 => (self.mean_us, self.deviation_us) = (took_us, took_us / 2),
            _ => {
                self.deviation_us = towards(self.deviation_us, self.mean_us.abs_diff(took_us), 4);
                self.mean_us = towards(self.mean_us, took_us, 8);
            }
        }
        self.runs += 1;
    }
}

/// All kinds seen, up to [`limits::KINDS_KEPT`]; what comes later has no times.
#[derive(Debug, Default)]
pub struct Kinds(BTreeMap<AbsPath, KindTimes>);

impl Kinds {
    /// The times of a kind.
    pub fn get(&self, executable: &AbsPath) -> KindTimes {
        self.0.get(executable).copied().unwrap_or_default()
    }

    /// One more run of that kind.
    pub fn record(&mut self, executable: &AbsPath, took_us: u64) {
        if let Some(times) = self.0.get_mut(executable) {
            times.record(took_us);
        } else if self.0.len() < limits::KINDS_KEPT {
            self.0.entry(executable.clone()).or_default().record(took_us);
        }
    }
}

/// What a thunk is expected to take, for levels: they stay comparable, as all go by the times of the last
/// [`Estimates::renew`].
///
/// A kind that nobody has seen counts as the longest that was, and as [`limits::UNSEEN_US`] at least: so one
/// of it runs early, and it is known from then on.
#[derive(Debug, Default)]
pub struct Estimates {
    seen: Kinds,
    runs: u64,
    used: BTreeMap<AbsPath, u64>,
    used_runs: u64,
}

impl Estimates {
    /// A run took so long, as whoever ran it says. Are the times in use old, so that they should be renewed?
    /// They are each time when as many runs again have been seen: that costs a logarithm's times.
    pub fn record(&mut self, executable: &AbsPath, took_us: u64) -> bool {
        self.seen.record(executable, took_us.min(limits::RUN_US_MAX));
        self.runs += 1;
        self.runs >= 2 * self.used_runs
    }

    /// From now on all that was seen counts.
    pub fn renew(&mut self) {
        let seen = self.seen.0.iter();
        self.used = seen.map(|(kind, times)| (kind.clone(), times.mean_us.max(1))).collect();
        self.used_runs = self.runs;
    }

    /// What a thunk of that kind takes, in microseconds; none: of a kind that is not known yet.
    pub fn of(&self, executable: Option<&AbsPath>) -> u64 {
        let known = executable.and_then(|executable| self.used.get(executable).copied());
        known.unwrap_or_else(|| self.used.values().fold(limits::UNSEEN_US, |a, b| a.max(*b)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_seen_is_expected_to_be_long_and_levels_go_by_one_state_of_knowledge() {
        let [cc, ld]: [AbsPath; 2] = ["/cc", "/ld"].map(|path| path.parse().unwrap());
        let mut estimates = Estimates::default();
        assert_eq!(estimates.of(Some(&cc)), limits::UNSEEN_US);
        assert!(estimates.record(&cc, 5));
        assert_eq!(estimates.of(Some(&cc)), limits::UNSEEN_US, "not before it is renewed");
        estimates.renew();
        assert_eq!((estimates.of(Some(&cc)), estimates.of(Some(&ld))), (5, limits::UNSEEN_US));
        assert!(estimates.record(&ld, 2 * limits::UNSEEN_US));
        estimates.renew();
        assert_eq!(estimates.of(None), 2 * limits::UNSEEN_US, "as the longest");
        let renewals = (2..1000).filter(|_| {
            let is_due = estimates.record(&cc, 5);
            if is_due {
                estimates.renew();
            }
            is_due
        });
        assert_eq!(renewals.count(), 8, "4, 8, … 512");
    }

    #[test]
    fn a_time_that_cannot_be_is_cut() {
        let mut estimates = Estimates::default();
        let cc: AbsPath = "/cc".parse().unwrap();
        estimates.record(&cc, u64::MAX);
        estimates.renew();
        assert_eq!(estimates.of(Some(&cc)), limits::RUN_US_MAX);
    }

    #[test]
    fn estimates_follow_what_happens() {
        let mut kinds = Kinds::default();
        let cc: AbsPath = "/usr/bin/cc".parse().unwrap();
        assert_eq!(kinds.get(&cc), KindTimes::default());
        for _ in 0..100 {
            kinds.record(&cc, 1_000_000);
        }
        let steady = kinds.get(&cc);
        assert!(
            steady.mean_us.abs_diff(1_000_000) < 100 && steady.deviation_us < 100,
            "{steady:?}"
        );
        for _ in 0..100 {
            kinds.record(&cc, 3_000_000);
        }
        assert!(kinds.get(&cc).mean_us.abs_diff(3_000_000) < 1000);
    }

    #[test]
    fn only_so_many_kinds_are_kept() {
        let mut kinds = Kinds::default();
        for i in 0..2 * limits::KINDS_KEPT {
            kinds.record(&format!("/bin/{i}").parse().unwrap(), 1);
        }
        assert_eq!(kinds.0.len(), limits::KINDS_KEPT);
    }
}
