//! What becomes of one call of a tool: see the picture in [`super::pass`].

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_cli::frontend::{
    Call, Inode, LocalReason, Plan, PlannedOutput, PlannedThunk, Writing, is_executable,
};
use mesh_node::colour::without_colour;
use mesh_protocol::limits;
use mesh_protocol::name::ValueName;
use mesh_protocol::thunk::{Reduction, is_cut};
use mesh_store::{ObjectReader, Store};

use super::caller::launcher_above;
use super::interposer;
use super::materialise::{self, Wanted};
use super::pass::{Mode, Pass, failed_reason, file_of};
use super::slots::Pid;
use super::speculation::Speculation;
use super::step::{CallKey, End, Step};
use super::streams::{Destination, Diagnostics, Manner};
use super::undo::CannotUndo;
use super::undo::journal::StepNumber;
use super::wire::{Done, Request, Streams};
use crate::error::CliError;

/// How often a call may find that it needs the content of one more placeholder.
const PLANS_MAX: usize = 64;

/// Work that a failure may repeat: the time that commands have run which no memo knows.
const LOSS_MAX: Duration = Duration::from_millis(200);

/// Without these, a compiler's passes cannot read each other's files, unless root runs them.
const OWNER_ACCESS: u32 = 0o600;

/// What a call's caller is to do.
#[derive(Debug)]
pub(super) enum Reply {
    /// It is done.
    Done(Done),
    /// Become the tool at this path.
    Local(String),
    /// Run the tool at this path, and report its exit status, because the sandbox failed.
    Report { program: String, reason: String },
}

/// To a call of a build that is being taken back.
const DOOMED: Reply = Reply::Done(Done { stdout: vec![], stderr: vec![], status: 1 });

