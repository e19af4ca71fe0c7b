//! Seeing a build's opens and executions before they happen (seccomp user notification).
//!
//! Goal: an unmodelled program that opens or executes a placeholder waits until the real file is
//! there. No preloaded library is needed, so static programs are seen too. The build command gets a
//! filter that sends `open*`, `creat` and `execve*` to a listener of ours and lets the call go on
//! after our answer; every child inherits it. Each such call costs the build some 10 us.
//!
//! Non-goals: security (a program may change a path after we looked; then it reads what is there),
//! and programs of another architecture, 32-bit ones for example: their calls pass unseen.
//!
//! See seccomp_unotify(2).
#![allow(unsafe_code)] // seccomp(2) with a listener and its ioctls: no maintained pure-Rust crate has them.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Resource, Rlimit, setrlimit};

use super::mounts::Mounts;

/// Calls that look a file up by path, with the places of its arguments.
#[derive(Clone, Copy, Debug)]
struct Watched {
    number: i64,
    directory: Option<usize>,
    path: usize,
    how: How,
}

#[derive(Clone, Copy, Debug)]
enum How {
    /// The open flags are this argument.
    Flags(usize),
    /// The flags are the first word of a `struct open_how` at this argument.
    Structure(usize),
    /// `creat`: truncates.
    Create,
    /// Executes.
    Execute,
    /// Changes what paths mean.
    Root,
}

const WATCHED: &[Watched] = &[
    #[cfg(target_arch = "x86_64")]
    Watched { number: libc::SYS_open, directory: None, path: 0, how: How::Flags(1) },
    #[cfg(target_arch = "x86_64")]
    Watched { number: libc::SYS_creat, directory: None, path: 0, how: How::Create },
    Watched { number: libc::SYS_openat, directory: Some(0), path: 1, how: How::Flags(2) },
    Watched { number: libc::SYS_openat2, directory: Some(0), path: 1, how: How::Structure(2) },
    Watched { number: libc::SYS_chroot, directory: None, path: 0, how: How::Root },
    Watched { number: libc::SYS_pivot_root, directory: None, path: 0, how: How::Root },
    Watched { number: libc::SYS_setns, directory: None, path: 0, how: How::Root },
    Watched { number: libc::SYS_execve, directory: None, path: 0, how: How::Execute },
    Watched { number: libc::SYS_execveat, directory: Some(0), path: 1, how: How::Execute },
];

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xC000_00B7;

/// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP` (Linux 6.6).
const SYNC_WAKE_UP: usize = 1;

/// Wait for the answer even when a signal comes (Linux 5.19): else `make`'s SIGCHLD restarts opens.
const WAIT_KILLABLE_RECV: libc::c_ulong = 1 << 5;

/// What a program is about to do with the file behind a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    /// It will read what is in it.
    Read,
    /// It may change it.
    Write,
    /// It will empty it first.
    Truncate,
    /// It will become it.
    Execute,
}

/// One call that waits for our answer.
#[derive(Debug)]
pub(crate) struct Notification {
    id: u64,
    /// Who calls: a thread, and where it is the only one, a process.
    pub(crate) pid: u32,
    /// The path as our process can reach it: through the caller's root, directory or descriptor.
    pub(crate) path: CString,
    /// What it is for.
    pub(crate) access: Access,
    /// The flags of an open.
    flags: u64,
}

/// Our end: where the calls of the build arrive.
#[derive(Debug)]
pub(crate) struct Listener {
    descriptor: OwnedFd,
    /// A process may have another root directory than we have.
    has_roots: AtomicBool,
}

/// Which calls a build's filter reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Watch {
    /// Executions and opens.
    All,
    /// Executions only: there are no placeholders to be opened.
    Executions,
}

impl Watch {
    fn covers(self, call: &Watched) -> bool {
        self == Self::All || matches!(call.how, How::Execute | How::Root)
    }
}

/// Does the kernel have user notification, and does no listener above us have it already?
pub(crate) fn is_available() -> bool {
    // A second listener is refused when a filter is installed, not before; but then this process
    // runs under a filter of its own.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let filters = status.lines().find_map(|line| line.strip_prefix("Seccomp_filters:"));
    let is_filtered = filters.is_some_and(|count| count.trim() != "0");
    !is_filtered || can_listen()
}

