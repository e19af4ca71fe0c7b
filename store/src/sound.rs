//! Which objects this process knows to hold the bytes that their names stand for.
//!
//! An object that lies on a disk for months may rot: length and modification time are as they were,
//! and the bytes are not. So whoever gives bytes out hashes them - once for each process, because a
//! build uses the same headers and programs a thousand times. What was hashed is remembered with its
//! inode and change time: nobody, root included, can write to a file and keep its change time. A
//! disk may still change bytes under a file that nobody writes to; that is noticed in the next era
//! (see [`crate::session`]), when everything is forgotten.
//!
//! Measured on the build of Lua with a full memo: see `docs/performance.md`.

use std::collections::{HashMap, HashSet};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use mesh_protocol::name::Digest;

use crate::blob::Key;

/// Changes whenever the file does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    changed: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        Self { device: metadata.dev(), inode: metadata.ino(), changed }
    }
}

/// What was hashed and found good.
#[derive(Default, Debug)]
pub(crate) struct Sound {
    shards: [Mutex<HashMap<Key, Stamp>>; 16],
    /// Materialised trees: to look at each of their files again would take as long as a small job.
    trees: Mutex<HashSet<Digest>>,
}

impl Sound {
    fn shard(&self, key: &Key) -> MutexGuard<'_, HashMap<Key, Stamp>> {
        let shard = &self.shards[usize::from(key.1.sha256[0] & 15)];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Is the file with this metadata one that was found good?
    pub(crate) fn has(&self, key: &Key, metadata: &Metadata) -> bool {
        self.shard(key).get(key) == Some(&Stamp::of(metadata))
    }

    pub(crate) fn insert(&self, key: Key, stamp: Stamp) {
        self.shard(&key).insert(key, stamp);
    }

    fn trees(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.trees.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn has_tree(&self, tree: &Digest) -> bool {
        self.trees().contains(tree)
    }

    pub(crate) fn insert_tree(&self, tree: Digest) {
        self.trees().insert(tree);
    }

    pub(crate) fn clear_trees(&self) {
        self.trees().clear();
    }

    pub(crate) fn clear(&self) {
        self.clear_trees();
        for shard in &self.shards {
            shard.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }
}
