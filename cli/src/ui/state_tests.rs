//! Counting, with a real force machine and programs that are made up.

use std::collections::BTreeMap;

use mesh_node::exec::{Exit, Outcome};
use mesh_protocol::graph::Outputs;
use mesh_protocol::name::{OutputRef, ValueName};
use mesh_protocol::sched::force::{
    DemandId, Effect, Failure, FailureClass, Force, ForcePolicy, Input,
};
use mesh_protocol::thunk::{OutputObject, Usage};

use super::*;

/// A memo and a function in place of programs, which live longer than one build.
struct World {
    thunks: BTreeMap<ThunkName, Arc<Thunk>>,
    memo: BTreeMap<ThunkName, Outputs>,
    run: fn(&str) -> Result<String, FailureClass>,
}

impl World {
    fn new(run: fn(&str) -> Result<String, FailureClass>) -> Self {
        Self { thunks: BTreeMap::new(), memo: BTreeMap::new(), run }
    }

    fn thunk(&mut self, label: &str, source: Option<ThunkName>) -> ThunkName {
        let inputs = source.map_or_else(String::new, |name| format!(r#""/in": "{name}#out""#));
        let thunk = Thunk::from_json(&format!(
            r#"{{"function": {{"executable": "/f", "arguments": ["{label}"]}},
                "inputs": {{{inputs}}}, "outputs": {{"out": "/out"}}}}"#
        ));
        let thunk = thunk.unwrap();
        let (name, _) = thunk.encode().unwrap();
        self.thunks.insert(name, Arc::new(thunk));
        name
    }

    /// One build that demands these, watched by `state`.
    fn build(&mut self, state: &mut State, names: &[ThunkName]) {
        let mut force = Force::new(ForcePolicy { keep_going: true, ..ForcePolicy::default() });
        let mut inputs = vec![Input::Slots(1)];
        inputs.extend((0..).zip(names).map(|(id, thunk)| {
            let tag = "out".parse().unwrap();
            Input::Demand(DemandId(id), OutputRef { thunk: *thunk, tag })
        }));
        inputs.reverse();
        while let Some(input) = inputs.pop() {
            let mut effects = Vec::new();
            force.handle(input, &mut effects);
            inputs.extend(effects.into_iter().filter_map(|effect| self.perform(state, effect)));
        }
        assert!(force.is_idle());
    }

    fn perform(&mut self, state: &mut State, effect: Effect) -> Option<Input> {
        let now = state.started;
        match effect {
            Effect::Recall(name) => Some(Input::Recalled(name, self.memo.get(&name).cloned())),
            Effect::Fetch(name) => Some(Input::Thunk(name, self.thunks[&name].clone())),
            Effect::Start { lease, name, thunk, .. } => {
                state.take(now, &Progress::Started(name, thunk.clone()));
                assert_eq!(state.running().len(), 1);
                let end = self.end(name, &thunk);
                let cost = Usage { wall_us: 9, cpu_us: 7, memory_peak_bytes: 1 };
                state.take(now, &Progress::Ended(name, Ok(outcome(cost))));
                assert!(state.running().is_empty());
                Some(Input::Ended(lease, end))
            }
            Effect::Alias { thunk, same_as } => {
                let outputs = self.memo[&same_as].clone();
                self.memo.insert(thunk, outputs);
                None
            }
            Effect::Event(event) => {
                state.take(now, &Progress::Event(event));
                None
            }
            Effect::Stop(_) | Effect::Answer(..) | Effect::Levels(_) => None,
        }
    }

    fn end(&mut self, name: ThunkName, thunk: &Thunk) -> Result<Outputs, Failure> {
        let words = (self.run)(&thunk.spec().function.arguments[0])
            .map_err(|class| Failure { class, reason: "it broke".into() })?;
        let file = OutputObject::File { name: ValueName::of(words.as_bytes()), executable: false };
        let outputs: Outputs = Arc::new(BTreeMap::from([("out".parse().unwrap(), file)]));
        self.memo.insert(name, outputs.clone());
        Ok(outputs)
    }
}