/// Tries whether a listener can be had, in a child that does nothing else.
pub(crate) fn can_listen() -> bool {
    let Ok((ours, theirs)) = UnixStream::pair() else { return false };
    let filter = filter(Watch::Executions);
    let number = theirs.as_raw_fd();
    let mut command = Command::new("/proc/self/exe");
    // SAFETY: only system calls between fork and exec, which is never reached.
    unsafe {
        command.pre_exec(move || {
            install_and_send(&filter, number)?;
            libc::_exit(0)
        });
    }
    // The child ends before it executes: that is an error to spawn(), and none to us.
    let _ = command.spawn();
    drop(theirs);
    matches!(receive_descriptor(&ours), Ok(Some(_)))
}

/// Starts a command whose calls are reported, with all that come of it.
///
/// `serve` is given the listener on a thread of its own, because the command's own execution is
/// the first call that waits for an answer.
pub(crate) fn spawn(
    command: &mut Command,
    watch: Watch,
    given: Given,
    serve: impl FnOnce(Listener) + Send + 'static,
) -> io::Result<Child> {
    let (ours, theirs) = UnixStream::pair()?;
    let filter = filter(watch);
    let number = theirs.as_raw_fd();
    let prepare = move || {
        given.take()?;
        install_and_send(&filter, number)
    };
    // SAFETY: `prepare` runs between fork and exec and only makes system calls.
    unsafe { command.pre_exec(prepare) };
    let server = std::thread::Builder::new().name("mesh-opens".to_owned()).spawn(move || {
        if let Ok(Some(listener)) = receive_descriptor(&ours) {
            serve(Listener::new(listener));
        }
    })?;
    let spawned = command.spawn();
    drop(theirs);
    // It ends when no process of the build is left; nobody needs to wait for that.
    drop(server);
    spawned
}

/// Starts a command whose calls nobody sees.
pub(crate) fn spawn_unwatched(command: &mut Command, given: Given) -> io::Result<Child> {
    // SAFETY: `take` runs between fork and exec and only makes system calls.
    unsafe { command.pre_exec(move || given.take()) };
    command.spawn()
}

/// What a command is given besides its words.
#[derive(Debug)]
pub(crate) struct Given {
    /// Descriptors that it keeps open.
    pub(crate) inherited: Vec<RawFd>,
    /// What it sees in place of something else.
    pub(crate) mounts: Option<Arc<Mounts>>,
    /// How many files it may have open.
    pub(crate) open_files: Rlimit,
}

impl Given {
    /// In the command's own process, before it executes.
    fn take(&self) -> io::Result<()> {
        self.inherited.iter().try_for_each(|descriptor| keep_open(*descriptor))?;
        setrlimit(Resource::Nofile, self.open_files)?;
        self.mounts.as_ref().map_or(Ok(()), |mounts| mounts.enter())
    }
}

/// Clears close-on-exec. Between fork and exec: no allocation, no lock.
fn keep_open(descriptor: RawFd) -> io::Result<()> {
    // SAFETY: fcntl on a number; a closed one gives EBADF.
    match unsafe { libc::fcntl(descriptor, libc::F_SETFD, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The descriptor that [`install_and_send`] sends; `None` if the child ended before.
fn receive_descriptor(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok(descriptors.next())
}

/// Builds the filter: everything but the watched calls of this architecture passes untouched.
fn filter(watch: Watch) -> Vec<libc::sock_filter> {
    let load = |offset: u32| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset);
    let give = |action: u32| statement(libc::BPF_RET | libc::BPF_K, action);
    let calls: Vec<&Watched> = WATCHED.iter().filter(|call| watch.covers(call)).collect();
    let count = u8::try_from(calls.len()).unwrap_or(u8::MAX);
    let mut program = vec![load(4), jump(AUDIT_ARCH, 0, count + 1), load(0)];
    for (i, call) in (0_u8..).zip(calls) {
        program.push(jump(call.number as u32, count - i, 0));
    }
    program.push(give(libc::SECCOMP_RET_ALLOW));
    program.push(give(libc::SECCOMP_RET_USER_NOTIF));
    program
}

fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

fn jump(k: u32, equal: u8, different: u8) -> libc::sock_filter {
    let code = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    libc::sock_filter { code, jt: equal, jf: different, k }
}

/// Installs the filter on the calling thread and sends the listener over `socket`.
///
/// Made for the moment between fork and exec: it allocates nothing and takes no lock.
fn install_and_send(filter: &[libc::sock_filter], socket: RawFd) -> io::Result<()> {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    let install = |flags: libc::c_ulong| {
        // SAFETY: `program` and the filter behind it live through the call, which only reads them.
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &program) }
    };
    // SAFETY: plain prctl; without it only root may install a filter, and as root it hurts little.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut listener = install(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | WAIT_KILLABLE_RECV);
    if listener < 0 {
        listener = install(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER);
    }
    if listener < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
    let listener = unsafe { OwnedFd::from_raw_fd(listener as RawFd) };
    send_descriptor(socket, listener.as_raw_fd())
}

