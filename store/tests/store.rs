//! The store as its users see it: real files, real processes, real signals.
#![allow(clippy::unwrap_used)] // a failed step fails the test

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::time::{Duration, SystemTime};

use mesh_protocol::name::{Digest, ThunkName, ValueName};
use mesh_protocol::thunk::{OutputObject, Reduction, Usage};
use mesh_protocol::tree::{Tree, TreeEntry};
use mesh_store::gc::GcOptions;
use mesh_store::{Arrival, ExportOptions, Store, StoreError, StoreOptions};

fn open(root: &Path) -> Store {
    Store::open(StoreOptions::new(root)).unwrap()
}

fn reduction(store: &Store, label: &str) -> Reduction {
    let name = ValueName(store.put_bytes(format!("output of {label}").as_bytes()).unwrap());
    let empty = ValueName(store.put_bytes(b"").unwrap());
    Reduction {
        thunk: ThunkName::of(label.as_bytes()),
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

fn blob_path(store: &Store, name: Digest) -> std::path::PathBuf {
    store.root().join(Store::relative_blob_path(name))
}

fn overwrite(path: &Path, bytes: &[u8]) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A file whose times are old enough to be trusted.
fn settled_file(path: &Path, bytes: &[u8], age: Duration) {
    fs::write(path, bytes).unwrap();
    let mtime = SystemTime::now() - age;
    File::options().write(true).open(path).unwrap().set_modified(mtime).unwrap();
}

#[test]
fn what_goes_in_comes_out() {
    let home = tempfile::tempdir().unwrap();
    let store = open(&home.path().join("store"));
    let name = store.put_bytes(b"hello").unwrap();
    assert_eq!(name, Digest::of(b"hello"));
    assert!(store.contains(name));
    assert_eq!(store.read(name, 5).unwrap(), b"hello");
    assert!(matches!(store.read(name, 4), Err(StoreError::TooLarge { .. })));
    assert!(matches!(store.read(Digest::of(b"?"), 9), Err(StoreError::Missing(_))));
    let mode = fs::metadata(blob_path(&store, name)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o444);
    let twin = store.root().join(store.executable_blob(name).unwrap());
    assert_eq!(fs::metadata(&twin).unwrap().permissions().mode() & 0o777, 0o555);
    let to = home.path().join("exported");
    let mtime = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    store.export(name, &to, &ExportOptions { mode: 0o640, mtime: Some(mtime) }).unwrap();
    fs::write(&to, "changed by its user").unwrap();
    assert_eq!(store.read(name, 5).unwrap(), b"hello", "an export is a copy");
}

#[test]
fn a_closed_store_leaves_its_index_whoever_holds_it_still() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    let known = reduction(&store, "step");
    store.record(&known).unwrap();
    let held = store.clone();
    store.close().unwrap();
    let next = open(home.path());
    assert_eq!(*next.recall(known.thunk).unwrap().unwrap(), known);
    assert!(next.take_notices().is_empty(), "nothing was rebuilt");
    assert_eq!(*held.recall(known.thunk).unwrap().unwrap(), known, "it goes on without");
}

/// Jobs that start at the same moment lay out the same programs, and none of them takes the twin
/// that another is about to link away.
#[test]
fn trees_of_one_program_are_laid_out_at_once() {
    let home = tempfile::tempdir().unwrap();
    let store = open(&home.path().join("store"));
    for round in 0..100 {
        let program = format!("program {round}");
        let program = ValueName(store.put_bytes(program.as_bytes()).unwrap());
        let tree = |own: u64| {
            let own = ValueName(store.put_bytes(&own.to_le_bytes()).unwrap());
            let file = |name, executable| TreeEntry::File { name, executable };
            let entries = [("own", file(own, false)), ("program", file(program, true))];
            let tree = Tree::new(entries.map(|(name, entry)| (name.to_owned(), entry)).into());
            store.put_tree_value(&tree.unwrap()).unwrap()
        };
        let trees = [0, 1, 2, 3].map(tree);
        let start = Barrier::new(trees.len());
        std::thread::scope(|scope| {
            for tree in &trees {
                scope.spawn(|| {
                    start.wait();
                    store.tree_directory(*tree).unwrap();
                });
            }
        });
        let inode = |tree: &ValueName| {
            let laid_out = store.root().join(store.tree_directory(*tree).unwrap());
            fs::metadata(laid_out.join("program")).unwrap().ino()
        };
        assert!(trees.iter().all(|tree| inode(tree) == inode(&trees[0])), "one twin for all");
    }
}

#[test]
fn a_corrupt_blob_is_never_given_out() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    let known = reduction(&store, "step");
    store.record(&known).unwrap();
    assert!(store.recall(known.thunk).unwrap().is_some());
    let output = Digest::of(b"output of step");
    overwrite(&blob_path(&store, output), b"output of stEp");
    let to = home.path().join("exported");
    let exported = store.export(output, &to, &ExportOptions::default());
    assert!(matches!(exported, Err(StoreError::Corrupt(name)) if name == output));
    assert!(!to.exists());
    assert!(store.recall(known.thunk).unwrap().is_none(), "the step will run again");
    // Put back by running it again, it is good again.
    store.put_bytes(b"output of step").unwrap();
    assert!(store.recall(known.thunk).unwrap().is_some());
}

