//! The launcher: a process with one thread that makes the first process of every sandbox.
//!
//! The program around it has many threads and may not fork and go on working in the child; it is
//! also larger. So it starts itself once more under another name, and that process lays the
//! ground ([`super::base`]) and then waits for work on its standard input, a socket.
//!
//! ```text
//!   engine ──Setup──▶ launcher ──Ready──▶ engine
//!   engine ──(job socket, order, stdout, stderr)──▶ launcher ──clone──▶ init (pid 1)
//!                                              init ◀──job socket──▶ engine
//! ```
//!
//! It ends when the engine's end of the socket closes or the thread that started it ends, and the
//! kernel then kills every job: each init asked to die with its parent, and a process namespace
//! dies with its init.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::Signal;

use super::base;
use super::cgroup::{Groups, JobGroup};
use super::filter::{self, JobFilter};
use super::init::{self, Assignment, Ground, JobEnds};
use super::message::{self, Event, OutOfMemory, Ready, Setup, Step, StepError};
use super::network::JobNetwork;
use super::owners;
use super::probe::{self, PROBE_NAME};
use super::process::{self, Cloned, SingleThreaded};
use super::program::set_limits_of_all;

/// What the launcher is called, in `argv[0]`.
pub(super) const LAUNCHER_NAME: &str = "mesh-launcher";

/// Every sandbox gets these for itself, and a network; the user, mount and host-name namespaces around them are
/// the launcher's.
pub(super) const NAMESPACES: libc::c_int =
    libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC;

/// For so many jobs at most first processes are made ahead: when many begin together on many members of one
/// machine, they would wait for each other there.
const READY_MAX: u32 = 64;

/// One is made when nothing else has happened for so long: jobs that follow each other at once would only wait
/// for it.
const QUIET_NS: i64 = 20_000_000;

/// Becomes the launcher if this process was started as one, and then does not return. To be
/// called first thing in `main`, before there are threads.
pub fn run_launcher_if_asked() {
    let name = std::env::args_os().next().unwrap_or_default();
    if name.as_bytes() == LAUNCHER_NAME.as_bytes() {
        process::exit(run());
    }
    if name.as_bytes() == PROBE_NAME.as_bytes() {
        process::exit(probe::run());
    }
}

/// Clears away what was inherited, and finds the socket to whoever started this process.
pub(super) fn begin() -> Result<(SingleThreaded, OwnedFd), Errno> {
    let single = SingleThreaded::check().map_err(|_| Errno::AGAIN)?;
    process::close_inherited(&single)?;
    Ok((single, take_control()?))
}

