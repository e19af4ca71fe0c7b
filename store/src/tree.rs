//! Directories in and out of the store.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use mesh_protocol::limits;
use mesh_protocol::name::{Digest, Hasher, ValueName};
use mesh_protocol::tree::{Tree, TreeEntry};

use crate::Store;
use crate::blob::Place;
use crate::error::{Context, StoreError};
use crate::files;
use crate::layout;
use crate::options::ExportOptions;
use crate::sys::{self, Temporary};

impl Store {
    /// Stores a directory with everything below it; the name is that of its tree.
    ///
    /// Symbolic links are kept as links. Files are remembered by the stat cache. Sockets, pipes
    /// and devices, and names that are not UTF-8, are errors.
    pub fn put_tree(&self, dir: &Path) -> Result<ValueName, StoreError> {
        self.put_tree_at(dir, 0)
    }

    fn put_tree_at(&self, dir: &Path, depth: usize) -> Result<ValueName, StoreError> {
        check_depth(dir, depth)?;
        let mut entries = BTreeMap::new();
        for entry in fs::read_dir(dir).at("list", dir)? {
            let entry = entry.at("list", dir)?;
            let path = entry.path();
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
                return Err(StoreError::Unsupported { path, problem: "not a name in UTF-8" });
            };
            let kind = entry.file_type().at("look at", &path)?;
            let stored = if kind.is_dir() {
                TreeEntry::Directory(self.put_tree_at(&path, depth + 1)?)
            } else if kind.is_symlink() {
                TreeEntry::Symlink(read_link(&path)?)
            } else {
                let file = self.name_file(&path)?;
                TreeEntry::File { name: file.name, executable: file.executable }
            };
            entries.insert(name, stored);
        }
        let tree = Tree::new(entries).map_err(|source| StoreError::form(dir.display(), source))?;
        self.put_tree_value(&tree)
    }

    /// Stores a tree that describes objects which are, or will be, in the store.
    pub fn put_tree_value(&self, tree: &Tree) -> Result<ValueName, StoreError> {
        let bytes = tree.encode().map_err(|source| StoreError::form("the tree", source))?;
        Ok(ValueName(self.put_bytes(&bytes)?))
    }

    /// Reads a tree.
    pub fn read_tree(&self, name: ValueName) -> Result<Tree, StoreError> {
        let digest = name.digest();
        let bytes = self.read(digest, limits::TREE_BYTES)?;
        Tree::decode(&bytes).map_err(|source| StoreError::form(name, source))
    }

    /// Writes a directory: files with mode 0644 or 0755, new ones of everything. Directories that
    /// are there already are filled; other files in them stay.
    pub fn export_tree(&self, name: ValueName, dest: &Path) -> Result<(), StoreError> {
        self.export_tree_at(name, dest, 0)
    }

    fn export_tree_at(&self, name: ValueName, dest: &Path, depth: usize) -> Result<(), StoreError> {
        check_depth(dest, depth)?;
        let tree = self.read_tree(name)?;
        match fs::create_dir(dest) {
            // A link to a directory would lead out of what was asked for.
            Err(error) if error.kind() == ErrorKind::AlreadyExists && is_directory(dest) => {}
            result => result.at("create", dest)?,
        }
        for (entry_name, entry) in tree.entries() {
            let path = dest.join(entry_name);
            match entry {
                TreeEntry::File { name, executable } => {
                    let mode = if *executable { 0o755 } else { 0o644 };
                    self.export(name.digest(), &path, &ExportOptions { mode, mtime: None })?;
                }
                TreeEntry::Directory(name) => self.export_tree_at(*name, &path, depth + 1)?,
                TreeEntry::Symlink(target) => {
                    if fs::symlink_metadata(&path).is_ok_and(|found| !found.is_dir()) {
                        sys::remove(&path)?;
                    }
                    symlink(target, &path).at("create", &path)?;
                }
            }
        }
        Ok(())
    }

    /// A directory that looks like the tree, below the root: `trees/<hex>`. Made once, of hard
    /// links, and shared: it must not be written to. Meant as a bind source or the lower layer of
    /// an overlay. Its directories and links have the time of objects.
    pub fn tree_directory(&self, name: ValueName) -> Result<PathBuf, StoreError> {
        let digest = name.digest();
        let relative = layout::relative_tree_path(digest);
        let path = self.shared().layout.path(&relative);
        let blobs = &self.shared().blobs;
        let is_there = || blobs.touch(Place::Tree, digest) && path.is_dir();
        if is_there() && has_object_mtime(&path) && blobs.is_sound_tree(digest) {
            return Ok(relative);
        }
        let _maker = blobs.making.begin((Place::Tree, digest));
        if is_there() {
            // One that an earlier version made may be in use: only its times are changed.
            if !has_object_mtime(&path) {
                set_times(&path, 0)?;
            }
            if blobs.is_sound_tree(digest) {
                return Ok(relative);
            }
            if self.is_laid_out(name, &path, 0)? {
                blobs.know_sound_tree(digest);
                return Ok(relative);
            }
        }
        // Made anew of what is left; an object that is bad is an error there.
        sys::move_aside(&path, &self.shared().layout.tmp(), "tree-")?;
        let temporary = Temporary::directory(&self.shared().layout.tmp())?;
        self.link_tree(name, temporary.path(), 0)?;
        temporary.persist_unless_there(&path)?;
        blobs.touch(Place::Tree, digest);
        blobs.know_sound_tree(digest);
        Ok(relative)
    }

    /// Are the files of a materialised tree those that it names, with the right bytes? An object
    /// that is found bad goes to quarantine.
    fn is_laid_out(&self, name: ValueName, dir: &Path, depth: usize) -> Result<bool, StoreError> {
        check_depth(dir, depth)?;
        for (entry_name, entry) in self.read_tree(name)?.entries() {
            let path = dir.join(entry_name);
            let is_right = match entry {
                TreeEntry::File { name, executable } => {
                    self.is_laid_out_file(name.digest(), *executable, &path)?
                }
                TreeEntry::Directory(name) => {
                    is_directory(&path) && self.is_laid_out(*name, &path, depth + 1)?
                }
                TreeEntry::Symlink(target) => {
                    fs::read_link(&path).is_ok_and(|found| found.as_os_str() == target.as_str())
                }
            };
            if !is_right {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn is_laid_out_file(
        &self,
        digest: Digest,
        executable: bool,
        path: &Path,
    ) -> Result<bool, StoreError> {
        let source = self.sound_source(digest, executable)?;
        let (Ok(source), Ok(link)) = (fs::symlink_metadata(&source), fs::symlink_metadata(path))
        else {
            return Ok(false);
        };
        if (source.dev(), source.ino()) == (link.dev(), link.ino()) {
            return Ok(true);
        }
        // A copy, where there were too many links; or the object was made anew since.
        let file = match files::open(path, fs::OpenOptions::new().read(true)) {
            Ok(file) => file,
            Err(_) => return Ok(false),
        };
        let mut hasher = Hasher::new();
        let read = sys::read_through(&file, |bytes| {
            hasher.update(bytes);
            Ok(())
        });
        Ok(read.is_ok() && hasher.finish() == digest)
    }

    /// Where the checked bytes are that a file of a materialised tree is linked to.
    fn sound_source(&self, digest: Digest, executable: bool) -> Result<PathBuf, StoreError> {
        let relative = match executable {
            true => self.executable_blob(digest)?,
            false => self.checked_blob(digest)?,
        };
        Ok(self.shared().layout.path(relative))
    }

    fn link_tree(&self, name: ValueName, dir: &Path, depth: usize) -> Result<(), StoreError> {
        check_depth(dir, depth)?;
        sys::make_listable(dir)?;
        for (entry_name, entry) in self.read_tree(name)?.entries() {
            let path = dir.join(entry_name);
            match entry {
                TreeEntry::File { name, executable } => {
                    self.link_object(name.digest(), *executable, &path)?;
                }
                TreeEntry::Directory(name) => {
                    fs::create_dir(&path).at("create", &path)?;
                    self.link_tree(*name, &path, depth + 1)?;
                }
                TreeEntry::Symlink(target) => {
                    symlink(target, &path).at("create", &path)?;
                    sys::set_object_mtime(&path)?;
                }
            }
        }
        sys::set_object_mtime(dir)
    }

    fn link_object(&self, digest: Digest, executable: bool, path: &Path) -> Result<(), StoreError> {
        let blobs = &self.shared().blobs;
        blobs.present(digest)?;
        let source = self.sound_source(digest, executable)?;
        let mode = if executable { 0o555 } else { 0o444 };
        match fs::hard_link(&source, path) {
            // The file system's limit of links (65,000 on ext4): an empty file reaches it.
            Err(error) if error.kind() == ErrorKind::TooManyLinks => blobs.export(
                digest,
                path,
                &ExportOptions { mode, mtime: Some(sys::object_mtime()) },
            ),
            result => {
                result.at("link", path)?;
                let place = if executable { Place::Executable } else { Place::Blob };
                blobs.relinked(place, digest);
                Ok(())
            }
        }
    }
}

/// That of a whole tree is set last.
fn has_object_mtime(path: &Path) -> bool {
    fs::symlink_metadata(path)
        .is_ok_and(|found| (found.mtime(), found.mtime_nsec()) == (sys::OBJECT_MTIME_S, 0))
}

/// Sets the times of a materialised tree's directories and links.
fn set_times(dir: &Path, depth: usize) -> Result<(), StoreError> {
    check_depth(dir, depth)?;
    for entry in fs::read_dir(dir).at("list", dir)? {
        let entry = entry.at("list", dir)?;
        let (path, kind) = (entry.path(), entry.file_type().at("look at", dir)?);
        if kind.is_dir() {
            set_times(&path, depth + 1)?;
        } else if kind.is_symlink() {
            sys::set_object_mtime(&path)?;
        }
    }
    sys::set_object_mtime(dir)
}

fn check_depth(path: &Path, depth: usize) -> Result<(), StoreError> {
    if depth > limits::TREE_DEPTH {
        let problem = "nested too deeply for a tree";
        return Err(StoreError::Unsupported { path: path.to_owned(), problem });
    }
    Ok(())
}

fn is_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

fn read_link(path: &Path) -> Result<String, StoreError> {
    let target = fs::read_link(path).at("read", path)?;
    target.into_os_string().into_string().map_err(|_| StoreError::Unsupported {
        path: path.to_owned(),
        problem: "a link whose text is not UTF-8",
    })
}