/// Flips a byte, and puts length and times back.
fn rot(path: &Path) {
    let before = fs::metadata(path).unwrap();
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    overwrite(path, &bytes);
    let times = fs::FileTimes::new().set_accessed(before.accessed().unwrap());
    let file = File::options().write(true).open(path).unwrap();
    file.set_times(times.set_modified(before.modified().unwrap())).unwrap();
    fs::set_permissions(path, before.permissions()).unwrap();
}

/// Gives an object out, in one way or another.
type Give = fn(&Store, Digest) -> Result<(), StoreError>;

/// Before it was first used, and after; small ones are held in memory, large ones are not.
#[test]
fn rotten_bytes_are_given_to_nobody() {
    for length in [100, 2 << 20] {
        for is_used in [false, true] {
            let home = tempfile::tempdir().unwrap();
            let name = open(home.path()).put_bytes(&vec![7; length]).unwrap();
            let store = open(home.path());
            let give: [Give; 4] = [
                |store, name| store.open_checked(name).map(drop),
                |store, name| store.checked_blob(name).map(drop),
                |store, name| {
                    let to = store.root().join("tmp/exported");
                    store.export(name, &to, &ExportOptions::default())
                },
                |store, name| {
                    // Nothing is left of the twin that was made before.
                    fs::remove_dir_all(store.root().join("exec")).unwrap();
                    fs::create_dir(store.root().join("exec")).unwrap();
                    store.executable_blob(name).map(drop)
                },
            ];
            for (way, give) in give.iter().enumerate() {
                if is_used {
                    give(&store, name).unwrap();
                }
                rot(&blob_path(&store, name));
                let given = give(&store, name);
                let is_corrupt = matches!(given, Err(StoreError::Corrupt(found)) if found == name);
                assert!(is_corrupt, "{length} bytes, way {way}: {given:?}");
                assert!(!store.contains(name));
                store.put_bytes(&vec![7; length]).unwrap();
            }
        }
    }
}

