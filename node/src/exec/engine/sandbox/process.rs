//! Processes and signals: what no safe crate offers.
//!
//! Unsafe because `fork`, `clone` and `exec` are: in a program with several threads a child may
//! find locks held by threads that it does not have. So everything here that makes a process asks
//! for a [`SingleThreaded`], which only a process with one thread can get. Child processes run
//! ordinary Rust then.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::io::Errno;

/// Proof that this process has one thread, and so may be cloned.
pub(super) struct SingleThreaded(());

impl SingleThreaded {
    /// Counts the threads.
    pub(super) fn check() -> std::io::Result<Self> {
        match std::fs::read_dir("/proc/self/task")?.count() {
            1 => Ok(Self(())),
            count => Err(std::io::Error::other(format!("{count} threads where one is needed"))),
        }
    }
}

/// Both sides of a new process.
pub(super) enum Cloned {
    /// The old process, with the new one's id and descriptor.
    Parent { pid: i32, pidfd: OwnedFd },
    /// The new process.
    Child,
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

fn check(result: libc::c_int) -> Result<libc::c_int, Errno> {
    if result < 0 { Err(last_errno()) } else { Ok(result) }
}

/// Makes a process, in new namespaces as `flags` (`CLONE_NEW…`) say.
pub(super) fn clone(flags: libc::c_int, _: &SingleThreaded) -> Result<Cloned, Errno> {
    let mut pidfd: RawFd = -1;
    let flags = libc::c_long::from(flags | libc::CLONE_PIDFD | libc::SIGCHLD);
    let none = ptr::null_mut::<libc::c_void>();
    // SAFETY: without CLONE_VM and with no stack given this is fork: the child has a copy of
    // everything. One thread only, so no lock is held by somebody who is missing in the child.
    // `pidfd` outlives the call, and the kernel writes one int to it in the parent.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, none, &raw mut pidfd, none, none) };
    match pid {
        0 => Ok(Cloned::Child),
        pid if pid > 0 => {
            // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent { pid: pid as i32, pidfd })
        }
        _ => Err(last_errno()),
    }
}

/// Makes a process that soon becomes another program or exits, without copying this one for it: this
/// one stands still until then. Gives its id.
pub(super) fn clone_to_exec<F: FnMut()>(mut child: F, _: &SingleThreaded) -> Result<i32, Errno> {
    /// Enough for what is done before `exec`: untouched pages of it cost nothing.
    const STACK_BYTES: usize = 256 << 10;
    extern "C" fn call<F: FnMut()>(child: *mut libc::c_void) -> libc::c_int {
        // SAFETY: it is what is given to clone below, which lives until the child does no more.
        unsafe { (*child.cast::<F>())() };
        1
    }
    // Aligned as the calling convention wants it.
    let mut stack = vec![0_u128; STACK_BYTES / size_of::<u128>()];
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the child shares memory, but this process, which has no other thread, does not run
    // before the child has left it, so all that it touches is as in one thread. It has a stack of
    // its own, which grows down from the end of one that lives until then. If `child` returns, the
    // process exits.
    check(unsafe {
        libc::clone(call::<F>, stack.as_mut_ptr_range().end.cast(), flags, (&raw mut child).cast())
    })
}

/// Leaves some namespaces for new ones.
pub(super) fn unshare(flags: libc::c_int, _: &SingleThreaded) -> Result<(), Errno> {
    // SAFETY: takes no pointers; only namespace flags are given, none that un-share memory or
    // descriptors that other code relies on.
    check(unsafe { libc::unshare(flags) }).map(drop)
}

/// Closes every descriptor above standard error.
pub(super) fn close_inherited(_: &SingleThreaded) -> Result<(), Errno> {
    // SAFETY: called before this process has opened anything, so nothing here owns one of them.
    // (Whoever started the program may have left some open that are not marked close-on-exec.)
    check(unsafe { libc::close_range(3, libc::c_uint::MAX, 0) }).map(drop)
}

/// Ends the process without running anything that was meant for its parent's end.
pub(super) fn exit(status: i32) -> ! {
    // SAFETY: never returns, touches no memory.
    unsafe { libc::_exit(status) }
}

/// Becomes another program. Comes back only if that fails.
pub(super) fn exec(path: &CStr, arguments: &[CString], environment: &[CString]) -> Errno {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both arrays end in a null pointer and, like what they point to, live until the call
    // returns, if it does.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    last_errno()
}

/// One ended child.
pub(super) struct Reaped {
    pub(super) pid: i32,
    pub(super) status: i32,
    /// User and system time of it and of those that it waited for.
    pub(super) cpu_us: u64,
    /// The most memory that one of them held.
    pub(super) memory_peak_bytes: u64,
}

/// Takes one ended child, if there is one; with `block` it waits for one. `Errno::CHILD`: there
/// are none left.
pub(super) fn reap(block: bool) -> Result<Option<Reaped>, Errno> {
    let mut status = 0;
    // SAFETY: all zero is a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let flags = if block { 0 } else { libc::WNOHANG };
    let pid = loop {
        // SAFETY: both pointers are to local variables of the right type.
        match check(unsafe { libc::wait4(-1, &raw mut status, flags, &raw mut usage) }) {
            Err(Errno::INTR) => {}
            other => break other?,
        }
    };
    let micros = |time: libc::timeval| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
    Ok((pid > 0).then(|| Reaped {
        pid,
        status,
        cpu_us: micros(usage.ru_utime) + micros(usage.ru_stime),
        memory_peak_bytes: usage.ru_maxrss as u64 * 1024,
    }))
}

/// Kills every process that this one may signal. Meant for the first process of a process
/// namespace, where these are all others in it.
pub(super) fn kill_all_others() {
    // SAFETY: takes no pointers. That there is nobody to kill is no error here.
    unsafe { libc::kill(-1, libc::SIGKILL) };
}

/// A descriptor that is readable when children end.
pub(super) fn child_events() -> Result<OwnedFd, Errno> {
    // SAFETY: all zero is a valid sigset_t; the calls get pointers to this local one.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        check(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()))?;
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        let fd = check(libc::signalfd(-1, &raw const set, flags))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Gives signals the meaning that a new program expects: none blocked, none ignored.
pub(super) fn reset_signals() {
    // SAFETY: SIG_DFL is no handler, so nothing of ours runs; the set is a valid local.
    unsafe {
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut());
    }
}

/// Can a filter hand system calls to another process for an answer?
pub(super) fn has_user_notification() -> Result<(), Errno> {
    let mut sizes = [0_u16; 3];
    // SAFETY: this operation writes three 16-bit sizes, for which there is room.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_NOTIF_SIZES, 0, sizes.as_mut_ptr())
    };
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}

/// Brings the loopback device of this network namespace up.
pub(super) fn loopback_up() -> Result<(), Errno> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
    // SAFETY: all zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which this is.
    let result =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    check(result).map(drop)
}
