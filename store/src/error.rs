//! What can go wrong, with the path it went wrong at.

use std::io;
use std::path::{Path, PathBuf};

use mesh_protocol::name::Digest;
use thiserror::Error;

/// Why the store could not do something.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The disk, or the user's share of it, is full. Nothing half-written was left behind.
    #[error("no space left on the disk that holds {}", path.display())]
    Full {
        /// What was being written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused something.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has not let go of a lock in time: it is stopped, or stuck.
    #[error(
        "{} has been locked for {seconds} s by {}",
        path.display(),
        holder.as_deref().unwrap_or("another process")
    )]
    Locked {
        /// The file that is locked.
        path: PathBuf,
        /// How long it was waited for.
        seconds: u64,
        /// The process that holds it, if the kernel tells.
        holder: Option<String>,
    },
    /// The object is not here.
    #[error("{0} is not in the store")]
    Missing(Digest),
    /// The bytes on disk are not those that the name stands for; they are in `quarantine/` now.
    #[error("the stored bytes of {0} were damaged; they were moved to quarantine")]
    Corrupt(Digest),
    /// More bytes than the caller is ready to take.
    #[error("{digest} is longer than the {max} bytes that are allowed here")]
    TooLarge {
        /// The object.
        digest: Digest,
        /// The bound.
        max: u64,
    },
    /// The bytes are not what they are used as, or something cannot be put into bytes.
    #[error("{what} has not the form that is wanted here")]
    Form {
        /// What it is about.
        what: String,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Neither a regular file nor, where that is allowed, a directory or symbolic link; or a name
    /// that is not UTF-8; or directories nested too deeply.
    #[error("{} is {problem}", path.display())]
    Unsupported {
        /// What it is about.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The directory was written by a program with another disk format.
    #[error("{} has disk format {found:?}; this program knows {known:?}", path.display())]
    Version {
        /// The file that says so.
        path: PathBuf,
        /// What it says.
        found: String,
        /// What this program would write.
        known: &'static str,
    },
}

impl StoreError {
    /// Wraps what the system said; a full disk gets its own variant.
    pub(crate) fn io(action: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        let (path, source) = (path.to_owned(), source.into());
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::Full { path, source }
            }
            _ => Self::Io { action, path, source },
        }
    }

    /// Is it that the object is missing or has just been found damaged, so that making it again
    /// would help?
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing(_) | Self::Corrupt(_))
    }
}

impl StoreError {
    pub(crate) fn form(
        what: impl ToString,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self::Form { what: what.to_string(), source: Box::new(source) }
    }
}

/// Adds the action and the path to a system error.
pub(crate) trait Context<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, StoreError>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, StoreError> {
        self.map_err(|error| StoreError::io(action, path, error))
    }
}
