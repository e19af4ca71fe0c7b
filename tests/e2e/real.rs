//! Real projects: Debian's sources of Lua and Zstandard.

use mesh_tests::{Built, Mesh, Mode, Project, With};

/// Builds plainly and with mesh, compares, and shows that a second build runs nothing.
///
/// Comes back with the project as mesh has built it.
fn same_bytes_and_nothing_twice(project: &Project, mesh: &Mesh, mode: Mode, goals: &[&str]) {
    let build_all = |with: With<'_>| {
        project.reset();
        let builds = goals.iter().map(|goal| project.build(with, goal).ok());
        builds.collect::<Vec<Built>>()
    };
    let plain = build_all(With::Plain);
    // Some makefiles make a thing or two each time.
    let settled = nothing_is_done(project, With::Plain, goals, plain.last().unwrap());
    if settled {
        let fresh = Mesh::new();
        assert!(nothing_is_done(project, mode.with(&fresh), goals, plain.last().unwrap()));
    }

    let first = build_all(mode.with(mesh));
    compare(&plain, &first);
    let thunks: u64 = first.iter().map(|built| built.report().thunks).sum();
    let executed: u64 = first.iter().map(|built| built.report().executed).sum();
    assert!(executed > 0 && executed <= thunks, "{executed} of {thunks}");
    if settled {
        assert!(nothing_is_done(project, With::Plain, goals, first.last().unwrap()));
    }

    // A copy of the sources at the same path.
    let second = build_all(mode.with(mesh));
    compare(&plain, &second);
    assert_nothing_runs(&second);
}

/// Does building again write nothing and make no thunk?
fn nothing_is_done(project: &Project, with: With<'_>, goals: &[&str], before: &Built) -> bool {
    goals.iter().all(|goal| {
        let again = project.build(with, goal).ok();
        let touched = before.snapshot.touched(&again.snapshot);
        let thunks = again.report.as_ref().map_or(0, |report| report.thunks);
        eprintln!("again `{goal}`: {thunks} thunks\n{touched}");
        touched.is_empty() && thunks == 0
    })
}

fn compare(plain: &[Built], other: &[Built]) {
    for (plain, other) in plain.iter().zip(other) {
        let differences = plain.snapshot.differences(&other.snapshot, &[]);
        differences.assert_none(format_args!("local:\n{}", other.report().reasons()));
    }
}

fn assert_nothing_runs(builds: &[Built]) {
    for built in builds {
        let report = built.report();
        assert_eq!((report.executed, report.failed), (0, 0), "{}", report.json);
        let said = &built.finished.stderr;
        assert!(!said.contains("rebuilt"), "the build before did not close the store: {said}");
    }
}

/// How many tools `make` calls for what is out of date.
fn calls_to_make(project: &Project, goal: &str) -> u64 {
    let planned = project.command("sh").args(["-c", &format!("{goal} -n")]).output().unwrap();
    let planned = String::from_utf8(planned.stdout).unwrap();
    let tools = ["gcc", "ar", "ranlib"];
    let is_call = |line: &&str| tools.contains(&line.split(' ').next().unwrap_or_default());
    planned.lines().filter(is_call).count() as u64
}

const LUA: &str = "make linux";

fn lua(mode: Mode) {
    let Some(project) = Project::source("lua5.4") else { return };
    let mesh = Mesh::new();
    same_bytes_and_nothing_twice(&project, &mesh, mode, &[LUA]);
    let said = project.command("src/lua").args(["-e", "print(6 * 7)"]).output().unwrap();
    assert_eq!(String::from_utf8(said.stdout).unwrap(), "42\n");

    project.edit("make clean");
    assert_nothing_runs(&[project.build(mode.with(&mesh), LUA).ok()]);

    // A change of code runs what depends on it, also where make would do all.
    project.edit("sed -i 's/cannot close a %s/will not close a %s/' src/lcorolib.c");
    let expected = calls_to_make(&project, LUA);
    assert!((2..10).contains(&expected), "{expected} calls");
    project.edit("make clean");
    let changed = project.build(mode.with(&mesh), LUA).ok();
    assert_eq!(changed.report().executed, expected, "{}", changed.report().json);

    // A change of a comment runs the compiler, which makes the same object as before: the archive,
    // made of it and of what the archive holds already, and the links are known.
    project.edit("echo '/* nothing new */' >> src/lcorolib.c");
    let commented = project.build(mode.with(&mesh), LUA).ok();
    assert_eq!(commented.report().executed, 1, "{}", commented.report().json);
}

#[test]
fn lua_lazy() {
    lua(Mode::Lazy);
}

#[test]
fn lua_eager() {
    lua(Mode::Eager);
}

/// The goals optimise less than usual, to be done sooner.
fn zstd(mode: Mode, goals: &[&str]) {
    let Some(project) = Project::source("libzstd") else { return };
    let mesh = Mesh::new();
    same_bytes_and_nothing_twice(&project, &mesh, mode, goals);
}

#[test]
fn zstd_library() {
    zstd(Mode::Lazy, &["make -C lib -j2 MOREFLAGS=-O0 libzstd.a libzstd"]);
}

#[test]
fn zstd_program() {
    zstd(Mode::Lazy, &["make -C programs MOREFLAGS=-O0 zstd"]);
}

#[test]
fn zstd_library_eager() {
    zstd(Mode::Eager, &["make -C lib -j2 MOREFLAGS=-O1 libzstd.a"]);
}
