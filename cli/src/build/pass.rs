//! One pass of a build: the build command runs once, its tools' calls become steps.
//!
//! ```text
//!   call ──plan──▶ memo has it ─────────────────────────▶ files written, answered
//!             ├──▶ lazy: placeholders, answered ─▶ run ─▶ placeholders filled
//!             ├──▶ eager: run ──────────────────────────▶ files written, answered
//!             └──▶ local: the real tool takes over
//! ```
//!
//! A step that fails in its sandbox is marked: the compiler may be right, or the model wrong, and
//! only the real tool at its place in the build can tell. A call that waits becomes the real tool
//! at once. For one that was answered early the pass is taken back ([`super::speculation`]), the
//! build command runs again, and there the marked call does.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use mesh_cli::frontend::{Inode, PlannedOutput};
use mesh_node::driver::{Driver, Progress};
use mesh_protocol::name::{OutputRef, ThunkName};
use mesh_protocol::sched::force::{ForceError, ForcePolicy};
use mesh_protocol::thunk::OutputObject;
use mesh_store::Store;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::exits::Exits;
use super::failures::FailedRuns;
use super::files::BuildFiles;
use super::placeholder::Placeholders;
use super::processes::Processes;
use super::recipes::Recipes;
use super::site::Site;
use super::slot_keeper::SlotKeeper;
use super::slots::Pid;
use super::speculation::{COMMAND_ENDED, Phase, Speculation};
use super::step::{End, Step};
use super::watch::usher;
use super::words::Words;
use crate::error::CliError;
use crate::forcing::{Forcing, Where};

/// When a step runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// As soon as it can, while the build goes on.
    Lazy,
    /// At once, while its caller waits.
    Eager,
    /// When somebody uses what it leaves.
    OnUse,
}

/// What a pass is given.
pub(super) struct Parts {
    pub(super) site: Arc<Site>,
    pub(super) placeholders: Placeholders,
    pub(super) driver: (Driver, FailedRuns),
    pub(super) keeper: SlotKeeper,
    pub(super) mode: Mode,
    pub(super) speculation: Option<Speculation>,
    pub(super) words: Words,
    pub(super) socket: PathBuf,
    pub(super) is_watched: bool,
    pub(super) input: Option<Inode>,
}

/// See the module's description.
pub(crate) struct Pass {
    pub(crate) site: Arc<Site>,
    pub(crate) files: BuildFiles,
    pub(crate) keeper: SlotKeeper,
    pub(crate) exits: Exits,
    pub(super) driver: Driver,
    pub(super) mode: Mode,
    /// If calls may be answered early.
    pub(super) speculation: Option<Speculation>,
    pub(super) recipes: Recipes,
    pub(super) words: Words,
    /// Where the interposers connect to.
    pub(super) socket: PathBuf,
    /// Standard input, if what is read from it cannot be read again.
    pub(super) input: Option<Inode>,
    pub(super) runtime: Handle,
    processes: Processes,
    state: Mutex<State>,
    failed: FailedRuns,
    /// Calls of the build's processes that wait for their answers.
    pub(super) waiting_calls: watch::Sender<usize>,
    /// Where those calls arrive, and whether somebody else answers them by now.
    listener: OnceLock<Arc<OwnedFd>>,
    is_handed_over: AtomicBool,
    /// Locked for reading by whoever writes files of the build; true once nobody may any more.
    is_over: RwLock<bool>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) names: BTreeSet<ThunkName>,
    pub(super) by_placeholder: BTreeMap<Inode, Arc<Step>>,
}

impl Pass {
    /// Starts the driver of a pass. To be called on the runtime.
    pub(crate) async fn driver(site: &Arc<Site>, home: &Path, at: Where) -> (Driver, FailedRuns) {
        let failed = FailedRuns::default();
        let (told, console) = (failed.clone(), site.console.clone());
        let watcher = Box::new(move |progress| {
            if let Progress::Event(event) = &progress {
                told.take(event);
            }
            console.take(&progress);
        });
        // Whether to go on is decided here: an eager call's failure is the caller's business.
        let policy = ForcePolicy { keep_going: true, ..ForcePolicy::default() };
        let (engine, console) = (Arc::clone(&site.engine), &site.console);
        let forcing = Forcing { store: &site.store, engine, home, console, at };
        (forcing.driver(policy, 0, watcher).await, failed)
    }

