//! From a file of the user's to its name, without reading it again while it has not changed.
//!
//! A file is taken as unchanged while device, inode, size, mtime and ctime (in ns) are what they
//! were when it was hashed. A file that was changed within the clock's last tick before it was read
//! could change again without any of these changing, so such a file is hashed every time, as git
//! does with its "racily clean" entries.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use mesh_protocol::name::ValueName;

use crate::error::StoreError;

/// Which file, whatever its path.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct FileIdentity {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

/// What changes when its content does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FileState {
    pub(crate) size: u64,
    pub(crate) mtime_ns: i64,
    pub(crate) ctime_ns: i64,
}

/// A file of the user's whose content is in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedFile {
    /// Its content.
    pub name: ValueName,
    /// Has it an execute bit?
    pub executable: bool,
}

/// Two kernel ticks at 100 Hz: file times come from the tick, not from the clock.
const RACY_NS: i64 = 20_000_000;

pub(crate) fn identity(found: &Metadata) -> FileIdentity {
    FileIdentity { device: found.dev(), inode: found.ino() }
}

pub(crate) fn state(found: &Metadata) -> FileState {
    let ns = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
    FileState {
        size: found.len(),
        mtime_ns: ns(found.mtime(), found.mtime_nsec()),
        ctime_ns: ns(found.ctime(), found.ctime_nsec()),
    }
}

/// Could the file have changed after it was looked at, at `now_ns`, without a trace?
pub(crate) fn is_racy(state: FileState, now_ns: i64) -> bool {
    state.mtime_ns.max(state.ctime_ns) > now_ns.saturating_sub(RACY_NS)
}

pub(crate) fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Opens a regular file and says what it was like.
pub(crate) fn open(path: &Path) -> Result<(File, Metadata), StoreError> {
    let found = std::fs::metadata(path).map_err(StoreError::at(path))?;
    if !found.is_file() {
        let reason = "it is not a regular file";
        return Err(StoreError::Unsupported { path: path.to_owned(), reason });
    }
    let file = File::open(path).map_err(StoreError::at(path))?;
    let found = file.metadata().map_err(StoreError::at(path))?;
    Ok((file, found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_changed_in_this_tick_is_not_trusted() {
        let state = FileState { size: 1, mtime_ns: 1_000_000_000, ctime_ns: 990_000_000 };
        assert!(is_racy(state, 1_000_000_000));
        assert!(is_racy(state, 1_019_000_000));
        assert!(!is_racy(state, 1_021_000_000));
        // A file from the future (a copied or set mtime) stays untrusted until then.
        assert!(is_racy(FileState { mtime_ns: i64::MAX, ..state }, 1_021_000_000));
    }
}