#[test]
fn rotten_twins_and_trees_are_made_again() {
    let home = tempfile::tempdir().unwrap();
    let from = home.path().join("from");
    fs::create_dir(&from).unwrap();
    fs::write(from.join("tool"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(from.join("tool"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(from.join("data"), "some data").unwrap();
    let root = home.path().join("store");
    let (tree, program, data) = {
        let store = open(&root);
        let tree = store.put_tree(&from).unwrap();
        store.tree_directory(tree).unwrap();
        (tree, Digest::of(b"#!/bin/sh\n"), Digest::of(b"some data"))
    };
    let is_right = |store: &Store| {
        let laid_out = store.root().join(store.tree_directory(tree).unwrap());
        fs::read(laid_out.join("tool")).unwrap() == b"#!/bin/sh\n"
            && fs::read(laid_out.join("data")).unwrap() == b"some data"
    };
    let store = open(&root);
    let twin = store.root().join(store.executable_blob(program).unwrap());
    rot(&twin);
    assert_eq!(
        fs::read(store.root().join(store.executable_blob(program).unwrap())).unwrap(),
        b"#!/bin/sh\n"
    );
    assert!(is_right(&store));
    drop(store);
    // What an earlier process laid out is not trusted.
    rot(&twin);
    assert!(is_right(&open(&root)));
    rot(&root.join(Store::relative_blob_path(data)));
    let store = open(&root);
    let laid_out = store.tree_directory(tree);
    assert!(matches!(laid_out, Err(StoreError::Corrupt(name)) if name == data), "{laid_out:?}");
    assert_eq!(store.put_tree(&from).unwrap(), tree);
    assert!(is_right(&store));
    // Another file in place of a link.
    let link = root.join(store.tree_directory(tree).unwrap()).join("data");
    fs::remove_file(&link).unwrap();
    fs::write(&link, "same size").unwrap();
    assert!(is_right(&open(&root)));
}

/// What the kernel may have dropped and read again from a disk that rots is not known for ever.
#[test]
fn a_new_era_trusts_nothing() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    let from = home.path().join("from");
    fs::create_dir(&from).unwrap();
    fs::write(from.join("data"), "some data").unwrap();
    let tree = store.put_tree(&from).unwrap();
    store.tree_directory(tree).unwrap();
    rot(&blob_path(&store, Digest::of(b"some data")));
    // A tree is looked at once in an era.
    assert!(store.tree_directory(tree).is_ok());
    store.renew(SystemTime::now()).unwrap();
    assert!(matches!(store.tree_directory(tree), Err(StoreError::Corrupt(_))));
}

/// Whoever may come to the directory that holds the store gets no further.
#[test]
fn a_store_is_closed_to_other_users() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("store");
    let store = open(&root);
    store.put_bytes(b"private").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let is_root = rustix::process::geteuid().is_root();
    let wanted = if is_root { 0o710 } else { 0o700 };
    assert_eq!(mode(&root), wanted);
    drop(store);
    // As an earlier version made it.
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
    let store = open(&root);
    assert_eq!(mode(&root), wanted);
    store.note_puts(&[Digest::of(b"private")]).unwrap();
    for entry in fs::read_dir(&root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() && path.file_name().unwrap() != "VERSION" {
            assert_eq!(mode(&path), 0o600, "{path:?}");
        }
    }
    if !is_root {
        return;
    }
    // 1 is somebody else who is in no group of root's.
    let reads = |user: u32| {
        let blob = root.join(Store::relative_blob_path(Digest::of(b"private")));
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let user = user.to_string();
        let id = ["--reuid", &user, "--regid", &user, "--clear-groups", "cat"];
        let read = Command::new("setpriv").args(id).arg(blob).stderr(Stdio::null()).output();
        read.unwrap().status.success()
    };
    assert!(!reads(1), "another user");
    assert!(reads(65534), "who root's jobs run as");
}

/// As builds do, one after the other, each with more than half of the quota.
#[test]
fn a_store_keeps_to_its_quota_by_itself() {
    const OBJECT: u64 = 100_000;
    const QUOTA: u64 = 40 * OBJECT;
    let home = tempfile::tempdir().unwrap();
    let open = || Store::open(StoreOptions::new(home.path()).quota_bytes(QUOTA)).unwrap();
    let pinned = open().put_bytes(b"pinned").unwrap();
    open().pin(pinned, "").unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(100_000);
    for round in 0..6_u8 {
        let store = open();
        let mut newest = Vec::new();
        for object in 0..25_u8 {
            let name = store.put_bytes(&[&[round, object][..], &vec![0; OBJECT as usize]].concat());
            newest.push(name.unwrap());
        }
        assert!(newest.iter().all(|name| store.contains(*name)), "they are in use");
        // What was used within the last second counts as in use; and the order is that of the rounds.
        let used = long_ago + Duration::from_secs(round.into());
        for name in &newest {
            let times = fs::FileTimes::new().set_accessed(used);
            File::open(blob_path(&store, *name)).unwrap().set_times(times).unwrap();
        }
        store.close().unwrap();
        let stats = store.stats().unwrap();
        assert!(stats.blob_bytes + stats.derived_bytes <= QUOTA, "round {round}: {stats:?}");
        let left = newest.iter().filter(|name| blob_path(&store, **name).exists()).count();
        assert_eq!(left, 25, "round {round}: the oldest go");
        assert!(blob_path(&store, pinned).exists());
    }
}

/// A build beside others' leftovers: those go while it runs, and what it uses stays.
#[test]
fn what_a_process_adds_makes_what_nobody_uses_go() {
    const OBJECT: usize = 100_000;
    const QUOTA: u64 = 20 * OBJECT as u64;
    let home = tempfile::tempdir().unwrap();
    let open = || Store::open(StoreOptions::new(home.path()).quota_bytes(QUOTA)).unwrap();
    let put = |store: &Store, number: u8| store.put_bytes(&vec![number; OBJECT]).unwrap();
    let old: Vec<Digest> = {
        let store = open();
        let old: Vec<Digest> = (0..18).map(|number| put(&store, number)).collect();
        let long_ago = SystemTime::now() - Duration::from_secs(100_000);
        for name in &old {
            let times = fs::FileTimes::new().set_accessed(long_ago);
            File::open(blob_path(&store, *name)).unwrap().set_times(times).unwrap();
        }
        store.close().unwrap();
        old
    };
    let store = open();
    assert!(store.contains(old[0]), "used by this process from now on");
    let new: Vec<Digest> = (100..115).map(|number| put(&store, number)).collect();
    let left = || old.iter().filter(|name| blob_path(&store, **name).exists()).count();
    // In the background: it is waited for, and never by the process that adds.
    let bytes = || (left() + new.len()) as u64 * OBJECT as u64;
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while bytes() > QUOTA && std::time::Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert!(bytes() <= QUOTA, "{} old ones are left", left());
    assert!(new.iter().all(|name| store.contains(*name)) && store.contains(old[0]));
    store.read(old[0], OBJECT as u64).unwrap();
}

/// A node's session lasts; it lets go when a collection asks.
#[test]
fn a_session_that_lasts_makes_room_when_it_is_asked() {
    let home = tempfile::tempdir().unwrap();
    let node = open(home.path());
    let used = node.put_bytes(b"used by the node").unwrap();
    let other = open(home.path());
    let all = GcOptions { quota_bytes: 0, dry_run: false };
    assert!(!other.ask_for_room(Duration::from_secs(60)).unwrap(), "nobody says that it would");
    node.makes_room().unwrap();
    assert_eq!(other.gc(&all).unwrap().removed, 0);
    let before = node.room_wanted_at();
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| other.ask_for_room(Duration::from_secs(60)).unwrap());
        while node.room_wanted_at() == before {
            std::thread::yield_now();
        }
        let later = SystemTime::now() + Duration::from_secs(3600);
        node.renew(later).unwrap();
        node.renew(later + Duration::from_secs(1)).unwrap();
        assert!(asked.join().unwrap());
    });
    drop(other);
    // Of the two sessions, the node's counts as begun in an hour.
    let third = open(home.path());
    assert!(blob_path(&third, used).exists());
    let long_ago = SystemTime::now() - Duration::from_secs(100_000);
    let times = fs::FileTimes::new().set_accessed(long_ago);
    File::open(blob_path(&third, used)).unwrap().set_times(times).unwrap();
    assert_eq!(third.gc(&all).unwrap().removed, 1);
}

