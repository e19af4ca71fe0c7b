//! What a run knows while it goes on.

use std::collections::VecDeque;

use super::free::RankSet;
use super::holdings::Holdings;
use super::lease::Lease;
use super::outcome::{TaskRecord, Totals};
use super::slab::{Key, Slab};
use super::transfer::{Network, Transfer};
use super::{DataModel, RunError, Setup};
use crate::kernel::{EventId, EventQueue, SimTime, Span};
use crate::network::Topology;
use crate::platform::{Cache, HostId, Hosts, Presence};
use crate::workload::{JobId, ObjectId, ObjectOrigin, TaskId};

#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// A job arrives.
    Arrive(JobId),
    /// A lease reached its host.
    Leased(Key<Lease>),
    /// The latency of a transfer is over; its bytes begin to move.
    Joined(Key<Transfer>),
    /// A transfer is done.
    Moved(Key<Transfer>),
    /// A task was executed.
    Ran(Key<Lease>),
    /// A receipt reached the requester.
    Receipt(Key<Lease>),
    /// A transfer that had no source looks for one again.
    Retry(Key<Transfer>),
    /// A host goes.
    Gone(HostId),
    /// Its owner uses it, or no more.
    Used(HostId, bool),
    /// Others notice it.
    Noticed(HostId),
    /// A host is back.
    Back(HostId),
    /// The policy wants to be asked again.
    Wake,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Its job has not arrived, or the task that reveals it has not ended.
    Unknown,
    /// Some inputs do not exist.
    Waiting,
    /// It may be placed.
    Ready,
    /// A host has it.
    Leased(Key<Lease>),
    /// Its host went, and nobody noticed yet.
    Orphaned,
    /// Its outputs were made.
    Done,
}

#[derive(Debug)]
pub(super) struct TaskState {
    pub(super) phase: Phase,
    /// How many inputs do not exist.
    pub(super) missing: u32,
    /// How many times it was placed.
    pub(super) attempts: u32,
    pub(super) ready_at: SimTime,
}

#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) up: bool,
    /// Does its owner use it?
    pub(super) in_use: bool,
    pub(super) cores_free: u32,
    /// How many more leases it gets.
    pub(super) room: u32,
    /// Its number among the free ones.
    pub(super) place: Option<u32>,
    pub(super) memory_free: u64,
    /// Leases with all inputs, waiting for a core.
    pub(super) queue: VecDeque<Key<Lease>>,
    pub(super) leases: Vec<Key<Lease>>,
    pub(super) incoming: Vec<Key<Transfer>>,
    pub(super) outgoing: Vec<Key<Transfer>>,
    /// Since it went: tasks that it ran, transfers that it fed.
    pub(super) orphans: Vec<TaskId>,
    pub(super) stalled: Vec<Key<Transfer>>,
}

impl Node {
    /// How many more leases it gets now.
    pub(super) fn gives(&self) -> u32 {
        if self.up && !self.in_use { self.room } else { 0 }
    }
}

/// What the policy is to be told at the end of the instant.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) known: Vec<TaskId>,
    /// Tasks that were ready and may not be placed any more.
    pub(super) unready: Vec<TaskId>,
    pub(super) ready: Vec<TaskId>,
    /// Hosts whose absence was noticed.
    pub(super) gone: Vec<HostId>,
    pub(super) done: Vec<(TaskId, HostId)>,
}

impl News {
    pub(super) fn clear(&mut self) {
        self.known.clear();
        self.unready.clear();
        self.gone.clear();
        self.ready.clear();
        self.done.clear();
    }
}

pub(super) struct Sim<'a> {
    pub(super) setup: Setup<'a>,
    pub(super) hosts: Hosts,
    pub(super) topology: Topology,
    pub(super) queue: EventQueue<Event>,
    pub(super) tasks: Vec<TaskState>,
    pub(super) estimates: Vec<f64>,
    pub(super) nodes: Vec<Node>,
    pub(super) presence: Presence<'a>,
    /// Hosts that are up and have room, as level times the number of hosts plus rank of speed: level 0
    /// has idle cores, level n takes its n-th lease in advance.
    pub(super) free: RankSet,
    pub(super) is_home: Vec<bool>,
    pub(super) home_start: u32,
    pub(super) holdings: Holdings,
    /// For each object whether it exists.
    pub(super) exists: Vec<bool>,
    /// For each object of [`DataModel::Edges`] where it was made.
    pub(super) made_at: Vec<HostId>,
    pub(super) leases: Slab<Lease>,
    pub(super) transfers: Slab<Transfer>,
    pub(super) network: Network,
    /// For each job its tasks that are not done and its results that are not home.
    pub(super) job_left: Vec<u32>,
    pub(super) job_done_at: Vec<SimTime>,
    pub(super) jobs_left: u64,
    pub(super) tasks_left: u64,
    pub(super) news: News,
    /// Whether a task became ready or a host got room since the policy was content.
    pub(super) changed: bool,
    /// When the policy is to be asked even if nothing happens.
    pub(super) wake: Option<(SimTime, EventId)>,
    pub(super) records: Vec<TaskRecord>,
    pub(super) totals: Totals,
}

