//! The default engine: namespaces, read-only inputs at their own paths, no network, bounds.
//!
//! Goals: a job sees what its thunk names and nothing else of the host; nothing of it outlives
//! it; the same for root and for an ordinary user; a few milliseconds per job.
//! Non-goals: hiding the machine's model and kernel version, or holding against a kernel bug.
//! `docs/sandbox.md` has the picture and what a job can see after all.
//!
//! The processes: the engine (in the user's program) starts a `launcher` once; it makes an
//! `init` per job, which builds the file system and becomes the parent of the program.

mod base;
mod build;
mod cache;
mod cgroup;
mod filter;
mod init;
mod launcher;
mod message;
mod network;
mod order;
mod outputs;
mod owners;
mod probe;
mod process;
mod program;
mod score;
mod supervise;

pub(crate) use cgroup::survey;
pub use launcher::run_launcher_if_asked;
pub(crate) use probe::{Probed, probe};

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Instant;

use mesh_store::Store;

use self::cache::Sources;
use self::message::{Ready, Setup};
use self::supervise::Running;
use super::super::{Engine, EngineError, Failure, Job, RunFuture, Turn};

/// What every sandbox of an engine may take.
#[derive(Clone, Debug)]
pub struct SandboxOptions {
    /// Use control groups where this machine lets us.
    pub control_groups: bool,
    /// The most that the files a job makes may take, which are kept in memory; and the most that its outputs
    /// may come to, where holes count.
    pub files_bytes: u64,
    /// The most memory that all jobs together may hold, files included; none: as much as there is.
    pub memory_bytes: Option<u64>,
    /// The most processes of one job at once.
    pub processes_max: u64,
    /// How far jobs stand back behind other processes: 0 (not at all) to 19 (nice(2)).
    pub nice: u8,
    /// For how many jobs at once first processes are made ahead, before any comes.
    pub ready: u32,
}

impl Default for SandboxOptions {
    fn default() -> Self {
        let information = rustix::system::sysinfo();
        let memory = information.totalram.saturating_mul(u64::from(information.mem_unit));
        Self {
            control_groups: true,
            files_bytes: memory / 2,
            memory_bytes: None,
            processes_max: 4096,
            nice: 0,
            ready: 0,
        }
    }
}

/// Runs jobs in sandboxes. Cheap to clone; the launcher ends with the last clone.
#[derive(Clone)]
pub struct SandboxEngine(Arc<Shared>);

struct Shared {
    sources: Sources,
    options: SandboxOptions,
    control_groups: Vec<String>,
    launcher: Launcher,
}

impl SandboxEngine {
    /// Starts the launcher and lets it try what sandboxes need. Takes some 10 ms, once. The
    /// program must call [`run_launcher_if_asked`] first thing in `main`.
    pub fn start(store: Store, options: SandboxOptions) -> Result<Self, EngineError> {
        let root = store.root();
        let Some(root) = root.to_str() else {
            let text = format!("use a store at {}: its path is not UTF-8", root.display());
            return Err(EngineError::Start(Failure::from(text)));
        };
        let SandboxOptions { control_groups, files_bytes, memory_bytes, nice, ready, .. } = options;
        let store_root = root.to_owned();
        let setup =
            Setup { store: store_root, control_groups, nice, files_bytes, memory_bytes, ready };
        let (launcher, control_groups) = Launcher::start(&setup)?;
        let sources = Sources::new(store);
        Ok(Self(Arc::new(Shared { sources, options, control_groups, launcher })))
    }

    /// The bounds that control groups keep here; the others are kept by looking often.
    pub fn control_groups(&self) -> &[String] {
        &self.0.control_groups
    }
}

impl Engine for SandboxEngine {
    fn run(&self, job: Job) -> RunFuture<'_> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            let (cancelled, _guard) = cancellation()?;
            let turn = Instant::now();
            blocking(move || {
                launch(&shared, &job)?.finish(shared.sources.store(), &cancelled, turn)
            })
            .await
        })
    }

    fn run_in_turn(&self, job: Job, turn: Turn) -> RunFuture<'_> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            let launches = Arc::clone(&shared);
            let launched = blocking(move || launch(&launches, &job));
            let came = async {
                turn.come().await;
                Instant::now()
            };
            let (running, turn) = tokio::join!(launched, came);
            let (cancelled, _guard) = cancellation()?;
            blocking(move || running?.finish(shared.sources.store(), &cancelled, turn)).await
        })
    }
}

/// The second end closes when the future of a run is dropped, and the job's thread sees that at the first.
fn cancellation() -> Result<(OwnedFd, OwnedFd), EngineError> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(system)
}

/// Does it on a thread of its own: most steps of a job block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(EngineError::System(std::io::Error::other(error))))
}

fn system(errno: rustix::io::Errno) -> EngineError {
    EngineError::System(errno.into())
}

/// Has the sandbox of a job made. Its program waits for [`Running::finish`].
fn launch(shared: &Shared, job: &Job) -> Result<Running, EngineError> {
    let order = order::prepare(&job.thunk, &shared.sources, &shared.options)?;
    let send = |fds: &[BorrowedFd<'_>]| message::send(&shared.launcher.control, &(), fds);
    Running::launch(order, Arc::clone(&job.thunk), shared.options.memory_bytes, send)
}

/// The launcher, seen from the engine.
struct Launcher {
    control: OwnedFd,
    keeper: Option<JoinHandle<()>>,
}

impl Launcher {
    fn start(setup: &Setup) -> Result<(Self, Vec<String>), EngineError> {
        let (near, far) = message::socket_pair().map_err(system)?;
        let keeper = keep(far)?;
        message::send(&near, setup, &[]).map_err(|_| EngineError::Died)?;
        let answer = message::receive::<Ready>(&near).map_err(system)?;
        let launcher = Self { control: near, keeper: Some(keeper) };
        match answer {
            Some((Ready::Yes { control_groups }, _)) => Ok((launcher, control_groups)),
            Some((Ready::No(error), _)) => Err(EngineError::Start(error.into())),
            None => Err(EngineError::Start(
                "run the launcher: the program does not begin with run_launcher_if_asked()".into(),
            )),
        }
    }
}

/// Starts the launcher on a thread that lives as long as it does: the kernel takes "die with the
/// parent" to mean the thread that was the parent.
fn keep(socket: OwnedFd) -> Result<JoinHandle<()>, EngineError> {
    let (tell, told) = mpsc::sync_channel(1);
    let keeper = std::thread::Builder::new().name("mesh-launcher".to_owned()).spawn(move || {
        let spawned = Command::new("/proc/self/exe")
            .arg0(launcher::LAUNCHER_NAME)
            .env_clear()
            .stdin(socket)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let (spawned, child) = match spawned {
            Ok(child) => (Ok(()), Some(child)),
            Err(error) => (Err(error), None),
        };
        // The receiver waits for exactly this.
        let _ = tell.send(spawned);
        if let Some(mut child) = child {
            let _ = child.wait();
            cgroup::sweep_all();
        }
    })?;
    match told.recv() {
        Ok(Ok(())) => Ok(keeper),
        Ok(Err(error)) => Err(EngineError::Start(error.into())),
        Err(_) => Err(EngineError::Died),
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        // Its end of the socket sees this, and it ends, with every job that is left.
        let _ = rustix::net::shutdown(self.control.as_fd(), rustix::net::Shutdown::Both);
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}
