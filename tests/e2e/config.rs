//! The config file: what it says is in effect, and what is wrong with it is told.

use std::fs;

use mesh_tests::{Mesh, Node};
use serde_json::{Value, json};

fn check(mesh: &Mesh, arguments: &[&str]) -> Value {
    let all = ["config", "check", "--json"].iter().chain(arguments);
    serde_json::from_str(&mesh.ok(all)).unwrap()
}

#[test]
fn a_check_says_what_is_in_effect_and_who_says_so() {
    let mesh = Mesh::new();
    let none = check(&mesh, &[]);
    assert_eq!(none["file"], Value::Null);
    assert_eq!(none["settings"]["join.slots"]["from"], "default");
    assert_eq!(none["settings"]["store.quota"], json!({"from": "default", "value": 20_u64 << 30}));

    let file = mesh.home().join("config.toml");
    let text = "name = 'attic'\n[join]\nslots = 3\nmemory = '8G'\nidle-exit = '10m'\n\
                [build]\nlocal = true\n[store]\nquota = 1048576\n";
    fs::write(&file, text).unwrap();
    let join = ["--", "join", "--slots", "1", "--idle-exit", "never", "--only-when-idle"];
    let known = check(&mesh, &join);
    assert_eq!(known["file"], json!(file));
    for (key, expected) in [
        ("name", json!({"from": "file", "line": 1, "value": "attic"})),
        ("join.slots", json!({"from": "flag", "value": 1})),
        ("join.memory", json!({"from": "file", "line": 4, "value": 8_u64 << 30})),
        ("join.idle-exit", json!({"from": "flag", "value": "never"})),
        ("join.only-when-idle", json!({"from": "flag", "value": true})),
        ("build.local", json!({"from": "file", "line": 7, "value": true})),
        ("store.quota", json!({"from": "file", "line": 9, "value": 1 << 20})),
    ] {
        assert_eq!(known["settings"][key], expected, "{key}");
    }
    let taken_back = check(&mesh, &["--", "build", "--local=false", "-q", "--", "make"]);
    for (key, value) in [("build.local", false), ("build.quiet", true)] {
        assert_eq!(taken_back["settings"][key], json!({"from": "flag", "value": value}), "{key}");
    }
    let going = check(&mesh, &["--", "force", "-k", "-"]);
    assert_eq!(going["settings"]["build.keep-going"], json!({"from": "flag", "value": true}));
    // What is printed for people can be kept as a file.
    let copy = mesh.home().join("copy.toml");
    fs::write(&copy, mesh.ok(["config", "check"])).unwrap();
    let copied = check(&mesh, &[copy.to_str().unwrap()]);
    let values = |all: &Value| -> Vec<(String, Value)> {
        let settings = all["settings"].as_object().unwrap().iter();
        settings.map(|(key, setting)| (key.clone(), setting["value"].clone())).collect()
    };
    assert_eq!(values(&copied), values(&check(&mesh, &[])));
}

#[test]
fn what_is_wrong_is_told_with_its_place_by_each_command_that_reads_it() {
    let mesh = Mesh::new();
    let file = mesh.home().join("config.toml");
    for (line, told) in [
        (
            "slots = 2000",
            "join.slots: 2000 is out of range; allowed: a whole number from 0 to 1024",
        ),
        ("slots = 'all'", "join.slots: text; allowed: a whole number from 0 to 1024"),
        ("slot = 2", "join.slot: unknown key; allowed: listen, mdns, slots, memory, "),
        ("memory = '8 GB'", "join.memory: \"8 GB\"; allowed: bytes, or text such as \"8G\""),
        ("metrics = '0.0.0.0:9474'", "join.metrics: \"0.0.0.0:9474\"; allowed: \"off\", or a loop"),
        ("listen = ['tcp']", "join.listen: \"tcp\" is no address; allowed: an array of multiaddr"),
        (
            "placement = 'heft'",
            "join.placement: \"heft\" is unknown; allowed: fifo, lifo, random, critical-path, b-level, locality",
        ),
        ("speculation = true", "join.speculation: true or false; allowed: none, ours, late, clone"),
        ("slots = = 1", ""),
    ] {
        fs::write(&file, format!("[join]\n\n{line}\n")).unwrap();
        let expected = format!("mesh: {}:3: {told}", file.display());
        for command in ["config check", "join", "make", "gc", "init", "run -- true"] {
            let refused = mesh.run(command.split(' '));
            assert_eq!(refused.code, Some(65), "{command}: {refused:?}");
            assert!(refused.stderr.starts_with(&expected), "{command}: {refused:?}");
        }
    }
    assert_eq!(mesh.run(["config", "check", "missing.toml"]).code, Some(66));
    fs::write(&file, "").unwrap();
    assert_eq!(mesh.run(["config", "check", "--", "status"]).code, Some(64));
    let refused = mesh.run(["join", "--metrics", "192.0.2.1:9474"]);
    assert_eq!(refused.code, Some(64));
    assert!(refused.stderr.contains("has to be a loopback one"), "{refused:?}");
    let refused = mesh.run(["join", "--placement", "heft"]);
    assert_eq!(refused.code, Some(64));
    assert!(refused.stderr.contains("fifo, lifo, random, critical-path"), "{refused:?}");
}

#[test]
fn a_node_is_as_the_file_says_and_flags_go_first() {
    let mesh = Mesh::new();
    let file = mesh.home().join("config.toml");
    let text = "name = 'attic'\n[join]\nslots = 1\nplacement = 'fifo'\nspeculation = 'late'\n\
                [build]\nquiet = true\n";
    fs::write(&file, text).unwrap();
    mesh.ok(["init"]);
    let status = || -> Value { serde_json::from_str(&mesh.ok(["status", "--json"])).unwrap() };
    let mut node = Node::join(&mesh, &[]);
    node.says("listening on");
    assert_eq!((&status()["name"], &status()["cores"]["given"]), (&json!("attic"), &json!(1)));
    let policies = "policies: placement fifo, speculation late";
    assert!(mesh.ok(["status"]).contains(policies));
    node.interrupt();
    let ours = ["--placement", "critical-path", "--speculation", "ours"];
    let mut node = Node::join(&mesh, &[&["--slots", "0"][..], &ours].concat());
    node.says("listening on");
    let known = status();
    assert_eq!(known["cores"]["given"], 0);
    assert_eq!(
        (&known["placement"], &known["speculation"]),
        (&json!("critical-path"), &json!("ours"))
    );
    assert!(!mesh.ok(["status"]).contains("policies"));
    node.interrupt();
    let says = |arguments: &[&str]| mesh.run(arguments).stderr;
    assert_eq!(says(&["build", "--", "true"]), "");
    assert!(says(&["build", "--quiet=false", "--", "true"]).starts_with("mesh: 0 thunks"));
}
