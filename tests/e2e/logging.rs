//! What a node logs, where somebody asks for it.

use std::fs;
use std::io::Write;

use mesh_tests::{Members, Mesh, Node, finished, wait_until};
use serde_json::json;

use super::force::{script, shell};

const JOIN: [&str; 4] = ["join", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0"];

#[test]
fn members_leases_and_pauses_are_logged_and_by_default_nothing_is() {
    let mut members = Members::on_loopback(1);
    let worker = Mesh::new();
    fs::write(worker.home().join("config.toml"), "log = 'mesh_node=info'\n").unwrap();
    let ticket = members.home(0).ok(["invite"]);
    let mut node = Node::join(&worker, &[&ticket, "--name", "attic"]);
    node.says(" INFO mesh_node::node: a member joined peer=");
    members.node(0).says("attic is there");
    let thunk = script(&shell(members.home(0)), "echo > /out", json!({}));
    members.home(0).run_with(["force", "--slots", "0", "-"], format!("{thunk}\n").as_bytes()).ok();
    node.says(" INFO mesh_node::claims::worker: a lease runs peer=");
    node.says(" INFO mesh_node::claims::worker: a lease is done peer=");
    worker.ok(["pause"]);
    node.says(" INFO mesh_node::owner: others get nothing reason=paused by its owner");
    worker.ok(["resume"]);
    node.says(" INFO mesh_node::owner: others get slots again slots=");
    members.take(0).ask_to_end();
    node.says(" INFO mesh_node::node: a member left peer=");
    worker.ok(["stop"]);
    assert_eq!(node.wait().code, Some(0));

    let loud = Node::join(&worker, &["--idle-exit", "1s"]).wait();
    assert!(loud.stderr.contains(" INFO mesh_node::api::serve: listening addresses="), "{loud:?}");
    fs::remove_file(worker.home().join("config.toml")).unwrap();
    let quiet = Node::join(&worker, &["--idle-exit", "1s"]).wait();
    assert!(quiet.stderr.lines().all(|line| line.starts_with("mesh: ")), "{quiet:?}");
}

#[test]
fn a_detached_node_logs_to_its_file_and_a_wrong_filter_is_told() {
    let mesh = Mesh::new();
    mesh.ok(["init"]);
    let join = |filter: &str| {
        let mut command = mesh.command(JOIN);
        command.arg("--detach").env("MESH_LOG", filter);
        command.output().unwrap()
    };
    let refused = join("inof");
    assert_eq!(refused.status.code(), Some(64));
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(told.starts_with("mesh: MESH_LOG: \"inof\"; allowed: off, error, "), "{told}");
    assert!(join("off,mesh_node=info").status.success());
    mesh.ok(["pause"]);
    mesh.ok(["stop"]);
    let log = fs::read_to_string(mesh.home().join("node.log")).unwrap();
    assert!(log.contains("others get nothing reason=paused by its owner"), "{log}");
    assert!(!log.contains("libp2p"), "{log}");
}

#[test]
fn the_log_of_a_detached_node_is_bounded_and_nobody_else_begins_it_anew() {
    const LONG: usize = 8 << 20;
    let mesh = Mesh::new();
    mesh.ok(["init"]);
    let log = mesh.home().join("node.log");
    let read = |name: &str| fs::read_to_string(mesh.home().join(name)).unwrap();
    let detach = || finished(mesh.command(JOIN).arg("--detach").output().unwrap());
    fs::write(&log, format!("of last month\n{}\n", "x".repeat(LONG))).unwrap();
    assert_eq!(detach().code, Some(0));
    assert!(read("node.log.old").starts_with("of last month\n"));
    assert!(read("node.log").contains("mesh: listening on "));
    let again = detach();
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.stderr.contains("a node runs in this home already"), "{again:?}");
    assert!(read("node.log").contains("mesh: listening on "));
    assert!(!read("node.log").contains("already"));
    let mut more = fs::OpenOptions::new().append(true).open(&log).unwrap();
    more.write_all(&vec![b'y'; LONG]).unwrap();
    mesh.ok(["pause"]);
    wait_until("the long log to be put aside", || {
        read("node.log.old").ends_with("mesh: gives others nothing: paused by its owner\n")
    });
    mesh.ok(["resume"]);
    mesh.ok(["stop"]);
    let rest = read("node.log");
    assert!(rest.starts_with("mesh: gives others something again\n"), "{rest}");
    assert!(rest.ends_with("mesh: ending\n"), "{rest}");
}
