//! Building the file system of one sandbox, as its first process.
//!
//! Layers are filled before anything is mounted over them, so that their paths go through nothing
//! but directories made here. Mount points lie behind trees that somebody else made: they are
//! opened with every symbolic link refused (the plan has followed them already).

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};

use mesh_protocol::limits;
use mesh_store::OBJECT_MTIME_S;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use rustix::mount::{MountFlags, UnmountFlags};

use super::base;
use super::message::{EntryOrder, LayerOrder, MountOrder, Order, Step, StepError};

/// The new root, in the working directory of the builder.
const ROOT: &str = "root";

/// Makes the file system in memory that will hold what a job writes, and enters it: what does not depend on
/// the job.
pub(super) fn begin(files_bytes: u64) -> Result<(), StepError> {
    let inodes = limits::SANDBOX_FILES;
    let options = format!("mode=0755,size={files_bytes},nr_inodes={inodes}");
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    let options = std::ffi::CString::new(options).step("make options")?;
    rustix::mount::mount("tmpfs", base::WORK, "tmpfs", flags, options.as_c_str())
        .step("mount a file system in memory")?;
    rustix::process::chdir(base::WORK).step("enter it")?;
    make_directory(ROOT, 0o755)?;
    make_directory("shm", 0o1777)?;
    set_time("shm")
}

/// Lets the file system in memory hold less than it was made for.
pub(super) fn shrink(files_bytes: u64) -> Result<(), StepError> {
    let options = std::ffi::CString::new(format!("size={files_bytes}")).step("make options")?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount_remount(base::WORK, flags, options.as_c_str())
        .step("bound the file system in memory")
}

/// The small files of a job. Each is read once in the order of the order; one that stands at several paths is
/// gone back to.
struct Packed<'f> {
    file: BufReader<&'f mut File>,
    at: u64,
}

impl Packed<'_> {
    fn read(&mut self, offset: u64, length: u64, buffer: &mut Vec<u8>) -> std::io::Result<()> {
        buffer.clear();
        if length == 0 {
            return Ok(());
        }
        self.file.seek_relative(offset.wrapping_sub(self.at) as i64)?;
        let read = Read::by_ref(&mut self.file).take(length).read_to_end(buffer)? as u64;
        self.at = offset + read;
        if read == length { Ok(()) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
    }
}

/// Builds everything that the order says and makes it the root. `packed` holds the small files, from where it
/// stands on.
pub(super) fn build(order: &Order, packed: &mut File) -> Result<(), StepError> {
    let mut packed = Packed { file: BufReader::with_capacity(256 * 1024, packed), at: 0 };
    for (index, layer) in order.layers.iter().enumerate() {
        fill(index, layer, &mut packed)?;
    }
    mount_all(order)?;
    enter()
}

/// Builds what every sandbox has: devices, processes, a directory that can be written to.
pub(super) fn build_empty() -> Result<(), StepError> {
    for (path, mode) in [("dev", 0o755), ("proc", 0o755), ("tmp", 0o1777)] {
        make_directory(&format!("{ROOT}/{path}"), mode)?;
    }
    rustix::mount::mount_bind(ROOT, ROOT).step("bind the root")?;
    mount_last("dev", &MountOrder::Devices)?;
    mount_last("proc", &MountOrder::Processes)?;
    enter()
}

/// The directory that a layer is filled in: where it appears, if nothing is below it.
fn directory_of(index: usize, layer: &LayerOrder) -> String {
    if layer.lower.is_empty() { ROOT.to_owned() } else { format!("upper{index}") }
}

fn fill(index: usize, layer: &LayerOrder, packed: &mut Packed<'_>) -> Result<(), StepError> {
    let directory = directory_of(index, layer);
    if !layer.lower.is_empty() {
        make_directory(&directory, 0o755)?;
        make_directory(&format!("work{index}"), 0o755)?;
    }
    let mut made = BTreeSet::new();
    let mut buffer = Vec::new();
    for (path, entry) in &layer.entries {
        make_parents(&directory, path, &mut made)?;
        let full = format!("{directory}/{path}");
        match entry {
            EntryOrder::Directory { mode } => {
                if made.insert(path.as_str()) {
                    make_directory(&full, *mode)?;
                }
            }
            EntryOrder::Symlink(target) => {
                rustix::fs::symlink(target, &full).step_at("link", &full)?;
                set_time(&full)?;
            }
            EntryOrder::Packed { mode, offset, length } => {
                packed.read(*offset, *length, &mut buffer).step_at("read", &full)?;
                make_file(&full, *mode, &mut buffer.as_slice())?;
            }
            EntryOrder::Stored { mode, path } => {
                let from = format!("{}/{path}", base::STORE);
                let mut from = File::open(&from).step_at("open", &from)?;
                make_file(&full, *mode, &mut from)?;
            }
        }
    }
    // Now nothing more is made in them.
    made.iter().try_for_each(|path| set_time(&format!("{directory}/{path}")))?;
    set_time(&directory)
}

/// Whatever a job is given has the time of the store's objects, which may be mounted beside it.
const TIMES: Timestamps = Timestamps {
    last_access: Timespec { tv_sec: OBJECT_MTIME_S, tv_nsec: 0 },
    last_modification: Timespec { tv_sec: OBJECT_MTIME_S, tv_nsec: 0 },
};

