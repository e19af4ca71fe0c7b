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
const TASKS_MAX: usize = 256;
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

impl Queue {
    fn next(&mut self, view: &View<'_>, wait: Span) -> Option<Placement> {
        if let Some(placement) = self.first(view, |task| local_host(view, task)) {
            (self.passed, self.anywhere) = (None, false);
            return Some(placement);
        }
        let passed = *self.passed.get_or_insert(view.time());
        self.anywhere |= passed + wait <= view.time();
        if !self.anywhere {
            return None;
        }
        let placement = self.first(view, |task| free(view, task).next())?;
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

/// Free hosts for a task, fastest first: with idle cores, or where there are none, others with room.
fn free<'a>(view: &View<'a>, task: TaskId) -> impl Iterator<Item = HostId> + use<'a> {
    let (view, hosts) = (*view, view.free_hosts());
    hosts.take(HOSTS_MAX).filter(move |&host| suits(&view, host, task))
}

fn suits(view: &View<'_>, host: HostId, task: TaskId) -> bool {
    let is_any_idle = view.free_hosts().next().is_some_and(|first| view.is_idle(first));
    view.fits(host, task) && (view.is_idle(host) || !is_any_idle)
}

/// The fastest free host to which a task is local.
fn local_host(view: &View<'_>, task: TaskId) -> Option<HostId> {
    let inputs = view.graph().inputs(task).iter();
    let holders = inputs.flat_map(|&input| view.holders(input).iter().copied().take(HOSTS_MAX));
    let holders = holders.chain([view.home(task)]).filter(|&host| view.is_up(host));
    let missing = |&host: &HostId| view.missing_bytes(host, task);
    let least = holders.clone().map(|host| missing(&host)).min();
    let free = free(view, task).chain(holders.filter(|&host| suits(view, host, task)));
    let host = free.min_by_key(missing)?;
    least.is_none_or(|least| missing(&host) <= least).then_some(host)
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
        let wait = self.wait;
        self.jobs.values_mut().take(JOBS_MAX).find_map(|queue| queue.next(view, wait))
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
