//! Random changes of a small tree, undone: what was there must be there again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rustix::fs::FlockOperation;

use super::*;

/// What a path is: kind and content, permissions, time of last change, and inode.
type Entry = (String, u32, (i64, i64), u64);

fn look(root: &Path) -> BTreeMap<PathBuf, Entry> {
    let mut all = BTreeMap::new();
    let mut next = vec![root.to_owned()];
    while let Some(path) = next.pop() {
        let found = fs::symlink_metadata(&path).unwrap();
        let what = if found.is_dir() {
            next.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            "directory".to_owned()
        } else if found.is_symlink() {
            format!("link to {}", fs::read_link(&path).unwrap().display())
        } else {
            fs::read_to_string(&path).unwrap()
        };
        // Directories that were removed are made anew.
        let inode = if found.is_dir() { 0 } else { found.ino() };
        let entry = (what, found.mode(), (found.mtime(), found.mtime_nsec()), inode);
        all.insert(path, entry);
    }
    all
}

const NAMES: &[&str] = &["a", "b", "c", "d/a", "d/b", "e/a", "link"];

#[derive(Clone, Debug)]
enum Action {
    Write(usize, String),
    Append(usize, String),
    Remove(usize),
    Move(usize, usize),
    Link(usize, usize),
    Symlink(usize, usize),
    Mode(usize, u32),
    Touch(usize),
    MakeDirectory,
    RemoveDirectory,
    Step(usize, String),
    /// The first or the second of those that have not finished.
    Finish(usize),
}

fn action() -> impl Strategy<Value = Action> {
    let name = || 0..NAMES.len();
    let text = || "[xyz]{0,3}";
    prop_oneof![
        (name(), text()).prop_map(|(a, b)| Action::Write(a, b)),
        (name(), text()).prop_map(|(a, b)| Action::Append(a, b)),
        name().prop_map(Action::Remove),
        (name(), name()).prop_map(|(a, b)| Action::Move(a, b)),
        (name(), name()).prop_map(|(a, b)| Action::Link(a, b)),
        (name(), name()).prop_map(|(a, b)| Action::Symlink(a, b)),
        (name(), 0_u32..8).prop_map(|(a, b)| Action::Mode(a, 0o600 | b)),
        name().prop_map(Action::Touch),
        Just(Action::MakeDirectory),
        Just(Action::RemoveDirectory),
        (name(), text()).prop_map(|(a, b)| Action::Step(a, b)),
        (0_usize..2).prop_map(Action::Finish),
    ]
}

/// A build that saves before it changes, as the watcher does. Calls fail where they may.
struct Build {
    root: PathBuf,
    undo: UndoLog,
    /// Last steps of recipes that go on.
    open: BTreeSet<StepNumber>,
    pending: Vec<(StepNumber, BTreeMap<PathBuf, Entry>)>,
    finished: Vec<StepNumber>,
}

impl Build {
    fn act(&mut self, action: &Action) {
        let at = |name: &usize| self.root.join(NAMES[*name]);
        match action {
            Action::Write(name, text) => {
                self.undo.content(&at(name)).unwrap();
                drop(fs::write(at(name), text));
            }
            Action::Append(name, text) => {
                self.undo.content(&at(name)).unwrap();
                if let Ok(mut file) = File::options().append(true).create(true).open(at(name)) {
                    file.write_all(text.as_bytes()).unwrap();
                }
            }
            Action::Remove(name) => {
                self.undo.name(&at(name), None).unwrap();
                drop(fs::remove_file(at(name)));
            }
            Action::Move(from, to) => {
                if self.undo.moved(&at(from), &at(to)).is_ok() {
                    drop(fs::rename(at(from), at(to)));
                }
            }
            Action::Link(from, to) => {
                self.undo.linked(&at(from), &at(to)).unwrap();
                drop(fs::hard_link(at(from), at(to)));
            }
            Action::Symlink(to, name) => {
                self.undo.name(&at(name), None).unwrap();
                drop(symlink(at(to), at(name)));
            }
            Action::Mode(name, mode) => {
                self.undo.attributes(&at(name), true).unwrap();
                drop(fs::set_permissions(at(name), fs::Permissions::from_mode(*mode)));
            }
            Action::Touch(name) => {
                self.undo.attributes(&at(name), true).unwrap();
                if let Ok(file) = File::open(at(name)) {
                    drop(file.set_modified(std::time::UNIX_EPOCH));
                }
            }
            Action::MakeDirectory => {
                self.undo.name(&self.root.join("e"), None).unwrap();
                drop(fs::create_dir(self.root.join("e")));
            }
            Action::RemoveDirectory => {
                self.undo.directory(&self.root.join("d")).unwrap();
                drop(fs::remove_dir(self.root.join("d")));
            }
            Action::Step(name, text) => {
                let path = at(name);
                let step = self.undo.savepoint(|_| self.open.clone()).unwrap();
                self.pending.push((step, look(&self.root)));
                self.undo.name(&path, Some(step)).unwrap();
                drop(fs::remove_file(&path));
                drop(fs::write(&path, text));
            }
            Action::Finish(at) => {
                if *at < self.pending.len() {
                    let (step, _) = self.pending.remove(*at);
                    self.undo.finished(step).unwrap();
                    self.finished.push(step);
                }
            }
        }
    }
}

fn start(place: &Path) -> Build {
    let root = place.canonicalize().unwrap().join("tree");
    fs::create_dir_all(root.join("d")).unwrap();
    for name in ["a", "b", "d/a"] {
        fs::write(root.join(name), name).unwrap();
    }
    fs::hard_link(root.join("a"), root.join("c")).unwrap();
    symlink("b", root.join("link")).unwrap();
    let journal =
        Arc::new(Journal::create(Journal::new_path(&place.join("builds")).unwrap()).unwrap());
    Build {
        root,
        undo: UndoLog::new(journal, Vec::new()),
        open: BTreeSet::new(),
        pending: Vec::new(),
        finished: Vec::new(),
    }
}

