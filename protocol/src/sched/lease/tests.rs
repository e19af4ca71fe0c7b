//! The lease machine, one situation at a time. Everything at once is in `tests/cluster`.

use std::collections::VecDeque;

use super::*;
use crate::name::Tag;
use crate::path::AbsPath;
use crate::sched::policy::{Fifo, PlacementName};
use crate::sched::speculation::SpeculationName;
use crate::thunk::{
    Function, Input as ThunkInput, Limits, Output, Platform, Reduction, ThunkSpec, Usage,
};
use crate::wire::claim::Timeline;

const MACHINE: Capabilities = Capabilities {
    platform: Platform::X86_64Linux,
    cores: 4,
    memory_mib: 1024,
    speed_permille: 1000,
};

fn path(text: &str) -> AbsPath {
    text.parse().unwrap()
}

fn out() -> Tag {
    "out".parse().unwrap()
}

fn thunk(label: &str, tree: &str) -> Thunk {
    Thunk::try_from(ThunkSpec {
        function: Function {
            executable: path("/f"),
            arguments: vec![label.to_owned()],
            environment: BTreeMap::new(),
            working_directory: AbsPath::root(),
        },
        inputs: BTreeMap::from([(path("/t"), ThunkInput::tree(ValueName::of(tree.as_bytes())))]),
        symlinks: BTreeMap::new(),
        directories: BTreeSet::new(),
        outputs: BTreeMap::from([(out(), Output::required(path("/out")))]),
        stdin: None,
        limits: Limits::for_platform(Platform::X86_64Linux),
    })
    .unwrap()
}

fn peer(number: u64) -> PeerId {
    PeerId([number as u8; 32])
}

