//! How many commands of a build run at once.

use std::thread::available_parallelism;

use mesh_tests::{Mesh, Project, Watch, With, binary, skip};

/// The most of `names` that ran at once while `mesh` did its `arguments`.
fn most_at_once(project: &Project, arguments: &[&str], names: &'static [&'static str]) -> usize {
    let mesh = Mesh::new();
    let mut command = project.command(binary());
    let mut command = command.env("MESH_HOME", mesh.home()).args(arguments).spawn().unwrap();
    let most = Watch::new(&command, names).until_end(&mut command);
    assert!(command.wait().unwrap().success());
    most
}

fn most_at_once_plainly(project: &Project, line: &str, names: &'static [&'static str]) -> usize {
    let mut command = project.build_command(With::Plain, line).spawn().unwrap();
    let most = Watch::new(&command, names).until_end(&mut command);
    assert!(command.wait().unwrap().success());
    most
}

#[test]
fn make_j1_exposes_the_whole_graph() {
    if available_parallelism().map_or(1, usize::from) < 2 {
        return skip::unable("this machine has one core");
    }
    let project = Project::own("slow");
    assert_eq!(most_at_once_plainly(&project, "make -j1", &["cc1"]), 1);
    project.reset();
    assert!(most_at_once(&project, &["make", "-j1"], &["cc1"]) >= 2);
}

const WORKERS: &[&str] = &["cc1", "busy-job"];

#[test]
fn make_j_takes_no_more_than_the_slots() {
    let project = Project::own("jobs");
    assert!(most_at_once_plainly(&project, "make -j8", WORKERS) > 2, "the watch sees too little");
    for line in [
        &["build", "--slots", "2", "--", "make", "-j"][..],
        &["build", "--slots", "2", "--", "make"],
    ] {
        project.reset();
        let most = most_at_once(&project, line, WORKERS);
        assert!((1..=2).contains(&most), "{most} at once under {line:?}");
    }
}
