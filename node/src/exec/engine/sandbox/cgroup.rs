//! Control groups, of either version, where this process may make some: a job's bound on memory
//! and processes, and the most memory it held.
//!
//! Non-goal: making them available. Where none can be written, the first process of each sandbox
//! watches its memory itself, and the number of processes is bounded per user.
//!
//! One directory per launcher, `mesh-<pid>`, made while it still has the rights of whoever
//! started it and handed over to the user that it becomes; below it one per job that runs at once. Making and
//! removing a group takes a lock of the whole kernel, which is what many sandboxes that start together would
//! wait for: so a group goes from job to job, where it can be made as good as new.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::base::NOBODY;
use super::message::OutOfMemory;

const DIRECTORY: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const LOCKABLE: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What a job may find charged to its group that it did not cause. Whoever had it before was the first to
/// read a file, say, and the kernel still has its pages.
const RESIDUE_MAX_BYTES: u64 = 4 << 20;

/// What the kernel charges a group at once, at most: a huge page.
const CHARGED_AT_ONCE_BYTES: u64 = 2 << 20;

/// The directory that holds the launcher itself, in version 2.
const LEAF: &str = "launcher";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// Version 1, controller `memory`.
    Memory1,
    /// Version 1, controller `pids`.
    Processes1,
    /// Version 2, both.
    Both2,
}

impl Kind {
    fn memory_file(self) -> Option<&'static str> {
        match self {
            Self::Memory1 => Some("memory.limit_in_bytes"),
            Self::Both2 => Some("memory.max"),
            Self::Processes1 => None,
        }
    }

    fn peak_file(self) -> Option<&'static str> {
        match self {
            Self::Memory1 => Some("memory.max_usage_in_bytes"),
            Self::Both2 => Some("memory.peak"),
            Self::Processes1 => None,
        }
    }

    /// Where a process with one thread joins. Version 1 takes a lock of the whole machine for `cgroup.procs`,
    /// for which it waits some 10 ms every other time, but none for a thread that moves itself
    /// (`cgroup_attach_lock` in the kernel's `kernel/cgroup/cgroup.c`).
    fn join_file(self) -> &'static str {
        match self {
            Self::Memory1 | Self::Processes1 => "tasks",
            Self::Both2 => "cgroup.procs",
        }
    }

    fn kills_file(self) -> Option<&'static str> {
        match self {
            Self::Memory1 => Some("memory.oom_control"),
            Self::Both2 => Some("memory.events"),
            Self::Processes1 => None,
        }
    }
}

/// A hierarchy in which this process can make groups.
struct Hierarchy {
    kind: Kind,
    directory: OwnedFd,
}

/// The launcher's groups.
pub(super) struct Groups(Vec<Hierarchy>);

/// One job's groups.
pub(super) struct JobGroup {
    name: String,
    parts: Vec<(Kind, OwnedFd)>,
    /// Has it bounds of another job?
    is_used: bool,
    /// What is charged to it before its job begins.
    residue_bytes: u64,
}

/// Where the groups of this process are, by kind.
fn places() -> Vec<(Kind, PathBuf)> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    own.lines().filter_map(|line| place(line, &mounts)).collect()
}

fn place(line: &str, mounts: &str) -> Option<(Kind, PathBuf)> {
    let mut fields = line.splitn(3, ':');
    let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    let kind = match controllers {
        "" => Kind::Both2,
        "memory" => Kind::Memory1,
        "pids" => Kind::Processes1,
        _ => return None,
    };
    let mount = mounts.lines().find_map(|mount| mount_point(mount, controllers, path))?;
    Some((kind, mount))
}

/// The directory of the group `path`, if this line of mountinfo mounts its hierarchy.
fn mount_point(line: &str, controller: &str, path: &str) -> Option<PathBuf> {
    let (front, back) = line.split_once(" - ")?;
    let mut back = back.split(' ');
    let (kind, options) = (back.next()?, back.nth(1)?);
    let fits = match controller {
        "" => kind == "cgroup2",
        name => kind == "cgroup" && options.split(',').any(|option| option == name),
    };
    let mut front = front.split(' ').skip(3);
    let (root, at) = (front.next()?, front.next()?);
    // In a container the group's own path may not begin where the mount does.
    let inside = path.strip_prefix(root).unwrap_or_default().trim_start_matches('/');
    fits.then(|| Path::new(at).join(inside))
}

