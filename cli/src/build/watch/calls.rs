//! The watched calls, and what each is about to do.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::{Watch, memory};

/// What a process is about to do.
#[derive(Debug)]
pub(crate) enum Call {
    /// Open a file.
    Open {
        /// The path, as our process can reach it.
        path: PathBuf,
        /// The flags of open(2).
        flags: u64,
    },
    /// Become a program.
    Execute {
        /// The program's path.
        path: PathBuf,
        /// The address of its `argv` in the caller's memory.
        arguments: u64,
    },
    /// Look at the size and times of a file.
    Look(PathBuf),
    /// Change something that has a path.
    Change(Change),
    /// Connect to a socket.
    Connect(Peer),
    /// Do something to a process or thread, such as to send it a signal.
    Affect(i32),
    /// Read from standard input.
    ReadInput,
    /// Change what paths mean.
    ChangeRoot,
    /// Something that nobody can undo, in the words of a report.
    Final(&'static str),
}

/// A change of what is at a path, other than by an open.
#[derive(Debug)]
pub(crate) enum Change {
    /// Something will be made at a path where there is nothing.
    Make(PathBuf),
    /// A file's name will be removed.
    Remove(PathBuf),
    /// An empty directory will be removed.
    RemoveDirectory(PathBuf),
    /// A name will be moved, replacing or exchanging what is at the other.
    Move(PathBuf, PathBuf),
    /// A file will get another name.
    Link(PathBuf, PathBuf),
    /// A file will be cut or lengthened.
    Truncate(PathBuf),
    /// Permissions or times will change. Whether a link at the end is followed comes second.
    Attributes(PathBuf, bool),
    /// An owner, a group or extended attributes will change.
    Owner(PathBuf, bool),
}

/// The other end of a connection.
#[derive(Debug)]
pub(crate) enum Peer {
    /// A socket in the file system.
    Path(PathBuf),
    /// Anything else.
    Other,
}

/// Condition on an argument under which a watched call is not reported.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unless {
    /// Always reported.
    Never,
    /// The argument has one of these bits.
    Has(usize, u32),
    /// The argument is this number.
    Is(usize, u32),
    /// The argument is a null pointer.
    IsNull(usize),
    /// The argument is none of these numbers.
    IsNoneOf(usize, &'static [u32]),
}

/// A watched call, with the places of its arguments.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watched {
    pub(super) number: i64,
    pub(super) unless: Unless,
    does: Does,
}

/// Where a call has a path: the number of a directory's descriptor, if it takes one, and the text.
type At = (Option<usize>, usize);

