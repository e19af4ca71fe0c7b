//! Several builds at once with one store.

use std::process::Stdio;

use mesh_tests::{Mesh, Project, With};

#[test]
fn two_builds_at_once_share_a_store() {
    const GOAL: &str = "make -j2 plain cxx archive shared generator moved debug";
    let mesh = Mesh::new();
    let projects = [Project::own("corner"), Project::own("corner")];
    let plain = projects.each_ref().map(|project| {
        let built = project.build(With::Plain, GOAL).ok();
        project.reset();
        built.snapshot
    });
    let running = projects.each_ref().map(|project| {
        let mut command = project.build_command(With::Lazy(&mesh), GOAL);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    });
    for (running, (project, plain)) in running.into_iter().zip(projects.iter().zip(&plain)) {
        let output = running.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        plain.differences(&project.snapshot(), &[]).assert_none(said);
    }
    mesh.ok(["store", "verify"]);
    for project in &projects {
        project.reset();
        let again = project.build(With::Lazy(&mesh), GOAL).ok();
        assert_eq!(again.report().executed, 0, "{}", again.report().json);
    }
}
