//! The network, the faults, and what must hold.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use mesh_protocol::limits;
use mesh_protocol::peer::StreamId;
use mesh_protocol::random::Random;
use mesh_protocol::time::Time;
use mesh_protocol::wire::claim::{FromRequester, FromWorker};
use mesh_protocol::wire::offer::Offer;

use crate::log::Log;
use crate::node::{Disk, Input, Node, Output, peer};
use crate::plan::{Fault, Plan, QUIET_US};

/// Demands must be answered by then.
const ANSWERED_BY_US: u64 = QUIET_US + 5_000_000_000;

/// More events than this: the machines keep each other busy.
const EVENTS_MAX: u64 = 400_000;

#[derive(Debug)]
enum Event {
    /// Something for one run of a node's process.
    To {
        node: usize,
        life: u32,
        input: Input,
    },
    /// The next message of a connection, at that end.
    On {
        link: usize,
        end: End,
    },
    Fault(Fault),
    Restart(usize),
}

#[derive(Debug)]
enum Message {
    Input(Input),
    Closed,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Worker,
    Requester,
}

/// A claim stream: in order and without loss, until it breaks.
struct Link {
    worker: (usize, u32, StreamId),
    requester: (usize, u32, StreamId),
    /// Which ends still listen.
    open: [bool; 2],
    /// When the last message to each end arrives.
    last: [u64; 2],
    /// What is under way to each end.
    queue: [VecDeque<Message>; 2],
}

struct Slot {
    node: Option<Node>,
    disk: Disk,
    life: u32,
    frozen_until: u64,
    timer: Option<u64>,
    next_served: u64,
    claims: BTreeMap<StreamId, usize>,
    served: BTreeMap<StreamId, usize>,
    dead_for_good: bool,
}

#[derive(Debug, Default, PartialEq, Eq, Clone)]
pub(crate) struct Summary {
    pub(crate) answered: u64,
    pub(crate) remote_runs: u64,
    pub(crate) own_runs: u64,
    pub(crate) put_back: u64,
    pub(crate) speculated: u64,
    pub(crate) moved: u64,
    pub(crate) stray: u64,
    pub(crate) crashes: u64,
    pub(crate) freezes: u64,
    pub(crate) partitions: u64,
    pub(crate) lost_messages: u64,
    pub(crate) events: u64,
}

impl Summary {
    pub(crate) fn add(&mut self, other: &Self) {
        self.answered += other.answered;
        self.remote_runs += other.remote_runs;
        self.own_runs += other.own_runs;
        self.put_back += other.put_back;
        self.speculated += other.speculated;
        self.moved += other.moved;
        self.stray += other.stray;
        self.crashes += other.crashes;
        self.freezes += other.freezes;
        self.partitions += other.partitions;
        self.lost_messages += other.lost_messages;
        self.events += other.events;
    }
}

pub(crate) struct World {
    pub(crate) log: Log,
    seed: u64,
    plan: Plan,
    random: Random,
    now: u64,
    events: BinaryHeap<Reverse<(u64, u64)>>,
    pending: BTreeMap<u64, Event>,
    next_event: u64,
    slots: Vec<Slot>,
    links: Vec<Link>,
    partition: (u64, u64),
    summary: Summary,
}

impl World {
    pub(crate) fn new(seed: u64, keep_log: bool) -> Self {
        Self::of(Plan::of(seed), seed, keep_log)
    }

    pub(crate) fn of(plan: Plan, seed: u64, keep_log: bool) -> Self {
        let mut world = Self {
            log: Log::new(keep_log),
            seed,
            random: Random::new(!seed),
            now: 0,
            events: BinaryHeap::new(),
            pending: BTreeMap::new(),
            next_event: 0,
            slots: Vec::new(),
            links: Vec::new(),
            partition: (0, 0),
            summary: Summary::default(),
            plan,
        };
        for machine in &world.plan.machines {
            let mut disk = Disk::default();
            if let Some(work) = &machine.graph {
                disk.thunks = work.thunks.clone();
                disk.demands = work.demands.iter().map(|(name, _)| *name).collect();
            }
            world.slots.push(Slot {
                node: None,
                disk,
                life: 0,
                frozen_until: 0,
                timer: None,
                next_served: 0,
                claims: BTreeMap::new(),
                served: BTreeMap::new(),
                dead_for_good: false,
            });
        }
        world
    }

