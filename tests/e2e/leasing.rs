//! Builds whose thunks run on other members: real nodes on the loopback, each with a home of its own.

use std::fs;
use std::process::{Child, Stdio};

use mesh_tests::{Finished, Mesh, Node, Project, Snapshot, With, binary, finished};
use serde_json::Value;

const LUA: &str = "make linux";

/// A requester and workers, all of which have met.
pub(crate) struct Cluster {
    pub(crate) requester: (Mesh, Node),
    pub(crate) workers: Vec<(Mesh, Node)>,
    ticket: String,
}

impl Cluster {
    fn new(workers: usize) -> Self {
        Self::with(workers, "worker")
    }

    pub(crate) fn with(workers: usize, role: &str) -> Self {
        Self::joined(workers, role, &[])
    }

    /// One whose requester joins with these options.
    pub(crate) fn joined(workers: usize, role: &str, options: &[&str]) -> Self {
        let mesh = Mesh::new();
        mesh.ok(["init", "--name", "desk"]);
        let mut node = Node::join(&mesh, options);
        node.says("listening on");
        let ticket = mesh.ok(["invite", "--role", role, "--uses", "16"]);
        let mut cluster = Self { requester: (mesh, node), workers: Vec::new(), ticket };
        (0..workers).for_each(|_| cluster.grow());
        cluster
    }

    /// One more.
    fn grow(&mut self) {
        let mesh = Mesh::new();
        let name = format!("worker{}", self.workers.len());
        let mut joined = Node::join(&mesh, &[&self.ticket, "--name", &name, "--slots", "2"]);
        joined.says("desk is there");
        self.requester.1.says(&format!("{name} is there"));
        self.workers.push((mesh, joined));
    }

    pub(crate) fn home(&self) -> &Mesh {
        &self.requester.0
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.home().ok(["status", "--json"])).unwrap()
    }
}

