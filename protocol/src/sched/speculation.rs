//! Speculation: which runs get a second copy on an idle slot, so that one slow machine does not hold
//! up a build. Whichever copy ends first counts.
//!
//! | name | what gets a copy |
//! |---|---|
//! | `none` | nothing |
//! | `ours` | what runs for longer than is usual for its kind ([`Stragglers`], the default) |
//! | `late` | of the slowest quarter what has most left to do, on machines that are not slow ([`Late`]) |
//! | `clone` | everything in small jobs, at once ([`Clones`]) |
//!
//! All go by the same rules of the lease machine: copies take slots for which nothing is ready, a thunk
//! has at most two, on different machines, and what has not even started after
//! [`limits::UNSTARTED_US`] is late under each of them.

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::sched::kinds::KindTimes;

/// A run that one claimant has alone.
#[derive(Clone, Copy, Debug)]
pub struct Solo {
    /// Microseconds since it started; none if its holder has not said that it has.
    pub ran_us: Option<u64>,
    /// How long others with the same executable took.
    pub kind: KindTimes,
    /// The speed of its machine, in thousandths of the usual.
    pub speed_permille: u64,
}

impl Solo {
    /// How fast it gets on, in thousandths of what is usual for its kind, at most. Commands tell no
    /// progress: one on a slow machine is as slow as that, and one that has not ended after its
    /// usual time is slower than the usual by at least so much.
    pub fn rate_permille(&self) -> u64 {
        let ran_us = self.ran_us.unwrap_or(0).max(1);
        self.speed_permille.min(self.kind.mean_us.saturating_mul(1000) / ran_us)
    }

    /// Microseconds until it ends, if it takes what is usual on such a machine. One that has taken
    /// longer is expected to go on for as long as it is overdue.
    pub fn left_us(&self) -> u64 {
        let usual_us = self.kind.mean_us.saturating_mul(1000) / self.speed_permille.max(1);
        usual_us.abs_diff(self.ran_us.unwrap_or(0))
    }
}

/// All that one requester has going.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Overview {
    /// Thunks of the job, ended ones included: what became ready since there was nothing to run for
    /// [`limits::JOB_PAUSE_US`].
    pub job: u64,
    /// Cores that claimants would keep busy at once.
    pub slots: u32,
    /// Thunks that have a second copy.
    pub copies: u32,
    /// A quarter of the job's thunks, running and ended, get on more slowly than this
    /// ([`Solo::rate_permille`]).
    pub slow_rate_permille: u64,
    /// A quarter of the machines are slower than this.
    pub slow_machine_permille: u64,
}

/// Decides what is worth a second copy.
pub trait Speculation: Send {
    /// How much a run needs a copy, the highest first; none if it needs none.
    fn urgency(&self, run: &Solo, all: &Overview) -> Option<u64>;

    /// The most thunks that have copies at once.
    fn copies_max(&self, all: &Overview) -> u32 {
        let _ = all;
        u32::MAX
    }

    /// May a copy go to a machine of that speed?
    fn takes(&self, speed_permille: u64, all: &Overview) -> bool {
        let _ = (speed_permille, all);
        true
    }

    /// Is a job of so many thunks to be looked at as soon as something is leased? Else all are looked at
    /// a few times a second.
    fn is_eager(&self, job: u64) -> bool {
        let _ = job;
        false
    }
}

/// Never a second copy.
#[derive(Debug, Default)]
pub struct NoSpeculation;

impl Speculation for NoSpeculation {
    fn urgency(&self, _: &Solo, _: &Overview) -> Option<u64> {
        None
    }
}

/// Late is what takes longer than the mean and four mean deviations, and half as long again as the
/// mean (the estimate of TCP's retransmission timer, RFC 6298). The most overdue first.
#[derive(Debug, Default)]
pub struct Stragglers;

impl Stragglers {
    /// After how many microseconds a run is late; never if none.
    fn late_after_us(kind: &KindTimes) -> Option<u64> {
        if kind.runs < limits::KIND_RUNS_MIN {
            return None;
        }
        let usual = kind.mean_us.saturating_add(kind.deviation_us.saturating_mul(4));
        Some(usual.max(kind.mean_us.saturating_mul(3) / 2).max(limits::LATE_US_MIN))
    }
}

impl Speculation for Stragglers {
    fn urgency(&self, run: &Solo, _: &Overview) -> Option<u64> {
        run.ran_us?.checked_sub(Self::late_after_us(&run.kind)?)
    }
}

/// LATE, "longest approximate time to end" (Zaharia, Konwinski, Joseph, Katz, Stoica: "Improving
/// MapReduce performance in heterogeneous environments", OSDI 2008): of the runs that get on more
/// slowly than three quarters of the job, the one that has most left to do, on a machine that is not
/// among the slowest quarter; copies of at most a tenth of the slots at once.
///
/// The original asks tasks how far they are. Commands do not say, so that time left and progress are
/// estimates ([`Solo::left_us`], [`Solo::rate_permille`]), for kinds of which some have ended.
#[derive(Debug, Default)]
pub struct Late;

impl Speculation for Late {
    fn urgency(&self, run: &Solo, all: &Overview) -> Option<u64> {
        let is_young = run.ran_us? < limits::LATE_US_MIN;
        let is_known = run.kind.runs >= limits::KIND_RUNS_MIN;
        let is_slow = run.rate_permille() < all.slow_rate_permille;
        (is_known && is_slow && !is_young).then(|| run.left_us())
    }