#[derive(Clone, Copy, Debug)]
enum Does {
    Open(At, Flags),
    Execute(At, usize),
    Look(At),
    Make(At),
    /// Removes; a directory if the flags at this argument say so.
    Remove(At, Option<usize>),
    RemoveDirectory(At),
    Move(At, At),
    Link(At, At),
    Truncate(At),
    Attributes(At, Follow),
    Owner(At, Follow),
    /// The same, of a descriptor.
    AttributesOf(usize),
    OwnerOf(usize),
    Bind,
    Connect,
    /// Does something to the process of which the number is in this argument.
    Affect(usize),
    ReadInput,
    Root,
    Final(&'static str),
}

#[derive(Clone, Copy, Debug)]
enum Flags {
    /// In this argument.
    Argument(usize),
    /// In the first word of a `struct open_how` at this argument.
    Structure(usize),
    /// Those of creat(2).
    Create,
}

#[derive(Clone, Copy, Debug)]
enum Follow {
    Yes,
    No,
    /// Unless `AT_SYMLINK_NOFOLLOW` is in this argument.
    UnlessFlag(usize),
}

const fn watched(number: i64, does: Does) -> Watched {
    Watched { number, unless: Unless::Never, does }
}

const fn unless(number: i64, unless: Unless, does: Does) -> Watched {
    Watched { number, unless, does }
}

/// Calls that name a program or open a file.
const OPENS: &[Watched] = &[
    #[cfg(target_arch = "x86_64")]
    watched(libc::SYS_open, Does::Open((None, 0), Flags::Argument(1))),
    #[cfg(target_arch = "x86_64")]
    watched(libc::SYS_creat, Does::Open((None, 0), Flags::Create)),
    watched(libc::SYS_openat, Does::Open((Some(0), 1), Flags::Argument(2))),
    watched(libc::SYS_openat2, Does::Open((Some(0), 1), Flags::Structure(2))),
];

const EXECUTIONS: &[Watched] = &[
    watched(libc::SYS_execve, Does::Execute((None, 0), 1)),
    watched(libc::SYS_execveat, Does::Execute((Some(0), 1), 2)),
    watched(libc::SYS_chroot, Does::Root),
    watched(libc::SYS_pivot_root, Does::Root),
    watched(libc::SYS_setns, Does::Root),
];

/// `setxattrat`, `removexattrat` (Linux 6.13) and `fchmodat2` (6.6): newer than the crate's table.
const SYS_FCHMODAT2: i64 = 452;
const SYS_SETXATTRAT: i64 = 463;
const SYS_REMOVEXATTRAT: i64 = 466;

/// What fstat(3) of glibc and others passes, which look at what is open already.
const EMPTY_PATH: u32 = libc::AT_EMPTY_PATH as u32;

const CHANGES: &[Watched] = &[
    #[cfg(target_arch = "x86_64")]
    watched(libc::SYS_stat, Does::Look((None, 0))),
    #[cfg(target_arch = "x86_64")]
    watched(libc::SYS_lstat, Does::Look((None, 0))),
    unless(libc::SYS_newfstatat, Unless::Has(3, EMPTY_PATH), Does::Look((Some(0), 1))),
    unless(libc::SYS_statx, Unless::Has(2, EMPTY_PATH), Does::Look((Some(0), 1))),
    #[cfg(target_arch = "x86_64")]
    watched(libc::SYS_rename, Does::Move((None, 0), (None, 1))),
    #[cfg(target_arch = "x86_64")]
    watched(libc::SYS_link, Does::Link((None, 0), (None, 1))),
    #[cfg(target_arch = "x86_64")]
    watched(libc::SYS_unlink, Does::Remove((None, 0), None)),
    #[cfg(target_arch = "x86_64")]
    watched(libc::SYS_mkdir, Does::Make((None, 0))),
    #[cfg(target_arch = "x86_64")]
    watched(libc::SYS_rmdir, Does::RemoveDirectory((None, 0))),
    #[cfg(target_arch = "x86_64")]
    watched(libc::SYS_symlink, Does::Make((None, 1))),
    #[cfg(target_arch = "x86_64")]
    watched(libc::SYS_mknod, Does::Make((None, 0))),
    #[cfg(target_arch = "x86_64")]
    watched(libc::SYS_chmod, Does::Attributes((None, 0), Follow::Yes)),
    #[cfg(target_arch = "x86_64")]
    watched(libc::SYS_chown, Does::Owner((None, 0), Follow::Yes)),
    #[cfg(target_arch = "x86_64")]
    watched(libc::SYS_lchown, Does::Owner((None, 0), Follow::No)),
    #[cfg(target_arch = "x86_64")]
    watched(libc::SYS_utime, Does::Attributes((None, 0), Follow::Yes)),
    #[cfg(target_arch = "x86_64")]
    watched(libc::SYS_utimes, Does::Attributes((None, 0), Follow::Yes)),
    #[cfg(target_arch = "x86_64")]
    watched(libc::SYS_futimesat, Does::Attributes((Some(0), 1), Follow::Yes)),
    watched(libc::SYS_renameat, Does::Move((Some(0), 1), (Some(2), 3))),
    watched(libc::SYS_renameat2, Does::Move((Some(0), 1), (Some(2), 3))),
    watched(libc::SYS_linkat, Does::Link((Some(0), 1), (Some(2), 3))),
    watched(libc::SYS_unlinkat, Does::Remove((Some(0), 1), Some(2))),
    watched(libc::SYS_mkdirat, Does::Make((Some(0), 1))),
    watched(libc::SYS_symlinkat, Does::Make((Some(1), 2))),
    watched(libc::SYS_mknodat, Does::Make((Some(0), 1))),
    watched(libc::SYS_truncate, Does::Truncate((None, 0))),
    watched(libc::SYS_fchmod, Does::AttributesOf(0)),
    watched(libc::SYS_fchmodat, Does::Attributes((Some(0), 1), Follow::Yes)),
    watched(SYS_FCHMODAT2, Does::Attributes((Some(0), 1), Follow::UnlessFlag(3))),
    watched(libc::SYS_utimensat, Does::Attributes((Some(0), 1), Follow::UnlessFlag(3))),
    watched(libc::SYS_fchown, Does::OwnerOf(0)),
    watched(libc::SYS_fchownat, Does::Owner((Some(0), 1), Follow::UnlessFlag(4))),
    watched(libc::SYS_setxattr, Does::Owner((None, 0), Follow::Yes)),
    watched(libc::SYS_lsetxattr, Does::Owner((None, 0), Follow::No)),
    watched(libc::SYS_fsetxattr, Does::OwnerOf(0)),
    watched(libc::SYS_removexattr, Does::Owner((None, 0), Follow::Yes)),
    watched(libc::SYS_lremovexattr, Does::Owner((None, 0), Follow::No)),
    watched(libc::SYS_fremovexattr, Does::OwnerOf(0)),
    watched(SYS_SETXATTRAT, Does::Owner((Some(0), 1), Follow::UnlessFlag(2))),
    watched(SYS_REMOVEXATTRAT, Does::Owner((Some(0), 1), Follow::UnlessFlag(2))),
    watched(libc::SYS_bind, Does::Bind),
    watched(libc::SYS_connect, Does::Connect),
    unless(libc::SYS_socket, Unless::Is(0, libc::AF_UNIX as u32), Does::Final(NETWORK)),
    unless(libc::SYS_sendto, Unless::IsNull(4), Does::Final(NETWORK)),
    unless(libc::SYS_kill, Unless::Is(1, 0), Does::Affect(0)),
    watched(libc::SYS_tkill, Does::Affect(0)),
    watched(libc::SYS_tgkill, Does::Affect(1)),
    watched(libc::SYS_rt_sigqueueinfo, Does::Affect(0)),
    watched(libc::SYS_rt_tgsigqueueinfo, Does::Affect(1)),
    watched(libc::SYS_pidfd_send_signal, Does::Final("a signal to a process")),
    // Of other processes; 0 is the caller.
    unless(libc::SYS_setpriority, Unless::Is(1, 0), Does::Affect(1)),
    unless(libc::SYS_ioprio_set, Unless::Is(1, 0), Does::Affect(1)),
    unless(libc::SYS_prlimit64, Unless::Is(0, 0), Does::Affect(0)),
    unless(libc::SYS_sched_setaffinity, Unless::Is(0, 0), Does::Affect(0)),
    unless(libc::SYS_sched_setscheduler, Unless::Is(0, 0), Does::Affect(0)),
    unless(libc::SYS_sched_setparam, Unless::Is(0, 0), Does::Affect(0)),
    unless(libc::SYS_sched_setattr, Unless::Is(0, 0), Does::Affect(0)),
    unless(libc::SYS_ptrace, Unless::IsNoneOf(0, TRACE_OTHERS), Does::Affect(1)),
    watched(libc::SYS_process_vm_writev, Does::Affect(0)),
    unless(libc::SYS_ioctl, Unless::IsNoneOf(1, SET_FLAGS), Does::OwnerOf(0)),
    watched(libc::SYS_mount, Does::Final(MOUNTS)),
    watched(libc::SYS_umount2, Does::Final(MOUNTS)),
    watched(libc::SYS_move_mount, Does::Final(MOUNTS)),
    watched(libc::SYS_fsconfig, Does::Final(MOUNTS)),
    watched(libc::SYS_mount_setattr, Does::Final(MOUNTS)),
    // Its calls pass every filter.
    watched(libc::SYS_io_uring_setup, Does::Final("a program that uses io_uring")),
    watched(libc::SYS_open_by_handle_at, Does::Final("an open by handle")),
    watched(libc::SYS_msgget, Does::Final(IPC)),
    watched(libc::SYS_semget, Does::Final(IPC)),
    watched(libc::SYS_shmget, Does::Final(IPC)),
    watched(libc::SYS_mq_open, Does::Final(IPC)),
    watched(libc::SYS_mq_unlink, Does::Final(IPC)),
    watched(libc::SYS_add_key, Does::Final(SYSTEM)),
    watched(libc::SYS_keyctl, Does::Final(SYSTEM)),
    watched(libc::SYS_bpf, Does::Final(SYSTEM)),
    watched(libc::SYS_sethostname, Does::Final(SYSTEM)),
    watched(libc::SYS_setdomainname, Does::Final(SYSTEM)),
    watched(libc::SYS_settimeofday, Does::Final(SYSTEM)),
    watched(libc::SYS_clock_settime, Does::Final(SYSTEM)),
    watched(libc::SYS_init_module, Does::Final(SYSTEM)),
    watched(libc::SYS_finit_module, Does::Final(SYSTEM)),
    watched(libc::SYS_delete_module, Does::Final(SYSTEM)),
    watched(libc::SYS_swapon, Does::Final(SYSTEM)),
    watched(libc::SYS_swapoff, Does::Final(SYSTEM)),
    watched(libc::SYS_reboot, Does::Final(SYSTEM)),
];

/// Input that cannot be read twice.
const INPUT: &[Watched] = &[unless(libc::SYS_read, Unless::IsNoneOf(0, &[0]), Does::ReadInput)];

/// `PTRACE_ATTACH` and `PTRACE_SEIZE`.
const TRACE_OTHERS: &[u32] = &[16, 0x4206];

/// `FS_IOC_SETFLAGS` and `FS_IOC_FSSETXATTR`, which chattr(1) uses.
const SET_FLAGS: &[u32] = &[0x4008_6602, 0x401C_5820];

const NETWORK: &str = "a connection to the network";
const MOUNTS: &str = "a mount";
const IPC: &str = "System V or POSIX message queues, semaphores or shared memory";
const SYSTEM: &str = "a change of the system's settings";

/// The calls that a filter reports.
pub(super) fn watched_by(watch: Watch) -> Vec<&'static Watched> {
    let sets: &[&[Watched]] = match watch {
        Watch::ChangesAndInput => &[OPENS, EXECUTIONS, CHANGES, INPUT],
        Watch::Changes => &[OPENS, EXECUTIONS, CHANGES],
        Watch::Opens => &[OPENS, EXECUTIONS],
        Watch::Executions => &[EXECUTIONS],
    };
    sets.iter().copied().flatten().collect()
}