fn send_descriptor(socket: RawFd, descriptor: RawFd) -> io::Result<()> {
    let mut byte = 0_u8;
    let mut data = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let mut control = [0_u64; 4];
    // SAFETY: all-zero is a valid msghdr and cmsghdr; the pointers set here outlive the call, and
    // `control` is aligned for and larger than one header with one descriptor.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut data;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(size_of::<RawFd>() as u32) as _;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<RawFd>() as u32) as _;
        libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(descriptor);
        match libc::sendmsg(socket, &raw const message, 0) {
            1 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Listener {
    /// Takes what [`install_and_send`] sent.
    pub(crate) fn new(descriptor: OwnedFd) -> Self {
        let listener = Self { descriptor, has_roots: AtomicBool::new(false) };
        // From Linux 6.6 on: the kernel hands the processor over to whoever has to answer and
        // back, instead of waking another one. Elsewhere each call costs some microseconds more.
        let flags = SYNC_WAKE_UP as *mut libc::c_void;
        let _ = listener.ioctl(libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS as _, flags);
        listener
    }

    /// Waits for the next call. `None` when no process of the build is left.
    pub(crate) fn next(&self) -> io::Result<Option<Notification>> {
        loop {
            // SAFETY: all-zero is what the kernel wants this structure to be.
            let mut raw: libc::seccomp_notif = unsafe { std::mem::zeroed() };
            match self.ioctl(libc::SECCOMP_IOCTL_NOTIF_RECV as _, (&raw mut raw).cast()) {
                Ok(()) => {}
                // The caller died before we looked, or a signal came.
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => continue,
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                    if self.is_abandoned()? {
                        return Ok(None);
                    }
                    continue;
                }
                Err(error) => return Err(error),
            }
            match self.describe(&raw) {
                Some((path, access, flags)) => {
                    let (id, pid) = (raw.id, raw.pid);
                    return Ok(Some(Notification { id, pid, path, access, flags }));
                }
                None => self.proceed(raw.id)?,
            }
        }
    }

    /// Lets the call go on.
    pub(crate) fn allow(&self, notification: Notification) -> io::Result<()> {
        self.proceed(notification.id)
    }

    /// Lets an open for reading come to this file instead, whatever is at its path.
    pub(crate) fn give(&self, notification: Notification, file: &File) -> io::Result<()> {
        let has = |flag: i32| notification.flags & flag as u64 != 0;
        // It wants to know about the path, not what is in the file.
        if has(libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW) {
            return self.allow(notification);
        }
        let mut given = libc::seccomp_notif_addfd {
            id: notification.id,
            flags: libc::SECCOMP_ADDFD_FLAG_SEND as u32,
            srcfd: file.as_raw_fd() as u32,
            newfd: 0,
            newfd_flags: if has(libc::O_CLOEXEC) { libc::O_CLOEXEC as u32 } else { 0 },
        };
        match self.ioctl(libc::SECCOMP_IOCTL_NOTIF_ADDFD as _, (&raw mut given).cast()) {
            // The caller has died meanwhile, or cannot have another descriptor, or this is before
            // Linux 5.14.
            Err(_) => self.allow(notification),
            Ok(()) => Ok(()),
        }
    }

    /// Ends the caller, which waits for something that will never be there.
    pub(crate) fn terminate(&self, notification: Notification) -> io::Result<()> {
        let pid = i32::try_from(notification.pid).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended already.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        self.answer(notification.id, -libc::EINTR, 0)
    }

    fn proceed(&self, id: u64) -> io::Result<()> {
        self.answer(id, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32)
    }

    fn answer(&self, id: u64, error: i32, flags: u32) -> io::Result<()> {
        let mut answer = libc::seccomp_notif_resp { id, val: 0, error, flags };
        match self.ioctl(libc::SECCOMP_IOCTL_NOTIF_SEND as _, (&raw mut answer).cast()) {
            // The caller has died meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            other => other,
        }
    }

    /// The path and the purpose of a call; `None` if they cannot be read (then the call fails by
    /// itself) or do not matter.
    fn describe(&self, raw: &libc::seccomp_notif) -> Option<(CString, Access, u64)> {
        let call = WATCHED.iter().find(|call| call.number == i64::from(raw.data.nr))?;
        let arguments = raw.data.args;
        let flags = match call.how {
            How::Flags(at) => arguments[at],
            How::Structure(at) => u64::from_ne_bytes(read_memory(raw.pid, arguments[at])?),
            How::Create | How::Execute | How::Root => 0,
        };
        let access = match call.how {
            How::Flags(_) | How::Structure(_) => access_of(flags),
            How::Create => Access::Truncate,
            How::Execute => Access::Execute,
            How::Root => {
                self.has_roots.store(true, Ordering::Relaxed);
                return None;
            }
        };
        let path = read_path(raw.pid, arguments[call.path])?;
        // Devices; and other names of files that the process has open, which it opened before us.
        if path.starts_with(b"/proc/") || path.starts_with(b"/dev/") {
            return None;
        }
        let base = match call.directory.map(|at| arguments[at] as RawFd) {
            // The way through `/proc` costs more than all the rest.
            _ if path.starts_with(b"/") && !self.has_roots.load(Ordering::Relaxed) => String::new(),
            _ if path.starts_with(b"/") => format!("/proc/{}/root", raw.pid),
            None | Some(libc::AT_FDCWD) => format!("/proc/{}/cwd/", raw.pid),
            Some(directory) => format!("/proc/{}/fd/{directory}/", raw.pid),
        };
        CString::new([base.as_bytes(), &path].concat()).ok().map(|path| (path, access, flags))
    }

    fn ioctl(&self, request: libc::c_ulong, argument: *mut libc::c_void) -> io::Result<()> {
        // SAFETY: each caller passes the structure that its request is defined on.
        match unsafe { libc::ioctl(self.descriptor.as_raw_fd(), request as _, argument) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    fn is_abandoned(&self) -> io::Result<bool> {
        let mut poll =
            libc::pollfd { fd: self.descriptor.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd.
        if unsafe { libc::poll(&raw mut poll, 1, -1) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(poll.revents & libc::POLLHUP != 0)
    }
}

fn access_of(flags: u64) -> Access {
    let has = |flag: i32| flags & flag as u64 == flag as u64;
    match flags & libc::O_ACCMODE as u64 {
        _ if has(libc::O_TRUNC) => Access::Truncate,
        mode if mode == libc::O_RDONLY as u64 => Access::Read,
        _ => Access::Write,
    }
}

fn read_memory<const N: usize>(pid: u32, address: u64) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    (read_some(pid, address, &mut bytes)? == N).then_some(bytes)
}

/// A zero-terminated string of at most `PATH_MAX` bytes, read page by page.
fn read_path(pid: u32, address: u64) -> Option<Vec<u8>> {
    const PAGE: u64 = 4096;
    let mut path = Vec::new();
    while path.len() < libc::PATH_MAX as usize {
        let from = address.checked_add(path.len() as u64)?;
        let mut chunk = [0; PAGE as usize];
        let within = (PAGE - from % PAGE) as usize;
        let count = read_some(pid, from, &mut chunk[..within])?;
        let read = chunk.get(..count).filter(|read| !read.is_empty())?;
        if let Some(end) = read.iter().position(|byte| *byte == 0) {
            path.extend_from_slice(&read[..end]);
            return Some(path);
        }
        path.extend_from_slice(read);
    }
    None
}

fn read_some(pid: u32, address: u64, into: &mut [u8]) -> Option<usize> {
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let remote = libc::iovec { iov_base: address as *mut _, iov_len: into.len() };
    // SAFETY: `local` is our buffer with its length; the remote address is only read by the kernel,
    // which reports what it cannot reach.
    let read = unsafe { libc::process_vm_readv(pid as i32, &local, 1, &remote, 1, 0) };
    usize::try_from(read).ok()
}
