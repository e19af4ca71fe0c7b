//! Leases: from placement to receipt.

use super::slab::Key;
use super::state::{Event, Phase, Sim};
use super::{DataModel, TaskRecord};
use crate::kernel::{EventId, SimTime, Span};
use crate::platform::HostId;
use crate::workload::{ObjectId, TaskId};

/// A task that a host has.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) task: TaskId,
    pub(super) host: HostId,
    pub(super) stage: Stage,
    /// How many inputs are not there.
    pub(super) pending: u32,
    /// The next event of this lease itself.
    pub(super) event: Option<EventId>,
    placed: SimTime,
    pub(super) started: SimTime,
    finished: SimTime,
    pub(super) fetched: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// On its way to the host, or fetching, or waiting for a core.
    Preparing,
    /// On a core.
    Running,
    /// Its receipt is on its way.
    Reporting,
}

impl Sim<'_> {
    /// Leases a task to a host.
    pub(super) fn place(&mut self, task: TaskId, host: HostId) -> Result<(), &'static str> {
        if !self.tasks.get(task.index()).is_some_and(|state| state.phase == Phase::Ready) {
            return Err("the task is not ready");
        }
        let memory = self.setup.graph.task(task).memory;
        let Some(node) = self.nodes.get_mut(host.index()) else { return Err("no such host") };
        if node.gives() == 0 {
            return Err("the host has no room");
        }
        if node.memory_free < memory {
            return Err("the host has not the memory");
        }
        node.room -= 1;
        node.memory_free -= memory;
        let key = self.leases.insert(Lease {
            task,
            host,
            stage: Stage::Preparing,
            pending: 0,
            event: None,
            placed: self.queue.now(),
            started: SimTime::ZERO,
            finished: SimTime::ZERO,
            fetched: 0,
        });
        node.leases.push(key);
        self.update_free(host);
        let state = &mut self.tasks[task.index()];
        state.phase = Phase::Leased(key);
        state.attempts += 1;
        self.after_control(key, Event::Leased(key));
        Ok(())
    }

    /// Lets an event of a lease happen when a message has travelled.
    fn after_control(&mut self, key: Key<Lease>, event: Event) {
        let control = self.setup.platform.control;
        if control == Span::ZERO {
            // Saves an event per message.
            return match event {
                Event::Leased(_) => self.on_leased(key),
                _ => self.on_receipt(key),
            };
        }
        let id = self.queue.schedule(self.queue.now() + control, event);
        if let Some(lease) = self.leases.get_mut(key) {
            lease.event = Some(id);
        }
    }

    /// The host has the lease: it fetches what it lacks.
    pub(super) fn on_leased(&mut self, key: Key<Lease>) {
        let Some(lease) = self.leases.get_mut(key) else { return };
        lease.event = None;
        let (task, host) = (lease.task, lease.host);
        let mut pending = 0;
        for &input in self.setup.graph.inputs(task) {
            if self.needs_fetch(host, input) {
                pending += 1;
                self.fetch(input, host, Some(key));
            }
        }
        let Some(lease) = self.leases.get_mut(key) else { return };
        lease.pending = pending;
        if pending == 0 {
            self.enqueue(key, host);
        }
    }

    fn needs_fetch(&self, host: HostId, input: ObjectId) -> bool {
        match self.setup.data {
            DataModel::Objects => !self.holds(host, input),
            DataModel::Edges => {
                let object = self.setup.graph.object(input);
                let made = matches!(object.origin, crate::workload::ObjectOrigin::Product(_));
                made && object.bytes > 0 && self.made_at[input.index()] != host
            }
        }
    }

    /// An input arrived.
    pub(super) fn on_input(&mut self, key: Key<Lease>, bytes: u64) {
        let Some(lease) = self.leases.get_mut(key) else { return };
        lease.fetched += bytes;
        lease.pending -= 1;
        if lease.pending == 0 {
            let host = lease.host;
            self.enqueue(key, host);
        }
    }

    fn enqueue(&mut self, key: Key<Lease>, host: HostId) {
        self.nodes[host.index()].queue.push_back(key);
        self.start_next(host);
    }

    /// Starts what waits for a core.
    fn start_next(&mut self, host: HostId) {
        while self.nodes[host.index()].cores_free > 0 {
            let Some(key) = self.nodes[host.index()].queue.pop_front() else { return };
            let Some(lease) = self.leases.get(key) else { continue };
            let attempt = self.tasks[lease.task.index()].attempts;
            let duration = self.setup.duration(&self.hosts, lease.task, host, attempt);
            let now = self.queue.now();
            let event = self.queue.schedule(now + duration, Event::Ran(key));
            self.nodes[host.index()].cores_free -= 1;
            if let Some(lease) = self.leases.get_mut(key) {
                lease.event = Some(event);
                lease.stage = Stage::Running;
                lease.started = now;
            }
        }
    }

    /// The task was executed: the core is free, the receipt travels.
    pub(super) fn on_ran(&mut self, key: Key<Lease>) {
        let now = self.queue.now();
        let Some(lease) = self.leases.get_mut(key) else { return };
        lease.event = None;
        lease.stage = Stage::Reporting;
        lease.finished = now;
        let (task, host) = (lease.task, lease.host);
        self.totals.busy += (now - lease.started).seconds();
        self.nodes[host.index()].cores_free += 1;
        for output in self.setup.graph.outputs(task) {
            match self.setup.data {
                DataModel::Edges => self.made_at[output.index()] = host,
                DataModel::Objects if self.setup.graph.object(output).bytes > 0 => {
                    self.holdings.add(host, output);
                }
                DataModel::Objects => {}
            }
        }
        self.start_next(host);
        self.after_control(key, Event::Receipt(key));
    }

    /// The requester knows that the task is done.
    pub(super) fn on_receipt(&mut self, key: Key<Lease>) {
        let Some(lease) = self.release(key) else { return };
        let task = lease.task;
        let state = &mut self.tasks[task.index()];
        state.phase = Phase::Done;
        self.records[task.index()] = TaskRecord {
            host: lease.host,
            attempts: state.attempts,
            ready: state.ready_at,
            placed: lease.placed,
            started: lease.started,
            finished: lease.finished,
            received: self.queue.now(),
            fetched: lease.fetched,
        };
        self.tasks_left -= 1;
        self.news.done.push((task, lease.host));
        let graph = self.setup.graph;
        for &revealed in graph.reveals(task) {
            self.reveal(revealed);
        }
        for output in graph.outputs(task) {
            self.publish(output);
            self.send_home(task, output);
        }
        self.job_step(task);
    }

    /// An object exists (again).
    fn publish(&mut self, object: ObjectId) {
        if std::mem::replace(&mut self.exists[object.index()], true) {
            return;
        }
        for &consumer in self.setup.graph.consumers(object) {
            let state = &mut self.tasks[consumer.index()];
            if state.phase != Phase::Done {
                state.missing -= 1;
                if state.phase == Phase::Waiting {
                    self.wake(consumer);
                }
            }
        }
    }

    /// What nobody takes is a result: it goes to the user.
    fn send_home(&mut self, task: TaskId, object: ObjectId) {
        let job = self.setup.graph.task(task).job;
        let home = self.home(job);
        let is_result = self.setup.graph.consumers(object).is_empty();
        let under_way = self.is_coming_home(home, object);
        if self.setup.data == DataModel::Objects
            && is_result
            && !under_way
            && !self.holds(home, object)
        {
            self.job_left[job.index()] += 1;
            self.fetch(object, home, None);
        }
    }

    /// One task is done, or one result is home.
    pub(super) fn job_step(&mut self, task: TaskId) {
        let job = self.setup.graph.task(task).job;
        let left = &mut self.job_left[job.index()];
        *left -= 1;
        if *left == 0 {
            self.job_done_at[job.index()] = self.queue.now();
            self.jobs_left -= 1;
        }
    }

    /// Takes a lease from its host.
    pub(super) fn release(&mut self, key: Key<Lease>) -> Option<Lease> {
        let lease = self.leases.remove(key)?;
        let node = &mut self.nodes[lease.host.index()];
        node.room += 1;
        node.memory_free += self.setup.graph.task(lease.task).memory;
        if let Some(at) = node.leases.iter().position(|&other| other == key) {
            node.leases.swap_remove(at);
        }
        self.update_free(lease.host);
        Some(lease)
    }
}
