//! The force machine against a driver that answers at once, in an order drawn from a seed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::force::*;
use crate::graph::{Cause, Outputs};
use crate::name::{OutputRef, Tag, ThunkName, ValueName};
use crate::path::AbsPath;
use crate::sched::level::Level;
use crate::thunk::{
    Function, Input as ThunkInput, InputMode, Limits, Output, OutputObject, Platform, Source,
    Thunk, ThunkSpec,
};

fn path(text: &str) -> AbsPath {
    text.parse().unwrap()
}

fn out() -> Tag {
    "out".parse().unwrap()
}

fn thunk(label: &str, sources: &[Source]) -> Thunk {
    let inputs = sources.iter().enumerate().map(|(i, source)| {
        (path(&format!("/in{i}")), ThunkInput { source: source.clone(), mode: InputMode::File })
    });
    Thunk::try_from(ThunkSpec {
        function: Function {
            executable: path("/f"),
            arguments: vec![label.to_owned()],
            environment: BTreeMap::new(),
            working_directory: AbsPath::root(),
        },
        inputs: inputs.collect(),
        symlinks: BTreeMap::new(),
        directories: BTreeSet::new(),
        outputs: BTreeMap::from([(out(), Output::required(path("/out")))]),
        stdin: None,
        limits: Limits::for_platform(Platform::X86_64Linux),
    })
    .unwrap()
}

fn of(name: ThunkName) -> Source {
    Source::Output(OutputRef { thunk: name, tag: out() })
}

fn file(bytes: &str) -> OutputObject {
    OutputObject::File { name: ValueName::of(bytes.as_bytes()), executable: false }
}

type Run = Box<dyn Fn(&Thunk) -> Result<OutputObject, Failure>>;

/// Carries out effects: a store of thunks, a memo, and a function in place of programs.
struct World {
    force: Force,
    thunks: BTreeMap<ThunkName, Arc<Thunk>>,
    memo: BTreeMap<ThunkName, Outputs>,
    run: Run,
    executed: Vec<String>,
    events: Vec<Event>,
    answers: BTreeMap<DemandId, Result<OutputObject, ForceError>>,
    pending: Vec<Input>,
    seed: u64,
    running_max: usize,
    stopped: Vec<RunId>,
}

impl World {
    fn new(slots: u32, policy: ForcePolicy, run: Run) -> Self {
        let mut world = Self {
            force: Force::new(policy),
            thunks: BTreeMap::new(),
            memo: BTreeMap::new(),
            run,
            executed: Vec::new(),
            events: Vec::new(),
            answers: BTreeMap::new(),
            pending: vec![Input::Slots(slots)],
            seed: 1,
            running_max: 0,
            stopped: Vec::new(),
        };
        world.go();
        world
    }

    fn add(&mut self, thunk: Thunk) -> ThunkName {
        let (name, _) = thunk.encode().unwrap();
        self.thunks.insert(name, Arc::new(thunk));
        name
    }

    fn demand(&mut self, id: u64, thunk: ThunkName) {
        self.pending.push(Input::Demand(DemandId(id), OutputRef { thunk, tag: out() }));
    }

    fn force(&mut self, thunk: ThunkName) -> Result<OutputObject, ForceError> {
        self.force_output(OutputRef { thunk, tag: out() })
    }

    fn force_output(&mut self, output: OutputRef) -> Result<OutputObject, ForceError> {
        self.pending.push(Input::Demand(DemandId(0), output));
        self.go();
        self.answers.remove(&DemandId(0)).expect("every demand is answered")
    }

