//! Stores that keep to their quota while builds and nodes use them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use mesh_tests::{Mesh, Node, Project, With, wait_until};
use serde_json::Value;

const MIB: u64 = 1024 * 1024;

/// One object file of each is about a mebibyte long, and another one in each round.
const PARTS: u64 = 12;

const BUILD: &str = "make -j2";

/// Bytes of objects, and of what was made of them.
fn size(mesh: &Mesh) -> u64 {
    fn below(directory: &Path) -> u64 {
        let Ok(entries) = fs::read_dir(directory) else { return 0 };
        let sizes = entries.map(|entry| {
            let path = entry.unwrap().path();
            // It may just have been collected.
            match fs::symlink_metadata(&path) {
                Ok(metadata) if metadata.is_dir() => below(&path),
                Ok(metadata) => metadata.size(),
                Err(_) => 0,
            }
        });
        sizes.sum()
    }
    let store = mesh.home().join("store");
    below(&store.join("blobs")) + below(&store.join("exec"))
}

fn with_quota(bytes: u64) -> Mesh {
    let mesh = Mesh::new();
    fs::write(mesh.home().join("config.toml"), format!("[store]\nquota = {bytes}\n")).unwrap();
    mesh
}

fn project(round: u64) -> Project {
    let part = |number: u64| {
        let bytes = MIB + round;
        let text = format!("char part{number}[{bytes}] = {{ {} }};\n", number + 1);
        (format!("part{number}.c"), text)
    };
    let makefile = "all: $(patsubst %.c,%.o,$(wildcard *.c))\n%.o: %.c\n\t$(CC) -c -o $@ $<\n";
    Project::made((0..PARTS).map(part).chain([("Makefile".to_owned(), makefile.to_owned())]))
}

/// Builds it with mesh as without.
fn build(mesh: &Mesh, project: &Project) {
    project.reset();
    let expected = project.build(With::Plain, BUILD).ok().snapshot;
    project.reset();
    let built = project.build(With::Lazy(mesh), BUILD).ok();
    expected.differences(&built.snapshot, &[]).assert_none(&built.finished.stderr);
    // The quota costs no step its sandbox.
    assert_eq!(built.report.unwrap().local.len(), 0, "{:?}", built.finished);
}

/// Whatever command is the last that uses the store collects, and closes it well.
fn waits_for_quota(mesh: &Mesh, quota: u64) {
    wait_until("it is within its quota", || {
        let finished = mesh.run(["store", "stats"]);
        assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""));
        size(mesh) <= quota
    });
}

#[test]
fn builds_keep_the_store_to_its_quota() {
    let unbounded = Mesh::new();
    build(&unbounded, &project(0));
    let one = size(&unbounded);
    // Room for one build and a half: what any of them uses is less.
    let quota = one + PARTS / 2 * MIB;
    let mesh = with_quota(quota);
    for round in 0..6 {
        build(&mesh, &project(round));
        // What was used within the last second counts as in use.
        let size = size(&mesh);
        assert!(size <= quota + one, "round {round}: {size} of {quota}, one build {one}");
    }
    waits_for_quota(&mesh, quota);
    // What is left is good, and of use.
    mesh.ok(["store", "verify"]);
    build(&mesh, &project(5));
}

/// Everything is in use, so the quota waits; nothing fails for it.
#[test]
fn a_quota_that_is_too_small_for_a_build_breaks_nothing() {
    let mesh = with_quota(MIB);
    for round in 0..2 {
        build(&mesh, &project(round));
    }
    waits_for_quota(&mesh, MIB);
    build(&mesh, &project(1));
}

#[test]
fn a_node_makes_room_when_it_has_nothing_to_do() {
    let mesh = with_quota(2 * MIB);
    mesh.ok(["init", "--name", "desk"]);
    let mut node = Node::join(&mesh, &[]);
    node.says("listening on");
    build(&mesh, &project(0));
    // By itself: no command looks into the store.
    wait_until("the node keeps to its quota", || size(&mesh) <= 2 * MIB);
    build(&mesh, &project(1));
    let pinned = mesh.home().join("pinned");
    fs::write(&pinned, "pinned").unwrap();
    let pinned = mesh.ok(["put".as_ref(), "--pin".as_ref(), pinned.as_os_str()]);
    let pinned = pinned.split_whitespace().next().unwrap();
    wait_until("a collection frees what the node used", || {
        let report: Value =
            serde_json::from_str(&mesh.ok(["gc", "--quota", "0", "--json"])).unwrap();
        report["kept_bytes"].as_u64().unwrap() < MIB
    });
    assert_eq!(mesh.ok(["cat", pinned]), "pinned");
    build(&mesh, &project(1));
    node.interrupt();
}