impl Pass {
    /// Decides about one call. Blocks as long as the caller has to wait.
    pub(super) fn answer(self: &Arc<Self>, request: Request, streams: Streams, pid: Pid) -> Reply {
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
            let stderr = text.into_bytes();
            return Reply::Done(Done { stdout: vec![], stderr, status: 127 });
        };
        let key = CallKey { arguments: arguments.clone(), working_directory };
        let call = Call { program, arguments, working_directory: directory, environment };
        if let Some(reason) = self.site.mark_of(&key) {
            self.site.console.local(&call.arguments, &reason);
            return Reply::Report { program: text(&call.program), reason };
        }
        if umask & OWNER_ACCESS != 0 {
            self.site.console.local(&call.arguments, "the umask denies files to their owner");
            return Reply::Local(text(&call.program));
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
            std::fs::metadata(candidate).is_ok_and(|found| {
                let is_interposer = self.site.interposer.is(&found);
                is_executable(&found) && !is_interposer && !interposer::is_any(candidate, &found)
            })
        })
    }

    fn plan(self: &Arc<Self>, call: &Call, pid: Pid) -> Result<PlannedThunk, Refusal> {
        for _ in 0..PLANS_MAX {
            let started = Instant::now();
            match self.site.frontends.plan(call, &self.files) {
                Plan::Thunk(planned) if has_outputs_of_sandbox(&planned) => {
                    let reason = "its files are where the sandbox has its own";
                    return Err(Refusal::Local(LocalReason::Unclear(reason)));
                }
                Plan::Thunk(planned) => {
                    self.site.planned(&planned.thunk, started.elapsed());
                    // What is written into must not be filled at the same time.
                    for output in planned.outputs.iter().filter(|it| self.keeps_file(it)) {
                        self.make_real(&output.path, pid)?;
                    }
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

    fn step(self: &Arc<Self>, call: &Call, asked: Asked) -> Reply {
        match self.try_step(call, asked) {
            Ok(reply) => reply,
            Err(error) => {
                // The store or the disk: the real tool may still do it, and says so if not.
                self.site.console.local(&call.arguments, &error.to_string());
                // That words cannot be given as they came is nothing that somebody could mend.
                if error.code() != crate::exit::DATA {
                    self.site.trouble(&error);
                }
                Reply::Local(text(&call.program))
            }
        }
    }

    fn try_step(self: &Arc<Self>, call: &Call, asked: Asked) -> Result<Reply, CliError> {
        let Asked { key, planned, streams, umask, pid } = asked;
        let (name, bytes) =
            planned.thunk.encode().map_err(|error| CliError::new(crate::exit::INTERNAL, error))?;
        self.site.console.planned(name, &planned.description);
        let diagnostics = Diagnostics::of(&streams, &self.words);
        let strip_colour = planned.strip_colour_unless_tty && !wants_colour(call, &diagnostics);
        let manner = Manner { strip_colour, is_one: diagnostics.is_one };
        if self.mode != Mode::OnUse
            && let Some(reduction) = self.site.store.recall(name)?
        {
            match self.result(&planned.outputs, &reduction, umask, manner) {
                Ok(result) => {
                    self.site.console.reused(name);
                    return self.give(result, pid);
                }
                // Found damaged just now, it is gone, and the step runs as if nobody knew.
                Err(error) if error.is_missing() => {
                    self.site.console.note(&error);
                }
                Err(error) => return Err(error),
            }
        }
        self.site.store.put_bytes(&bytes)?;
        let PlannedThunk { thunk, outputs, description, .. } = planned;
        let thunk = Arc::new(thunk);
        self.runtime.block_on(self.driver.add(name, Arc::clone(&thunk)));
        let words = match self.mode {
            Mode::OnUse => Destination::OWN,
            _ => diagnostics.words,
        };
        let mut step = Step::new(name, key, description, outputs, manner, words);
        step.printer = thunk.primary_output().map(|tag| step.output(tag));
        let step = Arc::new(step);
        self.state().names.insert(name);
        // What leaves no file prints what is wanted.
        let may_be_early = !step.outputs.is_empty()
            && match self.mode {
                Mode::Eager => false,
                Mode::OnUse => true,
                Mode::Lazy => !diagnostics.must_wait && self.has_little_to_lose(),
            }
            && !step.outputs.iter().any(|output| self.keeps_file(output));
        if may_be_early && self.answer_early(&step, umask, pid)? {
            return Ok(Reply::Done(Done { stdout: vec![], stderr: vec![], status: 0 }));
        }
        self.eager(call, &step, umask, pid)
    }

    /// Would a failure repeat only little work that no memo has? If not, nothing is answered early
    /// any more.
    fn has_little_to_lose(&self) -> bool {
        if self.keeper.busy() > LOSS_MAX {
            self.close("commands that no model knows have run for long");
            return false;
        }
        if self.words.is_full() {
            self.close("the build has printed more than is remembered");
            return false;
        }
        true
    }

    /// Leaves placeholders in place of outputs, if the pass may run ahead of this step.
    fn answer_early(
        self: &Arc<Self>,
        step: &Arc<Step>,
        umask: u32,
        pid: Pid,
    ) -> Result<bool, CliError> {
        let _writing = self.writing()?;
        let Some(speculation) = &self.speculation else { return Ok(false) };
        let open = |number| self.recipes.step(pid, number);
        let Some(number) = speculation.begin(step, open) else { return Ok(false) };
        let saved = step.outputs.iter().try_for_each(|output| {
            let undo = &speculation.undo;
            undo.name(&output.path, Some(number))
        });
        if let Err(CannotUndo(reason)) = saved {
            speculation.close(&reason);
            speculation.finished(number);
            return Ok(false);
        }
        let _ = step.number.set(number);
        if let Err(error) = self.lay_placeholders(step, umask) {
            // Eagerly the build sees what is wrong.
            speculation.failed();
            return Err(error);
        }
        if self.mode == Mode::Lazy {
            // What the build has written so far comes before the words of this step.
            self.words.mark(number);
            self.begin(step);
        }
        Ok(true)
    }

    fn lay_placeholders(&self, step: &Arc<Step>, umask: u32) -> Result<(), CliError> {
        for output in &step.outputs {
            let mode = materialise::mode_for(output, output.executable, umask);
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
        umask: u32,
        pid: Pid,
    ) -> Result<Reply, CliError> {
        step.begin();
        let reduced = self.waiting(pid, self.reduce(step));
        step.finish(if reduced.is_ok() { End::Done } else { End::Failed });
        match reduced {
            Ok(_) => {
                let reduction = self.reduction(step)?;
                self.give(self.result(&step.outputs, &reduction, umask, step.manner)?, pid)
            }
            Err(_) if self.speculation.as_ref().is_some_and(|it| it.has_failed()) => Ok(DOOMED),
            Err(error) => {
                let reason = failed_reason(&error);
                self.site.console.local(&call.arguments, &reason);
                Ok(Reply::Report { program: text(&call.program), reason })
            }
        }
    }

    /// What a finished step's thunk came to.
    pub(super) fn reduction(&self, step: &Step) -> Result<Arc<Reduction>, CliError> {
        let found = self.site.store.recall(step.name)?;
        found.ok_or_else(|| {
            let text = format!("{}: its result is gone from the store", step.description);
            CliError::new(crate::exit::NOT_FOUND, text)
        })
    }

    /// Opens all that a step has come to: nothing of it is written before all has been checked.
    fn result(
        &self,
        outputs: &[PlannedOutput],
        reduction: &Reduction,
        umask: u32,
        manner: Manner,
    ) -> Result<StepResult, CliError> {
        let mut files = Vec::new();
        for output in outputs {
            let Some(object) = reduction.outputs.get(&output.tag) else { continue };
            let (name, executable) = file_of(object)?;
            let bytes = self.site.store.open_checked(name.digest())?;
            // Looked up first: what is kept of a file is another link to it.
            let mode = materialise::mode_for(output, executable, umask);
            let (path, writing) = (output.path.clone(), self.writing_of(output));
            files.push(ResultFile {
                wanted: Wanted { path, name, mode, writing },
                executable,
                bytes,
            });
        }
        let (stdout, stderr) = self.words_of(reduction, manner)?;
        Ok(StepResult { files, done: Done { stdout, stderr, status: 0 } })
    }

    /// Writes a step's files; the reply has its words.
    fn give(&self, result: StepResult, pid: Pid) -> Result<Reply, CliError> {
        let saving = self.speculation.as_ref().filter(|speculation| speculation.is_saving());
        let number = saving.and_then(|speculation| {
            speculation.undo.savepoint(|number| self.recipes.step(pid, number)).ok()
        });
        if let Some(reason) = self.save(&result.files, number) {
            self.runtime.block_on(self.settle(&reason));
        }
        let _writing = self.writing()?;
        for ResultFile { wanted, executable, mut bytes } in result.files {
            let written = materialise::write(&wanted, &mut bytes)?;
            self.files.stored.know(&written, wanted.name);
            self.site.brought(wanted.name.digest().length);
            if executable {
                Store::settle_program(&wanted.path)?;
            }
        }
        if let Some((speculation, number)) = saving.zip(number) {
            // Without this record an interrupted build only goes back further than it has to.
            let _ = speculation.undo.finished(number);
        }
        Ok(Reply::Done(result.done))
    }

    /// Saves what is where files will be written. Returns why that is not possible.
    fn save(&self, files: &[ResultFile], number: Option<StepNumber>) -> Option<String> {
        let speculation = self.speculation.as_ref()?;
        let unsaved = files.iter().filter_map(|ResultFile { wanted, .. }| {
            let is_into = materialise::is_written_into(&wanted.path, wanted.writing);
            speculation.save(|undo| match is_into {
                true => undo.content(&wanted.path),
                false => undo.name(&wanted.path, number),
            })
        });
        unsaved.last()
    }

    /// Returns how an output is written. A placeholder is never written into: its step may be about
    /// to fill it. As long as changes are saved, a file is replaced where nobody sees the difference,
    /// because to keep it then costs no copy.
    fn writing_of(&self, output: &PlannedOutput) -> Writing {
        let is_saving = self.speculation.as_ref().is_some_and(Speculation::is_saving);
        match self.is_placeholder(&output.path) || is_saving && !self.keeps_file(output) {
            true => Writing::Replace,
            false => output.writing,
        }
    }

    /// Returns true if an output is written into a file that a placeholder cannot stand for, or that somebody
    /// has open, who reads or writes on in it.
    fn keeps_file(&self, output: &PlannedOutput) -> bool {
        let is_open = || {
            materialise::is_written_into(&output.path, output.writing)
                && !self.is_placeholder(&output.path)
                && mesh_store::is_open_elsewhere(&output.path)
        };
        materialise::keeps_file(output) || is_open()
    }

    fn is_placeholder(&self, path: &Path) -> bool {
        let existing = std::fs::symlink_metadata(path);
        existing.is_ok_and(|metadata| {
            self.files.output_at(path, &metadata).is_ok_and(|found| found.is_some())
        })
    }

    pub(super) fn words_of(
        &self,
        reduction: &Reduction,
        manner: Manner,
    ) -> Result<(Vec<u8>, Vec<u8>), CliError> {
        let read = |name: ValueName| match name.digest().length {
            0 => Ok(Vec::new()),
            // A build sees all that its tools write: this one runs as if mesh were absent.
            _ if is_cut(name) => {
                Err(CliError::new(crate::exit::DATA, "it writes more than mesh keeps"))
            }
            _ => Ok(self.site.store.read(name.digest(), limits::STREAM_BYTES)?),
        };
        let (stdout, stderr) = (read(reduction.stdout)?, read(reduction.stderr)?);
        if manner.is_one && !stdout.is_empty() && !stderr.is_empty() {
            let text = "it writes on both streams, and in which order is not kept";
            return Err(CliError::new(crate::exit::DATA, text));
        }
        Ok((stdout, if manner.strip_colour { without_colour(&stderr) } else { stderr }))
    }
}

/// Would files be left where a sandbox has none of the host's?
fn has_outputs_of_sandbox(planned: &PlannedThunk) -> bool {
    let is_own = |output: &PlannedOutput| {
        ["/dev", "/proc", "/sys"].iter().any(|place| output.path.starts_with(place))
    };
    planned.outputs.iter().any(is_own)
}

/// The files and words of a step, all checked.
struct StepResult {
    files: Vec<ResultFile>,
    done: Done,
}

struct ResultFile {
    wanted: Wanted,
    executable: bool,
    bytes: ObjectReader,
}

/// A planned call and who asked for it.
struct Asked {
    key: CallKey,
    planned: PlannedThunk,
    streams: Streams,
    umask: u32,
    pid: Pid,
}

/// Why a call becomes no step.
enum Refusal {
    /// It runs here.
    Local(LocalReason),
    /// What it needs has failed; the pass will be repeated.
    Doomed,
}

fn text(program: &Path) -> String {
    program.to_string_lossy().into_owned()
}

/// Would the compiler itself have coloured what it writes (GCC manual, "-fdiagnostics-color")?
fn wants_colour(call: &Call, diagnostics: &Diagnostics) -> bool {
    let variable = |name: &str| call.environment.get(name).map(String::as_str);
    let terminal = variable("TERM").is_some_and(|term| term != "dumb");
    diagnostics.is_terminal && terminal && variable("GCC_COLORS") != Some("")
}
