//! Objects on disk: one file each, named for its hash, never changed.
//!
//! Why one file each, however small: an object must be able to be hard-linked into a tree
//! directory and bind-mounted into a sandbox, so it needs an inode of its own; see the crate's
//! documentation for what packing would have gained.
//!
//! An object is trusted as long as its length and modification time are as they were made (see
//! [`sys::OBJECT_MTIME_S`]). If not, it is hashed, and either set right or moved to quarantine.
//! Objects that may have been on their way to the disk when the power failed are dealt with when
//! the store is opened (see [`crate::recovery`]).

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::SystemTime;

use mesh_protocol::limits;
use mesh_protocol::name::{Digest, Hasher};

use crate::error::{Context, StoreError};
use crate::layout::{self, Layout};
use crate::lease;
use crate::making::Making;
use crate::notice::{Notice, Notices};
use crate::options::ExportOptions;
use crate::sys::{self, Temporary};

/// The objects of one store, as seen by one process.
#[derive(Debug)]
pub(crate) struct Blobs {
    layout: Layout,
    notices: Arc<Notices>,
    touched: Touched,
    pub(crate) making: Making,
    /// Has something been written that [`crate::commit`] has not brought to the disk yet?
    pub(crate) dirty: AtomicBool,
}

/// Which paths this process has marked as used: once in an era is enough to protect them.
#[derive(Debug)]
struct Touched {
    era: RwLock<Era>,
    shards: [Mutex<HashSet<Key>>; 16],
}

/// The time between two renewals of a session (see [`crate::session`]).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Era {
    pub(crate) number: u64,
    /// Nothing is marked as used before this moment, so that a clock that is set back does not
    /// take away the protection that live sessions give (see [`crate::gc`]).
    start: SystemTime,
}

/// An object, or what was made of one.
pub(crate) type Key = (Place, Digest);

/// The three places where an object can be on disk.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Place {
    Blob,
    Executable,
    Tree,
}

/// What hashing an object showed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Checked {
    Good,
    /// It was moved to quarantine.
    Bad,
    /// Nothing was there.
    Gone,
}

impl Touched {
    fn era(&self) -> Era {
        *self.era.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn shard(&self, digest: Digest) -> MutexGuard<'_, HashSet<Key>> {
        lock(&self.shards[usize::from(digest.sha256[0] & 15)])
    }

    /// What was marked in another era has to be marked once more.
    fn insert(&self, era: Era, key: Key) {
        let mut shard = self.shard(key.1);
        if self.era().number == era.number {
            shard.insert(key);
        }
    }

    fn retain(&self, keep: impl Fn(&Key) -> bool) {
        self.shards.iter().for_each(|shard| lock(shard).retain(&keep));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Blobs {
    pub(crate) fn new(layout: Layout, notices: Arc<Notices>, session_start: SystemTime) -> Self {
        let era = RwLock::new(Era { number: 0, start: session_start });
        let touched = Touched { era, shards: std::array::from_fn(|_| Mutex::default()) };
        let (making, dirty) = (Making::default(), AtomicBool::new(false));
        Self { layout, notices, touched, making, dirty }
    }

    /// The present era.
    pub(crate) fn era(&self) -> Era {
        self.touched.era()
    }

    /// Another era begins: whatever is used from now on is marked once more. The start of the one that ended.
    pub(crate) fn begin_era(&self, now: SystemTime) -> SystemTime {
        let ended = {
            let mut era = self.touched.era.write().unwrap_or_else(PoisonError::into_inner);
            let next = Era { number: era.number + 1, start: now.max(era.start) };
            std::mem::replace(&mut *era, next)
        };
        self.touched.retain(|_| false);
        ended.start
    }

    pub(crate) fn path_of(&self, place: Place, digest: Digest) -> PathBuf {
        match place {
            Place::Blob => self.layout.blob(digest),
            Place::Executable => self.layout.executable(digest),
            Place::Tree => self.layout.tree(digest),
        }
    }

    /// Marks the object as used. False if it is not there.
    ///
    /// To be called *before* a look at the object: garbage collection moves its victim away,
    /// looks at the access time once more and brings it back if it was used meanwhile.
    pub(crate) fn touch(&self, place: Place, digest: Digest) -> bool {
        if self.touched.shard(digest).contains(&(place, digest)) {
            return true;
        }
        let path = self.path_of(place, digest);
        let era = self.era();
        match sys::set_access_time(&path, SystemTime::now().max(era.start)) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return false,
            // A store that may only be read is still of use.
            Err(_) => self.notices.push(Notice::TouchFailed(path)),
        }
        self.touched.insert(era, (place, digest));
        true
    }

    fn forget_touch(&self, place: Place, digest: Digest) {
        self.touched.shard(digest).remove(&(place, digest));
    }

    /// Is the object there, and does it look as it was made?
    pub(crate) fn contains(&self, digest: Digest) -> bool {
        self.present(digest).is_ok()
    }

    /// As [`Blobs::contains`], with the reason.
    pub(crate) fn present(&self, digest: Digest) -> Result<(), StoreError> {
        if !self.touch(Place::Blob, digest) {
            return Err(StoreError::Missing(digest));
        }
        let path = self.layout.blob(digest);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if looks_right(&metadata, digest) => Ok(()),
            Ok(_) => match self.check(Place::Blob, digest)? {
                Checked::Good => Ok(()),
                Checked::Bad => Err(StoreError::Corrupt(digest)),
                Checked::Gone => Err(StoreError::Missing(digest)),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.forget_touch(Place::Blob, digest);
                Err(StoreError::Missing(digest))
            }
            Err(error) => Err(StoreError::io("look at", &path, error)),
        }
    }

