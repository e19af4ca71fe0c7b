//! Who has a file open? Leases tell (fcntl(2), "Leases"): one for reading is refused while somebody writes, one
//! for writing while anybody has it open.
//!
//! A program that is open for writing anywhere cannot be executed (`ETXTBSY`). Whoever wrote it has
//! closed it, but a child that another thread forked meanwhile holds a copy of the descriptor until it
//! executes something else.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use crate::error::{Context, StoreError};

/// How often a file is looked at before it is given up to be busy.
const LOOKS_MAX: u32 = 2_000;
/// Between two looks. A forked child executes within a millisecond or two.
const PAUSE: Duration = Duration::from_micros(500);

/// Waits until nobody has the file open for writing, or a second has passed.
pub(crate) fn wait_for_writers(path: &Path) -> Result<(), StoreError> {
    wait(path, || std::thread::sleep(PAUSE)).at("look at", path)
}

fn wait(path: &Path, mut pause: impl FnMut()) -> io::Result<()> {
    // Read-only: a descriptor that could write would be a writer itself.
    let file = File::open(path)?;
    for _ in 0..LOOKS_MAX {
        if !has_writers(&file)? {
            break;
        }
        pause();
    }
    Ok(())
}

/// Does anybody have the file open, for whatever? False too if that cannot be told: the file system has no
/// leases, or the file is somebody else's.
pub fn is_open_elsewhere(path: &Path) -> bool {
    let is_open = File::open(path).and_then(|file| refuses(&file, libc::F_WRLCK));
    is_open.unwrap_or(false)
}

/// False too if the file system has no leases.
fn has_writers(file: &File) -> io::Result<bool> {
    refuses(file, libc::F_RDLCK)
}

/// Is a lease refused because of what others do with the file?
fn refuses(file: &File, lease: libc::c_int) -> io::Result<bool> {
    match set(file, lease) {
        Ok(()) => {
            // Given back at once: a lease that is broken by an opener would bring a signal.
            set(file, libc::F_UNLCK)?;
            Ok(false)
        }
        Err(error) => Ok(error.raw_os_error() == Some(libc::EAGAIN)),
    }
}

fn set(file: &File, lease: libc::c_int) -> io::Result<()> {
    // SAFETY: F_SETLEASE takes an integer; the descriptor is open as long as `file` is borrowed.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, lease) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_for_the_last_writer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        let writer = File::create(&path).unwrap();
        // What a forked child has: another descriptor of the same open file.
        let mut copies = vec![writer.try_clone().unwrap(), writer];
        let mut pauses = 0;
        wait(&path, || {
            copies.pop();
            pauses += 1;
        })
        .unwrap();
        assert_eq!((pauses, copies.len()), (2, 0), "once for each descriptor");
        let reader = File::open(&path).unwrap();
        wait(&path, || panic!("readers do not count")).unwrap();
        drop(reader);
    }

    #[test]
    fn whoever_has_it_open_shows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        assert!(!is_open_elsewhere(&path), "it is not there");
        let writer = File::create(&path).unwrap();
        assert!(is_open_elsewhere(&path));
        drop(writer);
        assert!(!is_open_elsewhere(&path));
        let _reader = File::open(&path).unwrap();
        assert!(is_open_elsewhere(&path));
    }

    #[test]
    fn it_gives_up_in_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        let _writer = File::create(&path).unwrap();
        let mut pauses = 0;
        wait(&path, || pauses += 1).unwrap();
        assert_eq!(pauses, LOOKS_MAX);
    }
}
