//! Directories as values, and back.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use mesh_protocol::limits;
use mesh_protocol::name::{Digest, ValueName};
use mesh_protocol::tree::{Tree, TreeEntry};

use crate::blob::ExportOptions;
use crate::error::StoreError;
use crate::store::Store;

impl Store {
    /// Stores the bytes of one tree; what it names must be stored by the caller.
    pub fn put_tree_value(&self, tree: &Tree) -> Result<ValueName, StoreError> {
        let form = |error: mesh_protocol::codec::CodecError| StoreError::Form {
            name: Digest::of(b""),
            reason: error.to_string(),
        };
        Ok(ValueName(self.put_bytes(&tree.encode().map_err(form)?)?))
    }

    /// Reads one tree.
    pub fn read_tree(&self, name: ValueName) -> Result<Tree, StoreError> {
        let bytes = self.read(name.digest(), limits::TREE_BYTES)?;
        Tree::decode(&bytes)
            .map_err(|error| StoreError::Form { name: name.digest(), reason: error.to_string() })
    }

    /// Stores a directory with everything below it.
    pub fn put_tree(&self, directory: &Path) -> Result<ValueName, StoreError> {
        self.put_directory(directory, 0)
    }

    fn put_directory(&self, directory: &Path, depth: usize) -> Result<ValueName, StoreError> {
        let unsupported =
            |path: &Path, reason| StoreError::Unsupported { path: path.to_owned(), reason };
        if depth > limits::TREE_DEPTH {
            return Err(unsupported(directory, "directories nest too deep"));
        }
        let mut entries = BTreeMap::new();
        for entry in fs::read_dir(directory).map_err(StoreError::at(directory))? {
            let entry = entry.map_err(StoreError::at(directory))?;
            let path = entry.path();
            let Ok(name) = entry.file_name().into_string() else {
                return Err(unsupported(&path, "its name is not UTF-8"));
            };
            let kind = entry.file_type().map_err(StoreError::at(&path))?;
            let stored = if kind.is_dir() {
                TreeEntry::Directory(self.put_directory(&path, depth + 1)?)
            } else if kind.is_symlink() {
                let target = fs::read_link(&path).map_err(StoreError::at(&path))?;
                let target = target.into_os_string().into_string();
                TreeEntry::Symlink(target.map_err(|_| unsupported(&path, "not a UTF-8 link"))?)
            } else {
                let file = self.name_file(&path)?;
                TreeEntry::File { name: file.name, executable: file.executable }
            };
            entries.insert(name, stored);
        }
        let tree = Tree::new(entries)
            .map_err(|_| unsupported(directory, "it has an entry with an impossible name"))?;
        self.put_tree_value(&tree)
    }

    /// Writes a tree as ordinary, changeable files into `to`, which is made and must not exist.
    pub fn export_tree(&self, name: ValueName, to: &Path) -> Result<(), StoreError> {
        fs::create_dir(to).map_err(StoreError::at(to))?;
        for (entry, found) in self.read_tree(name)?.entries() {
            let path = to.join(entry);
            match found {
                TreeEntry::File { name, executable } => {
                    let mode = if *executable { 0o755 } else { 0o644 };
                    self.export(name.digest(), &path, &ExportOptions { mode, mtime: None })?;
                }
                TreeEntry::Directory(name) => self.export_tree(*name, &path)?,
                TreeEntry::Symlink(target) => {
                    symlink(target, &path).map_err(StoreError::at(&path))?;
                }
            }
        }
        Ok(())
    }

    /// A read-only directory laid out from a tree, made once: its path below the store's root.
    ///
    /// Its files are hard links to blobs; whoever shows it to a program must do so read-only.
    pub fn tree_directory(&self, name: ValueName) -> Result<PathBuf, StoreError> {
        let relative = Path::new("trees").join(name.digest().to_string());
        let path = self.layout().root.join(&relative);
        if path.is_dir() {
            return Ok(relative);
        }
        let beside = tempfile::tempdir_in(self.layout().temporary());
        let beside = beside.map_err(StoreError::at(&path))?;
        let made = beside.path().join("tree");
        self.lay_out(name, &made)?;
        match fs::rename(&made, &path) {
            Ok(()) => Ok(relative),
            Err(_) if path.is_dir() => Ok(relative),
            Err(error) => Err(StoreError::at(&path)(error)),
        }
    }

    fn lay_out(&self, name: ValueName, to: &Path) -> Result<(), StoreError> {
        fs::create_dir(to).map_err(StoreError::at(to))?;
        fs::set_permissions(to, Permissions::from_mode(0o755)).map_err(StoreError::at(to))?;
        for (entry, found) in self.read_tree(name)?.entries() {
            let path = to.join(entry);
            match found {
                TreeEntry::File { name, executable: false } => {
                    self.open_blob(name.digest())?;
                    let blob = self.layout().blob(name.digest());
                    fs::hard_link(blob, &path).map_err(StoreError::at(&path))?;
                }
                TreeEntry::File { name, executable: true } => {
                    let twin = self.layout().root.join(self.executable_blob(name.digest())?);
                    fs::hard_link(twin, &path).map_err(StoreError::at(&path))?;
                }
                TreeEntry::Directory(name) => self.lay_out(*name, &path)?,
                TreeEntry::Symlink(target) => {
                    symlink(target, &path).map_err(StoreError::at(&path))?;
                }
            }
        }
        Ok(())
    }
}