    /// When the last demand was answered, where everybody starts at once and nothing goes wrong.
    pub(crate) fn makespan_us(&mut self) -> Result<u64, String> {
        for node in 0..self.slots.len() {
            self.push(0, Event::Restart(node));
        }
        loop {
            self.step()?;
            if self.slots.iter().all(|slot| slot.node.is_some()) && self.is_answered() {
                self.account(0);
                return Ok(self.now);
            }
        }
    }

    pub(crate) fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Plays to the end, and says what broke.
    pub(crate) fn play(&mut self) -> Result<Summary, String> {
        for node in 0..self.slots.len() {
            let at = self.random.below(2_000_000) * u64::from(self.random.permille(500));
            self.push(at, Event::Restart(node));
        }
        for (at, fault) in std::mem::take(&mut self.plan.faults) {
            self.push(at, Event::Fault(fault));
        }
        while !self.is_answered() || !(self.now > QUIET_US || self.events.is_empty()) {
            if self.now > ANSWERED_BY_US {
                return Err(format!("demands are unanswered: {}", self.state()));
            }
            self.step()?;
        }
        self.check_answers()?;
        // Whoever waits for anything stops waiting.
        let end = self.now + 2 * limits::SILENCE_US + limits::DRAIN_US + limits::OFFER_LIFE_US;
        while self.now < end && !self.events.is_empty() {
            self.step()?;
        }
        self.check_rest()?;
        Ok(self.summary.clone())
    }

    fn push(&mut self, at: u64, event: Event) {
        self.events.push(Reverse((at.max(self.now), self.next_event)));
        self.pending.insert(self.next_event, event);
        self.next_event += 1;
    }

    fn step(&mut self) -> Result<(), String> {
        let Some(Reverse((at, number))) = self.events.pop() else {
            return Err(format!("nothing is waited for any more: {}", self.state()));
        };
        self.now = at;
        self.summary.events += 1;
        if self.summary.events > EVENTS_MAX {
            return Err(format!("{EVENTS_MAX} events and no end: {}", self.state()));
        }
        match self.pending.remove(&number) {
            Some(Event::To { node, life, input }) => self.arrive(node, life, input),
            Some(Event::On { link, end }) => self.arrive_on(link, end),
            Some(Event::Fault(fault)) => self.fault(fault),
            Some(Event::Restart(node)) => self.restart(node),
            None => {}
        }
        Ok(())
    }

    fn arrive(&mut self, node: usize, life: u32, input: Input) {
        let slot = &mut self.slots[node];
        if slot.life != life || slot.node.is_none() {
            return;
        }
        if slot.frozen_until > self.now {
            let at = slot.frozen_until;
            return self.push(at, Event::To { node, life, input });
        }
        if matches!(input, Input::Timer) {
            if slot.timer != Some(self.now) && slot.timer.is_some_and(|at| at > self.now) {
                return;
            }
            slot.timer = None;
        } else {
            self.log.line(self.now, format_args!("{node} <- {input:?}"));
        }
        self.drive(node, |running, now, disk, out| running.handle(now, input, disk, out));
    }

