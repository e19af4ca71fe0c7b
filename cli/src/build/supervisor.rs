//! The supervisor: runs the user's build command with its tools interposed, pass by pass.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use mesh_node::exec::{SandboxEngine, SandboxOptions};
use mesh_store::Store;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::rand::GetRandomFlags;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::answer::Reply;
use super::binding::REAL_VARIABLE;
use super::child::{Waiter, code_of};
use super::guardian::Guardian;
use super::jobserver::Jobserver;
use super::journal::{self, Journal};
use super::make::{BuildCommand, Client};
use super::notify::{self, Given, Watch};
use super::pass::{Mode, Pass};
use super::placeholder::Placeholders;
use super::real_tool::Caller;
use super::renew::Renewed;
use super::site::Site;
use super::slot_keeper::SlotKeeper;
use super::step::Step;
use super::wire::Answer;
use super::{force_on_use, wire};
use crate::error::CliError;
use crate::forcing::Where;
use crate::ui::Console;
use crate::{exit, threads};

/// Lazy passes that end in a failure before the build goes on eagerly: there, a failing call costs
/// no further pass.
const LAZY_PASSES_MAX: u32 = 3;

/// How ccache tells one compiler from another: by size and time, if not told otherwise; and those
/// it sees are the interposer's, which outlives compilers (ccache manual, `compiler_check`).
const CCACHE_CHECK: &str = "CCACHE_COMPILERCHECK";

/// The name of the jobserver's pipe.
const PIPE: &str = "slots";

/// The name of the socket.
const SOCKET: &str = "socket";

/// Longer than the path of a socket may be: `sun_path` in unix(7), with a byte that ends it.
const SOCKET_PATH_BYTES: usize = 108;

/// What a build is to do.
#[derive(Clone, Debug)]
pub(crate) struct BuildOptions {
    /// The build command.
    pub(crate) command: Vec<OsString>,
    /// When steps run.
    pub(crate) mode: Mode,
    /// Bring only these; the rest stays placeholders. Not with [`Mode::Eager`].
    pub(crate) targets: Option<Vec<PathBuf>>,
    /// Go on with what does not depend on a failure.
    pub(crate) keep_going: bool,
    /// Where thunks run.
    pub(crate) at: Where,
    /// Interpose tools that are called by their paths as well, where the system allows it.
    pub(crate) bind: bool,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct BuildEnd {
    /// The exit code of the build command.
    pub(crate) code: u8,
    /// Time spent on planning.
    pub(crate) infer: Duration,
    /// Bytes of inputs that thunks named, and of outputs that were written.
    pub(crate) bytes: (u64, u64),
}

/// Runs a build to its end.
pub(crate) fn run(
    options: &BuildOptions,
    home: &Path,
    store: &Store,
    console: &Console,
) -> Result<BuildEnd, CliError> {
    let builds = home.join("builds");
    std::fs::create_dir_all(&builds).map_err(CliError::io(&builds))?;
    let builds = builds.canonicalize().map_err(CliError::io(&builds))?;
    journal::clean_all(&builds).map_err(CliError::io(&builds))?;
    let runtime = threads::start()?;
    let ended = runtime.block_on(async {
        let engine = SandboxEngine::start(store.clone(), SandboxOptions::default());
        let engine = match engine {
            Ok(engine) => Arc::new(engine),
            Err(error) => return plain(options, console, &error).await,
        };
        let site = Site::new(store.clone(), engine, console.clone(), home, options.bind);
        let site = match site {
            Ok(site) => Arc::new(site),
            Err(error) => return plain(options, console, &error).await,
        };
        let build = Build { options, site, home, builds: &builds, open_files: raise_open_files() };
        build.passes().await
    });
    // What is left on its threads waits for processes that outlive the build.
    runtime.shutdown_background();
    ended
}

/// Runs a build as if mesh were absent, and says why.
pub(crate) fn run_plain(
    options: &BuildOptions,
    console: &Console,
    reason: &dyn std::fmt::Display,
) -> Result<BuildEnd, CliError> {
    threads::start()?.block_on(plain(options, console, reason))
}

/// Placeholders are held open; a large build has thousands. Gives the limit as it was, for the
/// build command: some programs take a large one ill.
fn raise_open_files() -> Rlimit {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // If not, large builds run into the limit, and say so.
    let _ = setrlimit(Resource::Nofile, raised);
    limit
}

async fn plain(
    options: &BuildOptions,
    console: &Console,
    reason: &dyn std::fmt::Display,
) -> Result<BuildEnd, CliError> {
    console.note(format_args!("{reason}; building as if mesh were absent"));
    let mut command = plain_command(&options.command)?;
    let _sharing = console.share();
    let child = command.spawn().map_err(not_started(&options.command))?;
    let status = Waiter::new(child)?.wait(|| async {}).await?;
    Ok(BuildEnd { code: code_of(status.status), infer: Duration::ZERO, bytes: (0, 0) })
}

fn plain_command(words: &[OsString]) -> Result<Command, CliError> {
    let Some((program, arguments)) = words.split_first() else {
        return Err(CliError::new(exit::USAGE, "there is no build command"));
    };
    let mut command = Command::new(program);
    command.args(arguments);
    Ok(command)
}

fn not_started(words: &[OsString]) -> impl FnOnce(std::io::Error) -> CliError {
    let program = words.first().cloned().unwrap_or_default();
    CliError::io(PathBuf::from(program))
}

struct Build<'a> {
    options: &'a BuildOptions,
    site: Arc<Site>,
    home: &'a Path,
    builds: &'a Path,
    /// How many files the build command may have open.
    open_files: Rlimit,
}

