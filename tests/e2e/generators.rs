//! Projects whose build files are generated: CMake's, for Ninja and for make. They call compilers by
//! their absolute paths.

use mesh_tests::{Mesh, Mode, Project, With};

/// Targets that do not depend on each other come in any order, from one configuring
/// to the next.
pub(crate) const ANY_ORDER: &[&str] = &["build/CMakeFiles/Makefile2"];

fn cmake(generator: &str, build: &str, mode: Mode) {
    let mut project = Project::own("cmake");
    // When each command began and ended, and the times of files.
    project.ignore("build/.ninja_log");
    project.ignore("build/.ninja_deps");
    // What configuring has said, with the names of temporary directories.
    project.ignore("build/CMakeFiles/CMakeOutput.log");
    project.ignore("build/CMakeFiles/CMakeError.log");
    let configure = format!("cmake -S . -B build -G '{generator}' -DCMAKE_BUILD_TYPE=Debug");
    project.edit(&configure);
    let plain = project.build(With::Plain, build).ok();
    // CMake's makefiles gather dependencies when make runs for the second time.
    let plain_again = project.build(With::Plain, build).ok();
    let again = plain.snapshot.touched(&plain_again.snapshot).to_string();

    let mesh = Mesh::new();
    for first in [true, false] {
        project.reset();
        project.edit(&configure);
        let built = project.build(mode.with(&mesh), build).ok();
        let report = built.report();
        let differences = plain.snapshot.differences(&built.snapshot, ANY_ORDER);
        differences.assert_none(format_args!("local:\n{}", report.reasons()));
        assert!(report.thunks > 0, "nothing became a thunk: {}", report.json);
        assert_eq!(first, report.executed > 0, "{}", report.json);
        let nothing = project.build(With::Plain, build).ok();
        assert_eq!(built.snapshot.touched(&nothing.snapshot).to_string(), again);
    }
    let said = project.command("build/measure").output().unwrap();
    assert_eq!(String::from_utf8(said.stdout).unwrap(), "10\n");
}

#[test]
fn cmake_and_ninja_lazy() {
    cmake("Ninja", "ninja -C build", Mode::Lazy);
}

#[test]
fn cmake_and_ninja_eager() {
    cmake("Ninja", "ninja -C build", Mode::Eager);
}

#[test]
fn cmake_and_make_lazy() {
    cmake("Unix Makefiles", "make -C build", Mode::Lazy);
}

/// Configuring under mesh comes to the same cache and files as without, and names no link of ours.
#[test]
fn configured_by_mesh() {
    const CONFIGURE: &str = "cmake -S . -B build -DCMAKE_BUILD_TYPE=Debug";
    let mut project = Project::own("cmake");
    // What configuring has said, with the names of temporary directories.
    project.ignore("build/CMakeFiles/CMakeOutput.log");
    project.ignore("build/CMakeFiles/CMakeError.log");
    let plain = project.build(With::Plain, CONFIGURE).ok();
    assert!(plain.snapshot.contains("build/CMakeCache.txt"));
    for mode in [Mode::Lazy, Mode::Eager] {
        project.reset();
        let built = project.build(mode.with(&Mesh::new()), CONFIGURE).ok();
        let differences = plain.snapshot.differences(&built.snapshot, ANY_ORDER);
        differences.assert_none(format_args!("{mode:?}:\n{}", built.report().reasons()));
        assert!(built.report().thunks > 0, "{}", built.report().json);
    }
}