#[test]
fn verify_finds_what_went_bad() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    let names: Vec<Digest> =
        (0..20).map(|i| store.put_bytes(format!("blob {i}").as_bytes()).unwrap()).collect();
    overwrite(&blob_path(&store, names[3]), b"blob X");
    overwrite(&blob_path(&store, names[7]), b"");
    let mut seen = 0;
    let mut report = store.verify(&mut |progress| seen = progress.checked).unwrap();
    report.corrupt.sort();
    let mut wanted = vec![names[3], names[7]];
    wanted.sort();
    assert_eq!(report.corrupt, wanted);
    assert_eq!(seen, report.checked);
    assert_eq!(store.verify(&mut |_| {}).unwrap().corrupt, []);
    assert_eq!(store.stats().unwrap().quarantined, 2);
    assert_eq!(store.stats().unwrap().blobs, 18);
}

/// A damaged object takes all materialised trees out of use, but some are mounted in sandboxes.
#[test]
fn trees_in_use_outlive_the_damage_of_an_object() {
    let home = tempfile::tempdir().unwrap();
    let store = open(&home.path().join("store"));
    let from = home.path().join("from");
    fs::create_dir(&from).unwrap();
    fs::write(from.join("data"), "data").unwrap();
    let name = store.put_tree(&from).unwrap();
    let laid_out = store.root().join(store.tree_directory(name).unwrap());
    // What a mount holds on to. It was made and last used long ago.
    let mounted = File::open(&laid_out).unwrap();
    let long_ago = SystemTime::UNIX_EPOCH;
    let times = fs::FileTimes::new().set_accessed(long_ago).set_modified(long_ago);
    mounted.set_times(times).unwrap();
    let through = format!("/proc/self/fd/{}/data", std::os::fd::AsRawFd::as_raw_fd(&mounted));

    let bad = store.put_bytes(b"about to be damaged").unwrap();
    overwrite(&blob_path(&store, bad), b"damaged");
    assert!(matches!(store.read(bad, 99), Err(StoreError::Corrupt(_))));
    assert!(!laid_out.exists(), "nobody finds it there any more");
    assert_eq!(fs::read(&through).unwrap(), b"data");

    // A collection of another process sweeps nothing that a session older than the move may use.
    let other = open(&home.path().join("store"));
    let all = GcOptions { quota_bytes: 0, dry_run: false };
    assert_eq!(other.gc(&all).unwrap().leftovers, 0);
    assert_eq!(fs::read(&through).unwrap(), b"data");
    assert!(store.root().join(store.tree_directory(name).unwrap()).join("data").exists());
}

