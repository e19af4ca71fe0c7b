//! Builds that are killed in the middle.

use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use mesh_tests::{Family, Mesh, Project, Random, Snapshot, With, wait_until_none_has};
use serde_json::Value;
use tempfile::TempDir;

const ROUNDS: u64 = 10;

/// Little optimised, to be done soon.
const GOAL: &str = "make linux MYCFLAGS=-O0";

/// Steps that take others' outputs (archive, index, two links): each may be remembered under two
/// names, as it was planned and with the outputs' names put in.
const DEPENDENT: u64 = 4;

fn reductions(mesh: &Mesh) -> u64 {
    let stats: Value = serde_json::from_str(&mesh.ok(["store", "stats", "--json"])).unwrap();
    stats["reductions"].as_u64().unwrap()
}

/// Starts the build and kills all of it when `more` thunks have been done, and a moment later.
/// False if it was over before that.
fn kill_after(project: &Project, mesh: &Mesh, more: u64, spins: u64) -> bool {
    let enough = reductions(mesh) + more;
    let temporary = tempfile::tempdir().unwrap();
    let mut running = started(project.build_command(With::Lazy(mesh), GOAL), &temporary);
    let ended = |running: &mut Child| running.try_wait().unwrap().is_some();
    while !ended(&mut running) && reductions(mesh) < enough {}
    spin(spins);
    let killed = kill(running, &temporary);
    eprintln!("after {more} more thunks and {spins} spins: killed {killed}");
    killed
}

fn spin(spins: u64) {
    for _ in 0..spins {
        std::hint::spin_loop();
    }
}

/// The build in a process group of its own, which makes its temporary files there.
fn started(mut command: Command, temporary: &TempDir) -> Child {
    command.env("TMPDIR", temporary.path()).process_group(0);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Kills its group. Nothing stays there, and no process. False if it was over before.
fn kill(mut running: Child, temporary: &TempDir) -> bool {
    let family = Family::of(&running);
    let group = format!("-{}", running.id());
    let kill = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
    kill.unwrap();
    let killed = running.wait().unwrap().signal() == Some(9);
    family.wait_until_gone();
    // The guardian, too, which may have been started since.
    wait_until_none_has(&format!("TMPDIR={}", temporary.path().display()));
    let left: Vec<_> = fs::read_dir(temporary.path()).unwrap().flatten().collect();
    assert!(
        !left.iter().any(|left| left.file_name().to_string_lossy().starts_with("mesh-")),
        "{left:?}"
    );
    killed
}

/// Plain make, from where the killed build has left things, must make all that is not finished.
fn plain_make_finishes(project: &Project, plain: &Snapshot) {
    let (directory, aside) = (project.directory(), project.directory().with_extension("aside"));
    fs::rename(&directory, &aside).unwrap();
    let copied = Command::new("cp").arg("-a").args([&aside, &directory]).status().unwrap();
    assert!(copied.success());
    let question = project.build(With::Plain, &format!("{GOAL} -q"));
    let same = plain.differences(&question.snapshot, &[]).is_empty();
    assert!(same || question.finished.code != Some(0), "make takes the unfinished for finished");
    let finished = project.build(With::Plain, GOAL).ok();
    plain.differences(&finished.snapshot, &[]).assert_none("plain make after a kill");
    fs::remove_dir_all(&directory).unwrap();
    fs::rename(&aside, &directory).unwrap();
}

/// The sources, with an archive that depends on its members alone: as they come, `ar u` adds to what
/// a killed build has left, and then later steps have other inputs than in a whole build.
fn start_over(project: &Project) {
    project.reset();
    project.edit("sed -i 's/^AR= .*/AR= rm -f $@; ar rc/' src/Makefile");
}

#[test]
fn a_killed_build_loses_nothing_but_time() {
    let Some(project) = Project::source("lua5.4") else { return };
    start_over(&project);
    let plain = project.build(With::Plain, GOAL).ok().snapshot;
    let whole = Mesh::new();
    start_over(&project);
    let total = project.build(With::Lazy(&whole), GOAL).ok().report().thunks;

    let (mut mesh, mut random) = (Mesh::new(), Random::new());
    start_over(&project);
    let mut kills = 0;
    while kills < ROUNDS {
        if kill_after(&project, &mesh, random.below(total / 6), random.below(3_000_000)) {
            kills += 1;
            plain_make_finishes(&project, &plain);
        } else {
            // Nothing is left to do: from the beginning.
            mesh = Mesh::new();
            start_over(&project);
        }
    }
    let finished = reductions(&mesh);
    let last = project.build(With::Lazy(&mesh), GOAL).ok();
    plain.differences(&last.snapshot, &[]).assert_none("mesh make after kills");
    let report = last.report();
    let left = total.saturating_sub(finished.saturating_sub(DEPENDENT));
    assert!(report.executed <= left, "{finished} done: {}", report.json);
    mesh.ok(["store", "verify"]);
    let nothing = project.build(With::Plain, GOAL).ok();
    last.snapshot.touched(&nothing.snapshot).assert_none("plain make after all");
    assert!(
        !Path::new(&mesh.home().join("builds")).read_dir().is_ok_and(|mut b| b.next().is_some())
    );
}

/// Whatever it was about to set up.
#[test]
fn a_build_that_is_killed_as_it_starts_leaves_nothing() {
    let (project, mesh, mut random) = (Project::own("endless"), Mesh::new(), Random::new());
    for _ in 0..ROUNDS {
        for with in [With::Lazy(&mesh), With::Eager(&mesh)] {
            let temporary = tempfile::tempdir().unwrap();
            let running = started(project.build_command(with, "tail -f /dev/null"), &temporary);
            spin(random.below(10_000_000));
            assert!(kill(running, &temporary), "it never ends by itself");
        }
    }
    // A journal that had no guardian yet is the next build's.
    project.build(With::Lazy(&mesh), "true").ok();
    let builds = fs::read_dir(mesh.home().join("builds")).into_iter().flatten().flatten();
    let left: Vec<_> = builds.map(|journal| journal.path()).collect();
    assert!(left.is_empty(), "{left:?}");
}
