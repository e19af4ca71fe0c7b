//! One node: all its machines, and what carries out their effects.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use mesh_protocol::graph::Outputs;
use mesh_protocol::limits;
use mesh_protocol::name::{OutputRef, ThunkName, ValueName};
use mesh_protocol::peer::{PeerId, StreamId};
use mesh_protocol::random::Random;
use mesh_protocol::sched::claim::{self, Job};
use mesh_protocol::sched::force::{
    self, DemandId, Failure, FailureClass, Force, ForceError, ForcePolicy, RunId,
};
use mesh_protocol::sched::lease::{self, LeasePolicy, Leases, Settle};
use mesh_protocol::sched::member::{self, Member, Settings, Share};
use mesh_protocol::sched::policy::{BLevel, CriticalPath, Fifo, Lifo, Placement, Shuffled};
use mesh_protocol::sched::speculation::{Speculation, SpeculationName};
use mesh_protocol::thunk::{OutputObject, Platform, Reduction, Thunk, Usage};
use mesh_protocol::time::Time;
use mesh_protocol::wire::claim::{
    Capabilities, FromRequester, FromWorker, Lease, LeaseId, Open, SignedReduction,
};
use mesh_protocol::wire::offer::Offer;

use crate::plan::{Machine, evaluate, out, took_us};

/// What reaches a node.
#[derive(Debug)]
pub(crate) enum Input {
    Gossip(PeerId, Offer),
    Joined,
    Opened(StreamId, PeerId, Open),
    FromWorker(StreamId, FromWorker),
    FromRequester(StreamId, FromRequester),
    /// Of a stream that others opened to it.
    ServedClosed(StreamId),
    /// Of a stream that it opened.
    ClaimClosed(StreamId),
    Fetched(Job, Result<Arc<Thunk>, String>),
    Settled(LeaseId, Result<(), String>),
    Ran(Run),
    Slots(u32),
    Drain,
    Timer,
}

/// What a node wants of the world.
pub(crate) enum Output {
    Publish(Offer),
    Open(StreamId, PeerId, Open),
    ToRequester(StreamId, FromWorker),
    ToWorker(StreamId, FromRequester),
    CloseClaim(StreamId),
    CloseServed(StreamId),
    /// Give this back after so long.
    After(u64, Input),
}

/// A program that runs on a machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Run {
    Own(LeaseId),
    Job(Job),
}

pub(crate) struct Node {
    pub(crate) peer: PeerId,
    pub(crate) slots: u32,
    slowness_permille: u64,
    broken_permille: u64,
    unsettled_permille: u64,
    random: Random,
    force: Force,
    pub(crate) member: Member,
    settling: BTreeSet<LeaseId>,
    trees: BTreeSet<ValueName>,
    /// Programs that really run, and what they will come to.
    pub(crate) running: BTreeMap<Run, (ThunkName, Arc<Thunk>, u32)>,
    prepared: BTreeSet<Job>,
    pub(crate) answers: BTreeMap<DemandId, Result<OutputObject, ForceError>>,
    ended: BTreeSet<RunId>,
    recorded: BTreeSet<ThunkName>,
    pub(crate) remote_runs: u64,
    pub(crate) own_runs: u64,
    pub(crate) drained: bool,
}

/// What survives a crash.
#[derive(Default)]
pub(crate) struct Disk {
    pub(crate) thunks: BTreeMap<ThunkName, (Arc<Thunk>, Vec<u8>)>,
    pub(crate) memo: BTreeMap<ThunkName, Outputs>,
    pub(crate) demands: Vec<ThunkName>,
}

pub(crate) fn peer(node: usize) -> PeerId {
    PeerId([node as u8; 32])
}

fn placement(seed: u64) -> Box<dyn Placement> {
    match seed % 5 {
        0 => Box::new(Fifo),
        1 => Box::new(Lifo),
        2 => Box::new(Shuffled::new(seed)),
        3 => Box::new(BLevel),
        _ => Box::new(CriticalPath),
    }
}

/// Independent of the placement: 5 and 7 have no divisor in common.
fn speculation(seed: u64) -> Box<dyn Speculation> {
    let name = match seed % 7 {
        0 => SpeculationName::None,
        1 | 2 => SpeculationName::Late,
        3 | 4 => SpeculationName::Clone,
        _ => SpeculationName::Ours,
    };
    name.make()
}

