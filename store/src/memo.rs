//! What is known: reductions, tombstones and pins, from the log through the index.
//!
//! Who owns what. The log belongs to all processes that have the store open; each reads it to its
//! own end. The index on disk (sled) belongs to one of them: the one that got the lock on
//! `index.lock`. It keeps there, with each batch of records, how far it had read, so that it goes
//! on from there the next time. All others read the log from its beginning into a memory index,
//! at about the speed of the disk cache. An index that fails is replaced by a memory index in the
//! middle of everything; the file on disk is dropped by the next owner.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use mesh_protocol::limits;
use mesh_protocol::name::{Digest, ThunkName};
use mesh_protocol::thunk::Reduction;

use crate::error::{Context, StoreError};
use crate::files;
use crate::index::{Change, Index, IndexError, MemoryIndex, SledIndex, Table};
use crate::layout::Layout;
use crate::lock::{self, SharedLock};
use crate::log::record::{self, Kind, Record};
use crate::log::{Event, Keep, Location, Log};
use crate::notice::{Notice, Notices, RebuildReason};
use crate::sys::{self, Temporary};

/// Key of [`Table::Meta`]: generation and position of the log that the index reflects.
const POSITION: &[u8] = b"log";

/// Records per batch while the log is read: few enough to hold, enough to be quick.
const BATCH_RECORDS: usize = 1_000;

/// A boot id, and more.
const CLEAN_BYTES_MAX: u64 = 256;

/// A log shorter than this is not worth compacting.
const COMPACT_BYTES_MIN: u64 = 8 * 1024 * 1024;

/// Log and index of one process.
#[derive(Debug)]
pub(crate) struct Memo {
    state: RwLock<State>,
    /// Taken before `state` by whoever writes the log: while it is waited for, others read.
    lock: SharedLock,
    notices: Arc<Notices>,
    files: IndexFiles,
}

#[derive(Debug)]
struct State {
    log: Log,
    index: Option<Arc<dyn Index>>,
    /// Held as long as the index on disk is ours.
    ownership: Option<File>,
}

#[derive(Debug)]
struct IndexFiles {
    lock: PathBuf,
    sled: PathBuf,
    /// There while the index on disk is closed: holds the boot id of the run that closed it.
    clean: PathBuf,
    tmp: PathBuf,
    boot_id: String,
}

