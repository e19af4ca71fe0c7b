//! Recording, with times that are made up.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_node::exec::Exit;
use mesh_protocol::thunk::{OutputObject, Usage};
use mesh_protocol::wire::claim::Timeline;

use super::*;

fn thunk(label: &str, input: Option<ValueName>) -> (ThunkName, Thunk) {
    let inputs = input.map_or_else(String::new, |name| format!(r#""/in": "{name}""#));
    let thunk = Thunk::from_json(&format!(
        r#"{{"function": {{"executable": "/f", "arguments": ["{label}"]}},
            "inputs": {{{inputs}}}, "outputs": {{"out": "/out"}}}}"#
    ));
    let thunk = thunk.unwrap();
    (thunk.encode().unwrap().0, thunk)
}

fn left(name: ValueName) -> Outcome {
    Outcome {
        exit: Exit::Code(0),
        outputs: BTreeMap::from([(
            "out".parse().unwrap(),
            OutputObject::File { name, executable: false },
        )]),
        missing: Vec::new(),
        stdout: ValueName::of(b""),
        stderr: ValueName::of(b""),
        usage: Usage { wall_us: 900, cpu_us: 800, memory_peak_bytes: 7 },
    }
}

#[test]
fn trees_are_looked_into_once_each() {
    let file = ValueName::of(b"a file of a tree");
    let entry = TreeEntry::File { name: file, executable: false };
    let inner = Tree::new(BTreeMap::from([("f".to_owned(), entry.clone())])).unwrap();
    let inner_name = ValueName::of(&inner.encode().unwrap());
    let outer = BTreeMap::from([
        ("again".to_owned(), TreeEntry::Directory(inner_name)),
        ("inner".to_owned(), TreeEntry::Directory(inner_name)),
        ("f".to_owned(), entry),
        ("link".to_owned(), TreeEntry::Symlink("f".to_owned())),
    ]);
    let outer = Tree::new(outer).unwrap();
    let outer_name = ValueName::of(&outer.encode().unwrap());
    let (lost, gone) = (ValueName::of(b"a tree that is gone"), ValueName::of(b"no tree"));
    let thunk = Thunk::from_json(&format!(
        r#"{{"function": {{"executable": "/f", "arguments": ["f"]}}, "outputs": {{"out": "/out"}},
            "inputs": {{
              "/outer": {{"source": {{"value": "{outer_name}"}}, "mode": "tree"}},
              "/lost": {{"source": {{"value": "{lost}"}}, "mode": "tree"}}, "/f": "{gone}"}}}}"#
    ));
    let thunk = thunk.unwrap();
    let now = Instant::now();
    let mut trace = Trace::new(now, 1);
    trace.started(now, thunk.encode().unwrap().0, &thunk, "f".into());
    trace.note_contents(|name| {
        assert_ne!(name, gone, "a file is not read as a tree");
        [(outer_name, &outer), (inner_name, &inner)]
            .into_iter()
            .find_map(|(known, tree)| (known == name).then(|| tree.clone()))
    });

    let json = trace.to_json();
    let objects: Vec<ValueName> =
        serde_json::from_value(json["otherData"]["objects"].clone()).unwrap();
    let trees: BTreeMap<usize, Vec<usize>> =
        serde_json::from_value(json["otherData"]["trees"].clone()).unwrap();
    let at = |name| objects.iter().position(|known| *known == name).unwrap();
    let held = |name| trees[&at(name)].iter().map(|n| objects[*n]).collect::<BTreeSet<_>>();
    assert_eq!(trees.len(), 2, "nothing is known of the tree that is gone");
    assert_eq!(held(outer_name), BTreeSet::from([inner_name, file]));
    assert_eq!(held(inner_name), BTreeSet::from([file]));
}

#[test]
fn runs_have_rows_and_times_and_are_tied_by_their_objects() {
    let began = Instant::now();
    let at = |ms| began + Duration::from_millis(ms);
    let mut trace = Trace::new(began, 2);
    let object = ValueName::of(b"object");
    let ((a, a_thunk), (b, b_thunk)) = (thunk("a", None), thunk("b", Some(object)));
    let (c, c_thunk) = thunk("c", None);
    trace.ready(at(0), a);
    trace.ready(at(1), c);
    trace.started(at(2), a, &a_thunk, "cc a.c".into());
    trace.started(at(3), c, &c_thunk, "cc c.c".into());
    trace.ended(at(5), a, Ok(&left(object)));
    trace.ready(at(5), b);
    trace.started(at(6), b, &b_thunk, "link a".into());
    trace.ended(at(8), c, Err("the disk is full"));
    trace.ended(at(9), b, Ok(&left(ValueName::of(b"program"))));
    trace.reused(at(9), c);
    trace.local(at(10), &["sed".to_owned()], "no model");

    let json = trace.to_json();
    assert_eq!(json["otherData"]["schema"], "mesh-trace/1");
    let objects = json["otherData"]["objects"].as_array().unwrap();
    let events = json["traceEvents"].as_array().unwrap();
    let of = |cat| events.iter().filter(move |event| event["cat"] == cat);
    let runs: Vec<_> = of("run")
        .map(|run| {
            let number = |key: &str| run[key].as_u64().unwrap();
            (run["name"].as_str().unwrap(), number("tid"), number("ts"), number("dur"))
        })
        .collect();
    let expected =
        [("cc a.c", 1, 2000, 3000), ("cc c.c", 2, 3000, 5000), ("link a", 1, 6000, 3000)];
    assert_eq!(runs, expected);
    let args: Vec<_> = of("run").map(|run| &run["args"]).collect();
    let made = args[0]["outputs"][0].as_u64().unwrap();
    assert_eq!(args[2]["inputs"][0].as_u64(), Some(made), "what links them");
    assert_eq!(objects[made as usize], object.to_string());
    assert_eq!((&args[0]["run_us"], &args[0]["cpu_us"]), (&json!(900), &json!(800)));
    assert_eq!(args[1]["reason"], "the disk is full");
    let waits: Vec<_> = of("queue").map(|event| event["ts"].as_u64().unwrap()).collect();
    assert_eq!(waits, [0, 2000, 1000, 3000, 5000, 6000], "a begin and an end each");
    let of_waits = |key: &str| of("queue").map(move |event| event[key].clone()).collect::<Vec<_>>();
    assert_eq!(of_waits("id2").chunks(2).filter(|pair| pair[0] == pair[1]).count(), 3);
    assert_eq!(of_waits("args")[0], json!({ "what": "cc a.c" }));
    let labels = events.iter().filter(|event| event["ph"] == "M");
    let labels: Vec<_> =
        labels.map(|label| (label["tid"].as_u64(), &label["args"]["name"])).collect();
    let [machine, first, second] = ["this machine", "row 1", "row 2"].map(|name| json!(name));
    assert_eq!(labels, [(Some(0), &machine), (Some(1), &first), (Some(2), &second)]);
    assert_eq!((of("memo").count(), of("local").count()), (1, 1));
}

