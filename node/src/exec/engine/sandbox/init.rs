//! The first process of a sandbox, pid 1 in it: builds it, starts the program, buries orphans,
//! and hands the outputs out.
//!
//! States: begin → (made ahead: wait for a job) → build → wait for the word → run → (program ended:
//! kill the rest) → report → hand out → exit. At any moment the engine's end of the socket may close;
//! then it exits, and the kernel kills all others.

use std::ffi::CString;
use std::fs::{File, Permissions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use mesh_protocol::limits;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal};

use super::build;
use super::cgroup::JobGroup;
use super::filter::JobFilter;
use super::message::{self, Ended, Event, FDS_PER_MESSAGE, Order, Step, StepError};
use super::process::{self, SingleThreaded};

/// Where a shell says so too: not found, and found but not executable.
const NOT_FOUND: i32 = 127;
const NOT_EXECUTABLE: i32 = 126;

/// How often memory is looked at where no control group bounds it.
const WATCH_NS: i64 = 20_000_000;

/// How long a program that is still being written is waited for, and how often it is looked at.
const BUSY_NS: i64 = 1_000_000;
const BUSY_TIMES: u32 = 5_000;

/// What the engine has given for one job.
pub(super) struct JobEnds {
    pub(super) socket: OwnedFd,
    pub(super) order: File,
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

impl JobEnds {
    /// None, if it is not as many as it should be.
    pub(super) fn new(fds: Vec<OwnedFd>) -> Option<Self> {
        let [socket, order, stdin, stdout, stderr] = <[OwnedFd; 5]>::try_from(fds).ok()?;
        Some(Self { socket, order: File::from(order), stdin, stdout, stderr })
    }

    /// In the order in which they are sent.
    pub(super) fn fds(&self) -> [BorrowedFd<'_>; 5] {
        let Self { socket, order, stdin, stdout, stderr } = self;
        [socket.as_fd(), order.as_fd(), stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]
    }
}

/// Where the job comes from.
pub(super) enum Assignment {
    /// It is there.
    Job(JobEnds),
    /// It comes on this socket, some time.
    Awaited(OwnedFd),
}

/// What the launcher knows before there is a job.
pub(super) struct Ground<'a> {
    pub(super) group: &'a JobGroup,
    pub(super) filter: &'a JobFilter,
    pub(super) single: &'a SingleThreaded,
    pub(super) files_bytes: u64,
}

/// Does everything, and exits.
pub(super) fn run(assignment: Assignment, ground: &Ground<'_>) -> ! {
    let status = match run_job(assignment, ground) {
        Ok(()) => 0,
        Err(_) => 1,
    };
    process::exit(status)
}

fn run_job(assignment: Assignment, ground: &Ground<'_>) -> Result<(), Errno> {
    let begun = begin(ground);
    let job = match assignment {
        Assignment::Job(job) => job,
        Assignment::Awaited(socket) => {
            let received = message::receive::<()>(&socket)?;
            let Some(job) = received.and_then(|((), fds)| JobEnds::new(fds)) else { return Ok(()) };
            job
        }
    };
    let JobEnds { socket, mut order, stdin, stdout, stderr } = job;
    let Ground { group, filter, single, .. } = ground;
    let failed = |error| message::send(&socket, &Event::Failed(error), &[]);
    let order = match begun.and_then(|()| prepare(&mut order, group)) {
        Ok(order) => order,
        Err(error) => return failed(error),
    };
    if message::receive::<()>(&socket)?.is_none() {
        return Ok(());
    }
    let mut init = match Init::start(&order, group, filter, single, [stdin, stdout, stderr]) {
        Ok(init) => init,
        Err(error) => return failed(error),
    };
    let Some(ended) = init.wait(&socket, &order)? else {
        return Ok(());
    };
    message::send(&socket, &Event::Ended(ended), &[])?;
    hand_out(&socket, &order)
}

/// What no job is needed for.
fn begin(ground: &Ground<'_>) -> Result<(), StepError> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .step("die with the launcher")?;
    // Nothing of the launcher's memory is for the job to see in /proc/1.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).step("hide")?;
    ground.group.join().step("join the job's control groups")?;
    // Only now: what a namespace takes for its root is the group that its maker is in.
    process::unshare(libc::CLONE_NEWCGROUP, ground.single)
        .step("make a control group namespace")?;
    build::begin(ground.files_bytes)
}

fn prepare(file: &mut File, group: &JobGroup) -> Result<Order, StepError> {
    let order = message::read_order(file).step("read the order")?;
    group.bound(order.memory_bytes, order.processes).step("bound the job")?;
    build::build(&order, file)?;
    Ok(order)
}

struct Init<'a> {
    group: &'a JobGroup,
    events: OwnedFd,
    program: i32,
    cpu_us: u64,
    memory_peak_bytes: u64,
    over_bound: bool,
}