impl<'a> Sim<'a> {
    pub(super) fn new(setup: Setup<'a>) -> Result<Self, RunError> {
        let Setup { graph, platform, .. } = setup;
        let hosts = Hosts::new(platform, setup.seed);
        setup.refuse_huge_tasks()?;
        let topology = Topology::new(platform, &hosts);
        let network = Network::new(setup.network, &topology);
        let exists = graph.objects().iter();
        let exists = exists.map(|o| !matches!(o.origin, ObjectOrigin::Product(_))).collect();
        let edges = if setup.data == DataModel::Edges { graph.objects().len() } else { 0 };
        let mut sim = Self {
            queue: EventQueue::default(),
            tasks: Vec::with_capacity(graph.tasks().len()),
            estimates: setup.estimates.of(graph, setup.seed),
            nodes: Vec::with_capacity(hosts.len()),
            presence: Presence::default(),
            free: RankSet::new((setup.ahead as usize + 1) * hosts.len()),
            is_home: vec![false; hosts.len()],
            home_start: platform.groups[..setup.home].iter().map(|group| group.count).sum(),
            holdings: Holdings::new(graph.objects().len(), hosts.len()),
            exists,
            made_at: vec![HostId(0); edges],
            leases: Slab::default(),
            transfers: Slab::default(),
            network,
            job_left: graph.jobs().iter().map(|job| job.tasks.len() as u32).collect(),
            job_done_at: vec![SimTime::ZERO; graph.jobs().len()],
            jobs_left: graph.jobs().iter().filter(|job| !job.tasks.is_empty()).count() as u64,
            tasks_left: graph.tasks().len() as u64,
            news: News::default(),
            changed: false,
            wake: None,
            records: vec![TaskRecord::default(); graph.tasks().len()],
            totals: Totals::default(),
            setup,
            hosts,
            topology,
        };
        sim.start_tasks();
        sim.start_hosts();
        if let Some(first) = graph.jobs().first() {
            sim.queue.schedule(first.arrival, Event::Arrive(JobId(0)));
        }
        Ok(sim)
    }

    fn start_tasks(&mut self) {
        let graph = self.setup.graph;
        for task in 0..graph.tasks().len() as u32 {
            let missing = graph.inputs(TaskId(task)).iter();
            let missing = missing.filter(|input| !self.exists[input.index()]).count() as u32;
            self.tasks.push(TaskState {
                phase: Phase::Unknown,
                missing,
                attempts: 0,
                ready_at: SimTime::ZERO,
            });
        }
    }

    fn start_hosts(&mut self) {
        for job in 0..self.setup.graph.jobs().len() {
            let home = self.home(JobId(job as u32));
            self.is_home[home.index()] = true;
        }
        for host in (0..self.hosts.len() as u32).map(HostId) {
            let group = self.hosts.group(self.setup.platform, host);
            self.nodes.push(Node {
                up: true,
                cores_free: group.cores,
                room: group.cores + self.setup.ahead,
                memory_free: group.memory,
                ..Node::default()
            });
            self.update_free(host);
        }
        self.start_churn();
    }

    /// The host from which the user of a job submits.
    pub(super) fn home(&self, job: JobId) -> HostId {
        self.setup.home(job)
    }

    /// Whether a host needs not fetch an object.
    pub(super) fn holds(&self, host: HostId, object: ObjectId) -> bool {
        let what = self.setup.graph.object(object);
        let cache = || self.hosts.group(self.setup.platform, host).cache;
        let given = what.bytes == 0
            || match what.origin {
                ObjectOrigin::Source(job) => self.home(job) == host || cache() == Cache::Warm,
                ObjectOrigin::Common => self.is_home[host.index()] || cache() != Cache::Cold,
                ObjectOrigin::Product(_) => false,
            };
        given || matches!(self.holdings.place(host, object), Some(super::holdings::Place::Held(_)))
    }

    pub(super) fn is_ready(&self, task: TaskId) -> bool {
        self.tasks[task.index()].phase == Phase::Ready
    }

    /// A task comes into being.
    pub(super) fn reveal(&mut self, task: TaskId) {
        if self.tasks[task.index()].phase == Phase::Unknown {
            self.news.known.push(task);
            self.tasks[task.index()].phase = Phase::Waiting;
            self.wake(task);
        }
    }

    /// Makes a task ready if all its inputs exist.
    pub(super) fn wake(&mut self, task: TaskId) {
        let now = self.queue.now();
        let state = &mut self.tasks[task.index()];
        if state.missing == 0 && matches!(state.phase, Phase::Waiting | Phase::Orphaned) {
            state.phase = Phase::Ready;
            state.ready_at = now;
            self.news.ready.push(task);
            self.changed = true;
        }
    }

    /// Has the policy asked at that time, and at no other.
    pub(super) fn set_wake(&mut self, at: Option<SimTime>) {
        let at = at.map(|at| at.max(self.queue.now() + Span::from_ns(1)));
        if self.wake.map(|(at, _)| at) == at {
            return;
        }
        if let Some((_, event)) = self.wake.take() {
            self.queue.cancel(event);
        }
        self.wake = at.map(|at| (at, self.queue.schedule(at, Event::Wake)));
    }

    pub(super) fn on_wake(&mut self) {
        self.wake = None;
        self.changed = true;
    }

    /// Whether, and how soon, the host may get another lease.
    pub(super) fn update_free(&mut self, host: HostId) {
        let (ahead, hosts) = (self.setup.ahead, self.hosts.len() as u32);
        let rank = self.hosts.rank(host);
        let node = &mut self.nodes[host.index()];
        let has_room = node.gives() > 0;
        let level = (ahead + 1).saturating_sub(node.room);
        let place = has_room.then_some(level * hosts + rank);
        if node.place != place {
            if let Some(old) = std::mem::replace(&mut node.place, place) {
                self.free.remove(old);
            }
            if let Some(new) = place {
                self.free.insert(new);
            }
        }
        self.changed |= has_room;
    }
}
