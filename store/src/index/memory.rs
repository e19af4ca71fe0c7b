//! The index of a process that does not own the one on disk: rebuilt from the log, gone in the end.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use super::{Change, Index, IndexError, Table};

/// One sorted map of all tables.
#[derive(Default, Debug)]
pub(crate) struct MemoryIndex(RwLock<BTreeMap<Vec<u8>, Vec<u8>>>);

impl Index for MemoryIndex {
    fn kind(&self) -> &'static str {
        "memory"
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        let map = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Ok(map.get(&table.key(key)).cloned())
    }

    fn apply(&self, changes: &[Change]) -> Result<(), IndexError> {
        let mut map = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            let key = change.table.key(&change.key);
            match &change.value {
                Some(value) => map.insert(key, value.clone()),
                None => map.remove(&key),
            };
        }
        Ok(())
    }

    fn scan(&self, table: Table, take: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), IndexError> {
        let map = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let (from, to) = (vec![table.prefix()], vec![table.prefix() + 1]);
        for (key, value) in map.range(from..to) {
            take(&key[1..], value);
        }
        Ok(())
    }

    fn clear(&self, table: Table) -> Result<(), IndexError> {
        let mut map = self.0.write().unwrap_or_else(PoisonError::into_inner);
        map.retain(|key, _| key[0] != table.prefix());
        Ok(())
    }

    fn flush(&self) -> Result<(), IndexError> {
        Ok(())
    }
}
