//! Something else than a file in place of one of mesh's own: nothing waits for it, and what stands in
//! the way is named.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use mesh_tests::{Finished, Mesh, finished};
use rustix::fs::{CWD, FileType, Mode, mknodat};

/// A home with a bit of everything.
fn furnish(mesh: &Mesh) {
    mesh.ok(["init", "--name", "desk"]);
    fs::write(mesh.home().join("config.toml"), "[join]\nmdns = false\n").unwrap();
    fs::write(mesh.home().join("input"), "some input").unwrap();
    put(mesh);
    serve(mesh).ok();
    run(mesh).ok();
}

fn put(mesh: &Mesh) -> Finished {
    mesh.run(["put".as_ref(), mesh.home().join("input").as_os_str()])
}

fn run(mesh: &Mesh) -> Finished {
    let words = ["run", "-i", "input", "--", "sh", "-c", "read line < input; echo $line"];
    finished(mesh.command(words).current_dir(mesh.home()).output().unwrap())
}

/// A node that ends at once if it can be started.
fn serve(mesh: &Mesh) -> Finished {
    mesh.run(["join", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0", "--idle-exit", "1s"])
}

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match fs::symlink_metadata(&path).unwrap() {
            metadata if metadata.is_dir() => files(&path, found),
            metadata if metadata.is_file() => found.push(path),
            _ => {}
        }
    }
}

/// Puts a thing of some kind at a path.
type Place = fn(&Path);

fn pipe(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
}

const KINDS: [(&str, Place); 4] = [
    ("a named pipe", pipe),
    ("a directory", |path| fs::create_dir(path).unwrap()),
    ("a socket", |path| {
        mknodat(CWD, path, FileType::Socket, Mode::from_raw_mode(0o600), 0).unwrap();
    }),
    ("a symbolic link", |path| {
        let beside = path.with_extension("beside");
        pipe(&beside);
        std::os::unix::fs::symlink(&beside, path).unwrap();
    }),
];

#[test]
fn whatever_stands_in_place_of_a_file_is_named_and_nobody_waits() {
    let furnished = Mesh::new();
    furnish(&furnished);
    let mut all = Vec::new();
    files(furnished.home(), &mut all);
    let own = |path: &PathBuf| path != &furnished.home().join("input");
    let all: Vec<PathBuf> = all.into_iter().filter(own).collect();
    assert!(all.len() > 15, "{all:?}");
    let cases: Vec<(&Path, (&str, Place))> = all
        .iter()
        .enumerate()
        .map(|(number, path)| {
            let relative = path.strip_prefix(furnished.home()).unwrap();
            (relative, KINDS[number % KINDS.len()])
        })
        .collect();
    // Each takes a second, most of which a node waits.
    std::thread::scope(|scope| {
        for some in cases.chunks(cases.len().div_ceil(4)) {
            scope.spawn(|| some.iter().for_each(|(path, kind)| check(&furnished, path, *kind)));
        }
    });
}

/// What every command does where something stands in place of one file.
fn check(furnished: &Mesh, relative: &Path, (kind, place): (&str, Place)) {
    let mesh = Mesh::new();
    let from = furnished.home().join(".");
    let copied = Command::new("cp").arg("-a").arg(from).arg(mesh.home()).status().unwrap();
    assert!(copied.success());
    let there = mesh.home().join(relative);
    fs::remove_file(&there).unwrap();
    place(&there);
    for (what, finished) in [("put", put(&mesh)), ("run", run(&mesh)), ("serve", serve(&mesh))] {
        let context = format!("{kind} at {}, {what}: {finished:#?}", relative.display());
        let name = relative.file_name().unwrap().to_str().unwrap();
        let is_named = finished.stderr.contains(name) || finished.stderr.contains(kind);
        assert!(finished.code == Some(0) || finished.code.is_some() && is_named, "{context}");
        assert_ne!(finished.code, Some(70), "{context}");
    }
}

/// Settings may be a link to wherever they are kept.
#[test]
fn settings_are_read_through_a_link_and_from_a_file_alone() {
    let mesh = Mesh::new();
    let config = mesh.home().join("config.toml");
    fs::write(mesh.home().join("elsewhere"), "[store]\nquota = \"7G\"\n").unwrap();
    std::os::unix::fs::symlink("elsewhere", &config).unwrap();
    assert!(mesh.ok(["config", "check"]).contains('7'));
    fs::remove_file(mesh.home().join("elsewhere")).unwrap();
    pipe(&mesh.home().join("elsewhere"));
    let refused = mesh.run(["config", "check"]);
    assert_eq!(refused.code, Some(74), "{refused:?}");
    assert!(refused.stderr.contains("a named pipe"), "{refused:?}");
}