impl Node {
    pub(crate) fn start(now: Time, number: usize, machine: &Machine, seed: u64) -> Self {
        let me = Capabilities {
            platform: Platform::X86_64Linux,
            cores: machine.slots.max(4),
            memory_mib: machine.memory_mib,
            speed_permille: 1000,
        };
        let policy = ForcePolicy { machine_attempts: 3, program_attempts: 2, keep_going: true };
        let leases = LeasePolicy { placement: placement(seed), speculation: speculation(seed) };
        Self {
            peer: peer(number),
            slots: machine.slots,
            slowness_permille: machine.slowness_permille,
            broken_permille: machine.broken_permille,
            unsettled_permille: machine.unsettled_permille,
            random: Random::new(seed),
            force: Force::new(policy),
            member: Member::new(&Settings::of(me, seed), leases, now.us()),
            settling: BTreeSet::new(),
            trees: BTreeSet::new(),
            running: BTreeMap::new(),
            prepared: BTreeSet::new(),
            answers: BTreeMap::new(),
            ended: BTreeSet::new(),
            recorded: BTreeSet::new(),
            remote_runs: 0,
            own_runs: 0,
            drained: false,
        }
    }

    /// Its own work.
    pub(crate) fn leases(&self) -> &Leases {
        self.member.leases().expect("every node of the cluster has some")
    }

    pub(crate) fn demand(&mut self, now: Time, disk: &mut Disk, world: &mut Vec<Output>) {
        self.tell(now, member::Input::Share(Share::of(self.slots)), disk, world);
        self.lease(now, lease::Input::Others(true), disk, world);
        self.force_input(now, force::Input::Slots(limits::LEASE_POOL_CORES), disk, world);
        for (i, thunk) in disk.demands.clone().into_iter().enumerate() {
            let output = OutputRef { thunk, tag: out() };
            self.force_input(now, force::Input::Demand(DemandId(i as u64), output), disk, world);
        }
        self.settle(now, disk, world);
    }

    pub(crate) fn handle(
        &mut self,
        now: Time,
        input: Input,
        disk: &mut Disk,
        world: &mut Vec<Output>,
    ) {
        match input {
            Input::Gossip(peer, offer) => {
                self.claim(now, claim::Input::Offer(peer, offer), disk, world);
            }
            Input::Joined => self.tell(now, member::Input::Joined, disk, world),
            Input::Opened(stream, peer, open) => {
                self.lease(now, lease::Input::Opened(stream, peer, open), disk, world);
            }
            Input::FromWorker(stream, message) => {
                self.lease(now, lease::Input::Received(stream, message), disk, world);
            }
            Input::FromRequester(stream, message) => {
                self.claim(now, claim::Input::Received(stream, message), disk, world);
            }
            Input::ServedClosed(stream) => {
                self.lease(now, lease::Input::Closed(stream), disk, world);
            }
            Input::ClaimClosed(stream) => {
                self.claim(now, claim::Input::Closed(stream), disk, world);
            }
            Input::Fetched(job, thunk) => {
                self.claim(now, claim::Input::Fetched(job, thunk), disk, world);
            }
            Input::Settled(lease, settled) => {
                self.settling.remove(&lease);
                self.lease(now, lease::Input::Settled(lease, settled), disk, world);
            }
            Input::Ran(run) => self.ran(now, run, disk, world),
            Input::Slots(slots) => {
                self.slots = slots;
                self.tell(now, member::Input::Share(Share::of(slots)), disk, world);
            }
            Input::Drain => self.claim(now, claim::Input::Drain, disk, world),
            Input::Timer => {
                let mut effects = Vec::new();
                self.member.handle_timeout(now, &mut effects);
                self.effects(now, effects, disk, world);
            }
        }
        self.settle(now, disk, world);
    }

    fn settle(&mut self, now: Time, disk: &mut Disk, world: &mut Vec<Output>) {
        let mut effects = Vec::new();
        self.member.settle(now, &mut effects);
        self.effects(now, effects, disk, world);
    }

    fn tell(&mut self, now: Time, input: member::Input, disk: &mut Disk, world: &mut Vec<Output>) {
        let mut effects = Vec::new();
        self.member.handle(now, input, &mut effects);
        self.effects(now, effects, disk, world);
    }

