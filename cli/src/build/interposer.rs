//! The interposer's file: what stands in a tool's place.
//!
//! The program is `cli/interposer/`, compiled by the build script. A build starts it for each call,
//! by a link early in `PATH` or bound over the tool's own file ([`super::binding`]), and answers it
//! ([`super::wire`]). It is written below this user's state once for each version, and stays: links
//! to it may outlive their build.

use std::fs::{Metadata, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use mesh_cli::frontend::Inode;
use mesh_protocol::name::Digest;
use mesh_store::{Store, files};
use rustix::fs::StatVfsMountFlags;

use super::wire::frame::{ROOM, ROOM_MAGIC};

/// The program, with empty room for a path.
const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/interposer"));

/// Where its files are, below this user's state.
const DIRECTORY: &str = "interposers";

/// Letters of a file's name.
const SHORT_NAME: usize = 16;

/// A file that can be executed.
#[derive(Debug)]
pub(crate) struct Interposer {
    path: PathBuf,
    inode: Inode,
}

impl Interposer {
    /// Writes the program below `home`, if it is not there. `real`: the directory that stands for
    /// `/` and has the tools themselves, if it is to be bound over them.
    pub(crate) fn install(home: &Path, real: Option<&Path>) -> io::Result<Self> {
        let bytes = program(real)?;
        let mut name = Digest::of(&bytes).hex();
        name.truncate(SHORT_NAME);
        let directory = home.join(DIRECTORY);
        std::fs::create_dir_all(&directory)?;
        if rustix::fs::statvfs(&directory)?.f_flag.contains(StatVfsMountFlags::NOEXEC) {
            let text = "nothing can be executed on this file system";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        let path = directory.canonicalize()?.join(name);
        // Power may have failed while it was written.
        if files::read(&path, bytes.len() as u64).ok().as_ref() != Some(&bytes) {
            write(&path, &bytes)?;
        }
        let inode = Inode::of(&std::fs::metadata(&path)?);
        Ok(Self { path, inode })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Is this what was found at a path?
    pub(crate) fn is(&self, found: &Metadata) -> bool {
        Inode::of(found) == self.inode
    }
}

/// Is what was found at `path` the interposer of some build, of whatever home?
pub(crate) fn is_any(path: &Path, found: &Metadata) -> bool {
    let Ok(length) = usize::try_from(found.len()) else { return false };
    if length != PROGRAM.len() || !found.is_file() {
        return false;
    }
    let (Ok(bytes), Some(room)) = (std::fs::read(path), room()) else { return false };
    bytes.get(..room) == PROGRAM.get(..room)
        && bytes.get(room + ROOM..) == PROGRAM.get(room + ROOM..)
}

/// Where the path is to be, in [`PROGRAM`].
fn room() -> Option<usize> {
    let found = PROGRAM.windows(ROOM_MAGIC.len()).position(|bytes| bytes == ROOM_MAGIC)?;
    Some(found + ROOM_MAGIC.len())
}

fn program(real: Option<&Path>) -> io::Result<Vec<u8>> {
    let mut bytes = PROGRAM.to_vec();
    let real = real.map_or(&b""[..], |path| path.as_os_str().as_bytes());
    // The path ends with a zero byte.
    let place = room().and_then(|room| bytes.get_mut(room..room + ROOM));
    let place = place.and_then(|room| room.get_mut(..real.len() + 1));
    let place = place.ok_or(io::ErrorKind::InvalidFilename)?;
    place[..real.len()].copy_from_slice(real);
    Ok(bytes)
}

/// Complete or not at all, and ready to be executed: another build may be doing the same.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension(std::process::id().to_string());
    std::fs::write(&fresh, bytes)?;
    std::fs::set_permissions(&fresh, Permissions::from_mode(0o755))?;
    Store::settle_program(&fresh).map_err(io::Error::other)?;
    std::fs::rename(&fresh, path)
}

#[cfg(test)]
#[path = "interposer_tests.rs"]
mod tests;
