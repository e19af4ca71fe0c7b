//! What may have become of a store while nobody looked, and what comes of that: it is as good as before,
//! or what was damaged is missing, or the store says why it cannot be opened. Nothing wrong is given out.
#![allow(clippy::unwrap_used)] // a failed step fails the test

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use mesh_protocol::name::{Digest, ThunkName, ValueName};
use mesh_protocol::thunk::{OutputObject, Reduction, Usage};
use mesh_protocol::tree::{Tree, TreeEntry};
use mesh_store::{Store, StoreError, StoreOptions};
use rustix::fs::{CWD, FileType, Mode, mknodat};

const ONE: &[u8] = b"the first object";
const TWO: &[u8] = b"another of 16 by";

/// What a damaged store must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    /// As if nothing had happened.
    Whole,
    /// The first object is missing, and so is what it is the result of.
    NoObject,
    /// What the thunk came to is forgotten.
    NoResult,
    /// It is not opened, for a reason with this in it.
    Refused(&'static str),
}

use Outcome::{NoObject, NoResult, Refused, Whole};

/// Where things are.
struct Site {
    root: PathBuf,
}

impl Site {
    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn blob(&self, bytes: &[u8]) -> PathBuf {
        self.root.join(Store::relative_blob_path(Digest::of(bytes)))
    }

    fn twin(&self) -> PathBuf {
        let blob = Store::relative_blob_path(Digest::of(ONE));
        self.root.join("exec").join(blob.strip_prefix("blobs").unwrap())
    }

    fn tree(&self) -> PathBuf {
        self.root
            .join("trees")
            .join(tree().encode().map(|bytes| Digest::of(&bytes)).unwrap().to_string())
    }
}

fn tree() -> Tree {
    let file =
        |bytes: &[u8], executable| TreeEntry::File { name: ValueName::of(bytes), executable };
    let entries = [("data", file(TWO, false)), ("program", file(ONE, true))];
    Tree::new(entries.map(|(name, entry)| (name.to_owned(), entry)).into()).unwrap()
}

