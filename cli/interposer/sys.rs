//! The system calls of the interposer, and how a program without libc starts.
//!
//! No crate serves here: this is compiled by itself, and would pay for libc's start what it is there
//! to save. Numbers and layouts are those of Linux's own interface (syscall(2), the architectures'
//! unistd.h), which does not change.
#![allow(unsafe_code)] // System calls and the stack that the kernel lays out.

use core::arch::{asm, global_asm};
use core::ffi::CStr;
use core::mem::MaybeUninit;
use core::ptr;

/// Bytes of a path with its zero byte, and half of that again for a path within a directory.
const PATH_BYTES: usize = 2 * 4096;

/// The longest text that an answer may hold: a variable takes at most 128 KiB (execve(2)).
const TEXT_BYTES_MAX: usize = 256 * 1024;

/// Bytes relayed at once.
const CHUNK: usize = 16 * 1024;

#[cfg(target_arch = "x86_64")]
mod number {
    pub(super) const READ: usize = 0;
    pub(super) const WRITE: usize = 1;
    pub(super) const MMAP: usize = 9;
    pub(super) const SOCKET: usize = 41;
    pub(super) const CONNECT: usize = 42;
    pub(super) const SENDMSG: usize = 46;
    pub(super) const CLONE: usize = 56;
    pub(super) const EXECVE: usize = 59;
    pub(super) const WAIT4: usize = 61;
    pub(super) const GETCWD: usize = 79;
    pub(super) const UMASK: usize = 95;
    pub(super) const EXIT_GROUP: usize = 231;
    pub(super) const OPENAT: usize = 257;
    pub(super) const READLINKAT: usize = 267;
    pub(super) const STATX: usize = 332;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub(super) const GETCWD: usize = 17;
    pub(super) const OPENAT: usize = 56;
    pub(super) const READ: usize = 63;
    pub(super) const WRITE: usize = 64;
    pub(super) const READLINKAT: usize = 78;
    pub(super) const EXIT_GROUP: usize = 94;
    pub(super) const UMASK: usize = 166;
    pub(super) const SOCKET: usize = 198;
    pub(super) const CONNECT: usize = 203;
    pub(super) const SENDMSG: usize = 211;
    pub(super) const CLONE: usize = 220;
    pub(super) const EXECVE: usize = 221;
    pub(super) const MMAP: usize = 222;
    pub(super) const WAIT4: usize = 260;
    pub(super) const STATX: usize = 291;
}

// The kernel enters here with the stack pointer at argc; functions want it aligned, and a frame to
// return to that they never see.
#[cfg(target_arch = "x86_64")]
global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {enter}",
    "ud2",
    enter = sym enter,
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".globl _start",
    "_start:",
    "mov x29, #0",
    "mov x30, #0",
    "mov x0, sp",
    "and sp, x0, #-16",
    "bl {enter}",
    "brk #1",
    enter = sym enter,
);

/// What a new process gets.
pub(crate) struct Start {
    pub(crate) arguments: Words,
    pub(crate) environment: Words,
}

unsafe extern "C" fn enter(stack: *mut usize) -> ! {
    // SAFETY: `stack` is as the kernel left it: argc, that many pointers, null, the environment's
    // pointers, null (System V ABI, "process initialization"; the same on aarch64). Nobody else
    // uses it.
    let mut start = unsafe {
        let count = *stack;
        let arguments = Words::at(stack.add(1).cast());
        let environment = Words::at(stack.add(count + 2).cast());
        Start { arguments, environment }
    };
    exit(super::run(&mut start))
}

