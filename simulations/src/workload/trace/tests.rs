//! Reading recordings, real and made up.

use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::workload::{Graph, ObjectOrigin, TaskId};

/// A run from `ts` to `end`, in seconds.
fn run(name: &str, ts: u64, end: u64, inputs: &[u32], outputs: &[u32]) -> Value {
    json!({
        "name": name, "cat": "run", "ph": "X", "ts": ts * 1_000_000, "dur": (end - ts) * 1_000_000,
        "pid": 1, "tid": 1,
        "args": { "thunk": "T", "cores": 1, "inputs": inputs, "outputs": outputs, "succeeded": true,
            "run_us": (end - ts) * 1_000_000 - 500_000, "cpu_us": 250_000, "memory_bytes": 7 },
    })
}

/// Object n has 10^n bytes.
fn recording(events: &[Value], trees: &Value) -> Value {
    let objects: Vec<String> =
        (0..7).map(|n| format!("V{}-{}", "0".repeat(64), 10_u64.pow(n))).collect();
    json!({
        "otherData": { "schema": "mesh-trace/1", "slots": 3, "objects": objects, "trees": trees },
        "traceEvents": events,
    })
}

fn parse(recording: &Value) -> Result<Trace, String> {
    Trace::parse(recording.to_string().as_bytes())
}

fn graph(trace: &Trace) -> Graph {
    let mut builder = Builder::default();
    trace.generate(&mut builder);
    builder.finish().unwrap()
}

/// Bytes of all inputs that no task makes, and the makers of the others.
fn inputs(graph: &Graph, task: u32) -> (u64, Vec<u32>) {
    let (mut bytes, mut makers) = (0, Vec::new());
    for object in graph.inputs(TaskId(task)) {
        let object = graph.object(*object);
        match object.origin {
            ObjectOrigin::Product(TaskId(maker)) => makers.push(maker),
            _ => bytes += object.bytes,
        }
    }
    (bytes, makers)
}

#[test]
fn a_task_reads_what_is_in_trees_and_waits_for_what_was_made() {
    // Object 2 holds 3 and 4, which holds 3 as well and 0.
    let trees = json!({ "2": [3, 4], "4": [0, 3] });
    let events = [
        run("cc a.c", 0, 2, &[2, 1], &[5]),
        run("/usr/bin/ld a", 3, 4, &[4, 5], &[]),
        run("cc b.c", 1, 3, &[2], &[2, 6]),
        json!({ "name": "reused", "cat": "memo", "ph": "i", "ts": 1, "pid": 1, "tid": 0, "s": "p",
            "args": { "thunk": "T" } }),
        json!({ "name": "process_name", "ph": "M", "pid": 1, "tid": 0, "args": { "name": "here" } }),
    ];
    let trace = parse(&recording(&events, &trees)).unwrap();
    let graph = graph(&trace);
    assert_eq!(graph.classes(), ["cc", "ld"]);
    let tree = 1 + 100 + 1_000 + 10_000;
    assert_eq!(inputs(&graph, 0), (tree + 10, Vec::new()));
    assert_eq!(inputs(&graph, 1), (tree, Vec::new()));
    assert_eq!(inputs(&graph, 2), (tree - 100, vec![0]));
    let left =
        |task| graph.outputs(TaskId(task)).map(|o| graph.object(o).bytes).collect::<Vec<_>>();
    assert_eq!([left(0), left(1), left(2)], [vec![100_000], vec![tree, 1_000_000], vec![]]);
    let task = graph.task(TaskId(0));
    assert_eq!((task.work, task.memory), (1.5, 7));
    let expected = Recorded {
        slots: 3,
        runs: 3,
        makespan_s: 4.0,
        spacing_s: 1.0,
        shortest_s: 0.5,
        start_s: 0.5,
        reused: 1,
        has_trees: true,
        ..Recorded::default()
    };
    assert_eq!(trace.recorded(), expected);
    // What two of three read is a tool, what one reads a source: 1 alone, 2 by two, the rest by all.
    let origins = graph.objects().iter().filter_map(|object| match object.origin {
        ObjectOrigin::Product(_) => None,
        origin => Some((object.bytes, origin == ObjectOrigin::Common)),
    });
    let mut origins: Vec<_> = origins.collect();
    origins.sort_unstable();
    assert_eq!(origins, [(10, false), (100, true), (11_001, true)]);
}

#[test]
fn a_run_waits_for_none_that_ended_after_it_started() {
    let events = [
        run("late", 0, 5, &[], &[5]),
        run("early", 1, 2, &[], &[5]),
        run("between", 3, 4, &[5], &[]),
        run("before", 1, 2, &[5], &[]),
    ];
    let graph = graph(&parse(&recording(&events, &json!({}))).unwrap());
    // Tasks are in the order of their starts: late, early, before, between.
    assert_eq!(inputs(&graph, 2), (100_000, vec![]), "it was there already");
    assert_eq!(inputs(&graph, 3), (0, vec![1]), "who left it first");
}

