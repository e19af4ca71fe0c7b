//! A mount namespace of the build's own, in which some files stand in for others.
//!
//! Goal: what the build sees at some paths changes, for it and its children alone. The namespace
//! dies with its last process, whatever kills it, and leaves nothing behind.
//!
//! Root needs no more than that namespace. Anybody else gets a user namespace around it, in which
//! they are who they were, and the files of others belong to nobody (user_namespaces(7)).
#![allow(unsafe_code)] // unshare(2), which changes the calling process.

use std::ffi::{CStr, CString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};
use rustix::thread::UnshareFlags;

/// What is to be seen where. Made before the fork, so that afterwards only system calls are left.
#[derive(Debug)]
pub(crate) struct Mounts {
    /// User and group, for those who need a user namespace: the lines of its maps.
    maps: Option<(String, String)>,
    /// Source and target, in their order.
    binds: Vec<(CString, CString)>,
}

impl Mounts {
    /// Each second path is to show what is at the first; both are there.
    pub(crate) fn new(binds: &[(&Path, &Path)]) -> io::Result<Self> {
        let text = |path: &Path| CString::new(path.as_os_str().as_bytes());
        let binds = binds.iter().map(|(source, target)| Ok((text(source)?, text(target)?)));
        let binds = binds.collect::<io::Result<_>>()?;
        let user = rustix::process::geteuid();
        let line = |id: u32| format!("{id} {id} 1");
        let group = rustix::process::getegid();
        let maps = (!user.is_root()).then(|| (line(user.as_raw()), line(group.as_raw())));
        Ok(Self { maps, binds })
    }

    /// Moves this process, which has one thread, into a namespace of its own with these mounts.
    ///
    /// Made for the moment between fork and exec too: it allocates nothing and takes no lock.
    pub(crate) fn enter(&self) -> io::Result<()> {
        let spaces = match self.maps {
            Some(_) => UnshareFlags::NEWNS | UnshareFlags::NEWUSER,
            None => UnshareFlags::NEWNS,
        };
        // SAFETY: no file descriptors are unshared.
        unsafe { rustix::thread::unshare_unsafe(spaces) }?;
        if let Some((user, group)) = &self.maps {
            // Without it the kernel refuses the map of groups: a group could be left that way
            // which keeps its members away from a file.
            write(c"/proc/self/setgroups", "deny")?;
            write(c"/proc/self/uid_map", user)?;
            write(c"/proc/self/gid_map", group)?;
        }
        // What the system mounts from now on is seen; what is mounted here is seen by nobody else.
        mount_change(c"/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
        for (source, target) in &self.binds {
            mount_bind(source.as_c_str(), target.as_c_str())?;
        }
        Ok(())
    }

    /// Does the system allow this? Tries it in a child that does nothing else.
    pub(crate) fn are_possible(self: &std::sync::Arc<Self>) -> bool {
        let mounts = std::sync::Arc::clone(self);
        let mut command = Command::new("/proc/self/exe");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // SAFETY: only system calls between fork and exec, which is never reached.
        unsafe {
            command.pre_exec(move || {
                mounts.enter()?;
                libc::_exit(0)
            });
        }
        // A failure comes back as one to spawn; a child that has ended by itself is none.
        command.spawn().and_then(|mut child| child.wait()).is_ok_and(|status| status.success())
    }
}

fn write(path: &CStr, text: &str) -> io::Result<()> {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    // These files take their content in one piece or not at all.
    rustix::io::write(&file, text.as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_mount_onto_nothing_is_not_possible() {
        let place = tempfile::tempdir().unwrap();
        let (file, missing) = (place.path().join("file"), place.path().join("missing"));
        std::fs::write(&file, "1").unwrap();
        let mounts = Arc::new(Mounts::new(&[(&file, &missing)]).unwrap());
        assert!(!mounts.are_possible());
    }

    #[test]
    fn what_is_tried_is_not_seen_here() {
        let place = tempfile::tempdir().unwrap();
        let (file, other) = (place.path().join("file"), place.path().join("other"));
        std::fs::write(&file, "1").unwrap();
        std::fs::write(&other, "2").unwrap();
        let mounts = Arc::new(Mounts::new(&[(&file, &other)]).unwrap());
        mounts.are_possible();
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "2");
        std::fs::remove_file(&other).unwrap();
    }
}