fn exit(status: u8) -> ! {
    loop {
        // SAFETY: it takes a number and does not return.
        unsafe { call(number::EXIT_GROUP, [usize::from(status), 0, 0, 0, 0]) };
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(70)
}

/// Makes a system call of up to five arguments and gives what the kernel gives: -errno for errors.
///
/// # Safety
///
/// That of the call: pointers must be good for what it reads and writes.
unsafe fn call(number: usize, [a, b, c, d, e]: [usize; 5]) -> isize {
    // SAFETY: the registers are those of the kernel's convention (syscall(2)); the rest is up to
    // the caller.
    unsafe { call_six(number, [a, b, c, d, e, 0]) }
}

/// See [`call`].
///
/// # Safety
///
/// As there.
#[cfg(target_arch = "x86_64")]
unsafe fn call_six(number: usize, [a, b, c, d, e, f]: [usize; 6]) -> isize {
    let result;
    // SAFETY: as there.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// See [`call`].
///
/// # Safety
///
/// As there.
#[cfg(target_arch = "aarch64")]
unsafe fn call_six(number: usize, [a, b, c, d, e, f]: [usize; 6]) -> isize {
    let result;
    // SAFETY: as there.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a => result,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f,
            options(nostack),
        );
    }
    result
}

/// What the kernel says of a call that failed: errno(3).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Error(isize);

impl Error {
    pub(crate) const NOT_THERE: Self = Self(2);
    const INTERRUPTED: Self = Self(4);
    pub(crate) const BAD_DESCRIPTOR: Self = Self(9);
    const DENIED: Self = Self(13);
    const NO_PROGRAM: Self = Self(8);
    pub(crate) const TOO_LONG: Self = Self(7);

    /// For people.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::NOT_THERE => "not found",
            Self::DENIED => "permission denied",
            Self::NO_PROGRAM => "not a program of this machine",
            Self::TOO_LONG => "too many arguments",
            _ => "it cannot be executed",
        }
    }
}

fn checked(result: isize) -> Result<usize, Error> {
    usize::try_from(result).map_err(|_| Error(-result))
}

/// Repeats a call that a signal broke off.
fn persevere(mut attempt: impl FnMut() -> isize) -> Result<usize, Error> {
    loop {
        match checked(attempt()) {
            Err(Error::INTERRUPTED) => {}
            other => return other,
        }
    }
}

/// Zero-terminated texts that live as long as the process, by pointers that end with a null.
pub(crate) struct Words {
    first: *mut *const u8,
    count: usize,
}

impl Words {
    /// # Safety
    ///
    /// What the type says, and nobody else uses the pointers.
    unsafe fn at(first: *mut *const u8) -> Self {
        let mut count = 0;
        // SAFETY: the pointers end with a null.
        while !unsafe { *first.add(count) }.is_null() {
            count += 1;
        }
        Self { first, count }
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    fn get(&self, i: usize) -> Option<&'static CStr> {
        // SAFETY: within the count each is a zero-terminated text that stays.
        (i < self.count).then(|| unsafe { CStr::from_ptr((*self.first.add(i)).cast()) })
    }

    pub(crate) fn first(&self) -> Option<&'static CStr> {
        self.get(0)
    }

    pub(crate) fn set(&mut self, i: usize, word: &'static CStr) {
        if i < self.count {
            // SAFETY: within the count.
            unsafe { *self.first.add(i) = word.as_ptr().cast() };
        }
    }

    /// All of them as they lie in memory, one after the other, each with its zero byte.
    pub(crate) fn block(&self) -> Result<&'static [u8], Error> {
        let mut bytes = 0;
        for i in 0..self.count {
            let word = self.get(i).ok_or(Error::NOT_THERE)?.to_bytes_with_nul();
            // SAFETY: only compared.
            let expected = unsafe { (*self.first).wrapping_add(bytes) };
            if word.as_ptr() != expected {
                return Err(Error::NOT_THERE);
            }
            bytes += word.len();
        }
        match self.count {
            0 => Ok(&[]),
            // SAFETY: the texts follow each other, as was just seen.
            _ => Ok(unsafe { core::slice::from_raw_parts(*self.first, bytes) }),
        }
    }

    /// The variable with this name, by its place and value. The first counts, as for getenv(3).
    fn find(&self, name: &str) -> Option<(usize, &'static CStr)> {
        (0..self.count).find_map(|i| {
            let text = self.get(i)?.to_bytes_with_nul();
            let value = text.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            Some((i, CStr::from_bytes_with_nul(value).ok()?))
        })
    }

    pub(crate) fn variable(&self, name: &str) -> Option<&'static CStr> {
        self.find(name).map(|(_, value)| value)
    }

    /// Puts `variable`, which has a name, in this one's place.
    pub(crate) fn replace(&mut self, name: &str, variable: &'static CStr) {
        if let Some((i, _)) = self.find(name) {
            self.set(i, variable);
        }
    }

    pub(crate) fn remove(&mut self, name: &str) {
        while let Some((i, _)) = self.find(name) {
            // SAFETY: the null at the end moves along.
            unsafe { ptr::copy(self.first.add(i + 1), self.first.add(i), self.count - i) };
            self.count -= 1;
        }
    }
}

