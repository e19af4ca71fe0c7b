//! The memo: which thunk came to which outputs, and what must not be collected.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use mesh_protocol::name::{Digest, ThunkName};
use mesh_protocol::thunk::Reduction;

use crate::error::StoreError;
use crate::index::{Index, MemoryIndex, SledIndex, SledTrouble};
use crate::layout::Layout;
use crate::log::{Log, Record};
use crate::stat_cache::{FileIdentity, FileState};

/// Reductions of this process that were just recorded or recalled are not read from disk again.
const RECENT_MAX: usize = 16_384;

pub(crate) struct Memo {
    log: Log,
    index: Box<dyn Index>,
    pins: BTreeMap<Digest, String>,
    recent: HashMap<ThunkName, Arc<Reduction>>,
}

/// A number that differs between a log and its replacement.
fn log_identity(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).map_or(0, |found| found.ino())
}

impl Memo {
    pub(crate) fn open(layout: &Layout) -> Result<(Self, Option<SledTrouble>), StoreError> {
        let log = Log::open(layout.log())?;
        let (index, trouble): (Box<dyn Index>, _) =
            match SledIndex::open(&layout.root.join("index")) {
                Some((index, trouble)) => (Box::new(index), trouble),
                None => (Box::new(MemoryIndex::default()), None),
            };
        let mut memo = Self { log, index, pins: BTreeMap::new(), recent: HashMap::new() };
        // Pins live in memory alone, so the log is read from its start; what the index already has
        // of it is not written again.
        let known = match memo.index.log_position() {
            (position, log) if log == log_identity(&layout.log()) => position,
            _ => {
                memo.index.clear_reductions();
                0
            }
        };
        memo.take_in(layout, known)?;
        Ok((memo, trouble))
    }

    /// Takes in what has come to the log since; `known`: the index has what is before it.
    fn take_in(&mut self, layout: &Layout, known: u64) -> Result<(), StoreError> {
        let Self { log, index, pins, recent } = self;
        log.read_new(&mut |at, record| apply(index.as_mut(), pins, recent, at, record, known))?;
        self.mark(layout, known);
        Ok(())
    }

    fn mark(&mut self, layout: &Layout, before: u64) {
        let position = self.log.position();
        if position != before {
            self.index.set_log_position((position, log_identity(&layout.log())));
        }
    }

    /// Sees what other processes have appended.
    pub(crate) fn refresh(&mut self, layout: &Layout) -> Result<(), StoreError> {
        if self.log.was_replaced()? {
            self.index.clear_reductions();
            self.pins.clear();
            self.recent.clear();
        }
        let before = self.log.position();
        self.take_in(layout, before)
    }

    pub(crate) fn recall(
        &mut self,
        layout: &Layout,
        thunk: ThunkName,
    ) -> Result<Option<Arc<Reduction>>, StoreError> {
        if let Some(known) = self.recent.get(&thunk) {
            return Ok(Some(known.clone()));
        }
        if self.index.reduction(&thunk).is_none() {
            self.refresh(layout)?;
        }
        let Some(position) = self.index.reduction(&thunk) else { return Ok(None) };
        let found = match self.log.read_at(position)? {
            Some(Record::Reduction(bytes)) => Reduction::decode(&bytes).ok(),
            _ => None,
        };
        // An index that is wrong about the log is only slow: what it points at must say its name.
        let Some(reduction) = found.filter(|reduction| reduction.thunk == thunk) else {
            return Ok(None);
        };
        Ok(Some(self.remember(reduction)))
    }

    fn remember(&mut self, reduction: Reduction) -> Arc<Reduction> {
        if self.recent.len() >= RECENT_MAX {
            self.recent.clear();
        }
        let reduction = Arc::new(reduction);
        self.recent.insert(reduction.thunk, reduction.clone());
        reduction
    }

    pub(crate) fn append(&mut self, layout: &Layout, record: Record) -> Result<(), StoreError> {
        let before = self.log.position();
        let Self { log, index, pins, recent } = self;
        let mut take = |at, record| apply(index.as_mut(), pins, recent, at, record, 0);
        if log.append(&[record], &mut take)? {
            // Somebody replaced the log: what was known of the old one may be wrong.
            self.recent.clear();
        }
        self.mark(layout, before);
        Ok(())
    }

    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        self.log.sync()
    }

    pub(crate) fn pins(&self) -> &BTreeMap<Digest, String> {
        &self.pins
    }

    pub(crate) fn stat(&self, file: FileIdentity) -> Option<(FileState, Digest)> {
        self.index.stat(file)
    }

    pub(crate) fn set_stat(&mut self, file: FileIdentity, state: FileState, digest: Digest) {
        self.index.set_stat(file, state, digest);
    }

    /// Every reduction of the log, the newest of each thunk, in the order of their names.
    pub(crate) fn all(&self, layout: &Layout) -> Result<Vec<Reduction>, StoreError> {
        let mut newest = BTreeMap::new();
        let mut log = Log::open(layout.log())?;
        log.read_new(&mut |_, record| match record {
            Record::Reduction(bytes) => {
                if let Ok(reduction) = Reduction::decode(&bytes) {
                    newest.insert(reduction.thunk, reduction);
                }
            }
            Record::Forget(thunk) => {
                newest.remove(&thunk);
            }
            Record::Pin(..) | Record::Unpin(_) => {}
        })?;
        Ok(newest.into_values().collect())
    }
}

fn apply(
    index: &mut dyn Index,
    pins: &mut BTreeMap<Digest, String>,
    recent: &mut HashMap<ThunkName, Arc<Reduction>>,
    at: u64,
    record: Record,
    known: u64,
) {
    match record {
        Record::Pin(name, note) => {
            pins.insert(name, note);
        }
        Record::Unpin(name) => {
            pins.remove(&name);
        }
        Record::Forget(thunk) => {
            recent.remove(&thunk);
            index.set_reduction(thunk, None);
        }
        Record::Reduction(bytes) if at >= known => {
            if let Ok(reduction) = Reduction::decode(&bytes) {
                recent.remove(&reduction.thunk);
                index.set_reduction(reduction.thunk, Some(at));
            }
        }
        Record::Reduction(_) => {}
    }
}
