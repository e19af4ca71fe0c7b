//! Members that were admitted and mean harm: whatever they say, in whatever order, a requester's build comes to
//! what it comes to without them, a worker serves the others, and what is kept of them is bounded.
//!
//! The machines assert their books after each event; a panic is a failure here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_protocol::limits;
use mesh_protocol::name::{Tag, ThunkName, ValueName};
use mesh_protocol::peer::{PeerId, StreamId};
use mesh_protocol::random::Random;
use mesh_protocol::sched::claim::{self, Job};
use mesh_protocol::sched::force::{FailureClass, RunId};
use mesh_protocol::sched::lease::{self, LeasePolicy};
use mesh_protocol::sched::level::Level;
use mesh_protocol::sched::member::{Effect, Input, Member, Settings, Share};
use mesh_protocol::thunk::{
    Function, Limits, Output, OutputObject, Platform, Reduction, Thunk, ThunkSpec, Usage,
};
use mesh_protocol::time::Time;
use mesh_protocol::wire::claim::{
    Capabilities, FromRequester, FromWorker, Lease, LeaseFailure, LeaseId, Open, Receipt,
    SignedReduction, Timeline, Window,
};
use mesh_protocol::wire::offer::{Offer, ResourceClass};

const SEEDS: u64 = 60;
const STEPS: u64 = 400;

const ME: Capabilities = Capabilities {
    platform: Platform::X86_64Linux,
    cores: 4,
    memory_mib: 1024,
    speed_permille: 1000,
};

fn out() -> Tag {
    "out".parse().expect("a tag")
}

fn thunk(number: u64) -> (ThunkName, Arc<Thunk>) {
    let path = |text: &str| text.parse().expect("a path");
    let thunk = Thunk::try_from(ThunkSpec {
        function: Function {
            executable: path("/f"),
            arguments: vec![number.to_string()],
            environment: BTreeMap::new(),
            working_directory: path("/"),
        },
        inputs: BTreeMap::new(),
        symlinks: BTreeMap::new(),
        directories: BTreeSet::new(),
        outputs: BTreeMap::from([(out(), Output::required(path("/out")))]),
        stdin: None,
        limits: Limits::for_platform(Platform::X86_64Linux),
    });
    let thunk = thunk.expect("within bounds");
    (thunk.encode().expect("within bounds").0, Arc::new(thunk))
}

fn object(text: &str) -> OutputObject {
    OutputObject::File { name: ValueName::of(text.as_bytes()), executable: false }
}

/// What the thunk of this name really comes to.
fn truth(name: ThunkName) -> BTreeMap<Tag, OutputObject> {
    BTreeMap::from([(out(), object(&name.to_string()))])
}

fn says(thunk: ThunkName, outputs: BTreeMap<Tag, OutputObject>) -> SignedReduction {
    let empty = ValueName::of(b"");
    let (usage, executor) = (Usage::default(), "somebody".to_owned());
    let reduction = Reduction {
        thunk,
        outputs,
        stdout: empty,
        stderr: empty,
        usage,
        executor,
        finished_at_s: 0,
    };
    SignedReduction { reduction, signature: [[0; 32]; 2], remembered: false }
}

/// Tells a member something, or that time has passed.
fn handled(member: &mut Member, now: Time, input: Option<Input>) -> Vec<Effect> {
    let mut effects = Vec::new();
    match input {
        Some(input) => member.handle(now, input, &mut effects),
        None => member.handle_timeout(now, &mut effects),
    }
    member.settle(now, &mut effects);
    effects
}

fn any_number(random: &mut Random) -> u32 {
    [0, 1, 2, 7, u32::MAX][random.below(5) as usize]
}

/// A requester among hostile workers.
struct Requester {
    member: Member,
    now: Time,
    random: Random,
    peers: u64,
    next_stream: u64,
    streams: Vec<StreamId>,
    /// Leases that are out, and those that came here.
    leased: Vec<(StreamId, LeaseId, ThunkName)>,
    own: Vec<(LeaseId, ThunkName)>,
    settling: Vec<(LeaseId, bool)>,
    wanted: BTreeMap<RunId, ThunkName>,
    is_patient: bool,
    /// Answers that were false when their bytes came, and that were true.
    settled: [u64; 2],
}

