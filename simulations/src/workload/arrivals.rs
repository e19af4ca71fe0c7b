//! When jobs come, and whose they are.

use crate::config::{ConfigError, Section, Unit};
use crate::kernel::{Distribution, Draws, Purpose, SimTime, Span};

/// `[workload.arrivals]`: without it there is one job, at the start.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Arrivals {
    /// How many jobs.
    pub count: u32,
    /// Seconds between two jobs; exponential makes a Poisson process.
    pub every: Distribution,
    /// How many users; each job belongs to one of them at random.
    pub users: u32,
}

impl Arrivals {
    pub(super) fn read(workload: &Section<'_>) -> Result<Self, ConfigError> {
        let Some(section) = workload.section("arrivals")? else {
            return Ok(Self { count: 1, every: Distribution::Constant(0.0), users: 1 });
        };
        let count = section.integer("count", 1..=16_000_000)?;
        let every = section.distribution("every", Unit::Seconds)?;
        let arrivals = Self {
            count: section.need("count", count, "how many jobs")? as u32,
            every: section.need("every", every, "seconds between two jobs, or a distribution")?,
            users: section.integer("users", 1..=1_000_000)?.unwrap_or(1) as u32,
        };
        section.finish()?;
        Ok(arrivals)
    }

    /// Arrival and user of every job; the first arrives at the start.
    pub(super) fn draw(&self, seed: u64) -> Vec<(SimTime, u32)> {
        let mut draws = Draws::new(seed, Purpose::Arrival, 0);
        let mut at = SimTime::ZERO;
        let job = |n| {
            if n > 0 {
                at = at + Span::from_seconds(self.every.sample(&mut draws));
            }
            (at, draws.below(self.users as usize) as u32)
        };
        (0..self.count).map(job).collect()
    }
}