#[test]
fn runs_that_were_not_done_are_counted_and_no_tasks() {
    let mut aborted = run("cc", 0, 1, &[], &[]);
    aborted["args"] =
        json!({ "thunk": "T", "inputs": [], "succeeded": false, "reason": "no disk" });
    let mut failed = run("cc", 1, 2, &[], &[]);
    failed["args"]["succeeded"] = json!(false);
    failed["args"]["cores"] = json!(4);
    let elsewhere = json!({ "name": "elsewhere", "cat": "elsewhere", "ph": "i", "ts": 1, "args": {
        "thunk": "T", "peer": "a", "run_us": 5 } });
    let local =
        json!({ "name": "local", "cat": "local", "ph": "i", "ts": 1, "args": { "argv": ["a"] } });
    let trace =
        parse(&recording(&[aborted.clone(), failed, elsewhere, local], &Value::Null)).unwrap();
    let Recorded { runs, failed, aborted: gone, elsewhere, local, wide, has_trees, .. } =
        trace.recorded();
    assert_eq!((runs, failed, gone, elsewhere, local, wide, has_trees), (1, 1, 1, 1, 1, 1, false));
    let error = parse(&recording(&[aborted], &Value::Null)).unwrap_err();
    assert!(error.contains("record a build from scratch"), "{error}");
}

#[test]
fn wrong_recordings_are_refused_in_words() {
    let good = || recording(&[run("cc", 0, 1, &[0], &[1])], &json!({ "1": [0] }));
    assert!(parse(&good()).is_ok());
    let wrong = |edit: &dyn Fn(&mut Value)| {
        let mut recording = good();
        edit(&mut recording);
        parse(&recording).unwrap_err()
    };
    type Edit<'a> = &'a dyn Fn(&mut Value);
    let cases: [(Edit<'_>, &str); 9] = [
        (&|r| r["otherData"] = json!({}), "not a trace of mesh build"),
        (&|r| *r = json!({ "traceEvents": [] }), "not a trace of mesh build"),
        (&|r| r["otherData"]["schema"] = json!("mesh-trace/2"), "mesh-trace/1 is known"),
        (&|r| r["otherData"]["trees"]["9"] = json!([]), "object 9 of 7"),
        (&|r| r["otherData"]["trees"]["1"] = json!([7]), "object 7 of 7"),
        (&|r| r["otherData"]["objects"][0] = json!("V12"), "<64 lower-case hex digits>"),
        (&|r| r["traceEvents"][0]["args"]["inputs"] = json!([8]), "\"cc\" names object 8 of 7"),
        (&|r| r["traceEvents"][0]["dur"] = json!(u64::MAX), "longer than 30 years"),
        (
            &|r| r["otherData"]["objects"][0] = json!(format!("V{}-{}", "0".repeat(64), u64::MAX)),
            "an object of 18446744073709551615 bytes",
        ),
    ];
    for (edit, expected) in cases {
        let error = wrong(edit);
        assert!(error.contains(expected), "{expected:?} in {error:?}");
    }
    assert!(Trace::parse(b"{").unwrap_err().contains("EOF"));
}

#[test]
fn a_tree_that_holds_itself_is_read_to_its_end() {
    let events = [run("cc", 0, 1, &[0], &[1]), run("cc", 1, 2, &[1], &[])];
    let trace = parse(&recording(&events, &json!({ "0": [1, 2], "1": [0], "2": [2] }))).unwrap();
    let graph = graph(&trace);
    assert_eq!(inputs(&graph, 0), (111, vec![]));
    assert_eq!(inputs(&graph, 1), (0, vec![0]));
    assert_eq!(graph.object(graph.outputs(TaskId(0)).next().unwrap()).bytes, 111);
}

/// `steps.json` was written by `mesh build --slots 2 --local --trace` of a C project: seven compiles,
/// an archive of six of their objects, a link.
#[test]
fn a_real_recording_is_the_build_that_it_was() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/traces/steps.json");
    let trace = Trace::open(&path).unwrap();
    let recorded = trace.recorded();
    assert_eq!(
        (recorded.slots, recorded.runs, recorded.failed, recorded.has_trees),
        (2, 9, 0, true)
    );
    let graph = graph(&trace);
    let class = |task: u32| graph.classes()[usize::from(graph.task(TaskId(task)).class)].as_str();
    let classes: Vec<_> = (0..9).map(class).collect();
    assert_eq!(classes, ["cc", "cc", "cc", "cc", "cc", "cc", "cc", "ar", "link"]);
    let (archive, link) = (inputs(&graph, 7), inputs(&graph, 8));
    assert_eq!(archive.1.len(), 6);
    assert_eq!(link.1.len(), 2);
    assert!(link.1.contains(&7) && link.1.contains(&0), "the archive and main.o");
    // A compiler is tens of megabytes, and all compiles read the same.
    let tools: Vec<_> =
        graph.objects().iter().filter(|o| o.origin == ObjectOrigin::Common).collect();
    let bytes: u64 = tools.iter().map(|object| object.bytes).sum();
    assert!((30_000_000..100_000_000).contains(&bytes), "{bytes}");
    assert!(tools.len() <= 5 && graph.objects().len() < 40, "{}", graph.objects().len());
}