fn reduction() -> Reduction {
    let name = ValueName::of(ONE);
    let empty = ValueName::of(b"");
    Reduction {
        thunk: ThunkName::of(b"step"),
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

fn open(root: &Path) -> Result<Store, StoreError> {
    Store::open(StoreOptions::new(root))
}

fn furnish(root: &Path) {
    let store = open(root).unwrap();
    for bytes in [ONE, TWO, b""] {
        store.put_bytes(bytes).unwrap();
    }
    let tree = store.put_tree_value(&tree()).unwrap();
    store.tree_directory(tree).unwrap();
    store.pin(Digest::of(TWO), "kept").unwrap();
    store.note_puts(&[Digest::of(ONE)]).unwrap();
    store.record(&reduction()).unwrap();
    store.close().unwrap();
}

/// Changes a file and puts mode and times back.
fn change(path: &Path, change: impl FnOnce(&File, u64)) {
    let before = fs::metadata(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    let file = File::options().read(true).write(true).open(path).unwrap();
    change(&file, before.len());
    let times = FileTimes::new().set_accessed(before.accessed().unwrap());
    file.set_times(times.set_modified(before.modified().unwrap())).unwrap();
    fs::set_permissions(path, before.permissions()).unwrap();
}

fn flip(path: &Path, at: u64) {
    change(path, |file, _| {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    });
}

fn resize(path: &Path, by: i64) {
    change(path, |file, length| file.set_len(length.saturating_add_signed(by)).unwrap());
}

fn append(path: &Path, bytes: &[u8]) {
    change(path, |file, length| file.write_all_at(bytes, length).unwrap());
}

fn place(path: &Path, kind: FileType) {
    remove(path);
    mknodat(CWD, path, kind, Mode::from_raw_mode(0o600), 0).unwrap();
}

fn pipe(path: &Path) {
    place(path, FileType::Fifo);
}

fn remove(path: &Path) {
    match path.is_dir() {
        true => fs::remove_dir_all(path).unwrap(),
        false => fs::remove_file(path).unwrap(),
    }
}

fn directory(path: &Path) {
    remove(path);
    fs::create_dir(path).unwrap();
}

fn dated(path: &Path, time: SystemTime) {
    File::open(path).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
}

type Damage = fn(&Site);

fn future() -> SystemTime {
    SystemTime::now() + Duration::from_secs(1_000_000)
}

const OBJECTS: [(&str, Damage, Outcome); 15] = [
    ("an object is shorter", |at| resize(&at.blob(ONE), -1), NoObject),
    ("an object is empty", |at| resize(&at.blob(ONE), i64::MIN), NoObject),
    ("an object is longer", |at| append(&at.blob(ONE), b"!"), NoObject),
    ("an object has another byte", |at| flip(&at.blob(ONE), 3), NoObject),
    (
        "two objects have changed places",
        |at| {
            fs::rename(at.blob(ONE), at.at("tmp/aside")).unwrap();
            fs::copy(at.blob(TWO), at.blob(ONE)).unwrap();
            dated(&at.blob(ONE), SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000));
        },
        NoObject,
    ),
    ("an object is gone", |at| remove(&at.blob(ONE)), NoObject),
    ("an object is a directory", |at| directory(&at.blob(ONE)), NoObject),
    ("an object is a pipe", |at| pipe(&at.blob(ONE)), NoObject),
    ("an object is a socket", |at| place(&at.blob(ONE), FileType::Socket), NoObject),
    (
        "an object is a link",
        |at| {
            fs::rename(at.blob(ONE), at.at("tmp/aside")).unwrap();
            symlink(at.at("tmp/aside"), at.blob(ONE)).unwrap();
        },
        NoObject,
    ),
    (
        "objects are gone with their directory",
        |at| remove(at.blob(ONE).parent().unwrap()),
        NoObject,
    ),
    ("an object has another date", |at| dated(&at.blob(ONE), SystemTime::UNIX_EPOCH), Whole),
    (
        "an object is of tomorrow, and has another byte",
        |at| {
            flip(&at.blob(ONE), 3);
            dated(&at.blob(ONE), future());
        },
        NoObject,
    ),
    (
        "an object has other permissions",
        |at| fs::set_permissions(at.blob(ONE), fs::Permissions::from_mode(0o666)).unwrap(),
        Whole,
    ),
    (
        "there is what is no object",
        |at| fs::write(at.blob(ONE).with_file_name("not a name"), "what").unwrap(),
        Whole,
    ),
];

const COPIES: [(&str, Damage, Outcome); 9] = [
    ("a program has another byte", |at| flip(&at.twin(), 3), Whole),
    ("a program is shorter", |at| resize(&at.twin(), -1), Whole),
    ("a program is a directory", |at| directory(&at.twin()), Whole),
    ("a program is a pipe", |at| pipe(&at.twin()), Whole),
    (
        "a file of a tree is another",
        |at| {
            remove(&at.tree().join("data"));
            fs::write(at.tree().join("data"), "0123456789abcdef").unwrap();
        },
        Whole,
    ),
    ("a file of a tree is gone", |at| remove(&at.tree().join("program")), Whole),
    ("a file of a tree is a pipe", |at| pipe(&at.tree().join("data")), Whole),
    ("a tree is gone", |at| remove(&at.tree()), Whole),
    (
        "a tree is a file",
        |at| {
            remove(&at.tree());
            fs::write(at.tree(), "no tree").unwrap();
        },
        Whole,
    ),
];

/// The reduction is the last record, and longer than this.
const LAST: i64 = 20;

const BOOKS: [(&str, Damage, Outcome); 23] = [
    ("the log ends in a record", |at| resize(&at.at("log"), -LAST), NoResult),
    (
        "the log has another byte",
        |at| flip(&at.at("log"), fs::metadata(at.at("log")).unwrap().size() - LAST as u64),
        NoResult,
    ),
    ("the log has another beginning", |at| flip(&at.at("log"), 2), Whole),
    ("the log goes on with rubbish", |at| append(&at.at("log"), &[0xf5; 99]), Whole),
    ("the log is empty", |at| resize(&at.at("log"), i64::MIN), NoResult),
    ("the log is gone", |at| remove(&at.at("log")), NoResult),
    ("the log is a pipe", |at| pipe(&at.at("log")), Refused("log")),
    ("the log is a directory", |at| directory(&at.at("log")), Refused("log")),
    ("the lock of the log is a pipe", |at| pipe(&at.at("log.lock")), Refused("log.lock")),
    ("the index is rubbish", |at| fs::write(at.at("index/sled/db"), "rubbish").unwrap(), Whole),
    ("the index is gone", |at| remove(&at.at("index/sled")), Whole),
    (
        "the index is a file",
        |at| {
            remove(&at.at("index/sled"));
            fs::write(at.at("index/sled"), "no index").unwrap();
        },
        Whole,
    ),
    ("a pipe is in the index", |at| pipe(&at.at("index/sled/db")), Whole),
    ("the index was not closed", |at| remove(&at.at("index/clean")), Whole),
    ("a pipe says how the index was closed", |at| pipe(&at.at("index/clean")), Whole),
    (
        "the version is another",
        |at| fs::write(at.at("VERSION"), "7\n").unwrap(),
        Refused("VERSION"),
    ),
    ("the version is gone", |at| remove(&at.at("VERSION")), Whole),
    ("the version is a pipe", |at| pipe(&at.at("VERSION")), Refused("VERSION")),
    ("the durable mark has another byte", |at| flip(&at.at("durable"), 70), Whole),
    ("the durable mark is rubbish", |at| fs::write(at.at("durable"), [0xff; 128]).unwrap(), Whole),
    ("the sum of bytes is rubbish", |at| fs::write(at.at("usage"), [0xff; 9]).unwrap(), Whole),
    ("what was put is rubbish", |at| fs::write(at.at("puts"), [0xff; 99]).unwrap(), Whole),
    (
        "directories are gone",
        |at| ["tmp", "quarantine", "sessions", "trees"].iter().for_each(|top| remove(&at.at(top))),
        Whole,
    ),
];

fn meet((what, damage, outcome): (&str, Damage, Outcome)) {
    let home = tempfile::tempdir().unwrap();
    let site = Site { root: home.path().join("store") };
    furnish(&site.root);
    damage(&site);
    let store = match (open(&site.root), outcome) {
        (Err(error), Refused(why)) => {
            return assert!(error.to_string().contains(why), "{what}: {error}");
        }
        (Err(error), _) => panic!("{what}: {error}"),
        (Ok(_), Refused(why)) => panic!("{what}: opened, in spite of {why}"),
        (Ok(store), _) => store,
    };
    check(&store, outcome, what);
    drop(store);
    // Damage is dealt with once.
    let store = open(&site.root).unwrap();
    assert_eq!(store.verify(&mut |_| {}).unwrap().corrupt, [], "{what}");
    check(&store, outcome, what);
    // What is missing can be made again.
    for bytes in [ONE, TWO, b""] {
        store.put_bytes(bytes).unwrap();
    }
    store.put_tree_value(&tree()).unwrap();
    store.record(&reduction()).unwrap();
    store.pin(Digest::of(TWO), "kept").unwrap();
    check(&store, Whole, what);
}

fn check(store: &Store, outcome: Outcome, what: &str) {
    // Read before it is recalled: only whoever reads sees a flipped byte.
    let one = store.read(Digest::of(ONE), 99);
    let thunk = reduction().thunk;
    let is_known = store.recall(thunk).unwrap().is_some_and(|found| *found == reduction());
    assert_eq!(is_known, outcome == Whole, "{what}");
    match outcome {
        NoObject => assert!(one.is_err_and(|error| error.is_missing()), "{what}"),
        _ => assert_eq!(one.unwrap(), ONE, "{what}"),
    }
    if outcome == NoObject {
        assert!(store.open_checked(Digest::of(ONE)).is_err(), "{what}");
        assert!(store.executable_blob(Digest::of(ONE)).is_err() || is_right_twin(store), "{what}");
        return;
    }
    assert!(is_right_twin(store), "{what}");
    let tree = ValueName(Digest::of(&tree().encode().unwrap()));
    let laid_out = store.root().join(store.tree_directory(tree).unwrap());
    assert_eq!(fs::read(laid_out.join("data")).unwrap(), TWO, "{what}");
    assert_eq!(fs::read(laid_out.join("program")).unwrap(), ONE, "{what}");
    if outcome == Whole {
        assert!(store.pins().unwrap().contains_key(&Digest::of(TWO)), "{what}");
    }
}

fn is_right_twin(store: &Store) -> bool {
    let twin = store.executable_blob(Digest::of(ONE)).unwrap();
    fs::read(store.root().join(twin)).unwrap() == ONE
}

#[test]
fn damaged_objects() {
    OBJECTS.into_iter().for_each(meet);
}

#[test]
fn damaged_copies() {
    COPIES.into_iter().for_each(meet);
}

#[test]
fn damaged_books() {
    BOOKS.into_iter().for_each(meet);
}