/// For people: every hierarchy that bounds what we bound, and whether groups can be made in it.
pub(crate) fn survey() -> Vec<(String, PathBuf, bool)> {
    let found = places().into_iter().map(|(kind, own)| {
        let writable = |path: &Path| rustix::fs::access(path, Access::WRITE_OK).is_ok();
        let (name, works) = match kind {
            Kind::Memory1 => ("control groups 1: memory", writable(&own)),
            Kind::Processes1 => ("control groups 1: pids", writable(&own)),
            Kind::Both2 => {
                let fits = |group: &Path| {
                    let controllers = has_controllers(&group.join("cgroup.controllers"));
                    controllers && writable(&group.join("cgroup.subtree_control"))
                };
                let parent = own.parent().is_some_and(|parent| is_group2(parent) && fits(parent));
                ("control groups 2: memory and pids", fits(&own) || parent)
            }
        };
        (name.to_owned(), own, works)
    });
    found.collect()
}

impl Groups {
    /// None: for machines, or tests, that shall do without.
    pub(super) fn none() -> Self {
        Self(Vec::new())
    }

    /// Makes the launcher's groups wherever that is possible, with a bound on what all jobs take together. To
    /// be called before it stops being root.
    pub(super) fn prepare(memory_bytes: Option<u64>) -> Self {
        let made = places().into_iter().filter_map(|(kind, own)| prepare(kind, &own));
        let mut made: Vec<Hierarchy> = made.collect();
        if let Some(bytes) = memory_bytes {
            made.retain(|Hierarchy { kind, directory }| {
                bound_memory(*kind, directory, bytes).is_ok()
            });
        }
        Self(made)
    }

    /// What they bound, for people.
    pub(super) fn names(&self) -> Vec<String> {
        let name = |hierarchy: &Hierarchy| match hierarchy.kind {
            Kind::Memory1 => "memory (version 1)".to_owned(),
            Kind::Processes1 => "pids (version 1)".to_owned(),
            Kind::Both2 => "memory and pids (version 2)".to_owned(),
        };
        self.0.iter().map(name).collect()
    }

    /// Makes the groups of one job.
    pub(super) fn job(&self, number: u64) -> JobGroup {
        let name = format!("job-{number}");
        let make = |hierarchy: &Hierarchy| {
            let directory = &hierarchy.directory;
            rustix::fs::mkdirat(directory, &name, Mode::from_raw_mode(0o755)).ok()?;
            let fd = rustix::fs::openat(directory, &name, DIRECTORY, Mode::empty()).ok()?;
            Some((hierarchy.kind, fd))
        };
        let parts = self.0.iter().filter_map(make).collect();
        JobGroup { name, parts, is_used: false, residue_bytes: 0 }
    }

    /// Makes a job's groups as good as new for another one; false: they are to be removed.
    pub(super) fn renew(&self, group: &mut JobGroup) -> bool {
        // Not every time all of them could be made.
        group.parts.len() == self.0.len() && group.renew()
    }

    /// Removes a job's groups; false if a process is still dying in one of them.
    pub(super) fn remove(&self, group: &JobGroup) -> bool {
        self.0.iter().all(|hierarchy| {
            let done = rustix::fs::unlinkat(&hierarchy.directory, &group.name, AtFlags::REMOVEDIR);
            !matches!(done, Err(Errno::BUSY))
        })
    }
}

fn prepare(kind: Kind, own: &Path) -> Option<Hierarchy> {
    // Version 2 has no controllers below a group that holds processes itself, but there may be
    // some beside it.
    let parents =
        [Some(own), own.parent().filter(|parent| kind == Kind::Both2 && is_group2(parent))];
    parents.into_iter().flatten().find_map(|parent| prepare_below(kind, parent))
}

/// Above the hierarchy's root there is another file system, where files can be made but mean nothing.
fn is_group2(path: &Path) -> bool {
    /// `CGROUP2_SUPER_MAGIC` (linux/magic.h).
    const MAGIC: i64 = 0x6367_7270;
    rustix::fs::statfs(path).is_ok_and(|found| found.f_type == MAGIC)
}

fn prepare_below(kind: Kind, parent: &Path) -> Option<Hierarchy> {
    sweep(parent);
    let directory = parent.join(format!("mesh-{}", std::process::id()));
    if kind == Kind::Both2 && !has_controllers(&parent.join("cgroup.subtree_control")) {
        fs::write(parent.join("cgroup.subtree_control"), "+memory +pids").ok()?;
    }
    fs::create_dir(&directory).ok()?;
    let fd = prepare_in(kind, &directory);
    if fd.is_none() {
        remove_group(&directory);
    }
    Some(Hierarchy { kind, directory: fd? })
}

