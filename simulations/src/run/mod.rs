//! One run: a graph on a platform under a policy.
//!
//! The life of a task: it is *ready* when its inputs exist; the policy *places* it, which leases it to
//! a host; the lease travels (`control`); the host fetches what it lacks, waits for a core, starts a
//! sandbox, executes; the receipt travels back, and the outputs exist. A host that goes loses what it
//! runs; after `detection` its tasks are ready again, and what only it held is made again when
//! somebody needs it. Outputs that nobody takes go home to the user, and a job is done when all of
//! them are there.
//!
//! Left out, beside what [`crate::network`], [`crate::platform`] and [`crate::workload`] name: the
//! cost of deciding, gossip and claims (the policy is told everything at once, which makes this the
//! upper bound for protocols that must ask), speculation, results that are checked twice.

mod faults;
mod free;
mod holdings;
mod lease;
mod outcome;
mod slab;
mod state;
mod transfer;
mod view;

pub(crate) use outcome::{Ended, Totals};
pub use outcome::{Outcome, Summary, TaskRecord};
pub use view::View;

use crate::kernel::{Draws, Purpose, SimTime, Span};
use crate::network;
use crate::platform::{HostId, Hosts, Platform};
use crate::policy::{Estimates, Placement, Policy};
use crate::workload::{Graph, JobId, TaskId};

use state::{Event, Sim};

/// What a run is about.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// The machines.
    pub platform: &'a Platform,
    /// What they run.
    pub graph: &'a Graph,
    /// How long transfers take.
    pub network: network::Model,
    /// How data move.
    pub data: DataModel,
    /// What policies know about run times.
    pub estimates: Estimates,
    /// How many tasks a host is leased beyond its cores, so that fetching overlaps execution.
    pub ahead: u32,
    /// The group from whose hosts users submit: user n from host n modulo their number.
    pub home: usize,
    /// When to give up.
    pub horizon: SimTime,
    /// The seed of everything.
    pub seed: u64,
}

impl Setup<'_> {
    /// The host from which the user of a job submits.
    pub(crate) fn home(&self, job: JobId) -> HostId {
        let groups = &self.platform.groups;
        let first: u32 = groups[..self.home].iter().map(|group| group.count).sum();
        HostId(first + self.graph.jobs()[job.index()].user % groups[self.home].count)
    }

    /// How long this attempt takes: the start of the sandbox, and the work at the host's speed.
    pub(crate) fn duration(&self, hosts: &Hosts, task: TaskId, host: HostId, attempt: u32) -> Span {
        let group = hosts.group(self.platform, host);
        let draws = |purpose| Draws::of_pair(self.seed, purpose, task.0, attempt);
        let start = group.start.sample(&mut draws(Purpose::Start));
        let slowdown = group.stragglers.map_or(1.0, |stragglers| {
            let mut draws = draws(Purpose::Straggler);
            let is_slow = draws.unit() < stragglers.share;
            if is_slow { stragglers.slowdown.sample(&mut draws).max(1.0) } else { 1.0 }
        });
        Span::from_seconds(start + self.graph.task(task).work * slowdown / hosts.speed(host))
    }

    /// Some host must have the memory for each task.
    pub(crate) fn refuse_huge_tasks(&self) -> Result<(), RunError> {
        let groups = self.platform.groups.iter().filter(|group| group.count > 0);
        let most = groups.map(|group| group.memory).max().unwrap_or(0);
        let tasks = self.graph.tasks().iter().enumerate();
        match tasks.max_by_key(|(_, task)| task.memory) {
            Some((at, task)) if task.memory > most => {
                Err(RunError::Memory { task: TaskId(at as u32), bytes: task.memory })
            }
            _ => Ok(()),
        }
    }
}

/// How data move.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DataModel {
    /// Objects are fetched once per host, from any host that holds them, and kept.
    Objects,
    /// Every task fetches what other tasks made anew from where it was made; sources are everywhere;
    /// nothing goes home. Only for comparison with simulators that think in edges: it moves many
    /// times the bytes.
    Edges,
}

