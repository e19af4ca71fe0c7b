//! The index of a process that does not own sled.

use std::collections::HashMap;

use mesh_protocol::name::{Digest, ThunkName};

use super::Index;
use crate::stat_cache::{FileIdentity, FileState};

#[derive(Debug, Default)]
pub(crate) struct MemoryIndex {
    reductions: HashMap<ThunkName, u64>,
    stats: HashMap<FileIdentity, (FileState, Digest)>,
    position: (u64, u64),
}

impl Index for MemoryIndex {
    fn reduction(&self, thunk: &ThunkName) -> Option<u64> {
        self.reductions.get(thunk).copied()
    }

    fn set_reduction(&mut self, thunk: ThunkName, position: Option<u64>) {
        match position {
            Some(position) => self.reductions.insert(thunk, position),
            None => self.reductions.remove(&thunk),
        };
    }

    fn stat(&self, file: FileIdentity) -> Option<(FileState, Digest)> {
        self.stats.get(&file).copied()
    }

    fn set_stat(&mut self, file: FileIdentity, state: FileState, digest: Digest) {
        self.stats.insert(file, (state, digest));
    }

    fn log_position(&self) -> (u64, u64) {
        self.position
    }

    fn set_log_position(&mut self, position: (u64, u64)) {
        self.position = position;
    }

    fn clear_reductions(&mut self) {
        self.reductions.clear();
    }
}
