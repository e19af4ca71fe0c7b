//! What speculation goes by: all that is going on, and each run that has no copy.

use super::{Granted, Leases};
use crate::limits;
use crate::peer::PeerId;
use crate::sched::speculation::{Overview, Solo};
use crate::time::Time;

/// The thunks of a job, as far as is known.
#[derive(Debug, Default)]
pub(super) struct Job {
    pub(super) thunks: u64,
    /// When nothing was left to run.
    pub(super) empty: Time,
}

impl Leases {
    pub(super) fn overview(&self, now: Time) -> Overview {
        let slots = self.seats.values().map(|claimant| claimant.window.slots);
        let copies = self.works.values().filter(|work| work.leases.len() > 1).count();
        let runs = self.granted.values().filter(|granted| granted.started.is_some());
        let rates = runs.filter_map(|granted| Some(self.solo(now, granted)?.rate_permille()));
        let mut rates: Vec<u64> = rates.collect();
        // Those that have ended took what is usual. From three times those that run on, more of them
        // change no quartile.
        let ended = self.job.thunks.saturating_sub(self.works.len() as u64) as usize;
        let ended = ended.min(3 * rates.len() + 1);
        rates.extend(std::iter::repeat_n(1000, ended));
        let peers = self.seats.values().map(|claimant| self.speed_permille(claimant.peer));
        Overview {
            job: self.job.thunks,
            slots: slots.fold(0, u32::saturating_add),
            copies: u32::try_from(copies).unwrap_or(u32::MAX),
            slow_rate_permille: first_quartile(rates),
            slow_machine_permille: first_quartile(peers.collect()),
        }
    }

    pub(super) fn solo(&self, now: Time, granted: &Granted) -> Option<Solo> {
        let work = self.works.get(&granted.run)?;
        let peer = match &granted.settling {
            Some((peer, _)) => Some(*peer),
            None => self.seats.get(&granted.seat)?.peer,
        };
        Some(Solo {
            ran_us: granted.started.map(|started| now - started),
            kind: self.kinds.get(&work.thunk.spec().function.executable),
            speed_permille: self.speed_permille(peer),
        })
    }

    pub(super) fn speed_permille(&self, peer: Option<PeerId>) -> u64 {
        self.scores.get(peer).map_or(1000, |score| score.speed_permille)
    }

    /// Counts one more thunk, of this job or the first of another.
    pub(super) fn count_of_job(&mut self, now: Time) {
        if self.works.is_empty() && self.job.empty + limits::JOB_PAUSE_US <= now {
            self.job.thunks = 0;
        }
        self.job.thunks += 1;
    }
}

/// A quarter of these are below; 0 of none.
fn first_quartile(mut values: Vec<u64>) -> u64 {
    let at = values.len() / 4;
    if values.is_empty() { 0 } else { *values.select_nth_unstable(at).1 }
}