    fn lease(&mut self, now: Time, input: lease::Input, disk: &mut Disk, world: &mut Vec<Output>) {
        self.tell(now, member::Input::Lease(input), disk, world);
    }

    fn claim(&mut self, now: Time, input: claim::Input, disk: &mut Disk, world: &mut Vec<Output>) {
        self.tell(now, member::Input::Claim(input), disk, world);
    }

    fn effects(
        &mut self,
        now: Time,
        effects: Vec<member::Effect>,
        disk: &mut Disk,
        world: &mut Vec<Output>,
    ) {
        for effect in effects {
            match effect {
                member::Effect::Lease(effect) => self.lease_effect(now, effect, disk, world),
                member::Effect::Claim(effect) => self.claim_effect(effect, world),
                member::Effect::Publish(offer) => world.push(Output::Publish(offer)),
            }
        }
    }

    fn force_input(
        &mut self,
        now: Time,
        input: force::Input,
        disk: &mut Disk,
        world: &mut Vec<Output>,
    ) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut effects = Vec::new();
            self.force.handle(input, &mut effects);
            for effect in effects {
                match effect {
                    force::Effect::Recall(name) => {
                        let known = disk.memo.get(&name).cloned();
                        inputs.push_back(force::Input::Recalled(name, known));
                    }
                    force::Effect::Fetch(name) => {
                        let (thunk, _) = &disk.thunks[&name];
                        inputs.push_back(force::Input::Thunk(name, thunk.clone()));
                    }
                    force::Effect::Start { lease: run, name, thunk, level, .. } => {
                        let ready = lease::Input::Ready { run, name, thunk, level };
                        self.lease(now, ready, disk, world);
                    }
                    force::Effect::Levels(levels) => {
                        self.lease(now, lease::Input::Levels(levels), disk, world);
                    }
                    force::Effect::Stop(run) => {
                        self.lease(now, lease::Input::Stop(run), disk, world);
                    }
                    force::Effect::Alias { thunk, same_as } => {
                        let outputs = disk.memo[&same_as].clone();
                        disk.memo.insert(thunk, outputs);
                    }
                    force::Effect::Answer(demand, answer) => {
                        let first = self.answers.insert(demand, answer).is_none();
                        assert!(first, "a demand is answered once");
                    }
                    force::Effect::Event(_) => {}
                }
            }
        }
    }

    fn lease_effect(
        &mut self,
        now: Time,
        effect: lease::Effect,
        disk: &mut Disk,
        world: &mut Vec<Output>,
    ) {
        match effect {
            lease::Effect::Lease { stream, lease, name, thunk } => {
                let (_, bytes) = thunk.encode().expect("it was encoded before");
                let (sources, objects) = (Vec::new(), Vec::new());
                let lease = Lease { lease, thunk: name, bytes: Some(bytes), sources, objects };
                world.push(Output::ToWorker(stream, FromRequester::Lease(lease)));
            }
            lease::Effect::Send(stream, message) => {
                world.push(Output::ToWorker(stream, message));
            }
            lease::Effect::Close(stream) => world.push(Output::CloseServed(stream)),
            lease::Effect::Run { lease, name, thunk, cores } => {
                self.own_runs += 1;
                self.run(Run::Own(lease), (name, thunk, cores), world);
            }
            lease::Effect::StopOwn(lease) => {
                self.running.remove(&Run::Own(lease));
            }
            lease::Effect::Record(_, signed) => {
                let Reduction { thunk, outputs, .. } = signed.reduction;
                assert!(self.recorded.insert(thunk), "a thunk is reduced once");
                disk.memo.insert(thunk, Arc::new(outputs));
                // Whoever ran it may say anything.
                let says = self.random.bits();
                self.force_input(now, force::Input::Took(thunk, says), disk, world);
            }
            lease::Effect::Ended(run, end) => {
                assert!(self.ended.insert(run), "a run is answered once");
                self.force_input(now, force::Input::Ended(run, end), disk, world);
            }
            lease::Effect::Settle(settle) => self.bring(&settle, world),
            lease::Effect::Event(_) => {}
        }
    }

    /// Fetches what a worker says came of a lease, from whoever has it.
    fn bring(&mut self, settle: &Settle, world: &mut Vec<Output>) {
        let lease = settle.lease;
        assert!(self.settling.insert(lease), "a lease settles once");
        // Some take longer than whoever ran it is waited for, and some of those in vain.
        let is_slow = self.random.permille(self.unsettled_permille);
        let took = self.random.below(if is_slow { 3 * limits::SILENCE_US } else { 2_000 });
        let settled = match is_slow && self.random.permille(300) {
            true => Err("an output is on nobody's disk".to_owned()),
            false => Ok(()),
        };
        world.push(Output::After(took, Input::Settled(lease, settled)));
    }

    fn claim_effect(&mut self, effect: claim::Effect, world: &mut Vec<Output>) {
        match effect {
            claim::Effect::Open(stream, peer, open) => {
                world.push(Output::Open(stream, peer, open));
            }
            claim::Effect::Send(stream, message) => {
                world.push(Output::ToRequester(stream, message));
            }
            claim::Effect::Close(stream) => world.push(Output::CloseClaim(stream)),
            claim::Effect::Fetch(job, lease) => {
                let bytes = lease.bytes.expect("the simulated requester sends them");
                let thunk = Thunk::decode(&bytes).expect("canonical");
                let is_new = thunk.values().into_iter().any(|name| self.trees.insert(name));
                let took = self.random.below(if is_new { 400_000 } else { 2_000 });
                let fetched = match self.random.permille(self.broken_permille / 10) {
                    true => Err("an input is on nobody's disk".to_owned()),
                    false => Ok(Arc::new(thunk)),
                };
                world.push(Output::After(took, Input::Fetched(job, fetched)));
            }
            claim::Effect::Prepare(job, ..) => {
                assert!(self.prepared.insert(job), "a lease is prepared once");
                assert!(!self.running.contains_key(&Run::Job(job)), "and before it runs");
            }
            claim::Effect::Run { job, name, thunk, cores } => {
                self.prepared.remove(&job);
                self.remote_runs += 1;
                self.run(Run::Job(job), (name, thunk, cores), world);
            }
            claim::Effect::Stop(job) => {
                self.prepared.remove(&job);
                self.running.remove(&Run::Job(job));
            }
            claim::Effect::Drained => {
                assert!(self.prepared.is_empty(), "what is prepared runs or is stopped");
                self.drained = true;
            }
        }
    }

    fn run(&mut self, run: Run, what: (ThunkName, Arc<Thunk>, u32), world: &mut Vec<Output>) {
        let took = took_us(&what.1) * self.slowness_permille / 1000;
        assert!(self.running.insert(run, what).is_none(), "a lease runs once");
        let busy: u32 = self.running.values().map(|(_, _, cores)| cores).sum();
        assert!(busy <= self.slots, "{busy} cores are busy on {} slots", self.slots);
        world.push(Output::After(took, Input::Ran(run)));
    }

    fn ran(&mut self, now: Time, run: Run, disk: &mut Disk, world: &mut Vec<Output>) {
        let Some((name, thunk, _)) = self.running.remove(&run) else { return };
        let failure = |class, reason: &str| Failure { class, reason: reason.into() };
        let end = match evaluate(&thunk) {
            _ if self.random.permille(self.broken_permille) => {
                Err(failure(FailureClass::Machine, "the disk is full"))
            }
            Some(object) => Ok(BTreeMap::from([(out(), object)])),
            None => Err(failure(FailureClass::Program, "exit status 1")),
        };
        match run {
            Run::Own(lease) => {
                if let Ok(outputs) = &end {
                    disk.memo.insert(name, Arc::new(outputs.clone()));
                }
                let end = lease::Input::OwnEnded(lease, end.map(Arc::new));
                self.lease(now, end, disk, world);
            }
            Run::Job(job) => {
                let end = end.map(|outputs| SignedReduction {
                    reduction: Reduction {
                        thunk: name,
                        outputs,
                        stdout: ValueName::of(b""),
                        stderr: ValueName::of(b""),
                        usage: Usage::default(),
                        executor: format!("{:?}", self.peer),
                        finished_at_s: now.us(),
                    },
                    signature: [[0; 32]; 2],
                    remembered: false,
                });
                self.claim(now, claim::Input::Ended(job, end, Vec::new()), disk, world);
            }
        }
    }
}
