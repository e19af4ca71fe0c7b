//! What one job after the other reads from the store: small files and directories, kept in
//! memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use mesh_protocol::limits;
use mesh_protocol::name::{Digest, ValueName};
use mesh_protocol::tree::Tree;
use mesh_store::Store;

use super::super::super::plan::{COPY_FILE_BYTES, Trees};
use super::super::super::{EngineError, Failure};

/// Forgets in halves: what was used since the last time stays.
struct Kept<V> {
    young: HashMap<Digest, V>,
    old: HashMap<Digest, V>,
    weight: usize,
    weight_max: usize,
}

impl<V: Clone> Kept<V> {
    fn new(weight_max: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), weight: 0, weight_max }
    }

    fn get(&mut self, digest: &Digest, weight: impl Fn(&V) -> usize) -> Option<V> {
        if let Some(value) = self.young.get(digest) {
            return Some(value.clone());
        }
        let value = self.old.remove(digest)?;
        let weight = weight(&value);
        self.put(*digest, value.clone(), weight);
        Some(value)
    }

    fn put(&mut self, digest: Digest, value: V, weight: usize) {
        if self.weight + weight > self.weight_max / 2 {
            self.old = std::mem::take(&mut self.young);
            self.weight = 0;
        }
        self.weight += weight;
        self.young.insert(digest, value);
    }
}

/// The store behind its caches.
pub(super) struct Sources {
    store: Store,
    files: Mutex<Kept<Arc<[u8]>>>,
    trees: Mutex<Kept<Arc<Tree>>>,
}

impl Sources {
    pub(super) fn new(store: Store) -> Self {
        let files = Mutex::new(Kept::new(limits::SMALL_FILES_BYTES));
        Self { store, files, trees: Mutex::new(Kept::new(limits::TREES_KEPT)) }
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// The bytes of a small file.
    pub(super) fn small_file(&self, digest: Digest) -> Result<Arc<[u8]>, EngineError> {
        let weight = |bytes: &Arc<[u8]>| bytes.len();
        let lock = || self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = lock().get(&digest, weight) {
            return Ok(bytes);
        }
        let read = self.store.read(digest, COPY_FILE_BYTES);
        let bytes: Arc<[u8]> = read.map_err(|error| EngineError::Store(error.into()))?.into();
        lock().put(digest, Arc::clone(&bytes), bytes.len());
        Ok(bytes)
    }
}

impl Trees for Sources {
    fn tree(&self, name: ValueName) -> Result<Arc<Tree>, Failure> {
        let lock = || self.trees.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tree) = lock().get(&name.digest(), |_| 1) {
            return Ok(tree);
        }
        let tree = Arc::new(self.store.read_tree(name)?);
        lock().put(name.digest(), Arc::clone(&tree), 1);
        Ok(tree)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let digest = |n: u8| Digest::of(&[n]);
        let mut kept = Kept::new(8);
        for n in 0..20 {
            kept.put(digest(n), n, 1);
            assert_eq!(kept.get(&digest(0), |_| 1), Some(0));
            assert!(kept.young.len() + kept.old.len() <= 8);
        }
        assert_eq!(kept.get(&digest(1), |_| 1), None);
    }
}
