//! The ground on which every sandbox of one launcher stands, laid once: an unprivileged user, a
//! user namespace, and a mount namespace that holds the store, five devices, and nothing else of
//! the host. A mistake in the building of one sandbox can reach no further than this.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Gid, Mode, OFlags, StatVfsMountFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags};
use rustix::process::DumpableBehavior;
use rustix::thread::CapabilitySet;

use super::build;
use super::message::{Step, StepError};
use super::process::{self, SingleThreaded};

/// The user and group that a job sees itself as.
pub(super) const JOB_ID: u32 = 1000;

/// What the host's root becomes: `nobody`.
pub(super) const NOBODY: u32 = 65534;

/// What a job's host is called.
const HOST_NAME: &[u8] = b"mesh";

/// Where the store stands on the ground.
pub(super) const STORE: &str = "/store";
/// The devices, ready to be bound into a sandbox.
pub(super) const DEVICES: &str = "/dev";
/// Where a sandbox is built.
pub(super) const WORK: &str = "/build";
/// Anything of the host's may be covered while the ground is laid; one of these exists everywhere.
const GROUNDS: [&str; 4] = ["/tmp", "/mnt", "/var", "/usr"];

const NODES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];
const LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// Stops being root, if this is root. The working directory stays: the store may lie where
/// `nobody` could not go by itself.
pub(super) fn drop_root() -> Result<(), StepError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    rustix::thread::set_thread_groups(&[]).step("leave all groups")?;
    rustix::thread::set_thread_res_gid(group, group, group).step("become group nobody")?;
    rustix::thread::set_thread_res_uid(user, user, user).step("become user nobody")?;
    Ok(())
}

/// Enters the namespaces that all sandboxes share. The working directory is the store's root; `mapped`
/// is a mount of it on which its owner is the user of jobs.
pub(super) fn enter(single: &SingleThreaded, mapped: Option<OwnedFd>) -> Result<(), StepError> {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    let counted = counts();
    process::unshare(libc::CLONE_NEWUSER, single).step("make a user namespace")?;
    map(user, group)?;
    bound_counts(&counted);
    process::unshare(libc::CLONE_NEWNS, single).step("make a mount namespace")?;
    // Containers may forbid it. Jobs see another name then, and nothing else of the host by it.
    let _ = name_host(single);
    drop_bounding_set().step("empty the bounding set of capabilities")?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).step("make mounts private")?;
    lay(mapped)
}

/// Gives this process a host name of its own.
pub(super) fn name_host(single: &SingleThreaded) -> Result<(), StepError> {
    process::unshare(libc::CLONE_NEWUTS, single).step("make a host name namespace")?;
    rustix::system::sethostname(HOST_NAME).step("set the host name")
}

/// What the kernel counts for each user and lets a user namespace bound: `/proc/sys/user`, see namespaces(7).
const COUNTED: [&str; 2] = ["max_inotify_instances", "max_inotify_watches"];

fn counts() -> Vec<(&'static str, Option<u64>)> {
    let read = |name| std::fs::read_to_string(format!("/proc/sys/user/{name}"));
    COUNTED.map(|name| (name, read(name).ok().and_then(|text| text.trim().parse().ok()))).into()
}

/// Leaves half of what the owner of the machine has to the owner, whatever all jobs together do. Containers
/// that show `/proc/sys` read-only leave it to jobs.
fn bound_counts(counts: &[(&str, Option<u64>)]) {
    for (name, count) in counts {
        if let Some(count) = count {
            let half = (count / 2).to_string();
            let _ = std::fs::write(format!("/proc/sys/user/{name}"), half);
        }
    }
    // Jobs make none.
    let _ = std::fs::write("/proc/sys/user/max_user_namespaces", "0");
}

/// No program that a job executes can come by a capability, whatever its file says.
fn drop_bounding_set() -> Result<(), Errno> {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // The kernel has no more.
            Err(Errno::INVAL) => return Ok(()),
            dropped => dropped?,
        }
    }
    Ok(())
}

/// Says who this process is in its new user namespace, given who it was.
pub(super) fn map(user: Uid, group: Gid) -> Result<(), StepError> {
    // Changing users has made /proc/self root's, where the maps are to be written.
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable).step("own /proc/self")?;
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/uid_map", &format!("{JOB_ID} {} 1", user.as_raw()))?;
    write("/proc/self/gid_map", &format!("{JOB_ID} {} 1", group.as_raw()))
}