    fn go(&mut self) {
        while !self.pending.is_empty() {
            self.seed =
                self.seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let at = (self.seed >> 33) as usize % self.pending.len();
            let input = self.pending.swap_remove(at);
            let mut effects = Vec::new();
            if let Input::Learned(name, outputs) = &input {
                self.memo.insert(*name, outputs.clone());
            }
            self.force.handle(input, &mut effects);
            self.running_max = self.running_max.max(self.force.running());
            for effect in effects {
                self.perform(effect);
            }
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Recall(name) => {
                self.pending.push(Input::Recalled(name, self.memo.get(&name).cloned()));
            }
            Effect::Fetch(name) => self.pending.push(match self.thunks.get(&name) {
                Some(thunk) => Input::Thunk(name, thunk.clone()),
                None => Input::Missing(name),
            }),
            Effect::Start { lease, name, thunk, .. } => {
                assert!(thunk.dependencies().is_empty(), "only values are run");
                self.executed.push(thunk.spec().function.arguments[0].clone());
                let end = (self.run)(&thunk).map(|object| {
                    let outputs: Outputs = Arc::new(BTreeMap::from([(out(), object)]));
                    self.memo.insert(name, outputs.clone());
                    outputs
                });
                self.pending.push(Input::Ended(lease, end));
            }
            Effect::Alias { thunk, same_as } => {
                let outputs = self.memo.get(&same_as).expect("an alias of what is known").clone();
                self.memo.insert(thunk, outputs);
            }
            Effect::Answer(demand, answer) => {
                assert!(self.answers.insert(demand, answer).is_none(), "answered once");
            }
            Effect::Event(event) => self.events.push(event),
            Effect::Stop(run) => self.stopped.push(run),
            Effect::Levels(_) => {}
        }
    }
}

fn concatenate() -> Run {
    Box::new(|thunk| {
        let values: Vec<String> = thunk.values().iter().map(ToString::to_string).collect();
        Ok(file(&format!("{}({})", thunk.spec().function.arguments[0], values.join(","))))
    })
}

/// `/slow` holds up one more, `/quick` two: what is known of their times turns the order around.
#[test]
fn levels_in_time_follow_what_runs_take() {
    let kind = |executable: &str, label: &str, sources: &[Source]| {
        let mut spec = thunk(label, sources).spec().clone();
        spec.function.executable = path(executable);
        let thunk = Thunk::try_from(spec).unwrap();
        (thunk.encode().unwrap().0, Arc::new(thunk))
    };
    let mut chains = Vec::new();
    for (executable, length) in [("/slow", 2), ("/quick", 3), ("/quick", 1)] {
        let mut last = None;
        for at in 0..length {
            let sources: Vec<Source> = last.into_iter().map(of).collect();
            let (name, thunk) = kind(executable, &format!("{executable} {length} {at}"), &sources);
            chains.push((name, thunk));
            last = Some(name);
        }
    }
    let mut force = Force::new(ForcePolicy::default());
    let mut effects = Vec::new();
    let mut asked = vec![Input::Slots(10)];
    for (demand, at) in [(0, 1), (1, 4), (2, 5)] {
        let output = OutputRef { thunk: chains[at].0, tag: out() };
        asked.push(Input::Demand(DemandId(demand), output));
    }
    asked.reverse();
    let mut started = Vec::new();
    while let Some(input) = asked.pop() {
        force.handle(input, &mut effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Recall(name) => asked.push(Input::Recalled(name, None)),
                Effect::Fetch(wanted) => {
                    let (name, thunk) = chains.iter().find(|(name, _)| *name == wanted).unwrap();
                    asked.push(Input::Thunk(*name, Arc::clone(thunk)));
                }
                Effect::Start { lease, name, level, .. } => started.push((name, lease, level)),
                _ => {}
            }
        }
    }
    let [(_, slow, first), (_, quick, second), (alone, ..)] = started[..] else { panic!() };
    assert_eq!((first.thunks, second.thunks), (2, 3));
    assert!(first.us < second.us, "of what nobody has seen, more is longer: {first:?}, {second:?}");

    force.handle(Input::Took(alone, 1_000), &mut effects);
    let [Effect::Levels(news)] = &effects[..] else { panic!("{effects:?}") };
    let told = |run| news.iter().find(|(told, _)| *told == run).unwrap().1;
    assert_eq!(told(quick), Level { thunks: 3, us: 3_000 });
    assert!(!news.iter().any(|(run, _)| *run == slow), "nobody has seen its kind yet: {news:?}");
    assert!(first.us > told(quick).us);

    effects.clear();
    force.handle(Input::Took(ThunkName::of(b"somebody else's"), 1), &mut effects);
    assert_eq!(effects, []);
}

#[test]
fn a_chain_runs_in_order_and_a_second_force_runs_nothing() {
    let mut world = World::new(2, ForcePolicy::default(), concatenate());
    let a = world.add(thunk("a", &[]));
    let b = world.add(thunk("b", &[of(a)]));
    let c = world.add(thunk("c", &[of(a), of(b)]));
    let first = world.force(c).unwrap();
    assert_eq!(world.executed, ["a", "b", "c"]);
    world.force = Force::new(ForcePolicy::default());
    assert_eq!(world.force(c).unwrap(), first);
    assert_eq!(world.executed.len(), 3, "the memo knows the thunk as it was written");
}