impl Requester {
    fn new(seed: u64, runs: u64) -> Self {
        let mut requester = Self {
            member: Member::new(&Settings::of(ME, seed), LeasePolicy::default(), 0),
            now: Time::ZERO,
            random: Random::new(seed),
            peers: 1 + seed % 5,
            next_stream: 0,
            streams: Vec::new(),
            leased: Vec::new(),
            own: Vec::new(),
            settling: Vec::new(),
            wanted: BTreeMap::new(),
            is_patient: seed.is_multiple_of(2),
            settled: [0; 2],
        };
        requester.tell(Input::Share(Share::of(u32::from(seed.is_multiple_of(7)))));
        requester.tell(Input::Lease(lease::Input::Others(true)));
        for number in 0..runs {
            let (name, thunk) = thunk(number);
            let run = RunId(number);
            requester.wanted.insert(run, name);
            let level = Level { thunks: 1, us: 1 };
            requester.tell(Input::Lease(lease::Input::Ready { run, name, thunk, level }));
        }
        requester
    }

    fn tell(&mut self, input: Input) {
        let effects = handled(&mut self.member, self.now, Some(input));
        self.note(effects);
    }

    fn note(&mut self, effects: Vec<Effect>) {
        let most = 16 * (limits::CLAIMANTS + self.wanted.len() + self.streams.len() + 1);
        assert!(effects.len() <= most, "{} effects of one event", effects.len());
        for effect in effects {
            match effect {
                Effect::Lease(lease::Effect::Lease { stream, lease, name, .. }) => {
                    self.leased.push((stream, lease, name));
                }
                Effect::Lease(lease::Effect::Run { lease, name, .. }) => {
                    self.own.push((lease, name))
                }
                Effect::Lease(lease::Effect::StopOwn(lease)) => {
                    self.own.retain(|(own, _)| *own != lease);
                }
                Effect::Lease(lease::Effect::Close(stream)) => {
                    self.streams.retain(|open| *open != stream);
                }
                Effect::Lease(lease::Effect::Settle(settle)) => {
                    // Whose bytes are others than it says is found out when they are fetched.
                    let is_true = settle.reduction.outputs == truth(settle.reduction.thunk);
                    self.settling.push((settle.lease, is_true));
                }
                Effect::Lease(lease::Effect::Ended(run, end)) => {
                    let name = self.wanted.remove(&run).expect("a run ends once");
                    if let Ok(outputs) = end {
                        assert_eq!(*outputs, truth(name), "a build is right");
                    }
                }
                Effect::Lease(lease::Effect::Record(_, signed)) => {
                    let Reduction { thunk, outputs, .. } = signed.reduction;
                    assert_eq!(outputs, truth(thunk), "nothing false is kept");
                }
                _ => {}
            }
        }
    }

    /// Something that a worker may say; of its own leases, or of others'.
    fn say(&mut self) {
        let random = &mut self.random;
        if self.streams.is_empty() || random.permille(100) {
            let stream = StreamId(self.next_stream);
            self.next_stream += 1;
            self.streams.push(stream);
            let peer = PeerId([random.below(self.peers) as u8; 32]);
            let window = Window { slots: any_number(random), prefetch: any_number(random) };
            let capabilities = Capabilities { cores: any_number(random), ..ME };
            let open = Open { capabilities, window, holds: BTreeSet::new() };
            return self.tell(Input::Lease(lease::Input::Opened(stream, peer, open)));
        }
        let recent = self.leased.len().saturating_sub(1 + random.below(4) as usize);
        let (stream, lease, name) = match self.leased.get(recent) {
            Some(own) if random.permille(700) => *own,
            _ => {
                let stream = self.streams[random.below(self.streams.len() as u64) as usize];
                (stream, LeaseId(random.below(40)), thunk(random.below(50)).0)
            }
        };
        let some: BTreeSet<LeaseId> = (0..random.below(9)).map(LeaseId).chain([lease]).collect();
        // Whoever does nothing but harm gets nothing soon: most work as they should, most of the time.
        let message = match random.below(if self.is_patient { 40 } else { 8 }) {
            0 => FromWorker::Window(Window {
                slots: any_number(random),
                prefetch: any_number(random),
            }),
            1 => FromWorker::Started(lease),
            2 => FromWorker::Heartbeat(some),
            3 => FromWorker::HandBack(some),
            4 => {
                let window = Window { slots: 1, prefetch: 0 };
                FromWorker::Open(Open { capabilities: ME, window, holds: BTreeSet::new() })
            }
            _ => {
                let outputs = match random.below(if self.is_patient { 12 } else { 5 }) {
                    0 => BTreeMap::new(),
                    1 => BTreeMap::from([(out(), object("false"))]),
                    2 => BTreeMap::from([
                        (out(), object("x")),
                        ("y".parse().expect("a tag"), object("y")),
                    ]),
                    _ => truth(name),
                };
                let other = thunk(99).0;
                let end = match random.below(if self.is_patient { 30 } else { 4 }) {
                    0 => Err(FailureClass::Machine),
                    1 => Ok(says(other, outputs)),
                    _ => Ok(says(name, outputs)),
                };
                let failed = |class| LeaseFailure { class, reason: "it broke".to_owned() };
                let (end, timeline) = (end.map_err(failed), Timeline::default());
                FromWorker::Receipt(Box::new(Receipt { lease, end, objects: Vec::new(), timeline }))
            }
        };
        self.tell(Input::Lease(lease::Input::Received(stream, message)));
    }

