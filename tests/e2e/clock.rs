//! Builds that put the time into what they make.

use std::time::{SystemTime, UNIX_EPOCH};

use mesh_tests::{Mesh, Mode, Project};

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// When the program says it was compiled, in seconds since 1970.
fn built_at(project: &Project) -> u64 {
    let asked = project.command("sh").args(["-ec", r#"date -d "$(out/date/when)" +%s"#]).output();
    String::from_utf8(asked.unwrap().stdout).unwrap().trim().parse().unwrap()
}

fn each_build_has_its_own_time(mode: Mode) {
    let (project, mesh) = (Project::own("corner"), Mesh::new());
    let mut last = 0;
    for _ in 0..2 {
        while now() == last {}
        let before = now();
        project.reset();
        project.build(mode.with(&mesh), "make date").ok();
        last = now();
        let said = built_at(&project);
        assert!((before..=last).contains(&said), "{said} is not in {before}..={last}");
    }
}

#[test]
fn each_build_has_its_own_time_lazy() {
    each_build_has_its_own_time(Mode::Lazy);
}

#[test]
fn each_build_has_its_own_time_eager() {
    each_build_has_its_own_time(Mode::Eager);
}