fn run() -> i32 {
    let Ok((single, control)) = begin() else { return 2 };
    let ready = |ready: &Ready| message::send(&control, ready, &[]);
    let launcher = match Launcher::set_up(&control, single) {
        Ok(launcher) => launcher,
        Err(error) => {
            // If nobody hears it, nobody is left to tell.
            let _ = ready(&Ready::No(error));
            return 1;
        }
    };
    let control_groups = launcher.groups.names();
    if ready(&Ready::Yes { control_groups }).is_err() {
        return 1;
    }
    match launcher.serve(control) {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

/// Moves the socket off standard input, which jobs must not inherit.
fn take_control() -> Result<OwnedFd, Errno> {
    let control = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(control)
}

/// What there is to do.
enum Woken {
    Work,
    /// These have ended.
    Ended(Vec<i32>),
    /// Nothing, for a while.
    Quiet,
}

/// Both sides of a new first process.
enum Made {
    Parent(i32, Running),
    Child(JobGroup),
}

/// In the new process: what it is to do, and the group for that.
type Child = Option<(Assignment, JobGroup)>;

struct Running {
    pidfd: OwnedFd,
    group: JobGroup,
    network: JobNetwork,
    /// To the engine, once there is a job: if the first process cannot tell how that ended, the launcher does.
    socket: Option<OwnedFd>,
    /// Has a signal ended it?
    is_killed: bool,
}

impl Running {
    /// Says so if this first process was killed for want of memory: it could not.
    fn tell_if_overwhelmed(&self) {
        let out_of_memory = self.group.out_of_memory();
        if let Some(socket) = &self.socket
            && self.is_killed
            && out_of_memory != OutOfMemory::No
        {
            // If the engine has given the job up, nobody is to hear it.
            let _ = message::send(socket, &Event::Overwhelmed(out_of_memory), &[]);
        }
    }
}

/// A first process that was made ahead, and where it waits for its job.
struct Waiting {
    pid: i32,
    first: Running,
    assign: OwnedFd,
}

struct Launcher {
    single: SingleThreaded,
    groups: Groups,
    filter: JobFilter,
    files_bytes: u64,
    /// So many are to wait.
    ready: usize,
    waiting: Vec<Waiting>,
    /// By process id.
    running: BTreeMap<i32, Running>,
    /// For jobs to come: as many as ever ran at once.
    idle_groups: Vec<JobGroup>,
    idle_networks: Vec<JobNetwork>,
    /// Groups that could not be removed yet.
    leftover: Vec<JobGroup>,
    jobs: u64,
}

impl Launcher {
    fn set_up(control: &OwnedFd, single: SingleThreaded) -> Result<Self, StepError> {
        process::reset_signals();
        // Ctrl-C at the terminal is for the engine to handle.
        rustix::process::setsid().step("leave the session")?;
        rustix::process::umask(rustix::fs::Mode::empty());
        let Some((setup, _)) = message::receive::<Setup>(control).step("receive the set-up")?
        else {
            return Err(Errno::PIPE).step("receive the set-up");
        };
        // Jobs inherit it.
        rustix::process::nice(setup.nice.into()).step("stand back behind other processes")?;
        rustix::process::chdir(&*setup.store).step_at("enter the store", &setup.store)?;
        let groups = match setup.control_groups {
            true => Groups::prepare(setup.memory_bytes),
            false => Groups::none(),
        };
        set_limits_of_all()?;
        let store = owners::mapped_store(&single);
        base::drop_root()?;
        base::enter(&single, store)?;
        // Last, because changing users forgets it.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
            .step("die with the engine")?;
        let filter = JobFilter::compile()
            .map_err(|_| Errno::INVAL)
            .step("compile the system call filter")?;
        filter::install_for_launcher().map_err(|_| Errno::INVAL).step("filter system calls")?;
        Ok(Self {
            single,
            groups,
            filter,
            files_bytes: setup.files_bytes,
            ready: setup.ready.min(READY_MAX) as usize,
            waiting: Vec::new(),
            running: BTreeMap::new(),
            idle_groups: Vec::new(),
            idle_networks: Vec::new(),
            leftover: Vec::new(),
            jobs: 0,
        })
    }

    fn serve(mut self, control: OwnedFd) -> Result<(), Errno> {
        loop {
            let child = match self.wait(&control)? {
                Woken::Quiet => self.make_ready(),
                Woken::Ended(pids) => {
                    pids.into_iter().for_each(|pid| self.take_away(pid));
                    None
                }
                Woken::Work => match message::receive::<()>(&control)? {
                    Some(((), fds)) => JobEnds::new(fds).and_then(|job| self.launch(job)),
                    None => {
                        self.end_all();
                        return Ok(());
                    }
                },
            };
            if let Some((assignment, group)) = child {
                // The child. Were these left open here, nobody would see the launcher's ends of them
                // close.
                drop(control);
                drop(self.waiting);
                drop(self.running);
                init::run(
                    assignment,
                    &Ground {
                        group: &group,
                        filter: &self.filter,
                        single: &self.single,
                        files_bytes: self.files_bytes,
                    },
                );
            }
        }
    }

    /// Ends every job, and removes the groups: whoever is left in one would keep it there for good.
    fn end_all(&mut self) {
        let waiting = self.waiting.drain(..).map(|waiting| waiting.first);
        let first: Vec<Running> =
            std::mem::take(&mut self.running).into_values().chain(waiting).collect();
        for running in &first {
            // One that has ended is as good.
            let _ = rustix::process::pidfd_send_signal(&running.pidfd, Signal::KILL);
        }
        while let Ok(Some(_)) = process::reap(true) {}
        let groups = first.iter().map(|running| &running.group);
        for group in groups.chain(&self.idle_groups).chain(&self.leftover) {
            self.groups.remove(group);
        }
    }

    /// Waits for work, for the end of a job, or for quiet if there is something to make ahead. Only says
    /// which.
    fn wait(&self, control: &OwnedFd) -> Result<Woken, Errno> {
        let mut polled = vec![PollFd::new(control, PollFlags::IN)];
        polled.extend(self.running.values().map(|job| PollFd::new(&job.pidfd, PollFlags::IN)));
        let quiet = Timespec { tv_sec: 0, tv_nsec: QUIET_NS };
        let quiet = (self.waiting.len() < self.ready).then_some(&quiet);
        let found = rustix::io::retry_on_intr(|| rustix::event::poll(&mut polled, quiet))?;
        let ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        if found == 0 {
            return Ok(Woken::Quiet);
        }
        let jobs = self.running.keys().zip(&polled[1..]);
        let ended: Vec<i32> = jobs.filter(|(_, fd)| ready(fd)).map(|(pid, _)| *pid).collect();
        Ok(if ended.is_empty() { Woken::Work } else { Woken::Ended(ended) })
    }

    fn take_away(&mut self, pid: i32) {
        while let Ok(Some(reaped)) = process::reap(false) {
            if let Some(running) = self.running.get_mut(&reaped.pid) {
                running.is_killed = reaped.status & 0x7f != 0;
            }
        }
        if let Some(running) = self.running.remove(&pid) {
            running.tell_if_overwhelmed();
            let Running { mut group, network, .. } = running;
            match self.groups.renew(&mut group) {
                true => self.idle_groups.push(group),
                false => self.leftover.push(group),
            }
            if network.is_unused() {
                self.idle_networks.push(network);
            }
        }
        let groups = &self.groups;
        self.leftover.retain(|group| !groups.remove(group));
    }

    /// Makes one first process ahead. What fails here fails again for a job, and is told then: it is not
    /// tried any more.
    fn make_ready(&mut self) -> Child {
        let made = message::socket_pair()
            .step("make a socket")
            .and_then(|(assign, awaited)| Ok((self.make()?, assign, awaited)));
        match made {
            Ok((Made::Child(group), _, awaited)) => {
                return Some((Assignment::Awaited(awaited), group));
            }
            Ok((Made::Parent(pid, first), assign, _)) => {
                self.waiting.push(Waiting { pid, first, assign });
            }
            Err(_) => self.ready = self.waiting.len(),
        }
        None
    }

    /// Starts one job. Gives it back where it is to be done: in the new process.
    fn launch(&mut self, job: JobEnds) -> Child {
        // One that has ended, for whatever reason, is passed over.
        while let Some(Waiting { pid, first, assign }) = self.waiting.pop() {
            if message::send(&assign, &(), &job.fds()).is_ok() {
                self.started(&job, pid, first);
                return None;
            }
            self.running.insert(pid, first);
        }
        match self.make() {
            Ok(Made::Child(group)) => return Some((Assignment::Job(job), group)),
            Ok(Made::Parent(pid, first)) => self.started(&job, pid, first),
            Err(error) => {
                // If the engine has given the job up, nobody is to hear it.
                let _ = message::send(&job.socket, &Event::Failed(error), &[]);
            }
        }
        None
    }

    fn started(&mut self, job: &JobEnds, pid: i32, mut first: Running) {
        first.socket = rustix::io::fcntl_dupfd_cloexec(&job.socket, 0).ok();
        // A send fails only if the engine has given the job up: its init will notice too.
        let _ = message::send(&job.socket, &Event::Started, &[first.pidfd.as_fd()]);
        self.running.insert(pid, first);
    }

    /// Makes a first process.
    fn make(&mut self) -> Result<Made, StepError> {
        self.jobs += 1;
        let group = self.idle_groups.pop().unwrap_or_else(|| self.groups.job(self.jobs));
        let cloned = self.network().step("make a network namespace").and_then(|network| {
            let cloned = process::clone(NAMESPACES, &self.single).step("make a process")?;
            Ok((cloned, network))
        });
        match cloned {
            Ok((Cloned::Child, _)) => Ok(Made::Child(group)),
            Ok((Cloned::Parent { pid, pidfd }, network)) => {
                let (socket, is_killed) = (None, false);
                Ok(Made::Parent(pid, Running { pidfd, group, network, socket, is_killed }))
            }
            Err(error) => {
                self.leftover.push(group);
                Err(error)
            }
        }
    }

    /// A network for a job, in which the launcher is from now on.
    fn network(&mut self) -> Result<JobNetwork, Errno> {
        match self.idle_networks.pop() {
            Some(network) => network.enter().map(|()| network),
            None => JobNetwork::make(&self.single),
        }
    }
}
