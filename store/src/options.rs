//! What callers may choose.

use std::path::PathBuf;
use std::time::SystemTime;

use crate::gc::QUOTA_BYTES_DEFAULT;

/// How to open a store.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoreOptions {
    /// The directory that holds everything; made if it is missing.
    pub root: PathBuf,
    /// What the store is kept to, in bytes, apart from what is pinned or in use.
    pub quota_bytes: u64,
    /// Are results brought to the disk itself, in groups and before the store closes? Without it
    /// they survive the death of the process, but what was written last may not survive a power
    /// cut (what did survive is still checked before use).
    pub durable: bool,
    /// Stands in for the kernel's boot id: tests pretend a power cut with it.
    #[doc(hidden)]
    pub boot_id: Option<String>,
}

impl StoreOptions {
    /// A durable store in `root` with the default quota.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), quota_bytes: QUOTA_BYTES_DEFAULT, durable: true, boot_id: None }
    }

    /// Another quota.
    pub fn quota_bytes(mut self, bytes: u64) -> Self {
        self.quota_bytes = bytes;
        self
    }

    /// Durable or not.
    pub fn durable(mut self, durable: bool) -> Self {
        self.durable = durable;
        self
    }
}

/// How an exported file looks.
#[derive(Clone, Debug)]
pub struct ExportOptions {
    /// Permission bits.
    pub mode: u32,
    /// Modification time; the present if none.
    pub mtime: Option<SystemTime>,
}

impl Default for ExportOptions {
    fn default() -> Self {
        Self { mode: 0o644, mtime: None }
    }
}
