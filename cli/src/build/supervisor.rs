//! The supervisor: runs the user's build command with its tools interposed, pass by pass.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use mesh_node::exec::{SandboxEngine, SandboxOptions};
use mesh_store::{Store, files};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use rustix::rand::GetRandomFlags;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::answer::Reply;
use super::binding::REAL_VARIABLE;
use super::child::{Running, Signals, code_of, conduct, signal_of};
use super::guardian::Guardian;
use super::input::{self, Input};
use super::jobserver::Jobserver;
use super::make::{BuildCommand, Client};
use super::pass::{Mode, Parts, Pass};
use super::placeholder::Placeholders;
use super::real_tool::Caller;
use super::site::Site;
use super::slot_keeper::SlotKeeper;
use super::speculation::Speculation;
use super::undo::journal::{self, Journal};
use super::undo::{UndoLog, Unrestored};
use super::watch::{self, Given, Watch};
use super::wire::Answer;
use super::words::{Cover, Seen, Words};
use super::{watcher, wire};
use crate::error::CliError;
use crate::forcing::Where;
use crate::ui::Console;
use crate::{exit, threads};

/// How long a build command may take to end by itself after a signal, and then, when all its
/// processes have got it.
const FIRST_GRACE: Duration = Duration::from_millis(100);
const GRACE: Duration = Duration::from_millis(250);

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
    /// Where thunks run.
    pub(crate) at: Where,
    /// Interpose tools that are called by their paths as well, where the system allows it.
    pub(crate) bind: bool,
    /// For the sandboxes of thunks that run here.
    pub(crate) sandbox: SandboxOptions,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct BuildEnd {
    /// The exit code of the build command.
    pub(crate) code: u8,
    /// The signal that ended the build, and is to end this process.
    pub(crate) signal: Option<Signal>,
    /// A step failed whose call had been answered early, and the build was taken back.
    pub(crate) taken_back: bool,
    /// Why no call was answered early any more.
    pub(crate) closed: Option<String>,
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
    files::create_private_directory(&builds).map_err(CliError::io(&builds))?;
    let builds = builds.canonicalize().map_err(CliError::io(&builds))?;
    journal::clean_all(&builds).map_err(CliError::io(&builds))?;
    let runtime = threads::start()?;
    let ended = runtime.block_on(async {
        let engine = SandboxEngine::start(store.clone(), options.sandbox.clone());
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

/// Fewer open files than this do not carry a build: its placeholders, its calls, and its processes.
const OPEN_FILES_MIN: u64 = 256;

/// Why a build cannot be helped in this process.
pub(crate) fn check_limits() -> Result<(), CliError> {
    let limit = getrlimit(Resource::Nofile).maximum;
    match limit {
        Some(limit) if limit < OPEN_FILES_MIN => {
            let text = format!("{limit} files may be open here, and mesh needs {OPEN_FILES_MIN}");
            Err(CliError::new(exit::UNAVAILABLE, text))
        }
        _ => Ok(()),
    }
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
    let status = conduct(child).await?;
    Ok(BuildEnd {
        code: code_of(status),
        signal: signal_of(status),
        taken_back: false,
        closed: None,
        infer: Duration::ZERO,
        bytes: (0, 0),
    })
}

fn plain_command(words: &[OsString]) -> Result<Command, CliError> {
    let Some((program, arguments)) = words.split_first() else {
        return Err(CliError::new(exit::USAGE, "there is no build command"));
    };
    let mut command = Command::new(program);
    command.args(arguments);
    Ok(command)
}

/// As a shell would say it.
fn not_started(words: &[OsString]) -> impl FnOnce(std::io::Error) -> CliError {
    let program = PathBuf::from(words.first().cloned().unwrap_or_default());
    move |error| {
        let code = match error.raw_os_error() {
            Some(libc::ENOENT) => exit::NO_COMMAND,
            Some(libc::EACCES | libc::ENOEXEC | libc::EISDIR) => exit::NOT_EXECUTABLE,
            _ => return CliError::io(program)(error),
        };
        CliError::new(code, format_args!("{}: {error}", program.display()))
    }
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
        let (mut seen, mut taken_back) = (Seen::default(), false);
        let input = Input::at_start();
        let mut signals = Signals::listen()?;
        loop {
            let (code, signal, closed) = match self.pass(mode, seen, &mut signals).await? {
                PassEnd::Ended(status, closed) => (code_of(status), signal_of(status), closed),
                PassEnd::Interrupted(signal) => (exit::INTERNAL, Some(signal), None),
                PassEnd::TakenBack(shown) => {
                    (seen, taken_back) = (*shown, true);
                    input.rewind();
                    if mode == Mode::Lazy {
                        mode = Mode::Eager;
                    }
                    continue;
                }
            };
            let (infer, bytes) = (self.site.infer(), self.site.bytes());
            return Ok(BuildEnd { code, signal, taken_back, closed, infer, bytes });
        }
    }

    async fn pass(
        &self,
        mode: Mode,
        seen: Seen,
        signals: &mut Signals,
    ) -> Result<PassEnd, CliError> {
        let attempt = self.prepare(mode, seen).await?;
        let mut process = self.command(&attempt)?;
        // Without streams of its own the build command writes to ours itself.
        let covers = attempt.pass.words.covers_all();
        let sharing = (!covers).then(|| self.site.console.share());
        let child = self.spawn(&mut process, &attempt)?;
        // The build has its ends now.
        drop(process);
        let mut running = Running::new(child);
        let targets = self.options.targets.as_deref();
        let event = {
            let whole = async {
                let status = running.ended().await?;
                attempt.pass.drain(targets).await?;
                Ok::<_, CliError>(status)
            };
            tokio::select! {
                status = whole => Event::Ended(status),
                signal = signals.next() => Event::Signal(signal),
                () = attempt.pass.failed() => Event::Failed,
            }
        };
        drop(sharing);
        match event {
            Event::Ended(status) => attempt.succeed(status).await,
            Event::Signal(signal) => attempt.interrupt(signal, running).await,
            Event::Failed => attempt.take_back(&self.site.console, running).await,
        }
    }

    /// Sets up all that a pass needs around its command.
    async fn prepare(&self, mode: Mode, seen: Seen) -> Result<Attempt, CliError> {
        let makeflags = std::env::var_os("MAKEFLAGS");
        let words = self.options.command.clone();
        let command = BuildCommand::new(words, makeflags.as_deref(), version_of);
        let (journal, guardian, place) = self.guarded()?;
        let is_watched = watch::is_available();
        let mode = if is_watched { mode } else { Mode::Eager };
        if !is_watched {
            self.site.console.note("this system lets nobody watch a build: building eagerly");
        }
        let pipe = place.path().join(PIPE);
        let slots = self.options.at.slots;
        let jobserver = Jobserver::create(&pipe, slots).map_err(CliError::io(&pipe))?;
        let shared = jobserver.shared().try_clone().map_err(CliError::io(&pipe))?;
        let driver = Pass::driver(&self.site, self.home, self.options.at).await;
        let has_clients = command.client != Client::No;
        let keeper = SlotKeeper::start(driver.0.clone(), jobserver, slots, has_clients);
        let socket = place.path().join(SOCKET);
        let listener = UnixListener::bind(&socket).map_err(CliError::io(&socket))?;
        let speculation = (mode != Mode::Eager).then(|| {
            let excluded = [self.home, place.path()].map(canonical);
            Speculation::new(UndoLog::new(Arc::clone(&journal), excluded.into()))
        });
        let cover =
            if mode == Mode::Lazy || !seen.is_empty() { Cover::All } else { Cover::LiveTerminal };
        let words = Words::open(&self.site.console, cover, seen);
        let pass = Pass::new(Parts {
            site: Arc::clone(&self.site),
            placeholders: Placeholders::new(Some(Arc::clone(&journal))),
            driver,
            keeper,
            mode,
            speculation,
            words: words.map_err(CliError::io("the build's streams"))?,
            socket: socket.clone(),
            is_watched,
            input: input::read_once(),
        })?;
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
        attempt.pass.words.lend(&mut process);
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
        let journal = Journal::new_path(self.builds).map_err(CliError::io(self.builds))?;
        let mut random = [0; 8];
        rustix::rand::getrandom(&mut random, GetRandomFlags::empty())
            .map_err(|error| CliError::io("random bytes")(error.into()))?;
        let name = format!("mesh-build-{:016x}", u64::from_le_bytes(random));
        let parents = [std::env::temp_dir(), PathBuf::from("/tmp"), self.builds.to_owned()];
        // A compiler goes on without a usable TMPDIR, and so does its build.
        let usable = parents.iter().find(|parent| takes_sockets(parent, &name));
        let parent = usable.unwrap_or(&parents[0]);
        let guardian = Guardian::start(&journal, &parent.join(&name));
        let guardian = guardian.map_err(CliError::io("starting mesh again"))?;
        let journal = Journal::create(journal).map_err(CliError::io(self.builds))?;
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
            return watch::spawn_unwatched(process, given).map_err(not_started(words));
        }
        let watched = match attempt.mode {
            Mode::Lazy if attempt.pass.input.is_some() => Watch::ChangesAndInput,
            Mode::Lazy | Mode::OnUse => Watch::Changes,
            Mode::Eager if self.site.binding.is_some() => Watch::Opens,
            // Without placeholders and bound tools it does not matter what is opened.
            Mode::Eager => Watch::Executions,
        };
        let (pass, runtime) = (Arc::clone(&attempt.pass), Handle::current());
        let serve = move |listener| watcher::serve(listener, &pass, &runtime);
        watch::spawn(process, watched, given, serve).map_err(not_started(words))
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

    /// Everything has been done. Placeholders that are left stay.
    async fn succeed(self, status: Result<ExitStatus, CliError>) -> Result<PassEnd, CliError> {
        self.pass.is_over();
        let kept = match &self.pass.speculation {
            Some(speculation) => speculation.undo.commit(),
            None => Ok(()),
        };
        self.pass.hand_over().await;
        self.pass.words.finish();
        self.close()?;
        kept.map_err(CliError::io("the undo log"))?;
        let speculation = self.pass.speculation.as_ref();
        Ok(PassEnd::Ended(status?, speculation.and_then(Speculation::closed)))
    }

    /// Ends the build because of a signal. What had finished stays; what had not, nor anything that
    /// came after it, does not.
    async fn interrupt(self, signal: Signal, mut running: Running) -> Result<PassEnd, CliError> {
        // They die by the signal, too.
        let recipes = self.pass.recipes.running();
        self.pass.cancel("interrupted").await;
        running.signal(signal);
        let mut ended = tokio::time::timeout(FIRST_GRACE, running.ended()).await;
        if ended.is_err() {
            // As a terminal does it: a command that was asked alone may wait for its children.
            self.pass.signal_all(signal);
            ended = tokio::time::timeout(GRACE, running.ended()).await;
        }
        let is_pending =
            self.pass.speculation.as_ref().is_some_and(|speculation| speculation.is_pending());
        if ended.is_err() || is_pending {
            self.kill(&mut running).await?;
        }
        self.pass.is_over();
        if let Some(speculation) = &self.pass.speculation {
            let undone = speculation.undo.undo_unfinished(&recipes);
            complain(&self.pass.site.console, undone.map_err(CliError::io("the undo log"))?);
        }
        if is_pending {
            self.pass.words.forget();
        } else {
            self.pass.hand_over().await;
            self.pass.words.finish();
        }
        self.close()?;
        // A command that handled the signal itself decides what the build came to.
        match ended {
            Ok(Ok(status)) if !is_pending && status.success() => Ok(PassEnd::Ended(status, None)),
            _ => Ok(PassEnd::Interrupted(signal)),
        }
    }

    /// Takes the build back to its start, because a step has failed that was answered early.
    async fn take_back(self, console: &Console, mut running: Running) -> Result<PassEnd, CliError> {
        self.pass.cancel("another step failed").await;
        self.kill(&mut running).await?;
        self.pass.is_over();
        if let Some(speculation) = &self.pass.speculation {
            let undone = speculation.undo.undo();
            complain(console, undone.map_err(CliError::io("the undo log"))?);
        }
        let shown = self.pass.words.forget();
        self.close()?;
        Ok(PassEnd::TakenBack(Box::new(shown)))
    }

    async fn kill(&self, running: &mut Running) -> Result<(), CliError> {
        let (pass, pid) = (Arc::clone(&self.pass), running.pid());
        let killed = tokio::task::spawn_blocking(move || pass.kill_all(pid)).await;
        killed.map_err(|error| CliError::new(exit::INTERNAL, error))?;
        running.ended().await.map(drop)
    }

    fn close(&self) -> Result<(), CliError> {
        self.accepting.abort();
        // What is left of the build finds no socket, and its tools are the real ones.
        self.journal.finish().map_err(CliError::io(self.journal.path()))
    }
}

/// Tells what could not be put back.
fn complain(console: &Console, unrestored: Vec<Unrestored>) {
    for Unrestored { path, error } in unrestored {
        console.note(format_args!("cannot put {} back as it was: {error}", path.display()));
    }
}

fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
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

/// What a pass waits for.
enum Event {
    Ended(Result<ExitStatus, CliError>),
    Signal(Signal),
    Failed,
}

/// How a pass ended.
enum PassEnd {
    /// With this status, and why no call was answered early at the end.
    Ended(ExitStatus, Option<String>),
    /// By this signal.
    Interrupted(Signal),
    /// It never was, but for what it has shown: the build command has to run again.
    TakenBack(Box<Seen>),
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
    let words = request.arguments.join(" ");
    match pass.answer(request, streams, pid) {
        Reply::Done(done) => drop(wire::send_answer(socket, &Answer::Done(done))),
        Reply::Local(program) => {
            let tool = caller.become_tool(&pass.site, &program, false);
            drop(wire::send_answer(socket, &Answer::Tool(tool)));
        }
        Reply::Report { program, reason } => {
            let tool = caller.become_tool(&pass.site, &program, true);
            let mut status = [0];
            let sent = wire::send_answer(socket, &Answer::Tool(tool));
            let ended = sent.and_then(|()| (&*socket).read_exact(&mut status));
            if ended.is_ok() && status == [0] {
                pass.site.console.note(format_args!("{words}: worked here, but {reason}"));
            }
        }
    }
}
