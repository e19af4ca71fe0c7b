//! The index: what can be found again in the log or the file system, kept ready.

mod memory;
mod sled;

pub(crate) use memory::MemoryIndex;
pub(crate) use sled::{SledIndex, SledTrouble};

use mesh_protocol::name::{Digest, ThunkName};

use crate::stat_cache::{FileIdentity, FileState};

/// Everything in it can be lost: answers may be `None` at any time, never false.
pub(crate) trait Index: Send {
    /// Where in the log the newest reduction of this thunk stands.
    fn reduction(&self, thunk: &ThunkName) -> Option<u64>;
    /// A reduction was read at this place of the log; `None`: it was forgotten.
    fn set_reduction(&mut self, thunk: ThunkName, position: Option<u64>);
    /// What a file was like when it was hashed, and its digest.
    fn stat(&self, file: FileIdentity) -> Option<(FileState, Digest)>;
    /// Remembers it.
    fn set_stat(&mut self, file: FileIdentity, state: FileState, digest: Digest);
    /// How far the log has been taken in, and a number that says which log it was.
    fn log_position(&self) -> (u64, u64);
    /// Sets that.
    fn set_log_position(&mut self, position: (u64, u64));
    /// Forgets every reduction: the log was replaced.
    fn clear_reductions(&mut self);
}

#[cfg(test)]
mod conformance {
    use super::*;

    fn check(index: &mut dyn Index) {
        let [one, two] = [b"1", b"2"].map(|text| ThunkName::of(text));
        assert_eq!(index.reduction(&one), None);
        index.set_reduction(one, Some(7));
        index.set_reduction(two, Some(9));
        index.set_reduction(one, Some(11));
        assert_eq!((index.reduction(&one), index.reduction(&two)), (Some(11), Some(9)));
        index.set_reduction(one, None);
        assert_eq!(index.reduction(&one), None);
        index.set_log_position((100, 5));
        assert_eq!(index.log_position(), (100, 5));
        let file = FileIdentity { device: 1, inode: 2 };
        let state = FileState { size: 3, mtime_ns: -4, ctime_ns: 5 };
        assert_eq!(index.stat(file), None);
        index.set_stat(file, state, Digest::of(b"x"));
        assert_eq!(index.stat(file), Some((state, Digest::of(b"x"))));
        index.clear_reductions();
        assert_eq!(index.reduction(&two), None);
        assert_eq!(index.stat(file), Some((state, Digest::of(b"x"))));
    }

    #[test]
    fn memory() {
        check(&mut MemoryIndex::default());
    }

    #[test]
    fn sled() {
        let directory = tempfile::tempdir().unwrap();
        let mut index = SledIndex::open(directory.path()).unwrap().0;
        check(&mut index);
        drop(index);
        let (index, trouble) = SledIndex::open(directory.path()).unwrap();
        assert!(trouble.is_none());
        assert_eq!(index.log_position(), (100, 5), "a clean end keeps it");
    }

    #[test]
    fn sled_that_did_not_end_well_starts_empty() {
        let directory = tempfile::tempdir().unwrap();
        let mut index = SledIndex::open(directory.path()).unwrap().0;
        check(&mut index);
        index.abandon();
        let (index, trouble) = SledIndex::open(directory.path()).unwrap();
        assert!(matches!(trouble, Some(SledTrouble::Unclean)));
        assert_eq!(index.log_position(), (0, 0));
    }

    #[test]
    fn sled_takes_one_owner_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let _owner = SledIndex::open(directory.path()).unwrap();
        assert!(SledIndex::open(directory.path()).is_none());
    }
}
