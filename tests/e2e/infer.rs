//! Placeholders that outlive their build: `mesh infer`, `mesh force FILE`, `--targets-only`.

use std::fs;
use std::process::Command;

use mesh_tests::{Finished, Mesh, Project, With, binary, finished};

fn mesh(project: &Project, mesh: &Mesh, arguments: &[&str]) -> Finished {
    let mut command: Command = project.command(binary());
    command.env("MESH_HOME", mesh.home()).args(arguments);
    finished(command.output().unwrap())
}

fn is_placeholder(bytes: &[u8]) -> bool {
    bytes.starts_with(b"mesh placeholder ")
}

#[test]
fn what_was_inferred_is_made_when_it_is_forced() {
    let (project, user) = (Project::own("slow"), Mesh::new());
    let plain = project.build(With::Plain, "make").ok().snapshot;
    project.reset();
    let inferred = mesh(&project, &user, &["infer", "--", "make"]);
    assert_eq!(inferred.code, Some(0), "{inferred:?}");
    assert!(inferred.stderr.contains("0 run"), "{inferred:?}");
    let waiting = project.snapshot();
    let found = waiting.files_that(is_placeholder);
    assert_eq!(found.len(), 6, "five objects and a program: {found:?}");

    let forced = mesh(&project, &user, &["force", "slow"]);
    let name = forced.ok();
    assert!(name.starts_with('V'), "{name}");
    let partly = project.snapshot();
    assert_eq!(partly.file("slow"), plain.file("slow"));
    assert!(is_placeholder(partly.file("main.o")), "only what was asked for is written");

    let rest = mesh(&project, &user, &["force", "main.o", "1.o", "2.o", "3.o", "4.o"]);
    assert!(rest.stderr.contains(", 0 run, "), "all of it has run: {rest:?}");
    plain.differences(&project.snapshot(), &[]).assert_none("force");
    let again = project.build(With::Plain, "make").ok();
    assert!(again.finished.stdout.contains("Nothing to be done"), "{:?}", again.finished);
}

#[test]
fn a_build_of_targets_brings_those_and_what_they_need_ran() {
    let (project, user) = (Project::own("slow"), Mesh::new());
    let line = ["build", "--targets-only", "main.o", "1.o", "--", "make"];
    let built = mesh(&project, &user, &line);
    assert_eq!(built.code, Some(0), "{built:?}");
    assert!(built.stderr.contains(", 2 run, "), "{built:?}");
    let after = project.snapshot();
    assert!(
        after.file("main.o").starts_with(b"\x7fELF") && after.file("1.o").starts_with(b"\x7fELF")
    );
    assert!(is_placeholder(after.file("slow")));
    // A later build takes the placeholders of an earlier one for what they stand for.
    fs::remove_file(project.directory().join("slow")).unwrap();
    let whole = project.build(With::Lazy(&user), "make").ok();
    assert!(whole.snapshot.file("slow").starts_with(b"\x7fELF"), "{:?}", whole.finished);
}

#[test]
fn a_program_that_runs_during_inference_gets_what_it_opens() {
    let (project, user) = (Project::own("corner"), Mesh::new());
    let plain = project.build(With::Plain, "make generator").ok().snapshot;
    project.reset();
    let inferred = mesh(&project, &user, &["infer", "--", "make", "generator"]);
    assert_eq!(inferred.code, Some(0), "{inferred:?}");
    let after = project.snapshot();
    assert_eq!(after.file("out/generator/table.c"), plain.file("out/generator/table.c"));
    assert!(
        inferred.stderr.contains("0 local") && !inferred.stderr.contains(" 0 run"),
        "{inferred:?}"
    );
}
