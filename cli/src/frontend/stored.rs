//! The host's files as they are, their contents in a store.

use std::collections::HashMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use mesh_protocol::limits;
use mesh_protocol::name::ValueName;
use mesh_protocol::thunk::Source;
use mesh_store::{Store, StoreError};

use super::identity::{Inode, Stamp};
use super::plan::{FileSource, Files, ReadError};

/// [`Files`] over a store: what is named is in the store from then on.
///
/// The store has a stat cache on disk; this one spares a build that looks at the same thousand
/// headers in every call even the look into that.
pub struct StoreFiles {
    store: Store,
    names: RwLock<HashMap<Inode, (Stamp, ValueName)>>,
}

impl StoreFiles {
    /// Nothing known yet.
    pub fn new(store: Store) -> Self {
        Self { store, names: RwLock::default() }
    }

    /// What is at `path` by its own metadata.
    pub fn source_of(&self, path: &Path, metadata: &Metadata) -> io::Result<FileSource> {
        let stamp = Stamp::of(metadata);
        let name = match self.known(&stamp) {
            Some(name) => name,
            None => self.name(path, &stamp)?,
        };
        let executable = metadata.permissions().mode() & 0o111 != 0;
        Ok(FileSource { source: Source::Value(name), executable })
    }

    fn known(&self, stamp: &Stamp) -> Option<ValueName> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        names.get(&stamp.inode()).filter(|(known, _)| known == stamp).map(|(_, name)| *name)
    }

    fn name(&self, path: &Path, stamp: &Stamp) -> io::Result<ValueName> {
        let settled = stamp.is_settled();
        let named = self.store.name_file(path).map_err(into_io)?;
        if settled {
            self.learn(*stamp, named.name);
        }
        Ok(named.name)
    }

    /// Takes somebody's word for it that the file that looks so has these bytes. Whoever says so
    /// has just written it, and calls [`StoreFiles::forget`] when anybody else is about to.
    pub fn know(&self, metadata: &Metadata, name: ValueName) {
        self.learn(Stamp::of(metadata), name);
    }

    fn learn(&self, stamp: Stamp, name: ValueName) {
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        names.insert(stamp.inode(), (stamp, name));
    }

    /// The file is about to change, perhaps within one tick of the file system's clock.
    pub fn forget(&self, metadata: &Metadata) {
        let inode = Inode::of(metadata);
        let is_known = {
            let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
            names.contains_key(&inode)
        };
        if is_known {
            self.names.write().unwrap_or_else(PoisonError::into_inner).remove(&inode);
        }
    }
}

impl Files for StoreFiles {
    fn source(&self, path: &Path) -> io::Result<Option<FileSource>> {
        match regular_file(path)? {
            Some(metadata) => self.source_of(path, &metadata).map(Some),
            None => Ok(None),
        }
    }

    fn read(&self, path: &Path) -> Result<Arc<[u8]>, ReadError> {
        match std::fs::read(path) {
            Ok(bytes) => Ok(bytes.into()),
            Err(error) if is_missing(&error) => Err(ReadError::Missing),
            Err(error) => Err(ReadError::Io(error)),
        }
    }

    fn put(&self, bytes: &[u8]) -> io::Result<ValueName> {
        debug_assert!(bytes.len() as u64 <= limits::TREE_BYTES, "trees are bounded when made");
        self.store.put_bytes(bytes).map(ValueName).map_err(into_io)
    }
}

/// The metadata of the regular file at `path`, links followed. None if there is none.
pub fn regular_file(path: &Path) -> io::Result<Option<Metadata>> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(metadata.is_file().then_some(metadata)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn into_io(error: StoreError) -> io::Error {
    match error {
        StoreError::Io { ref source, .. } => io::Error::new(source.kind(), error.to_string()),
        StoreError::Full { .. } => io::Error::new(io::ErrorKind::StorageFull, error),
        other => io::Error::other(other),
    }
}
