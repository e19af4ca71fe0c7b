//! The filter of a build's processes, and the kernel's side of the listener.
#![allow(unsafe_code)] // seccomp(2) with a listener and its ioctls: no maintained pure-Rust crate has them.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::Arc;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Resource, Rlimit, setrlimit};

use super::super::caller::status_of;
use super::super::mounts::Mounts;
use super::calls::{Unless, Watched, watched_by};
use super::{Listener, Watch};

#[cfg(target_arch = "x86_64")]
pub(super) const AUDIT_ARCH: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
pub(super) const AUDIT_ARCH: u32 = 0xC000_00B7;

/// First call number of the x32 ABI, which the architecture does not tell from x86-64.
pub(super) const X32: i64 = 0x4000_0000;

/// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP` (Linux 6.6).
const SYNC_WAKE_UP: usize = 1;

/// Wait for the answer even when a signal comes (Linux 5.19): else `make`'s SIGCHLD restarts opens.
const WAIT_KILLABLE_RECV: libc::c_ulong = 1 << 5;

/// Does the kernel have user notification, and does no listener above us have it already?
pub(crate) fn is_available() -> bool {
    // A second listener is refused when a filter is installed, not before; but then this process
    // runs under a filter of its own.
    let is_filtered = status_of("self", "Seccomp_filters").is_some_and(|count| count != "0");
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
    let server = std::thread::Builder::new().name("mesh-watch".to_owned()).spawn(move || {
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

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
const JUMP_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const JUMP_ABOVE: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
const JUMP_BITS: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;

/// Where a `seccomp_data` has the number of a call, and its architecture.
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;

/// The lower half of an argument; both architectures are little-endian.
fn argument_at(number: usize) -> u32 {
    16 + 8 * u32::try_from(number).unwrap_or(0)
}

/// Builds the filter: everything but the watched calls passes untouched.
///
/// The kernel runs it only for calls that it does not always let pass: since Linux 5.11 it knows
/// the others by a bitmap, so the length of the list costs the rest of the build nothing.
fn filter(watch: Watch) -> Vec<libc::sock_filter> {
    let calls = watched_by(watch);
    let foreign = match watch {
        // What they change is not seen, so they may only run when it need not be.
        Watch::Changes | Watch::ChangesAndInput => libc::SECCOMP_RET_USER_NOTIF,
        Watch::Opens | Watch::Executions => libc::SECCOMP_RET_ALLOW,
    };
    let mut program = vec![
        statement(LOAD, ARCHITECTURE_AT),
        jump(JUMP_EQUAL, AUDIT_ARCH, 1, 0),
        statement(RETURN, foreign),
        statement(LOAD, NUMBER_AT),
        jump(JUMP_ABOVE, X32 as u32, 0, 1),
        statement(RETURN, foreign),
    ];
    for call in calls {
        let report = report(call);
        program.push(jump(JUMP_EQUAL, call.number as u32, 0, report.len() as u8));
        program.extend(report);
    }
    program.push(statement(RETURN, libc::SECCOMP_RET_ALLOW));
    program
}

/// What becomes of a watched call: reported, unless its condition holds.
fn report(call: &Watched) -> Vec<libc::sock_filter> {
    let notify = statement(RETURN, libc::SECCOMP_RET_USER_NOTIF);
    let allow = statement(RETURN, libc::SECCOMP_RET_ALLOW);
    match call.unless {
        Unless::Never => vec![notify],
        Unless::Has(at, bits) => {
            vec![statement(LOAD, argument_at(at)), jump(JUMP_BITS, bits, 1, 0), notify, allow]
        }
        Unless::Is(at, number) => {
            vec![statement(LOAD, argument_at(at)), jump(JUMP_EQUAL, number, 1, 0), notify, allow]
        }
        Unless::IsNoneOf(at, numbers) => {
            let mut report = vec![statement(LOAD, argument_at(at))];
            for (at, number) in numbers.iter().enumerate() {
                // Past the numbers that follow, and the return that lets others pass.
                report.push(jump(JUMP_EQUAL, *number, (numbers.len() - at) as u8, 0));
            }
            report.extend([allow, notify]);
            report
        }
        Unless::IsNull(at) => vec![
            statement(LOAD, argument_at(at)),
            jump(JUMP_EQUAL, 0, 0, 2),
            statement(LOAD, argument_at(at) + 4),
            jump(JUMP_EQUAL, 0, 1, 0),
            notify,
            allow,
        ],
    }
}

fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

fn jump(code: u32, k: u32, yes: u8, no: u8) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: yes, jf: no, k }
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
    // Before Linux 5.16 a filter also slows its processes down to guard against Spectre; this one
    // is no boundary of security.
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    let mut listener = install(flags | WAIT_KILLABLE_RECV);
    if listener < 0 {
        listener = install(flags);
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

/// From Linux 6.6 on: the kernel hands the processor over to whoever has to answer and back,
/// instead of waking another one. Elsewhere each call costs some microseconds more.
pub(super) fn hand_over_processor(listener: &OwnedFd) {
    let flags = SYNC_WAKE_UP as *mut libc::c_void;
    let _ = ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS as _, flags);
}

/// Waits for a call of the build.
pub(super) fn receive(listener: &OwnedFd) -> io::Result<libc::seccomp_notif> {
    // SAFETY: all-zero is what the kernel wants this structure to be.
    let mut raw: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_RECV as _, (&raw mut raw).cast())?;
    Ok(raw)
}

/// Lets a call go on.
pub(super) fn proceed(listener: &OwnedFd, id: u64) -> io::Result<()> {
    let flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
    let mut answer = libc::seccomp_notif_resp { id, val: 0, error: 0, flags };
    ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_SEND as _, (&raw mut answer).cast())
}

/// Makes this open file the result of a call.
pub(super) fn send_file(
    listener: &OwnedFd,
    id: u64,
    file: RawFd,
    close_on_exec: bool,
) -> io::Result<()> {
    let mut given = libc::seccomp_notif_addfd {
        id,
        flags: libc::SECCOMP_ADDFD_FLAG_SEND as u32,
        srcfd: file as u32,
        newfd: 0,
        newfd_flags: if close_on_exec { libc::O_CLOEXEC as u32 } else { 0 },
    };
    ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_ADDFD as _, (&raw mut given).cast())
}

/// Is no process left that could call?
pub(super) fn is_abandoned(listener: &OwnedFd) -> io::Result<bool> {
    let mut poll = libc::pollfd { fd: listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid pollfd.
    if unsafe { libc::poll(&raw mut poll, 1, -1) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(poll.revents & libc::POLLHUP != 0)
}

fn ioctl(
    listener: &OwnedFd,
    request: libc::c_ulong,
    argument: *mut libc::c_void,
) -> io::Result<()> {
    // SAFETY: each caller passes the structure that its request is defined on.
    match unsafe { libc::ioctl(listener.as_raw_fd(), request as _, argument) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
