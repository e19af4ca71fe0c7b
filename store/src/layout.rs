//! Where things are below the store's root.

use std::fs;
use std::path::{Path, PathBuf};

use mesh_protocol::name::Digest;

use crate::error::StoreError;

const VERSION: &str = "1";

/// The paths of one store.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) root: PathBuf,
}

impl Layout {
    /// Makes what is missing, and refuses a store of another version.
    pub(crate) fn create(root: PathBuf) -> Result<Self, StoreError> {
        let layout = Self { root };
        for name in ["blobs", "exec", "trees", "tmp", "index", "quarantine", "sessions"] {
            let path = layout.root.join(name);
            fs::create_dir_all(&path).map_err(StoreError::at(&path))?;
        }
        let path = layout.root.join("VERSION");
        match fs::read_to_string(&path) {
            Ok(found) if found.trim() == VERSION => Ok(layout),
            Ok(found) if found.trim().is_empty() => layout.write_version(&path),
            Ok(found) => {
                let found = found.trim().chars().take(32).collect();
                Err(StoreError::Version { path: layout.root, found, known: VERSION })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                layout.write_version(&path)
            }
            Err(error) => Err(StoreError::at(&path)(error)),
        }
    }

    fn write_version(self, path: &Path) -> Result<Self, StoreError> {
        fs::write(path, format!("{VERSION}\n")).map_err(StoreError::at(path))?;
        Ok(self)
    }

    pub(crate) fn temporary(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    pub(crate) fn blob(&self, name: Digest) -> PathBuf {
        self.root.join(fan_out("blobs", name))
    }

    pub(crate) fn quarantined(&self, name: Digest) -> PathBuf {
        self.root.join("quarantine").join(name.to_string())
    }
}

/// `kind/ab/cdef…-123`: 256 directories keep each small enough to list.
pub(crate) fn fan_out(kind: &str, name: Digest) -> PathBuf {
    let text = name.to_string();
    [kind, &text[..2], &text[2..]].iter().collect()
}

/// The digest of a file found in one of the 256 directories.
pub(crate) fn digest_of(directory: &str, file: &str) -> Option<Digest> {
    format!("{directory}{file}").parse().ok()
}