fn prepare_in(kind: Kind, directory: &Path) -> Option<OwnedFd> {
    if kind == Kind::Both2 {
        let leaf = directory.join(LEAF);
        fs::create_dir(&leaf).ok()?;
        fs::write(leaf.join("cgroup.procs"), "0").ok()?;
        fs::write(directory.join("cgroup.subtree_control"), "+memory +pids").ok()?;
    }
    if fs::metadata(directory).ok()?.uid() == 0 {
        let give = |path: &Path| std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).ok();
        give(directory)?;
        give(&directory.join("cgroup.procs"))?;
    }
    let held = hold(directory)?;
    // Somebody may have swept it in the moment before.
    directory.is_dir().then_some(held)
}

/// Opens a launcher's directory and locks it as long as it is open; none: somebody else has.
fn hold(directory: &Path) -> Option<OwnedFd> {
    let held = rustix::fs::open(directory, LOCKABLE, Mode::empty()).ok()?;
    rustix::fs::flock(&held, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(held)
}

fn has_controllers(path: &Path) -> bool {
    let text = fs::read_to_string(path).unwrap_or_default();
    let has = |name| text.split_whitespace().any(|word| word == name);
    has("memory") && has("pids")
}

/// Removes what launchers left that were killed. Those in other process namespaces have numbers that
/// mean nothing here: they are known to live by their locks.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix("mesh-")?.parse::<u32>().ok());
        let is_gone = pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists());
        if is_gone && let Some(_held) = hold(&entry.path()) {
            remove_group(&entry.path());
        }
    }
}

/// Removes the groups of every launcher that has ended.
pub(super) fn sweep_all() {
    for (kind, own) in places() {
        sweep(&own);
        if let (Kind::Both2, Some(parent)) = (kind, own.parent().filter(|parent| is_group2(parent)))
        {
            sweep(parent);
        }
    }
}

fn remove_group(directory: &Path) {
    let inner = fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in inner.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        // What still holds a process stays for the next sweep.
        let _ = fs::remove_dir(entry.path());
    }
    let _ = fs::remove_dir(directory);
}

impl JobGroup {
    /// Makes it as good as new, now that its job has ended; false if it is to be removed.
    fn renew(&mut self) -> bool {
        self.is_used = true;
        (0..self.parts.len()).all(|part| self.renew_part(part))
    }

    fn renew_part(&mut self, part: usize) -> bool {
        let (kind, directory) = &self.parts[part];
        if read(directory, "cgroup.procs").is_none_or(|processes| !processes.is_empty()) {
            return false;
        }
        match kind {
            Kind::Processes1 => true,
            // Its highest use cannot be forgotten before Linux 6.12.
            Kind::Both2 => false,
            Kind::Memory1 => {
                let residue = read_number(directory, "memory.usage_in_bytes");
                let Some(residue) = residue.filter(|bytes| *bytes <= RESIDUE_MAX_BYTES) else {
                    return false;
                };
                let is_reset = write(directory, "memory.max_usage_in_bytes", "0").is_ok();
                self.residue_bytes = residue;
                is_reset && self.out_of_memory() == OutOfMemory::No
            }
        }
    }

    /// Does it bound memory?
    pub(super) fn bounds_memory(&self) -> bool {
        self.parts.iter().any(|(kind, _)| kind.memory_file().is_some())
    }

    /// Does it bound the number of processes?
    pub(super) fn bounds_processes(&self) -> bool {
        self.parts.iter().any(|(kind, _)| *kind != Kind::Memory1)
    }

    /// Puts this process, which has one thread, into the group.
    pub(super) fn join(&self) -> Result<(), Errno> {
        let mut parts = self.parts.iter();
        parts.try_for_each(|(kind, directory)| write(directory, kind.join_file(), "0"))
    }

    /// Sets the bounds. The first process of the sandbox counts as one more.
    pub(super) fn bound(&self, memory_bytes: Option<u64>, processes: u64) -> Result<(), Errno> {
        for (kind, directory) in &self.parts {
            if self.is_used && *kind == Kind::Memory1 {
                // Neither bound may ever be the higher one.
                let _ = write(directory, "memory.memsw.limit_in_bytes", "-1");
                write(directory, "memory.limit_in_bytes", "-1")?;
            }
            if let Some(bytes) = memory_bytes {
                bound_memory(*kind, directory, bytes)?;
            }
            if *kind != Kind::Memory1 {
                write(directory, "pids.max", &(processes + 1).to_string())?;
            }
        }
        Ok(())
    }

