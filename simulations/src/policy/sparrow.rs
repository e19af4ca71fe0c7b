//! The power of two choices: a job probes few hosts, and the first of them that has a core gets its next
//! task (Ousterhout, Wendell, Zaharia, Stoica: "Sparrow: distributed, low latency scheduling", SOSP
//! 2013).
//!
//! The tasks of a job that become ready at one instant are a batch. For a batch of m tasks, `probes` x m
//! hosts that are up are drawn at random and get a reservation each, several only when there are not
//! so many hosts (*batch sampling*). Reservations queue at the hosts. A host with an idle core takes the
//! first one in its queue whose batch still has a task for it, and only then is a task bound to it
//! (*late binding*); reservations of a batch without tasks left fall away.
//!
//! When the absence of a host is noticed, its reservations are drawn anew elsewhere. Nothing is leased
//! beyond the cores, whatever `ahead` says: queues of reservations serve that purpose. Probes travel in
//! no time here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Placement, Policy};
use crate::kernel::{Draws, Purpose, SimTime};
use crate::platform::HostId;
use crate::run::View;
use crate::workload::{JobId, TaskId};

/// So many times more hosts than probes are many.
const FEW: usize = 8;

/// The policy.
#[derive(Debug)]
pub(super) struct Sparrow {
    probes: usize,
    /// Those with tasks left, by number.
    batches: BTreeMap<u64, Batch>,
    next_batch: u64,
    /// Those of one instant that have not probed, and that instant.
    arrived: BTreeMap<JobId, Vec<TaskId>>,
    arrived_at: SimTime,
    /// For each host its reservations, by batch.
    queues: Vec<VecDeque<u64>>,
    /// For each task whether it is in a batch.
    listed: Vec<bool>,
    draws: Option<Draws>,
}

#[derive(Debug)]
struct Batch {
    tasks: VecDeque<TaskId>,
    /// What the largest of its tasks needs.
    memory: u64,
}

impl Sparrow {
    pub(super) fn new(probes: u32) -> Self {
        Self {
            probes: probes as usize,
            batches: BTreeMap::new(),
            next_batch: 0,
            arrived: BTreeMap::new(),
            arrived_at: SimTime::ZERO,
            queues: Vec::new(),
            listed: Vec::new(),
            draws: None,
        }
    }

    fn draw(&mut self, view: &View<'_>, below: usize) -> usize {
        let draws = || Draws::new(view.seed(), Purpose::Policy, 0);
        self.draws.get_or_insert_with(draws).below(below)
    }

    /// Hosts for so many reservations: of those that are up and have the memory, different ones as far
    /// as they go.
    fn sample(&mut self, view: &View<'_>, count: usize, memory: u64) -> Vec<HostId> {
        let suits = |host: HostId| view.memory(host) >= memory;
        // A few of many are found without looking at all of them.
        if count * FEW <= view.hosts() {
            let mut chosen = BTreeSet::new();
            let mut order = Vec::new();
            for _ in 0..count * FEW {
                let host = HostId(self.draw(view, view.hosts()) as u32);
                if view.is_up(host) && suits(host) && chosen.insert(host) {
                    order.push(host);
                    if order.len() == count {
                        return order;
                    }
                }
            }
        }
        let all = (0..view.hosts() as u32).map(HostId).filter(|&host| suits(host));
        let mut hosts: Vec<HostId> = all.clone().filter(|&host| view.is_up(host)).collect();
        if hosts.is_empty() {
            // They are away: some may come back.
            hosts = all.collect();
        }
        // The first of Fisher and Yates' shuffle.
        for place in 0..count.min(hosts.len()) {
            let other = place + self.draw(view, hosts.len() - place);
            hosts.swap(place, other);
        }
        hosts.iter().copied().cycle().take(count).collect()
    }

    fn probe(&mut self, view: &View<'_>, batch: u64, count: usize) {
        let Some(memory) = self.batches.get(&batch).map(|batch| batch.memory) else { return };
        for host in self.sample(view, count, memory) {
            self.queues[host.index()].push_back(batch);
        }
    }

    /// Lets what became ready probe.
    fn probe_for_arrived(&mut self, view: &View<'_>) {
        let arrived = std::mem::take(&mut self.arrived).into_values();
        for tasks in arrived.filter(|tasks| !tasks.is_empty()) {
            let memory = tasks.iter().map(|&task| view.graph().task(task).memory).max();
            let count = tasks.len() * self.probes;
            let batch = Batch { tasks: tasks.into(), memory: memory.unwrap_or(0) };
            let number = self.next_batch;
            self.next_batch += 1;
            self.batches.insert(number, batch);
            self.probe(view, number, count);
        }
    }

    /// The task for the first reservation of a host that gets one.
    fn bind(&mut self, view: &View<'_>, host: HostId) -> Option<TaskId> {
        let mut at = 0;
        while let Some(&number) = self.queues[host.index()].get(at) {
            let Some(batch) = self.batches.get_mut(&number) else {
                self.queues[host.index()].remove(at);
                continue;
            };
            let found = batch.tasks.iter().position(|&task| view.fits(host, task));
            let Some(task) = found.and_then(|found| batch.tasks.remove(found)) else {
                at += 1;
                continue;
            };
            if batch.tasks.is_empty() {
                self.batches.remove(&number);
            }
            self.queues[host.index()].remove(at);
            self.listed[task.index()] = false;
            return Some(task);
        }
        None
    }
}

impl Policy for Sparrow {
    fn name(&self) -> &'static str {
        "power-of-two"
    }

    fn known(&mut self, view: &View<'_>, _tasks: &[TaskId]) {
        self.queues.resize_with(view.hosts(), VecDeque::new);
        self.listed.resize(view.graph().tasks().len(), false);
    }

    fn gone(&mut self, view: &View<'_>, host: HostId) {
        for batch in std::mem::take(&mut self.queues[host.index()]) {
            self.probe(view, batch, 1);
        }
    }

    fn unready(&mut self, view: &View<'_>, task: TaskId) {
        self.listed[task.index()] = false;
        if let Some(tasks) = self.arrived.get_mut(&view.graph().task(task).job) {
            tasks.retain(|&other| other != task);
        }
        self.batches.retain(|_, batch| {
            batch.tasks.retain(|&other| other != task);
            !batch.tasks.is_empty()
        });
    }

    fn ready(&mut self, view: &View<'_>, task: TaskId) {
        if std::mem::replace(&mut self.arrived_at, view.time()) != view.time() {
            self.probe_for_arrived(view);
        }
        if !std::mem::replace(&mut self.listed[task.index()], true) {
            self.arrived.entry(view.graph().task(task).job).or_default().push(task);
        }
    }

    fn place(&mut self, view: &View<'_>) -> Option<Placement> {
        self.probe_for_arrived(view);
        if self.batches.is_empty() {
            return None;
        }
        let mut idle = view.free_hosts().take_while(|&host| view.is_idle(host));
        idle.find_map(|host| Some(Placement { task: self.bind(view, host)?, host }))
    }
}
