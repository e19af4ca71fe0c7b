//! Puts files back as an undo log's records say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use mesh_cli::frontend::Inode;
use mesh_store::files;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use super::journal::{Attributes, Record, StepNumber};

/// How far to go back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum To {
    /// To the state when the build began.
    Start,
    /// To the state in which the first step was answered that has not finished.
    FirstUnfinished,
}

/// A path that could not be put back.
#[derive(Debug)]
pub(crate) struct Unrestored {
    pub(crate) path: PathBuf,
    pub(crate) error: io::Error,
}

/// Undoes records, the last first. What cannot be put back is told, and the rest goes on.
///
/// `running`: the last steps of recipes that have not ended by now; if that is not known, those that
/// had not when the last step was answered.
pub(super) fn replay(
    records: &[Record],
    to: To,
    running: Option<&BTreeSet<StepNumber>>,
) -> Vec<Unrestored> {
    let finished: BTreeSet<StepNumber> = records
        .iter()
        .filter_map(|record| match record {
            Record::Finished(step) => Some(*step),
            _ => None,
        })
        .collect();
    let is_unfinished =
        |record: &Record| matches!(record, Record::Step { step, .. } if !finished.contains(step));
    let from = match to {
        To::Start => Some(0),
        To::FirstUnfinished => records.iter().position(is_unfinished),
    };
    let mut replay = Replay { times: BTreeMap::new(), unrestored: Vec::new() };
    if let Some(from) = from {
        let (stays, undone) = records.split_at(from);
        // What steps have left is right whatever else the build did, unless it has gone on from
        // there in ways of its own.
        let keeps = to == To::FirstUnfinished && undone.iter().all(is_of_steps);
        let is_of = |record: &Record, steps: &BTreeSet<StepNumber>| {
            step_of(record).is_some_and(|step| steps.contains(&step))
        };
        // The commands of a recipe belong together: make takes a file for made that the first of
        // them has left, and would never run the others.
        let halves = match to {
            To::Start => BTreeSet::new(),
            To::FirstUnfinished => {
                running.or(undone.iter().rev().find_map(open_at)).cloned().unwrap_or_default()
            }
        };
        let is_kept =
            |record: &Record| keeps && is_of(record, &finished) && !is_of(record, &halves);
        let later = undone.iter().rev().filter(|record| !is_kept(record));
        let was_open = undone.iter().find_map(open_at);
        let is_half = |record: &Record| was_open.is_some_and(|steps| is_of(record, steps));
        let earlier = stays.iter().rev().filter(|record| is_half(record));
        later.chain(earlier).for_each(|record| replay.undo(record));
        if !undone.iter().any(is_kept) {
            replay.put_times_back();
        }
    }
    replay.remove_half_filled(records);
    replay.unrestored
}

/// The last steps of recipes that had not ended when this step was answered.
fn open_at(record: &Record) -> Option<&BTreeSet<StepNumber>> {
    match record {
        Record::Step { open, .. } => Some(open),
        _ => None,
    }
}

fn step_of(record: &Record) -> Option<StepNumber> {
    match record {
        Record::Absent { step, .. } | Record::Entry { step, .. } => *step,
        _ => None,
    }
}

/// Does this say nothing of what programs of the build did themselves?
fn is_of_steps(record: &Record) -> bool {
    match record {
        Record::Step { .. } | Record::Finished(_) | Record::Aside(_) | Record::Times { .. } => true,
        record => step_of(record).is_some(),
    }
}

struct Replay {
    /// Times of directories, which change with what is in them: put back last.
    times: BTreeMap<PathBuf, Attributes>,
    unrestored: Vec<Unrestored>,
}

impl Replay {
    fn undo(&mut self, record: &Record) {
        let (path, done) = match record {
            Record::Absent { path, .. } => (path, remove(path)),
            Record::Entry { path, aside, inode, .. } => (path, put_back(path, aside, *inode)),
            Record::Directory { path, attributes } => {
                self.times.insert(path.clone(), *attributes);
                (path, make_directory(path, *attributes))
            }
            // The first record is the one that counts, and comes last.
            Record::Times { path, attributes } => {
                self.times.insert(path.clone(), *attributes);
                return;
            }
            Record::Moved { from, to, inode } => (from, move_back(from, to, *inode)),
            Record::Content { path, copy, attributes } => {
                (path, write_back(path, copy).and_then(|()| set(path, *attributes)))
            }
            Record::Attributes { path, attributes } => (path, set(path, *attributes)),
            Record::Step { .. }
            | Record::Finished(_)
            | Record::Aside(_)
            | Record::Filling { .. }
            | Record::Filled { .. } => return,
        };
        if let Err(error) = done {
            self.unrestored.push(Unrestored { path: path.clone(), error });
        }
    }

    fn put_times_back(&mut self) {
        for (path, attributes) in std::mem::take(&mut self.times) {
            // One that the build made and that is gone again.
            let _ = set_times(&path, attributes);
        }
    }

    /// Removes placeholders of other builds that were being filled.
    fn remove_half_filled(&mut self, records: &[Record]) {
        let mut filling = BTreeMap::new();
        for record in records {
            match record {
                Record::Filling { path, inode } => drop(filling.insert(*inode, path)),
                Record::Filled { inode } => drop(filling.remove(inode)),
                _ => {}
            }
        }
        for (inode, path) in filling {
            if inode_at(path) == Some(inode)
                && let Err(error) = fs::remove_file(path)
            {
                self.unrestored.push(Unrestored { path: path.clone(), error });
            }
        }
    }
}

fn inode_at(path: &Path) -> Option<Inode> {
    fs::symlink_metadata(path).ok().map(|found| Inode::of(&found))
}

/// Removes what is at a path: a file, or a directory that is empty by now.
fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if is_gone(&error) => Ok(()),
        removed => removed,
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn put_back(path: &Path, aside: &Path, inode: Inode) -> io::Result<()> {
    if inode_at(path) == Some(inode) {
        return Ok(());
    }
    remove(path)?;
    Ok(rustix::fs::linkat(CWD, aside, CWD, path, AtFlags::empty())?)
}

/// Unless the build did not come to moving it.
fn move_back(from: &Path, to: &Path, inode: Inode) -> io::Result<()> {
    if inode_at(from) == Some(inode) || inode_at(to) != Some(inode) {
        return Ok(());
    }
    remove(from)?;
    fs::rename(to, from)
}

fn make_directory(path: &Path, attributes: Attributes) -> io::Result<()> {
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(attributes.mode)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn write_back(path: &Path, copy: &Path) -> io::Result<()> {
    let mut content = files::open(copy, File::options().read(true))?;
    let open = || File::options().write(true).truncate(true).open(path);
    let mut file = match open() {
        // The build has taken that permission away; it is put back with the others.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            fs::set_permissions(path, Permissions::from_mode(0o600))?;
            open()?
        }
        file => file?,
    };
    io::copy(&mut content, &mut file)?;
    Ok(())
}

fn set(path: &Path, attributes: Attributes) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    if !found.is_symlink() && found.mode() & 0o7777 != attributes.mode {
        fs::set_permissions(path, Permissions::from_mode(attributes.mode))?;
    }
    set_times(path, attributes)
}

fn set_times(path: &Path, attributes: Attributes) -> io::Result<()> {
    let time = |(tv_sec, tv_nsec)| Timespec { tv_sec, tv_nsec };
    let times = Timestamps {
        last_access: time(attributes.accessed),
        last_modification: time(attributes.modified),
    };
    Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}