#[test]
fn what_others_ran_is_in_rows_of_theirs_with_the_way_there_and_back() {
    let began = Instant::now();
    let at = |ms| began + Duration::from_millis(ms);
    let mut trace = Trace::new(began, 2);
    let ((a, a_thunk), (b, b_thunk), (c, c_thunk)) =
        (thunk("a", None), thunk("b", None), thunk("c", None));
    let (peer, other) = (PeerId([7; 32]), PeerId([8; 32]));
    let timeline =
        Timeline { came_us: 70_000, fetched_us: 2_000, started_us: 3_000, ended_us: 8_000 };
    let trip = |given_us, timeline| Trip {
        given_us,
        received_us: given_us + 10_000,
        settled_us: given_us + 11_000,
        timeline,
    };
    for (name, thunk, what) in [(a, &a_thunk, "a"), (b, &b_thunk, "b"), (c, &c_thunk, "c")] {
        trace.ready(at(1), name);
        trace.started(at(14), name, thunk, what.into());
    }
    trace.elsewhere(a, peer, Some(trip(900_000, timeline)));
    trace.ended(at(21), a, Ok(&left(ValueName::of(b"a"))));
    let timeline = Timeline { came_us: 71_000, ..timeline };
    trace.elsewhere(b, peer, Some(trip(901_000, timeline)));
    trace.ended(at(22), b, Ok(&left(ValueName::of(b"b"))));
    trace.elsewhere(c, other, None);
    trace.ended(at(30), c, Err("its stream broke"));

    let json = trace.to_json();
    let events = json["traceEvents"].as_array().unwrap();
    let number = |event: &Value, key: &str| event[key].as_u64().unwrap();
    let of = |cat, name: ThunkName| {
        let id = &name.to_string()[..17];
        let named = move |event: &Value| {
            event["id2"]["local"] == json!(id) || event["args"]["thunk"] == json!(name)
        };
        events.iter().filter(move |event| event["cat"] == cat && named(event)).collect::<Vec<_>>()
    };
    let run = of("run", a)[0];
    assert_eq!((number(run, "pid"), number(run, "tid")), (2, 1));
    // Given at 10, there at 11, fetched at 13, started at 14, ended at 19, the receipt here at 20.
    assert_eq!((number(run, "ts"), number(run, "dur")), (14_000, 5_000));
    assert_eq!(run["args"]["peer"], peer.to_string());
    let spans: Vec<_> = of("lease", a)
        .into_iter()
        .map(|event| {
            (event["name"].as_str().unwrap(), event["ph"].as_str().unwrap(), number(event, "ts"))
        })
        .collect();
    let expected = [
        ("lease", "b", 10_000),
        ("lease", "e", 21_000),
        ("fetch", "b", 11_000),
        ("fetch", "e", 13_000),
        ("wait", "b", 13_000),
        ("wait", "e", 14_000),
        ("return", "b", 19_000),
        ("return", "e", 21_000),
    ];
    assert_eq!(spans, expected);
    let queued: Vec<_> = of("queue", a).into_iter().map(|event| number(event, "ts")).collect();
    assert_eq!(queued, [1_000, 10_000], "until it was given away");
    assert_eq!(number(of("run", b)[0], "tid"), 2, "both ran at once there");
    let lost = of("run", c)[0];
    assert_eq!((number(lost, "pid"), number(lost, "ts"), number(lost, "dur")), (3, 14_000, 16_000));
    assert!(of("lease", c).is_empty(), "nobody knows where its time went");
    let machines = events.iter().filter(|event| event["name"] == "process_name");
    let names: Vec<_> = machines.map(|event| event["args"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["this machine", &peer.to_string(), &other.to_string()]);
}

#[test]
fn a_run_that_somebody_else_made_needless_leaves_its_row() {
    let now = Instant::now();
    let mut trace = Trace::new(now, 1);
    let ((a, a_thunk), (b, b_thunk)) = (thunk("a", None), thunk("b", None));
    trace.started(now, a, &a_thunk, "a".into());
    trace.reused(now, a);
    trace.started(now, b, &b_thunk, "b".into());
    trace.ended(now, b, Ok(&left(ValueName::of(b"object"))));
    let json = trace.to_json();
    let runs = json["traceEvents"].as_array().unwrap().iter().filter(|event| event["cat"] == "run");
    let rows: Vec<_> = runs.map(|run| (&run["name"], &run["tid"])).collect();
    assert_eq!(rows, [(&json!("b"), &json!(1))]);
}
