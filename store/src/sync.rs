//! Writing a whole file system to its disk (syncfs(2)), in a process of its own.
//!
//! On a disk with much to do that takes minutes, nothing interrupts it, and a process is not gone before each of
//! its threads is. So whoever interrupts a build would wait for what other programs have written. The child that
//! waits instead may outlive us: it holds nothing but the directory.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use rustix::process::{Pid, WaitOptions, waitpid};

/// What such a process is called.
pub const SYNC_NAME: &CStr = c"store-sync";

/// Returns when all that was written to the file system of this directory is on its disk.
pub(crate) fn sync_file_system(directory: &File) -> io::Result<()> {
    let fd = directory.as_raw_fd();
    // SAFETY: the child makes system calls only, which are safe to make after a fork (signal-safety(7)),
    // and ends.
    let child = match unsafe { libc::fork() } {
        0 => unsafe { sync_and_exit(fd) },
        child => Pid::from_raw(child),
    };
    let ended = child.map(|child| {
        loop {
            match waitpid(Some(child), WaitOptions::empty()) {
                Err(rustix::io::Errno::INTR) => {}
                ended => break ended.ok().flatten(),
            }
        }
    });
    match ended.flatten().and_then(|(_, status)| status.exit_status()) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code)),
        // It could not be made, or somebody ended it.
        None => Ok(rustix::fs::syncfs(directory)?),
    }
}

/// Exits with the error's number, which fits: they go to 133 on Linux.
unsafe fn sync_and_exit(directory: libc::c_int) -> ! {
    // SAFETY: the name and the descriptor are valid, and nothing is shared with the parent but files.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, SYNC_NAME.as_ptr());
        // Whoever reads a pipe of ours to its end does not wait for it.
        let is_alone = libc::dup2(directory, 0) == 0
            && libc::syscall(libc::SYS_close_range, 1, libc::c_uint::MAX, 0) == 0;
        // Where descriptors cannot be closed, a signal must end it as it ends us.
        let code = match libc::syncfs(if is_alone { 0 } else { directory }) {
            0 => 0,
            _ => *libc::__errno_location(),
        };
        libc::_exit(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_how_it_went() {
        let place = tempfile::tempdir().unwrap();
        sync_file_system(&File::open(place.path()).unwrap()).unwrap();
        // A pipe is on no disk that has anything to write, which is fine as well.
        let (reader, _writer) = std::io::pipe().unwrap();
        sync_file_system(&File::from(std::os::fd::OwnedFd::from(reader))).unwrap();
    }

    /// Each comes back with the status of its own child.
    #[test]
    fn several_threads_may_do_it_at_once() {
        let place = tempfile::tempdir().unwrap();
        let directory = &File::open(place.path()).unwrap();
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| sync_file_system(directory))).collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap().unwrap());
        });
    }
}
