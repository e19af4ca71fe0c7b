//! Metrics of a node that runs.

use std::io::{Read, Write};
use std::net::TcpStream;

use mesh_tests::{Members, Mesh, Node};
use serde_json::{Value, json};

use super::force::{script, shell};

/// What a node answers to this request.
fn ask(mesh: &Mesh, request: &str) -> String {
    let status: Value = serde_json::from_str(&mesh.ok(["status", "--json"])).unwrap();
    let mut stream = TcpStream::connect(status["metrics"].as_str().unwrap()).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply
}

fn page(mesh: &Mesh) -> String {
    let reply = ask(mesh, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let (head, page) = reply.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"),
        "{head}"
    );
    page.to_owned()
}

#[track_caller]
fn number(page: &str, name: &str) -> f64 {
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
}

#[test]
fn a_monitor_sees_what_a_node_does_for_whom_and_why_not() {
    let mut members = Members::on_loopback(1);
    members.pass(&["--metrics", "127.0.0.1:0", "--slots", "1"]);
    members.admit_another();
    members.wait_until_all_connected();
    let thunk = script(&shell(members.home(0)), "echo > /out", json!({}));
    let fails = script(&shell(members.home(0)), "exit 3", json!({}));
    let (requester, worker) = (members.home(0), members.home(1));
    let lines = format!("{thunk}\n{fails}\n");
    assert_eq!(requester.run_with(["force", "--slots", "0", "-"], lines.as_bytes()).code, Some(1));
    let seen = page(worker);
    for (name, expected) in [
        ("mesh_members_connected", 1.0),
        ("mesh_slots_given", 1.0),
        ("mesh_executed_total{outcome=\"succeeded\"}", 1.0),
        ("mesh_cores_busy{work=\"others\"}", 0.0),
        ("mesh_held_back{reason=\"paused\"}", 0.0),
        ("mesh_leases_total", 0.0),
    ] {
        assert_eq!(number(&seen, name), expected, "{name}: {seen}");
    }
    assert!(number(&seen, "mesh_executed_total{outcome=\"failed\"}") >= 1.0, "{seen}");
    for name in ["mesh_received_bytes_total", "mesh_store_bytes", "mesh_store_objects"] {
        assert!(number(&seen, name) > 0.0, "{name}: {seen}");
    }
    worker.ok(["pause"]);
    let paused = page(worker);
    assert_eq!(number(&paused, "mesh_held_back{reason=\"paused\"}"), 1.0);
    assert_eq!(number(&paused, "mesh_slots_given"), 0.0);
    let wrong = ask(worker, "POST /metrics HTTP/1.1\r\n\r\n");
    assert!(wrong.starts_with("HTTP/1.1 405 "), "{wrong}");
}

#[test]
fn a_port_that_is_taken_is_told() {
    let mesh = Mesh::new();
    mesh.ok(["init"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let refused = Node::join(&mesh, &["--metrics", &address]).wait();
    assert_eq!(refused.code, Some(69), "{refused:?}");
    assert!(refused.stderr.contains(&format!("cannot serve metrics on {address}")), "{refused:?}");
}
