//! Objects on disk: one file each, named for its hash, never changed.
//!
//! Why one file each, however small: an object must be able to be hard-linked into a tree
//! directory and bind-mounted into a sandbox, so it needs an inode of its own; see the crate's
//! documentation for what packing would have gained.
//!
//! An object counts as here as long as its length and modification time are as they were made (see
//! [`sys::OBJECT_MTIME_S`]). If not, it is hashed, and either set right or moved to quarantine. Bytes
//! that are given out - to a user's file, to a job - have been hashed in any case (see
//! [`crate::sound`]).
//! Objects that may have been on their way to the disk when the power failed are dealt with when
//! the store is opened (see [`crate::recovery`]).

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::SystemTime;

use mesh_protocol::limits;
use mesh_protocol::name::{Digest, Hasher};

use crate::error::{Context, StoreError};
use crate::fault::{self, At};
use crate::layout::{self, Layout};
use crate::lease;
use crate::making::Making;
use crate::notice::{Notice, Notices};
use crate::options::ExportOptions;
use crate::quota::Growth;
use crate::sound::{Sound, Stamp};
use crate::sys::{self, Temporary};
use crate::{files, reader::ObjectReader};

/// The objects of one store, as seen by one process.
#[derive(Debug)]
pub(crate) struct Blobs {
    layout: Layout,
    notices: Arc<Notices>,
    touched: Touched,
    sound: Sound,
    pub(crate) growth: Growth,
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
    pub(crate) fn new(
        layout: Layout,
        notices: Arc<Notices>,
        session_start: SystemTime,
        growth: Growth,
    ) -> Self {
        let era = RwLock::new(Era { number: 0, start: session_start });
        let touched = Touched { era, shards: std::array::from_fn(|_| Mutex::default()) };
        let (making, dirty) = (Making::default(), AtomicBool::new(false));
        Self { layout, notices, touched, sound: Sound::default(), growth, making, dirty }
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
        self.sound.clear();
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
        let good = match open_quietly(&path) {
            Ok(file) => self.check_open(place, digest, &file)?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Checked::Gone),
            // Something else is in its place, or it is locked away: its name says nothing of it.
            Err(error) if is_out_of_order(&error) => false,
            Err(error) => return Err(StoreError::io("open", &path, error)),
        };
        match (good, place) {
            (true, _) => return Ok(Checked::Good),
            // The object itself may be good.
            (false, Place::Executable) => {
                sys::remove(&path)?;
                self.drop_trees()?;
            }
            (false, _) => self.quarantine(digest)?,
        }
        Ok(Checked::Bad)
    }

    /// Hashes what was opened; if it is good, makes it look so.
    fn check_open(&self, place: Place, digest: Digest, file: &File) -> Result<bool, StoreError> {
        let path = self.path_of(place, digest);
        // Before it is read: what is written meanwhile is not known to be good.
        let before = file.metadata().at("look at", &path)?;
        if before.len() != digest.length {
            return Ok(false);
        }
        let mut hasher = Hasher::new();
        let read = sys::read_through(file, |bytes| {
            hasher.update(bytes);
            Ok(())
        });
        // A read error is the disk saying that the bytes are gone.
        if read.is_err() || hasher.finish() != digest {
            return Ok(false);
        }
        let mode = if place == Place::Executable { 0o555 } else { 0o444 };
        if looks_right(&before, digest) && before.mode() & 0o777 == mode {
            self.sound.insert((place, digest), Stamp::of(&before));
        } else {
            sys::seal(file, &path, mode)?;
        }
        Ok(true)
    }

    /// As [`Blobs::present`], and its bytes have been hashed by this process. Whoever is about to
    /// give the file to somebody who does not hash it calls this.
    pub(crate) fn ensure_sound(&self, digest: Digest) -> Result<(), StoreError> {
        self.present(digest)?;
        match self.is_sound_or_check(Place::Blob, digest)? {
            Checked::Good => Ok(()),
            Checked::Bad => Err(StoreError::Corrupt(digest)),
            Checked::Gone => Err(StoreError::Missing(digest)),
        }
    }

    fn is_sound_or_check(&self, place: Place, digest: Digest) -> Result<Checked, StoreError> {
        let path = self.path_of(place, digest);
        let found = fs::symlink_metadata(&path);
        if found.is_ok_and(|metadata| self.sound.has(&(place, digest), &metadata)) {
            return Ok(Checked::Good);
        }
        self.check(place, digest)
    }

    /// Has this process looked at each file of the materialised tree, in this era?
    pub(crate) fn is_sound_tree(&self, digest: Digest) -> bool {
        self.sound.has_tree(&digest)
    }

    pub(crate) fn know_sound_tree(&self, digest: Digest) {
        self.sound.insert_tree(digest);
    }

    /// After a link of a sound object was made, which changes its inode's change time.
    pub(crate) fn relinked(&self, place: Place, digest: Digest) {
        if let Ok(metadata) = fs::symlink_metadata(self.path_of(place, digest)) {
            self.sound.insert((place, digest), Stamp::of(&metadata));
        }
    }

    /// Opens an object whose bytes have been checked, all of them before the first is given.
    pub(crate) fn reader(&self, digest: Digest) -> Result<ObjectReader, StoreError> {
        if digest.length <= limits::STORE_HELD_BYTES {
            return Ok(ObjectReader::held(self.read(digest, limits::STORE_HELD_BYTES)?));
        }
        self.ensure_sound(digest)?;
        Ok(ObjectReader::of_file(self.open(digest)?, digest.length))
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
        self.sound.clear_trees();
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
                fault::write(At::Write, target, bytes)
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
                fault::write(At::Write, target, bytes)
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
        let sealed = temporary.file_handle().try_clone().at("open", temporary.path())?;
        let path = self.layout.blob(digest);
        if temporary.persist_unless_there(&path)? {
            // The name has changed its change time.
            let metadata = sealed.metadata().at("look at", &path)?;
            self.sound.insert((Place::Blob, digest), Stamp::of(&metadata));
            self.growth.add(digest.length);
        }
        self.touched.insert(era, (Place::Blob, digest));
        self.dirty.store(true, Ordering::Release);
        Ok(())
    }

    pub(crate) fn open(&self, digest: Digest) -> Result<File, StoreError> {
        self.present(digest)?;
        let path = self.layout.blob(digest);
        match files::open(&path, OpenOptions::new().read(true)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Err(StoreError::Missing(digest)),
            result => result.at("open", &path),
        }
    }

    pub(crate) fn read(&self, digest: Digest, max: u64) -> Result<Vec<u8>, StoreError> {
        if digest.length > max {
            return Err(StoreError::TooLarge { digest, max });
        }
        let file = self.open(digest)?;
        // One byte more, to see whether it is too long.
        let wanted = usize::try_from(digest.length.saturating_add(1)).unwrap_or(usize::MAX);
        match sys::read_up_to(&file, wanted) {
            Ok(bytes) if Digest::of(&bytes) == digest => Ok(bytes),
            _ => self.found_corrupt(digest),
        }
    }

    /// The twin that may be executed, made if it is missing. Below the root.
    pub(crate) fn executable(&self, digest: Digest) -> Result<PathBuf, StoreError> {
        let relative = layout::relative_executable_path(digest);
        let path = self.layout.path(&relative);
        let place = Place::Executable;
        let is_known = || {
            let found = fs::symlink_metadata(&path);
            found.is_ok_and(|it| looks_right(&it, digest) && self.sound.has(&(place, digest), &it))
        };
        if self.touch(place, digest) && is_known() {
            return Ok(relative);
        }
        let _maker = self.making.begin((place, digest));
        if self.touch(place, digest) {
            let looks_right = fs::symlink_metadata(&path).is_ok_and(|it| looks_right(&it, digest));
            if looks_right && self.is_sound_or_check(place, digest)? == Checked::Good {
                return Ok(relative);
            }
            sys::remove(&path)?;
        }
        let mut temporary = Temporary::file(&self.layout.tmp())?;
        self.copy_checked(digest, temporary.file_handle(), temporary.path())?;
        let era = self.era();
        sys::seal(temporary.file_handle(), temporary.path(), 0o555)?;
        temporary.close();
        lease::wait_for_writers(temporary.path())?;
        if temporary.persist_unless_there(&path)? {
            self.relinked(place, digest);
            self.growth.add(digest.length);
        }
        self.touched.insert(era, (place, digest));
        Ok(relative)
    }

    /// Copies the object into an empty file that nobody else knows of, and hashes what is there
    /// then: a clone shares the blocks, and so their damage.
    fn copy_checked(&self, digest: Digest, target: &File, path: &Path) -> Result<(), StoreError> {
        let source = self.open(digest)?;
        let mut hasher = Hasher::new();
        if sys::reflink(target, &source) {
            let read = sys::read_through(target, |bytes| {
                hasher.update(bytes);
                Ok(())
            });
            return match read.is_ok() && hasher.finish() == digest {
                true => Ok(()),
                false => self.found_corrupt(digest),
            };
        }
        let mut write_failed = false;
        let result = sys::read_through(&source, |bytes| {
            hasher.update(bytes);
            let written = fault::write(At::Write, target, bytes);
            write_failed = written.is_err();
            written
        });
        if write_failed {
            return result.at("write", path);
        }
        if result.is_err() || hasher.finish() != digest {
            return self.found_corrupt(digest);
        }
        Ok(())
    }

    fn found_corrupt<T>(&self, digest: Digest) -> Result<T, StoreError> {
        self.quarantine(digest)?;
        Err(StoreError::Corrupt(digest))
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

/// Opens for reading, without leaving a trace in the access time that the object has now.
fn open_quietly(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = files::open(path, options.read(true))?;
    // Only the owner may; where it is somebody else's store, reading it counts as a use.
    let flags = rustix::fs::fcntl_getfl(&file)?;
    let _ = rustix::fs::fcntl_setfl(&file, flags | rustix::fs::OFlags::NOATIME);
    Ok(file)
}

/// Does it say that there is something, but no object that could be read?
fn is_out_of_order(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::PermissionDenied)
}

/// The whole file, if it is small enough to be held: then an object that is here already costs
/// no write.
fn read_if_small(file: &File) -> io::Result<Option<Vec<u8>>> {
    let length = file.metadata()?.len();
    if length > limits::STORE_HELD_BYTES {
        return Ok(None);
    }
    // One byte more, to see whether it grew while it was read.
    let bytes = sys::read_up_to(file, length as usize + 1)?;
    Ok((bytes.len() as u64 <= length).then_some(bytes))
}