/// Room for a path, with a zero byte at its end.
#[derive(Clone)]
pub(crate) struct Buffer {
    bytes: [u8; PATH_BYTES],
    length: usize,
}

impl Buffer {
    pub(crate) fn new() -> Self {
        Self { bytes: [0; PATH_BYTES], length: 0 }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Up to the first zero byte; there is one in any case.
    pub(crate) fn text(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or(c"")
    }

    /// Appends; `false` if there is no room.
    pub(crate) fn push(&mut self, part: &[u8]) -> bool {
        let end = self.length + part.len();
        let fits = end < PATH_BYTES;
        if fits {
            self.bytes[self.length..end].copy_from_slice(part);
            self.length = end;
        }
        fits
    }

    fn fill(&mut self, read: impl FnOnce(*mut u8, usize) -> isize) -> Result<(), Error> {
        self.length = checked(read(self.bytes.as_mut_ptr(), PATH_BYTES - 1))?;
        Ok(())
    }

    /// getcwd(2).
    pub(crate) fn read_working_directory(&mut self) -> Result<(), Error> {
        // SAFETY: the kernel writes into the buffer, as much as we say.
        self.fill(|at, room| unsafe { call(number::GETCWD, [at.addr(), room, 0, 0, 0]) })?;
        // The zero byte is counted.
        self.length = self.length.saturating_sub(1);
        Ok(())
    }

    /// readlink(2).
    pub(crate) fn read_link(&mut self, path: &CStr) -> Result<(), Error> {
        let path = path.as_ptr().addr();
        let here = AT_FDCWD;
        // SAFETY: as above; `path` ends with a zero byte.
        self.fill(|at, room| unsafe { call(number::READLINKAT, [here, path, at.addr(), room, 0]) })
    }

    /// Where `path` leads when all symbolic links are followed.
    pub(crate) fn read_canonical(&mut self, path: &CStr) -> Result<(), Error> {
        let file = open(path, O_PATH)?;
        let mut link = Self::new();
        let mut digits = [0; 20];
        link.push(b"/proc/self/fd/");
        link.push(decimal(file.number, &mut digits));
        self.read_link(link.text())
    }
}

fn decimal(mut number: usize, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 || at == 0 {
            return &digits[at..];
        }
    }
}

const AT_FDCWD: usize = -100_isize as usize;
const O_PATH: usize = 0o10_000_000;
const O_RDWR: usize = 0o2;
const AF_UNIX: u16 = 1;
/// `SOCK_STREAM | SOCK_CLOEXEC`.
const STREAM: usize = 1 | 0o2_000_000;
const SOL_SOCKET: i32 = 1;
const SCM_RIGHTS: i32 = 1;
const MSG_NOSIGNAL: usize = 0x4000;
const SIGCHLD: usize = 17;

/// An open file. It stays open: the process ends soon.
pub(crate) struct Descriptor {
    number: usize,
}

/// unix(7).
#[repr(C)]
struct Address {
    family: u16,
    path: [u8; 108],
}

/// sendmsg(2), `struct iovec`.
#[repr(C)]
struct Part {
    bytes: *const u8,
    length: usize,
}

/// sendmsg(2), `struct msghdr`.
#[repr(C)]
struct Message {
    name: *const u8,
    name_length: u32,
    parts: *const Part,
    part_count: usize,
    control: *const Rights,
    control_length: usize,
    flags: i32,
}

/// cmsg(3), with three descriptors.
#[repr(C)]
struct Rights {
    length: usize,
    level: i32,
    kind: i32,
    descriptors: [i32; 3],
    padding: i32,
}

