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
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use mesh_cli::frontend::{Call, Inode, LocalReason, Plan, PlannedOutput, PlannedThunk};
use mesh_node::driver::{Driver, Progress};
use mesh_protocol::limits;
use mesh_protocol::name::{OutputRef, ThunkName};
use mesh_protocol::sched::force::{Event, ForceError, ForcePolicy};
use mesh_protocol::thunk::{OutputObject, Reduction, Thunk};
use mesh_store::Store;
use tokio::runtime::Handle;

use super::exits::Exits;
use super::files::BuildFiles;
use super::materialise::{self, Wanted};
use super::placeholder::Placeholders;
use super::site::Site;
use super::slot_keeper::SlotKeeper;
use super::slots::Pid;
use super::step::{CallKey, End, Step};
use super::streams::{self, Diagnostics};
use super::wire::{Reply, Request, Streams};
use crate::error::CliError;

/// How often a call may find that it needs the content of one more placeholder.
const PLANS_MAX: usize = 64;

/// To a call that needs what will not come: the build command will run again.
const DOOMED: Reply = Reply::Done { stdout: vec![], stderr: vec![], status: 1 };

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
    driver: Driver,
    mode: Mode,
    keep_going: bool,
    runtime: Handle,
    state: Mutex<State>,
    failed: FailedRuns,
    /// A call was marked in this pass.
    has_marked: AtomicBool,
}

#[derive(Default)]
struct State {
    steps: Vec<Arc<Step>>,
    names: BTreeSet<ThunkName>,
    by_placeholder: BTreeMap<Inode, Arc<Step>>,
    /// Why the build cannot go on, such as a full disk.
    trouble: Option<CliError>,
}

/// Thunks that the driver reported as failed.
#[derive(Clone, Default)]
pub(crate) struct FailedRuns(Arc<Mutex<Failures>>);

#[derive(Default)]
struct Failures {
    failed: BTreeSet<ThunkName>,
    /// By a thunk of values: those that turned out to be the same step.
    stands_for: BTreeMap<ThunkName, Vec<ThunkName>>,
}

impl FailedRuns {
    fn lock(&self) -> MutexGuard<'_, Failures> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, event: &Event) {
        let mut known = self.lock();
        match event {
            Event::Substituted(thunk, by) => {
                known.stands_for.entry(*by).or_default().push(*thunk);
                if known.failed.contains(by) {
                    known.failed.insert(*thunk);
                }
            }
            Event::Failed(name, _) => {
                let same = known.stands_for.remove(name).unwrap_or_default();
                known.failed.extend(same.into_iter().chain([*name]));
            }
            _ => {}
        }
    }

    fn contains(&self, name: &ThunkName) -> bool {
        self.lock().failed.contains(name)
    }
}

