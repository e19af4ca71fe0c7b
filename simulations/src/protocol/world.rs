//! The event loop: gossip, streams, fetching and executing.

use std::collections::{HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use mesh_protocol::name::ValueName;
use mesh_protocol::peer::{PeerId, StreamId};
use mesh_protocol::sched::claim;
use mesh_protocol::sched::force::RunId;
use mesh_protocol::sched::lease;
use mesh_protocol::thunk::{Reduction, Thunk, Usage};
use mesh_protocol::time::Time;
use mesh_protocol::wire::claim::{
    Capabilities, FromRequester, FromWorker, Lease, Open, Receipt, SignedReduction,
};
use mesh_protocol::wire::offer::{Offer, ResourceClass};

use super::books::{self, Books, PLATFORM};
use super::checks::{Answer, Check, Checks};
use super::liars::{self, Liars};
use super::node::{Fetched, Node, Run, Running, Wish, host_of, peer};
use super::{ClaimProtocol, Policies};
use crate::kernel::{Draws, EventQueue, Purpose, SimTime, Span};
use crate::network::Topology;
use crate::platform::{Absences, Cache, HostId, Hosts};
use crate::run::{Ended, Outcome, RunError, Setup, TaskRecord, Totals};
use crate::workload::{JobId, ObjectId, ObjectOrigin, TaskId};

/// A lease names no bytes and no memory below this.
const MIB: u64 = 1 << 20;

pub(super) enum Event {
    Arrive(JobId),
    Timer(HostId, u32),
    Offer(HostId, PeerId, Rc<Offer>),
    /// The next message of a link, at that end.
    On(u32, End),
    Fetched(HostId, u32, claim::Job, Fetched),
    Ran(HostId, u32, Run),
    /// An answer's outputs are here.
    Settled(u32, Answer),
    /// A run of a check ended.
    Checked(Box<Check>),
    Gone(HostId),
    Back(HostId),
}

enum Message {
    Opened(Open),
    FromWorker(FromWorker),
    FromRequester(FromRequester),
    Closed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Worker,
    Requester,
}

/// A claim stream.
struct Link {
    worker: (HostId, u32, StreamId),
    requester: (HostId, u32, StreamId),
    open: [bool; 2],
    queue: [VecDeque<Message>; 2],
}

pub(super) struct World<'a> {
    pub(super) setup: Setup<'a>,
    pub(super) policies: Policies,
    pub(super) hosts: Hosts,
    topology: Topology,
    pub(super) queue: EventQueue<Event>,
    pub(super) nodes: Vec<Option<Box<Node>>>,
    /// How often a host began; what is for an earlier time finds nobody.
    lives: Vec<u32>,
    is_home: Vec<bool>,
    /// The same as a list, in the order of their numbers.
    homes: Vec<HostId>,
    /// What is on the hosts' disks, which stay when a host goes.
    held: Vec<HashSet<ObjectId>>,
    links: Vec<Link>,
    free_links: Vec<u32>,
    absences: Vec<Option<Absences<'a>>>,
    books: Books<'a>,
    thunks: Vec<Option<Arc<Thunk>>>,
    records: Vec<TaskRecord>,
    /// How many times each task was begun: two copies at once are two executions.
    pub(super) executions: Vec<u32>,
    job_done_at: Vec<SimTime>,
    pub(super) totals: Totals,
    pub(super) offers: u64,
    /// Are requesters' queues to hear what is learnt of run times?
    follows_levels: bool,
    pub(super) liars: Liars,
    pub(super) checks: Checks,
    error: Option<RunError>,
}

