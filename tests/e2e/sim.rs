//! `mesh sim`, with the scenarios that lie beside the code.

use std::fs;
use std::path::Path;

use mesh_tests::Mesh;
use serde_json::Value;

fn scenario(name: &str) -> String {
    let scenarios = Path::new(env!("CARGO_MANIFEST_DIR")).join("../simulations/scenarios");
    scenarios.join(name).to_str().unwrap().to_owned()
}

fn mean(mesh: &Mesh, arguments: &[&str], column: &str) -> f64 {
    let sleep = scenario("sleep.toml");
    let all: Vec<&str> =
        ["sim", "run", &sleep, "--json"].iter().chain(arguments).copied().collect();
    let json: Value = serde_json::from_str(&mesh.ok(all)).unwrap();
    json["columns"][column]["mean"].as_f64().unwrap_or_else(|| panic!("no {column} in {json}"))
}

#[test]
fn the_same_seeds_give_the_same_bytes() {
    let mesh = Mesh::new();
    let place = tempfile::tempdir().unwrap();
    let volunteers = scenario("volunteers.toml");
    let results = ["one", "two"].map(|name| {
        let out = place.path().join(name);
        let small = ["--set", "platform.hosts.0.count=20", "--set", "workload.tasks=200"];
        let arguments = ["sim", "run", &volunteers, "--seeds", "3", "--out", out.to_str().unwrap()];
        mesh.ok(arguments.iter().chain(&small).copied().collect::<Vec<_>>());
        ["summary.csv", "tasks.csv"].map(|file| fs::read(out.join(file)).unwrap())
    });
    assert_eq!(results[0], results[1]);
    assert_eq!(String::from_utf8_lossy(&results[0][0]).lines().count(), 4, "a row per seed");
}

#[test]
fn gossip_and_claims_cost_what_being_told_does_not() {
    let mesh = Mesh::new();
    let small = ["--set", "platform.hosts.0.count=100", "--set", "workload.tasks=100"];
    let told = mean(&mesh, &small, "makespan_s");
    let protocol: Vec<&str> =
        small.iter().chain(&["--set", "fidelity=protocol"]).copied().collect();
    let asked = mean(&mesh, &protocol, "makespan_s");
    assert!((2.0..2.1).contains(&told), "{told}");
    assert!((told..told + 2.0).contains(&asked), "{asked}");
    assert!(mean(&mesh, &protocol, "messages") > 200.0);
}

#[test]
fn a_mistake_is_named_with_its_line_and_what_is_allowed() {
    let mesh = Mesh::new();
    let sleep = scenario("sleep.toml");
    let wrong = mesh.run(["sim", "run", &sleep, "--set", "fidelity=exact"]);
    assert_eq!(wrong.code, Some(65));
    for part in ["fidelity", "fast", "flow", "protocol"] {
        assert!(wrong.stderr.contains(part), "{}", wrong.stderr);
    }
}
