//! The undo log of a build: the old state of everything that it changes while it runs ahead.
//!
//! Goals: a build that ran ahead of a step which then fails can be taken back to its start, file by
//! file: bytes, permissions, times and hard links. One that is interrupted or killed is taken back
//! to where it would be without mesh: before the first step that has not finished.
//!
//! Non-goals: changes that are not worth saving or cannot be saved. The caller is told
//! ([`CannotUndo`]), and lets the change wait until nothing is left that could fail.
//!
//! ```text
//!   savepoint 1 ─ a.o ─ stamp ─ savepoint 2 ─ b.o ─ …        one record before each first change
//!   ◀────────── back to the start                            after a failure
//!                                ◀────────── to a savepoint  first step that has not finished
//! ```
//!
//! A file that is removed or replaced is kept by a hard link below a directory of ours on the same
//! file system; one that is written to is copied there. Records go to a [`journal`] first, so that
//! the guardian of a killed build does the same as the build itself ([`replay`]).

mod aside;
pub(crate) mod journal;
mod replay;

use std::collections::{BTreeSet, HashMap};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesh_cli::frontend::Inode;

use aside::Aside;
use journal::{Attributes, Journal, Record, StepNumber};
pub(crate) use replay::Unrestored;

/// Largest file whose content is copied before a change, in bytes, where the file system cannot
/// share its blocks.
const COPY_BYTES_MAX: u64 = 1 << 20;

/// Bytes that a build may have copied in all.
const COPIED_BYTES_MAX: u64 = 64 << 20;

/// Changes that a build may make before it stops running ahead.
const RECORDS_MAX: usize = 1_000_000;

/// Why a change cannot be undone.
#[derive(Debug)]
pub(crate) struct CannotUndo(pub(crate) String);

/// See the module's description.
#[derive(Debug)]
pub(crate) struct UndoLog {
    journal: Arc<Journal>,
    /// Directories whose files are not the build's: this user's state, and the build's own socket.
    excluded: Vec<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    aside: Aside,
    /// Records so far.
    count: usize,
    /// Where the last savepoint is.
    savepoint: usize,
    steps: StepNumber,
    /// By path: the last record of its name.
    names: HashMap<PathBuf, usize>,
    /// Paths where there was nothing when the build began.
    born: BTreeSet<PathBuf>,
    /// By directory: the last record of its times.
    directories: HashMap<PathBuf, usize>,
    /// Files that have been kept aside, with the link.
    kept: HashMap<Inode, PathBuf>,
    /// Files that have got another name, under which they are what they were.
    renamed: BTreeSet<Inode>,
    /// By file: the last record of its content and attributes.
    contents: HashMap<Inode, usize>,
    attributes: HashMap<Inode, usize>,
    copied: u64,
    /// Nothing is saved any more.
    closed: bool,
}

impl UndoLog {
    /// An empty log that leaves the directories `excluded` alone.
    pub(crate) fn new(journal: Arc<Journal>, excluded: Vec<PathBuf>) -> Self {
        let state = State {
            aside: Aside::new(journal.path()),
            count: 0,
            savepoint: 0,
            steps: 0,
            names: HashMap::new(),
            born: BTreeSet::new(),
            directories: HashMap::new(),
            kept: HashMap::new(),
            renamed: BTreeSet::new(),
            contents: HashMap::new(),
            attributes: HashMap::new(),
            copied: 0,
            closed: false,
        };
        Self { journal, excluded, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks the state before a step is answered. `open` gives the last steps of recipes that have
    /// not ended, the new one among them if its recipe may go on.
    pub(crate) fn savepoint(
        &self,
        open: impl FnOnce(StepNumber) -> BTreeSet<StepNumber>,
    ) -> io::Result<StepNumber> {
        let mut state = self.state();
        state.steps += 1;
        let step = state.steps;
        self.write(&mut state, &Record::Step { step, open: open(step) })?;
        state.savepoint = state.count;
        Ok(step)
    }

    /// A step has finished, and what it leaves is there.
    pub(crate) fn finished(&self, step: StepNumber) -> io::Result<()> {
        let mut state = self.state();
        self.write(&mut state, &Record::Finished(step))
    }

    /// Saves what a path has before its name is made, removed or given to something else; by a
    /// step, if its output goes there.
    pub(crate) fn name(&self, path: &Path, step: Option<StepNumber>) -> Result<(), CannotUndo> {
        let Some(path) = self.place_of(path, false) else { return Ok(()) };
        let mut state = self.state();
        if state.closed {
            return Ok(());
        }
        match std::fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => Ok(()),
            Ok(found) => self.entry(&mut state, &path, &found, step),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.absence(&mut state, &path, step)
            }
            Err(_) => Ok(()),
        }
    }