    /// The most memory that the job held, if the kernel tells.
    pub(super) fn memory_peak_bytes(&self) -> Option<u64> {
        let (kind, directory) = self.parts.iter().find(|(kind, _)| kind.peak_file().is_some())?;
        let peak = read_number(directory, kind.peak_file()?)?;
        Some(peak.saturating_sub(self.residue_bytes))
    }

    /// Has a process been killed for want of memory, and was that the bound of this group?
    pub(super) fn out_of_memory(&self) -> OutOfMemory {
        for (kind, directory) in &self.parts {
            let Some(file) = kind.kills_file() else { continue };
            if read_count(directory, file, "oom_kill ") > 0 {
                return match has_met_its_bound(*kind, directory) {
                    true => OutOfMemory::AtItsBound,
                    false => OutOfMemory::BelowItsBound,
                };
            }
        }
        OutOfMemory::No
    }
}

/// Did the group itself want more than it may have? Version 1 has a count of that, too, which stays zero when
/// it is swap and memory together that are bounded (Linux 6.18).
fn has_met_its_bound(kind: Kind, directory: &OwnedFd) -> bool {
    match kind {
        Kind::Both2 => read_count(directory, "memory.events", "oom ") > 0,
        _ => {
            let bound = read_number(directory, "memory.limit_in_bytes");
            let peak = read_number(directory, "memory.max_usage_in_bytes");
            bound.zip(peak).is_some_and(|(bound, peak)| peak + CHARGED_AT_ONCE_BYTES >= bound)
        }
    }
}

/// Bounds a group, and what is in it, if it is one that counts memory.
fn bound_memory(kind: Kind, directory: &OwnedFd, bytes: u64) -> Result<(), Errno> {
    let Some(file) = kind.memory_file() else { return Ok(()) };
    write(directory, file, &bytes.to_string())?;
    // Swap counts as memory. Kernels without swap accounting lack these files.
    let _ = match kind {
        Kind::Memory1 => write(directory, "memory.memsw.limit_in_bytes", &bytes.to_string()),
        _ => write(directory, "memory.swap.max", "0"),
    };
    Ok(())
}

fn write(directory: &OwnedFd, file: &str, text: &str) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(directory, file, flags, Mode::empty())?;
    rustix::io::write(fd, text.as_bytes()).map(drop)
}

/// The number behind a word, in a file of such lines; zero where there is none.
fn read_count(directory: &OwnedFd, file: &str, word: &str) -> u64 {
    let text = read(directory, file).unwrap_or_default();
    let number = text.lines().find_map(|line| line.strip_prefix(word)?.parse().ok());
    number.unwrap_or_default()
}

fn read_number(directory: &OwnedFd, file: &str) -> Option<u64> {
    read(directory, file)?.trim().parse().ok()
}

fn read(directory: &OwnedFd, file: &str) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(directory, file, flags, Mode::empty()).ok()?;
    let mut bytes = vec![0; 4096];
    let length = rustix::io::read(fd, &mut bytes).ok()?;
    String::from_utf8(bytes[..length].to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No process has this number (proc_sys_kernel(5): at most 2^22).
    const NOBODYS: &str = "mesh-4194305";

    #[test]
    fn what_a_launcher_elsewhere_holds_is_left_to_it() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join(NOBODYS);
        fs::create_dir_all(directory.join("job")).unwrap();
        let held = hold(&directory).unwrap();
        sweep(parent.path());
        assert!(directory.join("job").is_dir(), "its launcher lives, under another number");
        drop(held);
        sweep(parent.path());
        assert!(!directory.exists());
    }

    #[test]
    fn groups_are_found_by_their_mounts() {
        let mounts = "30 25 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      31 25 0:27 /docker/x /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let memory = place("4:memory:/a/b", mounts).unwrap();
        assert_eq!(memory, (Kind::Memory1, "/sys/fs/cgroup/memory/a/b".into()));
        let unified = place("0::/docker/x/y", mounts).unwrap();
        assert_eq!(unified, (Kind::Both2, "/sys/fs/cgroup/y".into()));
        assert_eq!(place("8:pids:/", mounts), None);
        assert_eq!(place("3:cpuset:/", mounts), None);
    }
}