#[test]
fn an_unchanged_file_keeps_its_name_and_a_changed_one_does_not() {
    let home = tempfile::tempdir().unwrap();
    let (root, file) = (home.path().join("store"), home.path().join("file"));
    settled_file(&file, b"one", Duration::from_secs(100));
    let store = open(&root);
    let first = store.name_file(&file).unwrap();
    assert_eq!(first.name, ValueName::of(b"one"));
    assert!(!first.executable);
    // The same length, and the mtime put back: the ctime tells.
    settled_file(&file, b"two", Duration::from_secs(100));
    assert_eq!(store.name_file(&file).unwrap().name, ValueName::of(b"two"));
    drop(store);
    let store = open(&root);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(store.name_file(&file).unwrap().executable);
    // A name that the cache knows but whose blob was lost is stored again.
    fs::remove_file(blob_path(&store, Digest::of(b"two"))).unwrap();
    assert!(store.contains(store.name_file(&file).unwrap().name.digest()));
    assert!(matches!(store.name_file(home.path()), Err(StoreError::Unsupported { .. })));
}

#[test]
fn trees_keep_structure_modes_and_links() {
    let home = tempfile::tempdir().unwrap();
    let store = open(&home.path().join("store"));
    let from = home.path().join("from");
    fs::create_dir_all(from.join("sub/empty")).unwrap();
    fs::write(from.join("sub/tool"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(from.join("sub/tool"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(from.join("data"), "data").unwrap();
    std::os::unix::fs::symlink("sub/tool", from.join("link")).unwrap();
    let name = store.put_tree(&from).unwrap();
    let to = home.path().join("to");
    store.export_tree(name, &to).unwrap();
    assert_eq!(store.put_tree(&to).unwrap(), name);
    let laid_out = store.root().join(store.tree_directory(name).unwrap());
    assert_eq!(fs::read(laid_out.join("link")).unwrap(), b"#!/bin/sh\n");
    assert_eq!(fs::metadata(laid_out.join("data")).unwrap().permissions().mode() & 0o777, 0o444);
    assert!(laid_out.join("sub/empty").is_dir());
    assert_eq!(store.tree_directory(name).unwrap(), store.tree_directory(name).unwrap());
}

#[test]
fn all_in_a_materialised_tree_has_the_time_of_objects() {
    let home = tempfile::tempdir().unwrap();
    let store = open(&home.path().join("store"));
    let from = home.path().join("from");
    fs::create_dir_all(from.join("sub/empty")).unwrap();
    fs::write(from.join("sub/data"), "data").unwrap();
    std::os::unix::fs::symlink("data", from.join("sub/link")).unwrap();
    let name = store.put_tree(&from).unwrap();
    let laid_out = store.root().join(store.tree_directory(name).unwrap());
    let check = || {
        for path in ["", "sub", "sub/empty", "sub/data", "sub/link"] {
            let found = fs::symlink_metadata(laid_out.join(path)).unwrap();
            let time = (found.mtime(), found.mtime_nsec());
            assert_eq!(time, (mesh_store::OBJECT_MTIME_S, 0), "{path:?}");
        }
    };
    check();
    // An earlier version left the times at which it was made.
    for path in ["", "sub", "sub/empty"] {
        let now = fs::FileTimes::new().set_modified(SystemTime::now());
        File::open(laid_out.join(path)).unwrap().set_times(now).unwrap();
    }
    store.tree_directory(name).unwrap();
    check();
}

#[test]
fn two_stores_in_one_place_share_what_they_learn() {
    let home = tempfile::tempdir().unwrap();
    let (one, two) = (open(home.path()), open(home.path()));
    let (first, second) = (reduction(&one, "first"), reduction(&two, "second"));
    one.record(&first).unwrap();
    two.record(&second).unwrap();
    assert_eq!(*two.recall(first.thunk).unwrap().unwrap(), first);
    assert_eq!(*one.recall(second.thunk).unwrap().unwrap(), second);
    two.forget(first.thunk).unwrap();
    one.pin(Digest::of(b"output of first"), "keep").unwrap();
    assert_eq!(two.pins().unwrap().len(), 1);
    drop((one, two));
    let again = open(home.path());
    assert!(again.notice().is_none());
    assert!(again.recall(first.thunk).unwrap().is_none());
    assert_eq!(*again.recall(second.thunk).unwrap().unwrap(), second);
}

#[test]
fn collection_spares_what_is_pinned_and_what_others_use() {
    let home = tempfile::tempdir().unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(1_000_000);
    let age = |store: &Store, name: Digest, seconds: u64| {
        let time = long_ago + Duration::from_secs(seconds);
        let times = fs::FileTimes::new().set_accessed(time).set_modified(time);
        File::open(blob_path(store, name)).unwrap().set_times(times).unwrap();
    };
    let names: Vec<Digest> = {
        let store = open(home.path());
        (0..10).map(|i| store.put_bytes(&[i; 100]).unwrap()).collect()
    };
    let store = open(home.path());
    for (i, name) in names.iter().enumerate() {
        age(&store, *name, i as u64);
    }
    store.pin(names[0], "the oldest").unwrap();
    let other = open(home.path());
    assert!(other.contains(names[1]), "another process uses the second oldest");
    let options = GcOptions { quota_bytes: 500, dry_run: false };
    let planned = store.gc(&GcOptions { dry_run: true, ..options.clone() }).unwrap();
    let report = store.gc(&options).unwrap();
    assert_eq!(planned, report);
    assert_eq!((report.removed, report.kept, report.held_bytes), (5, 5, 200));
    let left: Vec<usize> = (0..10).filter(|i| blob_path(&store, names[*i]).exists()).collect();
    assert_eq!(left, [0, 1, 7, 8, 9]);
}

#[test]
fn a_session_that_is_renewed_lets_go_of_what_it_used_two_renewals_ago() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    let [old, used, entry] = [b"old", b"use", b"ent"].map(|bytes| store.put_bytes(bytes).unwrap());
    let file = TreeEntry::File { name: ValueName(entry), executable: false };
    let tree = Tree::new(BTreeMap::from([("file".to_owned(), file)])).unwrap();
    let tree = store.put_tree_value(&tree).unwrap();
    assert!(store.contains_tree(tree));
    let began = SystemTime::now();
    let hours = |count: u64| began + Duration::from_secs(count * 3600);
    let collected = || store.gc(&GcOptions { quota_bytes: 0, dry_run: true }).unwrap().removed;
    store.renew(hours(1)).unwrap();
    assert_eq!(collected(), 0, "it was used a moment before");
    assert!(store.contains(used) && store.contains_tree(tree));
    store.renew(hours(2)).unwrap();
    store.gc(&GcOptions { quota_bytes: 0, dry_run: false }).unwrap();
    let all = [old, used, tree.digest(), entry];
    assert_eq!(all.map(|name| blob_path(&store, name).exists()), [false, true, true, true]);
    // A clock that is set back takes no protection away.
    store.renew(hours(1)).unwrap();
    assert!(store.contains(used));
    store.renew(hours(3)).unwrap();
    assert_eq!(collected(), 2, "the tree and its entry");
    assert!(store.contains(used));
    store.renew(hours(4)).unwrap();
    store.renew(hours(5)).unwrap();
    assert_eq!(collected(), 3);
}

#[test]
fn a_store_of_another_version_is_refused() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("VERSION"), "999\n").unwrap();
    let refused = Store::open(StoreOptions::new(home.path()));
    assert!(matches!(refused, Err(StoreError::Version { .. })));
}

/// Not a test of its own: the child that other tests start, and kill.
#[test]
fn writer_process() {
    let Ok(root) = std::env::var("MESH_TEST_STORE") else { return };
    let store = open(Path::new(&root));
    for i in 0.. {
        store.record(&reduction(&store, &format!("step {i}"))).unwrap();
        if i % 50 == 49 {
            store.flush().unwrap();
            println!("\nflushed {}", i + 1);
            std::io::stdout().flush().unwrap();
        }
    }
}

/// Starts a writer and returns once it has flushed `batches` batches of 50.
fn writer(root: &Path, batches: usize) -> (Child, u32) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["writer_process", "--exact", "--nocapture", "--test-threads=1"])
        .env("MESH_TEST_STORE", root)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let flushed = lines
        .map_while(Result::ok)
        .filter_map(|line| line.strip_prefix("flushed ")?.parse().ok())
        .nth(batches - 1);
    (child, flushed.expect("the writer flushes"))
}