impl Pass {
    /// Starts the driver of a pass. To be called on the runtime.
    pub(crate) fn driver(site: &Arc<Site>) -> (Driver, FailedRuns) {
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
        let engine = Arc::clone(&site.engine);
        (Driver::start(site.store.clone(), engine, policy, 0, watcher), failed)
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

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides about one call. Blocks as long as the caller has to wait.
    pub(crate) fn answer(self: &Arc<Self>, request: Request, streams: Streams, pid: Pid) -> Reply {
        let Request { arguments, file, working_directory, environment, umask } = request;
        let directory = PathBuf::from(&working_directory);
        let path = environment.get("PATH").map_or("", String::as_str);
        let called = arguments.first().map_or("", String::as_str);
        let found = self.find_tool(called, path, &directory, file.is_some());
        if let Some(file) = file {
            let leads_there = |found: &PathBuf| found.canonicalize().is_ok_and(|it| it == file);
            if !found.as_ref().is_some_and(leads_there) {
                self.site.console.local(&arguments, "it is called by a name that leads elsewhere");
                return Reply::Local(file);
            }
        }
        let Some(program) = found else {
            let text = format!("mesh: {called}: not found in PATH\n");
            return Reply::Done { stdout: vec![], stderr: text.into_bytes(), status: 127 };
        };
        let key = CallKey { arguments: arguments.clone(), working_directory };
        let call = Call { program, arguments, working_directory: directory, environment };
        if let Some(reason) = self.site.mark_of(&key) {
            self.site.console.local(&call.arguments, &reason);
            return Reply::Report(text(&call.program));
        }
        if let Some(name) = launcher_above(pid) {
            let reason = format!("called by {name}, which keeps results itself");
            self.site.console.local(&call.arguments, &reason);
            return Reply::Local(text(&call.program));
        }
        match self.plan(&call, pid) {
            Ok(planned) => self.step(&call, Asked { key, planned, streams, umask, pid }),
            Err(Refusal::Local(reason)) => {
                self.site.console.local(&call.arguments, &reason.to_string());
                if let LocalReason::Failed(problem) = reason {
                    self.site.trouble(&CliError::new(crate::exit::IO, problem));
                }
                Reply::Local(text(&call.program))
            }
            Err(Refusal::Doomed) => DOOMED,
        }
    }

    /// The tool that a call's first word leads to. A path leads to the tool if the tool's own file
    /// was executed; else it is that of a link of ours, and only the name counts.
    fn find_tool(
        &self,
        called: &str,
        path: &str,
        directory: &Path,
        is_file: bool,
    ) -> Option<PathBuf> {
        let called = Path::new(called);
        if is_file && called.as_os_str().as_encoded_bytes().contains(&b'/') {
            let path: PathBuf = directory.join(called).components().collect();
            let is_plain = path.components().all(|part| part != Component::ParentDir);
            // A thunk has no name for a way that goes up.
            return if is_plain { Some(path) } else { path.canonicalize().ok() };
        }
        self.look_up(Path::new(called.file_name()?), path, directory)
    }

    /// The first program of this name in `PATH`, our own links aside.
    fn look_up(&self, name: &Path, path: &str, directory: &Path) -> Option<PathBuf> {
        let places = path.split(':').map(|place| directory.join(place).join(name));
        places.into_iter().find(|candidate| {
            use std::os::unix::fs::PermissionsExt;
            std::fs::metadata(candidate).is_ok_and(|found| {
                let is_program = found.is_file() && found.permissions().mode() & 0o111 != 0;
                is_program && Inode::of(&found) != self.site.interposer
            })
        })
    }

    fn plan(self: &Arc<Self>, call: &Call, pid: Pid) -> Result<PlannedThunk, Refusal> {
        for _ in 0..PLANS_MAX {
            let started = Instant::now();
            match self.site.frontends.plan(call, &self.files) {
                Plan::Thunk(planned) => {
                    self.site.planned(&planned.thunk, started.elapsed());
                    return Ok(*planned);
                }
                Plan::Local(reason) => return Err(Refusal::Local(reason)),
                Plan::NeedReal(paths) => {
                    for path in paths {
                        self.make_real(&path, pid)?;
                    }
                }
            }
        }
        Err(Refusal::Local(LocalReason::Unclear("it needs too many placeholders, one by one")))
    }

    /// Waits until the placeholder at `path` is a file.
    fn make_real(self: &Arc<Self>, path: &Path, pid: Pid) -> Result<(), Refusal> {
        let failed = |error: std::io::Error| {
            Refusal::Local(LocalReason::Failed(format!("{}: {error}", path.display())))
        };
        let metadata = std::fs::metadata(path).map_err(failed)?;
        let Some(output) = self.files.output_at(path, &metadata).map_err(failed)? else {
            return Ok(());
        };
        match self.waiting(pid, self.real(path, Inode::of(&metadata), output)) {
            End::Done => Ok(()),
            End::Failed => Err(Refusal::Doomed),
        }
    }

    /// Blocks on something that thunks have to do first; the caller's slot is theirs meanwhile.
    fn waiting<T>(&self, pid: Pid, what: impl Future<Output = T>) -> T {
        self.runtime.block_on(async {
            self.keeper.waits(pid).await;
            let got = what.await;
            self.keeper.waited(pid).await;
            got
        })
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

    fn step(self: &Arc<Self>, call: &Call, asked: Asked) -> Reply {
        match self.try_step(call, asked) {
            Ok(reply) => reply,
            Err(error) => {
                // The store or the disk: the real tool may still do it, and says so if not.
                self.site.console.local(&call.arguments, &error.to_string());
                self.site.trouble(&error);
                Reply::Local(text(&call.program))
            }
        }
    }

    fn try_step(self: &Arc<Self>, call: &Call, asked: Asked) -> Result<Reply, CliError> {
        let Asked { key, planned, streams, umask, pid } = asked;
        let (name, bytes) =
            planned.thunk.encode().map_err(|error| CliError::new(crate::exit::INTERNAL, error))?;
        self.site.console.planned(name, &planned.description);
        let mut diagnostics = Diagnostics::of(streams, &self.site.own_streams, || is_drained(pid));
        let strip = planned.strip_colour_unless_tty && !wants_colour(call, &diagnostics);
        if self.mode != Mode::OnUse
            && let Some(reduction) = self.site.store.recall(name)?
        {
            self.site.console.reused(name);
            self.write_outputs(&planned.outputs, &reduction, &planned.thunk, umask)?;
            return self.replay(&reduction, strip);
        }
        self.site.store.put_bytes(&bytes)?;
        let PlannedThunk { thunk, outputs, description, .. } = planned;
        let thunk = Arc::new(thunk);
        self.runtime.block_on(self.driver.add(name, Arc::clone(&thunk)));
        if self.mode == Mode::OnUse {
            diagnostics.detach();
        }
        // What leaves no file prints what is wanted.
        let is_eager = self.mode == Mode::Eager || diagnostics.must_wait || outputs.is_empty();
        let diagnostics = Some(diagnostics).filter(|_| !is_eager);
        let mut step = Step::new(name, key, description, outputs, strip, diagnostics);
        step.printer = thunk.primary_output().map(|tag| step.output(tag));
        let step = Arc::new(step);
        {
            let mut state = self.state();
            state.names.insert(name);
            state.steps.push(Arc::clone(&step));
        }
        if is_eager {
            return self.eager(call, &step, &thunk, umask, pid);
        }
        self.lay_placeholders(&step, &thunk, umask)?;
        if self.mode == Mode::Lazy {
            self.begin(&step);
        }
        Ok(Reply::Done { stdout: vec![], stderr: vec![], status: 0 })
    }

    fn lay_placeholders(
        &self,
        step: &Arc<Step>,
        thunk: &Thunk,
        umask: u32,
    ) -> Result<(), CliError> {
        for output in &step.outputs {
            let is_in_place = is_in_place(thunk, output);
            let mode = materialise::mode_for(&output.path, is_in_place, output.executable, umask);
            let inode = self
                .files
                .placeholders
                .create(&output.path, step.output(&output.tag), mode)
                .map_err(CliError::io(&output.path))?;
            step.add_placeholder(output.tag.clone(), inode);
            self.state().by_placeholder.insert(inode, Arc::clone(step));
        }
        Ok(())
    }

    fn eager(
        self: &Arc<Self>,
        call: &Call,
        step: &Arc<Step>,
        thunk: &Thunk,
        umask: u32,
        pid: Pid,
    ) -> Result<Reply, CliError> {
        step.begin();
        let reduced = self.waiting(pid, self.reduce(step));
        step.finish(if reduced.is_ok() { End::Done } else { End::Failed });
        match reduced {
            Ok(_) => {
                let reduction = self.reduction(step)?;
                self.write_outputs(&step.outputs, &reduction, thunk, umask)?;
                self.replay(&reduction, step.strip_colour)
            }
            Err(error) if self.is_own_failure(step, &error) => {
                self.site.console.local(&call.arguments, &failed_reason(&error));
                Ok(Reply::Report(text(&call.program)))
            }
            Err(_) => Ok(DOOMED),
        }
    }

    /// What a finished step's thunk came to.
    fn reduction(&self, step: &Step) -> Result<Arc<Reduction>, CliError> {
        let found = self.site.store.recall(step.name)?;
        found.ok_or_else(|| {
            let text = format!("{}: its result is gone from the store", step.description);
            CliError::new(crate::exit::NOT_FOUND, text)
        })
    }

    fn write_outputs(
        &self,
        outputs: &[PlannedOutput],
        reduction: &Reduction,
        thunk: &Thunk,
        umask: u32,
    ) -> Result<(), CliError> {
        for output in outputs {
            let Some(object) = reduction.outputs.get(&output.tag) else { continue };
            let (name, executable) = file_of(object)?;
            let is_in_place = is_in_place(thunk, output);
            let mode = materialise::mode_for(&output.path, is_in_place, executable, umask);
            let wanted = Wanted { path: output.path.clone(), name, mode };
            let written = materialise::write(&self.site.store, &wanted)?;
            self.files.stored.know(&written, name);
            self.site.brought(name.digest().length);
            if executable {
                Store::settle_program(&output.path)?;
            }
        }
        Ok(())
    }

    fn replay(&self, reduction: &Reduction, strip: bool) -> Result<Reply, CliError> {
        let (stdout, stderr) = self.words(reduction, strip)?;
        Ok(Reply::Done { stdout, stderr, status: 0 })
    }

    fn words(&self, reduction: &Reduction, strip: bool) -> Result<(Vec<u8>, Vec<u8>), CliError> {
        let read = |name: mesh_protocol::name::ValueName| match name.digest().length {
            0 => Ok(Vec::new()),
            length if length >= limits::STREAM_BYTES => {
                Err(CliError::new(crate::exit::DATA, "it writes more than mesh keeps"))
            }
            _ => Ok(self.site.store.read(name.digest(), limits::STREAM_BYTES)?),
        };
        let (stdout, stderr) = (read(reduction.stdout)?, read(reduction.stderr)?);
        Ok((stdout, if strip { streams::without_colour(&stderr) } else { stderr }))
    }

    /// Runs a step in the background, unless somebody does.
    fn begin(self: &Arc<Self>, step: &Arc<Step>) {
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
    async fn reduce(&self, step: &Step) -> Result<Vec<(PlannedOutput, OutputObject)>, ForceError> {
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
    fn is_own_failure(&self, step: &Step, error: &ForceError) -> bool {
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

/// A planned call and who asked for it.
struct Asked {
    key: CallKey,
    planned: PlannedThunk,
    streams: Streams,
    umask: u32,
    pid: Pid,
}

/// Does the tool change a file that was there?
fn is_in_place(thunk: &Thunk, output: &PlannedOutput) -> bool {
    thunk.spec().inputs.keys().any(|path| Path::new(path.as_str()) == output.path)
}

/// Why a call becomes no step.
enum Refusal {
    /// It runs here.
    Local(LocalReason),
    /// What it needs has failed; the pass will be repeated.
    Doomed,
}

fn failed_reason(error: &ForceError) -> String {
    format!("its sandbox failed: {}", error.reason)
}

fn text(program: &Path) -> String {
    program.to_string_lossy().into_owned()
}

fn file_of(object: &OutputObject) -> Result<(mesh_protocol::name::ValueName, bool), CliError> {
    match object {
        OutputObject::File { name, executable } => Ok((*name, *executable)),
        other => {
            let text = format!("a tool left {other:?} where a file was expected");
            Err(CliError::new(crate::exit::INTERNAL, text))
        }
    }
}

/// Would the compiler itself have coloured what it writes (GCC manual, "-fdiagnostics-color")?
fn wants_colour(call: &Call, diagnostics: &Diagnostics) -> bool {
    let variable = |name: &str| call.environment.get(name).map(String::as_str);
    let terminal = variable("TERM").is_some_and(|term| term != "dumb");
    diagnostics.is_terminal && terminal && variable("GCC_COLORS") != Some("")
}

/// The programs of the processes that one comes from, its parent's first.
fn ancestors(pid: Pid) -> impl Iterator<Item = String> {
    const DEPTH_MAX: usize = 16;
    let mut pid = pid;
    std::iter::from_fn(move || {
        pid = parent_of(pid).filter(|parent| *parent > 1)?;
        let program = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        Some(program.file_name()?.to_string_lossy().into_owned())
    })
    .take(DEPTH_MAX)
}

/// See proc(5), `stat`.
fn parent_of(pid: Pid) -> Option<Pid> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may hold any character.
    let (_, rest) = status.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// Does the call come from a program that reads its commands' pipes to their end before it goes on?
fn is_drained(pid: Pid) -> bool {
    ancestors(pid).any(|name| matches!(name.as_str(), "ninja" | "samu"))
}

/// The compiler cache or the like that made this call.
fn launcher_above(pid: Pid) -> Option<String> {
    let parent = ancestors(pid).next()?;
    matches!(parent.as_str(), "ccache" | "sccache" | "distcc" | "icecc").then_some(parent)
}
