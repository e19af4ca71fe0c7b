//! The owner that jobs see of what is mounted from the store.
//!
//! Jobs run as one user, and what is copied for them is theirs. An ordinary user's store belongs to
//! that user as well, but root's belongs to root, whom the sandbox has no name for, so that files
//! of at most 64 KiB would have one owner and larger ones another. So root mounts its store once
//! more, with its owner mapped to the user of jobs (mount_setattr(2), `MOUNT_ATTR_IDMAP`). On the
//! disk nothing changes, and the mount is read-only.
//!
//! It takes Linux 5.19 (overlays of such mounts), a file system that can do it, and a root that may
//! mount. Elsewhere root's jobs see another owner of what is mounted, as they did before.
//!
//! Unsafe for one system call, which no safe crate offers.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;
use rustix::pipe::PipeFlags;

use super::base::NOBODY;
use super::process::{self, Cloned, SingleThreaded};

/// Overlays over mapped mounts.
const KERNEL_MIN: (u32, u32) = (5, 19);

/// Where objects are in the store.
const BLOBS: &str = "blobs";

/// `linux/mount.h`
const MOUNT_ATTR_RDONLY: u64 = 0x1;
const MOUNT_ATTR_NOSUID: u64 = 0x2;
const MOUNT_ATTR_NODEV: u64 = 0x4;
const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;

/// `struct mount_attr`
#[repr(C)]
struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Mounts the working directory, which is the store's root, for jobs of root: a mount that is
/// nowhere yet. None for an ordinary user, who needs none, and where it is not possible.
pub(super) fn mapped_store(single: &SingleThreaded) -> Option<OwnedFd> {
    if !rustix::process::geteuid().is_root() || !is_new_enough() {
        return None;
    }
    map_store(single).ok()
}

fn is_new_enough() -> bool {
    let name = rustix::system::uname();
    let mut numbers = name.release().to_str().unwrap_or_default().split(['.', '-']);
    let mut next = || numbers.next().and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
    (next(), next()) >= KERNEL_MIN
}

fn map_store(single: &SingleThreaded) -> Result<OwnedFd, Errno> {
    // Its root is of a group that may go through it; what is in it is not.
    let owner = rustix::fs::stat(BLOBS)?;
    let users = user_namespace(owner.st_uid, owner.st_gid, single)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let mount = rustix::mount::open_tree(CWD, ".", flags)?;
    map_owners(mount.as_fd(), users.as_fd())?;
    Ok(mount)
}

/// A user namespace in which the owner of the store is who jobs are on the host. It lives as long
/// as somebody holds it.
fn user_namespace(user: u32, group: u32, single: &SingleThreaded) -> Result<OwnedFd, Errno> {
    let (until, end) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let pid = match process::clone(libc::CLONE_NEWUSER, single)? {
        Cloned::Child => {
            drop(end);
            // Nothing is ever written: it ends when the other side is closed.
            let _ = rustix::io::read(&until, &mut [0_u8; 1]);
            process::exit(0);
        }
        Cloned::Parent { pid, .. } => pid,
    };
    let errno = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let write = |file: &str, id: u32| {
        std::fs::write(format!("/proc/{pid}/{file}"), format!("{id} {NOBODY} 1")).map_err(errno)
    };
    let users = write("uid_map", user)
        .and_then(|()| write("gid_map", group))
        .and_then(|()| File::open(format!("/proc/{pid}/ns/user")).map_err(errno));
    drop(end);
    process::reap(true)?;
    Ok(users?.into())
}

fn map_owners(mount: BorrowedFd<'_>, users: BorrowedFd<'_>) -> Result<(), Errno> {
    let attributes = Attributes {
        set: MOUNT_ATTR_IDMAP | MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
        clear: 0,
        propagation: 0,
        user_namespace: users.as_raw_fd() as u64,
    };
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: the path is an empty string with its zero byte, and the kernel reads as many bytes of
    // the attributes as they are said to have; both live until the call returns.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    if result < 0 {
        let error = std::io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO));
    }
    Ok(())
}