#[test]
fn the_same_bytes_stop_the_rebuild() {
    // `a` changes from a1 to a2 but leaves the same bytes: `b` is not run again.
    let same = || -> Run { Box::new(|t| Ok(file(&t.spec().function.arguments[0][..1]))) };
    let mut world = World::new(1, ForcePolicy::default(), same());
    let a1 = world.add(thunk("a1", &[]));
    let b1 = world.add(thunk("b", &[of(a1)]));
    let first = world.force(b1).unwrap();
    let a2 = world.add(thunk("a2", &[]));
    let b2 = world.add(thunk("b", &[of(a2)]));
    assert_ne!(b1, b2);
    assert_eq!(world.force(b2).unwrap(), first);
    assert_eq!(world.executed, ["a1", "b", "a2"]);
}

#[test]
fn the_events_lead_from_a_thunk_to_what_stands_for_it() {
    let mut world = World::new(1, ForcePolicy::default(), concatenate());
    let a = world.add(thunk("a", &[]));
    let b = world.add(thunk("b", &[of(a)]));
    world.force(b).unwrap();
    let reduced = thunk("b", &[Source::Value(ValueName::of(b"a()"))]).encode().unwrap().0;
    let expected = [
        Event::Needed(b),
        Event::Needed(a),
        Event::Executed(a),
        Event::Substituted(b, reduced),
        Event::Needed(reduced),
        Event::Executed(reduced),
    ];
    assert_eq!(world.events, expected);
}

#[test]
fn an_output_that_is_a_thunk_is_evaluated_in_its_place() {
    // down(n) returns the thunk down(n - 1) until it returns a value.
    let run: Run = Box::new(|t| {
        let n: u32 = t.spec().function.arguments[0].parse().unwrap();
        Ok(match n {
            0 => file("bottom"),
            _ => OutputObject::Thunk(thunk(&(n - 1).to_string(), &[]).encode().unwrap().0),
        })
    });
    let mut world = World::new(1, ForcePolicy::default(), run);
    for n in 0..=200 {
        world.add(thunk(&n.to_string(), &[]));
    }
    let top = thunk("200", &[]).encode().unwrap().0;
    assert_eq!(world.force(top).unwrap(), file("bottom"));
    assert_eq!(world.executed.len(), 201);
}

#[test]
fn waiting_in_a_circle_is_an_error_with_the_way() {
    // x returns the thunk y, and y reads x's output.
    let mut world = World::new(1, ForcePolicy::default(), concatenate());
    let x = world.add(thunk("x", &[]));
    let y_thunk = thunk("y", &[of(x)]);
    let y = world.add(y_thunk);
    world.run = Box::new(move |_| Ok(OutputObject::Thunk(y)));
    let error = world.force(x).unwrap_err();
    assert!(error.to_string().contains("circle"), "{error}");
    assert!(error.path.contains(&y), "{error:?}");
}

#[test]
fn what_is_missing_is_named_with_the_way_to_it() {
    let mut world = World::new(1, ForcePolicy::default(), concatenate());
    let absent = thunk("absent", &[]).encode().unwrap().0;
    let middle = world.add(thunk("middle", &[of(absent)]));
    let top = world.add(thunk("top", &[of(middle)]));
    let error = world.force(top).unwrap_err();
    assert!(error.reason.contains("cannot be found"), "{error}");
    assert_eq!(error.path, [top, middle, absent]);
    assert!(world.executed.is_empty());
}

#[test]
fn an_absent_output_is_no_failure_and_a_failure_no_absence() {
    let log: Tag = "log".parse().unwrap();
    let with_log = |label: &str| {
        let mut spec = ThunkSpec::from(thunk(label, &[]));
        spec.outputs.clear();
        let output = Output { required: false, ..Output::required(path("/log")) };
        spec.outputs.insert(log.clone(), output);
        Thunk::try_from(spec).unwrap()
    };
    // The run gives one output, `out`, so `log` is missing.
    let policy = ForcePolicy { keep_going: true, ..ForcePolicy::default() };
    let mut world = World::new(1, policy, failing(FailureClass::Program));
    let good = world.add(with_log("good"));
    let bad = world.add(with_log("bad"));
    let reader = Source::Output(OutputRef { thunk: good, tag: log.clone() });
    let reader = world.add(thunk("reader", &[reader]));
    let mut force =
        |thunk, tag: &Tag| world.force_output(OutputRef { thunk, tag: tag.clone() }).unwrap_err();
    let absent = force(good, &log);
    assert!(absent.is_absence(), "{absent:?}");
    let failed = force(bad, &log);
    assert_eq!((failed.is_absence(), failed.cause), (false, Cause::Program), "{failed:?}");
    let unread = force(reader, &out());
    assert_eq!((unread.is_absence(), unread.cause), (false, Cause::NoOutput), "{unread:?}");
}

