//! The host's files as the frontends see them during a build: placeholders stand for outputs.

use std::io;
use std::path::Path;
use std::sync::Arc;

use mesh_cli::frontend::{FileSource, Files, Inode, ReadError, StoreFiles, regular_file};
use mesh_protocol::name::{OutputRef, ValueName};
use mesh_protocol::thunk::Source;
use mesh_store::Store;

use super::placeholder::{self, Placeholders};

/// [`Files`] of one build.
pub(crate) struct BuildFiles {
    pub(crate) stored: StoreFiles,
    pub(crate) placeholders: Placeholders,
}

impl BuildFiles {
    /// Files whose contents go to this store.
    pub(crate) fn new(store: Store, placeholders: Placeholders) -> Self {
        Self { stored: StoreFiles::new(store), placeholders }
    }

    /// What the placeholder at `path` stands for, whichever build made it.
    pub(crate) fn output_at(
        &self,
        path: &Path,
        metadata: &std::fs::Metadata,
    ) -> io::Result<Option<OutputRef>> {
        if let Some(output) = self.placeholders.output(Inode::of(metadata)) {
            return Ok(Some(output));
        }
        if metadata.len() > placeholder::BYTES_MAX || metadata.len() < placeholder::BYTES_MIN {
            return Ok(None);
        }
        placeholder::read(path)
    }
}

impl Files for BuildFiles {
    fn source(&self, path: &Path) -> io::Result<Option<FileSource>> {
        let Some(metadata) = regular_file(path)? else { return Ok(None) };
        if let Some(output) = self.output_at(path, &metadata)? {
            use std::os::unix::fs::PermissionsExt as _;
            let executable = metadata.permissions().mode() & 0o111 != 0;
            return Ok(Some(FileSource { source: Source::Output(output), executable }));
        }
        self.stored.source_of(path, &metadata).map(Some)
    }

    fn read(&self, path: &Path) -> Result<Arc<[u8]>, ReadError> {
        if let Some(metadata) = regular_file(path)?
            && self.output_at(path, &metadata)?.is_some()
        {
            return Err(ReadError::Placeholder);
        }
        self.stored.read(path)
    }

    fn put(&self, bytes: &[u8]) -> io::Result<ValueName> {
        self.stored.put(bytes)
    }
}