fn outcome(usage: Usage) -> Outcome {
    Outcome {
        exit: Exit::Code(0),
        outputs: BTreeMap::new(),
        missing: Vec::new(),
        stdout: ValueName::of(b""),
        stderr: ValueName::of(b""),
        usage,
    }
}

fn echo(label: &str) -> Result<String, FailureClass> {
    Ok(label.to_owned())
}

fn new() -> State {
    State::new(Instant::now())
}

/// The closing line of a build that took a second, without the second.
fn closing(state: &mut State) -> String {
    let line = state.finish(state.started + Duration::from_secs(1)).to_string();
    line.strip_suffix(", 1.0 s").expect(&line).to_owned()
}

#[test]
fn a_chain_counts_its_tool_calls_and_not_their_names() {
    let mut world = World::new(echo);
    let a = world.thunk("a", None);
    let b = world.thunk("b", Some(a));
    for planned in [false, true] {
        world.memo.clear();
        let mut state = new();
        if planned {
            state.planned(a, "cc a.c");
            state.planned(b, "link a");
        }
        world.build(&mut state, &[b]);
        assert_eq!(state.total(), 2);
        assert_eq!(closing(&mut state), "2 thunks, 2 run, 0 reused, 0 local");
        assert_eq!(state.counts().cpu_us, 14);

        let mut again = new();
        again.planned(a, "cc a.c");
        again.planned(b, "link a");
        world.build(&mut again, &[a, b]);
        assert_eq!(again.total(), 2);
        assert_eq!(closing(&mut again), "2 thunks, 0 run, 2 reused, 0 local");
    }
}

#[test]
fn tool_calls_that_become_the_same_run_once_and_are_reused_otherwise() {
    // Both sources compile to the same bytes, so that both links are the same step.
    let mut world = World::new(|label| Ok(label[..1].to_owned()));
    let (a1, a2) = (world.thunk("a1", None), world.thunk("a2", None));
    let (b1, b2) = (world.thunk("b", Some(a1)), world.thunk("b", Some(a2)));
    let mut state = new();
    world.build(&mut state, &[b1, b2]);
    assert_eq!(state.total(), 4);
    assert_eq!(closing(&mut state), "4 thunks, 3 run, 1 reused, 0 local");

    // The next build has another a that leaves the same bytes: b is known by its values alone.
    let a3 = world.thunk("a3", None);
    let b3 = world.thunk("b", Some(a3));
    let mut next = new();
    world.build(&mut next, &[b3]);
    assert_eq!(closing(&mut next), "2 thunks, 1 run, 1 reused, 0 local");
}

#[test]
fn a_name_that_is_asked_for_and_also_stands_for_another_is_two_tool_calls() {
    let mut world = World::new(echo);
    let a = world.thunk("a", None);
    let b = world.thunk("b", Some(a));
    let value = OutputObject::File { name: ValueName::of(b"a"), executable: false };
    let output = OutputRef { thunk: a, tag: "out".parse().unwrap() };
    let direct = world.thunks[&b].substitute(&BTreeMap::from([(output, value)])).unwrap();
    let (name, _) = direct.encode().unwrap();
    world.thunks.insert(name, Arc::new(direct));
    for order in [[b, name], [name, b]] {
        world.memo.clear();
        let mut state = new();
        order.iter().for_each(|name| state.planned(*name, "link a"));
        world.build(&mut state, &order);
        assert_eq!(closing(&mut state), "3 thunks, 2 run, 1 reused, 0 local");
        // Asked for when all is over: it is done already.
        let mut late = new();
        world.memo.clear();
        world.build(&mut late, &[b]);
        late.planned(name, "link a");
        assert_eq!((late.total(), late.counts().thunks, late.counts().reused), (3, 3, 1));
    }
}