    fn settle_one(&mut self) {
        if !self.settling.is_empty() {
            let any = self.random.below(self.settling.len() as u64) as usize;
            let (lease, is_true) = self.settling.swap_remove(any);
            self.settled[usize::from(is_true)] += 1;
            let settled = if is_true { Ok(()) } else { Err("the bytes are others".to_owned()) };
            self.tell(Input::Lease(lease::Input::Settled(lease, settled)));
        }
    }

    fn run_own(&mut self) {
        if let Some((lease, name)) = self.own.pop() {
            let end = Ok(Arc::new(truth(name)));
            self.tell(Input::Lease(lease::Input::OwnEnded(lease, end)));
        }
    }

    fn pass(&mut self, us: u64) {
        self.now = self.now + us;
        let effects = handled(&mut self.member, self.now, None);
        self.note(effects);
    }

    fn check_bounds(&self) {
        let leases = self.member.leases().expect("it gives work");
        let (granted, works) = leases.load();
        assert!(works == self.wanted.len() && granted <= 2 * works, "{granted} {works}");
        assert!(leases.claimants().count() as u64 <= self.peers, "one claimant for each peer");
        assert!(leases.scores().iter().count() as u64 <= self.peers + 1);
    }
}

#[test]
fn a_build_is_right_whatever_workers_say() {
    let mut settled = [0; 2];
    for seed in 0..SEEDS {
        let mut requester = Requester::new(seed, 100);
        for _ in 0..STEPS {
            match requester.random.below(10) {
                0..6 => requester.say(),
                6 => requester.settle_one(),
                7 => {
                    let closed = requester.streams.pop();
                    let closed = closed.map(|stream| Input::Lease(lease::Input::Closed(stream)));
                    closed.into_iter().for_each(|input| requester.tell(input));
                }
                8 => requester.run_own(),
                _ => {
                    let us = requester.random.below(limits::SILENCE_US / 4);
                    requester.pass(us);
                }
            }
            requester.check_bounds();
        }
        settled = [0, 1].map(|at| settled[at] + requester.settled[at]);
        // They have gone, and this machine does what is left.
        requester.tell(Input::Share(Share::of(4)));
        for _ in 0..400 {
            requester.pass(limits::SILENCE_US / 2);
            requester.settle_one();
            requester.run_own();
        }
        assert_eq!(requester.wanted, BTreeMap::new(), "seed {seed}");
    }
    assert!(settled[0] > 30 && settled[1] > 200, "{settled:?}");
}

/// A worker among hostile requesters, and one that is not.
struct Worker {
    member: Member,
    now: Time,
    random: Random,
    number: u64,
    streams: BTreeMap<StreamId, PeerId>,
    fetching: BTreeSet<Job>,
    running: BTreeSet<Job>,
    ran: BTreeMap<PeerId, u64>,
}

const HONEST: PeerId = PeerId([99; 32]);

impl Worker {
    fn new(seed: u64) -> Self {
        let mut worker = Self {
            member: Member::worker(&Settings::of(ME, seed)),
            now: Time::ZERO,
            random: Random::new(seed),
            number: 0,
            streams: BTreeMap::new(),
            fetching: BTreeSet::new(),
            running: BTreeSet::new(),
            ran: BTreeMap::new(),
        };
        worker.tell(Input::Share(Share::of(4)));
        worker
    }

    fn tell(&mut self, input: Input) {
        let effects = handled(&mut self.member, self.now, Some(input));
        self.note(effects);
    }

    fn note(&mut self, effects: Vec<Effect>) {
        let most = 8 * (self.fetching.len() + self.running.len() + self.streams.len() + 8);
        assert!(effects.len() <= most, "{} effects of one event", effects.len());
        for effect in effects {
            let Effect::Claim(effect) = effect else { continue };
            match effect {
                claim::Effect::Open(stream, peer, _) => drop(self.streams.insert(stream, peer)),
                claim::Effect::Close(stream) => drop(self.streams.remove(&stream)),
                claim::Effect::Fetch(job, _) => drop(self.fetching.insert(job)),
                claim::Effect::Run { job, .. } => {
                    self.running.insert(job);
                    let peer = self.streams[&job.stream];
                    *self.ran.entry(peer).or_default() += 1;
                }
                claim::Effect::Stop(job) => {
                    self.fetching.remove(&job);
                    self.running.remove(&job);
                }
                claim::Effect::Send(..) | claim::Effect::Prepare(..) | claim::Effect::Drained => {}
            }
        }
    }