    /// A pass in which nothing was called yet.
    pub(super) fn new(parts: Parts) -> Result<Arc<Self>, CliError> {
        let ended = parts.keeper.clone();
        let exits = Exits::start(move |pid| ended.gone_blocking(pid));
        let (driver, failed) = parts.driver;
        Ok(Arc::new(Self {
            files: BuildFiles::new(parts.site.store.clone(), parts.placeholders),
            site: parts.site,
            keeper: parts.keeper,
            exits: exits.map_err(CliError::io("watching processes"))?,
            driver,
            mode: parts.mode,
            speculation: parts.speculation,
            recipes: Recipes::default(),
            words: parts.words,
            socket: parts.socket,
            input: parts.input,
            runtime: Handle::current(),
            processes: Processes::before_build(parts.is_watched),
            state: Mutex::default(),
            failed,
            waiting_calls: watch::Sender::new(0),
            listener: OnceLock::new(),
            is_handed_over: AtomicBool::new(false),
            is_over: RwLock::default(),
        }))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the placeholder that was seen at `path` a file, or waits until somebody has.
    pub(crate) async fn real(
        self: &Arc<Self>,
        path: &Path,
        inode: Inode,
        output: OutputRef,
    ) -> End {
        let step = self.state().by_placeholder.get(&inode).cloned();
        match step {
            Some(step) => {
                self.begin(&step);
                step.ended().await
            }
            None => self.fill_foreign(path, inode, output).await,
        }
    }

    /// Fills one that another build left (`mesh infer`).
    pub(crate) async fn fill_foreign(&self, path: &Path, inode: Inode, output: OutputRef) -> End {
        let filled = match self.driver.demand(output.clone()).await {
            Ok(object) => self
                .files
                .placeholders
                .adopt(path, inode, output)
                .map_err(CliError::io(path))
                .and_then(|()| self.fill(inode, &object)),
            Err(error) => Err(CliError::new(crate::exit::FOUND_WRONG, error)),
        };
        match filled {
            Ok(()) => End::Done,
            Err(error) => {
                self.site.console.note(&error);
                End::Failed
            }
        }
    }

    /// Runs a step in the background, unless somebody does.
    pub(super) fn begin(self: &Arc<Self>, step: &Arc<Step>) {
        if step.begin() {
            let (pass, step) = (Arc::clone(self), Arc::clone(step));
            self.runtime.spawn(async move {
                let end = pass.run(&step).await;
                step.finish(end);
            });
        }
    }

    /// Runs a step, and makes its placeholders files.
    async fn run(self: &Arc<Self>, step: &Arc<Step>) -> End {
        let end = match self.reduce(step).await {
            Ok(reduced) => {
                let (pass, finished) = (Arc::clone(self), Arc::clone(step));
                let brought =
                    tokio::task::spawn_blocking(move || pass.bring(&finished, &reduced)).await;
                brought.unwrap_or_else(|error| Err(CliError::new(crate::exit::INTERNAL, error)))
            }
            Err(error) => {
                if self.is_own_failure(step, &error) {
                    self.site.mark(step.call.clone(), failed_reason(&error));
                }
                Err(CliError::new(crate::exit::FOUND_WRONG, error))
            }
        };
        let (speculation, number) = (self.speculation.as_ref(), step.number.get());
        match (end, speculation.zip(number)) {
            (Ok(()), Some((speculation, number))) => {
                speculation.finished(*number);
                End::Done
            }
            (Ok(()), None) => End::Done,
            (Err(_), _) => {
                // Whatever it was: eagerly it will come again where the build can see it.
                if let Some(speculation) = speculation {
                    speculation.failed();
                }
                End::Failed
            }
        }
    }

    /// Reduces every output of a step.
    pub(super) async fn reduce(
        &self,
        step: &Step,
    ) -> Result<Vec<(PlannedOutput, OutputObject)>, ForceError> {
        let mut reduced = Vec::new();
        if step.outputs.is_empty() {
            return self.reduce_printer(step).await.map(|()| reduced);
        }
        let (required, optional): (Vec<_>, Vec<_>) =
            step.outputs.iter().partition(|output| output.required);
        for output in required.into_iter().chain(optional) {
            match self.driver.demand(step.output(&output.tag)).await {
                Ok(object) => reduced.push((output.clone(), object)),
                // It ran, and did not leave this one.
                Err(_) if !output.required && !reduced.is_empty() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(reduced)
    }

    /// Runs a step that leaves no file: its only output is never there.
    async fn reduce_printer(&self, step: &Step) -> Result<(), ForceError> {
        let Some(output) = &step.printer else { return Ok(()) };
        match self.driver.demand(output.clone()).await {
            Ok(_) => Ok(()),
            Err(error) => match self.site.store.recall(step.name) {
                Ok(Some(_)) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Did it run and fail, or did something that it needs?
    pub(super) fn is_own_failure(&self, step: &Step, error: &ForceError) -> bool {
        let blamed = error.path.last().is_some_and(|name| self.failed.contains(name));
        let state = self.state();
        let others = error.path.iter().any(|name| *name != step.name && state.names.contains(name));
        blamed && !others
    }

    /// Fills a step's placeholders, and writes what its tool wrote.
    fn bring(
        &self,
        step: &Step,
        reduced: &[(PlannedOutput, OutputObject)],
    ) -> Result<(), CliError> {
        for output in &step.outputs {
            let object = reduced.iter().find(|(known, _)| known.tag == output.tag);
            for inode in step.placeholders(&output.tag) {
                match object {
                    Some((_, object)) => self.fill(inode, object)?,
                    None if self.mode == Mode::OnUse => self.remove(inode, &output.path)?,
                    // It may leave this file or not, and the build has seen one.
                    None => {
                        let text = format!("{} has not been made", output.path.display());
                        return Err(CliError::new(crate::exit::NOT_FOUND, text));
                    }
                }
                self.state().by_placeholder.remove(&inode);
            }
        }
        let reduction = self.reduction(step)?;
        let (stdout, stderr) = self.words_of(&reduction, step.manner)?;
        let words = step.words.address(stdout, stderr);
        match step.number.get().filter(|_| self.mode == Mode::Lazy) {
            Some(number) => self.words.finished(*number, words),
            None => self.words.say(words),
        }
        Ok(())
    }

    fn fill(&self, inode: Inode, object: &OutputObject) -> Result<(), CliError> {
        let _writing = self.writing()?;
        let (name, executable) = file_of(object)?;
        let mut bytes = self.site.store.open_checked(name.digest())?;
        let path = self.files.placeholders.path(inode).unwrap_or_default();
        let filled = self.files.placeholders.fill(inode, &mut bytes, executable);
        if let Some(filled) = filled.map_err(CliError::io(&path))? {
            self.files.stored.know(&filled.metadata, name);
            self.site.brought(name.digest().length);
            if executable {
                Store::settle_program(&filled.path())?;
            }
        }
        Ok(())
    }

    fn remove(&self, inode: Inode, path: &Path) -> Result<(), CliError> {
        self.files.placeholders.remove(inode).map_err(CliError::io(path))
    }

    /// Must be held by whoever writes a file of the build, as long as it does. An error once the
    /// pass is over.
    pub(super) fn writing(&self) -> Result<impl Sized + '_, CliError> {
        let is_over = self.is_over.read().unwrap_or_else(PoisonError::into_inner);
        match *is_over {
            false => Ok(is_over),
            true => Err(CliError::new(crate::exit::INTERNAL, "the build has been taken back")),
        }
    }

    /// From now on nothing of this pass writes any more.
    pub(crate) fn is_over(&self) {
        *self.is_over.write().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// Answers no call early from now on.
    pub(super) fn close(&self, reason: &str) {
        if let Some(speculation) = &self.speculation {
            speculation.close(reason);
        }
    }

    /// Waits until nothing is pending, and answers no call early from now on. Where steps run only
    /// when they are used there is nothing to wait for.
    pub(super) async fn settle(&self, reason: &str) {
        if let Some(speculation) = self.speculation.as_ref().filter(|_| self.mode == Mode::Lazy) {
            speculation.settle(reason).await;
        }
    }

    /// Waits until a step that was answered early has failed.
    pub(crate) async fn failed(&self) {
        match &self.speculation {
            Some(speculation) => speculation.reached(Phase::Failed).await,
            None => std::future::pending().await,
        }
    }

    /// The calls of the build's processes arrive here.
    pub(super) fn watched_through(&self, listener: Arc<OwnedFd>) {
        let _ = self.listener.set(listener);
    }

    /// Does another process answer the calls of what the build has left behind?
    pub(super) fn is_handed_over(&self) -> bool {
        self.is_handed_over.load(Ordering::Acquire)
    }

    /// Lets another process answer the calls of programs that outlive the build, if there are any.
    pub(super) async fn hand_over(&self) {
        /// How long the calls that wait for a slot may take to get it.
        const PATIENCE: Duration = Duration::from_millis(500);
        let Some(listener) = self.listener.get() else { return };
        if self.processes.is_empty() {
            return;
        }
        self.is_handed_over.store(true, Ordering::Release);
        let mut waiting = self.waiting_calls.subscribe();
        let _ = tokio::time::timeout(PATIENCE, waiting.wait_for(|count| *count == 0)).await;
        // If not, the kernel refuses their calls.
        let _ = usher::start(listener);
    }

    /// Does this process belong to the build?
    pub(super) fn has_process(&self, pid: Pid) -> bool {
        self.processes.contains(pid)
    }

    /// Sends a signal to all processes of the build.
    pub(crate) fn signal_all(&self, signal: rustix::process::Signal) {
        self.processes.signal(signal);
    }

    /// Ends all processes of the build, `command` first among them.
    pub(crate) fn kill_all(&self, command: Pid) {
        self.processes.kill(command);
    }

    /// Runs what is left of the pass after its command: every step, or with `only` those whose
    /// placeholders are at these paths.
    pub(crate) async fn drain(self: &Arc<Self>, only: Option<&[PathBuf]>) -> Result<(), CliError> {
        self.keeper.ended().await;
        if let Some(paths) = only {
            for path in paths {
                self.bring_target(path).await?;
            }
            return Ok(());
        }
        self.settle(COMMAND_ENDED).await;
        Ok(())
    }

    async fn bring_target(self: &Arc<Self>, path: &Path) -> Result<(), CliError> {
        let metadata = std::fs::metadata(path).map_err(CliError::io(path))?;
        let output = self.files.output_at(path, &metadata).map_err(CliError::io(path))?;
        let Some(output) = output else { return Ok(()) };
        match self.real(path, Inode::of(&metadata), output).await {
            End::Done => Ok(()),
            End::Failed => {
                let text = format!("{} could not be made", path.display());
                Err(CliError::new(crate::exit::FOUND_WRONG, text))
            }
        }
    }

    /// Stops everything that runs.
    pub(crate) async fn cancel(&self, reason: &str) {
        self.driver.cancel(reason).await;
    }
}

pub(super) fn failed_reason(error: &ForceError) -> String {
    format!("its sandbox failed: {}", error.reason)
}

pub(super) fn file_of(
    object: &OutputObject,
) -> Result<(mesh_protocol::name::ValueName, bool), CliError> {
    match object {
        OutputObject::File { name, executable } => Ok((*name, *executable)),
        other => {
            let text = format!("a tool left {other:?} where a file was expected");
            Err(CliError::new(crate::exit::INTERNAL, text))
        }
    }
}
