//! The program of a job: what its process does between being made and executing it.

use std::ffi::CString;
use std::os::fd::OwnedFd;

use rustix::event::Timespec;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};

use super::cgroup::JobGroup;
use super::filter::JobFilter;
use super::message::{Order, Step, StepError};
use super::process;

/// Where a shell says so too: not found, and found but not executable.
const NOT_FOUND: i32 = 127;
const NOT_EXECUTABLE: i32 = 126;

/// How long a program that is still being written is waited for, and how often it is looked at.
const BUSY_NS: i64 = 1_000_000;
const BUSY_TIMES: u32 = 5_000;

/// Everything `exec` needs, made while failing is still easy to report.
pub(super) struct Program {
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    directory: CString,
    processes: u64,
}

impl Program {
    pub(super) fn new(order: &Order, group: &JobGroup) -> Result<Self, StepError> {
        let text = |text: &String| CString::new(text.as_str()).step("make arguments");
        let all = |texts: &[String]| texts.iter().map(text).collect::<Result<Vec<_>, _>>();
        Ok(Self {
            path: text(&order.executable)?,
            arguments: all(&order.arguments)?,
            environment: all(&order.environment)?,
            directory: text(&order.working_directory)?,
            processes: if group.bounds_processes() { NO_LIMIT } else { order.processes },
        })
    }

    /// In the program's process: never comes back.
    pub(super) fn become_it(&self, filter: &JobFilter, streams: &[OwnedFd; 3]) -> ! {
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
        rustix::process::setsid().step("make a session")?;
        rustix::process::umask(Mode::from_raw_mode(0o022));
        rustix::process::chdir(&self.directory).step("enter the working directory")?;
        self.set_limits()?;
        drop_capabilities().step("drop capabilities")?;
        process::reset_signals();
        filter.install().map_err(|_| Errno::INVAL).step("filter system calls")
    }

    /// Those that the launcher does not have, too.
    fn set_limits(&self) -> Result<(), StepError> {
        set_limit(Resource::Nofile, 1024, 65_536)?;
        match self.processes {
            NO_LIMIT => Ok(()),
            count => set_limit(Resource::Nproc, count, count),
        }
    }
}

const NO_LIMIT: u64 = u64::MAX;

/// Sets what the launcher and all that it makes have of each resource: nothing is what it happened to be for whoever
/// started `mesh`. What the kernel counts for a user it bounds for a user namespace by what its maker has, too: for
/// all jobs together (setrlimit(2), "pending signals" and so on). Descriptors and processes are bounded for each job.
pub(super) fn set_limits_of_all() -> Result<(), StepError> {
    let limits = [
        (Resource::Cpu, NO_LIMIT, NO_LIMIT),
        (Resource::Fsize, NO_LIMIT, NO_LIMIT),
        (Resource::Data, NO_LIMIT, NO_LIMIT),
        (Resource::Stack, 8 << 20, NO_LIMIT),
        (Resource::Core, 0, 0),
        (Resource::Rss, NO_LIMIT, NO_LIMIT),
        (Resource::Memlock, 8 << 20, 8 << 20),
        (Resource::As, NO_LIMIT, NO_LIMIT),
        (Resource::Locks, NO_LIMIT, NO_LIMIT),
        (Resource::Sigpending, 16_384, 16_384),
        (Resource::Msgqueue, 819_200, 819_200),
        (Resource::Nice, 0, 0),
        (Resource::Rtprio, 0, 0),
        (Resource::Rttime, NO_LIMIT, NO_LIMIT),
    ];
    limits.into_iter().try_for_each(|(resource, soft, hard)| set_limit(resource, soft, hard))
}

/// At most what the owner may have.
fn set_limit(resource: Resource, soft: u64, hard: u64) -> Result<(), StepError> {
    let most = rustix::process::getrlimit(resource).maximum.unwrap_or(NO_LIMIT);
    let (soft, hard) = (soft.min(most), hard.min(most));
    let some = |value| (value != NO_LIMIT).then_some(value);
    let new = Rlimit { current: some(soft), maximum: some(hard) };
    rustix::process::setrlimit(resource, new).step("set limits")
}

fn drop_capabilities() -> Result<(), Errno> {
    let none = rustix::thread::CapabilitySet::empty();
    let sets =
        rustix::thread::CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, sets)
}
