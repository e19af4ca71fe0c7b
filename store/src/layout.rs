//! Where things are below the root, and which disk format they have.
//!
//! ```text
//! VERSION                of the disk format
//! blobs/ab/cdef…-123     objects, mode 0444, by hash and length
//! exec/ab/cdef…-123      the same bytes, mode 0555, made on demand
//! trees/<hex>/…          materialised trees: hard links of the two above
//! log                    reductions, pins, tombstones           (log.lock: who appends)
//! puts                   what people put here, for others to be told of it; may be deleted
//! durable                up to when blobs are known to be on the disk, not only in its cache
//! index/sled  index/clean  what can be rebuilt                  (index.lock: who owns it)
//! sessions/…             one locked file per process that has the store open
//! tmp/…                  what is being written
//! quarantine/…           damaged objects
//! ```
//!
//! Objects are copies of the user's files, private ones too, and readable for all: jobs, which may run
//! as somebody else, read them. So nobody but them comes past the root: see [`sys::close_to_others`].

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use mesh_protocol::name::Digest;

use crate::error::{Context, StoreError};
use crate::files;
use crate::sys;

/// What `VERSION` holds.
const VERSION: &str = "2\n";

/// More than any version takes.
const VERSION_BYTES_MAX: u64 = 64;

/// The directories and files of one store.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
}

/// The directories whose names are fixed.
const DIRECTORIES: [&str; 7] = ["blobs", "exec", "trees", "index", "sessions", "tmp", "quarantine"];

impl Layout {
    /// Makes what is missing; checks the version of what is there.
    pub(crate) fn open(root: &Path) -> Result<Self, StoreError> {
        let layout = Self { root: root.to_owned() };
        let format = layout.path("VERSION");
        match files::read(&format, VERSION_BYTES_MAX) {
            Ok(found) if found == VERSION.as_bytes() => {
                sys::close_to_others(&layout.root)?;
                layout.make_directories()?;
                Ok(layout)
            }
            Ok(found) => {
                let found = String::from_utf8_lossy(&found).into_owned();
                Err(StoreError::Version { path: format, found, known: VERSION })
            }
            Err(error) if error.kind() == ErrorKind::NotFound => layout.create(&format),
            Err(error) => Err(StoreError::io("read", &format, error)),
        }
    }

    fn make_directories(&self) -> Result<(), StoreError> {
        DIRECTORIES.iter().try_for_each(|name| sys::create_directory(&self.path(name)))
    }

    fn create(self, format: &Path) -> Result<Self, StoreError> {
        files::create_private_directory(&self.root).at("create", &self.root)?;
        sys::close_to_others(&self.root)?;
        self.make_directories()?;
        // Last, so that it speaks for a complete layout.
        let temporary = sys::Temporary::file(&self.path("tmp"))?;
        temporary.write_all(VERSION.as_bytes())?;
        rustix::fs::fchmod(temporary.file_handle(), 0o644.into()).at("write", format)?;
        temporary.persist(format)?;
        Ok(self)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.path("tmp")
    }

    pub(crate) fn blob(&self, digest: Digest) -> PathBuf {
        self.path(relative_blob_path(digest))
    }

    pub(crate) fn executable(&self, digest: Digest) -> PathBuf {
        self.path(relative_executable_path(digest))
    }

    pub(crate) fn tree(&self, digest: Digest) -> PathBuf {
        self.path(relative_tree_path(digest))
    }
}

fn fan_out(top: &str, digest: Digest) -> PathBuf {
    let text = digest.to_string();
    let mut path = String::with_capacity(top.len() + 2 + text.len());
    path.extend([top, "/", &text[..2], "/", &text[2..]]);
    path.into()
}

pub(crate) fn relative_blob_path(digest: Digest) -> PathBuf {
    fan_out("blobs", digest)
}

pub(crate) fn relative_executable_path(digest: Digest) -> PathBuf {
    fan_out("exec", digest)
}

pub(crate) fn relative_tree_path(digest: Digest) -> PathBuf {
    Path::new("trees").join(digest.to_string())
}

/// The digest that a file of the fan-out stands for, by the names of its directory and itself.
pub(crate) fn digest_of_entry(prefix: &str, rest: &str) -> Option<Digest> {
    format!("{prefix}{rest}").parse().ok()
}
