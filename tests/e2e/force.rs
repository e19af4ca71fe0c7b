//! `mesh force`: thunks run in sandboxes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use mesh_tests::{Finished, Mesh, binary, finished};
use serde_json::{Value, json};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples").join(name)
}

fn fibonacci(mesh: &Mesh, n: u32) -> Finished {
    let path =
        format!("{}:{}", binary().parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut command = Command::new(example("fibonacci/run"));
    let output = command
        .arg(n.to_string())
        .env("PATH", path)
        .env("MESH_HOME", mesh.home())
        .output()
        .unwrap();
    finished(output)
}

#[test]
fn fibonacci_runs_each_step_once_and_nothing_the_second_time() {
    let mesh = Mesh::new();
    let first = fibonacci(&mesh, 12);
    assert_eq!(first.stdout, "144\n", "{first:?}");
    // fib(0) … fib(12) and the sums for 2 … 12.
    assert!(first.stderr.contains(", 24 run, "), "{first:?}");
    let second = fibonacci(&mesh, 12);
    assert_eq!(second.stdout, "144\n");
    assert!(second.stderr.contains(", 0 run, "), "{second:?}");
    let third = fibonacci(&mesh, 13);
    assert_eq!(third.stdout, "233\n");
    assert!(third.stderr.contains(", 2 run, "), "only fib(13) and one sum: {third:?}");
}

/// The tree of a shell with what it loads.
pub(crate) fn shell(mesh: &Mesh) -> String {
    let place = tempfile::tempdir().unwrap();
    let copy = |from: &str, to: &str| {
        let to = place.path().join(to.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    };
    copy("/bin/sh", "/bin/sh");
    let libraries = Command::new("ldd").arg("/bin/sh").output().unwrap();
    let libraries = String::from_utf8(libraries.stdout).unwrap();
    for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
        copy(library, library);
    }
    mesh.ok(["put".as_ref(), place.path().as_os_str()])
}

pub(crate) fn script(shell: &str, script: &str, more: Value) -> Value {
    let mut thunk = json!({
        "function": {"executable": "/bin/sh", "arguments": ["sh", "-c", script]},
        "inputs": {"/": {"source": {"value": shell}, "mode": "tree"}},
        "outputs": {"out": "/out"},
    });
    for (key, value) in more.as_object().unwrap() {
        match thunk[key].as_object_mut() {
            Some(known) => known.extend(value.as_object().unwrap().clone()),
            None => thunk[key] = value.clone(),
        }
    }
    thunk
}

/// Feeds thunks to `mesh force -` and gives the results in the order of the thunks.
fn force(mesh: &Mesh, thunks: &[Value]) -> (Vec<Value>, Finished) {
    let lines: String = thunks.iter().map(|thunk| format!("{thunk}\n")).collect();
    let done = mesh.run_with(["force", "-k", "-"], lines.as_bytes());
    let mut results: Vec<Value> =
        done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    results.sort_by_key(|result| result["line"].as_u64());
    assert_eq!(results.len(), thunks.len(), "{done:?}");
    (results, done)
}

fn content(mesh: &Mesh, result: &Value) -> String {
    let name = result["outputs"]["out"]["file"]["name"].as_str();
    mesh.ok(["cat", name.unwrap_or_else(|| panic!("{result}"))])
}

#[test]
fn lines_of_thunks_give_lines_of_results() {
    let mesh = Mesh::new();
    let shell = shell(&mesh);
    let first = script(&shell, "echo one > /out; echo said; echo warned >&2", json!({}));
    let bad = script(&shell, "echo trouble >&2; exit 3", json!({}));
    let nothing = script(&shell, ":", json!({}));
    let (results, done) = force(&mesh, &[first.clone(), bad.clone(), nothing, json!({})]);
    assert_eq!(done.code, Some(1));
    assert_eq!(content(&mesh, &results[0]), "one");
    assert!(results[1]["error"].as_str().unwrap().contains("exit status 3"), "{}", results[1]);
    assert!(done.stderr.contains("trouble\n"), "{done:?}");
    assert!(results[2]["error"].as_str().unwrap().contains("no output #out"), "{}", results[2]);
    assert!(results[3]["error"].is_string());
    let log: Value =
        serde_json::from_str(&mesh.ok(["log", "--json", results[0]["thunk"].as_str().unwrap()]))
            .unwrap();
    assert_eq!((&log["stdout"], &log["stderr"]), (&json!("said\n"), &json!("warned\n")));

    // What read the output of the first, by name; the failed one is tried again.
    let output = format!("{}#out", results[0]["thunk"].as_str().unwrap());
    let next =
        script(&shell, "read a < /in; echo $a two > /out", json!({"inputs": {"/in": output}}));
    let (results, done) = force(&mesh, &[first, next, bad]);
    assert_eq!(content(&mesh, &results[1]), "one two");
    assert!(done.stderr.contains("1 run, 1 reused, 1 failed"), "{}", done.stderr);
}

#[test]
fn a_lost_result_is_made_again() {
    let mesh = Mesh::new();
    let shell = shell(&mesh);
    let thunk = script(&shell, "echo precious > /out", json!({}));
    let (results, _) = force(&mesh, std::slice::from_ref(&thunk));
    let name = results[0]["outputs"]["out"]["file"]["name"].as_str().unwrap();
    let blob = mesh.home().join("store/blobs").join(&name[1..3]).join(&name[3..]);
    fs::remove_file(&blob).unwrap();
    fs::write(&blob, "Precious\n").unwrap();
    assert_eq!(mesh.run(["store", "verify"]).code, Some(1));
    let (results, done) = force(&mesh, &[thunk]);
    assert_eq!(content(&mesh, &results[0]), "precious");
    assert!(done.stderr.contains("1 run, 0 reused"), "{}", done.stderr);
}

#[test]
fn the_doctor_looks_at_this_machine() {
    let mesh = Mesh::new();
    let found = mesh.ok(["doctor", "--json"]);
    for line in found.lines() {
        let check: Value = serde_json::from_str(line).unwrap();
        assert!(check["name"].is_string() && check["detail"].is_string(), "{line}");
        assert_ne!(check["status"], "broken", "{line}");
    }
    assert!(found.lines().count() > 3, "{found}");
}

#[test]
fn what_a_thunk_did_not_name_it_cannot_see() {
    let mesh = Mesh::new();
    let shell = shell(&mesh);
    let secret = mesh.home().join("secret");
    fs::write(&secret, "secret").unwrap();
    let look = format!(
        "for path in {} /etc/passwd /usr/bin/env /root; do
           if [ -e $path ]; then echo sees $path; fi
         done > /out
         echo pid $$ >> /out; echo ${{HOME:-homeless}} >> /out",
        secret.display()
    );
    let (results, _) = force(&mesh, &[script(&shell, &look, json!({}))]);
    let seen = content(&mesh, &results[0]);
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines.len(), 2, "{seen}");
    let pid: u32 = lines[0].strip_prefix("pid ").unwrap().parse().unwrap();
    assert!(pid < 10, "a process table of its own: {seen}");
    assert_eq!(lines[1], "homeless");
}

