//! What becomes of a lease at its worker: inputs come, the program runs, outputs go.

use std::sync::Arc;

use mesh_protocol::name::ValueName;
use mesh_protocol::sched::lease::Settle;
use mesh_protocol::sched::{claim, lease};
use mesh_protocol::thunk::{Reduction, Usage};
use mesh_protocol::time::Time;
use mesh_protocol::wire::claim::{Lease, SignedReduction};

use super::checks::Answer;
use super::node::{Run, Running, host_of, peer};
use super::world::{Event, World};
use super::{books, liars};
use crate::kernel::Span;
use crate::platform::{Cache, HostId};
use crate::workload::{ObjectId, ObjectOrigin, TaskId};

impl World<'_> {
    /// Fetches what a worker says came of a lease, from whoever ran it.
    pub(super) fn fetch_outputs(&mut self, home: HostId, settle: Settle) {
        let worker = host_of(settle.peer);
        let task = books::task_of(settle.reduction.thunk);
        let outputs = self.setup.graph.outputs(task);
        let bytes = outputs.map(|object| self.setup.graph.object(object).bytes).sum::<u64>();
        let is_caught = self.liars.is_caught(self.queue.now(), home, worker);
        let took = self.move_bytes(worker, home, if is_caught { 0 } else { bytes });
        let life = self.lives[home.index()];
        let cores = self.hosts.group(self.setup.platform, home).cores;
        let is_checked = self.checks.wants(home, cores, worker);
        let Settle { lease, reduction, .. } = settle;
        let (outputs, worker) = (Arc::new(reduction.outputs), (worker, self.lives[worker.index()]));
        let answer = Answer { home, worker, lease, task, outputs, is_checked };
        self.queue.schedule(self.queue.now() + took, Event::Brought(life, answer));
    }

    pub(super) fn on_brought(&mut self, answer: Answer) {
        let (home, (worker, life)) = (answer.home, answer.worker);
        let (now, noticed) = (self.queue.now(), self.noticed[worker.index()]);
        if self.lives[worker.index()] != life {
            if now < noticed {
                let life = self.lives[home.index()];
                self.queue.schedule(noticed, Event::Brought(life, answer));
                return;
            }
            return self.conclude(answer, Err("its worker is gone".to_owned()));
        }
        match self.liars.fetched(now, home, worker, &answer.outputs) {
            Err(reason) => {
                self.totals.lies_found += 1;
                self.conclude(answer, Err(reason));
            }
            Ok(()) if answer.is_checked => self.check(answer),
            Ok(()) => self.conclude(answer, Ok(())),
        }
    }

    /// Lets an answer count, or not.
    pub(super) fn conclude(&mut self, answer: Answer, settled: Result<(), String>) {
        let Answer { home, lease, task, outputs, .. } = answer;
        if settled.is_ok() {
            self.liars.answered(task, liars::is_lie(&outputs));
        }
        let input = lease::Input::Settled(lease, settled);
        self.drive(home, |node, now, wishes| node.lease(now, input, wishes));
    }

    /// Counts a transfer; how long it takes.
    fn move_bytes(&mut self, from: HostId, to: HostId, bytes: u64) -> Span {
        if bytes == 0 || from == to {
            return Span::ZERO;
        }
        self.totals.bytes += bytes;
        self.totals.transfers += 1;
        Span::from_seconds(self.topology.alone(&self.hosts, from, to, bytes))
    }

    pub(super) fn fetch(&mut self, host: HostId, job: claim::Job, lease: &Lease) {
        let task = books::task_of(lease.thunk);
        let home = self.setup.home(self.setup.graph.task(task).job);
        let inputs = self.setup.graph.inputs(task);
        let missing: Vec<ObjectId> =
            inputs.iter().copied().filter(|object| !self.holds(host, *object)).collect();
        let bytes = missing.iter().map(|object| self.setup.graph.object(*object).bytes).sum();
        let took = self.move_bytes(home, host, bytes);
        self.records[task.index()].fetched += bytes;
        // Who wants the same meanwhile waits for nothing: it is on its way.
        self.held[host.index()].extend(missing);
        let thunk = self.thunks[task.index()].clone();
        let fetched = thunk.ok_or_else(|| "it is not wanted any more".to_owned());
        let at = self.queue.now() + took;
        self.queue.schedule(at, Event::Fetched(host, self.lives[host.index()], job, fetched));
    }

    fn holds(&self, host: HostId, object: ObjectId) -> bool {
        let what = self.setup.graph.object(object);
        let cache = self.hosts.group(self.setup.platform, host).cache;
        let given = match what.origin {
            ObjectOrigin::Source(job) => self.setup.home(job) == host || cache == Cache::Warm,
            ObjectOrigin::Common => self.is_home[host.index()] || cache != Cache::Cold,
            ObjectOrigin::Product(_) => false,
        };
        what.bytes == 0 || given || self.held[host.index()].contains(&object)
    }

    pub(super) fn execute(&mut self, host: HostId, run: Run, task: TaskId) {
        let now = self.queue.now();
        let record = &mut self.records[task.index()];
        if matches!(run, Run::Own(_)) {
            record.placed = now;
            record.attempts += 1;
        }
        self.executions[task.index()] += 1;
        let is_lie = matches!(run, Run::Job(_)) && self.liars.lies(host);
        let running = Running { name: books::thunk_name(task), since: now, event: None, is_lie };
        if let Some(node) = self.node(host) {
            node.running.insert(run, running);
        }
        let life = self.lives[host.index()];
        if is_lie {
            return self.end_after(host, run, Span::ZERO);
        }
        let execution = self.executions[task.index()];
        let took = self.setup.duration(&self.hosts, task, host, execution);
        self.apply(Event::Begun(host, life, run, took));
    }

    /// Its sandbox is there.
    pub(super) fn end_after(&mut self, host: HostId, run: Run, took: Span) {
        let (at, life) = (self.queue.now() + took, self.lives[host.index()]);
        if self.node(host).is_some_and(|node| node.running.contains_key(&run)) {
            let event = self.queue.schedule(at, Event::Ran(host, life, run));
            if let Some(running) = self.node(host).and_then(|node| node.running.get_mut(&run)) {
                running.event = Some(event);
            }
        }
    }

    pub(super) fn stop(&mut self, host: HostId, run: Run) {
        let now = self.queue.now();
        if let Some(running) = self.node(host).and_then(|node| node.running.remove(&run)) {
            if let Some(event) = running.event {
                self.queue.cancel(event);
            }
            self.totals.busy += (now - running.since).seconds();
        }
    }

    pub(super) fn on_ran(&mut self, host: HostId, run: Run) {
        let now = self.queue.now();
        let Some(running) = self.node(host).and_then(|node| node.running.remove(&run)) else {
            return;
        };
        self.totals.busy += (now - running.since).seconds();
        let task = books::task_of(running.name);
        if !self.books.is_done(task) {
            let record = &mut self.records[task.index()];
            (record.started, record.finished, record.host) = (running.since, now, host);
        }
        let outputs: Vec<ObjectId> = self.setup.graph.outputs(task).collect();
        self.held[host.index()].extend(outputs);
        if matches!(run, Run::Own(_)) {
            self.liars.answered(task, false);
        }
        self.drive(host, |node, now, wishes| match run {
            Run::Own(lease) => {
                let end = Ok(Arc::new(books::outputs(false)));
                node.lease(now, lease::Input::OwnEnded(lease, end), wishes);
            }
            Run::Job(job) => {
                let end = Ok(signed(&running, host, now));
                node.claim(now, claim::Input::Ended(job, end, Vec::new()), wishes);
            }
        });
    }
}

/// What a worker says, and a liar too: whether it is true shows when its outputs are fetched.
fn signed(running: &Running, host: HostId, now: Time) -> SignedReduction {
    let reduction = Reduction {
        thunk: running.name,
        outputs: books::outputs(running.is_lie),
        stdout: ValueName::of(b""),
        stderr: ValueName::of(b""),
        usage: Usage::default(),
        executor: format!("{:?}", peer(host)),
        finished_at_s: now.us() / 1_000_000,
    };
    SignedReduction { signature: [[0; 32]; 2], reduction, remembered: false }
}