#[test]
fn failures_and_what_they_keep_from_running() {
    let mut world = World::new(|label| match label {
        "bad" => Err(FailureClass::Program),
        "shaky" => Err(FailureClass::Machine),
        label => Ok(label.to_owned()),
    });
    let bad = world.thunk("bad", None);
    let after = world.thunk("after", Some(bad));
    let shaky = world.thunk("shaky", None);
    let mut state = new();
    world.build(&mut state, &[after, shaky]);
    assert_eq!(state.total(), 3);
    assert_eq!(closing(&mut state), "2 thunks, 0 run, 0 reused, 2 failed, 2 retried, 0 local");
    let reasons = &state.counts().retries;
    assert_eq!(*reasons, [Retry { reason: "it broke".to_owned(), count: 2 }]);
    assert_eq!(state.take_news(), ["mesh: it broke; it is tried again\n"], "once");
}

#[test]
fn what_the_memo_had_without_the_driver_counts_once() {
    let mut world = World::new(echo);
    let a = world.thunk("a", None);
    world.build(&mut new(), &[a]);
    let mut state = new();
    state.planned(a, "cc a.c");
    state.reused(state.started, a);
    world.build(&mut state, &[a]);
    assert_eq!(closing(&mut state), "1 thunk, 0 run, 1 reused, 0 local");

    // The memo has it under the name it was written with, too, once what stands for it has run.
    let b = world.thunk("b", Some(a));
    let mut state = new();
    world.build(&mut state, &[b]);
    state.reused(state.started, b);
    assert_eq!(closing(&mut state), "2 thunks, 1 run, 1 reused, 0 local");
}

#[test]
fn a_running_step_is_called_what_it_was_planned_as() {
    let mut world = World::new(echo);
    let (a, b) = (world.thunk("a", None), world.thunk("b", None));
    let mut state = new();
    state.planned(a, "link\tlua \x1b[2J");
    state.take(state.started, &Progress::Event(Event::Needed(a)));
    state.take(state.started, &Progress::Event(Event::Substituted(a, b)));
    state.take(state.started, &Progress::Event(Event::Needed(b)));
    state.take(state.started, &Progress::Started(b, world.thunks[&b].clone()));
    assert_eq!(&*state.running()[0].description, "link lua  [2J");
    // Nobody said what this one is.
    let other = world.thunk("tool --flag", None);
    state.take(state.started, &Progress::Started(other, world.thunks[&other].clone()));
    assert_eq!(&*state.running()[1].description, "tool --flag");
    let nameless = world.thunk("", None);
    state.take(state.started, &Progress::Started(nameless, world.thunks[&nameless].clone()));
    assert_eq!(&*state.running()[2].description, format!("{nameless:?}"));
}

#[test]
fn local_calls_are_all_counted_and_some_kept() {
    let mut state = new();
    let argv = ["conftest".to_owned()];
    (0..CALLS_KEPT + 5).for_each(|_| state.local(state.started, &argv, "no model"));
    assert_eq!(state.counts().local, CALLS_KEPT as u64 + 5);
    assert_eq!(state.counts().calls.len(), CALLS_KEPT);
    let mut state = new();
    let long = ["x".repeat(CALLS_KEPT_BYTES / 2)];
    (0..3).for_each(|_| state.local(state.started, &long, ""));
    assert_eq!((state.counts().local, state.counts().calls.len()), (3, 2));
}

#[test]
fn progress_is_said_at_most_every_five_seconds_until_the_end() {
    let mut state = new();
    let at = |state: &State, ms| state.started + Duration::from_millis(ms);
    let mut said = Vec::new();
    for ms in (0..20_000).step_by(100) {
        let now = at(&state, ms);
        said.extend(state.line_due(now).map(|_| ms));
    }
    assert_eq!(said, [5_000, 10_000, 15_000]);
    state.finish(at(&state, 20_000));
    assert_eq!(state.line_due(at(&state, 60_000)), None);
    assert_eq!(state.finish(at(&state, 70_000)).elapsed, Duration::from_secs(20));
}
