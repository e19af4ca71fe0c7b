//! What one member found out, the others use; what one has, the others get by its name.

use std::fs;

use mesh_tests::{Members, Mesh, Project, wait_until};
use serde_json::Value;

use crate::leasing::{Cluster, end, number, plain, start};

const LUA: &str = "make linux";

fn find(mesh: &Mesh, name: &str) -> Value {
    serde_json::from_str(&mesh.ok(["find", "--json", name])).unwrap()
}

fn providers(found: &Value) -> Vec<&str> {
    let providers = found["providers"].as_array().unwrap().iter();
    providers.map(|provider| provider["name"].as_str().unwrap()).collect()
}

#[test]
fn a_second_member_runs_nothing_and_a_third_gets_objects_by_name() {
    let Some(project) = Project::source("lua5.4") else { return };
    let expected = plain(&project, LUA);
    // Nobody works for others: what they know, they were told.
    let mut cluster = Cluster::joined(2, "submitter", &["--slots", "0"]);
    let (_, report) = end(&project, start(&project, cluster.home(), &[], LUA));
    let executed = number(&report, "executed");
    assert!(executed > 30, "{report}");
    let second = &cluster.workers[0].0;
    // It has no slots, either: where a step could run at once, it might end before the answer.
    let (said, report) = end(&project, start(&project, second, &["--slots", "0"], LUA));
    project.snapshot().differences(&expected, &[]).assert_none(&said.stderr);
    let counts = (number(&report, "executed"), number(&report, "reused"));
    assert_eq!(counts, (0, executed), "{said:?}");
    let [origin] = &report["learned"].as_array().unwrap()[..] else { panic!("{report}") };
    assert_eq!(number(origin, "count"), executed, "{report}");
    let status: Value = serde_json::from_str(&cluster.home().ok(["peers", "--json"])).unwrap();
    assert_eq!(origin["peer"], status["peer"], "who ran them");
    let text = format!("{executed} reused, {executed} of them known to the mesh");
    assert!(said.stderr.contains(&text), "{said:?}");

    let third = &cluster.workers[1].0;
    let program = project.directory().join("src/lua");
    let name = cluster.home().ok(["put", program.to_str().unwrap()]);
    let name = name.split_whitespace().next().unwrap().to_owned();
    assert_eq!(providers(&find(third, &name)).len(), 2, "whoever built it");
    let got = third.home().join("got");
    third.ok(["get", &name, got.to_str().unwrap()]);
    assert_eq!(fs::read(&got).unwrap(), fs::read(&program).unwrap());
    assert_eq!(find(third, &name)["here"], Value::Bool(true));

    let program = cluster.home().ok(["put", "/bin/true"]);
    let program = program.split_whitespace().next().unwrap();
    let json = serde_json::json!({
        "function": { "executable": "/f", "arguments": ["f"] },
        "inputs": { "/f": { "source": { "value": program }, "mode": "executable" } },
        "outputs": { "out": "/out" },
    });
    let thunk = cluster.home().run_with(["thunk", "create", "-"], json.to_string().as_bytes()).ok();
    let shown = third.ok(["thunk", "show", &thunk]);
    assert_eq!(
        shown,
        cluster.home().ok(["thunk", "show", &thunk]),
        "never published, but asked for"
    );
    let nowhere = "V0000000000000000000000000000000000000000000000000000000000000000-7";
    assert_eq!(third.run(["find", nowhere]).code, Some(66));
    let missing = third.run(["get", nowhere, got.to_str().unwrap()]);
    assert_eq!(missing.code, Some(66), "{missing:?}");

    // Who has left is no answer any more.
    cluster.requester.1.interrupt();
    cluster.workers[1].1.says("is gone");
    assert_eq!(providers(&find(&cluster.workers[1].0, &name)), ["worker0"]);
}

fn records(mesh: &Mesh) -> Value {
    let status: Value = serde_json::from_str(&mesh.ok(["status", "--json"])).unwrap();
    status["records"].clone()
}

#[test]
fn what_is_put_is_told_at_once_and_what_was_put_before_when_a_node_starts() {
    let mut members = Members::on_loopback(2);
    let put = |members: &Members, text: &str| {
        members.home(0).run_with(["put", "-"], text.as_bytes()).ok()
    };
    let during = put(&members, "while it runs");
    assert_eq!(records(members.home(0))["published"], 1);
    wait_until("it to be kept", || records(members.home(1))["kept"] == 1);
    members.take(0).interrupt();
    let before = put(&members, "while it does not");
    members.start(0);
    members.wait_until_all_connected();
    wait_until("both to be kept", || records(members.home(1))["kept"] == 2);
    assert_eq!(records(members.home(0))["published"], 2);
    for (name, text) in [(during, "while it runs"), (before, "while it does not")] {
        assert_eq!(providers(&find(members.home(1), &name)), ["n0"]);
        assert_eq!(members.home(1).run(["cat", &name]).stdout, text);
    }
}
