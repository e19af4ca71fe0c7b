//! The host's files as they are: no placeholders, names cached by what `stat` says.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use mesh_protocol::name::{Hasher, ValueName};
use mesh_protocol::thunk::Source;

use super::identity::Stamp;
use super::plan::{FileSource, Files, ReadError};

/// [`Files`] without a store: for `mesh infer`'s dry runs, for tests and measurements.
///
/// What is put stays in memory.
#[derive(Default)]
pub struct HostFiles {
    names: RwLock<HashMap<PathBuf, (Stamp, ValueName)>>,
    put: Mutex<BTreeMap<ValueName, Arc<[u8]>>>,
}

impl HostFiles {
    /// Nothing known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The bytes that were put under this name.
    pub fn value(&self, name: &ValueName) -> Option<Arc<[u8]>> {
        self.put.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn known(&self, path: &Path, stamp: &Stamp) -> Option<ValueName> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        names.get(path).filter(|(known, _)| known == stamp).map(|(_, name)| *name)
    }
}

impl Files for HostFiles {
    fn source(&self, path: &Path) -> io::Result<Option<FileSource>> {
        let metadata = match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => metadata,
            Ok(_) => return Ok(None),
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let stamp = Stamp::of(&metadata);
        let name = match self.known(path, &stamp) {
            Some(name) => name,
            None => {
                let settled = stamp.is_settled();
                let name = name_of(path)?;
                if settled {
                    let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
                    names.insert(path.to_owned(), (stamp, name));
                }
                name
            }
        };
        let executable = metadata.permissions().mode() & 0o111 != 0;
        Ok(Some(FileSource { source: Source::Value(name), executable }))
    }

    fn read(&self, path: &Path) -> Result<Arc<[u8]>, ReadError> {
        match std::fs::read(path) {
            Ok(bytes) => Ok(bytes.into()),
            Err(error) if is_missing(&error) => Err(ReadError::Missing),
            Err(error) => Err(ReadError::Io(error)),
        }
    }

    fn put(&self, bytes: &[u8]) -> io::Result<ValueName> {
        let name = ValueName::of(bytes);
        self.put.lock().unwrap_or_else(PoisonError::into_inner).insert(name, bytes.into());
        Ok(name)
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn name_of(path: &Path) -> io::Result<ValueName> {
    let mut file = std::fs::File::open(path)?;
    let mut buffer = vec![0; 64 * 1024];
    let mut hasher = Hasher::new();
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(ValueName(hasher.finish())),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// How big a file is; none if there is no regular file.
pub(crate) fn size_of(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().filter(|m| m.is_file()).map(|m| m.size())
}