    fn copies_max(&self, all: &Overview) -> u32 {
        (all.slots / limits::LATE_SLOTS_PER_COPY).max(1)
    }

    fn takes(&self, speed_permille: u64, all: &Overview) -> bool {
        speed_permille >= all.slow_machine_permille
    }
}

/// Every run of a job of at most [`limits::CLONED_JOB_MAX`] thunks is started twice, without waiting for
/// it to be late: a small job ends with the slowest of its few runs, and nobody knows which that
/// will be until it is too late (Dolly: Ananthanarayanan, Ghodsi, Shenker, Stoica: "Effective straggler
/// mitigation: attack of the clones", NSDI 2013).
///
/// Dolly may spend 5 % of a cluster on clones, as many per task as make a straggler unlikely. Here there
/// is one clone of each, and only on slots that idle. A job's size is what is known of it so far, so
/// that the first few runs of a large one may be cloned where slots idle already.
#[derive(Debug, Default)]
pub struct Clones;

impl Speculation for Clones {
    fn urgency(&self, run: &Solo, all: &Overview) -> Option<u64> {
        self.is_eager(all.job).then(|| run.ran_us.unwrap_or(0))
    }

    fn is_eager(&self, job: u64) -> bool {
        job <= limits::CLONED_JOB_MAX
    }
}

/// The choices, by [name](super::named).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum SpeculationName {
    /// [`NoSpeculation`].
    None,
    /// [`Stragglers`].
    #[default]
    Ours,
    /// [`Late`].
    Late,
    /// [`Clones`].
    Clone,
}

impl SpeculationName {
    /// The policy of this name.
    pub fn make(self) -> Box<dyn Speculation> {
        match self {
            Self::None => Box::new(NoSpeculation),
            Self::Ours => Box::new(Stragglers),
            Self::Late => Box::new(Late),
            Self::Clone => Box::new(Clones),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn run(ran_us: u64, kind: KindTimes) -> Solo {
        Solo { ran_us: Some(ran_us), kind, speed_permille: 1000 }
    }

    fn kind(runs: u64, mean_us: u64, deviation_us: u64) -> KindTimes {
        KindTimes { runs, mean_us, deviation_us }
    }

    #[test]
    fn late_is_far_beyond_the_usual_and_needs_some_experience() {
        let after = |kind| Stragglers::late_after_us(&kind);
        assert_eq!(after(kind(4, 1, 1)), None);
        assert_eq!(after(kind(5, 10 * SECOND, 0)), Some(15 * SECOND));
        assert_eq!(after(kind(5, 10 * SECOND, 5 * SECOND)), Some(30 * SECOND));
        assert_eq!(after(kind(5, 10, 1)), Some(SECOND));
        let all = Overview::default();
        let steady = kind(5, 10 * SECOND, 0);
        assert_eq!(Stragglers.urgency(&run(15 * SECOND - 1, steady), &all), None);
        assert_eq!(Stragglers.urgency(&run(17 * SECOND, steady), &all), Some(2 * SECOND));
        assert_eq!(NoSpeculation.urgency(&run(17 * SECOND, steady), &all), None);
    }

    #[test]
    fn late_takes_the_longest_time_to_end_of_the_slow() {
        let all = Overview {
            slots: 40,
            slow_rate_permille: 900,
            slow_machine_permille: 700,
            ..Overview::default()
        };
        let usual = kind(5, 10 * SECOND, SECOND);
        let on =
            |speed_permille, ran_us| Solo { ran_us: Some(ran_us), kind: usual, speed_permille };
        let urgency = |speed, ran_us| Late.urgency(&on(speed, ran_us), &all);
        // A slow machine needs 20 s for what usually takes 10 s: that is seen before it is overdue.
        assert_eq!(urgency(500, 5 * SECOND), Some(15 * SECOND));
        assert_eq!(urgency(500, SECOND - 1), None);
        assert_eq!(urgency(900, 5 * SECOND), None);
        // On a machine as fast as others it is seen when it is overdue.
        assert_eq!(urgency(1000, 11 * SECOND), None);
        assert_eq!(urgency(1000, 14 * SECOND), Some(4 * SECOND));
        let unknown = Solo { kind: kind(4, 10 * SECOND, SECOND), ..on(500, 5 * SECOND) };
        assert_eq!(Late.urgency(&unknown, &all), None);
        assert_eq!(Late.urgency(&Solo { ran_us: None, ..on(500, 0) }, &all), None);

        assert_eq!(Late.copies_max(&all), 4);
        assert_eq!(Late.copies_max(&Overview { slots: 3, ..all }), 1);
        assert!(Late.takes(700, &all) && !Late.takes(699, &all));
    }

    #[test]
    fn small_jobs_are_cloned_from_the_start() {
        let all = |job| Overview { job, ..Overview::default() };
        let fresh = Solo { ran_us: None, ..run(0, KindTimes::default()) };
        assert_eq!(Clones.urgency(&fresh, &all(limits::CLONED_JOB_MAX)), Some(0));
        assert_eq!(Clones.urgency(&fresh, &all(limits::CLONED_JOB_MAX + 1)), None);
        assert!(Clones.is_eager(1) && !Clones.is_eager(limits::CLONED_JOB_MAX + 1));
    }
}
