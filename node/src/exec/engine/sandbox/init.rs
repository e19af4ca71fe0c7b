//! The first process of a sandbox, pid 1 in it: builds it, starts the program, buries orphans,
//! and hands the outputs out.
//!
//! States: begin → (made ahead: wait for a job) → build → wait for the word → run → (program ended:
//! kill the rest) → report → hand out → exit. At any moment the engine's end of the socket may close;
//! then it exits, and the kernel kills all others.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Signal};

use super::cgroup::JobGroup;
use super::filter::JobFilter;
use super::message::{self, Ended, Event, Order, OutOfMemory, Step, StepError};
use super::process::{self, SingleThreaded};
use super::program::Program;
use super::{base, build, outputs, score::Score};

/// How often memory is looked at where no control group bounds it.
const WATCH_NS: i64 = 20_000_000;

/// A directory of the file system in memory that every sandbox has.
const FILES: &str = "/tmp";

/// What the engine has given for one job.
pub(super) struct JobEnds {
    pub(super) socket: OwnedFd,
    pub(super) order: File,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

impl JobEnds {
    /// None, if it is not as many as it should be.
    pub(super) fn new(fds: Vec<OwnedFd>) -> Option<Self> {
        let [socket, order, stdout, stderr] = <[OwnedFd; 4]>::try_from(fds).ok()?;
        Some(Self { socket, order: File::from(order), stdout, stderr })
    }

    /// In the order in which they are sent.
    pub(super) fn fds(&self) -> [BorrowedFd<'_>; 4] {
        let Self { socket, order, stdout, stderr } = self;
        [socket.as_fd(), order.as_fd(), stdout.as_fd(), stderr.as_fd()]
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
    let JobEnds { socket, mut order, stdout, stderr } = job;
    let failed = |error| message::send(&socket, &Event::Failed(error), &[]);
    let prepared = begun.and_then(|score| {
        let (order, stdin) = prepare(&mut order, ground)?;
        Ok((order, [stdin, stdout, stderr], score))
    });
    let (order, streams, score) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return failed(error),
    };
    if message::receive::<()>(&socket)?.is_none() {
        return Ok(());
    }
    let mut init = match Init::start(&order, ground, &score, &streams) {
        Ok(init) => init,
        Err(error) => return failed(error),
    };
    let Some(ended) = init.wait(&socket, &order)? else {
        return Ok(());
    };
    message::send(&socket, &Event::Ended(ended), &[])?;
    match outputs::measure(&order) {
        Ok(()) => outputs::hand_out(&socket, &order),
        Err(excess) => message::send(&socket, &Event::Excess(excess), &[]),
    }
}

/// What no job is needed for.
fn begin(ground: &Ground<'_>) -> Result<Score, StepError> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .step("die with the launcher")?;
    // While /proc is the host's, and this process its own.
    let score = Score::open();
    // Nothing of the launcher's memory is for the job to see in /proc/1.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).step("hide")?;
    ground.group.join().step("join the job's control groups")?;
    // Only now: what a namespace takes for its root is the group that its maker is in. Without one, a job sees
    // what that is called.
    let _ = process::unshare(libc::CLONE_NEWCGROUP, ground.single);
    build::begin(ground.files_bytes)?;
    Ok(score)
}

/// Builds the sandbox; the order for the rest, and what the program reads.
fn prepare(file: &mut File, ground: &Ground<'_>) -> Result<(Order, OwnedFd), StepError> {
    let order = message::read_order(file).step("read the order")?;
    ground.group.bound(order.memory_bytes, order.processes).step("bound the job")?;
    if order.files_bytes < ground.files_bytes {
        build::shrink(order.files_bytes)?;
    }
    // Through mounts that are read-only: through one that is not, its owner, who is the job's user, could
    // change a file that was only opened for reading.
    let open = |path: &str| {
        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .step_at("open", path)
    };
    let stored = order.stdin.as_ref().map(|path| open(&format!("{}/{path}", base::STORE)));
    let stored = stored.transpose()?;
    build::build(&order, file)?;
    let stdin = stored.map_or_else(|| open("/dev/null"), Ok)?;
    Ok((order, stdin))
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
        ground: &Ground<'a>,
        score: &Score,
        streams: &[OwnedFd; 3],
    ) -> Result<Self, StepError> {
        let Ground { group, filter, single, .. } = ground;
        let events = process::child_events().step("watch for ended processes")?;
        let program = Program::new(order, group)?;
        let program = score
            .of_a_job(|| process::clone_to_exec(|| program.become_it(filter, streams), single))
            .step("make a process")?;
        Ok(Self { group, events, program, cpu_us: 0, memory_peak_bytes: 0, over_bound: false })
    }

    /// Waits for the program's end, and sees to it that everything else ends too. None: the
    /// engine does not want to know any more.
    fn wait(&mut self, socket: &OwnedFd, order: &Order) -> Result<Option<Ended>, Errno> {
        let watched = order.watched_bytes.filter(|_| !self.group.bounds_memory());
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
        self.over_bound |=
            status != 0 && Some(order.files_bytes) == order.watched_bytes && is_full();
        process::kill_all_others();
        while let Some(reaped) = none_left(process::reap(true))? {
            self.count(&reaped);
        }
        let peak = self.group.memory_peak_bytes().unwrap_or(self.memory_peak_bytes);
        Ok(Some(Ended {
            status,
            out_of_memory: self.out_of_memory(order),
            cpu_us: self.cpu_us,
            memory_peak_bytes: peak,
        }))
    }

    fn out_of_memory(&self, order: &Order) -> OutOfMemory {
        match self.over_bound {
            true if order.watched_bytes == order.memory_bytes => OutOfMemory::AtItsBound,
            true => OutOfMemory::BelowItsBound,
            false => self.group.out_of_memory(),
        }
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

    /// What all processes hold for themselves, roughly: resident pages that no file backs, and the files of the
    /// sandbox.
    fn memory_now(&mut self) -> u64 {
        let page = rustix::param::page_size() as u64;
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pages = entries.filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok().filter(|pid| *pid != 1)?;
            let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
            let mut numbers = text.split(' ').skip(1).map_while(|n| n.parse::<u64>().ok());
            Some(numbers.next()?.saturating_sub(numbers.next()?))
        });
        let files = rustix::fs::statfs(FILES)
            .map_or(0, |found| found.f_blocks.saturating_sub(found.f_bfree) * found.f_bsize as u64);
        let now = pages.sum::<u64>() * page + files;
        self.memory_peak_bytes = self.memory_peak_bytes.max(now);
        now
    }
}

/// Did the program meet the end of the file system in memory?
fn is_full() -> bool {
    rustix::fs::statfs(FILES).is_ok_and(|found| found.f_bfree == 0)
}

fn none_left(
    reaped: Result<Option<process::Reaped>, Errno>,
) -> Result<Option<process::Reaped>, Errno> {
    match reaped {
        Err(Errno::CHILD) => Ok(None),
        other => other,
    }
}