impl<'a> Init<'a> {
    fn start(
        order: &Order,
        group: &'a JobGroup,
        filter: &JobFilter,
        single: &SingleThreaded,
        streams: [OwnedFd; 3],
    ) -> Result<Self, StepError> {
        let events = process::child_events().step("watch for ended processes")?;
        let program = Program::new(order, group)?;
        let program = process::clone_to_exec(|| program.become_it(filter, &streams), single)
            .step("make a process")?;
        Ok(Self { group, events, program, cpu_us: 0, memory_peak_bytes: 0, over_bound: false })
    }

    /// Waits for the program's end, and sees to it that everything else ends too. None: the
    /// engine does not want to know any more.
    fn wait(&mut self, socket: &OwnedFd, order: &Order) -> Result<Option<Ended>, Errno> {
        let watched = order.memory_bytes.filter(|_| !self.group.bounds_memory());
        let pause = watched.map(|_| Timespec { tv_sec: 0, tv_nsec: WATCH_NS });
        let status = loop {
            let mut polled =
                [PollFd::new(&self.events, PollFlags::IN), PollFd::new(socket, PollFlags::IN)];
            rustix::io::retry_on_intr(|| rustix::event::poll(&mut polled, pause.as_ref()))?;
            let (child, engine) = (polled[0].revents(), polled[1].revents());
            if !engine.is_empty() {
                // A message means: the time is up. The end means: nobody wants to know.
                if message::receive::<()>(socket)?.is_none() {
                    return Ok(None);
                }
                process::kill_all_others();
            }
            if !child.is_empty()
                && let Some(status) = self.bury()?
            {
                break status;
            }
            if watched.is_some_and(|bound| self.memory_now() > bound) {
                self.over_bound = true;
                process::kill_all_others();
            }
        };
        process::kill_all_others();
        while let Some(reaped) = none_left(process::reap(true))? {
            self.count(&reaped);
        }
        let peak = self.group.memory_peak_bytes().unwrap_or(self.memory_peak_bytes);
        Ok(Some(Ended {
            status,
            out_of_memory: self.over_bound || self.group.out_of_memory(),
            cpu_us: self.cpu_us,
            memory_peak_bytes: peak,
        }))
    }

    /// Takes all that have ended; the program's status, if it is one of them.
    fn bury(&mut self) -> Result<Option<i32>, Errno> {
        let mut told = [0; 1024];
        // What they say is asked of wait instead: equal signals merge into one.
        let _ = rustix::io::read(&self.events, &mut told);
        let mut status = None;
        while let Some(reaped) = none_left(process::reap(false))? {
            self.count(&reaped);
            if reaped.pid == self.program {
                status = Some(reaped.status);
            }
        }
        Ok(status)
    }

    fn count(&mut self, reaped: &process::Reaped) {
        self.cpu_us += reaped.cpu_us;
        self.memory_peak_bytes = self.memory_peak_bytes.max(reaped.memory_peak_bytes);
    }

    /// What all processes hold for themselves, roughly: resident pages that no file backs.
    fn memory_now(&mut self) -> u64 {
        let page = rustix::param::page_size() as u64;
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pages = entries.filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok().filter(|pid| *pid != 1)?;
            let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
            let mut numbers = text.split(' ').skip(1).map_while(|n| n.parse::<u64>().ok());
            Some(numbers.next()?.saturating_sub(numbers.next()?))
        });
        let now = pages.sum::<u64>() * page;
        self.memory_peak_bytes = self.memory_peak_bytes.max(now);
        now
    }
}

fn none_left(
    reaped: Result<Option<process::Reaped>, Errno>,
) -> Result<Option<process::Reaped>, Errno> {
    match reaped {
        Err(Errno::CHILD) => Ok(None),
        other => other,
    }
}

/// Everything `exec` needs, made while failing is still easy to report.
struct Program {
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    directory: CString,
    processes: Option<u64>,
}

impl Program {
    fn new(order: &Order, group: &JobGroup) -> Result<Self, StepError> {
        let text = |text: &String| CString::new(text.as_str()).step("make arguments");
        let all = |texts: &[String]| texts.iter().map(text).collect::<Result<Vec<_>, _>>();
        Ok(Self {
            path: text(&order.executable)?,
            arguments: all(&order.arguments)?,
            environment: all(&order.environment)?,
            directory: text(&order.working_directory)?,
            processes: (!group.bounds_processes()).then_some(order.processes),
        })
    }

    /// In the program's process: never comes back.
    fn become_it(&self, filter: &JobFilter, streams: &[OwnedFd; 3]) -> ! {
        let failed = match self.prepare(filter, streams) {
            Ok(()) => {
                let errno = self.exec();
                Err(errno).step_at("execute", &self.path.to_string_lossy())
            }
            Err(error) => Err::<(), _>(error),
        };
        let Err(error) = failed else { process::exit(NOT_EXECUTABLE) };
        let text = format!("mesh: cannot {error}\n");
        // If even this cannot be written, the exit status has to be enough.
        let _ = rustix::io::write(rustix::stdio::stderr(), text.as_bytes());
        let missing = error.errno == Errno::NOENT.raw_os_error();
        process::exit(if missing { NOT_FOUND } else { NOT_EXECUTABLE })
    }