    fn drive(
        &mut self,
        node: usize,
        act: impl FnOnce(&mut Node, Time, &mut Disk, &mut Vec<Output>),
    ) {
        let slot = &mut self.slots[node];
        let Some(running) = &mut slot.node else { return };
        let mut outputs = Vec::new();
        act(running, Time::from_us(self.now), &mut slot.disk, &mut outputs);
        let (jobs, streams) = running.member.claims().load();
        assert!(streams <= limits::CLAIM_STREAMS && jobs <= limits::CLAIM_LEASES);
        // Shares are given anew only as leases end: at most each requester's whole window at once.
        assert!(jobs <= limits::CLAIM_STREAMS * 12, "{jobs} leases in one worker");
        for output in outputs {
            self.perform(node, output);
        }
        let slot = &mut self.slots[node];
        let deadline = slot.node.as_ref().and_then(|node| node.member.next_deadline());
        if let Some(deadline) = deadline.map(|deadline| deadline.us().max(self.now))
            && slot.timer.is_none_or(|timer| timer > deadline || timer < self.now)
        {
            slot.timer = Some(deadline);
            let life = slot.life;
            self.push(deadline, Event::To { node, life, input: Input::Timer });
        }
    }

    fn perform(&mut self, node: usize, output: Output) {
        let life = self.slots[node].life;
        match output {
            Output::Publish(offer) => self.gossip(node, &offer),
            Output::After(us, input) => self.push(self.now + us, Event::To { node, life, input }),
            Output::Open(stream, to, open) => {
                let to = usize::from(to.0[0]);
                let link = self.links.len();
                let served = StreamId(self.slots[to].next_served);
                self.slots[to].next_served += 1;
                let requester = (to, self.slots[to].life, served);
                let worker = (node, life, stream);
                self.links.push(Link {
                    worker,
                    requester,
                    open: [true; 2],
                    last: [self.now; 2],
                    queue: Default::default(),
                });
                self.slots[node].claims.insert(stream, link);
                self.slots[to].served.insert(served, link);
                if self.slots[to].node.is_none() {
                    return self.send(link, End::Worker, Message::Closed);
                }
                let opened = Input::Opened(served, peer(node), open);
                self.send(link, End::Requester, Message::Input(opened));
            }
            Output::ToRequester(stream, message) => {
                self.check_codec(&message, FromWorker::encode, FromWorker::decode);
                let Some(link) = self.slots[node].claims.get(&stream).copied() else { return };
                let served = self.links[link].requester.2;
                let input = Input::FromWorker(served, message);
                self.send(link, End::Requester, Message::Input(input));
            }
            Output::ToWorker(stream, message) => {
                self.check_codec(&message, FromRequester::encode, FromRequester::decode);
                let Some(link) = self.slots[node].served.get(&stream).copied() else { return };
                let claim = self.links[link].worker.2;
                let input = Input::FromRequester(claim, message);
                self.send(link, End::Worker, Message::Input(input));
            }
            Output::CloseClaim(stream) => {
                if let Some(link) = self.slots[node].claims.remove(&stream) {
                    self.links[link].open[0] = false;
                    self.send(link, End::Requester, Message::Closed);
                }
            }
            Output::CloseServed(stream) => {
                if let Some(link) = self.slots[node].served.remove(&stream) {
                    self.links[link].open[1] = false;
                    self.send(link, End::Worker, Message::Closed);
                }
            }
        }
    }

    /// In some worlds, everything goes through its bytes.
    fn check_codec<T: PartialEq, E: std::fmt::Debug>(
        &self,
        message: &T,
        encode: impl Fn(&T) -> Result<Vec<u8>, E>,
        decode: impl Fn(&[u8]) -> Result<T, E>,
    ) {
        if self.seed.is_multiple_of(16) {
            let bytes = encode(message).expect("machines keep the rules");
            assert!(decode(&bytes).expect("canonical") == *message);
        }
    }

    fn delay(&mut self) -> u64 {
        50 + self.random.below(self.plan.delay_us_max)
    }

    fn send(&mut self, link: usize, end: End, message: Message) {
        let at = self.now + self.delay();
        let last = &mut self.links[link].last[end as usize];
        *last = at.max(*last);
        let at = *last;
        self.links[link].queue[end as usize].push_back(message);
        self.push(at, Event::On { link, end });
    }