/// Starts `mesh build` with these options in a project that is as it was.
pub(crate) fn start(project: &Project, mesh: &Mesh, options: &[&str], line: &str) -> Child {
    project.reset();
    let _ = fs::remove_file(project.report_path());
    let mut command = project.command(binary());
    command.env("MESH_HOME", mesh.home()).args(["build", "--report"]).arg(project.report_path());
    command.args(options).arg("--").args(line.split_whitespace());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

pub(crate) fn end(project: &Project, child: Child) -> (Finished, Value) {
    let finished = finished(child.wait_with_output().unwrap());
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let report = fs::read(project.report_path()).unwrap();
    (finished, serde_json::from_slice(&report).unwrap())
}

/// What the plain build leaves.
pub(crate) fn plain(project: &Project, line: &str) -> Snapshot {
    project.reset();
    project.build(With::Plain, line).ok().snapshot
}

pub(crate) fn number(report: &Value, key: &str) -> u64 {
    report[key].as_u64().unwrap_or_else(|| panic!("no {key} in {report}"))
}

/// Thunks that others ran, and how many others.
fn elsewhere(report: &Value) -> (u64, usize) {
    let others = report["peers"].as_array().unwrap().iter().filter(|peer| !peer["peer"].is_null());
    let executed: Vec<u64> = others.map(|peer| number(peer, "executed")).collect();
    (executed.iter().sum(), executed.len())
}

#[test]
fn five_nodes_build_what_one_builds_and_the_requester_runs_nothing() {
    let Some(project) = Project::source("lua5.4") else { return };
    let expected = plain(&project, LUA);
    let cluster = Cluster::new(4);
    let child = start(&project, cluster.home(), &["--slots", "0"], LUA);
    let (said, report) = end(&project, child);
    project.snapshot().differences(&expected, &[]).assert_none(&said.stderr);
    let executed = number(&report, "executed");
    assert!(executed > 30, "{report}");
    let (runs, peers) = elsewhere(&report);
    assert_eq!((runs, number(&report, "local_count")), (executed, 0), "{report}");
    assert!(peers >= 2, "{report}");
    assert!(said.stderr.contains(&format!("{executed} run, {runs} on {peers} peers")), "{said:?}");
    for peer in report["peers"].as_array().unwrap() {
        assert!(number(peer, "busy_ms") > 0 && number(peer, "bytes_out") > 0, "{peer}");
        assert!(number(peer, "bytes_in") > 1_000_000, "it had no compiler: {peer}");
    }
    // What was made is here: nobody is asked again.
    let child = start(&project, cluster.home(), &["--slots", "0"], LUA);
    let (said, report) = end(&project, child);
    project.snapshot().differences(&expected, &[]).assert_none(&said.stderr);
    assert_eq!((number(&report, "executed"), number(&report, "reused")), (0, executed));
    let status = cluster.status();
    let succeeded = status["peers"].as_array().unwrap().iter().map(|p| number(p, "succeeded"));
    assert_eq!(succeeded.sum::<u64>(), runs, "{status}");
}

#[test]
fn a_worker_that_is_killed_costs_time_and_nothing_else() {
    let Some(project) = Project::source("lua5.4") else { return };
    let expected = plain(&project, LUA);
    let mut cluster = Cluster::new(1);
    let child = start(&project, cluster.home(), &["--slots", "0"], LUA);
    cluster.workers[0].1.says("for desk: ");
    cluster.grow();
    cluster.workers[0].1.kill();
    let (said, report) = end(&project, child);
    project.snapshot().differences(&expected, &[]).assert_none(&said.stderr);
    assert_eq!(elsewhere(&report).0, number(&report, "executed"), "{report}");
    assert!(number(&report, "retried") > 0, "it had something: {report}");
}

#[test]
fn a_worker_that_is_asked_to_stop_hands_back_what_it_has_not_begun() {
    let Some(project) = Project::source("lua5.4") else { return };
    let expected = plain(&project, LUA);
    let mut cluster = Cluster::new(1);
    let child = start(&project, cluster.home(), &["--slots", "0"], LUA);
    cluster.workers[0].1.says("for desk: ");
    cluster.grow();
    let (_home, leaver) = cluster.workers.swap_remove(0);
    leaver.interrupt();
    let (said, report) = end(&project, child);
    project.snapshot().differences(&expected, &[]).assert_none(&said.stderr);
    assert_eq!(elsewhere(&report), (number(&report, "executed"), 2), "{report}");
}

#[test]
fn a_build_outlives_its_node() {
    let Some(project) = Project::source("lua5.4") else { return };
    let expected = plain(&project, LUA);
    let mut cluster = Cluster::new(1);
    let child = start(&project, cluster.home(), &["--slots", "0"], LUA);
    (0..3).for_each(|_| cluster.workers[0].1.says("for desk: "));
    cluster.requester.1.kill();
    let (said, report) = end(&project, child);
    project.snapshot().differences(&expected, &[]).assert_none(&said.stderr);
    assert!(said.stderr.contains("the node of this home is gone; going on alone"), "{said:?}");
    let executed = number(&report, "executed");
    assert!(elsewhere(&report).0 < executed, "{report}");
    assert_eq!(number(&report, "failed"), 0, "{report}");
}

#[test]
fn a_build_may_stay_at_home_and_one_that_nobody_helps_does() {
    let project = Project::own("jobs");
    let cluster = Cluster::new(1);
    let child = start(&project, cluster.home(), &["--local"], "make");
    let (said, report) = end(&project, child);
    assert!(
        number(&report, "executed") > 0 && report["peers"] == serde_json::json!([]),
        "{said:?}"
    );
    // A worker gives nothing to others.
    let child = start(&project, &cluster.workers[0].0, &[], "make");
    let (_, report) = end(&project, child);
    // What the other has run may be known by now.
    assert!(number(&report, "thunks") > 0 && elsewhere(&report) == (0, 0), "{report}");
    // A submitter works for nobody.
    let alone = Cluster::with(1, "submitter");
    let child = start(&project, alone.home(), &["--slots", "0"], "make");
    let (said, report) = end(&project, child);
    assert!(said.stderr.contains("no other member came for it"), "{said:?}");
    assert!(number(&report, "executed") > 0 && elsewhere(&report) == (0, 0), "{report}");
}

#[test]
fn a_node_with_other_policies_builds_what_it_would_build_with_ours() {
    let project = Project::own("jobs");
    let expected = plain(&project, "make -j4");
    for (placement, speculation) in [("lifo", "none"), ("random", "clone")] {
        let options = ["--placement", placement, "--speculation", speculation];
        let cluster = Cluster::joined(1, "worker", &options);
        let status = cluster.status();
        assert_eq!(
            (&status["placement"], &status["speculation"]),
            (&placement.into(), &speculation.into())
        );
        let child = start(&project, cluster.home(), &["--slots", "0"], "make -j4");
        let (said, report) = end(&project, child);
        project.snapshot().differences(&expected, &[]).assert_none(&said.stderr);
        let executed = number(&report, "executed");
        assert!(executed > 0 && elsewhere(&report).0 == executed, "{report}");
    }
}

#[test]
fn a_command_that_fails_elsewhere_fails_as_it_would_here() {
    let cluster = Cluster::new(1);
    let said =
        cluster.home().run(["run", "-q", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!(
        (said.code, said.stdout.as_str(), said.stderr.as_str()),
        (Some(7), "out\n", "err\n")
    );
}

#[test]
fn what_is_cut_elsewhere_is_told_as_if_it_were_cut_here() {
    const KEPT: usize = 16 << 20;
    let cluster = Cluster::new(1);
    let config = cluster.home().home().join("config.toml");
    fs::write(config, "[build]\nslots = 0\n").unwrap();
    let script = format!("head -c {} /dev/zero", KEPT + 7);
    let run = |options: &[&str]| {
        let words = ["-i", "/usr/bin/head", "--", "sh", "-c", &script];
        cluster.home().run([&["run"], options, &words].concat())
    };
    let first = run(&[]);
    assert_eq!((first.code, first.stdout.len()), (Some(0), KEPT));
    assert!(first.stderr.contains("1 run, 1 on 1 peer"), "{}", first.stderr);
    let again = run(&["--quiet"]);
    assert_eq!((again.code, again.stdout.len()), (Some(0), KEPT));
    assert!(again.stderr.starts_with("mesh: cut off the last 7 bytes of standard output: "));
    assert!(first.stderr.contains(&again.stderr), "{}", first.stderr);
}

#[test]
fn a_detached_node_says_when_it_is_there_and_stops_when_asked() {
    let cluster = Cluster::new(0);
    let ticket = cluster.home().ok(["invite", "--uses", "2"]);
    let other = Mesh::new();
    let detached = ["join", "--detach", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0"];
    let mut command = other.command(detached);
    let said = finished(command.env("MESH_TICKET", &ticket).output().unwrap());
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.stderr.contains("goes on in the background"), "{said:?}");
    let status: Value = serde_json::from_str(&other.ok(["status", "--json"])).unwrap();
    assert_eq!(status["running"], Value::Bool(true));
    assert!(other.run(detached).stderr.contains("a node runs in this home already"));
    other.ok(["stop"]);
    assert_eq!(other.run(["status"]).code, Some(69));
    assert_eq!(other.run(["stop"]).code, Some(69));
    // One that keeps nothing ends by itself when nobody wants it.
    let mut passing =
        Node::join(&other, &["--ephemeral", "--idle-exit", "1s", "--name", "passing", &ticket]);
    passing.says("its state is in");
    passing.says("desk is there");
    passing.says("nothing to do");
    assert_eq!(passing.wait().code, Some(0));
}

#[test]
fn an_owner_takes_the_machine_back_and_gives_it_again() {
    let cluster = Cluster::new(0);
    let gives = |status: Value| {
        let cores = &status["cores"];
        (number(cores, "given"), cores["held"].as_str().unwrap_or("").to_owned())
    };
    let given = || gives(cluster.status());
    let all = given();
    assert!(all.0 > 0 && all.1.is_empty(), "{all:?}");
    cluster.home().ok(["pause"]);
    assert_eq!(given(), (0, "paused by its owner".to_owned()));
    cluster.home().ok(["resume"]);
    assert_eq!(given(), all);
    // Nobody knows yet whether it is idle.
    let ticket = cluster.home().ok(["invite"]);
    let idle = Mesh::new();
    let mut node = Node::join(&idle, &[&ticket, "--only-when-idle"]);
    node.says("member of the mesh");
    let status: Value = serde_json::from_str(&idle.ok(["status", "--json"])).unwrap();
    assert_eq!(gives(status), (0, "in use by its owner".to_owned()));
}
