//! Every fault at every place: what was confirmed is there afterwards, and nothing wrong is given out.
//!
//! A child process does some work with a store, says what was confirmed, and meets one fault: an error
//! of the disk, a full disk, half a write, a lock that somebody else has, or its death. Then the store is
//! opened again and compared with what the child said.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use mesh_protocol::name::{Digest, ThunkName, ValueName};
use mesh_protocol::thunk::{OutputObject, Reduction, Usage};

use super::fault::{self, At, Strike};
use super::{ExportOptions, Store, StoreError, StoreOptions};

const PLACES: [At; 15] = [
    At::Create,
    At::Write,
    At::Seal,
    At::Rename,
    At::Renamed,
    At::Aside,
    At::Touch,
    At::Read,
    At::Append,
    At::ReadLog,
    At::Sync,
    At::Commit,
    At::Mark,
    At::Index,
    At::Lock,
];

const STRIKES: [Strike; 4] =
    [Strike::Once(libc::EIO), Strike::Once(libc::ENOSPC), Strike::Always(libc::EIO), Strike::Crash];

/// A place is passed by so often at most before the fault comes.
const PASSES: [u32; 3] = [0, 2, 9];

/// What the variable holds: the numbers of a place and a strike, and how often the place is passed.
const VARIABLE: &str = "MESH_TEST_FAULT";

/// Some of them long enough not to be held in memory.
fn content(number: usize) -> Vec<u8> {
    let length = if number == 3 { 1_100_000 } else { 50 };
    format!("content {number} ").into_bytes().into_iter().cycle().take(length).collect()
}

fn reduction(number: usize) -> Reduction {
    let name = ValueName(Digest::of(&content(number)));
    let empty = ValueName::of(b"");
    Reduction {
        thunk: ThunkName::of(format!("step {number}").as_bytes()),
        outputs: BTreeMap::from([(
            "out".parse().unwrap(),
            OutputObject::File { name, executable: false },
        )]),
        stdout: empty,
        stderr: empty,
        usage: Usage::default(),
        executor: "local".to_owned(),
        finished_at_s: 1,
    }
}

const STEPS: usize = 5;

