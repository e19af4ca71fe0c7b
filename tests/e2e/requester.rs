//! What becomes of work whose requester is no more.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use mesh_tests::{Family, Members, Node, Project, With, descendants_named, wait_until};
use serde_json::Value;

/// Compiles of tests/projects/endless that end.
const QUICK: u64 = 4;

fn reductions(members: &Members) -> u64 {
    let stats = members.home(0).ok(["store", "stats", "--json"]);
    let stats: Value = serde_json::from_str(&stats).unwrap();
    stats["reductions"].as_u64().unwrap()
}

/// Compilers that run on the workers.
fn compilers(members: &mut Members) -> usize {
    let workers: Vec<u32> = (1..members.count()).map(|number| members.node(number).pid()).collect();
    workers.into_iter().map(|worker| descendants_named(worker, "cc1plus")).sum()
}

/// Starts the build, and waits until what can be done is done and the rest is under way.
fn start(project: &Project, members: &mut Members) -> Node {
    let mut command = project.ready(With::Elsewhere(members.home(0)), "make -j");
    let building = Node::start(command.process_group(0).stdout(Stdio::null()));
    wait_until("the quick ones to be done", || reductions(members) >= QUICK);
    wait_until("the endless ones to run", || compilers(members) == 2);
    building
}

/// Kills a build with all that it has started.
fn kill(building: Node) {
    let family = Family::of_process(building.pid());
    let group = format!("-{}", building.pid());
    assert!(Command::new("kill").args(["-KILL", "--", &group]).status().unwrap().success());
    assert_eq!(building.wait().code, None);
    family.wait_until_gone();
}

/// What was finished is known, and nothing of it runs again.
fn finds_what_was_finished(project: &Project, members: &Members) {
    project.edit("rm -f *.o");
    let built = project.build(With::Elsewhere(members.home(0)), "make some").ok();
    let report = built.report();
    assert_eq!((report.reused, report.executed), (QUICK, 0), "{}", report.json);
}

#[test]
fn a_killed_build_leaves_its_workers_idle_and_loses_nothing() {
    let project = Project::own("endless");
    let mut members = Members::on_loopback(3);
    let building = start(&project, &mut members);
    kill(building);
    wait_until("the workers to be idle", || compilers(&mut members) == 0);
    finds_what_was_finished(&project, &members);
}

#[test]
fn a_killed_node_leaves_its_workers_idle_and_loses_nothing() {
    let project = Project::own("endless");
    let mut members = Members::on_loopback(3);
    let building = start(&project, &mut members);
    members.take(0).kill();
    wait_until("the workers to be idle", || compilers(&mut members) == 0);
    // Without its node it goes on by itself.
    kill(building);
    members.start(0);
    members.wait_until_all_connected();
    finds_what_was_finished(&project, &members);
}
