//! What a run yields.

use super::Setup;
use super::state::Sim;
use crate::kernel::SimTime;
use crate::platform::{HostId, Hosts};
use crate::workload::TaskId;

/// When what happened to a task, the last time that it ran.
#[derive(Clone, Copy, Debug)]
pub struct TaskRecord {
    /// Where it ran.
    pub host: HostId,
    /// How many times it was placed.
    pub attempts: u32,
    /// When its inputs existed.
    pub ready: SimTime,
    /// When it was leased.
    pub placed: SimTime,
    /// When it got a core.
    pub started: SimTime,
    /// When it had been executed.
    pub finished: SimTime,
    /// When the requester knew.
    pub received: SimTime,
    /// Bytes that were fetched because of it.
    pub fetched: u64,
}

impl Default for TaskRecord {
    fn default() -> Self {
        let zero = SimTime::ZERO;
        Self {
            host: HostId(0),
            attempts: 0,
            ready: zero,
            placed: zero,
            started: zero,
            finished: zero,
            received: zero,
            fetched: 0,
        }
    }
}

/// Sums over a run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    /// Core-seconds of sandboxes and executions, those in vain included.
    pub(crate) busy: f64,
    /// Core-seconds in vain: of hosts that went, of outputs that were lost, of second copies.
    pub(crate) wasted: f64,
    pub(crate) bytes: u64,
    pub(crate) transfers: u64,
    pub(crate) departures: u64,
    /// Leases that ended without a receipt.
    pub(crate) aborted: u64,
    /// Tasks that were done and had to be done again.
    pub(crate) repeated: u64,
    /// Second copies of tasks.
    pub(crate) speculated: u64,
    /// Messages of the protocol.
    pub(crate) messages: u64,
    /// Those that said that there is work.
    pub(crate) offer_messages: u64,
    /// Those of them that their requester sent itself.
    pub(crate) offers_sent: u64,
    /// Receipts that were found to be lies.
    pub(crate) lies_found: u64,
    /// Tasks whose result is false, and nobody knows.
    pub(crate) false_results: u64,
    /// Results that their requester ran again before they counted.
    pub(crate) checks: u64,
    /// Core-seconds of that.
    pub(crate) checked: f64,
    /// Workers that a requester left out for good, and the sum of when it did, in seconds.
    pub(crate) liars_found: u64,
    pub(crate) liars_found_at: f64,
}

/// A run in numbers. Times are in seconds, sizes in bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// From the first arrival until the last result is home.
    pub makespan: f64,
    /// No schedule ends earlier: the longest chain on the fastest host, or all work on all cores,
    /// whichever is larger; without start costs and transfers, as if nobody went.
    pub lower_bound: f64,
    /// Makespan over lower bound.
    pub ratio: f64,
    /// Busy core-seconds over core-seconds of all hosts until the end.
    pub utilisation: f64,
    /// Bytes of completed transfers.
    pub bytes_moved: u64,
    /// Completed transfers.
    pub transfers: u64,
    /// Tasks.
    pub tasks: u64,
    /// Leases that ended without a receipt.
    pub aborted: u64,
    /// Tasks that were done again because an output was lost.
    pub repeated: u64,
    /// Departures of hosts.
    pub departures: u64,
    /// Second copies of tasks; only the protocol makes some.
    pub speculated: u64,
    /// Messages of the protocol, gossip included; none where a policy is told everything.
    pub messages: u64,
    /// Of them those that said that there is work, every copy.
    pub offer_messages: u64,
    /// Of those the copies that a requester sent itself; others were passed on.
    pub offers_sent: u64,
    /// Core-seconds of work in vain.
    pub wasted: f64,
    /// Receipts that were found to be false; only the protocol looks.
    pub lies_found: u64,
    /// Tasks that have a false result and nobody knows: by a lie that could not be found out, or made of
    /// such a result.
    pub false_results: u64,
    /// Results that their requester ran again before they counted.
    pub checks: u64,
    /// Core-seconds of that, on the requesters' hosts.
    pub checked: f64,
    /// Workers that gave a false result and were left out from then on, for each requester that found out.
    pub liars_found: u64,
    /// Seconds from the first arrival until they were, on average; 0 if none was.
    pub liar_found: f64,
    /// Seconds from ready to receipt: mean, and the quantiles 0.5, 0.95 and 0.99.
    pub latency: Quantiles,
    /// Seconds from ready to the start on a core.
    pub wait: Quantiles,
    /// For each job, the time from its arrival over its longest chain on a core of speed 1.
    pub slowdown: Quantiles,
    /// Jain's index of the users' mean slowdowns: 1 if all fare alike, 1/users if one gets all.
    pub fairness: f64,
    /// Events of the kernel.
    pub events: u64,
}

/// Mean and quantiles of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Quantiles {
    /// The mean.
    pub mean: f64,
    /// The median.
    pub p50: f64,
    /// The quantile 0.95.
    pub p95: f64,
    /// The quantile 0.99.
    pub p99: f64,
}

impl Quantiles {
    /// Of these values; zero without any. A quantile is the least value that at least its share of
    /// the sample does not exceed.
    pub fn of(mut values: Vec<f64>) -> Self {
        if values.is_empty() {
            return Self::default();
        }
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        values.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| {
            let rank = (share * values.len() as f64).ceil() as usize;
            values[rank.clamp(1, values.len()) - 1]
        };
        Self { mean, p50: at(0.5), p95: at(0.95), p99: at(0.99) }
    }
}