    fn arrive_on(&mut self, link: usize, end: End) {
        let Link { worker, requester, open, .. } = &self.links[link];
        let (node, life, stream) = if end == End::Worker { *worker } else { *requester };
        if !open[end as usize] {
            return;
        }
        if self.is_cut(worker.0, requester.0) {
            let at = self.partition.1;
            return self.push(at, Event::On { link, end });
        }
        let slot = &self.slots[node];
        if slot.life != life || slot.node.is_none() {
            return;
        }
        if slot.frozen_until > self.now {
            let at = slot.frozen_until;
            return self.push(at, Event::On { link, end });
        }
        let Some(message) = self.links[link].queue[end as usize].pop_front() else { return };
        let input = match message {
            Message::Input(input) => input,
            Message::Closed => {
                self.links[link].open[end as usize] = false;
                let slot = &mut self.slots[node];
                match end {
                    End::Worker => slot.claims.remove(&stream),
                    End::Requester => slot.served.remove(&stream),
                };
                match end {
                    End::Worker => Input::ClaimClosed(stream),
                    End::Requester => Input::ServedClosed(stream),
                }
            }
        };
        self.arrive(node, life, input);
    }

    fn is_cut(&self, a: usize, b: usize) -> bool {
        let side = |node: usize| self.partition.0 >> (node % 64) & 1;
        self.partition.1 > self.now && side(a) != side(b)
    }

    fn gossip(&mut self, from: usize, offer: &Offer) {
        self.log.line(self.now, format_args!("{from} offers {offer:?}"));
        for to in (0..self.slots.len()).filter(|to| *to != from) {
            let lost = self.random.permille(self.plan.gossip_loss_permille);
            if lost || self.is_cut(from, to) {
                self.summary.lost_messages += 1;
                continue;
            }
            let copies = 1 + u64::from(self.random.permille(self.plan.gossip_repeat_permille));
            for _ in 0..copies {
                let at = self.now + self.random.below(self.plan.gossip_delay_us_max);
                let input = Input::Gossip(peer(from), offer.clone());
                let life = self.slots[to].life;
                self.push(at, Event::To { node: to, life, input });
            }
        }
    }

    fn fault(&mut self, fault: Fault) {
        self.log.line(self.now, format_args!("fault {fault:?}"));
        match fault {
            Fault::Crash { node, told, restart_us } => self.crash(node, told, restart_us),
            Fault::Freeze { node, for_us } => {
                self.summary.freezes += 1;
                let slot = &mut self.slots[node];
                slot.frozen_until = slot.frozen_until.max((self.now + for_us).min(QUIET_US));
            }
            Fault::Partition { side, for_us } => {
                self.summary.partitions += 1;
                self.partition = (side, (self.now + for_us).min(QUIET_US).max(self.partition.1));
            }
            Fault::BreakStreams { node } => self.break_links(node),
            Fault::Slots { node, slots } => {
                // A requester's own word counts less than what already runs: only lower it idle.
                let life = self.slots[node].life;
                self.arrive_slots(node, life, slots);
            }
            Fault::Drain { node } => {
                let life = self.slots[node].life;
                self.arrive(node, life, Input::Drain);
            }
        }
    }

    /// What runs goes on when slots are taken away, so the bound is kept from the next start on.
    fn arrive_slots(&mut self, node: usize, life: u32, slots: u32) {
        let busy = self.slots[node]
            .node
            .as_ref()
            .map_or(0, |node| node.running.values().map(|(_, _, cores)| *cores).sum::<u32>());
        self.arrive(node, life, Input::Slots(slots.max(busy)));
    }

    fn links_of(&self, node: usize) -> Vec<usize> {
        let slot = &self.slots[node];
        slot.claims.values().chain(slot.served.values()).copied().collect()
    }

    fn break_links(&mut self, node: usize) {
        for link in self.links_of(node) {
            self.send(link, End::Worker, Message::Closed);
            self.send(link, End::Requester, Message::Closed);
        }
    }