fn write(path: &str, text: &str) -> Result<(), StepError> {
    std::fs::write(path, text).step_at("write", path)
}

fn lay(mapped: Option<OwnedFd>) -> Result<(), StepError> {
    let options = c"mode=0755,size=1m";
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    let store =
        rustix::fs::open(".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .step("open the store")?;
    let mut ground = Err(Errno::NOENT);
    for path in GROUNDS {
        ground = rustix::mount::mount("tmpfs", path, "tmpfs", flags, options).map(|()| path);
        if ground.is_ok() {
            break;
        }
    }
    let ground = ground.step("mount a file system in memory")?;
    let devices = open_devices()?;
    rustix::process::chdir(ground).step("enter the ground")?;
    for directory in ["store", "dev", "proc", "build", "old"] {
        rustix::fs::mkdir(directory, Mode::from_raw_mode(0o755)).step_at("make", directory)?;
    }
    match mapped {
        Some(mapped) => attach_store(&mapped)?,
        None => bind_store(&store)?,
    }
    lay_devices(&devices)?;
    // The kernel allows a new /proc only where an unmasked one can be seen already.
    rustix::mount::mount_bind_recursive("/proc", "proc").step("bind /proc")?;
    rustix::process::pivot_root(".", "old").step("change the root")?;
    rustix::mount::unmount("/old", UnmountFlags::DETACH).step("leave the old root")?;
    rustix::process::chdir("/").step("enter the new root")
}

/// A path to what a descriptor is open on.
fn through(fd: impl AsFd) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

fn bind_store(store: impl AsFd) -> Result<(), StepError> {
    rustix::mount::mount_bind_recursive(through(store), "store").step("bind the store")?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | kept_flags("store")?;
    rustix::mount::mount_remount("store", MountFlags::BIND | flags, c"")
        .step("make the store read-only")
}

/// Read-only from the start.
fn attach_store(mapped: &OwnedFd) -> Result<(), StepError> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(mapped, "", CWD, "store", flags).step("mount the store")
}

/// The flags of a mount that whoever is not its owner must leave as they are.
fn kept_flags(path: &str) -> Result<MountFlags, StepError> {
    let now = rustix::fs::statvfs(path).step_at("look at the mount of", path)?.f_flag;
    let pairs = [
        (StatVfsMountFlags::RDONLY, MountFlags::RDONLY),
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ];
    let set = pairs.iter().filter(|(flag, _)| now.contains(*flag));
    Ok(set.fold(MountFlags::empty(), |flags, (_, flag)| flags | *flag))
}

/// Opened before the ground covers anything: it might cover /dev.
fn open_devices() -> Result<Vec<(&'static str, rustix::fd::OwnedFd)>, StepError> {
    let open = |name: &'static str| {
        let path = format!("/dev/{name}");
        let fd = rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        Ok((name, fd.step_at("open", &path)?))
    };
    NODES.into_iter().map(open).collect()
}

fn lay_devices(devices: &[(&str, rustix::fd::OwnedFd)]) -> Result<(), StepError> {
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    rustix::mount::mount("tmpfs", "dev", "tmpfs", flags, c"mode=0755,size=64k")
        .step("mount /dev")?;
    for (name, fd) in devices {
        let path = format!("dev/{name}");
        let create = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::open(&path, create, Mode::from_raw_mode(0o444)).step_at("make", &path)?;
        rustix::mount::mount_bind(through(fd), &path).step_at("bind device", &path)?;
        // A device can be written to all the same. What cannot be changed is its node, which is the host's.
        let read_only = MountFlags::BIND | MountFlags::RDONLY | kept_flags(&path)?;
        rustix::mount::mount_remount(&path, read_only, c"").step_at("make read-only", &path)?;
    }
    for (name, target) in LINKS {
        rustix::fs::symlink(target, format!("dev/{name}")).step_at("link", name)?;
    }
    rustix::fs::mkdir("dev/shm", Mode::from_raw_mode(0o755)).step("make /dev/shm")?;
    LINKS.iter().try_for_each(|(name, _)| build::set_time(&format!("dev/{name}")))?;
    build::set_time("dev")?;
    let read_only = MountFlags::BIND | MountFlags::RDONLY | flags;
    rustix::mount::mount_remount("dev", read_only, c"").step("make /dev read-only")
}