impl<'a> World<'a> {
    pub(super) fn new(setup: Setup<'a>, policies: Policies) -> Result<Self, RunError> {
        setup.refuse_huge_tasks()?;
        let hosts = Hosts::new(setup.platform, setup.seed);
        let tasks = setup.graph.tasks().len();
        let mut is_home = vec![false; hosts.len()];
        for job in (0..setup.graph.jobs().len() as u32).map(JobId) {
            is_home[setup.home(job).index()] = true;
        }
        let liars = Liars::new(&setup, &hosts, &is_home);
        let mut world = Self {
            topology: Topology::new(setup.platform, &hosts),
            queue: EventQueue::default(),
            nodes: (0..hosts.len()).map(|_| None).collect(),
            lives: vec![0; hosts.len()],
            is_home,
            homes: Vec::new(),
            held: vec![HashSet::new(); hosts.len()],
            links: Vec::new(),
            free_links: Vec::new(),
            absences: Vec::new(),
            books: Books::new(setup),
            thunks: vec![None; tasks],
            records: vec![TaskRecord::default(); tasks],
            executions: vec![0; tasks],
            job_done_at: vec![SimTime::ZERO; setup.graph.jobs().len()],
            totals: Totals::default(),
            offers: 0,
            follows_levels: policies.names.make(0).placement.follows_levels(),
            liars,
            checks: Checks::new(policies.check_permille, setup.seed),
            error: None,
            hosts,
            setup,
            policies,
        };
        let all = (0..world.hosts.len() as u32).map(HostId);
        world.homes = all.filter(|host| world.is_home[host.index()]).collect();
        for host in (0..world.hosts.len() as u32).map(HostId) {
            world.begin(host);
        }
        world.start_churn();
        if let Some(first) = setup.graph.jobs().first() {
            world.queue.schedule(first.arrival, Event::Arrive(JobId(0)));
        }
        Ok(world)
    }

    pub(super) fn play(mut self) -> Result<Outcome, RunError> {
        while self.books.jobs_left > 0 {
            let Some((now, event)) = self.queue.pop() else {
                return Err(RunError::Stuck { policy: "protocol", left: self.books.tasks_left });
            };
            if now > self.setup.horizon {
                let left = self.books.tasks_left;
                return Err(RunError::Horizon { horizon: self.setup.horizon, left });
            }
            self.apply(event);
            if let Some(error) = self.error.take() {
                return Err(error);
            }
        }
        let ended = Ended {
            setup: &self.setup,
            hosts: &self.hosts,
            job_done_at: &self.job_done_at,
            totals: self.totals,
            events: self.queue.fired(),
        };
        Ok(ended.outcome(self.records))
    }

