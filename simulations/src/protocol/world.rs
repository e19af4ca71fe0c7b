//! The event loop: gossip, streams, fetching and executing.

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;

use mesh_protocol::peer::PeerId;
use mesh_protocol::sched::force::RunId;
use mesh_protocol::sched::{claim, lease, member};
use mesh_protocol::thunk::Thunk;
use mesh_protocol::time::Time;
use mesh_protocol::wire::claim::{Capabilities, FromRequester, Lease};
use mesh_protocol::wire::offer::{Offer, ResourceClass};

use super::books::{self, Books, PLATFORM};
use super::checks::{Answer, Check, Checks};
use super::liars::Liars;
use super::machines::Machines;
use super::node::{Fetched, Node, Run, Wish, host_of};
use super::streams::{End, Link, Message};
use super::{ClaimProtocol, Policies};
use crate::kernel::{Draws, EventQueue, Purpose, SimTime, Span};
use crate::network::Topology;
use crate::platform::{Absent, HostId, Hosts, Presence};
use crate::run::{Ended, Outcome, RunError, Setup, TaskRecord, Totals};
use crate::workload::{JobId, ObjectId, TaskId};

/// A lease names no bytes and no memory below this.
const MIB: u64 = 1 << 20;

pub(super) enum Event {
    Arrive(JobId),
    Timer(HostId, u32),
    Offer(HostId, PeerId, Rc<Offer>),
    /// The next message of a link, at that end.
    On(u32, End),
    Fetched(HostId, u32, claim::Job, Fetched),
    /// A run's sandbox is there; what it takes from now.
    Begun(HostId, u32, Run, Span),
    Ran(HostId, u32, Run),
    /// A message is sent.
    Say(u32, End, Box<Message>),
    /// A user's command has told its node of a task.
    Ready(TaskId),
    /// And has its result.
    Answered(HostId, TaskId),
    /// A machine has had the time for something.
    Spent(usize),
    /// An answer's outputs are here, or will not be.
    Brought(u32, Answer),
    /// A run of a check ended.
    Checked(Box<Check>),
    Gone(HostId),
    /// A host's owner uses it, or no more.
    Used(HostId, bool),
    Back(HostId),
}

