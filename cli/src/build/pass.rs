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
//! only the real tool at its place in the build can tell. An eager call becomes the real tool at
//! once; after a lazy pass the build command runs again, and there the marked call does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesh_cli::frontend::{Inode, PlannedOutput};
use mesh_node::driver::{Driver, Progress};
use mesh_protocol::name::{OutputRef, ThunkName};
use mesh_protocol::sched::force::{ForceError, ForcePolicy};
use mesh_protocol::thunk::OutputObject;
use mesh_store::Store;
use tokio::runtime::Handle;

use super::exits::Exits;
use super::failures::FailedRuns;
use super::files::BuildFiles;
use super::placeholder::Placeholders;
use super::site::Site;
use super::slot_keeper::SlotKeeper;
use super::step::{End, Step};
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

/// See the module's description.
pub(crate) struct Pass {
    pub(crate) site: Arc<Site>,
    pub(crate) files: BuildFiles,
    pub(crate) keeper: SlotKeeper,
    pub(crate) exits: Exits,
    pub(super) driver: Driver,
    pub(super) mode: Mode,
    keep_going: bool,
    pub(super) runtime: Handle,
    state: Mutex<State>,
    failed: FailedRuns,
    /// A call was marked in this pass.
    has_marked: AtomicBool,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) steps: Vec<Arc<Step>>,
    pub(super) names: BTreeSet<ThunkName>,
    pub(super) by_placeholder: BTreeMap<Inode, Arc<Step>>,
    /// Why the build cannot go on, such as a full disk.
    trouble: Option<CliError>,
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
    pub(crate) fn new(
        site: Arc<Site>,
        placeholders: Placeholders,
        (driver, failed): (Driver, FailedRuns),
        keeper: SlotKeeper,
        mode: Mode,
        keep_going: bool,
    ) -> Result<Arc<Self>, CliError> {
        let ended = keeper.clone();
        let exits = Exits::start(move |pid| ended.gone_blocking(pid));
        Ok(Arc::new(Self {
            files: BuildFiles::new(site.store.clone(), placeholders),
            site,
            keeper,
            exits: exits.map_err(CliError::io("watching processes"))?,
            driver,
            mode,
            keep_going,
            runtime: Handle::current(),
            state: Mutex::default(),
            failed,
            has_marked: AtomicBool::new(false),
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

    /// One that another build left (`mesh infer`).
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
        let reduced = match self.reduce(step).await {
            Ok(reduced) => reduced,
            Err(error) => {
                self.give_up(step, &error).await;
                return End::Failed;
            }
        };
        let (pass, finished) = (Arc::clone(self), Arc::clone(step));
        let brought = tokio::task::spawn_blocking(move || pass.bring(&finished, &reduced)).await;
        match brought {
            Ok(Ok(())) => End::Done,
            Ok(Err(error)) => {
                self.state().trouble.get_or_insert(error);
                End::Failed
            }
            Err(error) => {
                let error = CliError::new(crate::exit::INTERNAL, error);
                self.state().trouble.get_or_insert(error);
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

    /// A step that nobody waits for failed: if it is to blame itself, the real tool has to try it,
    /// at its place in the build; and what is left of this pass is in vain.
    async fn give_up(&self, step: &Step, error: &ForceError) {
        if self.is_own_failure(step, error) {
            self.has_marked.store(true, Ordering::Release);
            self.site.mark(step.call.clone(), failed_reason(error));
            if !self.keep_going {
                self.driver.cancel("not tried: another step failed").await;
            }
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
                    None => self.remove(inode, &output.path)?,
                }
                self.state().by_placeholder.remove(&inode);
            }
        }
        let reduction = self.reduction(step)?;
        let (stdout, stderr) = self.words(&reduction, step.strip_colour)?;
        if let Some(diagnostics) = step.take_diagnostics() {
            diagnostics.write(&stdout, &stderr, &self.site.console);
        }
        Ok(())
    }

    fn fill(&self, inode: Inode, object: &OutputObject) -> Result<(), CliError> {
        let (name, executable) = file_of(object)?;
        let mut bytes = self.site.store.open_blob(name.digest())?;
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
        // A step may be planned by a process that outlives the command.
        let steps = self.state().steps.clone();
        for step in &steps {
            if self.mode == Mode::Lazy {
                self.begin(step);
            }
            if step.has_begun() {
                step.ended().await;
            }
        }
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

    /// Ends the pass: what was not made is removed. True if the build command has to run again.
    pub(crate) fn end(&self) -> Result<bool, CliError> {
        if self.mode != Mode::OnUse {
            for inode in self.files.placeholders.remaining() {
                let path = self.files.placeholders.path(inode).unwrap_or_default();
                self.remove(inode, &path)?;
            }
        }
        let trouble = self.state().trouble.take();
        match trouble {
            Some(error) => Err(error),
            None => Ok(self.has_marked.load(Ordering::Acquire)),
        }
    }

    /// Stops everything that runs.
    pub(crate) async fn cancel(&self, reason: &str) {
        self.driver.cancel(reason).await;
    }

    /// The steps that were marked in this pass.
    pub(crate) fn marked_steps(&self) -> Vec<Arc<Step>> {
        let steps = self.state().steps.clone();
        steps.into_iter().filter(|step| self.site.mark_of(&step.call).is_some()).collect()
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