impl Memo {
    /// Opens the log; the index waits until it is needed.
    pub(crate) fn open(
        layout: &Layout,
        notices: Arc<Notices>,
        boot_id: String,
    ) -> Result<Self, StoreError> {
        let lock = SharedLock::open(layout.path("log.lock"))?;
        let log = Log::open(layout, &lock, Arc::clone(&notices))?;
        let files = IndexFiles {
            lock: layout.path("index.lock"),
            sled: layout.path("index/sled"),
            clean: layout.path("index/clean"),
            tmp: layout.tmp(),
            boot_id,
        };
        let ownership = files.claim()?;
        if ownership.is_some() {
            files.drop_if_unsafe(&notices)?;
        }
        let state = RwLock::new(State { log, index: None, ownership });
        Ok(Self { state, lock, notices, files })
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what other processes appended, if they did.
    fn refresh(&self) -> Result<(), StoreError> {
        {
            let state = self.read();
            if state.index.is_some() && !state.log.has_changed() {
                return Ok(());
            }
        }
        let mut state = self.write();
        self.with_index(&mut state, |state, index| {
            feed(state, index, |log, sink| log.refresh(sink))
        })
    }

    /// Calls `use_it` with the index; if that fails, with a memory index made of the log.
    fn with_index<T>(
        &self,
        state: &mut State,
        mut use_it: impl FnMut(&mut State, &dyn Index) -> Result<T, MemoError>,
    ) -> Result<T, StoreError> {
        loop {
            let index = match &state.index {
                Some(index) => Arc::clone(index),
                None => self.start(state)?,
            };
            match use_it(state, &*index) {
                Ok(value) => return Ok(value),
                Err(MemoError::Store(error)) => return Err(error),
                Err(MemoError::Index(error)) => self.replace_index(state, &error)?,
            }
        }
    }

    /// Opens the index on disk if it is free, and brings the index up to the log.
    fn start(&self, state: &mut State) -> Result<Arc<dyn Index>, StoreError> {
        let index = self.open_index(state)?;
        state.index = Some(Arc::clone(&index));
        let caught_up = resume(state, &*index).and_then(|()| {
            feed(state, &*index, |log, sink| log.refresh_and_mend(&self.lock, sink))
        });
        match caught_up {
            Ok(()) => Ok(index),
            Err(MemoError::Store(error)) => {
                state.index = None;
                Err(error)
            }
            Err(MemoError::Index(error)) => {
                self.replace_index(state, &error)?;
                let memory = MemoryIndex::default();
                Ok(state.index.clone().unwrap_or_else(|| Arc::new(memory)))
            }
        }
    }

    fn open_index(&self, state: &mut State) -> Result<Arc<dyn Index>, StoreError> {
        if state.ownership.is_none() {
            return Ok(Arc::new(MemoryIndex::default()));
        }
        // From now on it is open: whoever finds no mark knows.
        sys::remove(&self.files.clean)?;
        if !holds_only_files(&self.files.sled)? {
            let reason = RebuildReason::Failed("it holds what is no file".to_owned());
            self.notices.push(Notice::IndexRebuilt(reason));
            self.files.drop_index()?;
        }
        match SledIndex::open(&self.files.sled) {
            Ok(index) => Ok(Arc::new(index)),
            Err(error) => {
                let reason = RebuildReason::Failed(error.to_string());
                self.notices.push(Notice::IndexRebuilt(reason));
                self.files.drop_index()?;
                match SledIndex::open(&self.files.sled) {
                    Ok(index) => Ok(Arc::new(index)),
                    Err(_) => Ok(Arc::new(MemoryIndex::default())),
                }
            }
        }
    }

    /// The index failed under way: go on without it. As nothing says that it was closed, the
    /// next owner drops it.
    fn replace_index(&self, state: &mut State, error: &IndexError) -> Result<(), StoreError> {
        self.notices.push(Notice::IndexRebuilt(RebuildReason::Failed(error.to_string())));
        let index: Arc<dyn Index> = Arc::new(MemoryIndex::default());
        state.index = Some(Arc::clone(&index));
        state.log.rewind();
        match feed(state, &*index, |log, sink| log.refresh(sink)) {
            Ok(()) => Ok(()),
            Err(MemoError::Store(error)) => Err(error),
            // A map in memory does not fail.
            Err(MemoError::Index(_)) => Ok(()),
        }
    }

    /// The reduction of a thunk, wherever its values are.
    pub(crate) fn reduction(&self, thunk: ThunkName) -> Result<Option<Reduction>, StoreError> {
        self.refresh()?;
        let key = record::digest_bytes(thunk.digest());
        let found = {
            let state = self.read();
            match &state.index {
                Some(index) => lookup(&state.log, &**index, &key),
                None => Ok(None),
            }
        };
        match found {
            Ok(found) => Ok(found.filter(|reduction| reduction.thunk == thunk)),
            Err(MemoError::Store(error)) => Err(error),
            Err(MemoError::Index(error)) => {
                let mut state = self.write();
                self.replace_index(&mut state, &error)?;
                self.with_index(&mut state, |state, index| lookup(&state.log, index, &key))
            }
        }
    }

    /// Appends a record. It is in the hands of the system when this returns: it outlives the
    /// process, but not yet a power cut.
    pub(crate) fn append(&self, kind: Kind, digest: Digest, body: &[u8]) -> Result<(), StoreError> {
        let held = self.lock.hold()?;
        let mut state = self.write();
        self.with_index(&mut state, |_, _| Ok(()))?;
        let mut appended = false;
        self.with_index(&mut state, |state, index| {
            feed(state, index, |log, sink| {
                // With another index the record comes from the log, like all others.
                if appended {
                    return log.refresh(sink);
                }
                log.append(&held, kind, digest, body, &mut |event| {
                    appended = true;
                    sink(event)
                })
            })
        })
    }

    /// What is pinned, and why.
    pub(crate) fn pins(&self) -> Result<BTreeMap<Digest, String>, StoreError> {
        let mut pins = BTreeMap::new();
        self.scan(Table::Pins, &mut |key, value| {
            if let Some(digest) = record::digest_from(key) {
                pins.insert(digest, String::from_utf8_lossy(value).into_owned());
            }
        })?;
        Ok(pins)
    }

    /// Calls `take` with the name of every thunk that has a reduction.
    pub(crate) fn for_each_thunk(&self, take: &mut dyn FnMut(ThunkName)) -> Result<(), StoreError> {
        self.scan(Table::Reductions, &mut |key, _| {
            if let Some(digest) = record::digest_from(key) {
                take(ThunkName(digest));
            }
        })
    }

    fn scan(&self, table: Table, take: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), StoreError> {
        self.refresh()?;
        let mut state = self.write();
        let mut entries = Vec::new();
        self.with_index(&mut state, |_, index| {
            entries.clear();
            let mut keep = |key: &[u8], value: &[u8]| entries.push((key.to_vec(), value.to_vec()));
            Ok(index.scan(table, &mut keep)?)
        })?;
        drop(state);
        for (key, value) in &entries {
            take(key, value);
        }
        Ok(())
    }

    /// A value from the index that has nothing to do with the log.
    pub(crate) fn cached(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        {
            let state = self.read();
            if let Some(index) = &state.index
                && let Ok(found) = index.get(table, key)
            {
                return Ok(found);
            }
        }
        self.with_index(&mut self.write(), |_, index| Ok(index.get(table, key)?))
    }

    /// Keeps a value in the index.
    pub(crate) fn cache(
        &self,
        table: Table,
        key: Vec<u8>,
        value: Vec<u8>,
    ) -> Result<(), StoreError> {
        let change = [Change { table, key, value: Some(value) }];
        {
            let state = self.read();
            if let Some(index) = &state.index
                && index.apply(&change).is_ok()
            {
                return Ok(());
            }
        }
        self.with_index(&mut self.write(), |_, index| Ok(index.apply(&change)?))
    }

    /// Brings the log to the disk.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        let (file, path) = self.read().log.file();
        file.sync_data().map_err(|error| StoreError::io("write", &path, error))
    }