    /// Saves a directory that may be removed.
    pub(crate) fn directory(&self, path: &Path) -> Result<(), CannotUndo> {
        let Some(path) = self.place_of(path, false) else { return Ok(()) };
        let mut state = self.state();
        match std::fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() && !state.closed => {
                self.times_of_parent(&mut state, &path)?;
                let at = state.count;
                state.names.insert(path.clone(), at);
                let attributes = Attributes::of(&found);
                self.save(&mut state, &Record::Directory { path, attributes })
            }
            _ => Ok(()),
        }
    }

    /// Saves what is needed before a name is moved to another.
    pub(crate) fn moved(&self, from: &Path, to: &Path) -> Result<(), CannotUndo> {
        let (Some(from), Some(to)) = (self.place_of(from, false), self.place_of(to, false)) else {
            return Err(CannotUndo(format!("a file that comes from elsewhere: {}", to.display())));
        };
        let kind = |path: &Path| std::fs::symlink_metadata(path).ok();
        let Some(found) = kind(&from) else { return Ok(()) };
        if found.is_dir() || kind(&to).is_some_and(|found| found.is_dir()) {
            return Err(CannotUndo(format!("a directory that is moved: {}", from.display())));
        }
        let inode = Inode::of(&found);
        self.name(&to, None)?;
        let mut state = self.state();
        self.times_of_parent(&mut state, &from)?;
        state.renamed.insert(inode);
        let at = state.count;
        state.names.insert(from.clone(), at);
        self.save(&mut state, &Record::Moved { from, to, inode })
    }

    /// Saves what is needed before a file gets another name.
    pub(crate) fn linked(&self, from: &Path, to: &Path) -> Result<(), CannotUndo> {
        self.name(to, None)?;
        // What is written by its new name is this file's.
        if let Some(from) = self.place_of(from, false)
            && let Ok(found) = std::fs::symlink_metadata(&from)
        {
            self.state().renamed.insert(Inode::of(&found));
        }
        Ok(())
    }

    /// Saves the content of a file before it is written to, or the absence of one that will be
    /// made. Links at the end of the path are followed.
    pub(crate) fn content(&self, path: &Path) -> Result<(), CannotUndo> {
        let Some(path) = self.place_of(path, true) else { return Ok(()) };
        let mut state = self.state();
        if state.closed {
            return Ok(());
        }
        let found = match std::fs::symlink_metadata(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return self.absence(&mut state, &path, None);
            }
            Err(_) => return Ok(()),
        };
        if found.is_file() {
            return self.bytes(&mut state, &path, &found);
        }
        let what = found.file_type();
        let is_own = state.born.contains(&path);
        if what.is_fifo() && !is_own {
            return Err(CannotUndo(format!("a pipe that somebody else made: {}", path.display())));
        }
        Ok(())
    }

    /// Saves permissions and times before they change.
    pub(crate) fn attributes(&self, path: &Path, follow: bool) -> Result<(), CannotUndo> {
        let Some(path) = self.place_of(path, follow) else { return Ok(()) };
        let mut state = self.state();
        let Ok(found) = std::fs::symlink_metadata(&path) else { return Ok(()) };
        if state.closed {
            return Ok(());
        }
        let inode = Inode::of(&found);
        let is_saved = |saved: Option<&usize>| saved.is_some_and(|at| *at >= state.savepoint);
        if is_saved(state.attributes.get(&inode)) || is_saved(state.contents.get(&inode)) {
            return Ok(());
        }
        if !state.is_old(&path, inode) {
            return Ok(());
        }
        let at = state.count;
        state.attributes.insert(inode, at);
        let attributes = Attributes::of(&found);
        self.save(&mut state, &Record::Attributes { path, attributes })
    }

    /// Owners and extended attributes of files that were there before are not saved.
    pub(crate) fn owner(&self, path: &Path, follow: bool) -> Result<(), CannotUndo> {
        let Some(path) = self.place_of(path, follow) else { return Ok(()) };
        let state = self.state();
        let Ok(found) = std::fs::symlink_metadata(&path) else { return Ok(()) };
        if !state.closed && state.is_old(&path, Inode::of(&found)) {
            return Err(CannotUndo(format!("another owner or attribute: {}", path.display())));
        }
        Ok(())
    }

    /// Was there nothing at this path when the build began?
    pub(crate) fn is_born(&self, path: &Path) -> bool {
        self.place_of(path, false).is_some_and(|path| self.state().born.contains(&path))
    }

    /// Keeps everything as it is: nothing is saved from now on, and what was is let go.
    pub(crate) fn commit(&self) -> io::Result<()> {
        let mut state = self.state();
        if !std::mem::replace(&mut state.closed, true) {
            // Before the saved files: a killed build must not look for them.
            self.journal.clear()?;
            state.aside.remove();
        }
        Ok(())
    }

    /// Puts everything back as it was when the build began.
    pub(crate) fn undo(&self) -> io::Result<Vec<Unrestored>> {
        self.replay(replay::To::Start, None)
    }

    /// Puts back what was changed after the first step that has not finished was answered, and what
    /// steps have left of which the recipes had not ended: then, or now (`running`).
    pub(crate) fn undo_unfinished(
        &self,
        running: &BTreeSet<StepNumber>,
    ) -> io::Result<Vec<Unrestored>> {
        self.replay(replay::To::FirstUnfinished, Some(running))
    }

    fn replay(
        &self,
        to: replay::To,
        running: Option<&BTreeSet<StepNumber>>,
    ) -> io::Result<Vec<Unrestored>> {
        let mut state = self.state();
        if std::mem::replace(&mut state.closed, true) {
            return Ok(Vec::new());
        }
        let unrestored = replay::replay(&self.journal.read()?, to, running);
        self.journal.clear()?;
        state.aside.remove();
        Ok(unrestored)
    }

    /// The path itself, with the symbolic links on the way resolved, and those at its end if asked.
    /// `None` if what is there is not the build's files.
    fn place_of(&self, path: &Path, follow: bool) -> Option<PathBuf> {
        let place = resolve(path, follow)?;
        let is_device = place.starts_with("/dev") && !place.starts_with("/dev/shm");
        let is_excluded = is_device
            || place.starts_with("/proc")
            || place.starts_with("/sys")
            || self.excluded.iter().any(|excluded| place.starts_with(excluded));
        (!is_excluded).then_some(place)
    }

    fn absence(
        &self,
        state: &mut State,
        path: &Path,
        step: Option<StepNumber>,
    ) -> Result<(), CannotUndo> {
        if state.is_named(path) {
            return Ok(());
        }
        self.times_of_parent(state, path)?;
        if !state.names.contains_key(path) {
            state.born.insert(path.to_owned());
        }
        state.names.insert(path.to_owned(), state.count);
        self.save(state, &Record::Absent { path: path.to_owned(), step })
    }

    fn entry(
        &self,
        state: &mut State,
        path: &Path,
        found: &Metadata,
        step: Option<StepNumber>,
    ) -> Result<(), CannotUndo> {
        if !state.is_old(path, Inode::of(found)) {
            return Ok(());
        }
        self.times_of_parent(state, path)?;
        let aside = self.keep(state, path, found)?;
        state.names.insert(path.to_owned(), state.count);
        let record = Record::Entry { path: path.to_owned(), aside, inode: Inode::of(found), step };
        self.save(state, &record)
    }

    /// Directories get other times when something in them is made or removed.
    fn times_of_parent(&self, state: &mut State, path: &Path) -> Result<(), CannotUndo> {
        let Some(parent) = path.parent() else { return Ok(()) };
        if state.directories.get(parent).is_some_and(|at| *at >= state.savepoint) {
            return Ok(());
        }
        let Ok(found) = std::fs::symlink_metadata(parent) else { return Ok(()) };
        state.directories.insert(parent.to_owned(), state.count);
        let attributes = Attributes::of(&found);
        self.save(state, &Record::Times { path: parent.to_owned(), attributes })
    }

    fn bytes(&self, state: &mut State, path: &Path, found: &Metadata) -> Result<(), CannotUndo> {
        let inode = Inode::of(found);
        let is_saved = state.contents.get(&inode).is_some_and(|at| *at >= state.savepoint);
        if is_saved || !state.is_old(path, inode) {
            return Ok(());
        }
        let room = COPY_BYTES_MAX.min(COPIED_BYTES_MAX.saturating_sub(state.copied));
        let made = |directory: &Path| self.journal.write(&Record::Aside(directory.to_owned()));
        let copied = state.aside.copy(path, found, room, made);
        let Some((copy, bytes)) = copied.map_err(cannot(path))? else {
            return Err(CannotUndo(format!("a change of a large file: {}", path.display())));
        };
        state.copied += bytes;
        state.contents.insert(inode, state.count);
        let attributes = Attributes::of(found);
        self.save(state, &Record::Content { path: path.to_owned(), copy, attributes })
    }

    /// Keeps a file by another name of ours.
    fn keep(
        &self,
        state: &mut State,
        path: &Path,
        found: &Metadata,
    ) -> Result<PathBuf, CannotUndo> {
        let inode = Inode::of(found);
        if let Some(kept) = state.kept.get(&inode) {
            return Ok(kept.clone());
        }
        let made = |directory: &Path| self.journal.write(&Record::Aside(directory.to_owned()));
        let aside = state.aside.link(path, found, made).map_err(cannot(path))?;
        state.kept.insert(inode, aside.clone());
        Ok(aside)
    }

    fn save(&self, state: &mut State, record: &Record) -> Result<(), CannotUndo> {
        if state.count >= RECORDS_MAX {
            return Err(CannotUndo("more changes than are remembered".to_owned()));
        }
        let place = self.journal.path().to_owned();
        self.write(state, record).map_err(cannot(&place))
    }

    fn write(&self, state: &mut State, record: &Record) -> io::Result<()> {
        if state.closed {
            return Ok(());
        }
        self.journal.write(record)?;
        state.count += 1;
        Ok(())
    }
}

