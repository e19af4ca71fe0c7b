//! Output that nobody reads any more, and output that is very long.

use std::fs::File;
use std::process::{Command, Stdio};

use mesh_tests::Mesh;

/// A pipe without a reader.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// The exit code of a command, both of whose streams are closed pipes.
fn code(mut command: Command) -> Option<i32> {
    command.stdin(Stdio::null()).stdout(closed()).stderr(closed());
    command.status().unwrap().code()
}

#[test]
fn a_build_ends_as_its_command_does() {
    let mesh = Mesh::new();
    for mode in [&[][..], &["--eager"]] {
        let build = |script: &str| {
            let mut command = mesh.command(["build"]);
            command.args(mode).args(["--", "sh", "-c", script]);
            code(command)
        };
        assert_eq!(build("true"), Some(0));
        assert_eq!(build("exit 3"), Some(3));
    }
}

#[test]
fn commands_end_in_peace() {
    let mesh = Mesh::new();
    let name = mesh.run_with(["put", "-"], b"some bytes").ok();
    assert_eq!(code(mesh.command(["cat", &name])), Some(0));
    assert_eq!(code(mesh.command(["store", "stats"])), Some(0));
    assert_eq!(code(mesh.command(["--help"])), Some(0));
    let absent = format!("V{}-3", "0".repeat(64));
    assert_eq!(code(mesh.command(["cat", &absent])), Some(66), "an error keeps its code");
}

#[test]
fn a_full_disk_is_an_error() {
    let mesh = Mesh::new();
    let name = mesh.run_with(["put", "-"], b"no line").ok();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let status = mesh.command(["cat", &name]).stdout(full).status().unwrap();
    assert_ne!(status.code(), Some(0));
}

/// What is kept of a stream is not enough: the build sees it all, with nothing known and with all.
#[test]
fn a_tool_that_writes_more_than_is_kept_says_it_all() {
    let place = tempfile::tempdir().unwrap();
    let message = format!("#pragma message \"{}\"\n", "x".repeat(3000));
    std::fs::write(place.path().join("a.c"), message.repeat(3000) + "int a;\n").unwrap();
    std::fs::write(place.path().join("Makefile"), "a.o: a.c\n\tgcc -c a.c\n").unwrap();
    let build = |mut command: Command| {
        let _ = std::fs::remove_file(place.path().join("a.o"));
        let output = command.current_dir(place.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        // Notes of mesh stand on lines of their own.
        let lines = output.stderr.split_inclusive(|byte| *byte == b'\n');
        let said = lines.filter(|line| !line.starts_with(b"mesh: ")).flatten().copied();
        let said: Vec<u8> = said.collect();
        (output.stdout, said, std::fs::read(place.path().join("a.o")).unwrap())
    };
    let plain = build(Command::new("make"));
    assert!(plain.1.len() > 16 << 20);
    let mesh = Mesh::new();
    for _ in 0..2 {
        assert!(build(mesh.command(["make"])) == plain);
    }
}