fn check_after_crash(store: &Store, flushed: u32) {
    for i in 0..flushed {
        let label = format!("step {i}");
        let found = store.recall(ThunkName::of(label.as_bytes())).unwrap();
        let found = found.unwrap_or_else(|| panic!("{label} was flushed"));
        let name = ValueName::of(format!("output of {label}").as_bytes());
        let wanted = OutputObject::File { name, executable: false };
        assert_eq!(found.outputs.values().collect::<Vec<_>>(), [&wanted]);
        store.read(name.digest(), 1000).unwrap();
    }
    assert_eq!(store.verify(&mut |_| {}).unwrap().corrupt, []);
    // And it is as usable as ever.
    let next = reduction(store, "next");
    store.record(&next).unwrap();
    assert_eq!(*store.recall(next.thunk).unwrap().unwrap(), next);
}

#[test]
fn a_killed_writer_loses_nothing_that_was_flushed() {
    let home = tempfile::tempdir().unwrap();
    let (mut child, flushed) = writer(home.path(), 3);
    child.kill().unwrap();
    child.wait().unwrap();
    let store = open(home.path());
    assert!(store.notice().is_some(), "one word about the index");
    check_after_crash(&store, flushed);
    drop(store);
    assert!(open(home.path()).notice().is_none());
}