    /// How long the log is, and which index is in use.
    pub(crate) fn describe(&self) -> Result<(u64, &'static str), StoreError> {
        self.refresh()?;
        let state = self.read();
        Ok((state.log.length(), state.index.as_ref().map_or("none", |index| index.kind())))
    }

    /// Rewrites the log if most of it is void, or if `force` says so. `keep` is asked about every
    /// thunk that has a reduction.
    pub(crate) fn compact(
        &self,
        force: bool,
        keep: &dyn Fn(ThunkName) -> bool,
    ) -> Result<bool, StoreError> {
        let held = self.lock.hold()?;
        let chosen = self.with_index(&mut self.write(), |state, index| {
            feed(state, index, |log, sink| log.read_new_locked(&held, sink))?;
            if !force && state.log.length() < COMPACT_BYTES_MIN.max(2 * live_bytes(index)?) {
                return Ok(None);
            }
            Ok(Some((state.log.source(), survivors(index, keep)?)))
        })?;
        let Some((source, survivors)) = chosen else { return Ok(false) };
        source.replace(&held, survivors)?;
        drop(held);
        self.refresh()?;
        Ok(true)
    }

    /// Closes the index, so that the next owner can go on with it.
    pub(crate) fn close(&self) {
        let mut state = self.write();
        let Some(index) = state.index.take() else { return };
        let ours = index.kind() == "sled";
        let flushed = index.flush().is_ok();
        // The last handle: sled writes its end when it is dropped.
        let last = Arc::strong_count(&index) == 1;
        drop(index);
        if ours && flushed && last {
            // Without the mark the next owner rebuilds: slower, not wrong.
            let _ = self.files.mark_clean();
        }
        state.ownership = None;
    }
}