impl Build<'_> {
    async fn passes(&self) -> Result<BuildEnd, CliError> {
        let mut mode = self.options.mode;
        let mut renewed = Renewed::default();
        for number in 1.. {
            let ended = self.pass(mode).await?;
            let Some(again) = ended.again else {
                let code = ended.code;
                return Ok(BuildEnd { code, infer: self.site.infer(), bytes: self.site.bytes() });
            };
            if number >= LAZY_PASSES_MAX {
                mode = Mode::Eager;
            }
            let what: Vec<&str> = again.iter().map(|step| step.description.as_str()).collect();
            let what = what.join(", ");
            renewed.renew(&again);
            self.site.console.note(format_args!(
                "{what}: failed in its sandbox; running the build again to try it here"
            ));
        }
        Err(CliError::new(exit::INTERNAL, "a build has more passes than numbers"))
    }

    async fn pass(&self, mode: Mode) -> Result<PassEnd, CliError> {
        let attempt = self.prepare(mode).await?;
        let mut process = self.command(&attempt)?;
        // Without a terminal of its own the build command writes to ours itself.
        let sharing = self.site.terminal.is_none().then(|| self.site.console.share());
        let child = self.spawn(&mut process, &attempt)?;
        let interrupted = || attempt.pass.cancel("interrupted");
        let ended = Waiter::new(child)?.wait(interrupted).await?;
        drop(sharing);
        let again = attempt.finish(&self.site, self.options.targets.as_deref()).await?;
        Ok(PassEnd { code: code_of(ended.status), again: again.filter(|_| !ended.is_interrupted) })
    }

    /// Sets up all that a pass needs around its command.
    async fn prepare(&self, mode: Mode) -> Result<Attempt, CliError> {
        let makeflags = std::env::var_os("MAKEFLAGS");
        let words = self.options.command.clone();
        let command = BuildCommand::new(words, makeflags.as_deref(), version_of);
        let (journal, guardian, place) = self.guarded()?;
        let is_watched = notify::is_available();
        let mode = if is_watched { mode } else { Mode::Eager };
        if !is_watched {
            self.site.console.note("this system lets nobody watch opens: building eagerly");
        }
        let pipe = place.path().join(PIPE);
        let slots = self.options.at.slots;
        let jobserver = Jobserver::create(&pipe, slots).map_err(CliError::io(&pipe))?;
        let shared = jobserver.shared().try_clone().map_err(CliError::io(&pipe))?;
        let driver = Pass::driver(&self.site, self.home, self.options.at).await;
        let has_clients = command.client != Client::No;
        let keeper = SlotKeeper::start(driver.0.clone(), jobserver, slots, has_clients);
        let placeholders = Placeholders::new(Some(Arc::clone(&journal)));
        let keep_going = self.options.keep_going || command.keep_going;
        let pass =
            Pass::new(Arc::clone(&self.site), placeholders, driver, keeper, mode, keep_going)?;
        let socket = place.path().join(SOCKET);
        let listener = UnixListener::bind(&socket).map_err(CliError::io(&socket))?;
        let accepting = tokio::spawn(accept(listener, Arc::clone(&pass)));
        Ok(Attempt {
            command,
            mode,
            is_watched,
            pass,
            shared,
            socket,
            accepting,
            journal,
            _guardian: guardian,
            place,
        })
    }

    /// The build command with its environment.
    fn command(&self, attempt: &Attempt) -> Result<Command, CliError> {
        let mut process = plain_command(&attempt.command.words)?;
        process.env(wire::frame::SOCKET_VARIABLE, &attempt.socket);
        if let Some(links) = &self.site.links {
            process.env("PATH", path_with(links)?);
        }
        let binding = self.site.binding.as_ref();
        process.envs(binding.map(|binding| (REAL_VARIABLE, binding.real())));
        let check = std::env::var_os(CCACHE_CHECK).is_none_or(|check| check == "mtime");
        process.envs(check.then_some((CCACHE_CHECK, "%compiler% -v")));
        if let Some(terminal) = &self.site.terminal {
            terminal.lend(&mut process).map_err(CliError::io("the build's terminal"))?;
        }
        let flags = match attempt.command.client {
            Client::No => None,
            Client::Descriptors => Some(Jobserver::flags_by_descriptor(&attempt.shared)),
            Client::Path => Some(Jobserver::flags_by_path(&attempt.pipe())),
        };
        let flags = flags.map(|flags| format!("{}{flags}", attempt.command.makeflags));
        process.envs(flags.map(|flags| ("MAKEFLAGS", flags)));
        Ok(process)
    }

    /// A journal of placeholders and a directory for a pass, and who removes both if this process
    /// is killed: he is there before them, so that no moment is left in which nobody would.
    fn guarded(&self) -> Result<(Arc<Journal>, Guardian, TempDir), CliError> {
        let journal = Journal::create(self.builds).map_err(CliError::io(self.builds))?;
        let mut random = [0; 8];
        rustix::rand::getrandom(&mut random, GetRandomFlags::empty())
            .map_err(|error| CliError::io("random bytes")(error.into()))?;
        let name = format!("mesh-build-{:016x}", u64::from_le_bytes(random));
        let parents = [std::env::temp_dir(), PathBuf::from("/tmp"), self.builds.to_owned()];
        // A compiler goes on without a usable TMPDIR, and so does its build.
        let usable = parents.iter().find(|parent| takes_sockets(parent, &name));
        let parent = usable.unwrap_or(&parents[0]);
        let guardian = Guardian::start(journal.path(), &parent.join(&name));
        let guardian = guardian.map_err(CliError::io("starting mesh again"))?;
        let place = tempfile::Builder::new().prefix(&name).rand_bytes(0).tempdir_in(parent);
        let place = place.map_err(CliError::io(parent))?;
        Ok((Arc::new(journal), guardian, place))
    }

    fn spawn(&self, process: &mut Command, attempt: &Attempt) -> Result<Child, CliError> {
        let words = &self.options.command;
        let mounts = self.site.binding.as_ref().map(|binding| Arc::clone(binding.mounts()));
        let by_descriptor = attempt.command.client == Client::Descriptors;
        let inherited = if by_descriptor { vec![attempt.shared.as_raw_fd()] } else { Vec::new() };
        let given = Given { inherited, mounts, open_files: self.open_files };
        if !attempt.is_watched {
            return notify::spawn_unwatched(process, given).map_err(not_started(words));
        }
        // Without placeholders and bound tools it does not matter what is opened.
        let is_indifferent = attempt.mode == Mode::Eager && self.site.binding.is_none();
        let watch = if is_indifferent { Watch::Executions } else { Watch::All };
        let (pass, runtime) = (Arc::clone(&attempt.pass), Handle::current());
        let serve = move |listener| force_on_use::serve(listener, &pass, &runtime);
        notify::spawn(process, watch, given, serve).map_err(not_started(words))
    }
}

