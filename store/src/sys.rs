//! The few system calls that the store needs and the standard library does not have, in the
//! store's terms.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{
    AtFlags, CWD, RenameFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, renameat_with,
};
use rustix::io::Errno;

use crate::error::{Context, StoreError};
use crate::fault::{self, At};
use crate::files;

/// Modification time of every object, in seconds since 1970 (2001-09-09 01:46:40 UTC): a job that looks
/// at its inputs sees the same on every machine, and an object that has another was written to by
/// somebody else.
pub const OBJECT_MTIME_S: i64 = 1_000_000_000;

/// How much is copied or hashed at a time.
pub(crate) const BUFFER_BYTES: usize = 256 * 1024;

/// A file or directory that is being made; gone when dropped, unless it was persisted.
#[derive(Debug)]
pub(crate) struct Temporary {
    path: PathBuf,
    file: Option<File>,
    is_closed_file: bool,
    done: bool,
}

/// Names that are unique in this process; others' names are avoided by `O_EXCL`.
pub(crate) fn unique_name(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{prefix}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Calls `make` with fresh names until one was free.
fn with_fresh_name<T>(
    directory: &Path,
    prefix: &str,
    mut make: impl FnMut(&Path) -> io::Result<T>,
) -> Result<(PathBuf, T), StoreError> {
    loop {
        let path = directory.join(unique_name(prefix));
        match make(&path) {
            Ok(made) => return Ok((path, made)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(StoreError::io("create", &path, error)),
        }
    }
}

impl Temporary {
    /// A new file in `directory`.
    pub(crate) fn file(directory: &Path) -> Result<Self, StoreError> {
        Self::file_with_prefix(directory, "")
    }

    pub(crate) fn file_with_prefix(directory: &Path, prefix: &str) -> Result<Self, StoreError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let make = |path: &Path| fault::at(At::Create).and_then(|()| options.open(path));
        let (path, file) = with_fresh_name(directory, prefix, make)?;
        Ok(Self { path, file: Some(file), is_closed_file: false, done: false })
    }

    /// A new directory in `directory`.
    pub(crate) fn directory(directory: &Path) -> Result<Self, StoreError> {
        let (path, ()) = with_fresh_name(directory, "", |path| fs::create_dir(path))?;
        Ok(Self { path, file: None, is_closed_file: false, done: false })
    }

    /// Where it is until it gets its final name.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The open file. Only for what [`Temporary::file`] made.
    pub(crate) fn file_handle(&self) -> &File {
        match &self.file {
            Some(file) => file,
            None => unreachable!("a temporary directory, or a closed file, has no handle"),
        }
    }

    pub(crate) fn write_all(&self, bytes: &[u8]) -> Result<(), StoreError> {
        fault::write(At::Write, self.file_handle(), bytes).at("write", &self.path)
    }

    /// Closes the file; what is left to do is to give it its name.
    pub(crate) fn close(&mut self) {
        if let Some(file) = self.file.take() {
            drop(file);
            self.is_closed_file = true;
        }
    }

    /// Gives it its final name, replacing a file of that name.
    pub(crate) fn persist(mut self, path: &Path) -> Result<(), StoreError> {
        fault::at(At::Rename).at("rename to", path)?;
        fs::rename(&self.path, path).at("rename to", path)?;
        self.done = true;
        fault::at(At::Renamed).at("rename to", path)
    }

    /// Gives it its final name, which says what it holds, unless somebody else has made the same
    /// meanwhile; makes the parent directory if it is missing.
    ///
    /// What is there stays: a link of a file that is replaced in that moment fails as if there were none.
    /// True if it is this one that has the name now.
    pub(crate) fn persist_unless_there(mut self, path: &Path) -> Result<bool, StoreError> {
        fault::at(At::Rename).at("rename to", path)?;
        let renamed = match (rename_to_free(&self.path, path), path.parent()) {
            (Err(Errno::NOENT), Some(parent)) => {
                create_directory(parent)?;
                rename_to_free(&self.path, path)
            }
            (renamed, _) => renamed,
        };
        match renamed {
            Ok(()) => self.done = true,
            Err(Errno::EXIST) => {}
            Err(error) => return Err(StoreError::io("rename to", path, error)),
        }
        fault::at(At::Renamed).at("rename to", path)?;
        Ok(self.done)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.done {
            // Nobody to tell; what stays is swept by a later garbage collection.
            let _ = if self.file.is_some() || self.is_closed_file {
                fs::remove_file(&self.path)
            } else {
                fs::remove_dir_all(&self.path)
            };
        }
    }
}

/// Makes one directory, mode 0755 whatever the umask; fine if it exists.
pub(crate) fn create_directory(path: &Path) -> Result<(), StoreError> {
    match fs::DirBuilder::new().mode(0o755).create(path) {
        Ok(()) => make_listable(path),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(StoreError::io("create", path, error)),
    }
}

/// The group of the user that jobs of root run as: `nobody`'s own on every distribution.
const JOBS_OF_ROOT: u32 = 65534;

/// Nobody but its owner may look through the store's root. Root's jobs run as `nobody`, who must be
/// able to pass by it: root's group for them may do that, and nothing else.
pub(crate) fn close_to_others(root: &Path) -> Result<(), StoreError> {
    let is_root = rustix::process::geteuid().is_root();
    let (mode, group) = if is_root { (0o710, Some(JOBS_OF_ROOT)) } else { (0o700, None) };
    let found = fs::metadata(root).at("look at", root)?;
    let is_right = |group| group == found.gid();
    let is_closed = found.mode() & 0o7777 == mode && group.is_none_or(is_right);
    // A store that is somebody else's, or may only be read, is as its owner wants it.
    if is_closed || found.uid() != rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    if group.is_some_and(|group| std::os::unix::fs::chown(root, None, Some(group)).is_err()) {
        // Where root may not do that (some containers), its jobs need not be somebody else either.
        return make_listable(root);
    }
    fs::set_permissions(root, fs::Permissions::from_mode(mode)).at("set the mode of", root)
}

/// Mode 0755, whatever the umask.
pub(crate) fn make_listable(directory: &Path) -> Result<(), StoreError> {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).at("create", directory)
}