impl Descriptor {
    /// One that was open from the start.
    pub(crate) fn of_number(number: usize) -> Self {
        Self { number }
    }

    /// Connects to the Unix socket at `path`.
    pub(crate) fn connect(path: &CStr) -> Result<Self, Error> {
        let path = path.to_bytes();
        let mut address = Address { family: AF_UNIX, path: [0; 108] };
        // One byte is for the zero.
        let place = address.path.get_mut(..path.len()).filter(|place| place.len() < 108);
        place.ok_or(Error::TOO_LONG)?.copy_from_slice(path);
        // SAFETY: three numbers.
        let socket = unsafe { call(number::SOCKET, [usize::from(AF_UNIX), STREAM, 0, 0, 0]) };
        let number = checked(socket)?;
        let (at, length) = (ptr::from_ref(&address).addr(), size_of::<Address>());
        // SAFETY: `address` is read for its length.
        persevere(|| unsafe { call(number::CONNECT, [number, at, length, 0, 0]) })?;
        Ok(Self { number })
    }

    fn send(&self, parts: &[Part], rights: Option<&Rights>) -> Result<usize, Error> {
        let message = Message {
            name: ptr::null(),
            name_length: 0,
            parts: parts.as_ptr(),
            part_count: parts.len(),
            control: rights.map_or(ptr::null(), ptr::from_ref),
            control_length: rights.map_or(0, |rights| rights.length),
            flags: 0,
        };
        let at = ptr::from_ref(&message).addr();
        // SAFETY: `message` and all that it points to live through the call, which reads them.
        persevere(|| unsafe { call(number::SENDMSG, [self.number, at, MSG_NOSIGNAL, 0, 0]) })
    }

    /// Sends these bytes, and with them this process's standard streams.
    pub(crate) fn send_with_streams(&self, bytes: &[u8]) -> Result<(), Error> {
        // CMSG_LEN(12) is 16 + 12.
        let rights = Rights {
            length: 28,
            level: SOL_SOCKET,
            kind: SCM_RIGHTS,
            descriptors: [0, 1, 2],
            padding: 0,
        };
        let part = [Part { bytes: bytes.as_ptr(), length: bytes.len() }];
        let sent = self.send(&part, Some(&rights))?;
        self.send_all([bytes.get(sent..).unwrap_or_default(), &[], &[], &[]])
    }

    /// Sends these, one after the other.
    pub(crate) fn send_all(&self, mut parts: [&[u8]; 4]) -> Result<(), Error> {
        while parts.iter().any(|part| !part.is_empty()) {
            let list = parts.map(|part| Part { bytes: part.as_ptr(), length: part.len() });
            let mut sent = self.send(&list, None)?;
            for part in &mut parts {
                let here = sent.min(part.len());
                *part = &part[here..];
                sent -= here;
            }
        }
        Ok(())
    }

    fn read(&self, at: *mut u8, length: usize) -> Result<usize, Error> {
        // SAFETY: the callers below give room for `length` bytes.
        persevere(|| unsafe { call(number::READ, [self.number, at.addr(), length, 0, 0]) })
    }

    pub(crate) fn read_exact(&self, mut into: &mut [u8]) -> Result<(), Error> {
        while !into.is_empty() {
            match self.read(into.as_mut_ptr(), into.len())? {
                0 => return Err(Error::NOT_THERE),
                read => into = &mut into[read..],
            }
        }
        Ok(())
    }

    pub(crate) fn write_all(&self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let (at, length) = (bytes.as_ptr().addr(), bytes.len());
            // SAFETY: the bytes are read.
            let written =
                persevere(|| unsafe { call(number::WRITE, [self.number, at, length, 0, 0]) })?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Writes the next `length` bytes from here to `target`. They are taken even if they cannot be
    /// written.
    pub(crate) fn relay(&self, mut length: usize, target: &Self) -> Result<(), Error> {
        let mut chunk = MaybeUninit::<[u8; CHUNK]>::uninit();
        let mut written = Ok(());
        while length > 0 {
            let at: *mut u8 = chunk.as_mut_ptr().cast();
            let read = self.read(at, length.min(CHUNK))?;
            if read == 0 {
                return Err(Error::NOT_THERE);
            }
            // SAFETY: the kernel has just written them.
            let bytes = unsafe { core::slice::from_raw_parts(at, read) };
            written = written.and_then(|()| target.write_all(bytes));
            length -= read;
        }
        written
    }

    /// The next `length` bytes, kept; `None` if they do not come, or are too many.
    pub(crate) fn read_text(&self, length: usize) -> Option<&'static [u8]> {
        let text = room(length)?;
        self.read_exact(text).ok()?;
        Some(text)
    }
}