fn failing(class: FailureClass) -> Run {
    Box::new(move |t| match t.spec().function.arguments[0].as_str() {
        "bad" => Err(Failure { class, reason: "it broke".into() }),
        label => Ok(file(label)),
    })
}

#[test]
fn the_machines_failures_are_tried_again_the_programs_are_not() {
    for (class, runs) in [(FailureClass::Machine, 3), (FailureClass::Program, 1)] {
        let mut world = World::new(1, ForcePolicy::default(), failing(class));
        let bad = world.add(thunk("bad", &[]));
        let error = world.force(bad).unwrap_err();
        assert_eq!(&*error.reason, "it broke");
        assert_eq!(world.executed.len(), runs);
    }
}

#[test]
fn keep_going_does_all_that_does_not_depend_on_the_failure() {
    for keep_going in [false, true] {
        let policy = ForcePolicy { keep_going, ..ForcePolicy::default() };
        let mut world = World::new(1, policy, failing(FailureClass::Program));
        let bad = world.add(thunk("bad", &[]));
        let after = world.add(thunk("after", &[of(bad)]));
        let good: Vec<_> = (0..8).map(|i| world.add(thunk(&format!("g{i}"), &[]))).collect();
        world.demand(0, after);
        world.go();
        for (i, name) in good.iter().enumerate() {
            world.demand(i as u64 + 1, *name);
        }
        world.go();
        assert_eq!(world.answers.len(), 9);
        assert!(world.answers[&DemandId(0)].is_err());
        let done = world.answers.values().filter(|answer| answer.is_ok()).count();
        assert_eq!(done, if keep_going { 8 } else { 0 });
    }
}

#[test]
fn cancel_answers_everybody() {
    let mut world = World::new(0, ForcePolicy::default(), concatenate());
    let a = world.add(thunk("a", &[]));
    let b = world.add(thunk("b", &[of(a)]));
    world.demand(1, a);
    world.demand(2, b);
    world.go();
    assert!(world.answers.is_empty(), "no slots, no progress");
    world.pending.push(Input::Cancel("interrupted".into()));
    world.go();
    assert_eq!(world.answers.len(), 2);
    assert!(world.force.is_idle());
}

fn outputs(object: OutputObject) -> Outputs {
    Arc::new(BTreeMap::from([(out(), object)]))
}

#[test]
fn what_somebody_else_knows_ends_a_run() {
    let mut force = Force::new(ForcePolicy::default());
    let (a, b) = (thunk("a", &[]), thunk("b", &[]));
    let (a_name, b_name) = (a.encode().unwrap().0, b.encode().unwrap().0);
    let output = |thunk| OutputRef { thunk, tag: out() };
    let mut tell = |input| {
        let mut effects = Vec::new();
        force.handle(input, &mut effects);
        effects.retain(|effect| !matches!(effect, Effect::Event(Event::Needed(_))));
        effects
    };
    let known = outputs(file("known"));
    assert_eq!(tell(Input::Learned(a_name, known.clone())), [], "nobody has asked for it");
    tell(Input::Slots(1));
    for (id, name, thunk) in [(1, a_name, a), (2, b_name, b)] {
        tell(Input::Thunk(name, Arc::new(thunk)));
        tell(Input::Demand(DemandId(id), output(name)));
    }
    let started = tell(Input::Recalled(a_name, None));
    assert!(matches!(started[..], [Effect::Start { lease: RunId(0), .. }]), "{started:?}");
    assert_eq!(tell(Input::Recalled(b_name, None)), [], "no slot is free");
    let learned = tell(Input::Learned(a_name, known.clone()));
    assert!(
        matches!(
            &learned[..],
            [
                Effect::Stop(RunId(0)),
                Effect::Event(Event::Reused(reused)),
                Effect::Answer(DemandId(1), Ok(object)),
                Effect::Start { lease: RunId(1), .. },
            ] if *reused == a_name && *object == file("known")
        ),
        "{learned:?}"
    );
    let late = Failure { class: FailureClass::Program, reason: "late".into() };
    assert_eq!(tell(Input::Ended(RunId(0), Err(late))), [], "nobody asks any more");
    assert_eq!(tell(Input::Learned(a_name, outputs(file("other")))), [], "it is done");
    let end = tell(Input::Ended(RunId(1), Ok(outputs(file("b")))));
    assert_eq!(end.last(), Some(&Effect::Answer(DemandId(2), Ok(file("b")))));
    assert!(force.is_idle() && force.running() == 0);
}