/// Renames, or fails with `EEXIST` if there is something of that name.
pub(crate) fn rename_to_free(from: &Path, to: &Path) -> rustix::io::Result<()> {
    renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)
}

/// Moves `path` into `directory` under a fresh name that begins with `prefix`.
/// None if there was nothing to move.
pub(crate) fn move_aside(
    path: &Path,
    directory: &Path,
    prefix: &str,
) -> Result<Option<PathBuf>, StoreError> {
    fault::at(At::Aside).at("move away", path)?;
    loop {
        let target = directory.join(unique_name(prefix));
        match rename_to_free(path, &target) {
            Ok(()) => return Ok(Some(target)),
            Err(Errno::EXIST) => {}
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(StoreError::io("move away", path, error)),
        }
    }
}

/// Removes a file or a whole directory; fine if it is gone.
pub(crate) fn remove(path: &Path) -> Result<(), StoreError> {
    let result = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(StoreError::io("remove", path, error))
        }
        _ => Ok(()),
    }
}

/// Makes the file an object: mode, modification time, and accessed now.
pub(crate) fn seal(file: &File, path: &Path, mode: u32) -> Result<(), StoreError> {
    fault::at(At::Seal).at("set the mode of", path)?;
    rustix::fs::fchmod(file, mode.into()).at("set the mode of", path)?;
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        last_modification: Timespec { tv_sec: OBJECT_MTIME_S, tv_nsec: 0 },
    };
    rustix::fs::futimens(file, &times).at("set the times of", path)
}

/// Sets the access time. Nothing else changes, save the inode's change time.
pub(crate) fn set_access_time(path: &Path, time: SystemTime) -> io::Result<()> {
    fault::at(At::Touch)?;
    let times = Timestamps {
        last_access: timespec(time),
        last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
    };
    Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Sets the modification time of an open file.
pub(crate) fn set_modification_time(file: &File, time: SystemTime) -> io::Result<()> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: timespec(time),
    };
    Ok(rustix::fs::futimens(file, &times)?)
}

/// Gives a link or directory the time of objects. That of a directory changes with what is made in it.
pub(crate) fn set_object_mtime(path: &Path) -> Result<(), StoreError> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: timespec(object_mtime()),
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).at("set the times of", path)
}

/// [`OBJECT_MTIME_S`] as a time.
pub(crate) fn object_mtime() -> SystemTime {
    system_time(OBJECT_MTIME_S, 0)
}

fn timespec(time: SystemTime) -> Timespec {
    // A time before 1970 or beyond the year 292 billion is a broken clock: 1970 will do.
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timespec { tv_sec: since.as_secs() as i64, tv_nsec: since.subsec_nanos().into() }
}

/// A time as `stat` gives it.
pub(crate) fn system_time(seconds: i64, nanoseconds: i64) -> SystemTime {
    let fraction = Duration::from_nanos(nanoseconds.unsigned_abs());
    let whole = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { UNIX_EPOCH - whole + fraction } else { UNIX_EPOCH + whole + fraction }
}

/// When the inode last changed in any way. Unlike the modification time, nobody can set it.
pub(crate) fn change_time(metadata: &fs::Metadata) -> SystemTime {
    system_time(metadata.ctime(), metadata.ctime_nsec())
}

/// When the file was last used, as [`set_access_time`] or the system noted.
pub(crate) fn access_time(metadata: &fs::Metadata) -> SystemTime {
    system_time(metadata.atime(), metadata.atime_nsec())
}

/// Shares the blocks of `source` with the empty file `target`, on file systems that can.
pub(crate) fn reflink(target: &File, source: &File) -> bool {
    rustix::fs::ioctl_ficlone(target, source).is_ok()
}

/// Reads at an offset, once more if the disk fails: it may have been a moment's trouble.
pub(crate) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let read = |buffer: &mut [u8]| {
        fault::at(At::Read)?;
        loop {
            match file.read_at(buffer, offset) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    };
    read(buffer).or_else(|_| read(buffer))
}

/// Reads from the beginning, and no more than this many bytes.
pub(crate) fn read_up_to(file: &File, bytes: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; bytes];
    let mut filled = 0;
    while filled < bytes {
        match read_at(file, &mut buffer[filled..], filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    buffer.truncate(filled);
    Ok(buffer)
}

/// Gives every byte of `file`, from its beginning, to `take`. The file's position stays.
pub(crate) fn read_through(
    file: &File,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut offset = 0;
    loop {
        match read_at(file, &mut buffer, offset)? {
            0 => return Ok(()),
            read => {
                take(&buffer[..read])?;
                offset += read as u64;
            }
        }
    }
}

/// As [`read_through`] for what has no beginning to go back to: a pipe, a terminal.
pub(crate) fn read_stream(
    mut file: &File,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => take(&buffer[..read])?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Opens, and makes if need be, a file that is only there to be locked.
pub(crate) fn open_lock_file(path: &Path) -> Result<File, StoreError> {
    files::open_lock(path).at("open", path)
}

/// Names this run of the machine: another after every boot. Empty if the system does not say;
/// then nothing is taken to be from this run.
pub(crate) fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}
