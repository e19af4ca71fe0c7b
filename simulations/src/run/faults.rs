//! Hosts that go and come, and what is lost with them.

use super::Setup;
use super::holdings::Place;
use super::lease::{Lease, Stage};
use super::slab::Key;
use super::state::{Event, Phase, Sim};
use crate::platform::{Absent, HostId, Presence};
use crate::workload::{ObjectId, ObjectOrigin, TaskId};

impl Sim<'_> {
    /// Draws the first absence of every host that may go, and its owner's first use of it.
    pub(super) fn start_churn(&mut self) {
        let Setup { platform, seed, .. } = self.setup;
        self.presence = Presence::new(platform, &self.hosts, seed, &self.is_home);
        for host in (0..self.hosts.len() as u32).map(HostId) {
            self.next_absence(host);
            self.next_use(host);
        }
    }

    fn next_use(&mut self, host: HostId) {
        let events = [true, false].map(|in_use| Event::Used(host, in_use));
        self.presence.schedule(Absent::InUse, host, &mut self.queue, events);
    }

    /// Its owner comes or leaves.
    pub(super) fn on_used(&mut self, host: HostId, in_use: bool) {
        self.nodes[host.index()].in_use = in_use;
        self.update_free(host);
        if !in_use {
            self.next_use(host);
        }
    }

    fn next_absence(&mut self, host: HostId) {
        let events = [Event::Gone(host), Event::Back(host)];
        self.presence.schedule(Absent::Gone, host, &mut self.queue, events);
    }

    /// A host goes: what it runs is lost, what it feeds stops.
    pub(super) fn on_gone(&mut self, host: HostId) {
        self.nodes[host.index()].up = false;
        self.update_free(host);
        self.totals.departures += 1;
        self.holdings.hide(host);
        for key in self.nodes[host.index()].leases.clone() {
            self.orphan(key, host);
        }
        for key in self.nodes[host.index()].incoming.clone() {
            self.detach(key);
            self.remove_transfer(key);
        }
        for key in self.nodes[host.index()].outgoing.clone() {
            self.detach(key);
            self.nodes[host.index()].stalled.push(key);
        }
        let cores = self.hosts.group(self.setup.platform, host).cores;
        let node = &mut self.nodes[host.index()];
        node.cores_free = cores;
        node.queue.clear();
        let noticed = self.queue.now() + self.setup.platform.detection;
        self.queue.schedule(noticed, Event::Noticed(host));
    }

    /// A lease is lost with its host, unless its receipt is on the way already.
    fn orphan(&mut self, key: Key<Lease>, host: HostId) {
        let now = self.queue.now();
        let Some(lease) = self.leases.get(key) else { return };
        match lease.stage {
            Stage::Reporting => return,
            Stage::Running => {
                let ran = (now - lease.started).seconds();
                self.totals.busy += ran;
                self.totals.wasted += ran;
            }
            Stage::Preparing => {}
        }
        if let Some(lease) = self.cancel(key) {
            self.tasks[lease.index()].phase = Phase::Orphaned;
            self.nodes[host.index()].orphans.push(lease);
            self.totals.aborted += 1;
        }
    }

    /// Takes a lease back with what is to happen to it; returns its task.
    fn cancel(&mut self, key: Key<Lease>) -> Option<TaskId> {
        let lease = self.release(key)?;
        if let Some(event) = lease.event {
            self.queue.cancel(event);
        }
        Some(lease.task)
    }

    /// The absence is noticed: its tasks are ready again, what it fed looks for another source.
    pub(super) fn on_noticed(&mut self, host: HostId) {
        self.news.gone.push(host);
        self.changed = true;
        for task in std::mem::take(&mut self.nodes[host.index()].orphans) {
            if self.tasks[task.index()].phase == Phase::Orphaned {
                self.tasks[task.index()].phase = Phase::Waiting;
                self.wake(task);
            }
        }
        for key in std::mem::take(&mut self.nodes[host.index()].stalled) {
            // The number may have been given to another transfer, which then is not stalled, or for
            // the same reason.
            if self.is_stalled(key) {
                self.on_retry(key);
            }
        }
    }

    /// A host is back, with its disk.
    pub(super) fn on_back(&mut self, host: HostId) {
        self.nodes[host.index()].up = true;
        self.holdings.show(host);
        self.update_free(host);
        self.next_absence(host);
    }

    /// Nobody who is there holds the object: it does not exist until it is made again. A host that
    /// misses one input reports all that it cannot get.
    pub(super) fn lose(&mut self, object: ObjectId) {
        let mut lost = vec![object];
        while let Some(object) = lost.pop() {
            self.lose_one(object, &mut lost);
        }
    }

    fn lose_one(&mut self, object: ObjectId, lost: &mut Vec<ObjectId>) {
        let graph = self.setup.graph;
        let ObjectOrigin::Product(maker) = graph.object(object).origin else { return };
        if !std::mem::replace(&mut self.exists[object.index()], false) {
            return;
        }
        // Before its result is given up, or the job might seem done in between.
        if self.tasks[maker.index()].phase == Phase::Done {
            self.undo(maker);
        }
        self.give_up_result(maker, object);
        for &consumer in graph.consumers(object) {
            let phase = self.tasks[consumer.index()].phase;
            if phase == Phase::Done {
                continue;
            }
            self.tasks[consumer.index()].missing += 1;
            match phase {
                Phase::Ready => {
                    self.tasks[consumer.index()].phase = Phase::Waiting;
                    self.news.unready.push(consumer);
                }
                Phase::Leased(key) => self.take_back(key, object, lost),
                _ => {}
            }
        }
    }

    fn give_up_result(&mut self, maker: TaskId, object: ObjectId) {
        let home = self.home(self.setup.graph.task(maker).job);
        if self.is_coming_home(home, object)
            && let Some(Place::Coming(key)) = self.holdings.place(home, object)
        {
            self.detach(key);
            if let Some(mut transfer) = self.remove_transfer(key) {
                transfer.is_result = false;
                self.job_step(maker);
            }
        }
    }

    /// Takes back a lease that still waits for a lost object.
    fn take_back(&mut self, key: Key<Lease>, object: ObjectId, lost: &mut Vec<ObjectId>) {
        let Some(lease) = self.leases.get(key) else { return };
        let (task, host) = (lease.task, lease.host);
        if lease.stage != Stage::Preparing || self.holds(host, object) {
            return;
        }
        let inputs = self.setup.graph.inputs(task).iter().copied();
        lost.extend(inputs.filter(|&input| {
            self.exists[input.index()]
                && !self.holds(host, input)
                && self.source(input, host).is_none()
        }));
        self.stop_waiting(key, host);
        if let Some(task) = self.cancel(key) {
            self.tasks[task.index()].phase = Phase::Waiting;
            self.totals.aborted += 1;
        }
    }

    /// A task whose output was lost must run again.
    fn undo(&mut self, task: TaskId) {
        let graph = self.setup.graph;
        let record = &self.records[task.index()];
        self.totals.wasted += (record.finished - record.started).seconds();
        self.totals.repeated += 1;
        let missing = graph.inputs(task).iter().filter(|input| !self.exists[input.index()]).count();
        let state = &mut self.tasks[task.index()];
        state.phase = Phase::Waiting;
        state.missing = missing as u32;
        self.tasks_left += 1;
        self.job_left[graph.task(task).job.index()] += 1;
        self.wake(task);
    }
}
