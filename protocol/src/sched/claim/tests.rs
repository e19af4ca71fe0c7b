//! The claim machine, one situation at a time. Everything at once is in `tests/cluster`.

use std::collections::VecDeque;

use super::*;
use crate::name::Tag;
use crate::path::AbsPath;
use crate::thunk::{
    Function, Input as ThunkInput, Limits, Output, OutputObject, Platform, Reduction, ThunkSpec,
    Usage,
};
use crate::wire::claim::Timeline;
use crate::wire::offer::ResourceClass;

const MACHINE: Capabilities = Capabilities {
    platform: Platform::X86_64Linux,
    cores: 8,
    memory_mib: 1024,
    speed_permille: 1000,
};

fn thunk(cpus: u16) -> Arc<Thunk> {
    let path = |text: &str| text.parse::<AbsPath>().unwrap();
    let value = ValueName::of(b"input");
    let spec = ThunkSpec {
        function: Function {
            executable: path("/f"),
            arguments: vec!["f".to_owned()],
            environment: BTreeMap::new(),
            working_directory: AbsPath::root(),
        },
        inputs: BTreeMap::from([(path("/in"), ThunkInput::file(value))]),
        symlinks: BTreeMap::new(),
        directories: BTreeSet::new(),
        outputs: BTreeMap::from([("out".parse::<Tag>().unwrap(), Output::required(path("/out")))]),
        stdin: None,
        limits: Limits { cpus, ..Limits::for_platform(Platform::X86_64Linux) },
    };
    Arc::new(Thunk::try_from(spec).unwrap())
}

fn peer(number: u8) -> PeerId {
    PeerId([number; 32])
}

fn reduced() -> SignedReduction {
    let value = ValueName::of(b"made");
    let object = OutputObject::File { name: value, executable: false };
    SignedReduction {
        reduction: Reduction {
            thunk: ThunkName::of(b"thunk"),
            outputs: BTreeMap::from([("out".parse().unwrap(), object)]),
            stdout: value,
            stderr: value,
            usage: Usage::default(),
            executor: "somebody".to_owned(),
            finished_at_s: 0,
        },
        signature: [[0; 32]; 2],
        remembered: false,
    }
}

struct Bench {
    claims: Claims,
    now: Time,
    effects: Vec<Effect>,
    offers: u64,
    leases: u64,
}

impl Bench {
    fn new(slots: u32) -> Self {
        let claims = Claims::new(MACHINE, 7);
        let mut bench = Self { claims, now: Time::ZERO, effects: vec![], offers: 0, leases: 0 };
        bench.tell(Input::Slots(slots));
        bench
    }

    fn tell(&mut self, input: Input) -> &mut Self {
        self.claims.handle(self.now, input, &mut self.effects);
        self
    }

    fn hear(&mut self, stream: u64, message: FromRequester) -> &mut Self {
        self.tell(Input::Received(StreamId(stream), message))
    }

    fn offer(&mut self, from: u8) -> &mut Self {
        let class =
            ResourceClass { platform: Platform::X86_64Linux, cores: 1, memory_mib_log2: None };
        self.offers += 1;
        let ready = BTreeMap::from([(class, 100)]);
        let offer = Offer { number: self.offers, ready, trees: BTreeSet::new() };
        self.tell(Input::Offer(peer(from), offer))
    }

    /// Leases one to us on that stream.
    fn lease(&mut self, stream: u64) -> Job {
        self.leases += 1;
        let lease = LeaseId(self.leases);
        let (sources, objects) = (Vec::new(), Vec::new());
        let thunk = ThunkName::of(b"thunk");
        self.hear(
            stream,
            FromRequester::Lease(Lease { lease, thunk, bytes: None, sources, objects }),
        );
        Job { stream: StreamId(stream), lease }
    }

    fn fetch(&mut self, job: Job, cpus: u16) -> &mut Self {
        self.tell(Input::Fetched(job, Ok(thunk(cpus))))
    }

    fn pass(&mut self, us: u64) -> &mut Self {
        let end = self.now + us;
        while let Some(due) = self.claims.next_deadline().filter(|due| *due <= end) {
            self.now = due;
            self.claims.handle_timeout(due, &mut self.effects);
            assert!(self.claims.next_deadline().is_none_or(|next| next > due), "it is done");
        }
        self.now = end;
        self
    }