/// Zeroed memory that stays.
fn room(length: usize) -> Option<&'static mut [u8]> {
    /// `PROT_READ | PROT_WRITE` and `MAP_PRIVATE | MAP_ANONYMOUS`.
    const HOW: [usize; 2] = [0x1 | 0x2, 0x02 | 0x20];
    if length == 0 || length > TEXT_BYTES_MAX {
        return None;
    }
    let nobody = usize::MAX;
    // SAFETY: a new mapping, wherever there is place.
    let at = unsafe { call_six(number::MMAP, [0, length, HOW[0], HOW[1], nobody, 0]) };
    let at = checked(at).ok()?;
    // SAFETY: the mapping has that length, is zeroed, ours alone, and is never removed.
    Some(unsafe { core::slice::from_raw_parts_mut(ptr::with_exposed_provenance_mut(at), length) })
}

/// A copy that stays.
pub(crate) fn keep(text: &CStr) -> Option<&'static CStr> {
    let bytes = text.to_bytes_with_nul();
    let room = room(bytes.len())?;
    room.copy_from_slice(bytes);
    CStr::from_bytes_with_nul(room).ok()
}

/// What is there now, whatever was when this was compiled.
pub(crate) fn read_anew(place: &'static u8) -> u8 {
    // SAFETY: a reference is good for reading.
    unsafe { ptr::read_volatile(place) }
}

fn open(path: &CStr, flags: usize) -> Result<Descriptor, Error> {
    let path = path.as_ptr().addr();
    // SAFETY: `path` ends with a zero byte.
    let opened = persevere(|| unsafe { call(number::OPENAT, [AT_FDCWD, path, flags, 0, 0]) });
    opened.map(|number| Descriptor { number })
}

/// Gives those of the three standard streams that are closed to `/dev/null`.
pub(crate) fn open_standard_streams() -> Result<(), Error> {
    // The lowest free number is taken: the first that is none of theirs ends it.
    while open(c"/dev/null", O_RDWR)?.number < 2 {}
    Ok(())
}

/// Which permission bits this process takes away from files that it makes.
pub(crate) fn umask() -> u32 {
    // It can only be read by setting it.
    // SAFETY: a number; this process has one thread.
    let umask = unsafe { call(number::UMASK, [0; 5]) };
    // SAFETY: as above.
    unsafe { call(number::UMASK, [umask as usize, 0, 0, 0, 0]) };
    umask as u32
}

/// What is at a path: a few of the fields of statx(2).
pub(crate) struct Kind {
    mode: u16,
    inode: u64,
    device: [u32; 2],
}

/// statx(2), `struct statx`.
#[repr(C)]
struct Statx {
    before: [u32; 7],
    mode: u16,
    spare: u16,
    inode: u64,
    between: [u64; 12],
    device: [u32; 2],
    after: [u64; 14],
}

const _: () = assert!(size_of::<Statx>() == 256 && core::mem::offset_of!(Statx, device) == 136);

impl Kind {
    /// What `path` leads to.
    pub(crate) fn of(path: &CStr) -> Option<Self> {
        /// `STATX_TYPE | STATX_MODE | STATX_INO`.
        const WANTED: usize = 0x1 | 0x2 | 0x100;
        let mut found = MaybeUninit::<Statx>::zeroed();
        let (path, at) = (path.as_ptr().addr(), found.as_mut_ptr().expose_provenance());
        // SAFETY: `path` ends with a zero byte; `found` has the room that the kernel fills.
        checked(unsafe { call(number::STATX, [AT_FDCWD, path, 0, WANTED, at]) }).ok()?;
        // SAFETY: all zeros is a value, and so is what the kernel wrote.
        let Statx { mode, inode, device, .. } = unsafe { found.assume_init() };
        Some(Self { mode, inode, device })
    }

