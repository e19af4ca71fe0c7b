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

#[test]
fn what_a_disk_spoiled_is_put_aside_and_made_again() {
    let (project, mesh) = (Project::own("slow"), Mesh::new());
    let first = project.build(With::Lazy(&mesh), "make").ok().snapshot;
    let object = mesh.ok(["put", project.directory().join("2.o").to_str().unwrap()]);
    let name = object.split_whitespace().next().unwrap().trim_start_matches('V');
    let blob = mesh.home().join("store/blobs").join(&name[..2]).join(&name[2..]);
    let mut bytes = std::fs::read(&blob).unwrap();
    bytes[100] ^= 1;
    std::fs::set_permissions(&blob, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    std::fs::write(&blob, bytes).unwrap();
    let verified = mesh.run(["store", "verify"]);
    assert_eq!(verified.code, Some(1), "{verified:?}");
    assert!(verified.stdout.contains(&name[2..]), "{verified:?}");
    project.edit("make clean");
    let again = project.build(With::Lazy(&mesh), "make").ok();
    assert_eq!(again.report().executed, 1, "{}", again.report().json);
    first.differences(&again.snapshot, &[]).assert_none("a spoiled object");
}