/// Why a run did not end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No host has the memory for a task.
    #[error("task {} needs {bytes} bytes of memory, and no host has them", .task.0)]
    Memory {
        /// The task.
        task: TaskId,
        /// What it needs.
        bytes: u64,
    },
    /// The policy leaves tasks lying although hosts are free, and nothing else is to happen.
    #[error("policy {policy} leaves {left} tasks unplaced")]
    Stuck {
        /// The policy.
        policy: &'static str,
        /// How many.
        left: u64,
    },
    /// The policy placed what cannot be placed.
    #[error("at {} s policy {policy} placed task {} on host {}: {reason}", .at.seconds(), .task.0, .host.0)]
    Placement {
        /// The policy.
        policy: &'static str,
        /// When.
        at: SimTime,
        /// The task.
        task: TaskId,
        /// The host.
        host: HostId,
        /// What is wrong.
        reason: &'static str,
    },
    /// The policy cannot go on.
    #[error("at {} s policy {policy}: {reason}", .at.seconds())]
    Policy {
        /// The policy.
        policy: &'static str,
        /// When.
        at: SimTime,
        /// Why not.
        reason: String,
    },
    /// The task cannot be told to the machines of the protocol.
    #[error("task {} cannot be a thunk: {reason}", .task.0)]
    Thunk {
        /// The task.
        task: TaskId,
        /// Why not.
        reason: String,
    },
    /// The horizon came first.
    #[error("{left} tasks are left after {} days: tasks that are longer than hosts stay never end", .horizon.seconds() / 86400.0)]
    Horizon {
        /// The horizon.
        horizon: SimTime,
        /// How many tasks.
        left: u64,
    },
}

/// Runs it.
pub fn run(setup: Setup<'_>, policy: &mut dyn Policy) -> Result<Outcome, RunError> {
    let mut sim = Sim::new(setup)?;
    while sim.jobs_left > 0 {
        let Some((now, event)) = sim.queue.pop() else {
            return Err(RunError::Stuck { policy: policy.name(), left: sim.tasks_left });
        };
        if now > setup.horizon {
            return Err(RunError::Horizon { horizon: setup.horizon, left: sim.tasks_left });
        }
        sim.apply(event);
        if sim.queue.next_time() != Some(now) {
            sim.settle_network();
            place_all(&mut sim, policy)?;
        }
    }
    Ok(sim.into_outcome())
}

/// Tells the policy what happened at this instant, and lets it place until it is content.
fn place_all(sim: &mut Sim<'_>, policy: &mut dyn Policy) -> Result<(), RunError> {
    tell(sim, policy);
    if !std::mem::take(&mut sim.changed) {
        return Ok(());
    }
    let at = sim.queue.now();
    while sim.free.first().is_some() {
        let Some(Placement { task, host }) = policy.place(&View(sim)) else { break };
        sim.place(task, host).map_err(|reason| RunError::Placement {
            policy: policy.name(),
            at,
            task,
            host,
            reason,
        })?;
    }
    policy.end().map_err(|reason| RunError::Policy { policy: policy.name(), at, reason })?;
    let wake = policy.wake(&View(sim));
    sim.set_wake(wake);
    // Its own placements are no news to the policy.
    sim.changed = false;
    Ok(())
}

fn tell(sim: &mut Sim<'_>, policy: &mut dyn Policy) {
    let mut news = std::mem::take(&mut sim.news);
    if !news.known.is_empty() {
        policy.known(&View(sim), &news.known);
    }
    for &(task, host) in &news.done {
        policy.done(&View(sim), task, host);
    }
    for &host in &news.gone {
        policy.gone(&View(sim), host);
    }
    for &task in &news.unready {
        policy.unready(&View(sim), task);
    }
    for &task in &news.ready {
        if sim.is_ready(task) {
            policy.ready(&View(sim), task);
        }
    }
    news.clear();
    sim.news = news;
}

impl Sim<'_> {
    fn apply(&mut self, event: Event) {
        match event {
            Event::Arrive(job) => self.on_arrival(job),
            Event::Leased(lease) => self.on_leased(lease),
            Event::Joined(transfer) => self.on_joined(transfer),
            Event::Moved(transfer) => self.on_moved(transfer),
            Event::Ran(lease) => self.on_ran(lease),
            Event::Receipt(lease) => self.on_receipt(lease),
            Event::Retry(transfer) => self.on_retry(transfer),
            Event::Gone(host) => self.on_gone(host),
            Event::Used(host, in_use) => self.on_used(host, in_use),
            Event::Noticed(host) => self.on_noticed(host),
            Event::Back(host) => self.on_back(host),
            Event::Wake => self.on_wake(),
        }
    }

    fn on_arrival(&mut self, job: JobId) {
        let next = JobId(job.0 + 1);
        if let Some(following) = self.setup.graph.jobs().get(next.index()) {
            self.queue.schedule(following.arrival, Event::Arrive(next));
        }
        let graph = self.setup.graph;
        for task in graph.jobs()[job.index()].tasks.clone().map(TaskId) {
            if graph.task(task).revealed_by.is_none() {
                self.reveal(task);
            }
        }
    }
}
