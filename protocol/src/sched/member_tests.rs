use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::*;
use crate::name::ThunkName;
use crate::peer::{PeerId, StreamId};
use crate::random::Random;
use crate::sched::force::{Failure, FailureClass, RunId};
use crate::sched::level::Level;
use crate::thunk::{Function, Limits, Output, Platform, Thunk, ThunkSpec};
use crate::wire::claim::{FromRequester, Lease, LeaseId};

const ME: Capabilities = Capabilities {
    platform: Platform::X86_64Linux,
    cores: 8,
    memory_mib: 1024,
    speed_permille: 1000,
};

const OTHER: PeerId = PeerId([1; 32]);

/// A member, what it runs for itself and for others, and what it was asked.
struct Bench {
    member: Member,
    now: Time,
    share: Share,
    next: u64,
    own: BTreeSet<LeaseId>,
    jobs: BTreeSet<claim::Job>,
    streams: BTreeSet<StreamId>,
    fetching: BTreeMap<claim::Job, Arc<Thunk>>,
}

fn thunk(number: u64, cpus: u16) -> (ThunkName, Arc<Thunk>) {
    let path = |text: &str| text.parse().unwrap();
    let spec = ThunkSpec {
        function: Function {
            executable: path("/f"),
            arguments: vec![number.to_string()],
            environment: BTreeMap::new(),
            working_directory: path("/"),
        },
        inputs: BTreeMap::new(),
        symlinks: BTreeMap::new(),
        directories: BTreeSet::new(),
        outputs: BTreeMap::from([("out".parse().unwrap(), Output::required(path("/out")))]),
        stdin: None,
        limits: Limits { cpus, ..Limits::for_platform(Platform::X86_64Linux) },
    };
    let thunk = Thunk::try_from(spec).unwrap();
    (thunk.encode().unwrap().0, Arc::new(thunk))
}

impl Bench {
    fn new(share: Share) -> Self {
        let member = Member::new(&Settings::of(ME, 1), LeasePolicy::default(), 0);
        let mut bench = Self {
            member,
            now: Time::ZERO,
            share,
            next: 0,
            own: BTreeSet::new(),
            jobs: BTreeSet::new(),
            streams: BTreeSet::new(),
            fetching: BTreeMap::new(),
        };
        bench.tell(Input::Share(share));
        bench
    }

    fn tell(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.member.handle(self.now, input, &mut effects);
        self.member.settle(self.now, &mut effects);
        self.note(effects);
    }