/// Which of the two layers failed.
enum MemoError {
    Store(StoreError),
    Index(IndexError),
}

impl From<IndexError> for MemoError {
    fn from(error: IndexError) -> Self {
        Self::Index(error)
    }
}

impl From<StoreError> for MemoError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl IndexFiles {
    /// Takes the index on disk for this process, unless another has it.
    fn claim(&self) -> Result<Option<File>, StoreError> {
        let lock = sys::open_lock_file(&self.lock)?;
        Ok(lock::keep_if_free(&lock).then_some(lock))
    }

    /// Drops the index unless its last owner closed it in this run of the machine.
    fn drop_if_unsafe(&self, notices: &Notices) -> Result<(), StoreError> {
        let closed_in = files::read(&self.clean, CLEAN_BYTES_MAX).ok();
        let closed_in = closed_in.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let reason = match closed_in {
            Some(boot) if boot == self.boot_id && !boot.is_empty() => return Ok(()),
            Some(_) => RebuildReason::Rebooted,
            None => RebuildReason::UncleanShutdown,
        };
        if self.sled.exists() {
            notices.push(Notice::IndexRebuilt(reason));
            self.drop_index()?;
        }
        Ok(())
    }

    /// Notes that the index was closed properly.
    fn mark_clean(&self) -> Result<(), StoreError> {
        let temporary = Temporary::file(&self.tmp)?;
        temporary.write_all(self.boot_id.as_bytes())?;
        temporary.persist(&self.clean)
    }

    /// Moves the index away, then removes it: half an index is never found under its name.
    fn drop_index(&self) -> Result<(), StoreError> {
        match sys::move_aside(&self.sled, &self.tmp, "index-")? {
            Some(aside) => sys::remove(&aside),
            None => Ok(()),
        }
    }
}

/// Is everything below a directory a file or a directory? sled opens what it finds there, and would
/// wait for the writer of a pipe. A directory that is missing holds nothing.
fn holds_only_files(directory: &Path) -> Result<bool, StoreError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => return Ok(error.kind() == ErrorKind::NotFound),
    };
    for entry in entries {
        let entry = entry.at("list", directory)?;
        let kind = entry.file_type().at("look at", directory)?;
        let is_right = kind.is_file() || kind.is_dir() && holds_only_files(&entry.path())?;
        if !is_right {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Continues where the index says that it got to.
fn resume(state: &mut State, index: &dyn Index) -> Result<(), MemoError> {
    let known = match index.get(Table::Meta, POSITION)? {
        Some(bytes) if bytes.len() == 24 => {
            let (mut generation, mut position) = ([0; 16], [0; 8]);
            generation.copy_from_slice(&bytes[..16]);
            position.copy_from_slice(&bytes[16..]);
            state.log.resume(generation, u64::from_le_bytes(position))
        }
        _ => {
            state.log.rewind();
            false
        }
    };
    if !known {
        index.clear(Table::Reductions)?;
        index.clear(Table::Pins)?;
    }
    Ok(())
}

/// Runs something that reads the log, and brings what it reads into the index.
fn feed(
    state: &mut State,
    index: &dyn Index,
    run: impl FnOnce(&mut Log, crate::log::Sink<'_>) -> Result<(), StoreError>,
) -> Result<(), MemoError> {
    let before = state.log.position();
    let mut feeder = Feeder { index, batch: Vec::new(), failed: None };
    let result = run(&mut state.log, &mut |event| {
        feeder.take(event);
        Ok(())
    });
    let after = state.log.position();
    if before != after {
        let position = [&after.0[..], &after.1.to_le_bytes()].concat();
        let key = POSITION.to_vec();
        feeder.batch.push(Change { table: Table::Meta, key, value: Some(position) });
    }
    feeder.apply();
    result?;
    feeder.failed.map_or(Ok(()), |error| Err(error.into()))
}

/// Collects changes into batches. The position goes with the last one: a batch that is applied
/// twice does no harm.
struct Feeder<'index> {
    index: &'index dyn Index,
    batch: Vec<Change>,
    failed: Option<IndexError>,
}

impl Feeder<'_> {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Reset => {
                self.batch.clear();
                let cleared = self.index.clear(Table::Reductions);
                let cleared = cleared.and_then(|()| self.index.clear(Table::Pins));
                self.failed = self.failed.take().or(cleared.err());
            }
            Event::Record(location, record) => self.batch.extend(change_of(location, &record)),
        }
        if self.batch.len() >= BATCH_RECORDS {
            self.apply();
        }
    }

    fn apply(&mut self) {
        if self.failed.is_none() && !self.batch.is_empty() {
            self.failed = self.index.apply(&self.batch).err();
        }
        self.batch.clear();
    }
}