pub(super) struct World<'a> {
    pub(super) setup: Setup<'a>,
    pub(super) policies: Policies,
    pub(super) hosts: Hosts,
    pub(super) topology: Topology,
    pub(super) queue: EventQueue<Event>,
    pub(super) nodes: Vec<Option<Box<Node>>>,
    /// How often a host began; what is for an earlier time finds nobody.
    pub(super) lives: Vec<u32>,
    /// When others notice that it is gone, for the last time that it went.
    pub(super) noticed: Vec<SimTime>,
    pub(super) is_home: Vec<bool>,
    /// The same as a list, in the order of their numbers.
    homes: Vec<HostId>,
    pub(super) machines: Machines,
    /// What is on the hosts' disks, which stay when a host goes.
    pub(super) held: Vec<HashSet<ObjectId>>,
    pub(super) links: Vec<Link>,
    pub(super) free_links: Vec<u32>,
    presence: Presence<'a>,
    in_use: Vec<bool>,
    pub(super) books: Books<'a>,
    pub(super) thunks: Vec<Option<Arc<Thunk>>>,
    pub(super) records: Vec<TaskRecord>,
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
            noticed: vec![SimTime::ZERO; hosts.len()],
            is_home,
            homes: Vec::new(),
            machines: Machines::new(setup.platform),
            held: vec![HashSet::new(); hosts.len()],
            links: Vec::new(),
            free_links: Vec::new(),
            presence: Presence::default(),
            in_use: vec![false; hosts.len()],
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

    /// Lets it happen, when the machine that it is on has had the time for it.
    pub(super) fn apply(&mut self, event: Event) {
        match self.cost(&event) {
            Some((machine, cost)) => self.spend(machine, cost, event),
            None => self.happen(event),
        }
    }

    pub(super) fn happen(&mut self, event: Event) {
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
            Event::Begun(host, life, run, took) => {
                if self.lives[host.index()] == life {
                    self.end_after(host, run, took);
                }
            }
            Event::Say(link, to, message) => self.on_said(link, to, *message),
            Event::Ready(task) => self.want(task),
            Event::Answered(home, task) => self.on_answered(home, task),
            Event::Spent(machine) => self.on_spent(machine),
            Event::Ran(host, life, run) => {
                if self.lives[host.index()] == life {
                    self.on_ran(host, run);
                }
            }
            Event::Brought(life, answer) => {
                if self.lives[answer.home.index()] == life {
                    self.on_brought(answer);
                }
            }
            Event::Checked(check) => self.on_checked(check),
            Event::Gone(host) => self.on_gone(host),
            Event::Used(host, in_use) => self.on_used(host, in_use),
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
                let link = self.node(host).and_then(|node| node.served.remove(&stream));
                self.close(link, End::Requester);
            }
            Wish::Fetch(job, lease) => self.fetch(host, job, &lease),
            Wish::Settle(settle) => self.fetch_outputs(host, *settle),
            Wish::Run(run, name) => self.execute(host, run, books::task_of(name)),
            Wish::Stop(run) => self.stop(host, run),
            Wish::Ended(run, succeeded) => self.on_ended(host, TaskId(run as u32), succeeded),
            Wish::Wasted(us) => self.totals.wasted += us as f64 / 1e6,
            Wish::Speculated => self.totals.speculated += 1,
        }
    }

    pub(super) fn node(&mut self, host: HostId) -> Option<&mut Node> {
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
        let in_use = self.in_use[host.index()];
        self.nodes[host.index()] = Some(Box::new(node));
        self.drive(host, |node, now, wishes| {
            node.give(now, in_use, wishes);
            node.lease(now, lease::Input::Others(true), wishes);
        });
        if self.queue.fired() > 0 {
            // Whoever has work says so to the newcomer.
            for at in 0..self.homes.len() {
                self.drive(self.homes[at], |node, now, wishes| {
                    node.tell(now, member::Input::Joined, wishes);
                });
            }
        }
    }

    fn start_churn(&mut self) {
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

    fn on_used(&mut self, host: HostId, in_use: bool) {
        self.in_use[host.index()] = in_use;
        self.drive(host, |node, now, wishes| node.give(now, in_use, wishes));
        if !in_use {
            self.next_use(host);
        }
    }

    fn next_absence(&mut self, host: HostId) {
        let events = [Event::Gone(host), Event::Back(host)];
        self.presence.schedule(Absent::Gone, host, &mut self.queue, events);
    }

    /// As when power fails: nobody is told, and streams break when it is noticed.
    fn on_gone(&mut self, host: HostId) {
        let Some(node) = self.nodes[host.index()].take() else { return };
        self.totals.departures += 1;
        self.lives[host.index()] += 1;
        for running in node.running.values() {
            if let Some(event) = running.event {
                self.queue.cancel(event);
            }
            let ran = (self.queue.now() - running.since).seconds();
            self.totals.busy += ran;
            self.totals.wasted += ran;
            self.totals.aborted += 1;
        }
        let noticed = self.queue.now() + self.setup.platform.detection;
        self.noticed[host.index()] = noticed;
        for link in node.claimed.into_values() {
            self.links[link as usize].break_off();
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
        self.apply(Event::Ready(task));
    }

    fn want(&mut self, task: TaskId) {
        let home = self.setup.home(self.setup.graph.task(task).job);
        let Some(thunk) = self.thunks[task.index()].clone() else { return };
        let (run, name) = (RunId(u64::from(task.0)), books::thunk_name(task));
        let class = ResourceClass::of(&thunk.spec().limits);
        let input = lease::Input::Ready { run, name, thunk, level: self.books.level(task) };
        if self.policies.claims == ClaimProtocol::Central {
            let expect = member::Input::Expect(Some(class));
            self.drive(home, |node, now, wishes| node.tell(now, expect, wishes));
        }
        self.drive(home, |node, now, wishes| {
            node.tell(now, member::Input::Expect(None), wishes);
            node.lease(now, input, wishes);
        });
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
        self.apply(Event::Answered(home, task));
    }

    fn on_answered(&mut self, home: HostId, task: TaskId) {
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
}