/// Is this a call of another architecture than ours, of which the numbers mean something else?
fn is_foreign(raw: &libc::seccomp_notif) -> bool {
    raw.data.arch != super::filter::AUDIT_ARCH || i64::from(raw.data.nr) >= super::filter::X32
}

fn watched_call(raw: &libc::seccomp_notif) -> Option<&'static Watched> {
    let number = i64::from(raw.data.nr);
    let all = OPENS.iter().chain(EXECUTIONS).chain(CHANGES).chain(INPUT);
    all.into_iter().find(|call| call.number == number)
}

/// Is this a look at the size and times of a file?
pub(super) fn is_look(raw: &libc::seccomp_notif) -> bool {
    let is_look = |call: &Watched| matches!(call.does, Does::Look(_));
    !is_foreign(raw) && watched_call(raw).is_some_and(is_look)
}

/// Who calls.
pub(super) struct Caller {
    pub(super) pid: u32,
    pub(super) has_own_root: bool,
}

/// Describes a call; `None` if its path cannot be read (then it fails by itself) or does not matter.
pub(super) fn decode(raw: &libc::seccomp_notif, caller: &Caller) -> Option<Call> {
    if is_foreign(raw) {
        return Some(Call::Final("a program of another architecture"));
    }
    let call = watched_call(raw)?;
    let arguments = &raw.data.args;
    let path = |at: At| caller.path(arguments, at);
    let of_descriptor = |at: usize| PathBuf::from(caller.descriptor(arguments[at] as RawFd));
    let follows = |follow: Follow| match follow {
        Follow::Yes => true,
        Follow::No => false,
        Follow::UnlessFlag(at) => arguments[at] & libc::AT_SYMLINK_NOFOLLOW as u64 == 0,
    };
    let change = match call.does {
        Does::Open(at, flags) => {
            let flags = match flags {
                Flags::Argument(at) => arguments[at],
                Flags::Structure(at) => {
                    u64::from_ne_bytes(memory::read(caller.pid, arguments[at])?)
                }
                Flags::Create => (libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC) as u64,
            };
            return Some(Call::Open { path: path(at)?, flags });
        }
        Does::Execute(at, words) => {
            return Some(Call::Execute { path: path(at)?, arguments: arguments[words] });
        }
        Does::Look(at) => return Some(Call::Look(path(at)?)),
        Does::Make(at) => Change::Make(path(at)?),
        Does::Remove(at, flags) => {
            let flags = flags.map_or(0, |at| arguments[at]);
            match flags & libc::AT_REMOVEDIR as u64 {
                0 => Change::Remove(path(at)?),
                _ => Change::RemoveDirectory(path(at)?),
            }
        }
        Does::RemoveDirectory(at) => Change::RemoveDirectory(path(at)?),
        Does::Move(from, to) => Change::Move(path(from)?, path(to)?),
        Does::Link(from, to) => Change::Link(path(from)?, path(to)?),
        Does::Truncate(at) => Change::Truncate(path(at)?),
        Does::Attributes(at, follow) => Change::Attributes(path(at)?, follows(follow)),
        Does::Owner(at, follow) => Change::Owner(path(at)?, follows(follow)),
        Does::AttributesOf(at) => Change::Attributes(of_descriptor(at), true),
        Does::OwnerOf(at) => Change::Owner(of_descriptor(at), true),
        Does::Bind => match caller.address(arguments)? {
            Peer::Path(path) => Change::Make(path),
            Peer::Other => return None,
        },
        Does::Connect => return Some(Call::Connect(caller.address(arguments)?)),
        Does::Affect(at) => return Some(Call::Affect(arguments[at] as i32)),
        Does::ReadInput => return Some(Call::ReadInput),
        Does::Root => return Some(Call::ChangeRoot),
        Does::Final(what) => return Some(Call::Final(what)),
    };
    Some(Call::Change(change))
}