pub(super) fn set_time(path: &str) -> Result<(), StepError> {
    rustix::fs::utimensat(CWD, path, &TIMES, AtFlags::SYMLINK_NOFOLLOW)
        .step_at("set the times of", path)
}

fn make_parents<'p>(
    directory: &str,
    path: &'p str,
    made: &mut BTreeSet<&'p str>,
) -> Result<(), StepError> {
    let Some((parent, _)) = path.rsplit_once('/') else { return Ok(()) };
    if made.contains(parent) {
        return Ok(());
    }
    make_parents(directory, parent, made)?;
    make_directory(&format!("{directory}/{parent}"), 0o755)?;
    made.insert(parent);
    Ok(())
}

fn make_directory(path: &str, mode: u32) -> Result<(), StepError> {
    rustix::fs::mkdir(path, Mode::from_raw_mode(mode)).step_at("make directory", path)
}

fn make_file(path: &str, mode: u32, from: &mut (impl Read + ?Sized)) -> Result<(), StepError> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::open(path, flags, Mode::from_raw_mode(mode)).step_at("make", path)?;
    let mut file = File::from(file);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = from.read(&mut buffer).step_at("read for", path)?;
        if length == 0 {
            return rustix::fs::futimens(&file, &TIMES).step_at("set the times of", path);
        }
        file.write_all(&buffer[..length]).step_at("write", path)?;
    }
}

fn mount_all(order: &Order) -> Result<(), StepError> {
    if order.layers.first().is_some_and(|root| root.lower.is_empty()) {
        rustix::mount::mount_bind(ROOT, ROOT).step("bind the root")?;
    }
    let mut later = Vec::new();
    // Directories that stay writable first: bound over themselves, they would hide what is
    // mounted in them. An outer one before what is in it, so the order's own order holds.
    for (at, what) in &order.mounts {
        match what {
            MountOrder::Overlay(index) => overlay(order, *index as usize)?,
            MountOrder::Writable => {
                let target = open_target(at)?;
                rustix::mount::mount_bind(through(&target), through(&target))
                    .step_at("keep writable", at)?;
            }
            _ => later.push((at, what)),
        }
    }
    for layer in &order.layers {
        if !layer.writable {
            let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
            let target = open_target(&layer.at)?;
            rustix::mount::mount_remount(through(&target), MountFlags::BIND | flags, c"")
                .step_at("make read-only", &layer.at)?;
        }
    }
    later.into_iter().try_for_each(|(at, what)| mount_last(at, what))
}

fn mount_last(at: &str, what: &MountOrder) -> Result<(), StepError> {
    let opened = open_target(at)?;
    let target = through(&opened);
    match what {
        MountOrder::Bind(path) => {
            // A bind of the read-only store is read-only.
            let from = format!("{}/{path}", base::STORE);
            rustix::mount::mount_bind(&from, &target).step_at("bind", &from)
        }
        MountOrder::Devices => {
            rustix::mount::mount_bind_recursive(base::DEVICES, &target).step("bind /dev")?;
            let shm = open_target(&format!("{at}/shm"))?;
            rustix::mount::mount_bind("shm", through(&shm)).step("bind /dev/shm")
        }
        MountOrder::Processes => {
            let flags =
                MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            // Only processes: the rest of /proc speaks about the host.
            rustix::mount::mount("proc", &target, "proc", flags, c"subset=pid").step("mount /proc")
        }
        MountOrder::Overlay(_) | MountOrder::Writable => Ok(()),
    }
}

/// Opens a mount point inside the new root; a symbolic link on the way is an error.
fn open_target(path: &str) -> Result<OwnedFd, StepError> {
    let path = if path.is_empty() { "." } else { path };
    let root = rustix::fs::openat(CWD, ROOT, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .step("open the root")?;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve)
        .step_at("find the mount point", path)
}

fn through(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn overlay(order: &Order, index: usize) -> Result<(), StepError> {
    let Some(layer) = order.layers.get(index) else {
        return Err(rustix::io::Errno::INVAL).step("find the layer");
    };
    let lower: Vec<_> =
        layer.lower.iter().map(|path| escape(&format!("{}/{path}", base::STORE))).collect();
    let options = format!(
        "lowerdir={},upperdir={work}/upper{index},workdir={work}/work{index},userxattr",
        lower.join(":"),
        work = base::WORK,
    );
    let options = std::ffi::CString::new(options).step("make options")?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    let opened = open_target(&layer.at)?;
    let target = through(&opened);
    rustix::mount::mount("overlay", &target, "overlay", flags, options.as_c_str())
        .step_at("mount trees at /", &layer.at)
}

/// Overlay options give `:`, `,` and `\` a meaning.
fn escape(path: &str) -> String {
    let mut escaped = String::new();
    for character in path.chars() {
        if matches!(character, ':' | ',' | '\\') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// Makes the new root the root, and forgets the rest.
fn enter() -> Result<(), StepError> {
    rustix::process::chdir(ROOT).step("enter the new root")?;
    rustix::process::pivot_root(".", ".").step("change the root")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).step("leave the ground")?;
    rustix::process::chdir("/").step("enter the new root")
}
