//! Delay scheduling: a job whose turn it is, and which has nothing for the hosts that are free, waits a
//! little for one that has its input bytes (Zaharia, Borthakur, Sen Sarma, Elmeleegy, Shenker, Stoica:
//! "Delay scheduling: a simple technique for achieving locality and fairness in cluster scheduling",
//! EuroSys 2010).
//!
//! Jobs come in the order of their arrival. A task is *local* to a host that lacks no more of its input
//! bytes than any other that is up; without inputs it is local everywhere. A job that has no local task
//! for any free host is passed over for at most `wait`; then it takes whatever is free, and goes on so
//! until it finds a local place again. A job that has nothing ready starts afresh. The original has two
//! levels of locality, host and rack; hosts here have no racks.
//!
//! Per decision it looks at the first [`JOBS_MAX`] jobs, the first [`TASKS_MAX`] ready tasks of each, the
//! fastest [`HOSTS_MAX`] free hosts, and so many holders of each input.

use std::collections::{BTreeMap, VecDeque};

use super::{Placement, Policy};
use crate::kernel::{SimTime, Span};
use crate::platform::HostId;
use crate::run::View;
use crate::workload::{JobId, TaskId};

/// How many jobs are looked at.
const JOBS_MAX: usize = 64;
/// How many ready tasks of each.
const TASKS_MAX: usize = 64;
/// How many free hosts, and how many holders of an input.
const HOSTS_MAX: usize = 64;

/// The policy.
#[derive(Debug)]
pub(super) struct Delay {
    wait: Span,
    jobs: BTreeMap<JobId, Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    /// In the order in which they became ready.
    ready: VecDeque<TaskId>,
    /// When it was passed over first since it took a place.
    passed: Option<SimTime>,
    /// Whether it has waited long enough, and found no local place since.
    anywhere: bool,
}

impl Delay {
    pub(super) fn new(wait: Span) -> Self {
        Self { wait, jobs: BTreeMap::new() }
    }
}

/// The hosts that may be given something now.
struct Free {
    /// The fastest first.
    hosts: Vec<HostId>,
    /// Whether only idle cores count: those that take leases in advance do when there are none.
    is_idle: bool,
}

impl Free {
    fn of(view: &View<'_>) -> Self {
        let is_idle = view.free_hosts().next().is_some_and(|first| view.is_idle(first));
        let hosts = view.free_hosts().take(HOSTS_MAX);
        let hosts = hosts.filter(|&host| view.is_idle(host) || !is_idle).collect();
        Self { hosts, is_idle }
    }

    /// The fastest for a task.
    fn first(&self, view: &View<'_>, task: TaskId) -> Option<HostId> {
        self.hosts.iter().copied().find(|&host| view.fits(host, task))
    }

    /// The fastest to which a task is local.
    fn local(&self, view: &View<'_>, task: TaskId) -> Option<HostId> {
        let inputs = view.graph().inputs(task).iter();
        let holders = inputs.flat_map(|&input| view.holders(input).iter().copied().take(HOSTS_MAX));
        let holders = holders.chain([view.home(task)]).filter(|&host| view.is_up(host));
        let fits = |host: HostId| view.fits(host, task) && (view.is_idle(host) || !self.is_idle);
        let free = self.hosts.iter().copied().chain(holders.clone()).filter(|&host| fits(host));
        let (missing, host) = least(free.map(|host| (view.missing_bytes(host, task), host)))?;
        let is_least = |other: HostId| view.missing_bytes(other, task) >= missing;
        (missing == 0 || holders.into_iter().all(is_least)).then_some(host)
    }
}

/// The first that misses least; nothing is less than nothing.
fn least(candidates: impl Iterator<Item = (u64, HostId)>) -> Option<(u64, HostId)> {
    let mut best: Option<(u64, HostId)> = None;
    for candidate in candidates {
        if best.is_none_or(|(missing, _)| candidate.0 < missing) {
            best = Some(candidate);
        }
        if candidate.0 == 0 {
            break;
        }
    }
    best
}

impl Queue {
    fn next(&mut self, view: &View<'_>, free: &Free, wait: Span) -> Option<Placement> {
        if let Some(placement) = self.first(view, |task| free.local(view, task)) {
            (self.passed, self.anywhere) = (None, false);
            return Some(placement);
        }
        let passed = *self.passed.get_or_insert(view.time());
        self.anywhere |= passed + wait <= view.time();
        if !self.anywhere {
            return None;
        }
        let placement = self.first(view, |task| free.first(view, task))?;
        self.passed = None;
        Some(placement)
    }

    /// Takes the first task for which there is such a host.
    fn first(
        &mut self,
        view: &View<'_>,
        host: impl Fn(TaskId) -> Option<HostId>,
    ) -> Option<Placement> {
        let ready = self.ready.iter().take(TASKS_MAX).enumerate();
        // What was told twice is placed once.
        let mut ready = ready.filter(|&(_, &task)| view.is_ready(task));
        let (at, host) = ready.find_map(|(at, &task)| Some((at, host(task)?)))?;
        self.ready.remove(at).map(|task| Placement { task, host })
    }
}

impl Policy for Delay {
    fn name(&self) -> &'static str {
        "delay"
    }

    fn ready(&mut self, view: &View<'_>, task: TaskId) {
        let ready = &mut self.jobs.entry(view.graph().task(task).job).or_default().ready;
        ready.push_back(task);
    }

    fn place(&mut self, view: &View<'_>) -> Option<Placement> {
        self.jobs.retain(|_, queue| {
            while queue.ready.front().is_some_and(|&task| !view.is_ready(task)) {
                queue.ready.pop_front();
            }
            !queue.ready.is_empty()
        });
        let (wait, free) = (self.wait, Free::of(view));
        self.jobs.values_mut().take(JOBS_MAX).find_map(|queue| queue.next(view, &free, wait))
    }

    fn unready(&mut self, view: &View<'_>, task: TaskId) {
        if let Some(queue) = self.jobs.get_mut(&view.graph().task(task).job) {
            queue.ready.retain(|&other| other != task);
        }
    }

    fn wake(&mut self, view: &View<'_>) -> Option<SimTime> {
        let waits = self.jobs.values().filter(|queue| !queue.anywhere);
        let ends = waits.filter_map(|queue| Some(queue.passed? + self.wait));
        ends.filter(|&end| end > view.time()).min()
    }
}
