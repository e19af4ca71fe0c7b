//! Has a file or directory changed since it was looked at?

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// File systems stamp times with a clock that ticks every few milliseconds (coarser on some), so
/// a change right after a look may leave the same stamp. What is younger than this is not trusted.
const TICK: Duration = Duration::from_millis(100);

/// Which file, whatever its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Inode {
    device: u64,
    number: u64,
}

impl Inode {
    /// The inode that a `stat` found.
    pub fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), number: metadata.ino() }
    }

    /// The inode with this number on this device.
    pub fn of_parts(device: u64, number: u64) -> Self {
        Self { device, number }
    }

    /// Device and inode number.
    pub fn parts(self) -> (u64, u64) {
        (self.device, self.number)
    }
}

/// What `stat` says that changes whenever the content does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Stamp {
    inode: Inode,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            inode: Inode::of(metadata),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    pub(crate) fn inode(&self) -> Inode {
        self.inode
    }

    /// The stamp of what is at `path`, behind symbolic links; none if nothing is.
    pub(crate) fn at(path: impl AsRef<std::path::Path>) -> Option<Self> {
        std::fs::metadata(path).ok().map(|metadata| Self::of(&metadata))
    }

    /// Is the last change long enough ago that a later one would show? Ask *before* reading.
    pub(crate) fn is_settled(&self) -> bool {
        self.age().is_some_and(|age| age > TICK)
    }

    /// How long ago the last change was; none if it lies in the future.
    pub(crate) fn age(&self) -> Option<Duration> {
        let latest = self.changed.max(self.modified);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
        let changed = Duration::new(latest.0.try_into().ok()?, latest.1.try_into().ok()?);
        now.checked_sub(changed)
    }
}