/// A small file system of its own, if this user may make one.
struct Mounted {
    directory: tempfile::TempDir,
}

impl Mounted {
    fn new(kind: &str, options: &str, device: &Path) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: mounting a test file system needs root");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", kind, "-o", options])
            .arg(device)
            .arg(directory.path())
            .status();
        assert!(mount.unwrap().success(), "mount -t {kind}");
        Some(Self { directory })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmount = Command::new("umount").arg("-l").arg(self.directory.path()).status();
        if !std::thread::panicking() {
            assert!(unmount.unwrap().success());
        }
    }
}

#[test]
fn a_full_disk_is_said_and_survived() {
    let Some(disk) = Mounted::new("tmpfs", "size=4m", Path::new("tmpfs")) else { return };
    let store = open(&disk.directory.path().join("store"));
    let known = reduction(&store, "before");
    store.record(&known).unwrap();
    let mut stored = Vec::new();
    let full = (0_u32..100).find_map(|i| {
        let bytes: Vec<u8> = i.to_le_bytes().repeat(50_000);
        match store.put_bytes(&bytes) {
            Ok(name) => {
                stored.push(name);
                None
            }
            Err(error) => Some(error),
        }
    });
    assert!(matches!(full, Some(StoreError::Full { .. })), "{full:?}");
    assert!(fs::read_dir(store.root().join("tmp")).unwrap().next().is_none(), "no debris");
    assert_eq!(*store.recall(known.thunk).unwrap().unwrap(), known);
    assert_eq!(store.verify(&mut |_| {}).unwrap().corrupt, []);
    fs::remove_file(blob_path(&store, stored[0])).unwrap();
    store.put_bytes(b"there is room again").unwrap();
}

