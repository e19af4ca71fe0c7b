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
    /// Its permission bits.
    pub(crate) mode: u32,
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
    let mode = Mode::from_bits_truncate(wanted.mode);
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
    options.write(true).read(true).create_new(true).mode(wanted.mode);
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
    // Our own umask had a part in it.
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(wanted.mode))
}

/// The permission bits that a tool's output gets: those of the file that it works on in place, or
/// what `umask` leaves of all.
pub(crate) fn mode_for(path: &Path, is_in_place: bool, executable: bool, umask: u32) -> u32 {
    let existing = fs::symlink_metadata(path).ok().filter(|found| is_in_place && found.is_file());
    let all = if executable { 0o777 } else { 0o666 };
    existing.map_or(all & !umask, |metadata| metadata.mode() & 0o7777)
}