#[test]
fn a_result_says_how_the_run_ended_and_what_it_wrote() {
    let mesh = Mesh::new();
    let shell = shell(&mesh);
    let optional = json!({"outputs": {"out": {"path": "/out", "required": false}}});
    let failed = script(&shell, "echo said; echo trouble >&2; exit 3", optional.clone());
    let absent = script(&shell, "echo said", optional);
    let killed = script(&shell, "kill -9 $$", json!({}));
    let late = script(&shell, "while :; do :; done", json!({"limits": {"timeout_ms": 100}}));
    let name = mesh.run_with(["thunk", "create"], failed.to_string().as_bytes()).ok();
    let reader = script(&shell, "echo > /out", json!({"inputs": {"/in": format!("{name}#out")}}));
    let (results, done) = force(&mesh, &[failed, absent, killed, late, reader]);
    assert_eq!(done.code, Some(1), "{done:?}");
    let said = |result: &Value, stream: &str| mesh.ok(["cat", result[stream].as_str().unwrap()]);
    for result in [&results[0], &results[4]] {
        assert!(
            result["error"].as_str().unwrap().starts_with("exit status 3: trouble"),
            "{result}"
        );
        assert_eq!((&result["status"], &result["failed"]), (&json!(3), &json!(name)), "{result}");
        assert_eq!(
            (said(result, "stdout"), said(result, "stderr")),
            ("said".into(), "trouble".into())
        );
    }
    assert!(results[1]["error"].is_null(), "{}", results[1]);
    assert_eq!((&results[1]["status"], &results[1]["outputs"]), (&json!(0), &json!({})));
    assert_eq!(said(&results[1], "stdout"), "said");
    assert_eq!((&results[2]["status"], &results[2]["signal"]), (&json!(137), &json!(9)));
    assert_eq!((&results[3]["status"], &results[3]["timed_out"]), (&json!(124), &json!(true)));
}

#[test]
fn names_are_forced_with_the_codes_of_the_table() {
    let mesh = Mesh::new();
    let shell = shell(&mesh);
    let create =
        |thunk: Value| mesh.run_with(["thunk", "create"], thunk.to_string().as_bytes()).ok();
    let good = create(script(&shell, "echo said; echo x > /out", json!({})));
    let bad = create(script(&shell, "echo said; exit 4", json!({})));
    let log = json!({"outputs": {"log": {"path": "/log", "required": false}}});
    let absent = format!("{}#log", create(script(&shell, "echo > /out", log)));
    let nothing = format!("{}{}-5", "T", "0".repeat(64));
    let no_value = format!("{}{}-5", "V", "0".repeat(64));
    let undeclared = format!("{good}#nothing");
    for (words, code, says) in [
        (vec![good.as_str()], 0, "wrote on standard output: mesh log T"),
        (vec![&bad], 1, "hint: its standard output: mesh cat V"),
        (vec![&undeclared], 65, "has no output #nothing"),
        (vec![&absent], 66, "left no output #log"),
        (vec![&nothing], 66, "is not in the store"),
        (vec![&no_value], 66, "is not in the store"),
        (vec!["-", &good], 64, "- stands alone"),
        (vec![&bad, &absent], 1, "2 of 2 names could not be forced"),
    ] {
        let done = mesh.run([&["force", "-k"], &words[..]].concat());
        assert_eq!(done.code, Some(code), "{words:?}: {done:?}");
        assert!(done.stderr.contains(says), "{words:?}: {done:?}");
    }
    let done = mesh.run(["force", "-k", "--json", &good, &bad]);
    let results: Vec<Value> =
        done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&results[0]["name"], &results[0]["status"]), (&json!(good), &json!(0)));
    assert_eq!(mesh.ok(["cat", results[0]["value"].as_str().unwrap()]), "x");
    assert_eq!((&results[1]["status"], &results[1]["value"]), (&json!(4), &Value::Null));
    // What is no thunk is wrong data; a failed step counts before that.
    let lines = |text: &[u8]| mesh.run_with(["force", "-"], text).code;
    assert_eq!(lines(b"{}\n\xff\n"), Some(65));
    assert_eq!(lines(b""), Some(0));
}