    /// Hashes the object; sets right what is good and quarantines what is not.
    pub(crate) fn check(&self, place: Place, digest: Digest) -> Result<Checked, StoreError> {
        let path = self.path_of(place, digest);
        let file = match open_quietly(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Checked::Gone),
            Err(error) => return Err(StoreError::io("open", &path, error)),
        };
        let mut hasher = Hasher::new();
        let read = sys::read_through(&file, |bytes| {
            hasher.update(bytes);
            Ok(())
        });
        // A read error is the disk saying that the bytes are gone.
        let good = read.is_ok() && hasher.finish() == digest;
        match (good, place) {
            (true, _) if file.metadata().is_ok_and(|metadata| looks_right(&metadata, digest)) => {}
            (true, Place::Executable) => sys::seal(&file, &path, 0o555)?,
            (true, _) => sys::seal(&file, &path, 0o444)?,
            // The object itself may be good.
            (false, Place::Executable) => {
                sys::remove(&path)?;
                self.drop_trees()?;
            }
            (false, _) => self.quarantine(digest)?,
        }
        Ok(if good { Checked::Good } else { Checked::Bad })
    }

    /// Moves a damaged object, and whatever was made of it, out of the way.
    pub(crate) fn quarantine(&self, digest: Digest) -> Result<(), StoreError> {
        let prefix = format!("{}-", digest.hex());
        let aside = self.layout.path("quarantine");
        let moved = sys::move_aside(&self.layout.blob(digest), &aside, &prefix)?;
        sys::remove(&self.layout.executable(digest))?;
        self.drop_trees()?;
        self.forget_touch(Place::Blob, digest);
        self.forget_touch(Place::Executable, digest);
        if moved.is_some() {
            self.notices.push(Notice::Quarantined(digest));
        }
        Ok(())
    }

    /// Takes all materialised trees out of use: their files are links of objects, one of which
    /// is bad. Those that are mounted somewhere stay valid until `tmp` is swept.
    pub(crate) fn drop_trees(&self) -> Result<(), StoreError> {
        let trees = self.layout.path("trees");
        for entry in fs::read_dir(&trees).at("list", &trees)? {
            let entry = entry.at("list", &trees)?;
            sys::move_aside(&entry.path(), &self.layout.tmp(), "tree-")?;
        }
        self.touched.retain(|(place, _)| *place != Place::Tree);
        Ok(())
    }

    pub(crate) fn put_bytes(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        self.put_hashed(digest, bytes)?;
        Ok(digest)
    }

    /// Stores bytes whose digest is known.
    pub(crate) fn put_hashed(&self, digest: Digest, bytes: &[u8]) -> Result<(), StoreError> {
        if self.contains(digest) {
            return Ok(());
        }
        let temporary = Temporary::file(&self.layout.tmp())?;
        temporary.write_all(bytes)?;
        self.adopt(temporary, digest)
    }

    pub(crate) fn put_file(
        &self,
        file: &File,
        go_on: &dyn Fn() -> io::Result<()>,
    ) -> Result<Digest, StoreError> {
        let given = Path::new("the given file");
        let is_file = file.metadata().at("look at", given)?.is_file();
        if is_file && let Some(bytes) = read_if_small(file).at("read", given)? {
            return self.put_bytes(&bytes);
        }
        let temporary = Temporary::file(&self.layout.tmp())?;
        let target = temporary.file_handle();
        let mut hasher = Hasher::new();
        // A clone is a snapshot, so what is hashed is what is kept, as it is with a copy.
        let result = if !is_file {
            sys::read_stream(file, |bytes| {
                go_on()?;
                hasher.update(bytes);
                (&mut &*target).write_all(bytes)
            })
        } else if sys::reflink(target, file) {
            sys::read_through(target, |bytes| {
                go_on()?;
                hasher.update(bytes);
                Ok(())
            })
        } else {
            sys::read_through(file, |bytes| {
                go_on()?;
                hasher.update(bytes);
                (&mut &*target).write_all(bytes)
            })
        };
        result.at("copy to", temporary.path())?;
        let digest = hasher.finish();
        if !self.contains(digest) {
            self.adopt(temporary, digest)?;
        }
        Ok(digest)
    }

    /// Makes an object of a temporary file whose bytes have been hashed.
    pub(crate) fn adopt(&self, temporary: Temporary, digest: Digest) -> Result<(), StoreError> {
        let era = self.era();
        sys::seal(temporary.file_handle(), temporary.path(), 0o444)?;
        temporary.persist_unless_there(&self.layout.blob(digest))?;
        self.touched.insert(era, (Place::Blob, digest));
        self.dirty.store(true, Ordering::Release);
        Ok(())
    }

    pub(crate) fn open(&self, digest: Digest) -> Result<File, StoreError> {
        self.present(digest)?;
        let path = self.layout.blob(digest);
        match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Err(StoreError::Missing(digest)),
            result => result.at("open", &path),
        }
    }

    pub(crate) fn read(&self, digest: Digest, max: u64) -> Result<Vec<u8>, StoreError> {
        if digest.length > max {
            return Err(StoreError::TooLarge { digest, max });
        }
        let file = self.open(digest)?;
        let mut bytes = Vec::new();
        let read = file.take(digest.length.saturating_add(1)).read_to_end(&mut bytes);
        if read.is_err() || Digest::of(&bytes) != digest {
            self.quarantine(digest)?;
            return Err(StoreError::Corrupt(digest));
        }
        Ok(bytes)
    }

    /// The twin that may be executed, made if it is missing. Below the root.
    pub(crate) fn executable(&self, digest: Digest) -> Result<PathBuf, StoreError> {
        let relative = layout::relative_executable_path(digest);
        let path = self.layout.path(&relative);
        let place = Place::Executable;
        let looks_right = || fs::symlink_metadata(&path).is_ok_and(|it| looks_right(&it, digest));
        if self.touch(place, digest) && looks_right() {
            return Ok(relative);
        }
        let _maker = self.making.begin((place, digest));
        if self.touch(place, digest) {
            match looks_right() {
                true => return Ok(relative),
                false => sys::remove(&path)?,
            }
        }
        let mut temporary = Temporary::file(&self.layout.tmp())?;
        self.copy_checked(digest, temporary.file_handle(), temporary.path())?;
        let era = self.era();
        sys::seal(temporary.file_handle(), temporary.path(), 0o555)?;
        temporary.close();
        lease::wait_for_writers(temporary.path())?;
        temporary.persist_unless_there(&path)?;
        self.touched.insert(era, (place, digest));
        Ok(relative)
    }

    /// Copies the object into an empty file.
    fn copy_checked(&self, digest: Digest, target: &File, path: &Path) -> Result<(), StoreError> {
        let source = self.open(digest)?;
        if sys::reflink(target, &source) {
            return Ok(());
        }
        let mut hasher = Hasher::new();
        let mut write_failed = false;
        let result = sys::read_through(&source, |bytes| {
            hasher.update(bytes);
            let written = (&mut &*target).write_all(bytes);
            write_failed = written.is_err();
            written
        });
        if write_failed {
            return result.at("write", path);
        }
        if result.is_err() || hasher.finish() != digest {
            self.quarantine(digest)?;
            return Err(StoreError::Corrupt(digest));
        }
        Ok(())
    }

    pub(crate) fn export(
        &self,
        digest: Digest,
        dest: &Path,
        options: &ExportOptions,
    ) -> Result<(), StoreError> {
        let directory = match dest.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        self.present(digest)?;
        let temporary = Temporary::file_with_prefix(directory, ".mesh-export-")?;
        let file = temporary.file_handle();
        self.copy_checked(digest, file, temporary.path())?;
        rustix::fs::fchmod(file, options.mode.into()).at("set the mode of", dest)?;
        if let Some(mtime) = options.mtime {
            sys::set_modification_time(file, mtime).at("set the times of", dest)?;
        }
        temporary.persist(dest)
    }
}

/// Same length and modification time as when it was made?
pub(crate) fn looks_right(metadata: &fs::Metadata, digest: Digest) -> bool {
    metadata.is_file()
        && metadata.len() == digest.length
        && metadata.mtime() == sys::OBJECT_MTIME_S
        && metadata.mtime_nsec() == 0
}

/// Opens for reading; if the system lets us, without leaving a trace in the access time.
fn open_quietly(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOATIME.bits() as i32;
    match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => File::open(path),
        result => result,
    }
}

/// The whole file, if it is small enough to be held: then an object that is here already costs
/// no write.
fn read_if_small(file: &File) -> io::Result<Option<Vec<u8>>> {
    let length = file.metadata()?.len();
    if length > limits::STORE_HELD_BYTES {
        return Ok(None);
    }
    // One byte more, to see whether it grew while it was read.
    let mut bytes = vec![0; length as usize + 1];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], filled as u64) {
            Ok(0) => {
                bytes.truncate(filled);
                return Ok(Some(bytes));
            }
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