/// The disk's image, copied while the writer is stopped, is what a power cut would have left.
#[test]
fn a_power_cut_loses_nothing_that_was_flushed() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: mounting a test file system needs root");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let (image, copy) = (place.path().join("image"), place.path().join("copy"));
    for batches in [1, 4, 9] {
        File::create(&image).unwrap().set_len(64 * 1024 * 1024).unwrap();
        let formatted = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image).status();
        assert!(formatted.unwrap().success());
        let disk = Mounted::new("ext4", "loop", &image).unwrap();
        let root = disk.directory.path().join("store");
        let (mut child, flushed) = writer(&root, batches);
        rustix::process::kill_process(
            rustix::process::Pid::from_child(&child),
            rustix::process::Signal::STOP,
        )
        .unwrap();
        fs::copy(&image, &copy).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        drop(disk);
        let after = Mounted::new("ext4", "loop", &copy).unwrap();
        let root = after.directory.path().join("store");
        // The machine comes up again: another boot than the one that wrote.
        if root.join("synced").exists() {
            fs::write(root.join("synced"), "another boot").unwrap();
        }
        check_after_crash(&open(&root), flushed);
        fs::remove_file(&copy).unwrap();
    }
}

/// Pieces in any order make the object, or none.
#[test]
fn what_arrives_in_pieces_is_an_object_only_if_it_is_the_right_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let bytes: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let digest = Digest::of(&bytes);
    let pieces: Vec<(usize, &[u8])> = bytes.chunks(7_000).enumerate().collect();
    let write = |incoming: &mesh_store::Incoming, (place, piece): &(usize, &[u8])| {
        incoming.write_at(*place as u64 * 7_000, piece).unwrap();
    };
    let incoming = store.receive(digest).unwrap();
    let (even, odd): (Vec<_>, Vec<_>) = pieces.iter().partition(|(place, _)| place % 2 == 0);
    even.iter().rev().chain(&odd).for_each(|piece| write(&incoming, piece));
    assert!(!store.contains(digest));
    assert_eq!(incoming.finish().unwrap(), Arrival::Stored);
    assert_eq!(store.read(digest, u64::MAX).unwrap(), bytes);

    let mut wrong = bytes.clone();
    wrong[50_000] ^= 1;
    let incoming = store.receive(digest).unwrap();
    incoming.write_at(0, &wrong).unwrap();
    assert_eq!(incoming.finish().unwrap(), Arrival::Refused);

    let short = store.receive(Digest::of(b"abc")).unwrap();
    short.write_at(1, b"bc").unwrap();
    assert_eq!(short.finish().unwrap(), Arrival::Refused, "a piece is missing");
}