/// What one pass has around its command.
struct Attempt {
    command: BuildCommand,
    mode: Mode,
    /// Are opens and executions reported?
    is_watched: bool,
    pass: Arc<Pass>,
    /// The jobserver's pipe.
    shared: File,
    socket: PathBuf,
    accepting: JoinHandle<()>,
    journal: Arc<Journal>,
    _guardian: Guardian,
    /// Holds socket and pipe.
    place: TempDir,
}

impl Attempt {
    /// Where the jobserver's pipe is.
    fn pipe(&self) -> PathBuf {
        self.place.path().join(PIPE)
    }

    /// After the command has ended: runs what is left and cleans up. Gives the steps that failed
    /// in their sandboxes, if the command has to run again for their sake.
    async fn finish(
        self,
        site: &Site,
        targets: Option<&[PathBuf]>,
    ) -> Result<Option<Vec<Arc<Step>>>, CliError> {
        let drained = self.pass.drain(targets).await;
        self.accepting.abort();
        if let Some(terminal) = &site.terminal {
            terminal.settle();
        }
        let again = self.pass.end();
        self.journal.finish().map_err(CliError::io(self.journal.path()))?;
        // What is left of the build finds no socket, and its tools are the real ones.
        drop(self.place);
        drained?;
        let again = again? && self.mode != Mode::Eager;
        Ok(again.then(|| self.pass.marked_steps()))
    }
}

