//! What a job leaves: measured first, as a whole, then handed out.
//!
//! Its processes are all gone, so nothing changes under us.

use std::fs::Permissions;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use mesh_protocol::limits;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::message::{self, Event, FDS_PER_MESSAGE, Order};
use crate::exec::Excess;

/// Opens what can be an output, with these flags. Links are followed inside the sandbox only, and never into /proc,
/// where they would lead out of it.
fn open(path: &str, flags: OFlags) -> Option<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(CWD, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve).ok()
}

/// The kind and the length of what can be an output; none: nothing that is kept.
fn look_at(path: &str) -> Option<(FileType, u64)> {
    const PROC_SUPER_MAGIC: i64 = 0x9fa0;
    let seen = open(path, OFlags::PATH)?;
    if rustix::fs::fstatfs(&seen).ok()?.f_type as i64 == PROC_SUPER_MAGIC {
        return None;
    }
    let found = rustix::fs::fstat(&seen).ok()?;
    Some((FileType::from_raw_mode(found.st_mode), found.st_size as u64))
}

fn open_output(path: &str) -> Option<OwnedFd> {
    match look_at(path)?.0 {
        FileType::RegularFile => open(path, OFlags::RDONLY),
        FileType::Directory => open(path, OFlags::RDONLY | OFlags::DIRECTORY),
        _ => None,
    }
}

/// Adds up what outputs hold.
struct Measure {
    bytes: u64,
    bytes_max: u64,
    files: u64,
}

impl Measure {
    /// Counts a file by its length: holes are written out where it is kept.
    fn add(&mut self, bytes: u64) -> Result<(), Excess> {
        self.files += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.bytes_max {
            return Err(Excess::Bytes { bytes: self.bytes, bytes_max: self.bytes_max });
        }
        if self.files > limits::SANDBOX_FILES {
            return Err(Excess::Files { files_max: limits::SANDBOX_FILES });
        }
        Ok(())
    }

    /// Counts everything in a directory, and lets the owner read it: the engine, who will, has no more rights than
    /// that. Whether a file may be executed stays as it is. What cannot be changed is not the job's own, and
    /// readable already.
    fn add_directory(&mut self, directory: &Path, depth: usize) -> Result<(), Excess> {
        let allow = |path: &Path, mode: u32, wanted: u32| {
            if mode & wanted != wanted {
                let _ = std::fs::set_permissions(path, Permissions::from_mode(mode | wanted));
            }
        };
        let Ok(found) = std::fs::metadata(directory) else { return Ok(()) };
        allow(directory, found.mode(), 0o500);
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(found) = entry.metadata() else { continue };
            self.add(if found.is_file() { found.len() } else { 0 })?;
            if found.is_file() {
                allow(&entry.path(), found.mode(), 0o400);
            } else if found.is_dir() && depth > 0 {
                self.add_directory(&entry.path(), depth - 1)?;
            }
        }
        Ok(())
    }
}

/// Are the outputs too large? To be asked before any of them goes to the store.
pub(super) fn measure(order: &Order) -> Result<(), Excess> {
    let mut measure = Measure { bytes: 0, bytes_max: order.outputs_bytes, files: 0 };
    for path in &order.outputs {
        match look_at(path) {
            Some((FileType::RegularFile, bytes)) => measure.add(bytes)?,
            Some((FileType::Directory, _)) => {
                measure.add_directory(Path::new(path), limits::TREE_DEPTH)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Gives the outputs to the engine, some at a time; it answers when it has taken them.
pub(super) fn hand_out(socket: &OwnedFd, order: &Order) -> Result<(), Errno> {
    let mut batches = order.outputs.chunks(FDS_PER_MESSAGE).enumerate().peekable();
    while let Some((batch, paths)) = batches.next() {
        let mut found = Vec::new();
        let mut fds = Vec::new();
        for (place, path) in paths.iter().enumerate() {
            if let Some(fd) = open_output(path) {
                found.push((batch * FDS_PER_MESSAGE + place) as u32);
                fds.push(fd);
            }
        }
        let last = batches.peek().is_none();
        let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        message::send(socket, &Event::Outputs { found, last }, &borrowed)?;
        // An answer, or the end: either way there is nothing else to wait for.
        if message::receive::<()>(socket)?.is_none() {
            return Ok(());
        }
    }
    Ok(())
}