fn assert_same(before: &BTreeMap<PathBuf, Entry>, root: &Path) {
    let after = look(root);
    for (path, entry) in before {
        assert_eq!(Some(entry), after.get(path), "{}", path.display());
    }
    assert_eq!(before.len(), after.len(), "{:?}", after.keys());
}

proptest! {
    #[test]
    fn everything_is_put_back(actions in prop::collection::vec(action(), 0..24)) {
        let place = tempfile::tempdir().unwrap();
        let mut build = start(place.path());
        let before = look(&build.root);
        actions.iter().for_each(|action| build.act(action));
        let unrestored = build.undo.undo().unwrap();
        prop_assert!(unrestored.is_empty(), "{unrestored:?}");
        assert_same(&before, &build.root);
        let left = fs::read_dir(place.path().join("builds")).unwrap().count();
        prop_assert_eq!(left, 1, "only the empty journal is left");
    }

    /// What a killed build leaves is what was there before its first unfinished step.
    #[test]
    fn a_killed_build_is_taken_back_to_what_had_finished(actions in prop::collection::vec(action(), 0..24)) {
        let place = tempfile::tempdir().unwrap();
        let mut build = start(place.path());
        actions.iter().for_each(|action| build.act(action));
        let end = look(&build.root);
        let (first, expected) = build.pending.first().cloned().unwrap_or((StepNumber::MAX, end));
        let is_in_order = build.finished.iter().all(|step| *step < first);
        let journal = build.undo.journal.path().to_owned();
        let root = build.root.clone();
        drop(build);
        journal::clean(&journal, FlockOperation::LockExclusive).unwrap();
        if is_in_order {
            assert_same(&expected, &root);
        }
        prop_assert_eq!(fs::read_dir(place.path().join("builds")).unwrap().count(), 0);
    }
}

/// What later steps have left stays, if the build has done nothing else in between.
#[test]
fn a_killed_build_keeps_what_later_steps_have_left() {
    for (between, stays) in [(None, true), (Some(Action::Write(4, "x".into())), false)] {
        let place = tempfile::tempdir().unwrap();
        let mut build = start(place.path());
        build.act(&Action::Step(0, "first".into()));
        build.act(&Action::Step(1, "second".into()));
        between.iter().for_each(|action| build.act(action));
        build.act(&Action::Finish(1));
        build.undo.undo_unfinished(&BTreeSet::new()).unwrap();
        let read = |name: &str| fs::read_to_string(build.root.join(name)).unwrap();
        assert_eq!(read("a"), "a");
        assert_eq!(read("b"), if stays { "second" } else { "b" });
    }
}

/// What the first command of a recipe has left does not stay without what the second does.
#[test]
fn a_recipe_that_was_not_through_has_made_nothing() {
    let moves = || [Action::Move(2, 3)];
    for (open, is_killed) in [(true, true), (true, false), (false, true), (false, false)] {
        let place = tempfile::tempdir().unwrap();
        let mut build = start(place.path());
        build.act(&Action::Step(0, "first".into()));
        build.act(&Action::Finish(0));
        build.open.extend(open.then_some(1));
        build.act(&Action::Step(1, "second".into()));
        moves().iter().for_each(|action| build.act(action));
        let (root, running) = (build.root.clone(), build.open.clone());
        if is_killed {
            let journal = build.undo.journal.path().to_owned();
            drop(build);
            journal::clean(&journal, FlockOperation::LockExclusive).unwrap();
        } else {
            build.undo.undo_unfinished(&running).unwrap();
        }
        let read = |name: &str| fs::read_to_string(root.join(name)).unwrap();
        assert_eq!(read("a"), if open { "a" } else { "first" });
        assert_eq!((read("b"), read("c")), ("b".to_owned(), "a".to_owned()));
    }
}

#[test]
fn large_files_and_directories_cannot_be_undone() {
    let place = tempfile::tempdir().unwrap();
    let build = start(place.path());
    let large = build.root.join("large");
    File::create(&large).unwrap().set_len(COPY_BYTES_MAX + 1).unwrap();
    // Where blocks can be shared, size does not matter.
    if let Err(CannotUndo(reason)) = build.undo.content(&large) {
        assert!(reason.starts_with("a change of a large file: "), "{reason}");
    }
    assert!(build.undo.moved(&build.root.join("d"), &build.root.join("e")).is_err());
    build.undo.commit().unwrap();
    build.undo.content(&large).unwrap();
}

#[test]
fn what_is_left_without_a_journal_is_removed_and_the_rest_is_left_alone() {
    let place = tempfile::tempdir().unwrap();
    let builds = place.path().join("builds");
    let living = Journal::create(Journal::new_path(&builds).unwrap()).unwrap();
    let name = living.path().file_name().unwrap().to_str().unwrap().to_owned();
    let kept = [format!("{name}.undo"), "mesh-build-1".to_owned(), name];
    fs::create_dir(builds.join(&kept[0])).unwrap();
    fs::create_dir(builds.join(&kept[1])).unwrap();
    fs::create_dir_all(builds.join("1.0.undo").join("file")).unwrap();
    fs::write(builds.join("2.0"), "").unwrap();
    journal::clean_all(&builds).unwrap();
    let mut left: Vec<_> =
        fs::read_dir(&builds).unwrap().map(|it| it.unwrap().file_name()).collect();
    left.sort();
    let mut kept = kept.map(std::ffi::OsString::from);
    kept.sort();
    assert_eq!(left, kept);
}
