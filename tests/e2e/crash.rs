//! Builds that are killed in the middle.

use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};

use mesh_tests::{Family, Mesh, Project, Random, Snapshot, With};
use serde_json::Value;

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
    let mut command = project.build_command(With::Lazy(mesh), GOAL);
    command.env("TMPDIR", temporary.path());
    command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null());
    let mut running = command.spawn().unwrap();
    let ended = |running: &mut std::process::Child| running.try_wait().unwrap().is_some();
    while !ended(&mut running) && reductions(mesh) < enough {}
    for _ in 0..spins {
        std::hint::spin_loop();
    }
    let family = Family::of(&running);
    let group = format!("-{}", running.id());
    let kill = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
    kill.unwrap();
    let killed = running.wait().unwrap().signal() == Some(9);
    eprintln!("after {more} more thunks and {spins} spins: killed {killed}");
    family.wait_until_gone();
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
