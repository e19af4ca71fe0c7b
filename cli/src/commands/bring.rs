//! What a command left, at its place among the user's files.
//!
//! A file appears whole or not at all: it is written beside its place, then renamed. So does a
//! directory that was not there. One that was is filled: what else is in it stays. What the
//! command was given and left as it was is not written again.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use mesh_protocol::name::ValueName;
use mesh_protocol::thunk::{Input, InputMode, OutputObject, Source, Thunk, ThunkSpec};
use mesh_protocol::tree::{Tree, TreeEntry};
use mesh_store::{ExportOptions, Store};

use crate::error::CliError;
use crate::exit;

/// Brings outputs of one thunk.
pub(crate) struct Bring<'a> {
    store: &'a Store,
    spec: &'a ThunkSpec,
    umask: u32,
}

impl<'a> Bring<'a> {
    pub(crate) fn new(store: &'a Store, thunk: &'a Thunk, umask: u32) -> Self {
        Self { store, spec: thunk.spec(), umask }
    }

    /// Writes one output to `path`, making the directories on the way.
    pub(crate) fn output(&self, object: &OutputObject, path: &Path) -> Result<(), CliError> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(CliError::io(parent))?;
        }
        match object {
            OutputObject::File { name, executable } => self.file(*name, *executable, path),
            OutputObject::Tree(name) => self.directory(*name, path),
            OutputObject::Thunk(name) => {
                Err(CliError::new(exit::INTERNAL, format_args!("{name} is not a value")))
            }
        }
    }

    fn file(&self, name: ValueName, executable: bool, path: &Path) -> Result<(), CliError> {
        let found = fs::symlink_metadata(path).ok();
        let kept = found.as_ref().and_then(|found| kept_mode(found, executable));
        let created = if executable { 0o777 } else { 0o666 };
        let mode = kept.unwrap_or(created & !self.umask);
        Ok(self.store.export(name.digest(), path, &ExportOptions { mode, mtime: None })?)
    }

    fn directory(&self, name: ValueName, path: &Path) -> Result<(), CliError> {
        let given = self.given_tree(path)?;
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.fresh(name, path),
            _ => self.fill(name, path, given.as_ref()),
        }
    }

    /// A directory that is not there yet: made beside its place.
    fn fresh(&self, name: ValueName, path: &Path) -> Result<(), CliError> {
        let beside = path.parent().unwrap_or(Path::new("/"));
        let place = tempfile::Builder::new().prefix(".mesh-run-").tempdir_in(beside);
        let place = place.map_err(CliError::io(beside))?;
        let made = place.path().join("made");
        fs::create_dir(&made).map_err(CliError::io(&made))?;
        self.fill(name, &made, None)?;
        fs::rename(&made, path).map_err(CliError::io(path))
    }

    /// Fills a directory; takes out of it what the command was given there and removed.
    fn fill(&self, name: ValueName, path: &Path, given: Option<&Tree>) -> Result<(), CliError> {
        let tree = self.store.read_tree(name)?;
        for (entry_name, entry) in tree.entries() {
            let path = path.join(entry_name);
            let before = self.given(&path).or_else(|| given?.get(entry_name).cloned());
            if before.as_ref() != Some(entry) || fs::symlink_metadata(&path).is_err() {
                self.entry(entry, &path, before.as_ref())?;
            }
        }
        for (entry_name, entry) in given.into_iter().flat_map(Tree::entries) {
            if tree.get(entry_name).is_none() {
                self.remove(entry, &path.join(entry_name))?;
            }
        }
        Ok(())
    }

    fn entry(
        &self,
        entry: &TreeEntry,
        path: &Path,
        before: Option<&TreeEntry>,
    ) -> Result<(), CliError> {
        match entry {
            TreeEntry::File { name, executable } => self.file(*name, *executable, path),
            TreeEntry::Symlink(target) => link(target, path).map_err(CliError::io(path)),
            TreeEntry::Directory(name) => {
                match fs::create_dir(path) {
                    Err(error) if is_directory(path) => drop(error),
                    made => made.map_err(CliError::io(path))?,
                }
                let before = match before {
                    Some(TreeEntry::Directory(before)) => Some(self.store.read_tree(*before)?),
                    _ => None,
                };
                self.fill(*name, path, before.as_ref())
            }
        }
    }

    /// Removes what the command removed, if it is still what the command was given.
    fn remove(&self, entry: &TreeEntry, path: &Path) -> Result<(), CliError> {
        match entry {
            TreeEntry::File { name, .. } => {
                let is_file = fs::symlink_metadata(path).is_ok_and(|found| found.is_file());
                if is_file && self.store.name_file(path)?.name == *name {
                    fs::remove_file(path).map_err(CliError::io(path))?;
                }
            }
            TreeEntry::Symlink(target) => {
                if fs::read_link(path).is_ok_and(|found| found == Path::new(target)) {
                    fs::remove_file(path).map_err(CliError::io(path))?;
                }
            }
            TreeEntry::Directory(name) => {
                if is_directory(path) {
                    for (entry_name, entry) in self.store.read_tree(*name)?.entries() {
                        self.remove(entry, &path.join(entry_name))?;
                    }
                    match fs::remove_dir(path) {
                        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                        removed => removed.map_err(CliError::io(path))?,
                    }
                }
            }
        }
        Ok(())
    }

    /// What the thunk names at a path.
    fn given(&self, path: &Path) -> Option<TreeEntry> {
        let path = path.to_str()?.parse().ok()?;
        if let Some(target) = self.spec.symlinks.get(&path) {
            return Some(TreeEntry::Symlink(target.clone()));
        }
        let Input { source: Source::Value(name), mode } = self.spec.inputs.get(&path)? else {
            return None;
        };
        Some(match mode {
            InputMode::File => TreeEntry::File { name: *name, executable: false },
            InputMode::Executable => TreeEntry::File { name: *name, executable: true },
            InputMode::Tree => TreeEntry::Directory(*name),
        })
    }

    /// The tree that the command was given at a path, as an input of its own or inside one.
    fn given_tree(&self, path: &Path) -> Result<Option<Tree>, CliError> {
        for outer in path.ancestors() {
            let Some(TreeEntry::Directory(mut name)) = self.given(outer) else { continue };
            let below = path.strip_prefix(outer).unwrap_or(Path::new(""));
            for component in below.iter().filter_map(|component| component.to_str()) {
                match self.store.read_tree(name)?.get(component) {
                    Some(TreeEntry::Directory(inner)) => name = *inner,
                    _ => return Ok(None),
                }
            }
            return Ok(Some(self.store.read_tree(name)?));
        }
        Ok(None)
    }
}

/// The mode of the file that is replaced, unless whether it may be executed changes.
fn kept_mode(found: &Metadata, executable: bool) -> Option<u32> {
    let mode = found.permissions().mode() & 0o777;
    (found.is_file() && (mode & 0o111 != 0) == executable).then_some(mode)
}

fn link(target: &str, path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path).is_ok_and(|found| !found.is_dir()) {
        fs::remove_file(path)?;
    }
    symlink(target, path)
}

fn is_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}
