//! Directory listings, cached as long as the directory does not change.
//!
//! The include search asks "is there an `x.h` in this directory?" hundreds of times per
//! translation unit, mostly in vain; one listing answers them all.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::identity::Stamp;

/// What stands behind one name of a directory, links not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Link,
    Other,
}

impl Kind {
    fn of(file_type: fs::FileType) -> Self {
        if file_type.is_file() {
            Self::File
        } else if file_type.is_dir() {
            Self::Directory
        } else if file_type.is_symlink() {
            Self::Link
        } else {
            Self::Other
        }
    }

    /// What is at `path`; none if nothing is.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        fs::symlink_metadata(path).ok().map(|metadata| Self::of(metadata.file_type()))
    }
}

/// The names in one directory.
#[derive(Debug)]
pub(crate) struct Listing {
    stamp: Stamp,
    /// Could a change have gone unnoticed while it was read?
    settled: bool,
    entries: HashMap<Box<str>, Kind>,
    /// Is there a precompiled header?
    pub(crate) has_gch: bool,
}

impl Listing {
    pub(crate) fn get(&self, name: &str) -> Option<Kind> {
        self.entries.get(name).copied()
    }

    fn read(path: &Path) -> Option<Self> {
        let stamp = Stamp::at(path)?;
        let settled = stamp.is_settled();
        let mut listing = Self { stamp, settled, entries: HashMap::new(), has_gch: false };
        for entry in fs::read_dir(path).ok()? {
            let entry = entry.ok()?;
            let kind = Kind::of(entry.file_type().ok()?);
            // A name that is not UTF-8 cannot be asked for.
            let Ok(name) = entry.file_name().into_string() else { continue };
            listing.has_gch |= name.ends_with(".gch");
            listing.entries.insert(name.into_boxed_str(), kind);
        }
        Some(listing)
    }
}

/// Listings of directories by their real path.
#[derive(Debug, Default)]
pub(crate) struct DirectoryCache {
    listings: RwLock<HashMap<PathBuf, Arc<Listing>>>,
}

/// A directory with more names than this that was changed a moment ago is asked name by name:
/// objects are appearing beside the sources, and reading it again each time would cost more.
const NAMES_TO_READ_AGAIN: usize = 192;
const BUSY: Duration = Duration::from_secs(2);

impl DirectoryCache {
    /// The names in `path` as they are now. None if it cannot be read, or changes too often for a
    /// listing to pay.
    pub(crate) fn listing(&self, path: &Path) -> Option<Arc<Listing>> {
        let known = {
            let listings = self.listings.read().unwrap_or_else(PoisonError::into_inner);
            listings.get(path).cloned()
        };
        if let Some(known) = known {
            let now = Stamp::at(path)?;
            if known.settled && known.stamp == now {
                return Some(known);
            }
            let busy = now.age().is_none_or(|age| age < BUSY);
            if busy && known.entries.len() > NAMES_TO_READ_AGAIN {
                return None;
            }
        }
        let fresh = Arc::new(Listing::read(path)?);
        let mut listings = self.listings.write().unwrap_or_else(PoisonError::into_inner);
        listings.insert(path.to_owned(), Arc::clone(&fresh));
        Some(fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_is_seen_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let cache = DirectoryCache::default();
        let has = |name: &str| cache.listing(dir.path()).unwrap().get(name);
        assert_eq!(has("a.h"), None);
        fs::write(dir.path().join("a.h"), "").unwrap();
        assert_eq!(has("a.h"), Some(Kind::File));
        fs::remove_file(dir.path().join("a.h")).unwrap();
        assert_eq!(has("a.h"), None);
        std::os::unix::fs::symlink("nowhere", dir.path().join("a.h")).unwrap();
        assert_eq!(has("a.h"), Some(Kind::Link));
    }

    #[test]
    fn a_quiet_directory_is_read_once() {
        let cache = DirectoryCache::default();
        let first = cache.listing(Path::new("/usr/bin")).unwrap();
        let second = cache.listing(Path::new("/usr/bin")).unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        assert!(cache.listing(Path::new("/nowhere/at/all")).is_none());
    }

    #[test]
    fn a_big_busy_directory_is_asked_name_by_name() {
        let dir = tempfile::tempdir().unwrap();
        for index in 0..=NAMES_TO_READ_AGAIN {
            fs::write(dir.path().join(format!("{index}.h")), "").unwrap();
        }
        let cache = DirectoryCache::default();
        assert!(cache.listing(dir.path()).is_some());
        fs::write(dir.path().join("new.o"), "").unwrap();
        assert!(cache.listing(dir.path()).is_none());
    }
}