/// The words of a program that is about to be executed.
pub(crate) fn words(pid: u32, address: u64) -> Vec<OsString> {
    memory::words(pid, address).into_iter().map(OsString::from_vec).collect()
}

impl Caller {
    /// A path argument, as our process can reach it.
    fn path(&self, arguments: &[u64; 6], (directory, path): At) -> Option<PathBuf> {
        let directory = directory.map(|at| arguments[at] as RawFd);
        // Of utimensat(2) and the like: the descriptor itself.
        if let (Some(directory), 0) = (directory, arguments[path]) {
            return Some(self.descriptor(directory).into());
        }
        let path = memory::path(self.pid, arguments[path])?;
        if path.is_empty() {
            return match directory {
                Some(directory) if directory != libc::AT_FDCWD => {
                    Some(self.descriptor(directory).into())
                }
                _ => None,
            };
        }
        Some(self.reach(directory, path))
    }

    fn reach(&self, directory: Option<RawFd>, path: Vec<u8>) -> PathBuf {
        let base = match directory {
            _ if path.starts_with(b"/") => match self.own_name(&path) {
                Some(own) => return own,
                // The way through `/proc` costs more than all the rest.
                None if self.has_own_root => format!("/proc/{}/root", self.pid),
                None => String::new(),
            },
            None | Some(libc::AT_FDCWD) => format!("/proc/{}/cwd/", self.pid),
            Some(directory) => format!("{}/", self.descriptor(directory)),
        };
        PathBuf::from(OsString::from_vec([base.as_bytes(), &path].concat()))
    }

