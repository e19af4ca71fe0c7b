//! `mesh build --trace`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use mesh_tests::{Mesh, Project, binary};
use serde_json::Value;

use crate::leasing::Cluster;

/// The events of one category.
fn of<'a>(trace: &'a Value, category: &str) -> Vec<&'a Value> {
    let events = trace["traceEvents"].as_array().unwrap();
    events.iter().filter(|event| event["cat"] == category).collect()
}

fn positions(run: &Value, key: &str) -> BTreeSet<u64> {
    run["args"][key].as_array().unwrap().iter().map(|position| position.as_u64().unwrap()).collect()
}

fn number(event: &Value, key: &str) -> u64 {
    event[key].as_u64().unwrap_or_else(|| panic!("no {key} in {event}"))
}

fn end(run: &Value) -> u64 {
    number(run, "ts") + number(run, "dur")
}

/// What a build with these options leaves as its trace.
fn traced(project: &Project, mesh: &Mesh, options: &[&str]) -> Value {
    let mut command = project.command(binary());
    command.env("MESH_HOME", mesh.home()).args(["build", "--trace", "trace.json"]);
    let output = command.args(options).args(["--", "make"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(project.directory().join("trace.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_trace_tells_what_ran_when_and_what_waited_for_it() {
    let (project, mesh) = (Project::own("slow"), Mesh::new());
    let trace = traced(&project, &mesh, &[]);
    assert_eq!(trace["otherData"]["schema"], "mesh-trace/1");
    let runs = of(&trace, "run");
    assert_eq!(runs.len(), 6, "five compiles and a link");
    assert_eq!(of(&trace, "queue").len(), 2 * runs.len());

    let (link, compiles) = runs.split_last().unwrap();
    let objects = trace["otherData"]["objects"].as_array().unwrap();
    for run in compiles {
        let made = positions(run, "outputs");
        assert!(made.is_subset(&positions(link, "inputs")), "the link reads what a compile left");
        assert!(made.iter().all(|position| objects[*position as usize].is_string()));
        assert!(end(run) <= number(link, "ts"), "and waits for it");
    }
    for run in &runs {
        let took = number(&run["args"], "run_us");
        assert!(0 < took && took <= number(run, "dur"), "{run}");
    }

    project.edit("make clean");
    let again = traced(&project, &mesh, &[]);
    assert_eq!((of(&again, "run").len(), of(&again, "memo").len()), (0, 6));
}

/// What ran on other members is in rows of theirs, as many as they have slots.
#[test]
fn a_trace_tells_where_a_thunk_ran_and_what_it_took_to_get_there() {
    let (project, cluster) = (Project::own("slow"), Cluster::with(2, "worker"));
    let trace = traced(&project, cluster.home(), &["--slots", "0"]);
    let runs = of(&trace, "run");
    assert_eq!(runs.len(), 6, "five compiles and a link");
    let mut rows: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    for run in &runs {
        let (machine, row) = (number(run, "pid"), number(run, "tid"));
        assert!(machine > 1 && (1..=2).contains(&row), "{run}");
        let left = rows.insert((machine, row), end(run)).unwrap_or(0);
        assert!(left <= number(run, "ts"), "one at a time in a row: {run}");
        let (took, dur) = (number(&run["args"], "run_us"), number(run, "dur"));
        assert!(0 < took && took <= dur, "{run}");
        assert!(run["args"]["peer"].is_string());
    }
    let leases = of(&trace, "lease");
    let when = |run: &Value, what: &str, ph: &str| {
        let is = |lease: &&&Value| {
            let id = lease["id2"]["local"].as_str().unwrap();
            let thunk = run["args"]["thunk"].as_str().unwrap();
            thunk.starts_with(id) && lease["name"] == what && lease["ph"] == ph
        };
        number(leases.iter().find(is).unwrap(), "ts")
    };
    for run in runs {
        let times = [
            when(run, "lease", "b"),
            when(run, "fetch", "b"),
            when(run, "fetch", "e"),
            when(run, "wait", "b"),
            when(run, "wait", "e"),
            number(run, "ts"),
            end(run),
            when(run, "return", "b"),
            when(run, "lease", "e"),
        ];
        assert!(times.is_sorted(), "{times:?}");
    }
}