    fn time(&self) -> Time {
        Time::from_us(self.queue.now().ns() / 1_000)
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Arrive(job) => self.on_arrival(job),
            Event::Timer(host, life) => {
                if self.lives[host.index()] == life {
                    self.drive(host, |node, now, wishes| {
                        node.timer = None;
                        node.on_timer(now, wishes);
                    });
                }
            }
            Event::Offer(to, from, offer) => {
                let input = claim::Input::Offer(from, (*offer).clone());
                self.drive(to, |node, now, wishes| node.claim(now, input, wishes));
            }
            Event::On(link, end) => self.on_message(link, end),
            Event::Fetched(host, life, job, fetched) => {
                if self.lives[host.index()] == life {
                    let input = claim::Input::Fetched(job, fetched);
                    self.drive(host, |node, now, wishes| node.claim(now, input, wishes));
                }
            }
            Event::Ran(host, life, run) => {
                if self.lives[host.index()] == life {
                    self.on_ran(host, run);
                }
            }
            Event::Settled(life, answer) => {
                if self.lives[answer.home.index()] == life {
                    self.on_settled(answer);
                }
            }
            Event::Checked(check) => self.on_checked(check),
            Event::Gone(host) => self.on_gone(host),
            Event::Back(host) => {
                self.begin(host);
                self.next_absence(host);
            }
        }
    }

    /// Lets the machines of a host that is there do something, and carries out what they want.
    pub(super) fn drive(
        &mut self,
        host: HostId,
        act: impl FnOnce(&mut Node, Time, &mut Vec<Wish>),
    ) {
        let wishes = self.decide(host, act);
        self.carry_out(host, wishes);
    }

    /// What the machines want then.
    pub(super) fn decide(
        &mut self,
        host: HostId,
        act: impl FnOnce(&mut Node, Time, &mut Vec<Wish>),
    ) -> Vec<Wish> {
        let now = self.time();
        let mut wishes = Vec::new();
        if let Some(node) = &mut self.nodes[host.index()] {
            act(node, now, &mut wishes);
            node.settle(now, &mut wishes);
        }
        wishes
    }

    pub(super) fn carry_out(&mut self, host: HostId, wishes: Vec<Wish>) {
        for wish in wishes {
            self.perform(host, wish);
        }
        let Some(node) = &mut self.nodes[host.index()] else { return };
        let Some(deadline) = node.next_deadline() else { return };
        let at = SimTime::from_ns(deadline.us().saturating_mul(1_000)).max(self.queue.now());
        if node.timer.is_some_and(|(timer, _)| timer <= at) {
            return;
        }
        if let Some((_, event)) = node.timer.take() {
            self.queue.cancel(event);
        }
        let event = self.queue.schedule(at, Event::Timer(host, self.lives[host.index()]));
        node.timer = Some((at, event));
    }

    fn perform(&mut self, host: HostId, wish: Wish) {
        match wish {
            Wish::Publish(offer) => self.publish(host, offer),
            Wish::Open(stream, to, open) => self.open(host, stream, host_of(to), open),
            Wish::ToRequester(stream, message) => {
                let link = self.node(host).and_then(|node| node.claimed.get(&stream).copied());
                self.send(link, End::Requester, Message::FromWorker(message));
            }
            Wish::ToWorker(stream, message) => {
                let link = self.node(host).and_then(|node| node.served.get(&stream).copied());
                self.send(link, End::Worker, Message::FromRequester(message));
            }
            Wish::Lease(stream, lease, name) => {
                let record = &mut self.records[books::task_of(name).index()];
                record.placed = self.queue.now();
                record.attempts += 1;
                let (sources, objects) = (Vec::new(), Vec::new());
                let lease = Lease { lease, thunk: name, bytes: None, sources, objects };
                let link = self.node(host).and_then(|node| node.served.get(&stream).copied());
                self.send(link, End::Worker, Message::FromRequester(FromRequester::Lease(lease)));
            }
            Wish::CloseClaim(stream) => {
                let link = self.node(host).and_then(|node| node.claimed.remove(&stream));
                self.close(link, End::Worker);
            }
            Wish::CloseServed(stream) => {
                let link = self.node(host).and_then(|node| {
                    node.settling.remove(&stream);
                    node.served.remove(&stream)
                });
                self.close(link, End::Requester);
            }
            Wish::Fetch(job, lease) => self.fetch(host, job, &lease),
            Wish::Run(run, name) => self.execute(host, run, books::task_of(name)),
            Wish::Stop(run) => self.stop(host, run),
            Wish::Ended(run, succeeded) => self.on_ended(host, TaskId(run as u32), succeeded),
            Wish::Wasted(us) => self.totals.wasted += us as f64 / 1e6,
            Wish::Speculated => self.totals.speculated += 1,
        }
    }

    fn node(&mut self, host: HostId) -> Option<&mut Node> {
        self.nodes[host.index()].as_deref_mut()
    }

    /// A host comes, with empty machines; what it held before it has still.
    fn begin(&mut self, host: HostId) {
        let group = self.hosts.group(self.setup.platform, host);
        let me = Capabilities {
            platform: PLATFORM,
            cores: group.cores,
            memory_mib: group.memory / MIB,
            speed_permille: (self.hosts.speed(host) * 1000.0) as u32,
        };
        let policies = (self.policies, self.is_home[host.index()]);
        let seed = Draws::new(self.setup.seed, Purpose::Policy, u64::from(host.0)).next_u64();
        let now = self.time();
        let node = Node::new(now, me, policies, (seed, group.cores));
        self.nodes[host.index()] = Some(Box::new(node));
        self.drive(host, |node, now, wishes| {
            node.lease(now, lease::Input::Others(true), wishes);
        });
        if self.queue.fired() > 0 {
            // Whoever has work says so to the newcomer.
            for at in 0..self.homes.len() {
                self.drive(self.homes[at], |node, now, wishes| node.joined(now, wishes));
            }
        }
    }

    fn start_churn(&mut self) {
        let Setup { platform, seed, .. } = self.setup;
        self.absences = Absences::of_hosts(platform, &self.hosts, seed, &self.is_home);
        for host in (0..self.hosts.len() as u32).map(HostId) {
            self.next_absence(host);
        }
    }

    fn next_absence(&mut self, host: HostId) {
        let now = self.queue.now();
        let absences = self.absences[host.index()].as_mut();
        if let Some((gone, back)) = absences.and_then(|absences| absences.next(now)) {
            self.queue.schedule(gone, Event::Gone(host));
            self.queue.schedule(back, Event::Back(host));
        }
    }

    /// As when power fails: nobody is told, and streams break when it is noticed.
    fn on_gone(&mut self, host: HostId) {
        let Some(node) = self.nodes[host.index()].take() else { return };
        self.totals.departures += 1;
        self.lives[host.index()] += 1;
        for running in node.running.values() {
            self.queue.cancel(running.event);
            let ran = (self.queue.now() - running.since).seconds();
            self.totals.busy += ran;
            self.totals.wasted += ran;
            self.totals.aborted += 1;
        }
        let noticed = self.queue.now() + self.setup.platform.detection;
        for link in node.claimed.into_values() {
            self.links[link as usize].open[End::Worker as usize] = false;
            self.links[link as usize].queue[End::Requester as usize].push_back(Message::Closed);
            self.queue.schedule(noticed, Event::On(link, End::Requester));
        }
    }

    fn on_arrival(&mut self, job: JobId) {
        let next = JobId(job.0 + 1);
        if let Some(following) = self.setup.graph.jobs().get(next.index()) {
            self.queue.schedule(following.arrival, Event::Arrive(next));
        }
        for task in self.books.arrive(job) {
            self.ready(task);
        }
    }

    fn ready(&mut self, task: TaskId) {
        self.records[task.index()].ready = self.queue.now();
        match self.books.thunk(task) {
            Ok(thunk) => self.thunks[task.index()] = Some(thunk),
            Err(reason) => {
                self.error = Some(RunError::Thunk { task, reason });
                return;
            }
        }
        self.want(task);
    }

    fn want(&mut self, task: TaskId) {
        let home = self.setup.home(self.setup.graph.task(task).job);
        let Some(thunk) = self.thunks[task.index()].clone() else { return };
        let (run, name) = (RunId(u64::from(task.0)), books::thunk_name(task));
        let class = ResourceClass::of(&thunk.spec().limits);
        let input = lease::Input::Ready { run, name, thunk, level: self.books.level(task) };
        if self.policies.claims == ClaimProtocol::Central {
            self.drive(home, |node, _, _| node.expect(class));
        }
        self.drive(home, |node, now, wishes| node.ready(now, input, wishes));
    }

    fn on_ended(&mut self, home: HostId, task: TaskId, succeeded: bool) {
        if self.books.is_done(task) {
            return;
        }
        if !succeeded {
            // Force would try again as well; machines fail here only by going.
            self.totals.repeated += 1;
            return self.want(task);
        }
        self.records[task.index()].received = self.queue.now();
        self.totals.false_results += u64::from(self.liars.end(self.setup.graph, task));
        if self.follows_levels {
            self.learn(home, task);
        }
        self.thunks[task.index()] = None;
        let outputs: Vec<ObjectId> = self.setup.graph.outputs(task).collect();
        self.held[home.index()].extend(outputs);
        let (ready, is_last) = self.books.end(task);
        if is_last {
            let job = self.setup.graph.task(task).job;
            self.job_done_at[job.index()] = self.queue.now();
        }
        for task in ready {
            self.ready(task);
        }
    }

    /// From a receipt that counts.
    fn learn(&mut self, home: HostId, task: TaskId) {
        let TaskRecord { started, finished, .. } = self.records[task.index()];
        let levels = self.books.took(task, (finished - started).ns() / 1_000);
        self.drive(home, |node, now, wishes| {
            node.lease(now, lease::Input::Levels(levels), wishes);
        });
    }

    fn open(&mut self, worker: HostId, stream: StreamId, requester: HostId, open: Open) {
        let Some(node) = self.node(requester) else {
            return self.drive(worker, |node, now, wishes| {
                node.claim(now, claim::Input::Closed(stream), wishes);
            });
        };
        let served = StreamId(node.next_served);
        node.next_served += 1;
        let link = Link {
            worker: (worker, self.lives[worker.index()], stream),
            requester: (requester, self.lives[requester.index()], served),
            open: [true; 2],
            queue: Default::default(),
        };
        let number = match self.free_links.pop() {
            Some(number) => {
                self.links[number as usize] = link;
                number
            }
            None => {
                self.links.push(link);
                (self.links.len() - 1) as u32
            }
        };
        if let Some(node) = self.node(worker) {
            node.claimed.insert(stream, number);
        }
        if let Some(node) = self.node(requester) {
            node.served.insert(served, number);
        }
        if self.policies.claims == ClaimProtocol::Central {
            self.totals.messages += 1;
            return self.hear(requester, served, End::Requester, Message::Opened(open));
        }
        self.send(Some(number), End::Requester, Message::Opened(open));
    }

    fn send(&mut self, link: Option<u32>, to: End, message: Message) {
        let Some(link) = link else { return };
        self.totals.messages += 1;
        self.links[link as usize].queue[to as usize].push_back(message);
        let at = self.queue.now() + self.setup.platform.control;
        self.queue.schedule(at, Event::On(link, to));
    }

    /// One end closes; the other hears of it after what was said before.
    fn close(&mut self, link: Option<u32>, by: End) {
        let Some(link) = link else { return };
        self.links[link as usize].open[by as usize] = false;
        let other = if by == End::Worker { End::Requester } else { End::Worker };
        self.send(Some(link), other, Message::Closed);
    }

    fn on_message(&mut self, link: u32, end: End) {
        let state = &mut self.links[link as usize];
        let Some(message) = state.queue[end as usize].pop_front() else { return };
        let (host, life, stream) = match end {
            End::Worker => state.worker,
            End::Requester => state.requester,
        };
        let is_there = state.open[end as usize] && self.lives[host.index()] == life;
        let is_last = matches!(message, Message::Closed);
        if is_there {
            self.hear(host, stream, end, message);
        }
        if is_last {
            let state = &mut self.links[link as usize];
            state.open[end as usize] = false;
            if state.open == [false; 2] && state.queue.iter().all(VecDeque::is_empty) {
                self.free_links.push(link);
            }
        }
    }

    fn hear(&mut self, host: HostId, stream: StreamId, end: End, message: Message) {
        match message {
            Message::Opened(open) => {
                let worker = self.node(host).and_then(|node| node.served.get(&stream).copied());
                let Some(link) = worker else { return };
                let peer = peer(self.links[link as usize].worker.0);
                let input = lease::Input::Opened(stream, peer, open);
                self.drive(host, |node, now, wishes| node.lease(now, input, wishes));
            }
            Message::FromWorker(FromWorker::Receipt(receipt)) if receipt.end.is_ok() => {
                self.settle(host, stream, receipt);
            }
            Message::FromWorker(FromWorker::Heartbeat(mut leases)) => {
                self.drive(host, |node, now, wishes| {
                    // The worker has done its part with these.
                    leases.extend(node.settling.get(&stream).into_iter().flatten());
                    let message = FromWorker::Heartbeat(leases);
                    node.lease(now, lease::Input::Received(stream, message), wishes);
                });
            }
            Message::FromWorker(message) => {
                let input = lease::Input::Received(stream, message);
                self.drive(host, |node, now, wishes| node.lease(now, input, wishes));
            }
            Message::FromRequester(message) => {
                let input = claim::Input::Received(stream, message);
                self.drive(host, |node, now, wishes| node.claim(now, input, wishes));
            }
            Message::Closed if end == End::Worker => {
                self.drive(host, |node, now, wishes| {
                    node.claimed.remove(&stream);
                    node.claim(now, claim::Input::Closed(stream), wishes);
                });
            }
            Message::Closed => self.drive(host, |node, now, wishes| {
                node.served.remove(&stream);
                node.settling.remove(&stream);
                node.lease(now, lease::Input::Closed(stream), wishes);
            }),
        }
    }

    /// Fetches a receipt's outputs from whoever ran it.
    fn settle(&mut self, home: HostId, stream: StreamId, receipt: Box<Receipt>) {
        let link = self.node(home).and_then(|node| node.served.get(&stream).copied());
        let (Some(link), Ok(signed)) = (link, &receipt.end) else { return };
        let worker = self.links[link as usize].worker.0;
        let task = books::task_of(signed.reduction.thunk);
        let outputs = self.setup.graph.outputs(task);
        let bytes = outputs.map(|object| self.setup.graph.object(object).bytes).sum::<u64>();
        let is_caught = self.liars.is_caught(self.queue.now(), home, worker);
        let took = self.move_bytes(worker, home, if is_caught { 0 } else { bytes });
        if let Some(node) = self.node(home) {
            node.settling.entry(stream).or_default().insert(receipt.lease);
        }
        let life = self.lives[home.index()];
        let cores = self.hosts.group(self.setup.platform, home).cores;
        let is_checked = self.checks.wants(home, cores, worker);
        let answer = Answer { home, stream, worker, receipt, is_checked };
        self.queue.schedule(self.queue.now() + took, Event::Settled(life, answer));
    }

    fn on_settled(&mut self, mut answer: Answer) {
        let (home, stream, worker) = (answer.home, answer.stream, answer.worker);
        let is_there = self.node(home).is_some_and(|node| node.served.contains_key(&stream));
        let now = self.queue.now();
        let is_lie = is_there && self.liars.fetched(now, home, worker, &mut answer.receipt);
        self.totals.lies_found += u64::from(is_lie);
        if answer.is_checked && !is_lie { self.check(answer) } else { self.conclude(answer) }
    }

    /// Lets an answer count.
    pub(super) fn conclude(&mut self, answer: Answer) {
        let Answer { home, stream, receipt, .. } = answer;
        if let Ok(signed) = &receipt.end {
            let task = books::task_of(signed.reduction.thunk);
            self.liars.answered(task, liars::is_lie(&receipt));
        }
        self.drive(home, |node, now, wishes| {
            let Some(leases) = node.settling.get_mut(&stream) else { return };
            leases.remove(&receipt.lease);
            let message = FromWorker::Receipt(receipt);
            node.lease(now, lease::Input::Received(stream, message), wishes);
        });
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

    fn fetch(&mut self, host: HostId, job: claim::Job, lease: &Lease) {
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

    fn execute(&mut self, host: HostId, run: Run, task: TaskId) {
        let now = self.queue.now();
        let record = &mut self.records[task.index()];
        if matches!(run, Run::Own(_)) {
            record.placed = now;
            record.attempts += 1;
        }
        self.executions[task.index()] += 1;
        let is_lie = matches!(run, Run::Job(_)) && self.liars.lies(host);
        let took = if is_lie {
            Span::ZERO
        } else {
            let execution = self.executions[task.index()];
            self.setup.duration(&self.hosts, task, host, execution)
        };
        let event = Event::Ran(host, self.lives[host.index()], run);
        let event = self.queue.schedule(now + took, event);
        let running = Running { name: books::thunk_name(task), since: now, event, is_lie };
        if let Some(node) = self.node(host) {
            node.running.insert(run, running);
        }
    }

    fn stop(&mut self, host: HostId, run: Run) {
        let now = self.queue.now();
        if let Some(running) = self.node(host).and_then(|node| node.running.remove(&run)) {
            self.queue.cancel(running.event);
            self.totals.busy += (now - running.since).seconds();
        }
    }

    fn on_ran(&mut self, host: HostId, run: Run) {
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
