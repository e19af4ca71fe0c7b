//! A build on members that come, go, stall and lose what is said to them ends as if mesh were absent.

use std::process::Stdio;

use mesh_tests::{Built, Chaos, Members, Node, Project, Random, With};

/// Members that work; one more has the builds.
const WORKERS: usize = 3;

/// Rounds of an ordinary run; `tests/chaos` has more made.
const ROUNDS: u64 = 2;

const ROUNDS_VARIABLE: &str = "MESH_TESTS_ROUNDS";

/// The thunks of each round are others, so that none is remembered.
fn goal(round: u64) -> String {
    format!("make linux MYCFLAGS=-DROUND={round}")
}

/// Builds on other members, while `chaos` has its way if there is any.
fn build(project: &Project, members: &mut Members, line: &str, chaos: Option<&mut Chaos>) -> Built {
    project.reset();
    let mut command = project.ready(With::Elsewhere(members.home(0)), line);
    let mut building = Node::start(command.stdout(Stdio::null()).stderr(Stdio::piped()));
    if let Some(chaos) = chaos {
        while !building.falls_silent(chaos.pause()) {
            chaos.step(members);
        }
    }
    let finished = building.wait();
    project.built(With::Elsewhere(members.home(0)), finished).ok()
}

/// Thunks that members other than the requester have run.
fn run_elsewhere(built: &Built) -> u64 {
    let peers = built.report().json["peers"].as_array().unwrap();
    let others = peers.iter().filter(|peer| !peer["peer"].is_null());
    others.map(|peer| peer["executed"].as_u64().unwrap()).sum()
}

#[test]
fn a_build_ends_the_same_whatever_happens_to_its_workers() {
    let Some(project) = Project::source("lua5.4") else { return };
    let Some(mut members) = Members::networked(1 + WORKERS) else { return };
    // Toolchains are where they are needed.
    let line = goal(0);
    let plain = project.build(With::Plain, &line).ok();
    let calm = build(&project, &mut members, &line, None);
    plain.snapshot.differences(&calm.snapshot, &[]).assert_none("undisturbed");
    eprintln!("calm: {}", calm.finished.stderr);
    assert_eq!(run_elsewhere(&calm), calm.report().executed, "{}", calm.report().json);

    let rounds = std::env::var(ROUNDS_VARIABLE).map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let first = Random::new().seed();
    for round in 1..=rounds {
        let line = goal(round);
        project.reset();
        let plain = project.build(With::Plain, &line).ok();
        let random = Random::of(first + round - 1);
        let mut chaos = Chaos::new(random, (1..=WORKERS).collect());
        let built = build(&project, &mut members, &line, Some(&mut chaos));
        chaos.end(&mut members);
        eprintln!("round {round}: {}\n{}", built.report().json, built.finished.stderr);
        plain.snapshot.differences(&built.snapshot, &[]).assert_none(format_args!("round {round}"));
        let nothing = project.build(With::Plain, &line).ok();
        built.snapshot.touched(&nothing.snapshot).assert_none("plain make after all");
        members.home(0).ok(["store", "verify"]);
    }
    members.wait_until_all_connected();
}