    fn note(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Lease(lease::Effect::Run { lease, .. }) => drop(self.own.insert(lease)),
                Effect::Lease(lease::Effect::StopOwn(lease)) => drop(self.own.remove(&lease)),
                Effect::Claim(claim::Effect::Open(stream, ..)) => {
                    self.streams.insert(stream);
                }
                Effect::Claim(claim::Effect::Close(stream)) => {
                    self.streams.remove(&stream);
                }
                Effect::Claim(claim::Effect::Fetch(job, lease)) => {
                    let number = lease.lease.0;
                    self.fetching.insert(job, thunk(number, 1 + (number % 3) as u16).1);
                }
                Effect::Claim(claim::Effect::Run { job, .. }) => drop(self.jobs.insert(job)),
                Effect::Claim(claim::Effect::Stop(job)) => {
                    self.jobs.remove(&job);
                    self.fetching.remove(&job);
                }
                _ => {}
            }
        }
    }

    fn ready(&mut self, cpus: u16) {
        self.next += 1;
        let (name, thunk) = thunk(self.next, cpus);
        let (run, level) = (RunId(self.next), Level { thunks: 1, us: 1 });
        self.tell(Input::Lease(lease::Input::Ready { run, name, thunk, level }));
    }

    fn offered(&mut self) {
        self.next += 1;
        let class = ResourceClass::of(&thunk(0, 1).1.spec().limits);
        let ready = BTreeMap::from([(class, 9)]);
        let offer = Offer { number: self.next, ready, trees: BTreeSet::new() };
        self.tell(Input::Claim(claim::Input::Offer(OTHER, offer)));
    }

    fn leased(&mut self, stream: StreamId) {
        self.next += 1;
        let (lease, (thunk, _)) = (LeaseId(self.next), thunk(self.next, 1));
        let (sources, objects) = (Vec::new(), Vec::new());
        let lease = Lease { lease, thunk, bytes: None, sources, objects };
        let message = FromRequester::Lease(lease);
        self.tell(Input::Claim(claim::Input::Received(stream, message)));
    }

    fn fetched(&mut self) {
        if let Some((job, thunk)) = self.fetching.pop_first() {
            self.tell(Input::Claim(claim::Input::Fetched(job, Ok(thunk))));
        }
    }

    fn end_own(&mut self) {
        if let Some(lease) = self.own.pop_first() {
            let end = Ok(Arc::default());
            self.tell(Input::Lease(lease::Input::OwnEnded(lease, end)));
        }
    }

    fn end_job(&mut self) {
        if let Some(job) = self.jobs.pop_first() {
            let failure = Failure { class: FailureClass::Program, reason: "it fails".into() };
            let end = claim::Input::Ended(job, Err(failure), Vec::new());
            self.tell(Input::Claim(end));
        }
    }

    fn pass(&mut self, us: u64) {
        self.now = self.now + us;
        let mut effects = Vec::new();
        self.member.handle_timeout(self.now, &mut effects);
        self.member.settle(self.now, &mut effects);
        self.note(effects);
    }
}

/// The machine asserts what holds of cores after each event; here it is brought about.
#[test]
fn slots_are_shared_whatever_happens() {
    let (mut both, mut most) = (0, (0, 0));
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let mut bench = Bench::new(Share::of(4));
        for _ in 0..300 {
            match random.below(9) {
                0 | 1 => bench.ready(1 + random.below(3) as u16),
                2 => bench.offered(),
                3 | 4 => {
                    let streams: Vec<StreamId> = bench.streams.iter().copied().collect();
                    if let Some(stream) = streams.first() {
                        bench.leased(*stream);
                    }
                }
                5 => bench.fetched(),
                6 if random.permille(500) => bench.end_own(),
                6 => bench.end_job(),
                7 if random.permille(200) => {
                    let [slots, given, own] = [(); 3].map(|()| random.below(6) as u32);
                    bench.share = Share { slots, given, own };
                    bench.tell(Input::Share(bench.share));
                }
                _ => bench.pass(random.below(limits::CLAIM_SPREAD_US)),
            }
            let (own, others) = bench.member.busy();
            both += u32::from(own > 0 && others > 0);
            most = (most.0.max(own), most.1.max(others));
        }
    }
    assert!(both > 200 && most.0 >= 4 && most.1 >= 4, "{both} {most:?}");
}

#[test]
fn its_own_work_goes_first_and_what_is_kept_back_is_given_to_nobody() {
    let mut bench = Bench::new(Share { slots: 4, given: 2, own: 3 });
    for _ in 0..6 {
        bench.ready(1);
    }
    assert_eq!(bench.member.busy(), (3, 0));
    bench.tell(Input::Share(Share::of(0)));
    assert_eq!(bench.member.busy(), (3, 0), "what runs runs on");
    bench.end_own();
    assert_eq!(bench.member.busy(), (2, 0), "and nothing follows");
}

#[test]
fn one_that_has_no_work_of_its_own_asks_for_none() {
    let mut bench = Bench::new(Share::of(4));
    bench.member = Member::worker(&Settings::of(ME, 1));
    bench.tell(Input::Share(Share::of(4)));
    bench.ready(1);
    bench.offered();
    bench.pass(limits::CLAIM_SPREAD_US);
    assert_eq!((bench.member.busy(), bench.streams.len()), ((0, 0), 1));
}