    /// A regular file that somebody may execute.
    pub(crate) fn is_program(&self) -> bool {
        self.mode & 0o170_000 == 0o100_000 && self.mode & 0o111 != 0
    }

    /// The file that this process runs.
    pub(crate) fn is_this_program(&self) -> bool {
        Self::of(c"/proc/self/exe")
            .is_some_and(|own| (own.inode, own.device) == (self.inode, self.device))
    }
}

/// Becomes another program; returns why it cannot.
pub(crate) fn execute(file: &CStr, start: &Start) -> Error {
    let (arguments, environment) = (start.arguments.first, start.environment.first);
    let words = [file.as_ptr().addr(), arguments.addr(), environment.addr(), 0, 0];
    // SAFETY: a path with a zero byte, and two lists that end with a null.
    let failed = unsafe { call(number::EXECVE, words) };
    Error(-failed)
}

/// The new process's number; `None` in the new process.
pub(crate) fn fork() -> Result<Option<usize>, Error> {
    // SAFETY: no flag but the signal at its end: the new process has a copy of everything.
    let child = checked(unsafe { call(number::CLONE, [SIGCHLD, 0, 0, 0, 0]) })?;
    Ok((child != 0).then_some(child))
}

/// Waits for a child; its exit status, as a shell would say it.
pub(crate) fn wait(child: usize) -> u8 {
    let mut status = 0_i32;
    let at = ptr::from_mut(&mut status).expose_provenance();
    // SAFETY: the kernel writes one number.
    let waited = persevere(|| unsafe { call(number::WAIT4, [child, at, 0, 0, 0]) });
    // SAFETY: it is initialised; the kernel may have written it behind the compiler's back.
    let status = unsafe { ptr::read_volatile(&status) };
    match (waited, status & 0x7f) {
        (Err(_), _) => u8::MAX,
        // wait(2): WEXITSTATUS and WTERMSIG.
        (Ok(_), 0) => (status >> 8) as u8,
        (Ok(_), signal) => 128 + signal as u8,
    }
}

/// What the standard library's tables of functions refer to. Nothing unwinds here.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// What the compiler calls by these names for copies, fills and comparisons.
mod memory {
    /// # Safety
    ///
    /// memcpy(3).
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
        for i in 0..count {
            // SAFETY: as the caller promised.
            unsafe { *to.add(i) = *from.add(i) };
        }
        to
    }

    /// # Safety
    ///
    /// memmove(3).
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
        if to.cast_const() <= from {
            // SAFETY: ascending, nothing is overwritten before it is read.
            return unsafe { memcpy(to, from, count) };
        }
        for i in (0..count).rev() {
            // SAFETY: as the caller promised.
            unsafe { *to.add(i) = *from.add(i) };
        }
        to
    }

    /// # Safety
    ///
    /// memset(3).
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memset(to: *mut u8, byte: i32, count: usize) -> *mut u8 {
        for i in 0..count {
            // SAFETY: as the caller promised.
            unsafe { *to.add(i) = byte as u8 };
        }
        to
    }

    /// # Safety
    ///
    /// memcmp(3).
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, count: usize) -> i32 {
        for i in 0..count {
            // SAFETY: as the caller promised.
            let (one, other) = unsafe { (*one.add(i), *other.add(i)) };
            if one != other {
                return i32::from(one) - i32::from(other);
            }
        }
        0
    }

    /// # Safety
    ///
    /// bcmp(3).
    #[unsafe(no_mangle)]
    unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, count: usize) -> i32 {
        // SAFETY: the same promise.
        unsafe { memcmp(one, other, count) }
    }

    /// # Safety
    ///
    /// strlen(3).
    #[unsafe(no_mangle)]
    unsafe extern "C" fn strlen(text: *const u8) -> usize {
        let mut length = 0;
        // SAFETY: there is a zero byte.
        while unsafe { *text.add(length) } != 0 {
            length += 1;
        }
        length
    }
}