fn change_of(location: Location, record: &Record<'_>) -> Option<Change> {
    let (table, value) = match record.kind? {
        Kind::Reduction => {
            let mut value = location.offset.to_le_bytes().to_vec();
            value.extend_from_slice(&location.bytes.to_le_bytes());
            (Table::Reductions, Some(value))
        }
        Kind::Forget => (Table::Reductions, None),
        Kind::Pin => (Table::Pins, Some(record.body.to_vec())),
        Kind::Unpin => (Table::Pins, None),
    };
    Some(Change { table, key: record::digest_bytes(record.digest).to_vec(), value })
}

fn location_from(value: &[u8]) -> Option<Location> {
    let offset = u64::from_le_bytes(value.get(..8)?.try_into().ok()?);
    let bytes = u32::from_le_bytes(value.get(8..12)?.try_into().ok()?);
    (u64::from(bytes) <= record::record_bytes(limits::LOG_RECORD_BYTES as usize))
        .then_some(Location { offset, bytes })
}

/// Finds and reads a reduction. One that does not read well is none.
fn lookup(log: &Log, index: &dyn Index, key: &[u8]) -> Result<Option<Reduction>, MemoError> {
    let Some(location) = index.get(Table::Reductions, key)?.as_deref().and_then(location_from)
    else {
        return Ok(None);
    };
    let bytes = log.read(location)?;
    Ok(record::decode(location.offset, &bytes)
        .filter(|record| record.kind == Some(Kind::Reduction))
        .and_then(|record| Reduction::decode(record.body).ok()))
}

/// How long a log of only what is true would be.
fn live_bytes(index: &dyn Index) -> Result<u64, IndexError> {
    let mut total = 0;
    index.scan(Table::Reductions, &mut |_, value| {
        total += location_from(value).map_or(0, |location| u64::from(location.bytes));
    })?;
    index.scan(Table::Pins, &mut |_, note| {
        total += record::record_bytes(record::DIGEST_BYTES + note.len());
    })?;
    Ok(total)
}

fn survivors(index: &dyn Index, keep: &dyn Fn(ThunkName) -> bool) -> Result<Vec<Keep>, StoreError> {
    let failed = |error: IndexError| {
        let source = std::io::Error::other(error.to_string());
        StoreError::io("scan the index of", std::path::Path::new("the store"), source)
    };
    let mut reductions = Vec::new();
    let mut take = |key: &[u8], value: &[u8]| {
        let thunk = record::digest_from(key).map(ThunkName);
        if let (Some(thunk), Some(location)) = (thunk, location_from(value))
            && keep(thunk)
        {
            reductions.push(location);
        }
    };
    index.scan(Table::Reductions, &mut take).map_err(failed)?;
    // As in the old log: what was found together stays together.
    reductions.sort_by_key(|location| location.offset);
    let mut keep: Vec<Keep> = reductions.into_iter().map(Keep::At).collect();
    let mut take = |key: &[u8], note: &[u8]| {
        if let Some(digest) = record::digest_from(key) {
            keep.push(Keep::Pin(digest, String::from_utf8_lossy(note).into_owned()));
        }
    };
    index.scan(Table::Pins, &mut take).map_err(failed)?;
    Ok(keep)
}
