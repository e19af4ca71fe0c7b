//! What a build came to: the counts, and the line that closes it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use mesh_protocol::peer::PeerId;
use serde::Serialize;

/// A call that ran locally, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct LocalCall {
    pub(crate) argv: Vec<String>,
    pub(crate) reason: String,
}

/// Why runs failed that were tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Retry {
    pub(crate) reason: String,
    /// How many runs failed for it.
    pub(crate) count: u64,
}

/// What one member ran of a build.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) executed: u64,
    /// From start to end of each, together, in microseconds.
    pub(crate) busy_us: u64,
}

/// What a build came to. A tool call counts once, whatever names its thunk had on the way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Summary {
    /// Executed, reused and failed together.
    pub(crate) thunks: u64,
    pub(crate) executed: u64,
    pub(crate) reused: u64,
    pub(crate) failed: u64,
    /// Runs that failed and were tried again.
    pub(crate) retried: u64,
    /// The first of their reasons.
    pub(crate) retries: Vec<Retry>,
    /// Runs of which a second copy was begun because they were late.
    pub(crate) speculated: u64,
    /// Results of others that were computed once more here.
    pub(crate) checked: u64,
    /// How long copies ran in vain, in microseconds.
    pub(crate) wasted_us: u64,
    /// Who ran how much; none is this machine, as far as its node ran it.
    pub(crate) shares: BTreeMap<Option<PeerId>, Share>,
    /// Reused thunks that this machine's memo did not know and another member's did, by who ran them (none:
    /// it does not say).
    pub(crate) learned: BTreeMap<Option<PeerId>, u64>,
    pub(crate) local: u64,
    pub(crate) elapsed: Duration,
    /// User and system time of all runs that ended, in microseconds.
    pub(crate) cpu_us: u64,
    /// The first of the local calls; a build may have more than are kept.
    pub(crate) calls: Vec<LocalCall>,
}

impl Summary {
    /// Runs on other members, and how many members those are.
    pub(crate) fn elsewhere(&self) -> (u64, usize) {
        let others = || self.shares.iter().filter(|(at, _)| at.is_some());
        (others().map(|(_, share)| share.executed).sum(), others().count())
    }
}

/// `352 thunks, 340 run, 300 on 5 peers, 12 reused, 0 local, 38.2 s`
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.thunks == 1 { "" } else { "s" };
        write!(f, "{} thunk{plural}, {} run, ", self.thunks, self.executed)?;
        let (runs, peers) = self.elsewhere();
        if peers > 0 {
            let plural = if peers == 1 { "" } else { "s" };
            write!(f, "{runs} on {peers} peer{plural}, ")?;
        }
        write!(f, "{} reused, ", self.reused)?;
        let learned: u64 = self.learned.values().sum();
        if learned > 0 {
            write!(f, "{learned} of them known to the mesh, ")?;
        }
        if self.failed > 0 {
            write!(f, "{} failed, ", self.failed)?;
        }
        if self.retried > 0 {
            write!(f, "{} retried, ", self.retried)?;
        }
        if self.checked > 0 {
            write!(f, "{} checked, ", self.checked)?;
        }
        if self.speculated > 0 {
            write!(f, "{} speculated, ", self.speculated)?;
        }
        write!(f, "{} local, {:.1} s", self.local, self.elapsed.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_line_names_trouble_only_where_there_was_some() {
        let mut summary = Summary {
            thunks: 352,
            executed: 340,
            reused: 12,
            elapsed: Duration::from_millis(38_240),
            ..Summary::default()
        };
        assert_eq!(summary.to_string(), "352 thunks, 340 run, 12 reused, 0 local, 38.2 s");
        (summary.failed, summary.retried) = (2, 3);
        let line = "352 thunks, 340 run, 12 reused, 2 failed, 3 retried, 0 local, 38.2 s";
        assert_eq!(summary.to_string(), line);
        (summary.failed, summary.speculated, summary.checked) = (0, 2, 9);
        let share = Share { executed: 100, busy_us: 1 };
        let peer = |number: u8| Some(PeerId([number; 32]));
        summary.shares = [peer(1), peer(2), peer(3), None].map(|at| (at, share)).into();
        let line = "352 thunks, 340 run, 300 on 3 peers, 12 reused, 3 retried, 9 checked, 2 speculated, 0 local, 38.2 s";
        assert_eq!(summary.to_string(), line);
        summary.learned = [(peer(1), 3), (None, 1)].into();
        let line = line.replace("12 reused", "12 reused, 4 of them known to the mesh");
        assert_eq!(summary.to_string(), line);
        let one = Summary { thunks: 1, executed: 1, ..Summary::default() };
        assert_eq!(one.to_string(), "1 thunk, 1 run, 0 reused, 0 local, 0.0 s");
    }
}
