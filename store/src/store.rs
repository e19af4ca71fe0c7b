//! The handle that everybody uses.

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use mesh_protocol::name::{Digest, ThunkName, ValueName};
use mesh_protocol::thunk::Reduction;

use crate::blob::ExportOptions;
use crate::error::StoreError;
use crate::index::SledTrouble;
use crate::layout::{Layout, fan_out};
use crate::log::Record;
use crate::memo::Memo;
use crate::session::Session;
use crate::stat_cache::{self, NamedFile};

/// Where a store is and how large it may grow.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Its directory; made if it does not exist.
    pub root: PathBuf,
}

impl StoreOptions {
    /// A store in `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }
}

/// An open store. Clones share it.
#[derive(Clone)]
pub struct Store(Arc<Shared>);

struct Shared {
    layout: Layout,
    session: Session,
    memo: Mutex<Memo>,
    notice: Option<&'static str>,
    /// Blobs younger than this may have been lost with the machine's last boot.
    suspect_since: Option<SystemTime>,
}

/// How much a store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Number of blobs.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Bytes of executable twins, made from blobs.
    pub derived_bytes: u64,
    /// Thunks whose reduction is known.
    pub reductions: u64,
    /// Objects that are never collected.
    pub pins: u64,
    /// Objects that were found corrupt and put aside.
    pub quarantined: u64,
    /// Bytes of the log.
    pub log_bytes: u64,
}

impl Store {
    /// Opens the store, or makes it.
    pub fn open(options: StoreOptions) -> Result<Self, StoreError> {
        let layout = Layout::create(options.root)?;
        let session = Session::begin(&layout.root.join("sessions"))?;
        let suspect_since = suspect_since(&layout)?;
        let (memo, trouble) = Memo::open(&layout)?;
        let notice = trouble.map(|trouble| match trouble {
            SledTrouble::Unclean => {
                "the last run did not end cleanly: the index is being rebuilt from the log"
            }
            SledTrouble::Unreadable => "the index was unreadable and is being rebuilt from the log",
        });
        let memo = Mutex::new(memo);
        Ok(Self(Arc::new(Shared { layout, session, memo, notice, suspect_since })))
    }