    /// A file cannot be executed while somebody has it open for writing. Nobody does so with one
    /// in the store, but a child that any thread of the engine's program forks just when the store
    /// makes one has it open as well, until it executes something itself: that passes.
    fn exec(&self) -> Errno {
        let pause = Timespec { tv_sec: 0, tv_nsec: BUSY_NS };
        for _ in 0..BUSY_TIMES {
            let errno = process::exec(&self.path, &self.arguments, &self.environment);
            if errno != Errno::TXTBSY {
                return errno;
            }
            // Woken early, it looks early.
            let _ = rustix::thread::nanosleep(&pause);
        }
        Errno::TXTBSY
    }

    fn prepare(&self, filter: &JobFilter, streams: &[OwnedFd; 3]) -> Result<(), StepError> {
        let [stdin, stdout, stderr] = streams;
        rustix::stdio::dup2_stderr(stderr).step("set up standard error")?;
        rustix::stdio::dup2_stdin(stdin).step("set up standard input")?;
        rustix::stdio::dup2_stdout(stdout).step("set up standard output")?;
        // The kernel looks for memory here before it looks at the owner's programs.
        let _ = std::fs::write("/proc/self/oom_score_adj", "300");
        rustix::process::setsid().step("make a session")?;
        rustix::process::umask(Mode::from_raw_mode(0o022));
        rustix::process::chdir(&self.directory).step("enter the working directory")?;
        self.set_limits()?;
        drop_capabilities().step("drop capabilities")?;
        process::reset_signals();
        filter.install().map_err(|_| Errno::INVAL).step("filter system calls")
    }

    fn set_limits(&self) -> Result<(), StepError> {
        let limits = [
            (Resource::Core, 0, 0),
            (Resource::Nofile, 1024, 65_536),
            (Resource::Stack, 8 << 20, u64::MAX),
        ];
        let processes = self.processes.map(|count| (Resource::Nproc, count, count));
        for (resource, soft, hard) in limits.into_iter().chain(processes) {
            let most = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
            let (soft, hard) = (soft.min(most), hard.min(most));
            let some = |value| (value != u64::MAX).then_some(value);
            let new = Rlimit { current: some(soft), maximum: some(hard) };
            rustix::process::setrlimit(resource, new).step("set limits")?;
        }
        Ok(())
    }
}

fn drop_capabilities() -> Result<(), Errno> {
    let none = rustix::thread::CapabilitySet::empty();
    let sets =
        rustix::thread::CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, sets)
}

/// Opens what can be an output. The job's processes are all gone, so nothing changes under us;
/// links are followed inside the sandbox only, and never into /proc, where they would lead out
/// of it.
fn open_output(path: &str) -> Option<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let open = |flags| {
        let flags = flags | OFlags::CLOEXEC;
        rustix::fs::openat2(CWD, path, flags, Mode::empty(), resolve).ok()
    };
    let seen = open(OFlags::PATH)?;
    const PROC_SUPER_MAGIC: i64 = 0x9fa0;
    if rustix::fs::fstatfs(&seen).ok()?.f_type as i64 == PROC_SUPER_MAGIC {
        return None;
    }
    match FileType::from_raw_mode(rustix::fs::fstat(&seen).ok()?.st_mode) {
        FileType::RegularFile => open(OFlags::RDONLY),
        FileType::Directory => {
            make_readable(Path::new(path), limits::TREE_DEPTH);
            open(OFlags::RDONLY | OFlags::DIRECTORY)
        }
        _ => None,
    }
}

/// Lets the owner read everything in a directory: the engine, who will, has no more rights than
/// that. Whether a file may be executed stays as it is. What cannot be changed is not the job's
/// own, and readable already.
fn make_readable(directory: &Path, depth: usize) {
    let allow = |path: &Path, mode: u32, wanted: u32| {
        if mode & wanted != wanted {
            let _ = std::fs::set_permissions(path, Permissions::from_mode(mode | wanted));
        }
    };
    let Ok(found) = std::fs::metadata(directory) else { return };
    allow(directory, found.mode(), 0o500);
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(found) = entry.metadata() else { continue };
        if found.is_file() {
            allow(&entry.path(), found.mode(), 0o400);
        } else if found.is_dir() && depth > 0 {
            make_readable(&entry.path(), depth - 1);
        }
    }
}

/// Gives the outputs to the engine, some at a time; it answers when it has taken them.
fn hand_out(socket: &OwnedFd, order: &Order) -> Result<(), Errno> {
    let mut batches = order.outputs.chunks(FDS_PER_MESSAGE).enumerate().peekable();
    while let Some((batch, paths)) = batches.next() {
        let mut found = Vec::new();
        let mut fds = Vec::new();
        for (place, path) in paths.iter().enumerate() {
            if let Some(fd) = open_output(path) {
                found.push((batch * FDS_PER_MESSAGE + place) as u32);
                fds.push(fd);
            }
        }
        let last = batches.peek().is_none();
        let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        message::send(socket, &Event::Outputs { found, last }, &borrowed)?;
        // An answer, or the end: either way there is nothing else to wait for.
        if message::receive::<()>(socket)?.is_none() {
            return Ok(());
        }
    }
    Ok(())
}
