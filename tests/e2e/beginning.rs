//! What a build meets before its command runs.

use std::fs;

use mesh_tests::{Finished, Mesh, Project, finished};

fn project() -> Project {
    let makefile = "out: ok.c\n\tgcc -c ok.c\n\tgcc -S ok.c -o out\n";
    let files = [("Makefile", makefile), ("ok.c", "int ok;\n"), ("data", "")];
    Project::made(files.map(|(name, text)| (name.to_owned(), text.to_owned())))
}

/// `mesh build` with such limits (prlimit(1)), and the plain command with the same.
fn limited(mesh: &Mesh, project: &Project, limit: &str, words: &[&str]) -> [Finished; 2] {
    project.reset();
    let mut plain = project.command("prlimit");
    let plain = plain.arg(limit).args(words).output().unwrap();
    let expected = project.snapshot();
    project.reset();
    let mut command = project.command("prlimit");
    command.arg(limit).arg(mesh_tests::binary()).args(["build", "--"]).args(words);
    let built = finished(command.env("MESH_HOME", mesh.home()).output().unwrap());
    expected.differences(&project.snapshot(), &[]).assert_none(&built.stderr);
    [finished(plain), built]
}

#[test]
fn small_limits_of_files_break_nothing() {
    let (mesh, project) = (Mesh::new(), project());
    for limit in ["--fsize=20480", "--fsize=1024", "--nofile=40", "--nofile=255", "--nofile=300"] {
        for _ in ["cold", "warm"] {
            let [plain, built] = limited(&mesh, &project, limit, &["make", "-s"]);
            assert_eq!(
                (built.code, built.signal),
                (plain.code, plain.signal),
                "{limit} {built:#?}"
            );
        }
    }
    let [_, built] = limited(&mesh, &project, "--nofile=40", &["make"]);
    let why =
        "mesh: 40 files may be open here, and mesh needs 256; building as if mesh were absent";
    assert!(built.stderr.contains(why), "{built:#?}");
    // And its store is well.
    mesh.ok(["store", "verify"]);
}

#[test]
fn a_command_that_cannot_be_run_ends_as_in_a_shell() {
    let (mesh, project) = (Mesh::new(), project());
    project.reset();
    for (command, code) in
        [("./missing", 127), ("no-such-command", 127), ("./data", 126), ("./", 126)]
    {
        for mode in ["--eager", "--quiet"] {
            let mut build = project.command(mesh_tests::binary());
            build.args(["build", mode, "--", command]).env("MESH_HOME", mesh.home());
            let built = finished(build.output().unwrap());
            assert_eq!(built.code, Some(code), "{command}: {built:#?}");
        }
    }
}

#[test]
fn a_report_that_has_no_place_is_refused_before_the_build() {
    let (mesh, project) = (Mesh::new(), project());
    project.reset();
    for (option, place, code) in [
        ("--report", "nowhere/r.json", 66),
        ("--trace", "nowhere/t.json", 66),
        ("--report", ".", 64),
    ] {
        let mut build = project.command(mesh_tests::binary());
        build.args(["build", option, place, "--", "touch", "ran"]).env("MESH_HOME", mesh.home());
        let built = finished(build.output().unwrap());
        assert_eq!(built.code, Some(code), "{built:#?}");
        assert!(!fs::exists(project.directory().join("ran")).unwrap());
    }
}
