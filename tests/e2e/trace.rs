//! `mesh build --trace`.

use std::collections::BTreeSet;
use std::fs;

use mesh_tests::{Mesh, Project, binary};
use serde_json::Value;

/// The events of one category.
fn of<'a>(trace: &'a Value, category: &str) -> Vec<&'a Value> {
    let events = trace["traceEvents"].as_array().unwrap();
    events.iter().filter(|event| event["cat"] == category).collect()
}

fn positions(run: &Value, key: &str) -> BTreeSet<u64> {
    run["args"][key].as_array().unwrap().iter().map(|position| position.as_u64().unwrap()).collect()
}

#[test]
fn a_trace_tells_what_ran_when_and_what_waited_for_it() {
    let (project, mesh) = (Project::own("slow"), Mesh::new());
    let traced = || {
        let mut command = project.command(binary());
        command.env("MESH_HOME", mesh.home()).args(["build", "--trace", "trace.json", "--"]);
        let output = command.args(["make"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = fs::read_to_string(project.directory().join("trace.json")).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let trace = traced();
    assert_eq!(trace["otherData"]["schema"], "mesh-trace/1");
    let runs = of(&trace, "run");
    assert_eq!(runs.len(), 6, "five compiles and a link");
    assert_eq!(of(&trace, "queue").len(), 2 * runs.len());

    let (link, compiles) = runs.split_last().unwrap();
    let end = |run: &Value| run["ts"].as_u64().unwrap() + run["dur"].as_u64().unwrap();
    let objects = trace["otherData"]["objects"].as_array().unwrap();
    for run in compiles {
        let made = positions(run, "outputs");
        assert!(made.is_subset(&positions(link, "inputs")), "the link reads what a compile left");
        assert!(made.iter().all(|position| objects[*position as usize].is_string()));
        assert!(end(run) <= link["ts"].as_u64().unwrap(), "and waits for it");
    }
    for run in &runs {
        let took = run["args"]["run_us"].as_u64().unwrap();
        assert!(0 < took && took <= run["dur"].as_u64().unwrap(), "{run}");
    }

    project.edit("make clean");
    let again = traced();
    assert_eq!((of(&again, "run").len(), of(&again, "memo").len()), (0, 6));
}
