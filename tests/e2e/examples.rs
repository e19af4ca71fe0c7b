//! The examples of README.md, as they stand, where a project lies that can be built.

use std::fs;
use std::path::Path;

use mesh_tests::readme::tested_blocks;
use mesh_tests::{Mesh, Project, binary, skip};

#[test]
fn the_examples_of_the_readme_work() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let blocks = tested_blocks(&fs::read_to_string(readme).unwrap());
    if blocks.is_empty() {
        return skip::unable("no example of README.md is marked as tested");
    }
    let (project, mesh) = (Project::own("slow"), Mesh::new());
    let own = binary();
    let path = std::env::join_paths(
        std::iter::once(own.parent().unwrap().to_owned())
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let path = path.unwrap();
    for block in blocks {
        let mut command = project.command("sh");
        command.args(["-euxc", &block]).env("MESH_HOME", mesh.home()).env("PATH", &path);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}:\n{block}\n{said}", output.status);
    }
}