    /// A path that means something else to each process.
    fn own_name(&self, path: &[u8]) -> Option<PathBuf> {
        let name = std::str::from_utf8(path).ok()?;
        let own = match name {
            "/dev/stdin" => self.descriptor(0),
            "/dev/stdout" => self.descriptor(1),
            "/dev/stderr" => self.descriptor(2),
            _ => match (name.strip_prefix("/dev/fd/"), name.strip_prefix("/proc/self/")) {
                (Some(number), _) => format!("/proc/{}/fd/{number}", self.pid),
                (_, Some(rest)) => format!("/proc/{}/{rest}", self.pid),
                _ => return None,
            },
        };
        Some(own.into())
    }

    fn descriptor(&self, number: RawFd) -> String {
        format!("/proc/{}/fd/{number}", self.pid)
    }

    /// The address of bind(2) and connect(2).
    fn address(&self, arguments: &[u64; 6]) -> Option<Peer> {
        const FAMILY: usize = size_of::<libc::sa_family_t>();
        let family = memory::read::<FAMILY>(self.pid, arguments[1])?;
        let length = usize::try_from(arguments[2]).unwrap_or(usize::MAX);
        if i32::from(libc::sa_family_t::from_ne_bytes(family)) != libc::AF_UNIX {
            return Some(Peer::Other);
        }
        let most = length.min(size_of::<libc::sockaddr_un>()).checked_sub(FAMILY)?;
        let path = memory::bytes(self.pid, arguments[1] + FAMILY as u64, most)?;
        let end = path.iter().position(|byte| *byte == 0).unwrap_or(path.len());
        Some(match &path[..end] {
            [] => Peer::Other,
            path => Peer::Path(self.reach(None, path.to_vec())),
        })
    }
}