fn reduced(name: ThunkName) -> SignedReduction {
    let value = ValueName::of(b"made");
    let object = OutputObject::File { name: value, executable: false };
    SignedReduction {
        reduction: Reduction {
            thunk: name,
            outputs: BTreeMap::from([(out(), object)]),
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

/// A machine, its time, and what it has said.
struct Bench {
    leases: Leases,
    now: Time,
    next_run: u64,
    effects: Vec<Effect>,
}

impl Bench {
    fn new() -> Self {
        Self::speculating(SpeculationName::default())
    }

    fn speculating(name: SpeculationName) -> Self {
        let policy = LeasePolicy { speculation: name.make(), ..LeasePolicy::default() };
        Self { leases: Leases::new(policy, MACHINE), now: Time::ZERO, next_run: 0, effects: vec![] }
    }

    fn tell(&mut self, input: Input) -> &mut Self {
        self.leases.handle(self.now, input, &mut self.effects);
        self
    }

    fn ready(&mut self, label: &str) -> RunId {
        self.ready_with(label, "tree")
    }

    fn ready_with(&mut self, label: &str, tree: &str) -> RunId {
        let run = RunId(self.next_run);
        self.next_run += 1;
        let thunk = thunk(label, tree);
        let (name, _) = thunk.encode().unwrap();
        self.tell(Input::Ready {
            run,
            name,
            thunk: Arc::new(thunk),
            level: Level { thunks: 1, us: 1 },
        });
        run
    }

    /// A claim of peer and stream `number`.
    fn open(&mut self, number: u64, slots: u32, prefetch: u32) -> &mut Self {
        let window = Window { slots, prefetch };
        let open = Open { capabilities: MACHINE, window, holds: BTreeSet::new() };
        self.tell(Input::Opened(StreamId(number), peer(number), open))
    }

    fn hear(&mut self, stream: u64, message: FromWorker) -> &mut Self {
        self.tell(Input::Received(StreamId(stream), message))
    }

    /// What a worker says came of a lease. It settles later.
    fn answer(
        &mut self,
        stream: u64,
        lease: LeaseId,
        end: Result<SignedReduction, FailureClass>,
    ) -> &mut Self {
        let end = end.map_err(|class| LeaseFailure { class, reason: "it broke".to_owned() });
        let (objects, timeline) = (vec![], Timeline::default());
        let receipt = Receipt { lease, end, objects, timeline };
        self.hear(stream, FromWorker::Receipt(Box::new(receipt)))
    }

    /// The same, with what it names here at once.
    fn receipt(
        &mut self,
        stream: u64,
        lease: LeaseId,
        end: Result<SignedReduction, FailureClass>,
    ) -> &mut Self {
        let before = self.settling();
        self.answer(stream, lease, end);
        if self.settling() > before {
            self.tell(Input::Settled(lease, Ok(())));
        }
        self
    }

    fn settling(&self) -> usize {
        self.leases.granted.values().filter(|granted| granted.settling.is_some()).count()
    }

    /// Time goes by, with everything done when it is due.
    fn pass(&mut self, us: u64) -> &mut Self {
        let end = self.now + us;
        while let Some(due) = self.leases.next_deadline().filter(|due| *due <= end) {
            self.now = due;
            self.leases.handle_timeout(due, &mut self.effects);
            let next = self.leases.next_deadline();
            assert!(next.is_none_or(|next| next > due), "what is due gets done");
        }
        self.now = end;
        self
    }

    /// Leases given since the last call: to whom, and what.
    fn given(&mut self) -> Vec<(Seat, LeaseId, ThunkName)> {
        let given = self.effects.drain(..).filter_map(|effect| match effect {
            Effect::Lease { stream, lease, name, .. } => Some((Seat::Stream(stream), lease, name)),
            Effect::Run { lease, name, .. } => Some((Seat::Own, lease, name)),
            _ => None,
        });
        given.collect()
    }

    fn seats(&mut self) -> Vec<Seat> {
        self.given().into_iter().map(|(seat, ..)| seat).collect()
    }

    fn one(&mut self) -> (LeaseId, ThunkName) {
        let given = self.given();
        assert_eq!(given.len(), 1, "{given:?}");
        (given[0].1, given[0].2)
    }

    fn ended(&self) -> Vec<(RunId, bool)> {
        let ends = self.effects.iter().filter_map(|effect| match effect {
            Effect::Ended(run, end) => Some((*run, end.is_ok())),
            _ => None,
        });
        ends.collect()
    }
}

fn stream(number: u64) -> Seat {
    Seat::Stream(StreamId(number))
}

#[test]
fn slots_are_filled_before_queues_and_our_own_first() {
    let mut bench = Bench::new();
    bench.tell(Input::OwnSlots(1)).open(1, 2, 1).open(2, 2, 1);
    for i in 0..9 {
        bench.ready(&i.to_string());
    }
    let seats = bench.seats();
    assert_eq!(seats[0], Seat::Own);
    let mut slots = seats[1..5].to_vec();
    slots.sort();
    assert_eq!(slots, [stream(1), stream(1), stream(2), stream(2)]);
    assert_eq!(seats.len(), 7, "two wait in queues, two in the pool");
    let (ready, trees) = bench.leases.unplaced();
    assert_eq!(ready.values().sum::<u32>(), 2);
    assert_eq!(trees, BTreeSet::from([ValueName::of(b"tree")]));
}

#[test]
fn what_is_known_later_of_levels_turns_the_queue_around_where_the_policy_wants_it() {
    let policies = [
        (PlacementName::CriticalPath, [0, 1, 2], [0, 1, 2]),
        (PlacementName::BLevel, [2, 1, 0], [1, 0, 2]),
    ];
    for (policy, first, then) in policies {
        let policy = LeasePolicy { placement: policy.make(1), ..LeasePolicy::default() };
        let mut bench = Bench::new();
        bench.leases = Leases::new(policy, MACHINE);
        let runs = ["a", "b", "c"].map(|label| bench.ready(label));
        let levels = runs.iter().map(|run| (*run, Level { thunks: 1, us: 10 + run.0 }));
        let gone = (RunId(99), Level { thunks: 1, us: 99 });
        bench.tell(Input::Levels(levels.chain([gone]).collect()));
        assert_eq!(bench.leases.unplaced().0.values().sum::<u32>(), 3, "none is lost or doubled");
        bench.open(1, 3, 0);
        let name = |at: usize| thunk(["a", "b", "c"][at], "tree").encode().unwrap().0;
        let given = |bench: &mut Bench| {
            bench.given().into_iter().map(|(.., name)| name).collect::<Vec<_>>()
        };
        assert_eq!(given(&mut bench), first.map(name));
        // What is leased follows too: when it is put back, it is where it belongs.
        bench.tell(Input::Levels(vec![(runs[2], Level { thunks: 1, us: 1 })]));
        bench.tell(Input::Closed(StreamId(1))).open(2, 3, 0);
        assert_eq!(given(&mut bench), then.map(name));
    }
}

#[test]
fn a_broken_stream_puts_back_and_its_late_receipt_counts_for_nothing() {
    let mut bench = Bench::new();
    let run = bench.open(1, 1, 0).ready("a");
    let (first, name) = bench.one();
    bench.open(2, 1, 0).tell(Input::Closed(StreamId(1)));
    let (second, _) = bench.one();
    bench.receipt(1, first, Ok(reduced(name)));
    bench.receipt(2, first, Ok(reduced(name)));
    assert_eq!(bench.ended(), []);
    bench.receipt(2, second, Ok(reduced(name)));
    bench.receipt(2, second, Ok(reduced(name)));
    assert_eq!(bench.ended(), [(run, true)]);
    assert_eq!(bench.leases.counts().stray, 2, "from another claimant, and a double one");
    assert_eq!(bench.leases.load(), (0, 0));
}

/// What may become of a worker whose answer settles.
#[test]
fn what_settles_outlives_its_worker() {
    let leaves: [fn(&mut Bench) -> &mut Bench; 4] = [
        |bench| bench.tell(Input::Closed(StreamId(1))),
        |bench| bench.pass(2 * limits::SILENCE_US),
        |bench| {
            let window = Window { slots: 1, prefetch: 0 };
            let open = Open { capabilities: MACHINE, window, holds: BTreeSet::new() };
            bench.tell(Input::Opened(StreamId(7), peer(1), open))
        },
        |bench| bench.hear(1, FromWorker::Heartbeat(BTreeSet::new())),
    ];
    for leave in leaves {
        let mut bench = Bench::new();
        let run = bench.open(1, 2, 0).ready("a");
        let (lease, name) = bench.one();
        bench.answer(1, lease, Ok(reduced(name)));
        leave(&mut bench);
        assert_eq!((bench.ended(), bench.settling()), (vec![], 1));
        assert_eq!(bench.leases.unplaced().0, BTreeMap::new(), "nobody else is asked");
        bench.tell(Input::Settled(lease, Ok(())));
        assert_eq!(bench.ended(), [(run, true)]);
        assert_eq!((bench.leases.load(), bench.leases.counts().put_back), ((0, 0), 0));
    }
}

#[test]
fn what_does_not_settle_goes_to_others() {
    let mut bench = Bench::new();
    let run = bench.open(1, 1, 0).ready("a");
    let (lease, name) = bench.one();
    bench.answer(1, lease, Ok(reduced(name))).tell(Input::Closed(StreamId(1)));
    bench.open(2, 1, 0).tell(Input::Settled(lease, Err("nobody has it".to_owned())));
    let reason = Event::PutBack(name, Some(peer(1)), "nobody has it".into());
    assert!(bench.effects.contains(&Effect::Event(reason)));
    let (again, _) = bench.one();
    // Nothing comes of the first one any more.
    bench.tell(Input::Settled(lease, Ok(())));
    assert_eq!(bench.ended(), []);
    bench.receipt(2, again, Ok(reduced(name)));
    assert_eq!(bench.ended(), [(run, true)]);
}

#[test]
fn whoever_answers_twice_is_let_go_and_what_it_said_first_counts() {
    type Second = fn(&mut Bench, LeaseId, ThunkName) -> &mut Bench;
    let seconds: [Second; 3] = [
        |bench, lease, name| bench.answer(1, lease, Ok(reduced(name))),
        |bench, lease, _| bench.answer(1, lease, Err(FailureClass::Program)),
        |bench, lease, _| bench.hear(1, FromWorker::HandBack(BTreeSet::from([lease]))),
    ];
    for second in seconds {
        let mut bench = Bench::new();
        let run = bench.open(1, 1, 0).ready("a");
        let (lease, name) = bench.one();
        bench.answer(1, lease, Ok(reduced(name)));
        second(&mut bench, lease, name);
        assert!(bench.effects.contains(&Effect::Close(StreamId(1))));
        bench.tell(Input::Settled(lease, Ok(())));
        assert_eq!(bench.ended(), [(run, true)]);
    }
}

#[test]
fn nothing_comes_of_what_settles_when_it_is_not_wanted_or_its_worker_lies() {
    let mut bench = Bench::new();
    let run = bench.open(1, 2, 0).ready("a");
    let (lease, name) = bench.one();
    bench.answer(1, lease, Ok(reduced(name))).tell(Input::Closed(StreamId(1)));
    bench.tell(Input::Lied(peer(1)));
    assert_eq!(bench.leases.unplaced().0.values().sum::<u32>(), 1);
    bench.tell(Input::Stop(run)).tell(Input::Settled(lease, Ok(())));
    let run = bench.open(2, 1, 0).ready("b");
    let (lease, name) = bench.one();
    bench.answer(2, lease, Ok(reduced(name))).tell(Input::Stop(run));
    bench.tell(Input::Settled(lease, Ok(())));
    assert_eq!((bench.ended(), bench.leases.load()), (vec![], (0, 0)));
    let cancels = |effect: &Effect| matches!(effect, Effect::Send(_, FromRequester::Cancel(_)));
    assert!(!bench.effects.iter().any(cancels), "its worker has nothing to cancel");
}

#[test]
fn only_the_holder_can_end_a_lease() {
    let mut bench = Bench::new();
    let run = bench.open(1, 1, 0).ready("a");
    let (lease, name) = bench.one();
    bench.open(2, 1, 0).receipt(2, lease, Ok(reduced(name)));
    bench.hear(2, FromWorker::HandBack(BTreeSet::from([lease])));
    bench.tell(Input::OwnEnded(lease, Ok(Arc::default())));
    assert_eq!((bench.ended(), bench.leases.load()), (vec![], (1, 1)));
    bench.receipt(1, lease, Ok(reduced(name)));
    assert_eq!(bench.ended(), [(run, true)]);
}

/// One that asks for everything and does nothing, beside one that would work.
#[test]
fn who_hands_back_in_a_loop_starves_nobody() {
    let mut bench = Bench::new();
    bench.open(1, 4, 0).ready("a");
    let window = Window { slots: 4, prefetch: 0 };
    for _ in 0..limits::HAND_BACKS {
        let (lease, _) = bench.one();
        bench.hear(1, FromWorker::HandBack(BTreeSet::from([lease])));
        bench.hear(1, FromWorker::Window(window));
    }
    assert_eq!(bench.given(), [], "it gets nothing more for a while");
    bench.open(2, 1, 0);
    let (lease, name) = bench.one();
    bench.receipt(2, lease, Ok(reduced(name)));
    assert_eq!(bench.ended().len(), 1);
    // And then one to try it with, which it may do.
    bench.tell(Input::Closed(StreamId(2))).ready("b");
    assert_eq!(bench.given(), []);
    bench.pass(limits::BACKOFF_US_MIN);
    let (lease, name) = bench.one();
    bench.receipt(1, lease, Ok(reduced(name)));
    assert_eq!(bench.ended().len(), 1);
}

#[test]
fn who_is_silent_is_given_up_and_what_is_not_named_expires() {
    let mut bench = Bench::new();
    bench.open(1, 1, 0).ready("a");
    let (lease, _) = bench.one();
    for _ in 0..10 {
        bench.pass(limits::HEARTBEAT_US).hear(1, FromWorker::Heartbeat(BTreeSet::from([lease])));
    }
    assert_eq!(bench.leases.load().0, 1, "a long run is no reason");
    for _ in 0..5 {
        bench.pass(limits::HEARTBEAT_US).hear(1, FromWorker::Heartbeat(BTreeSet::new()));
    }
    let cancel = FromRequester::Cancel(BTreeSet::from([lease]));
    assert!(bench.effects.contains(&Effect::Send(StreamId(1), cancel)));
    bench.pass(limits::SILENCE_US);
    assert!(bench.effects.contains(&Effect::Close(StreamId(1))));
    assert_eq!(bench.leases.unplaced().0.values().sum::<u32>(), 1);
}

#[test]
fn who_fails_fast_attracts_no_work_and_is_tried_again_with_one_thunk() {
    let mut bench = Bench::new();
    bench.open(1, 4, 0).ready("a");
    let (lease, _) = bench.one();
    bench.receipt(1, lease, Err(FailureClass::Machine));
    for label in ["b", "c", "d"] {
        bench.ready(label);
    }
    assert_eq!(bench.given(), []);
    bench.pass(limits::BACKOFF_US_MIN - 1);
    assert_eq!(bench.given(), []);
    bench.pass(1);
    let (probe, name) = bench.one();
    bench.receipt(1, probe, Ok(reduced(name)));
    assert_eq!(bench.given().len(), 3, "trusted again");
}

#[test]
fn who_opens_while_left_alone_is_told_when_to_come_back() {
    let mut bench = Bench::new();
    bench.open(1, 4, 0).ready("a");
    bench.tell(Input::Closed(StreamId(1)));
    bench.effects.clear();
    bench.leases.handle(
        bench.now,
        Input::Opened(
            StreamId(2),
            peer(1),
            Open {
                capabilities: MACHINE,
                window: Window { slots: 4, prefetch: 0 },
                holds: BTreeSet::new(),
            },
        ),
        &mut bench.effects,
    );
    assert_eq!(
        bench.effects,
        [Effect::Send(StreamId(2), FromRequester::Refuse(1000)), Effect::Close(StreamId(2)),]
    );
}

#[test]
fn what_failed_somewhere_goes_elsewhere_if_there_is_an_elsewhere() {
    let mut bench = Bench::new();
    let run = bench.open(1, 1, 0).ready("a");
    let (lease, name) = bench.one();
    bench.receipt(1, lease, Err(FailureClass::Program));
    assert_eq!(bench.ended(), [(run, false)]);
    // Force tries again: the only worker gets it again …
    bench.ready("a");
    let (lease, _) = bench.one();
    bench.receipt(1, lease, Err(FailureClass::Program)).given();
    // … but not when there is another one, even if that one is busy.
    bench.open(2, 1, 0).ready_with("b", "tree");
    bench.ready("a");
    let given = bench.given();
    let taken: Vec<(Seat, bool)> = given.iter().map(|(seat, _, n)| (*seat, *n == name)).collect();
    assert!(!taken.contains(&(stream(1), true)), "{taken:?}");
}

#[test]
fn a_late_run_gets_a_second_copy_and_the_first_receipt_wins() {
    let mut bench = Bench::new();
    bench.open(1, 4, 0);
    for i in 0..limits::KIND_RUNS_MIN {
        bench.ready(&format!("usual {i}"));
        let (lease, name) = bench.one();
        bench.hear(1, FromWorker::Started(lease)).pass(1000).receipt(1, lease, Ok(reduced(name)));
        bench.effects.clear();
    }
    let run = bench.ready("late");
    let (first, name) = bench.one();
    bench.hear(1, FromWorker::Started(first)).open(2, 1, 0).pass(limits::LATE_US_MIN - 1);
    assert_eq!(bench.given(), []);
    bench.pass(limits::LEASE_STALE_US);
    let (second, again) = bench.one();
    assert_eq!(again, name);
    bench.hear(2, FromWorker::Started(second)).pass(1000);
    bench.receipt(1, first, Ok(reduced(name)));
    assert_eq!(bench.ended(), [(run, true)]);
    let cancel = FromRequester::Cancel(BTreeSet::from([second]));
    assert!(bench.effects.contains(&Effect::Send(StreamId(2), cancel)));
    bench.receipt(2, second, Ok(reduced(name)));
    assert_eq!(bench.ended(), [(run, true)], "the loser changes nothing");
    let counts = bench.leases.counts();
    assert_eq!((counts.speculated, counts.wasted_us, counts.stray), (1, 1000, 1));
}

#[test]
fn late_copies_from_a_slow_machine_before_the_usual_time_is_over_and_one_at_a_time() {
    for (name, copies) in [(SpeculationName::Late, 1), (SpeculationName::Ours, 0)] {
        let mut bench = Bench::speculating(name);
        bench.open(1, 1, 0);
        for i in 0..8 {
            bench.ready(&format!("usual {i}"));
            let (lease, thunk) = bench.one();
            bench.hear(1, FromWorker::Started(lease)).pass(4_000_000);
            bench.receipt(1, lease, Ok(reduced(thunk))).effects.clear();
        }
        // The second machine takes two and a half times as long as others, as has been seen.
        bench.tell(Input::Closed(StreamId(1))).open(2, 2, 0);
        for _ in 0..50 {
            bench.leases.scores.succeeded(bench.now, Some(peer(2)), 10_000_000, 4_000_000);
        }
        let mut later = None;
        for label in ["earlier", "later"] {
            bench.ready(label);
            bench.pass(100_000);
            let (lease, thunk) = bench.one();
            bench.hear(2, FromWorker::Started(lease));
            later = Some(thunk);
        }
        // Slots enough for both; but a tenth of them is less than two.
        bench.pass(limits::LATE_US_MIN + 100_000).open(3, 4, 0).pass(limits::LEASE_STALE_US);
        let given = bench.given();
        let expected = [(stream(3), later)];
        let seen: Vec<_> = given.iter().map(|(seat, _, name)| (*seat, Some(*name))).collect();
        assert_eq!(seen, expected[..copies], "{name:?}: what has most left to do");
        assert_eq!(bench.leases.counts().speculated, copies as u64);
    }
}

#[test]
fn small_jobs_run_twice_from_the_start_and_large_ones_once() {
    let mut bench = Bench::speculating(SpeculationName::Clone);
    bench.open(1, 20, 0).open(2, 20, 0);
    let mut job = 0;
    for thunks in [3, limits::CLONED_JOB_MAX, limits::CLONED_JOB_MAX + 1] {
        job += 1;
        for i in 0..thunks {
            bench.ready(&format!("{job} {i}"));
        }
        bench.pass(0);
        let mut copies: BTreeMap<ThunkName, BTreeSet<Seat>> = BTreeMap::new();
        let given = bench.given();
        for (seat, _, name) in &given {
            copies.entry(*name).or_default().insert(*seat);
        }
        let twice = copies.values().filter(|seats| seats.len() == 2).count() as u64;
        assert_eq!(copies.len() as u64, thunks);
        assert_eq!(twice, if thunks <= limits::CLONED_JOB_MAX { thunks } else { 0 });
        // The first receipt of each counts, and cancels the other.
        for (seat, lease, name) in given.into_iter().rev() {
            let Seat::Stream(StreamId(stream)) = seat else { continue };
            bench.receipt(stream, lease, Ok(reduced(name)));
        }
        assert_eq!(bench.leases.load(), (0, 0));
        bench.effects.clear();
        // What comes after a pause is another job.
        bench.pass(limits::JOB_PAUSE_US);
    }
}

#[test]
fn what_is_late_is_offered_when_no_slot_is_free_for_a_copy() {
    let mut bench = Bench::new();
    bench.open(1, 1, 0).ready("never starts");
    bench.given();
    for _ in 0..20 {
        bench.pass(limits::HEARTBEAT_US);
        let held = bench.leases.granted.keys().copied().collect();
        bench.hear(1, FromWorker::Heartbeat(held));
    }
    assert_eq!(bench.leases.unplaced().0.values().sum::<u32>(), 1);
}

#[test]
fn what_waits_in_a_queue_is_taken_to_an_idle_slot() {
    let mut bench = Bench::new();
    bench.open(1, 1, 1);
    bench.ready("runs");
    bench.ready("waits");
    let given = bench.given();
    bench.hear(1, FromWorker::Started(given[0].1)).open(2, 1, 0).pass(2 * limits::LEASE_STALE_US);
    let moved = bench.given();
    assert_eq!(moved.len(), 1);
    assert_eq!((moved[0].0, moved[0].2), (stream(2), given[1].2));
    assert_eq!(bench.leases.counts().moved, 1);
    bench.pass(limits::SILENCE_US / 2);
    assert_eq!(bench.given(), [], "and not on from there");
}

/// Is what waits behind a run of a kind that usually takes `usual_us` moved after `waited_us`?
fn is_moved(usual_us: u64, remembered: bool, waited_us: u64) -> bool {
    let mut bench = Bench::new();
    bench.open(1, 1, 1).ready("usual");
    let (lease, name) = bench.one();
    let receipt = SignedReduction { remembered, ..reduced(name) };
    bench.hear(1, FromWorker::Started(lease)).pass(usual_us).receipt(1, lease, Ok(receipt));
    bench.effects.clear();
    bench.ready("runs");
    bench.ready("waits");
    let given = bench.given();
    bench.hear(1, FromWorker::Started(given[0].1)).open(2, 1, 0).pass(waited_us);
    bench.leases.counts().moved > 0
}

#[test]
fn what_will_wait_for_long_is_moved_at_once() {
    let stale = limits::LEASE_STALE_US;
    assert!(is_moved(4 * stale, false, stale / 2));
    assert!(!is_moved(stale, false, stale / 2), "its slot will be free soon");
    assert!(!is_moved(4 * stale, true, stale / 2), "nobody knows how long");
    assert!(is_moved(4 * stale, true, stale));
}

#[test]
fn a_liar_loses_what_it_holds_and_gets_nothing_more() {
    let mut bench = Bench::new();
    bench.open(1, 1, 1).ready("a");
    bench.given();
    bench.tell(Input::Lied(peer(1)));
    assert!(bench.effects.contains(&Effect::Close(StreamId(1))));
    assert_eq!(bench.leases.load(), (0, 1), "it waits for somebody else");
    bench.effects.clear();
    bench.open(3, 1, 0).given();
    let open = Open {
        capabilities: MACHINE,
        window: Window { slots: 1, prefetch: 0 },
        holds: BTreeSet::new(),
    };
    bench.pass(limits::BACKOFF_US_MAX).tell(Input::Opened(StreamId(2), peer(1), open));
    assert!(bench.effects.contains(&Effect::Close(StreamId(2))), "it is not served again");
}

#[test]
fn a_reduction_of_something_else_is_refused_and_told() {
    let mut bench = Bench::new();
    let run = bench.open(1, 1, 0).ready("a");
    let (lease, name) = bench.one();
    let mut without_outputs = reduced(name);
    without_outputs.reduction.outputs.clear();
    for wrong in [reduced(ThunkName::of(b"another")), without_outputs] {
        bench.effects.clear();
        let lease = bench.leases.granted.keys().next().copied().unwrap_or(lease);
        bench.receipt(1, lease, Ok(wrong));
        let told =
            |e: &Effect| matches!(e, Effect::Event(Event::Misbehaved(p, _)) if *p == peer(1));
        assert!(bench.effects.iter().any(told));
        assert_eq!(bench.ended(), []);
        bench.pass(limits::BACKOFF_US_MIN);
    }
    assert_eq!(run, RunId(0));
}

#[test]
fn bytes_that_others_need_too_decide_among_equals() {
    // What only one needs has to be brought wherever it runs.
    for (trees, order) in [
        (["clang", "gcc", "clang", "gcc"], [1, 3, 0, 2]),
        (["clang", "gcc", "icc", "tcc"], [0, 1, 2, 3]),
    ] {
        let mut bench = Bench::new();
        let labels = ["w", "x", "y", "z"];
        for (label, tree) in labels.into_iter().zip(trees) {
            bench.ready_with(label, tree);
        }
        let open = Open {
            capabilities: MACHINE,
            window: Window { slots: 1, prefetch: 0 },
            holds: BTreeSet::from([ValueName::of(b"gcc")]),
        };
        bench.tell(Input::Opened(StreamId(1), peer(1), open));
        assert_eq!(bench.leases.holders(&ValueName::of(b"gcc")).collect::<Vec<_>>(), [peer(1)]);
        for place in order {
            let (lease, name) = bench.one();
            assert_eq!(name, thunk(labels[place], trees[place]).encode().unwrap().0);
            bench.receipt(1, lease, Ok(reduced(name)));
        }
    }
}

#[test]
fn alone_a_failure_goes_to_force_at_once_with_others_it_waits_for_them() {
    for (others, answers) in [(false, 1), (true, 0)] {
        let mut bench = Bench::new();
        bench.tell(Input::Others(others)).tell(Input::OwnSlots(1)).ready("a");
        let (lease, name) = bench.one();
        let failure = Failure { class: FailureClass::Machine, reason: "no namespaces".into() };
        bench.tell(Input::OwnEnded(lease, Err(failure)));
        assert_eq!(bench.ended().len(), answers);
        assert_eq!(bench.given(), []);
        if others {
            bench.open(1, 1, 0);
            assert_eq!(bench.one().1, name);
        }
    }
}

#[test]
fn what_is_stopped_is_cancelled_everywhere_and_not_answered() {
    let mut bench = Bench::new();
    bench.tell(Input::OwnSlots(1)).open(1, 1, 0);
    let runs = [bench.ready("a"), bench.ready("b"), bench.ready("c")];
    bench.effects.clear();
    for run in runs.into_iter().rev() {
        bench.tell(Input::Stop(run));
    }
    let own = |e: &&Effect| matches!(e, Effect::StopOwn(_));
    let sent = |e: &&Effect| matches!(e, Effect::Send(_, FromRequester::Cancel(_)));
    assert_eq!(bench.effects.iter().filter(own).count(), 1);
    assert_eq!(bench.effects.iter().filter(sent).count(), 1);
    assert_eq!(bench.ended(), []);
    assert_eq!(bench.leases.load(), (0, 0));
}

#[test]
fn a_lease_costs_the_same_however_many_are_ready() {
    let policy = LeasePolicy { placement: Box::new(Fifo), speculation: Box::new(Stragglers) };
    let mut bench = Bench { leases: Leases::new(policy, MACHINE), ..Bench::new() };
    for i in 0..5_000 {
        bench.ready(&i.to_string());
    }
    bench.open(1, 4, 2);
    let mut given: VecDeque<(LeaseId, ThunkName)> = VecDeque::new();
    let mut order = Vec::new();
    loop {
        given.extend(bench.given().into_iter().map(|(_, lease, name)| (lease, name)));
        let Some((lease, name)) = given.pop_front() else { break };
        order.push(name);
        bench.receipt(1, lease, Ok(reduced(name)));
    }
    assert_eq!(order.len(), 5_000);
    assert_eq!(order[4_999], thunk("4999", "tree").encode().unwrap().0);
    assert!(bench.leases.granted.is_empty() && bench.leases.works.is_empty());
}