/// Everything that a run yields.
#[derive(Debug)]
pub struct Outcome {
    /// In numbers.
    pub summary: Summary,
    /// For each task of the graph.
    pub tasks: Vec<TaskRecord>,
}

impl Sim<'_> {
    pub(super) fn into_outcome(self) -> Outcome {
        let ended = Ended {
            setup: &self.setup,
            hosts: &self.hosts,
            job_done_at: &self.job_done_at,
            totals: self.totals,
            events: self.queue.fired(),
        };
        ended.outcome(self.records)
    }
}

/// A run that ended, beside its records.
pub(crate) struct Ended<'a> {
    pub(crate) setup: &'a Setup<'a>,
    pub(crate) hosts: &'a Hosts,
    pub(crate) job_done_at: &'a [SimTime],
    pub(crate) totals: Totals,
    pub(crate) events: u64,
}

impl Ended<'_> {
    /// What it yields.
    pub(crate) fn outcome(&self, records: Vec<TaskRecord>) -> Outcome {
        let graph = self.setup.graph;
        let first = graph.jobs().first().map_or(SimTime::ZERO, |job| job.arrival);
        let last = self.job_done_at.iter().copied().max().unwrap_or(first);
        let makespan = (last - first).seconds();
        let paths = graph.critical_paths();
        let lower_bound = self.lower_bound(&paths, first);
        let groups = &self.setup.platform.groups;
        let cores: f64 = groups.iter().map(|g| f64::from(g.count) * f64::from(g.cores)).sum();
        let seconds = |from: fn(&TaskRecord) -> SimTime, to: fn(&TaskRecord) -> SimTime| {
            Quantiles::of(records.iter().map(|r| (to(r) - from(r)).seconds()).collect())
        };
        let (slowdown, fairness) = self.slowdowns(&paths);
        let summary = Summary {
            makespan,
            lower_bound,
            ratio: if lower_bound > 0.0 { makespan / lower_bound } else { 1.0 },
            utilisation: if makespan > 0.0 { self.totals.busy / (cores * makespan) } else { 0.0 },
            bytes_moved: self.totals.bytes,
            transfers: self.totals.transfers,
            tasks: graph.tasks().len() as u64,
            aborted: self.totals.aborted,
            repeated: self.totals.repeated,
            departures: self.totals.departures,
            speculated: self.totals.speculated,
            messages: self.totals.messages,
            wasted: self.totals.wasted,
            offer_messages: self.totals.offer_messages,
            offers_sent: self.totals.offers_sent,
            lies_found: self.totals.lies_found,
            false_results: self.totals.false_results,
            checks: self.totals.checks,
            checked: self.totals.checked,
            liars_found: self.totals.liars_found,
            liar_found: match self.totals.liars_found {
                0 => 0.0,
                found => self.totals.liars_found_at / found as f64 - first.seconds(),
            },
            latency: seconds(|r| r.ready, |r| r.received),
            wait: seconds(|r| r.ready, |r| r.started),
            slowdown,
            fairness,
            events: self.events,
        };
        Outcome { summary, tasks: records }
    }

    /// See [`Summary::lower_bound`].
    fn lower_bound(&self, paths: &[f64], first: SimTime) -> f64 {
        let graph = self.setup.graph;
        let fastest = self.hosts.speed(self.hosts.at_rank(0));
        let chains = graph.jobs().iter().zip(paths);
        let chain = chains
            .map(|(job, path)| (job.arrival - first).seconds() + path / fastest)
            .fold(0.0, f64::max);
        let platform = self.setup.platform;
        let hosts = (0..self.hosts.len() as u32).map(HostId);
        let power: f64 = hosts
            .map(|host| self.hosts.speed(host) * f64::from(self.hosts.group(platform, host).cores))
            .sum();
        let work: f64 = graph.tasks().iter().map(|task| task.work).sum();
        chain.max(work / power)
    }

    fn slowdowns(&self, paths: &[f64]) -> (Quantiles, f64) {
        let jobs = self.setup.graph.jobs();
        let mut by_job = Vec::with_capacity(jobs.len());
        let mut by_user = std::collections::BTreeMap::new();
        for ((job, path), done) in jobs.iter().zip(paths).zip(self.job_done_at) {
            if job.tasks.is_empty() || *path <= 0.0 {
                continue;
            }
            let slowdown = (*done - job.arrival).seconds() / path;
            by_job.push(slowdown);
            let (sum, count) = by_user.entry(job.user).or_insert((0.0, 0.0));
            *sum += slowdown;
            *count += 1.0;
        }
        let users = by_user.len() as f64;
        let means = by_user.values().map(|(sum, count)| sum / count);
        let sum: f64 = means.clone().sum();
        let squares: f64 = means.map(|mean| mean * mean).sum();
        let fairness = if squares > 0.0 { sum * sum / (users * squares) } else { 1.0 };
        (Quantiles::of(by_job), fairness)
    }
}

impl Outcome {
    /// The tasks with their records.
    pub fn records(&self) -> impl Iterator<Item = (TaskId, &TaskRecord)> {
        self.tasks.iter().enumerate().map(|(at, record)| (TaskId(at as u32), record))
    }
}
