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

#[cfg(test)]
mod tests {
    use super::*;

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