    fn take(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    fn opened(&mut self) -> Vec<(StreamId, PeerId)> {
        let opened = self.take().into_iter().filter_map(|effect| match effect {
            Effect::Open(stream, peer, _) => Some((stream, peer)),
            _ => None,
        });
        opened.collect()
    }

    fn runs(&mut self) -> Vec<(Job, u32)> {
        let runs = self.take().into_iter().filter_map(|effect| match effect {
            Effect::Run { job, cores, .. } => Some((job, cores)),
            _ => None,
        });
        runs.collect()
    }

    fn windows(&mut self) -> Vec<(u64, u32)> {
        let windows = self.take().into_iter().filter_map(|effect| match effect {
            Effect::Send(stream, FromWorker::Window(window)) => Some((stream.0, window.slots)),
            _ => None,
        });
        windows.collect()
    }
}

#[test]
fn an_offer_leads_to_a_claim_a_run_and_a_receipt() {
    let mut bench = Bench::new(2);
    bench.offer(1).pass(limits::CLAIM_SPREAD_US);
    assert_eq!(bench.opened(), [(StreamId(0), peer(1))]);
    let job = bench.lease(0);
    assert!(matches!(bench.take()[..], [Effect::Fetch(fetched, _)] if fetched == job));
    bench.pass(20).fetch(job, 1);
    let started = Effect::Send(StreamId(0), FromWorker::Started(job.lease));
    assert!(bench.effects.contains(&started));
    assert_eq!(bench.runs(), [(job, 1)]);
    bench.pass(300);
    bench.tell(Input::Ended(job, Ok(reduced()), vec![]));
    bench.tell(Input::Ended(job, Ok(reduced()), vec![]));
    let receipts = bench.take().into_iter().filter_map(|effect| match effect {
        Effect::Send(_, FromWorker::Receipt(receipt)) if receipt.end.is_ok() => {
            Some(receipt.timeline)
        }
        _ => None,
    });
    let came_us = limits::CLAIM_SPREAD_US;
    let timeline = Timeline { came_us, fetched_us: 20, started_us: 20, ended_us: 320 };
    assert_eq!(receipts.collect::<Vec<_>>(), [timeline]);
    assert_eq!((bench.claims.load(), bench.claims.running_cores()), ((0, 1), 0));
}

#[test]
fn what_waits_for_a_slot_is_made_ready_unless_it_starts_soon() {
    let prepared = |bench: &mut Bench| -> Vec<Job> {
        let prepared = bench.take().into_iter().filter_map(|effect| match effect {
            Effect::Prepare(job, ..) => Some(job),
            _ => None,
        });
        prepared.collect()
    };
    let mut bench = Bench::new(4);
    bench.offer(1).pass(limits::CLAIM_SPREAD_US);
    let jobs: Vec<Job> = (0..6).map(|_| bench.lease(0)).collect();
    for job in &jobs {
        bench.fetch(*job, 1);
    }
    bench.pass(limits::PREPARE_AFTER_US - 1);
    assert_eq!(prepared(&mut bench), []);
    bench.tell(Input::Ended(jobs[0], Ok(reduced()), vec![]));
    let late = bench.lease(0);
    bench.fetch(late, 1).pass(1);
    assert_eq!(prepared(&mut bench), [jobs[5]], "one has started, and one is new");
    bench.tell(Input::Ended(jobs[1], Ok(reduced()), vec![]));
    assert_eq!(bench.runs(), [(jobs[5], 1)], "one that is ready starts as any other");
    // Fewer slots than wait: no more are ready than can start at once.
    bench.tell(Input::Slots(1));
    let last = bench.lease(0);
    bench.fetch(last, 1).pass(limits::PREPARE_AFTER_US);
    assert_eq!(prepared(&mut bench), [late]);
    bench.tell(Input::Slots(0));
    let stopped = bench.take().into_iter().filter_map(|effect| match effect {
        Effect::Stop(job) => Some(job),
        _ => None,
    });
    assert_eq!(stopped.collect::<Vec<_>>(), [late], "it waits for nothing any more");
}

#[test]
fn no_more_cores_run_than_there_are_slots_and_big_ones_do_not_starve() {
    let mut bench = Bench::new(4);
    bench.offer(1).pass(limits::CLAIM_SPREAD_US);
    let jobs: Vec<Job> = (0..6).map(|_| bench.lease(0)).collect();
    let cpus = [1, 1, 9, 1, 1, 1];
    for (job, cpus) in jobs.iter().zip(cpus) {
        bench.fetch(*job, cpus);
    }
    let mut running: VecDeque<(Job, u32)> = bench.runs().into();
    let mut order = Vec::new();
    while let Some((job, cores)) = running.pop_front() {
        order.push(job);
        assert!(cores + running.iter().map(|(_, cores)| cores).sum::<u32>() <= 4);
        bench.tell(Input::Ended(job, Ok(reduced()), vec![]));
        running.extend(bench.runs());
    }
    assert_eq!(order, jobs, "in the order in which they came");
}

#[test]
fn requesters_share_the_slots_and_what_runs_next() {
    let mut bench = Bench::new(4);
    bench.offer(1).pass(limits::CLAIM_SPREAD_US);
    let mut first: Vec<Job> = (0..6).map(|_| bench.lease(0)).collect();
    for job in &first {
        bench.fetch(*job, 1);
    }
    bench.take();
    // The slots are full, but somebody else has work too.
    bench.offer(2).pass(limits::CLAIM_SHARE_US + limits::CLAIM_SPREAD_US);
    assert!(bench.effects.iter().any(|e| matches!(e, Effect::Open(_, p, _) if *p == peer(2))));
    assert_eq!(bench.windows(), [(0, 2)], "half of four");
    let second = bench.lease(1);
    bench.fetch(second, 1);
    bench.take();
    bench.tell(Input::Ended(first.remove(0), Ok(reduced()), vec![]));
    assert_eq!(bench.runs(), [(second, 1)], "who has less running is next");
    // When one has no more, the other gets all again.
    bench.tell(Input::Ended(second, Ok(reduced()), vec![])).hear(1, FromRequester::Dry);
    assert_eq!(bench.windows(), [(0, 4)]);
}

#[test]
fn who_leases_more_than_was_ever_asked_for_gets_it_back() {
    let mut bench = Bench::new(2);
    bench.offer(1).pass(limits::CLAIM_SPREAD_US);
    let Window { slots, prefetch } = bench.claims.streams[&StreamId(0)].window;
    let asked = slots + prefetch;
    let jobs: Vec<Job> = (0..asked).map(|_| bench.lease(0)).collect();
    assert!(!bench.take().iter().any(|e| matches!(e, Effect::Send(_, FromWorker::HandBack(_)))));
    // Also when the window has become smaller meanwhile: these were on their way.
    bench.tell(Input::Slots(1));
    bench.take();
    let beyond = bench.lease(0);
    let back = Effect::Send(StreamId(0), FromWorker::HandBack([beyond.lease].into()));
    assert!(bench.take().contains(&back));
    assert_eq!(bench.claims.load().0, jobs.len());
    bench.hear(0, FromRequester::Cancel([jobs[0].lease].into()));
    bench.take();
    let within = bench.lease(0);
    assert!(matches!(bench.take()[..], [Effect::Fetch(fetched, _), ..] if fetched == within));
}

#[test]
fn what_is_cancelled_or_left_alone_is_stopped() {
    let mut bench = Bench::new(2);
    bench.offer(1).pass(limits::CLAIM_SPREAD_US);
    let jobs = [bench.lease(0), bench.lease(0), bench.lease(0)];
    bench.fetch(jobs[0], 1).take();
    bench.hear(0, FromRequester::Cancel(BTreeSet::from([jobs[0].lease])));
    assert!(bench.take().contains(&Effect::Stop(jobs[0])));
    bench.fetch(jobs[0], 1);
    assert_eq!(bench.runs(), [], "it was cancelled");
    // The requester goes silent: everything of its is cleaned up, and its end is not waited for.
    bench.fetch(jobs[1], 1).take();
    bench.pass(limits::SILENCE_US);
    let effects = bench.take();
    for wanted in [Effect::Stop(jobs[1]), Effect::Stop(jobs[2]), Effect::Close(StreamId(0))] {
        assert!(effects.contains(&wanted), "{wanted:?}");
    }
    assert_eq!((bench.claims.load(), bench.claims.running_cores()), ((0, 0), 0));
}

#[test]
fn heartbeats_name_all_that_is_held() {
    let mut bench = Bench::new(1);
    bench.offer(1).pass(limits::CLAIM_SPREAD_US);
    let (runs, waits) = (bench.lease(0), bench.lease(0));
    bench.fetch(runs, 1).take();
    bench.pass(limits::HEARTBEAT_US);
    let held = BTreeSet::from([runs.lease, waits.lease]);
    let heartbeat = Effect::Send(StreamId(0), FromWorker::Heartbeat(held));
    assert_eq!(bench.take().iter().filter(|effect| **effect == heartbeat).count(), 1);
}

#[test]
fn who_refuses_or_cannot_be_reached_is_asked_again_later() {
    for refused in [true, false] {
        let mut bench = Bench::new(1);
        bench.offer(1).pass(limits::CLAIM_SPREAD_US);
        assert_eq!(bench.opened().len(), 1);
        match refused {
            true => bench.hear(0, FromRequester::Refuse(1000)),
            false => bench.tell(Input::Closed(StreamId(0))),
        };
        bench.pass(limits::BACKOFF_US_MIN - limits::CLAIM_SPREAD_US);
        assert_eq!(bench.opened(), []);
        bench.pass(3 * limits::CLAIM_SPREAD_US);
        assert_eq!(bench.opened(), [(StreamId(1), peer(1))]);
    }
}

#[test]
fn a_dry_claim_is_kept_for_a_while_and_closed_without_losing_a_lease() {
    let mut bench = Bench::new(2);
    bench.offer(1).pass(limits::CLAIM_SPREAD_US).hear(0, FromRequester::Dry).take();
    let nothing = Offer { number: 1000, ..Offer::default() };
    bench.tell(Input::Offer(peer(1), nothing));
    bench.pass(limits::CLAIM_LINGER_US);
    assert_eq!(bench.windows(), [(0, 0)], "first it asks for nothing more");
    let crossed = bench.lease(0);
    assert_eq!(bench.windows(), [(0, 2)], "a lease that crossed is welcome");
    bench.fetch(crossed, 1);
    bench.tell(Input::Ended(crossed, Ok(reduced()), vec![])).hear(0, FromRequester::Dry).take();
    bench.pass(limits::CLAIM_LINGER_US + limits::HEARTBEAT_US);
    assert!(bench.take().contains(&Effect::Close(StreamId(0))));
    assert_eq!(bench.claims.load(), (0, 0));
}

#[test]
fn draining_finishes_what_runs_within_its_bound_and_hands_back_the_rest() {
    for finishes in [true, false] {
        let mut bench = Bench::new(1);
        bench.offer(1).pass(limits::CLAIM_SPREAD_US);
        let (runs, waits) = (bench.lease(0), bench.lease(0));
        bench.fetch(runs, 1).fetch(waits, 1).take();
        bench.tell(Input::Drain);
        let back =
            |job: Job| Effect::Send(StreamId(0), FromWorker::HandBack(BTreeSet::from([job.lease])));
        assert!(bench.take().contains(&back(waits)));
        let late = bench.lease(0);
        assert!(bench.take().contains(&back(late)));
        if finishes {
            bench.tell(Input::Ended(runs, Ok(reduced()), vec![]));
        } else {
            for _ in 0..limits::DRAIN_US / limits::HEARTBEAT_US {
                bench.pass(limits::HEARTBEAT_US).hear(0, FromRequester::Alive);
            }
            assert!(bench.effects.contains(&Effect::Stop(runs)));
            assert!(bench.effects.contains(&back(runs)));
        }
        assert_eq!(bench.effects.last(), Some(&Effect::Drained));
        assert_eq!(bench.claims.load(), (0, 0));
    }
}

#[test]
fn without_slots_nothing_is_claimed_and_nothing_waits() {
    let mut bench = Bench::new(0);
    bench.offer(1).pass(limits::OFFER_LIFE_US / 2);
    assert_eq!(bench.opened(), []);
    bench.tell(Input::Slots(1)).pass(limits::CLAIM_SPREAD_US);
    assert_eq!(bench.opened().len(), 1);
    let (runs, waits) = (bench.lease(0), bench.lease(0));
    bench.fetch(runs, 1).fetch(waits, 1).take();
    bench.tell(Input::Slots(0));
    let back = FromWorker::HandBack(BTreeSet::from([waits.lease]));
    assert!(bench.effects.contains(&Effect::Send(StreamId(0), back)));
    assert_eq!(bench.claims.running_cores(), 1, "what runs goes on");
}

#[test]
fn what_cannot_be_fetched_is_a_failure_of_this_machine() {
    let mut bench = Bench::new(1);
    bench.offer(1).pass(limits::CLAIM_SPREAD_US);
    let job = bench.lease(0);
    let reason = "ü".repeat(limits::CLAIM_REASON_BYTES);
    bench.take();
    bench.tell(Input::Fetched(job, Err(reason)));
    let effects = bench.take();
    let Some(Effect::Send(_, message @ FromWorker::Receipt(receipt))) = effects.first() else {
        panic!("{effects:?}")
    };
    assert!(receipt.end.as_ref().is_err_and(|failure| failure.class == FailureClass::Machine));
    assert!(message.encode().is_ok(), "the reason was cut to what may be sent");
}

#[test]
fn claims_come_within_their_spread() {
    let mut bench = Bench::new(2);
    bench.claims = Claims::new(MACHINE, 7).with_spread(0);
    bench.tell(Input::Slots(2)).offer(1);
    assert_eq!(bench.claims.next_deadline(), Some(bench.now));
    bench.claims.handle_timeout(bench.now, &mut bench.effects);
    assert_eq!(bench.opened(), [(StreamId(0), peer(1))]);
}
