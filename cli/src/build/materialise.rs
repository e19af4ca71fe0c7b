//! From an object in the store to a file of the user.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mesh_protocol::name::ValueName;
use mesh_store::Store;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use crate::error::CliError;

/// A file to be written.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) path: PathBuf,
    pub(crate) name: ValueName,
    /// Its permission bits.
    pub(crate) mode: u32,
}

/// Writes a file of the store, as [`place`] does. Gives how it looks.
pub(crate) fn write(store: &Store, wanted: &Wanted) -> Result<Metadata, CliError> {
    let mut bytes = store.open_blob(wanted.name.digest())?;
    let copy = |file: &mut File| io::copy(&mut bytes, file).map(drop);
    let placed = place(&wanted.path, wanted.mode, copy).and_then(|file| file.metadata());
    placed.map_err(CliError::io(&wanted.path))
}

/// Puts a file at a path, with these permissions, whole or not at all: a build that is killed
/// leaves nothing there that is half written. What was there is unlinked, as compilers do. Gives
/// the file, open for reading and writing.
pub(crate) fn place(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<File> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let mut file = match rustix::fs::openat(CWD, directory, flags, Mode::from_raw_mode(mode)) {
        Ok(file) => File::from(file),
        // A file system without nameless files.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => {
            return place_by_rename(path, mode, write);
        }
        Err(error) => return Err(error.into()),
    };
    write(&mut file)?;
    set_mode(&file, mode)?;
    let source = format!("/proc/self/fd/{}", file.as_raw_fd());
    remove_if_there(path)?;
    rustix::fs::linkat(CWD, source, CWD, path, AtFlags::SYMLINK_FOLLOW)?;
    Ok(file)
}

fn place_by_rename(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<File> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.mesh{}", std::process::id()));
    let mut file = File::options().write(true).read(true).create_new(true).open(&beside)?;
    let placed = write(&mut file)
        .and_then(|()| set_mode(&file, mode))
        .and_then(|()| fs::rename(&beside, path));
    match placed {
        Ok(()) => Ok(file),
        Err(error) => {
            remove_if_there(&beside)?;
            Err(error)
        }
    }
}

/// Whatever our own umask took away.
fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))
}

/// Removes a file; it is no error if there is none.
fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The permission bits that a tool's output gets: those of the file that it works on in place, or
/// what `umask` leaves of all.
pub(crate) fn mode_for(path: &Path, is_in_place: bool, executable: bool, umask: u32) -> u32 {
    let existing = fs::symlink_metadata(path).ok().filter(|found| is_in_place && found.is_file());
    let all = if executable { 0o777 } else { 0o666 };
    existing.map_or(all & !umask, |metadata| metadata.mode() & 0o7777)
}