    fn offer(&mut self, peer: PeerId, count: u32) {
        self.number += 1;
        let class = ResourceClass::of(&thunk(0).1.spec().limits);
        let (ready, trees) = (BTreeMap::from([(class, count)]), BTreeSet::new());
        let offer = Offer { number: self.number, ready, trees };
        self.tell(Input::Claim(claim::Input::Offer(peer, offer)));
    }

    fn lease(&mut self, stream: StreamId, lease: u64) {
        let (lease, thunk) = (LeaseId(lease), thunk(lease % 7).0);
        let (sources, objects) = (Vec::new(), Vec::new());
        let lease = Lease { lease, thunk, bytes: None, sources, objects };
        let message = FromRequester::Lease(lease);
        self.tell(Input::Claim(claim::Input::Received(stream, message)));
    }

    /// Something that a requester may say.
    fn say(&mut self) {
        let hostile: Vec<StreamId> = self
            .streams
            .iter()
            .filter(|(_, peer)| **peer != HONEST)
            .map(|(stream, _)| *stream)
            .collect();
        let random = &mut self.random;
        let peer = PeerId([random.below(6) as u8; 32]);
        if hostile.is_empty() || random.permille(200) {
            let count = any_number(random);
            return self.offer(peer, count);
        }
        let stream = hostile[random.below(hostile.len() as u64) as usize];
        let some: BTreeSet<LeaseId> = (0..random.below(50)).map(LeaseId).collect();
        let message = match random.below(6) {
            0 => FromRequester::Alive,
            1 => FromRequester::Dry,
            2 if random.permille(200) => FromRequester::Refuse(any_number(random)),
            3 => FromRequester::Cancel(some),
            _ => {
                let (first, count) = (random.below(60), 1 + random.below(30));
                return (first..first + count).for_each(|number| self.lease(stream, number));
            }
        };
        self.tell(Input::Claim(claim::Input::Received(stream, message)));
    }

    /// One lease of the requester that means well, if it was claimed.
    fn serve_honest(&mut self) {
        let stream = self.streams.iter().find(|(_, peer)| **peer == HONEST).map(|(id, _)| *id);
        match stream {
            Some(stream) => {
                self.number += 1;
                self.lease(stream, 1_000 + self.number);
            }
            None => self.offer(HONEST, 100),
        }
    }

    fn go_on(&mut self) {
        if let Some(job) = self.fetching.pop_first() {
            let fetched = match self.random.permille(200) {
                true => Err("it is nowhere".to_owned()),
                false => Ok(thunk(job.lease.0 % 7).1),
            };
            self.tell(Input::Claim(claim::Input::Fetched(job, fetched)));
        }
        if let Some(job) = self.running.pop_first() {
            let name = thunk(job.lease.0 % 7).0;
            let end = Ok(says(name, truth(name)));
            self.tell(Input::Claim(claim::Input::Ended(job, end, Vec::new())));
        }
    }

    fn pass(&mut self, us: u64) {
        self.now = self.now + us;
        let effects = handled(&mut self.member, self.now, None);
        self.note(effects);
    }
}

#[test]
fn a_worker_serves_others_whatever_requesters_say() {
    for seed in 0..SEEDS / 4 {
        let mut worker = Worker::new(seed);
        for _ in 0..STEPS {
            match worker.random.below(8) {
                0..3 => worker.say(),
                3 => worker.serve_honest(),
                4 | 5 => worker.go_on(),
                6 if worker.random.permille(100) => {
                    let closed = worker.streams.pop_first().map(|(stream, _)| stream);
                    let closed = closed.map(|stream| Input::Claim(claim::Input::Closed(stream)));
                    closed.into_iter().for_each(|input| worker.tell(input));
                }
                _ => {
                    let us = worker.random.below(limits::HEARTBEAT_US);
                    worker.pass(us);
                }
            }
            let (jobs, streams) = worker.member.claims().load();
            assert!(jobs <= limits::CLAIM_LEASES && streams <= 7, "{jobs} {streams}");
        }
        let before = worker.ran.get(&HONEST).copied().unwrap_or(0);
        // The others go on as they were.
        for _ in 0..STEPS {
            worker.say();
            worker.serve_honest();
            worker.go_on();
            worker.pass(limits::HEARTBEAT_US / 4);
        }
        let after = worker.ran.get(&HONEST).copied().unwrap_or(0);
        assert!(after > before + 10, "seed {seed}: {before} {after} of {:?}", worker.ran);
    }
}
