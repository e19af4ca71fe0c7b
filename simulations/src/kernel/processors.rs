//! Cores that several share.

use std::collections::BTreeMap;

use super::time::{SimTime, Span};

/// So many cores under egalitarian processor sharing, as a fair scheduler of an operating system
/// approaches it: each of `n` jobs gets a core, or `cores / n` of one where there are fewer cores than jobs.
///
/// All jobs are served at one rate at any moment. So a job of length `w` that comes when each job has
/// had `s` of service so far ends when each has had `s + w`, whoever comes and goes meanwhile, and one
/// sorted map is enough. In an M/M/1 queue, a job of length `w` is there for `w / (1 - load)` on average.
#[derive(Debug)]
pub struct Processors<J> {
    cores: f64,
    /// Nanoseconds that a job which was there all the time would have been served, as of `at`.
    served: f64,
    at: SimTime,
    /// By how much service ends them, and the order in which they came. Of floating-point numbers that
    /// are not negative, bits are sorted as the numbers are.
    jobs: BTreeMap<(u64, u64), J>,
    added: u64,
}

impl<J> Processors<J> {
    /// Idle ones.
    pub fn new(cores: u32) -> Self {
        let (served, at, jobs) = (0.0, SimTime::ZERO, BTreeMap::new());
        Self { cores: f64::from(cores), served, at, jobs, added: 0 }
    }

    /// A job that needs a core for so long.
    pub fn add(&mut self, now: SimTime, work: Span, job: J) {
        self.advance(now);
        if self.jobs.is_empty() {
            // Small numbers are exact for longer.
            self.served = 0.0;
        }
        let end = self.served + work.ns() as f64;
        self.jobs.insert((end.to_bits(), self.added), job);
        self.added += 1;
    }

    /// When the next job ends, if none comes before.
    pub fn next_end(&self) -> Option<SimTime> {
        let ((end, _), _) = self.jobs.first_key_value()?;
        let left = (f64::from_bits(*end) - self.served).max(0.0) / self.rate();
        Some(self.at + Span::from_ns(left.ceil() as u64))
    }

    /// Takes the next job, at the time of its end.
    pub fn take(&mut self, now: SimTime) -> Option<J> {
        self.advance(now);
        let ((end, _), job) = self.jobs.pop_first()?;
        self.served = self.served.max(f64::from_bits(end));
        Some(job)
    }

    fn rate(&self) -> f64 {
        (self.cores / self.jobs.len() as f64).min(1.0)
    }

    fn advance(&mut self, now: SimTime) {
        if !self.jobs.is_empty() {
            self.served += (now - self.at).ns() as f64 * self.rate();
        }
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Distribution, Draws, Purpose};

    const S: u64 = 1_000_000_000;

    fn s(seconds: f64) -> Span {
        Span::from_seconds(seconds)
    }

    /// When each of these ends, given when it comes and how long it is.
    fn play(cores: u32, jobs: &[(f64, f64)]) -> Vec<f64> {
        let mut processors = Processors::new(cores);
        let mut ends = vec![0.0; jobs.len()];
        let mut coming = jobs.iter().enumerate().peekable();
        loop {
            let end = processors.next_end();
            match (coming.peek(), end) {
                (Some((_, (at, _))), end) if end.is_none_or(|end| SimTime::ZERO + s(*at) < end) => {
                    if let Some((job, (at, work))) = coming.next() {
                        processors.add(SimTime::ZERO + s(*at), s(*work), job);
                    }
                }
                (_, Some(end)) => {
                    let job = processors.take(end).unwrap();
                    ends[job] = end.seconds();
                }
                _ => return ends,
            }
        }
    }

    #[test]
    fn alone_and_as_many_as_cores_take_what_they_need() {
        assert_eq!(play(1, &[(1.0, 2.0)]), [3.0]);
        assert_eq!(play(2, &[(0.0, 2.0), (0.0, 1.0)]), [2.0, 1.0]);
    }

    #[test]
    fn cores_are_shared_evenly() {
        // Four on two cores: half a core each, until the short ones are gone.
        let ends = play(2, &[(0.0, 1.0), (0.0, 1.0), (0.0, 2.0), (0.0, 2.0)]);
        assert_eq!(ends, [2.0, 2.0, 3.0, 3.0]);
        // The second comes when half of the first is done.
        assert_eq!(play(1, &[(0.0, 2.0), (1.0, 0.5)]), [2.5, 2.0]);
        assert_eq!(play(1, &[(0.0, 0.0), (0.0, 1.0)]), [0.0, 1.0]);
    }

    #[test]
    fn none_of_a_second_is_lost_over_a_year_of_work() {
        let mut processors = Processors::new(1);
        let mut now = SimTime::ZERO;
        for _ in 0..100 {
            processors.add(now, Span::from_ns(300_000 * S), ());
            now = processors.next_end().unwrap();
            processors.take(now);
        }
        assert_eq!(now, SimTime::from_ns(30_000_000 * S));
    }

    /// M/G/1 under processor sharing: the mean time of a job is that of its length over one less the
    /// load, whatever the distribution of lengths (Kleinrock, 1967).
    #[test]
    fn queues_wait_as_the_formula_says() {
        let load = 0.7;
        let gaps = Distribution::Exponential { mean: 1.0 / load };
        let mut draws = Draws::new(1, Purpose::Policy, 0);
        let mut now = 0.0;
        let jobs: Vec<(f64, f64)> = (0..200_000)
            .map(|_| {
                now += gaps.sample(&mut draws);
                // Half are three times as long as the others; the mean is one.
                (now, if draws.unit() < 0.5 { 0.5 } else { 1.5 })
            })
            .collect();
        let ends = play(1, &jobs);
        for length in [0.5, 1.5] {
            let of = jobs.iter().zip(&ends).filter(|((_, work), _)| *work == length);
            let times: Vec<f64> = of.map(|((at, _), end)| end - at).collect();
            let mean = times.iter().sum::<f64>() / times.len() as f64;
            let expected = length / (1.0 - load);
            assert!((mean / expected - 1.0).abs() < 0.02, "{length}: {mean}, not {expected}");
        }
    }
}
