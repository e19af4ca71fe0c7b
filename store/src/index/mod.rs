//! The index: what can be rebuilt from the log and the file system, kept where it is found fast.
//!
//! An [`Index`] holds small values under small keys in a few tables. Contract, which the
//! conformance suite below holds every implementation to:
//! - what was applied is seen by every later call from any thread;
//! - nothing is promised about a call that fails, a process that is killed or a power cut: the store
//!   drops an index that has seen one.
//!
//! Non-goals: being shared between processes, transactions over several calls, large values.

mod memory;
mod sled;

use std::fmt::Debug;

use thiserror::Error;

pub(crate) use self::memory::MemoryIndex;
pub(crate) use self::sled::SledIndex;

/// What is kept apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Table {
    /// Up to where the log has been read.
    Meta,
    /// Thunk to the place of its reduction in the log.
    Reductions,
    /// Digest to note.
    Pins,
    /// File to what it held when it was last hashed.
    Stat,
}

impl Table {
    /// The byte that the keys of this table begin with where tables share one map.
    pub(crate) fn prefix(self) -> u8 {
        match self {
            Self::Meta => b'm',
            Self::Reductions => b'r',
            Self::Pins => b'p',
            Self::Stat => b's',
        }
    }

    fn key(self, key: &[u8]) -> Vec<u8> {
        [&[self.prefix()], key].concat()
    }
}

/// One key given a value, or none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Change {
    pub(crate) table: Table,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Option<Vec<u8>>,
}

/// The index cannot be used any more: drop it.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct IndexError(pub(crate) String);

/// See the module's documentation.
pub(crate) trait Index: Send + Sync + Debug {
    /// What a person calls it.
    fn kind(&self) -> &'static str;

    /// The value of a key.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError>;

    /// Makes all the changes, in order.
    fn apply(&self, changes: &[Change]) -> Result<(), IndexError>;

    /// Calls `take` with every key and value of a table, in the order of the keys.
    fn scan(&self, table: Table, take: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), IndexError>;

    /// Empties a table.
    fn clear(&self, table: Table) -> Result<(), IndexError>;

    /// Hands everything to the system, so that the next process finds it.
    fn flush(&self) -> Result<(), IndexError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(table: Table, key: &[u8], value: &[u8]) -> Change {
        Change { table, key: key.to_vec(), value: Some(value.to_vec()) }
    }

    fn contents(index: &dyn Index, table: Table) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut all = Vec::new();
        index.scan(table, &mut |key, value| all.push((key.to_vec(), value.to_vec()))).unwrap();
        all
    }

    fn pair(key: &[u8], value: &[u8]) -> (Vec<u8>, Vec<u8>) {
        (key.to_vec(), value.to_vec())
    }

    fn conforms(index: &dyn Index) {
        assert_eq!(index.get(Table::Stat, b"k").unwrap(), None);
        assert_eq!(contents(index, Table::Stat), []);
        // Later changes of a batch win; tables do not mix; keys may be empty or of any bytes.
        let batch = [
            set(Table::Stat, b"k", b"1"),
            set(Table::Stat, b"k", b"2"),
            set(Table::Stat, b"", b"empty"),
            set(Table::Stat, b"\xff\xff", b""),
            set(Table::Pins, b"k", b"pin"),
            Change { table: Table::Stat, key: b"never".to_vec(), value: None },
        ];
        index.apply(&batch).unwrap();
        assert_eq!(index.get(Table::Stat, b"k").unwrap().as_deref(), Some(&b"2"[..]));
        assert_eq!(index.get(Table::Reductions, b"k").unwrap(), None);
        let wanted = [pair(b"", b"empty"), pair(b"k", b"2"), pair(b"\xff\xff", b"")];
        assert_eq!(contents(index, Table::Stat), wanted);
        let gone = Change { table: Table::Stat, key: b"k".to_vec(), value: None };
        index.apply(&[gone]).unwrap();
        assert_eq!(index.get(Table::Stat, b"k").unwrap(), None);
        index.clear(Table::Stat).unwrap();
        assert_eq!(contents(index, Table::Stat), []);
        assert_eq!(contents(index, Table::Pins), [pair(b"k", b"pin")]);
        index.flush().unwrap();
    }

    fn shared_by_threads(index: &dyn Index) {
        std::thread::scope(|scope| {
            for thread in 0..4_u8 {
                scope.spawn(move || {
                    for n in 0..100_u8 {
                        index.apply(&[set(Table::Reductions, &[thread, n], &[n])]).unwrap();
                        assert!(index.get(Table::Reductions, &[thread, n]).unwrap().is_some());
                    }
                });
            }
        });
        assert_eq!(contents(index, Table::Reductions).len(), 400);
    }

    #[test]
    fn memory_conforms() {
        conforms(&MemoryIndex::default());
        shared_by_threads(&MemoryIndex::default());
    }

    #[test]
    fn sled_conforms_and_keeps_what_was_flushed() {
        let directory = tempfile::tempdir().unwrap();
        let index = SledIndex::open(directory.path()).unwrap();
        conforms(&index);
        shared_by_threads(&index);
        index.flush().unwrap();
        drop(index);
        let index = SledIndex::open(directory.path()).unwrap();
        assert_eq!(contents(&index, Table::Pins), [pair(b"k", b"pin")]);
        assert_eq!(contents(&index, Table::Reductions).len(), 400);
    }

    #[test]
    fn a_damaged_sled_is_an_error_and_not_a_panic() {
        let directory = tempfile::tempdir().unwrap();
        let index = SledIndex::open(directory.path()).unwrap();
        shared_by_threads(&index);
        drop(index);
        for entry in std::fs::read_dir(directory.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                std::fs::write(path, b"not what sled wrote").unwrap();
            }
        }
        assert!(SledIndex::open(directory.path()).is_err());
    }
}