#[test]
fn what_is_learned_before_its_turn_never_runs() {
    let mut world = World::new(0, ForcePolicy::default(), concatenate());
    let names = ["a", "b", "c"].map(|label| world.add(thunk(label, &[])));
    let top = world.add(thunk("top", &names.map(of)));
    world.demand(0, top);
    world.go();
    for (name, label) in names.into_iter().zip(["a", "b", "c"]) {
        world.pending.push(Input::Learned(name, outputs(file(&format!("{label}()")))));
    }
    world.go();
    assert_eq!(world.force.wanted_slots(), 1, "what reads them");
    world.pending.push(Input::Slots(1));
    world.go();
    assert_eq!(world.executed, ["top"]);
    assert!(world.answers[&DemandId(0)].is_ok() && world.stopped.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is learned, and when: the answer is the same, slots are kept, all that was begun ends.
    #[test]
    fn any_graph_with_help(
        edges in proptest::collection::vec(proptest::collection::vec(any::<prop::sample::Index>(), 0..4), 1..40),
        known in proptest::collection::vec(any::<prop::sample::Index>(), 0..20),
        seed: u64, slots in 0_u32..5,
    ) {
        let mut world = World::new(slots, ForcePolicy::default(), concatenate());
        world.seed = seed;
        let mut names: Vec<(ThunkName, ThunkName)> = Vec::new();
        let mut by_hand: Vec<OutputObject> = Vec::new();
        for (i, picks) in edges.iter().enumerate() {
            let picked: Vec<usize> = match i { 0 => vec![], _ => picks.iter().map(|p| p.index(i)).collect() };
            let sources: Vec<Source> = picked.iter().map(|&j| of(names[j].0)).collect();
            let node = thunk(&i.to_string(), &sources);
            let reduced = picked.iter().map(|&j| (OutputRef { thunk: names[j].0, tag: out() }, by_hand[j].clone()));
            let substituted = node.substitute(&reduced.collect()).unwrap();
            by_hand.push(concatenate()(&substituted).unwrap());
            let reduced = substituted.encode().unwrap().0;
            names.push((world.add(node), reduced));
        }
        let last = names.len() - 1;
        world.demand(0, names[last].0);
        for (which, at) in known.iter().enumerate() {
            let at = at.index(names.len());
            let name = if which % 2 == 0 { names[at].0 } else { names[at].1 };
            world.pending.push(Input::Learned(name, outputs(by_hand[at].clone())));
        }
        world.go();
        // With no slots, what is left runs now.
        world.pending.push(Input::Slots(4));
        world.go();
        prop_assert_eq!(world.answers.remove(&DemandId(0)).unwrap().unwrap(), by_hand[last].clone());
        prop_assert!(world.force.is_idle() && world.force.running() == 0);
        prop_assert!(world.running_max <= (slots as usize).max(4));
        let distinct: BTreeSet<&String> = world.executed.iter().collect();
        prop_assert_eq!(distinct.len(), world.executed.len());
    }

    /// Any graph, any order of answers: every needed thunk runs exactly once, nothing else runs,
    /// the slots are kept, and the result is what evaluating by hand gives.
    #[test]
    fn any_graph(
        edges in proptest::collection::vec(proptest::collection::vec(any::<prop::sample::Index>(), 0..4), 1..40),
        seed: u64, slots in 1_u32..5,
    ) {
        let mut world = World::new(slots, ForcePolicy::default(), concatenate());
        world.seed = seed;
        let mut names: Vec<ThunkName> = Vec::new();
        let mut needs: Vec<BTreeSet<usize>> = Vec::new();
        let mut by_hand: Vec<OutputObject> = Vec::new();
        for (i, picks) in edges.iter().enumerate() {
            let picked: Vec<usize> = match i { 0 => vec![], _ => picks.iter().map(|p| p.index(i)).collect() };
            let sources: Vec<Source> = picked.iter().map(|&j| of(names[j])).collect();
            let node = thunk(&i.to_string(), &sources);
            let reduced = picked.iter().map(|&j| (OutputRef { thunk: names[j], tag: out() }, by_hand[j].clone()));
            let substituted = node.substitute(&reduced.collect()).unwrap();
            by_hand.push(concatenate()(&substituted).unwrap());
            let mut needed: BTreeSet<usize> = picked.iter().flat_map(|&j| needs[j].clone()).collect();
            needed.insert(i);
            needs.push(needed);
            names.push(world.add(node));
        }
        let last = names.len() - 1;
        prop_assert_eq!(world.force(names[last]).unwrap(), by_hand[last].clone());
        let mut executed: Vec<usize> = world.executed.iter().map(|label| label.parse().unwrap()).collect();
        executed.sort_unstable();
        prop_assert_eq!(executed, needs[last].iter().copied().collect::<Vec<_>>());
        prop_assert!(world.running_max <= slots as usize);
    }
}

/// 100,000 thunks in 1,000 levels of 100, each reading two of the level before.
#[test]
fn a_large_graph_is_loaded_and_reduced_in_linear_steps() {
    let mut world = World::new(64, ForcePolicy::default(), concatenate());
    let mut level: Vec<ThunkName> = Vec::new();
    for depth in 0..1_000 {
        level = (0..100_usize)
            .map(|i| {
                let sources = match level.len() {
                    0 => vec![],
                    width => vec![of(level[i]), of(level[(i * 7 + 1) % width])],
                };
                world.add(thunk(&format!("{depth}.{i}"), &sources))
            })
            .collect();
    }
    for (i, name) in level.iter().enumerate() {
        world.demand(i as u64, *name);
    }
    world.go();
    assert_eq!(world.answers.len(), 100);
    assert_eq!(world.executed.len(), 100_000);
}

#[test]
fn what_ran_on_a_machine_that_is_gone_runs_again_and_no_attempt_is_lost() {
    let mut force = Force::new(ForcePolicy { machine_attempts: 1, ..ForcePolicy::default() });
    let mut effects = Vec::new();
    let thunks: Vec<Thunk> = ["a", "b", "c"].map(|label| thunk(label, &[])).into();
    force.handle(Input::Slots(2), &mut effects);
    for (id, thunk) in (0..).zip(&thunks) {
        let (name, _) = thunk.encode().unwrap();
        force.handle(Input::Thunk(name, Arc::new(thunk.clone())), &mut effects);
        let output = OutputRef { thunk: name, tag: out() };
        force.handle(Input::Demand(DemandId(id), output), &mut effects);
        force.handle(Input::Recalled(name, None), &mut effects);
    }
    let started = |effects: &mut Vec<Effect>| -> Vec<(RunId, String, u32)> {
        let starts = effects.drain(..).filter_map(|effect| match effect {
            Effect::Start { lease, thunk, attempt, .. } => {
                Some((lease, thunk.spec().function.arguments[0].clone(), attempt))
            }
            _ => None,
        });
        starts.collect()
    };
    let before = started(&mut effects);
    force.handle(Input::TakeBack, &mut effects);
    let after = started(&mut effects);
    let what = |runs: &[(RunId, String, u32)]| -> Vec<(String, u32)> {
        runs.iter().map(|(_, label, attempt)| (label.clone(), *attempt)).collect()
    };
    assert_eq!(what(&before), [("a".to_owned(), 1), ("b".to_owned(), 1)]);
    assert_eq!(what(&after), what(&before), "the same ones first");
    let outputs: Outputs = Arc::new(BTreeMap::from([(out(), file("made"))]));
    force.handle(Input::Ended(before[0].0, Ok(outputs.clone())), &mut effects);
    assert!(effects.is_empty(), "who is gone is not listened to");
    for (run, _, _) in after {
        force.handle(Input::Ended(run, Ok(outputs.clone())), &mut effects);
    }
    let last = started(&mut effects);
    assert_eq!(what(&last), [("c".to_owned(), 1)]);
    force.handle(Input::Ended(last[0].0, Ok(outputs)), &mut effects);
    assert!(force.is_idle());
}