    /// What a person should be told once about how the store was found.
    pub fn notice(&self) -> Option<&'static str> {
        self.0.notice
    }

    /// The store's directory.
    pub fn root(&self) -> &Path {
        &self.0.layout.root
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.0.layout
    }

    pub(crate) fn session(&self) -> &Session {
        &self.0.session
    }

    pub(crate) fn memo(&self) -> MutexGuard<'_, Memo> {
        self.0.memo.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores bytes.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let name = self.0.layout.put_bytes(bytes)?;
        self.touch(name);
        Ok(name)
    }

    /// Stores what is in an open file, from where it stands to its end.
    pub fn put_file(&self, file: &File) -> Result<Digest, StoreError> {
        let path = Path::new("the file to be stored");
        let mut file = file.try_clone().map_err(StoreError::at(path))?;
        let name = self.0.layout.put_file(&mut file, path)?;
        self.touch(name);
        Ok(name)
    }

    /// The name of a file's content, which is in the store from then on. An unchanged file is not
    /// read again.
    pub fn name_file(&self, path: &Path) -> Result<NamedFile, StoreError> {
        let found = fs::metadata(path).map_err(StoreError::at(path))?;
        let identity = stat_cache::identity(&found);
        let known =
            self.memo().stat(identity).filter(|(state, _)| *state == stat_cache::state(&found));
        let name = match known {
            Some((_, name)) if self.contains(name) => name,
            _ => self.hash_file(path)?,
        };
        let executable = std::os::unix::fs::MetadataExt::mode(&found) & 0o111 != 0;
        Ok(NamedFile { name: ValueName(name), executable })
    }

    fn hash_file(&self, path: &Path) -> Result<Digest, StoreError> {
        let before_ns = stat_cache::now_ns();
        let (mut file, found) = stat_cache::open(path)?;
        let name = self.0.layout.put_file(&mut file, path)?;
        let after = file.metadata().map_err(StoreError::at(path))?;
        let state = stat_cache::state(&found);
        let steady = state == stat_cache::state(&after) && name.length == state.size;
        if steady && !stat_cache::is_racy(state, before_ns) {
            self.memo().set_stat(stat_cache::identity(&found), state, name);
        }
        Ok(name)
    }

    /// Is the object here, with the length that its name says? It counts as used now.
    pub fn contains(&self, name: Digest) -> bool {
        self.touch(name) && (!self.is_suspect(name) || self.0.layout.check(name).is_ok())
    }

    /// Opens an object for reading.
    pub fn open_blob(&self, name: Digest) -> Result<File, StoreError> {
        self.touch(name);
        if self.is_suspect(name) {
            self.0.layout.check(name)?;
        }
        self.0.layout.open_blob(name)
    }

    /// Reads a whole object of at most `bytes_max` bytes, and compares it with its name.
    pub fn read(&self, name: Digest, bytes_max: u64) -> Result<Vec<u8>, StoreError> {
        self.touch(name);
        self.0.layout.read(name, bytes_max)
    }

    /// Where an object's file is below the store's root, be it there or not.
    pub fn relative_blob_path(name: Digest) -> PathBuf {
        fan_out("blobs", name)
    }

    /// A twin of the object that may be executed: its path below the store's root.
    pub fn executable_blob(&self, name: Digest) -> Result<PathBuf, StoreError> {
        self.touch(name);
        self.0.layout.executable(name)
    }

    /// Writes an object to a path of the user's. What stands there is replaced, all or nothing.
    pub fn export(
        &self,
        name: Digest,
        to: &Path,
        options: &ExportOptions,
    ) -> Result<(), StoreError> {
        self.touch(name);
        self.0.layout.export(name, to, options)
    }

    /// What the thunk came to, if that is known and every object of it is here.
    pub fn recall(&self, thunk: ThunkName) -> Result<Option<Arc<Reduction>>, StoreError> {
        let found = self.memo().recall(&self.0.layout, thunk)?;
        Ok(found.filter(|reduction| reduction.values().all(|name| self.contains(name.digest()))))
    }

    /// Remembers what a thunk came to. Every process sees it; [`Store::flush`] makes it durable.
    pub fn record(&self, reduction: &Reduction) -> Result<(), StoreError> {
        let bytes = reduction.encode().map_err(|error| StoreError::Form {
            name: reduction.thunk.digest(),
            reason: error.to_string(),
        })?;
        self.memo().append(&self.0.layout, Record::Reduction(bytes))
    }

    /// The thunk's reduction is not to be used any more.
    pub fn forget(&self, thunk: ThunkName) -> Result<(), StoreError> {
        self.memo().append(&self.0.layout, Record::Forget(thunk))
    }

    /// Never collect this object, nor what it names.
    pub fn pin(&self, name: Digest, note: &str) -> Result<(), StoreError> {
        let note = note.chars().filter(|c| !c.is_control()).take(256).collect();
        self.memo().append(&self.0.layout, Record::Pin(name, note))
    }

    /// It may be collected again.
    pub fn unpin(&self, name: Digest) -> Result<(), StoreError> {
        self.memo().append(&self.0.layout, Record::Unpin(name))
    }

    /// What is pinned, and why.
    pub fn pins(&self) -> Result<BTreeMap<Digest, String>, StoreError> {
        let mut memo = self.memo();
        memo.refresh(&self.0.layout)?;
        Ok(memo.pins().clone())
    }

    /// Waits until everything put and recorded before is on the disk.
    pub fn flush(&self) -> Result<(), StoreError> {
        let root = self.root();
        let directory = File::open(root).map_err(StoreError::at(root))?;
        // Blobs first: the log is not to name, after a power cut, what never reached the disk.
        rustix::fs::syncfs(&directory).map_err(|error| StoreError::at(root)(error.into()))?;
        self.memo().sync()?;
        write_mark(&self.0.layout)
    }

    /// How much the store holds. Reads every directory of it.
    pub fn stats(&self) -> Result<StoreStats, StoreError> {
        let mut stats = StoreStats::default();
        for (_, found) in self.blobs()? {
            stats.blobs += 1;
            stats.blob_bytes += found.len();
        }
        for (_, found) in self.fanned_out("exec")? {
            stats.derived_bytes += found.len();
        }
        stats.reductions = self.memo().all(&self.0.layout)?.len() as u64;
        stats.pins = self.pins()?.len() as u64;
        let quarantine = self.root().join("quarantine");
        stats.quarantined =
            fs::read_dir(&quarantine).map_err(StoreError::at(&quarantine))?.count() as u64;
        stats.log_bytes = fs::metadata(self.0.layout.log()).map_or(0, |found| found.len());
        Ok(stats)
    }

    pub(crate) fn blobs(&self) -> Result<Vec<(Digest, fs::Metadata)>, StoreError> {
        self.fanned_out("blobs")
    }

    /// The files of `blobs` or `exec`.
    fn fanned_out(&self, kind: &str) -> Result<Vec<(Digest, fs::Metadata)>, StoreError> {
        let top = self.root().join(kind);
        let mut all = Vec::new();
        for directory in fs::read_dir(&top).map_err(StoreError::at(&top))? {
            let directory = directory.map_err(StoreError::at(&top))?;
            let path = directory.path();
            for file in fs::read_dir(&path).map_err(StoreError::at(&path))? {
                let file = file.map_err(StoreError::at(&path))?;
                let names = (directory.file_name().into_string(), file.file_name().into_string());
                let (Ok(first), Ok(rest)) = names else { continue };
                let Some(name) = crate::layout::digest_of(&first, &rest) else { continue };
                // It may have been collected since the directory was read.
                if let Ok(found) = file.metadata() {
                    all.push((name, found));
                }
            }
        }
        Ok(all)
    }

    /// Notes that an object is in use, at most once a session; says whether it is there.
    fn touch(&self, name: Digest) -> bool {
        let path = self.0.layout.blob(name);
        let Ok(found) = fs::symlink_metadata(&path) else { return false };
        let used = found.accessed().unwrap_or(SystemTime::UNIX_EPOCH);
        if used < self.0.session.began
            && let Ok(file) = File::open(&path)
        {
            // Only the owner may; a store shared by several users is then collected by age alone.
            let _ = file.set_times(FileTimes::new().set_accessed(SystemTime::now()));
        }
        found.is_file() && found.len() == name.length
    }

    fn is_suspect(&self, name: Digest) -> bool {
        self.0.suspect_since.is_some_and(|since| {
            let written = fs::symlink_metadata(self.0.layout.blob(name)).and_then(|m| m.modified());
            written.is_ok_and(|written| written >= since)
        })
    }
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

fn mark_path(layout: &Layout) -> PathBuf {
    layout.root.join("synced")
}

/// Notes the boot during which everything up to now was synced.
fn write_mark(layout: &Layout) -> Result<(), StoreError> {
    let path = mark_path(layout);
    fs::write(&path, boot_id()).map_err(StoreError::at(&path))
}

/// If the machine has been booted since the last sync: when that was.
fn suspect_since(layout: &Layout) -> Result<Option<SystemTime>, StoreError> {
    let path = mark_path(layout);
    match fs::read_to_string(&path) {
        Ok(boot) if boot == boot_id() => Ok(None),
        Ok(_) => fs::metadata(&path).and_then(|found| found.modified()).map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            write_mark(layout)?;
            return Ok(Some(SystemTime::UNIX_EPOCH));
        }
        Err(error) => Err(error),
    }
    .map_err(StoreError::at(&path))
}
