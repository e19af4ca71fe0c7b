//! The commands that look into the store.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use mesh_tests::Mesh;
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_name_is_what_sha256sum_says() {
    let mesh = Mesh::new();
    let name = mesh.run_with(["put", "-"], b"hello\n").ok();
    assert_eq!(name, "V5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03-6");
    assert_eq!(mesh.run(["cat", &name]).stdout, "hello\n");
    let stats = json(&mesh.ok(["store", "stats", "--json"]));
    assert_eq!(stats["blobs"], 1);
}

#[test]
fn a_directory_goes_in_and_comes_out() {
    let mesh = Mesh::new();
    let place = tempfile::tempdir().unwrap();
    let from = place.path().join("from");
    fs::create_dir_all(from.join("bin")).unwrap();
    fs::write(from.join("bin/tool"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(from.join("bin/tool"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(from.join("readme"), "text").unwrap();
    let name = mesh.ok(["put".as_ref(), from.as_os_str()]);
    let listed = mesh.ok(["ls", "-r", &name]);
    let paths: Vec<&str> =
        listed.lines().map(|line| line.split(' ').next_back().unwrap()).collect();
    assert_eq!(paths, ["bin/", "bin/tool", "readme"]);
    let to = place.path().join("to");
    mesh.ok(["get".as_ref(), name.as_ref(), to.as_os_str()]);
    assert_eq!(mesh.ok(["put".as_ref(), to.as_os_str()]), name);
    let again = mesh.run(["get".as_ref(), name.as_ref(), to.as_os_str()]);
    assert_eq!(again.code, Some(74), "a directory is never overwritten: {again:?}");
}

#[test]
fn an_object_goes_where_it_is_sent_and_replaces_nothing_else() {
    let mesh = Mesh::new();
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let name = mesh.run_with(["put", "-"], b"hello\n").ok();
    assert_eq!(mesh.run(["get", &name, "-"]).stdout, "hello\n");
    assert!(!std::path::Path::new("-").exists());
    // A link stays, and what it leads to is replaced.
    fs::write(at("file"), "old").unwrap();
    std::os::unix::fs::symlink("file", at("link")).unwrap();
    mesh.ok(["get", &name, &at("link")]);
    assert_eq!(fs::read_link(at("link")).unwrap().to_str(), Some("file"));
    assert_eq!(fs::read_to_string(at("file")).unwrap(), "hello\n");
    // A pipe is written to.
    rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .unwrap();
    let pipe = at("pipe");
    let reader = std::thread::spawn(move || fs::read_to_string(pipe).unwrap());
    mesh.ok(["get", &name, &at("pipe")]);
    assert_eq!(reader.join().unwrap(), "hello\n");
    fs::create_dir(at("directory")).unwrap();
    let refused = mesh.run(["get", &name, &at("directory")]);
    assert_eq!(refused.code, Some(64), "{refused:?}");
    assert!(refused.stderr.contains("is a directory\nhint: "), "{refused:?}");
    let nowhere = mesh.run(["get", &name, &at("no/such/place")]);
    assert_eq!(nowhere.code, Some(66));
    assert!(nowhere.stderr.contains("No such file or directory"), "{nowhere:?}");
    let tree = mesh.ok(["put", &at("directory")]);
    assert_eq!(mesh.run(["get", &tree, "-"]).code, Some(64));
}

#[test]
fn a_graph_of_nothing_is_an_error() {
    let mesh = Mesh::new();
    let nothing = format!("T{}-5", "0".repeat(64));
    let drawn = mesh.run(["thunk", "graph", &nothing]);
    assert_eq!(drawn.code, Some(66), "{drawn:?}");
    assert!(drawn.stderr.contains("is not here"), "{drawn:?}");
}

#[test]
fn corruption_is_found_and_named() {
    let mesh = Mesh::new();
    let name = mesh.run_with(["put", "-"], b"precious").ok();
    let blob = mesh.home().join("store/blobs").join(&name[1..3]).join(&name[3..]);
    fs::set_permissions(&blob, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&blob, "preciouS").unwrap();
    let found = mesh.run(["store", "verify", "--json"]);
    assert_eq!(found.code, Some(1));
    assert_eq!(json(&found.stdout)["corrupt"], serde_json::json!([&name[1..]]));
    assert_eq!(mesh.run(["cat", &name]).code, Some(66), "it is not here any more");
    assert_eq!(mesh.run(["store", "verify"]).code, Some(0));
}

#[test]
fn thunks_are_made_shown_and_drawn() {
    let mesh = Mesh::new();
    let form = r#"{"function": {"executable": "/t", "arguments": ["t", "a \"quoted\" one"]},
                   "outputs": {"out": "/out"}}"#;
    let first = mesh.run_with(["thunk", "create"], form.as_bytes()).ok();
    let second = form
        .replace("\"outputs\"", &format!("\"inputs\": {{\"/in\": \"{first}#out\"}}, \"outputs\""));
    let second = mesh.run_with(["thunk", "create"], second.as_bytes()).ok();
    let shown = mesh.ok(["thunk", "show", &first]);
    let again = mesh.run_with(["thunk", "create"], shown.as_bytes()).ok();
    assert_eq!(again, first, "what is shown makes the same thunk");
    let graph = mesh.ok(["thunk", "graph", &second]);
    let edge = format!("\"{}\" -> \"{}\"", &first[1..65], &second[1..65]);
    assert!(graph.starts_with("digraph") && graph.contains(&edge), "{graph}");
}

#[test]
fn what_is_wrong_is_said_with_its_own_exit_code() {
    let mesh = Mesh::new();
    let absent = format!("V{}-3", "0".repeat(64));
    let cases: [(&[&str], i32, &str); 6] = [
        (&["frobnicate"], 64, "Usage"),
        (&["cat", "nonsense"], 65, "does not begin with"),
        (&["cat", &absent], 66, "is not in the store"),
        (&["put", "/does/not/exist"], 66, "/does/not/exist"),
        (&["gc", "--quota", "much"], 64, "a size is a number"),
        (&["thunk", "create", "/dev/null"], 65, "hint:"),
    ];
    for (arguments, code, text) in cases {
        let found = mesh.run(arguments);
        assert_eq!(found.code, Some(code), "{arguments:?}: {found:?}");
        assert!(found.stderr.contains(text), "{arguments:?}: {found:?}");
        assert_eq!(found.stdout, "", "{arguments:?}");
    }
}

#[test]
fn collection_keeps_what_is_pinned() {
    let mesh = Mesh::new();
    let kept = mesh.home().join("kept");
    fs::write(&kept, "kept").unwrap();
    let kept = mesh.ok(["put".as_ref(), "--pin".as_ref(), kept.as_os_str()]);
    let lost = mesh.run_with(["put", "-"], b"lost").ok();
    // What was used a moment ago counts as in use.
    for name in [&kept, &lost] {
        let blob = mesh.home().join("store/blobs").join(&name[1..3]).join(&name[3..]);
        let long_ago = fs::FileTimes::new().set_accessed(std::time::SystemTime::UNIX_EPOCH);
        fs::File::open(blob).unwrap().set_times(long_ago).unwrap();
    }
    let planned = json(&mesh.ok(["gc", "--quota", "0", "--dry-run", "--json"]));
    assert_eq!((&planned["removed"], &planned["kept"]), (&1.into(), &1.into()));
    mesh.ok(["gc", "--quota", "0"]);
    assert_eq!(mesh.ok(["cat", &kept]), "kept");
    assert_eq!(mesh.run(["cat", &lost]).code, Some(66));
}