/// Says that something is done, so that it counts.
fn confirm(what: &str, number: usize, done: Result<(), StoreError>) {
    match done {
        Ok(()) => println!("\nconfirmed {what} {number}"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// The child. What fails is not confirmed, and it goes on.
fn work(home: &Path) -> Result<(), StoreError> {
    let store = Store::open(StoreOptions::new(home.join("store")))?;
    confirm("put", STEPS, store.put_bytes(b"").map(drop));
    for number in 0..STEPS {
        let bytes = content(number);
        let put = match number % 2 {
            0 => store.put_bytes(&bytes),
            _ => {
                let path = home.join("source");
                fs::write(&path, &bytes).unwrap();
                store.put_file(&File::open(path).unwrap())
            }
        };
        let is_put = put.is_ok();
        confirm("put", number, put.map(drop));
        if is_put {
            confirm("record", number, store.record(&reduction(number)));
        }
        let name = Digest::of(&bytes);
        confirm("pin", number, store.pin(name, "kept"));
        let to = home.join(format!("exported {number}"));
        confirm("export", number, store.export(name, &to, &ExportOptions::default()));
        // Whatever they come to, it is right.
        if let Ok(read) = store.read(name, u64::MAX) {
            assert_eq!(read, bytes);
        }
        if let Ok(twin) = store.executable_blob(name) {
            assert_eq!(fs::read(store.root().join(twin)).unwrap(), bytes);
        }
        if let Ok(Some(known)) = store.recall(reduction(number).thunk) {
            assert_eq!(*known, reduction(number));
        }
        if number % 3 == 2 {
            confirm("flush", number, store.flush());
            confirm("compact", number, store.shared().memo.compact(true, &|_| true).map(drop));
        }
    }
    store.close()
}

/// Not a test of its own: what the child runs.
#[test]
fn child() {
    let Ok(text) = std::env::var(VARIABLE) else { return };
    let mut words = text.split(' ');
    let mut number = || words.next().unwrap().parse::<usize>().unwrap();
    let (place, strike, passes) = (number(), number(), number());
    fault::plan(PLACES[place], passes as u32, STRIKES[strike]);
    let home = PathBuf::from(std::env::var_os("MESH_TEST_HOME").unwrap());
    // A store that cannot be opened says so, and confirms nothing.
    let _ = work(&home);
    println!("\nstruck {}", fault::has_struck());
}

fn run_child(home: &Path, fault: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["fault_tests::child", "--exact", "--nocapture", "--test-threads=1"])
        .env(VARIABLE, fault)
        .env("MESH_TEST_HOME", home)
        .output()
        .unwrap()
}

/// The same things, after the fault is over.
fn check(home: &Path, confirmed: &[(String, usize)], gives_up: bool, context: &str) {
    let store = Store::open(StoreOptions::new(home.join("store")))
        .unwrap_or_else(|error| panic!("{context}: {error}"));
    let pins = store.pins().unwrap();
    for (what, number) in confirmed {
        let context = format!("{context}: {what} {number}");
        let name = Digest::of(&content(*number));
        match what.as_str() {
            "put" if *number == STEPS => assert!(store.contains(Digest::of(b"")), "{context}"),
            // The disk kept on saying that it cannot be read: it is put aside.
            "put" | "record" if gives_up && is_aside(&store, name) => {}
            "put" => assert_eq!(store.read(name, u64::MAX).expect(&context), content(*number)),
            "record" => {
                let found = store.recall(reduction(*number).thunk).unwrap();
                // Without what it names it is of no use: the empty object may have failed.
                if store.contains(Digest::of(b"")) {
                    assert_eq!(found.as_deref(), Some(&reduction(*number)), "{context}");
                }
            }
            "pin" => assert!(pins.contains_key(&name), "{context}"),
            "export" => {
                let exported = fs::read(home.join(format!("exported {number}"))).unwrap();
                assert_eq!(exported, content(*number), "{context}");
            }
            _ => {}
        }
    }
    for number in 0..STEPS {
        // Whole or not there, confirmed or not.
        if let Ok(exported) = fs::read(home.join(format!("exported {number}"))) {
            assert_eq!(exported, content(number), "{context}: exported {number}");
        }
        if let Some(known) = store.recall(reduction(number).thunk).unwrap() {
            assert_eq!(*known, reduction(number), "{context}: {number}");
        }
    }
    assert_eq!(store.verify(&mut |_| {}).unwrap().corrupt, [], "{context}");
    // And it is as usable as ever.
    store.put_bytes(b"").unwrap();
    store.put_bytes(&content(0)).unwrap();
    store.record(&reduction(0)).unwrap();
    assert_eq!(*store.recall(reduction(0).thunk).unwrap().unwrap(), reduction(0), "{context}");
    store.close().unwrap();
}

/// In memory, if there is room: what is brought to the disk hundreds of times takes minutes there.
fn home() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Is an object in quarantine, as it was?
fn is_aside(store: &Store, name: Digest) -> bool {
    let aside = fs::read_dir(store.root().join("quarantine")).unwrap();
    let mut paths = aside.map(|entry| entry.unwrap().path());
    paths.any(|path| Digest::of(&fs::read(path).unwrap()) == name)
}

/// Meets one fault. False if the child never came to the place so often.
fn meet(place: usize, strike: usize, passes: u32) -> bool {
    let home = home();
    let output = run_child(home.path(), &format!("{place} {strike} {passes}"));
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let context = format!("{:?} at {:?} after {passes}", STRIKES[strike], PLACES[place]);
    let has_crashed = output.status.signal() == Some(libc::SIGABRT);
    let is_expected = output.status.success() || STRIKES[strike] == Strike::Crash && has_crashed;
    assert!(is_expected, "{context}: {said}{errors}");
    let confirmed: Vec<(String, usize)> = said
        .lines()
        .filter_map(|line| line.strip_prefix("confirmed ")?.split_once(' '))
        .map(|(what, number)| (what.to_owned(), number.parse().unwrap()))
        .collect();
    let gives_up = PLACES[place] == At::Read && matches!(STRIKES[strike], Strike::Always(_));
    check(home.path(), &confirmed, gives_up, &context);
    has_crashed || said.contains("struck true")
}

fn meet_all(places: impl Fn(At) -> bool) {
    let mut struck = 0;
    for (place, _) in PLACES.iter().enumerate().filter(|(_, at)| places(**at)) {
        for strike in 0..STRIKES.len() {
            struck += PASSES.iter().filter(|passes| meet(place, strike, **passes)).count();
        }
    }
    assert!(struck > 0);
}

#[test]
fn without_a_fault_all_is_confirmed() {
    let home = home();
    // It is never passed by so often.
    let output = run_child(home.path(), "0 0 1000000");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("struck false"), "{said}");
    let confirmed = said.lines().filter(|line| line.starts_with("confirmed ")).count();
    assert_eq!(confirmed, 1 + 4 * STEPS + 2, "{said}");
}

#[test]
fn faults_of_temporary_files() {
    meet_all(|at| matches!(at, At::Create | At::Write | At::Seal));
}

#[test]
fn faults_of_names() {
    meet_all(|at| matches!(at, At::Rename | At::Renamed | At::Aside));
}

#[test]
fn faults_of_objects() {
    meet_all(|at| matches!(at, At::Touch | At::Read));
}

#[test]
fn faults_of_the_log() {
    meet_all(|at| matches!(at, At::Append | At::ReadLog | At::Sync));
}

#[test]
fn faults_of_commits_indexes_and_locks() {
    meet_all(|at| matches!(at, At::Commit | At::Mark | At::Index | At::Lock));
}