impl State {
    /// Has this name been saved since the last savepoint?
    fn is_named(&self, path: &Path) -> bool {
        self.names.get(path).is_some_and(|at| *at >= self.savepoint)
    }

    /// Was this file there at the last savepoint, here or under another name? If not, it goes away
    /// with its name.
    fn is_old(&self, path: &Path, inode: Inode) -> bool {
        !self.is_named(path) || self.renamed.contains(&inode) || self.kept.contains_key(&inode)
    }
}

fn cannot(path: &Path) -> impl FnOnce(io::Error) -> CannotUndo {
    move |error| CannotUndo(format!("{}: {error}", path.display()))
}

/// The path without symbolic links before its last component, and if asked without one at its end.
/// What the last one leads to need not be there.
pub(super) fn resolve(path: &Path, follow: bool) -> Option<PathBuf> {
    const LINKS_MAX: usize = 40;
    let mut path = path.to_owned();
    if path.starts_with("/proc") && path.parent().is_some_and(|parent| parent.ends_with("fd")) {
        // A descriptor; of a pipe, a socket, or a file without a name, there is no path.
        return std::fs::read_link(&path).ok().filter(|path| path.is_absolute() && path.exists());
    }
    for _ in 0..LINKS_MAX {
        let Some(name) = path.file_name().map(ToOwned::to_owned) else {
            return path.canonicalize().ok();
        };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let place = parent.unwrap_or(Path::new("/")).canonicalize().ok()?.join(name);
        match std::fs::read_link(&place) {
            Ok(target) if follow => path = place.parent()?.join(target),
            _ => return Some(place),
        }
    }
    None
}

#[cfg(test)]
mod tests;