/// May this process make a directory of this name there, and bind the build's socket in it? All
/// processes of the build have to find it, whatever their working directory is.
fn takes_sockets(parent: &Path, name: &str) -> bool {
    let socket = parent.join(name).join(SOCKET);
    socket.is_absolute()
        && socket.as_os_str().len() < SOCKET_PATH_BYTES
        && tempfile::tempfile_in(parent).is_ok()
}

/// The line that a program prints about its version.
fn version_of(program: &OsStr) -> Option<String> {
    let answer = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    String::from_utf8(answer.stdout).ok()
}

/// `PATH` with a directory of links first.
fn path_with(links: &Path) -> Result<OsString, CliError> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    let all = std::iter::once(links.to_owned()).chain(std::env::split_paths(&path));
    std::env::join_paths(all).map_err(|error| {
        CliError::new(exit::DATA, error).hint("set MESH_HOME to a path without a colon")
    })
}

/// How a pass ended.
struct PassEnd {
    code: u8,
    /// The build command has to run again, because these steps failed in their sandboxes.
    again: Option<Vec<Arc<Step>>>,
}

/// Takes calls, each on a thread of its own: planning blocks, and so do callers that wait.
async fn accept(listener: UnixListener, pass: Arc<Pass>) {
    loop {
        let Ok((socket, _)) = listener.accept().await else { return };
        let pid = socket.peer_cred().ok().and_then(|peer| peer.pid()).unwrap_or(0);
        let Ok(socket) = socket.into_std() else { continue };
        let pass = Arc::clone(&pass);
        let serve = move || attend(&socket, &pass, u32::try_from(pid).unwrap_or(0));
        // Without a thread the connection closes, and the interposer becomes the real tool.
        drop(std::thread::Builder::new().name("mesh-call".to_owned()).spawn(serve));
    }
}

/// One call. If its process dies there is nobody to tell.
fn attend(socket: &UnixStream, pass: &Arc<Pass>, pid: u32) {
    if socket.set_nonblocking(false).is_err() {
        return;
    }
    let Ok(Some((request, streams))) = wire::receive_request(socket) else { return };
    let caller = Caller::of(&request);
    let answer = match pass.answer(request, streams, pid) {
        Reply::Done(done) => Answer::Done(done),
        Reply::Local(program) => Answer::Tool(caller.become_tool(&pass.site, &program, false)),
        Reply::Report(program) => Answer::Tool(caller.become_tool(&pass.site, &program, true)),
    };
    drop(wire::send_answer(socket, &answer));
}
