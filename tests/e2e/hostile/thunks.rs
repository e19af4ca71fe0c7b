//! Thunks that want a worker's machine: each ends as what it is, the node answers, and nothing is left.
//!
//! What a job can do inside its sandbox is checked one by one in `node/tests/sandbox/hostile.rs`; here it is what
//! becomes of the worker.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use mesh_tests::{Members, Mesh};
use serde_json::{Value, json};

/// A name, a script that ends in its own way, limits, and what the reason has to say.
type Hostile = (&'static str, &'static str, Value, &'static str);

fn hostile() -> Vec<Hostile> {
    let plain = || json!({});
    let ms = |timeout_ms: u64| json!({"limits": {"timeout_ms": timeout_ms}});
    let mib = |mib: u64| json!({"limits": {"memory_bytes": mib << 20}});
    vec![
        (
            "a sparse output",
            "truncate -s 200G /o/out",
            plain(),
            "its outputs have 214748364800 bytes",
        ),
        ("a sparse output in time", "truncate -s 63M /o/out; exit 3", plain(), "exit status 3"),
        ("files", "head -c 100M /dev/zero > /o/out", plain(), "No space left"),
        ("files in /dev/shm", "head -c 100M /dev/zero > /dev/shm/f", plain(), "No space left"),
        ("its own bound on memory", "tail /dev/zero", mib(32), "it ran out of memory"),
        (
            "its own bound, with files",
            "head -c 60M /dev/zero > /tmp/f",
            mib(32),
            "it ran out of memory",
        ),
        ("all time", "while :; do :; done", ms(300), "it ran out of time"),
        ("no signal", "trap '' TERM INT HUP; while :; do :; done", ms(300), "it ran out of time"),
        (
            "standard output",
            "while :; do echo yyyyyyyyyyyyyyyy; done",
            ms(500),
            "it ran out of time",
        ),
        (
            "standard error",
            "while :; do echo yyyyyyyyyyyyyyyy >&2; done",
            ms(500),
            "it ran out of time",
        ),
        ("a daemon", "(while :; do :; done) > /dev/null 2>&1 & exit 4", plain(), "exit status 4"),
        ("killing all", "kill -9 -1; exit 5", plain(), "exit status 5"),
        ("killing the first process", "kill -9 1; exit 6", plain(), "exit status 6"),
        ("a pipe as output", "mkfifo /o/out", plain(), "it left no output"),
        ("a device as output", "ln -s /dev/zero /o/out", plain(), "it left no output"),
        ("a process as output", "ln -s /proc/1/environ /o/out", plain(), "it left no output"),
        ("the host as output", "ln -s ../../../../etc/passwd /o/out", plain(), "it left no output"),
        ("links in a circle", "ln -s out /o/out", plain(), "it left no output"),
        ("its input", "echo x > /usr/bin/sh", plain(), "Read-only file system"),
        ("a device", "chmod 0 /dev/null", plain(), "Read-only file system"),
        (
            "a program that is none",
            "echo x > /tmp/p; chmod 755 /tmp/p; exec /nothing",
            plain(),
            "exit status 127",
        ),
    ]
}

/// A tree of a shell, these tools and what they load.
fn tools(mesh: &Mesh) -> String {
    let place = tempfile::tempdir().unwrap();
    let copy = |from: &Path| {
        let to = place.path().join(from.strip_prefix("/").unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    };
    for tool in ["sh", "chmod", "head", "ln", "mkfifo", "tail", "truncate"] {
        let found = ["/usr/bin", "/bin"].map(|directory| Path::new(directory).join(tool));
        let found = found.iter().find(|path| path.exists()).unwrap();
        copy(found);
        let libraries = Command::new("ldd").arg(found).output().unwrap();
        let libraries = String::from_utf8(libraries.stdout).unwrap();
        let paths = libraries.split_whitespace().filter(|word| word.starts_with('/'));
        paths.map(Path::new).for_each(copy);
    }
    mesh.ok(["put".as_ref(), place.path().as_os_str()])
}

fn thunk(tools: &str, script: &str, more: &Value) -> Value {
    let mut thunk = json!({
        "function": {
            "executable": "/usr/bin/sh",
            "arguments": ["sh", "-c", script],
            "environment": {"PATH": "/usr/bin:/bin"},
        },
        "inputs": {"/": {"source": {"value": tools}, "mode": "tree"}},
        "outputs": {"out": "/o/out"},
    });
    thunk.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    thunk
}

/// Forces them on others only; what each came to, by its line.
fn force(mesh: &Mesh, thunks: &[Value]) -> BTreeMap<u64, Value> {
    let lines: String = thunks.iter().map(|thunk| format!("{thunk}\n")).collect();
    let done = mesh.run_with(["force", "-k", "--slots", "0", "-"], lines.as_bytes());
    let results = done.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    results.map(|result| (result["line"].as_u64().unwrap(), result)).collect()
}

/// The control groups of the launchers of a node.
fn groups(node: u32) -> Vec<PathBuf> {
    let children = fs::read_dir(format!("/proc/{node}/task")).unwrap().flatten().flat_map(|task| {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        children.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    });
    let launchers: Vec<String> = children.map(|pid| format!("mesh-{pid}")).collect();
    let mut found = Vec::new();
    let mut todo = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = todo.pop() {
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            let name = entry.file_name().into_string().unwrap_or_default();
            match launchers.contains(&name) {
                true => found.push(entry.path()),
                false => todo.push(entry.path()),
            }
        }
    }
    found
}

fn withstand(worker: Mesh) {
    let homes = vec![Mesh::new(), worker];
    // What nobody takes in time runs at home.
    fs::write(homes[0].home().join("config.toml"), "[build]\nfiles = \"64M\"\n").unwrap();
    let mut members = Members::of(homes, &["--memory", "256M", "--files", "64M", "--slots", "2"]);
    // The first gives, and does not work.
    let tree = tools(members.home(0));
    let hostile = hostile();
    let thunks: Vec<Value> =
        hostile.iter().map(|(_, script, more, _)| thunk(&tree, script, more)).collect();
    let results = force(members.home(0), &thunks);
    let mut wrong = Vec::new();
    for (line, (name, _, _, wanted)) in (1..).zip(&hostile) {
        let error = results[&line]["error"].as_str().unwrap_or("no error");
        if !error.contains(wanted) {
            wrong.push(format!("{name}: {error:?} instead of {wanted:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    println!("{} hostile thunks", hostile.len());
    // More than the worker gives, though less than a machine has: that is no fault of the program, and it may run
    // where there is more.
    let large = "head -c 400M /dev/zero | tail > /dev/null; echo done > /o/out";
    force(members.home(0), &[thunk(&tree, large, &json!({}))]);
    members.node(1).says("it needs more memory");
    // It answers, and works.
    assert_eq!(members.node(1).has_ended(), None);
    members.home(1).ok(["status", "--json"]);
    let next = force(members.home(0), &[thunk(&tree, "echo next > /o/out", &json!({}))]);
    assert!(next[&1]["outputs"]["out"].is_object(), "{next:?}");
    // Nothing is left: no files, no mounts, no groups.
    let left = fs::read_dir(members.home(1).home().join("store/tmp")).unwrap().flatten();
    let left: Vec<PathBuf> = left.map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "{left:?}");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(members.home(1).home().to_str().unwrap()), "{mounts}");
    let node = members.take(1);
    let groups = groups(node.pid());
    node.interrupt();
    let left: Vec<&PathBuf> = groups.iter().filter(|group| group.exists()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn thunks_do_not_take_a_worker() {
    withstand(Mesh::new());
}

#[test]
fn thunks_do_not_take_an_ordinary_users_worker() {
    if let Some(worker) = Mesh::ordinary() {
        withstand(worker);
    }
}
