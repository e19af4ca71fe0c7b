//! What can go wrong in the store.

use std::io;
use std::path::{Path, PathBuf};

use mesh_protocol::name::Digest;
use thiserror::Error;

/// Why the store could not do what it was asked to.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The disk is full. Nothing that was in the store before is harmed.
    #[error("no space left on the device that holds {path}")]
    Full {
        /// What was being written.
        path: PathBuf,
    },
    /// The object is not here.
    #[error("object {0} is not in the store")]
    Missing(Digest),
    /// The bytes on disk are not those of the name. They are in quarantine now.
    #[error("object {0} was found corrupt and has been put aside")]
    Corrupt(Digest),
    /// The object is larger than the caller can take.
    #[error("object {name} is larger than the {max} bytes that are allowed here")]
    TooLarge {
        /// The object.
        name: Digest,
        /// The bound, in bytes.
        max: u64,
    },
    /// An object that should describe something is not of that form.
    #[error("object {name} is not what it should be: {reason}")]
    Form {
        /// The object.
        name: Digest,
        /// What is wrong with it.
        reason: String,
    },
    /// A store of another version.
    #[error("{path} holds a store of version {found}; this program knows version {known}")]
    Version {
        /// The store.
        path: PathBuf,
        /// What its `VERSION` file says.
        found: String,
        /// What we write.
        known: &'static str,
    },
    /// A file in a directory cannot be named: its name is no UTF-8, or it is a device or a socket.
    #[error("{path} cannot be stored: {reason}")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: &'static str,
    },
    /// Any other trouble with the file system.
    #[error("{path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl StoreError {
    /// Puts the place to an error of the system; for use in `map_err`.
    pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::Full { path: path.to_owned() }
            }
            _ => Self::Io { path: path.to_owned(), source },
        }
    }
}
