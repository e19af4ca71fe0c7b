//! Blobs: bytes under their name.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::SystemTime;

use mesh_protocol::name::{Digest, Hasher};

use crate::error::StoreError;
use crate::layout::{Layout, fan_out};

/// How an object becomes a file of the user's.
#[derive(Clone, Debug)]
pub struct ExportOptions {
    /// Permission bits.
    pub mode: u32,
    /// Modification time; now if none.
    pub mtime: Option<SystemTime>,
}

impl Default for ExportOptions {
    fn default() -> Self {
        Self { mode: 0o644, mtime: None }
    }
}

const CHUNK: usize = 128 * 1024;

/// Copies all of `from`, and says what it was.
pub(crate) fn copy_hashed(from: &mut dyn Read, to: &mut dyn Write) -> Result<Digest, CopyError> {
    let mut hasher = Hasher::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(count) => {
                hasher.update(&chunk[..count]);
                to.write_all(&chunk[..count]).map_err(CopyError::Write)?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(CopyError::Read(error)),
        }
    }
}

/// Which end of a copy failed.
pub(crate) enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

impl CopyError {
    pub(crate) fn at(from: &Path, to: &Path) -> impl FnOnce(Self) -> StoreError {
        move |error| match error {
            Self::Read(error) => StoreError::at(from)(error),
            Self::Write(error) => StoreError::at(to)(error),
        }
    }
}

/// What was to be removed may have been gone already.
pub(crate) fn gone(removed: io::Result<()>, path: &Path) -> Result<(), StoreError> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::at(path)(error)),
        _ => Ok(()),
    }
}

impl Layout {
    /// Is a file of the right length there?
    pub(crate) fn has_blob(&self, name: Digest) -> bool {
        let found = fs::symlink_metadata(self.blob(name));
        found.is_ok_and(|found| found.is_file() && found.len() == name.length)
    }

    pub(crate) fn put_bytes(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let name = Digest::of(bytes);
        if !self.has_blob(name) {
            let mut file = self.temporary_file()?;
            let written = file.write_all(bytes);
            written.map_err(StoreError::at(file.path()))?;
            self.place(file, &self.blob(name), 0o444)?;
        }
        Ok(name)
    }

    pub(crate) fn put_file(&self, from: &mut File, path: &Path) -> Result<Digest, StoreError> {
        let mut file = self.temporary_file()?;
        let to = file.path().to_owned();
        let name = copy_hashed(from, &mut file).map_err(CopyError::at(path, &to))?;
        if !self.has_blob(name) {
            self.place(file, &self.blob(name), 0o444)?;
        }
        Ok(name)
    }

    pub(crate) fn temporary_file(&self) -> Result<tempfile::NamedTempFile, StoreError> {
        let directory = self.temporary();
        tempfile::NamedTempFile::new_in(&directory).map_err(StoreError::at(&directory))
    }

    /// Gives a finished temporary file its place and mode, over whatever stood there.
    pub(crate) fn place(
        &self,
        file: tempfile::NamedTempFile,
        path: &Path,
        mode: u32,
    ) -> Result<(), StoreError> {
        file.as_file()
            .set_permissions(Permissions::from_mode(mode))
            .map_err(StoreError::at(path))?;
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(StoreError::at(directory))?;
        }
        file.persist(path).map_err(|error| StoreError::at(path)(error.error))?;
        Ok(())
    }

    pub(crate) fn open_blob(&self, name: Digest) -> Result<File, StoreError> {
        let path = self.blob(name);
        let file = File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StoreError::Missing(name),
            _ => StoreError::at(&path)(error),
        })?;
        if file.metadata().map_err(StoreError::at(&path))?.len() != name.length {
            return Err(self.quarantine(name));
        }
        Ok(file)
    }

    pub(crate) fn read(&self, name: Digest, bytes_max: u64) -> Result<Vec<u8>, StoreError> {
        if name.length > bytes_max {
            return Err(StoreError::TooLarge { name, max: bytes_max });
        }
        let mut bytes = Vec::with_capacity(name.length as usize);
        let file = self.open_blob(name)?;
        file.take(name.length).read_to_end(&mut bytes).map_err(StoreError::at(&self.blob(name)))?;
        if Digest::of(&bytes) != name {
            return Err(self.quarantine(name));
        }
        Ok(bytes)
    }

    /// Reads a blob to its end and compares; a bad one goes to quarantine.
    pub(crate) fn check(&self, name: Digest) -> Result<(), StoreError> {
        let path = self.blob(name);
        let mut file = self.open_blob(name)?;
        let found = copy_hashed(&mut file, &mut io::sink()).map_err(CopyError::at(&path, &path))?;
        if found == name { Ok(()) } else { Err(self.quarantine(name)) }
    }

    /// Puts a bad blob, and all that was made from it, where nobody will take it for good.
    pub(crate) fn quarantine(&self, name: Digest) -> StoreError {
        let path = self.blob(name);
        let moved = fs::rename(&path, self.quarantined(name));
        let twin = self.root.join(fan_out("exec", name));
        // Laid-out trees may hold the bad file by another name; they are made again when needed.
        let derived = gone(fs::remove_file(&twin), &twin).and_then(|()| self.remove_trees());
        match derived.and_then(|()| gone(moved, &path)) {
            Ok(()) => StoreError::Corrupt(name),
            Err(error) => error,
        }
    }

    /// Removes every laid-out tree.
    pub(crate) fn remove_trees(&self) -> Result<(), StoreError> {
        let trees = self.root.join("trees");
        for entry in fs::read_dir(&trees).map_err(StoreError::at(&trees))? {
            let path = entry.map_err(StoreError::at(&trees))?.path();
            gone(fs::remove_dir_all(&path), &path)?;
        }
        Ok(())
    }

    /// Copies a blob to a path of the user's: written beside it, compared with its name, renamed.
    pub(crate) fn export(
        &self,
        name: Digest,
        to: &Path,
        options: &ExportOptions,
    ) -> Result<(), StoreError> {
        let mut from = self.open_blob(name)?;
        let directory = match to.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let beside = tempfile::Builder::new().prefix(".mesh-").tempfile_in(directory);
        let mut file = beside.map_err(StoreError::at(to))?;
        let found =
            copy_hashed(&mut from, &mut file).map_err(CopyError::at(&self.blob(name), to))?;
        if found != name {
            return Err(self.quarantine(name));
        }
        let handle = file.as_file();
        handle.set_permissions(Permissions::from_mode(options.mode)).map_err(StoreError::at(to))?;
        if let Some(mtime) = options.mtime {
            handle.set_modified(mtime).map_err(StoreError::at(to))?;
        }
        file.persist(to).map_err(|error| StoreError::at(to)(error.error))?;
        Ok(())
    }

    /// The twin of a blob that may be executed, made when it is first asked for.
    pub(crate) fn executable(&self, name: Digest) -> Result<std::path::PathBuf, StoreError> {
        let relative = fan_out("exec", name);
        let path = self.root.join(&relative);
        let there = fs::symlink_metadata(&path).is_ok_and(|found| found.len() == name.length);
        if !there {
            let mut from = self.open_blob(name)?;
            let mut file = self.temporary_file()?;
            let copied = copy_hashed(&mut from, &mut file);
            if copied.map_err(CopyError::at(&self.blob(name), &path))? != name {
                return Err(self.quarantine(name));
            }
            self.place(file, &path, 0o555)?;
        }
        Ok(relative)
    }
}