    fn crash(&mut self, node: usize, told: bool, restart_us: Option<u64>) {
        if self.slots[node].node.is_none() {
            return;
        }
        self.summary.crashes += 1;
        self.account(node);
        for link in self.links_of(node) {
            let is_worker = self.links[link].worker.0 == node;
            let (here, there) = if is_worker { (0, End::Requester) } else { (1, End::Worker) };
            self.links[link].open[here] = false;
            if told {
                self.send(link, there, Message::Closed);
            }
        }
        let slot = &mut self.slots[node];
        (slot.node, slot.timer) = (None, None);
        slot.claims.clear();
        slot.served.clear();
        slot.life += 1;
        match restart_us {
            Some(us) => self.push(self.now + us, Event::Restart(node)),
            None => slot.dead_for_good = true,
        }
    }

    fn restart(&mut self, number: usize) {
        self.log.line(self.now, format_args!("{number} starts"));
        let slot = &mut self.slots[number];
        let seed = self.seed.wrapping_mul(1000) + number as u64 * 50 + u64::from(slot.life);
        let machine = &self.plan.machines[number];
        slot.node = Some(Node::start(Time::from_us(self.now), number, machine, seed));
        self.drive(number, |node, now, disk, out| node.demand(now, disk, out));
        for other in 0..self.slots.len() {
            let life = self.slots[other].life;
            let at = self.now + self.delay();
            self.push(at, Event::To { node: other, life, input: Input::Joined });
        }
    }

    /// Adds up what a process did before it is gone.
    fn account(&mut self, node: usize) {
        let Some(node) = &self.slots[node].node else { return };
        let counts = node.leases().counts();
        self.summary.put_back += counts.put_back;
        self.summary.speculated += counts.speculated;
        self.summary.moved += counts.moved;
        self.summary.stray += counts.stray;
        self.summary.remote_runs += node.remote_runs;
        self.summary.own_runs += node.own_runs;
    }

    fn is_answered(&self) -> bool {
        self.slots.iter().all(|slot| {
            let answers = slot.node.as_ref().map_or(0, |node| node.answers.len());
            slot.dead_for_good || answers == slot.disk.demands.len()
        })
    }

    fn check_answers(&mut self) -> Result<(), String> {
        for (number, slot) in self.slots.iter().enumerate() {
            let (Some(node), Some(work)) = (&slot.node, &self.plan.machines[number].graph) else {
                continue;
            };
            for (answer, (name, wanted)) in node.answers.values().zip(&work.demands) {
                self.summary.answered += 1;
                match (answer, wanted) {
                    (Ok(value), Some(wanted)) if value == wanted => {}
                    (Err(error), None) if error.reason.contains("exit status") => {}
                    _ => return Err(format!("{name:?} came to {answer:?}, not {wanted:?}")),
                }
            }
        }
        Ok(())
    }

    fn check_rest(&mut self) -> Result<(), String> {
        for number in 0..self.slots.len() {
            self.account(number);
            let Some(node) = &self.slots[number].node else { continue };
            let (jobs, streams) = node.member.claims().load();
            let left = (jobs, streams, node.leases().load(), node.running.len());
            if left != (0, 0, (0, 0), 0) {
                return Err(format!("node {number} still holds {left:?}: {}", self.state()));
            }
        }
        Ok(())
    }

    fn state(&self) -> String {
        let describe = |(number, slot): (usize, &Slot)| match &slot.node {
            None => format!("\n  {number}: down"),
            Some(node) => format!(
                "\n  {number}: {} slots, {} of {} answers, leases {:?}, unplaced {:?}, claims {:?}, drained {}",
                node.slots,
                node.answers.len(),
                slot.disk.demands.len(),
                node.leases().load(),
                node.leases().unplaced().0.values().collect::<Vec<_>>(),
                node.member.claims().load(),
                node.drained,
            ),
        };
        let nodes: String = self.slots.iter().enumerate().map(describe).collect();
        format!("at {} us{nodes}", self.now)
    }
}
