//! From an object in the store to a file of the user.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mesh_protocol::name::ValueName;
use mesh_store::Store;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use super::placeholder::remove_if_there;
use crate::error::CliError;

/// A file to be written.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) path: PathBuf,
    pub(crate) name: ValueName,
    pub(crate) executable: bool,
    /// The mode of the file that it replaces, where the tool would have kept it.
    pub(crate) mode: Option<u32>,
}

/// Writes a file, whole or not at all: what is at its path is unlinked, as compilers do. Gives
/// how it looks.
pub(crate) fn write(store: &Store, wanted: &Wanted) -> Result<Metadata, CliError> {
    let mut bytes = store.open_blob(wanted.name.digest())?;
    place(wanted, &mut bytes).map_err(CliError::io(&wanted.path))
}

fn place(wanted: &Wanted, bytes: &mut File) -> io::Result<Metadata> {
    let path = &wanted.path;
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mode = Mode::from_bits_truncate(creation_mode(wanted.executable));
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let mut file = match rustix::fs::openat(CWD, directory, flags, mode) {
        Ok(file) => File::from(file),
        // A file system without nameless files.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => {
            return place_by_rename(wanted, bytes);
        }
        Err(error) => return Err(error.into()),
    };
    copy(wanted, bytes, &mut file)?;
    let source = format!("/proc/self/fd/{}", file.as_raw_fd());
    remove_if_there(path)?;
    rustix::fs::linkat(CWD, source, CWD, path, AtFlags::SYMLINK_FOLLOW)?;
    file.metadata()
}

fn place_by_rename(wanted: &Wanted, bytes: &mut File) -> io::Result<Metadata> {
    let name = wanted.path.file_name().unwrap_or_default().to_string_lossy();
    let beside = wanted.path.with_file_name(format!(".{name}.mesh{}", std::process::id()));
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    options.write(true).read(true).create_new(true).mode(creation_mode(wanted.executable));
    let mut file = options.open(&beside)?;
    let placed = copy(wanted, bytes, &mut file).and_then(|()| fs::rename(&beside, &wanted.path));
    if let Err(error) = placed {
        remove_if_there(&beside)?;
        return Err(error);
    }
    file.metadata()
}

fn copy(wanted: &Wanted, bytes: &mut File, file: &mut File) -> io::Result<()> {
    io::copy(bytes, file)?;
    match wanted.mode {
        Some(mode) => {
            let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode & 0o7777);
            file.set_permissions(permissions)
        }
        None => Ok(()),
    }
}

/// What open(2) is asked for; the umask takes its part away.
pub(crate) fn creation_mode(executable: bool) -> u32 {
    if executable { 0o777 } else { 0o666 }
}

/// The mode of the file at `path`, which a tool that works in place would keep.
pub(crate) fn mode_of(path: &Path) -> Option<u32> {
    fs::symlink_metadata(path).ok().filter(Metadata::is_file).map(|metadata| metadata.mode())
}

/// Waits until nobody has the file open for writing: until then it cannot be executed
/// (`ETXTBSY`). A child that this process forked a moment ago may hold it until it executes.
pub(crate) fn settle_executable(path: &Path) {
    const TRIES: u32 = 1000;
    for _ in 0..TRIES {
        let Ok(file) = File::open(path) else { return };
        // A read lease is given only if nobody can write (fcntl(2), "Leases").
        match lease::has_writers(&file) {
            Some(true) => std::thread::sleep(std::time::Duration::from_millis(1)),
            _ => return,
        }
    }
}

mod lease {
    //! `F_SETLEASE`, which no crate in use offers.
    #![allow(unsafe_code)]

    use std::fs::File;
    use std::os::fd::AsRawFd;

    /// Is the file open for writing somewhere? `None` if the file system does not say.
    pub(super) fn has_writers(file: &File) -> Option<bool> {
        let set = |lease: i32| {
            // SAFETY: fcntl with an integer argument on a descriptor that `file` keeps open.
            unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, lease) }
        };
        if set(libc::F_RDLCK) == 0 {
            set(libc::F_UNLCK);
            return Some(false);
        }
        let busy = std::io::Error::last_os_error().raw_os_error() == Some(libc::EAGAIN);
        busy.then_some(true)
    }
}
