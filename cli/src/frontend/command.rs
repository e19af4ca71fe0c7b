//! Any command as one thunk: its inputs and outputs are given, what it takes to start it is found.
//!
//! For a tool that has a model, what the model knows the tool to read and to leave is added to
//! what is given; the thunk is then the one that a build makes of the same call.

use std::collections::BTreeMap;
use std::path::PathBuf;

use mesh_protocol::name::ValueName;
use mesh_protocol::thunk::{Source, Thunk};
use thiserror::Error;

use super::context::{Context, Draft, OutputKind};
use super::directory::{self, Whole};
use super::dirs::Kind;
use super::passed::{self, Unseen};
use super::plan::{Call, Files, PlannedOutput, PlannedThunk};
use super::reason::{LocalReason, Step, Stop};
use super::tool::Tool;
use super::view::join;
use super::writing::Writing;
use super::{Frontends, model, program};

/// A command and what its user says about it.
#[derive(Debug, Clone, Default)]
pub struct CommandLine {
    /// The name of the program, and its arguments.
    pub words: Vec<String>,
    /// Where it starts.
    pub working_directory: PathBuf,
    /// The environment here: `PATH` to find programs by, and what models look at.
    pub environment: BTreeMap<String, String>,
    /// The variables that reach the command.
    pub passed: BTreeMap<String, String>,
    /// Files and directories that it reads.
    pub inputs: Vec<String>,
    /// Files and directories that it leaves; a path that ends in `/` or is a directory now is one.
    pub outputs: Vec<String>,
    /// What it reads on standard input.
    pub stdin: Option<ValueName>,
    /// Does its standard error go to a terminal that shows colours?
    pub colour: bool,
    /// Wall time that it may take, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Memory that it may take, in bytes.
    pub memory_bytes: Option<u64>,
}

/// A command as a thunk.
#[derive(Debug, Clone)]
pub struct PlannedCommand {
    /// The step.
    pub thunk: Thunk,
    /// What it leaves: what was given, and what a model knows of.
    pub outputs: Vec<PlannedOutput>,
    /// Words of the command that are files which it cannot see.
    pub not_given: Vec<String>,
    /// Files and directories of this machine that its variables name, and that it cannot see.
    pub unseen: Vec<Unseen>,
    /// A few words for a progress line.
    pub description: String,
    /// Why the model of this tool was of no help, if there is one.
    pub unmodelled: Option<LocalReason>,
}

/// Why a command cannot be a thunk.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CommandError {
    /// A shell would end with status 127.
    #[error("{name}: {problem}")]
    NotFound {
        /// The program as it was called.
        name: String,
        /// In words.
        problem: &'static str,
    },
    /// A shell would end with status 126.
    #[error("{name}: {problem}")]
    NotExecutable {
        /// The program as it was called.
        name: String,
        /// In words.
        problem: &'static str,
    },
    /// Something that cannot be an input.
    #[error("{name} cannot be an input: it is {problem}")]
    Input {
        /// As it was given.
        name: String,
        /// In words.
        problem: &'static str,
    },
    /// Something about its inputs or outputs, or about the machine.
    #[error(transparent)]
    Reason(LocalReason),
    /// These are placeholders, which have to be forced first.
    #[error("{} has not been made yet", .0.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", "))]
    NeedReal(Vec<PathBuf>),
}

impl From<Stop> for CommandError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Local(reason) => Self::Reason(reason),
            Stop::NeedReal(paths) => Self::NeedReal(paths),
        }
    }
}

impl From<LocalReason> for CommandError {
    fn from(reason: LocalReason) -> Self {
        Self::Reason(reason)
    }
}

impl Frontends {
    /// Makes a thunk of a command.
    pub fn plan_command(
        &self,
        line: &CommandLine,
        files: &dyn Files,
    ) -> Result<PlannedCommand, CommandError> {
        let Some(name) = line.words.first() else {
            return Err(LocalReason::Unclear("no command").into());
        };
        let mut call = Call {
            program: PathBuf::from(name),
            arguments: line.words.clone(),
            working_directory: line.working_directory.clone(),
            environment: line.environment.clone(),
        };
        let path = program::find(&Context::new(&self.settings, &self.caches, &call, files)?, name)?;
        call.program = call.working_directory.join(&path);
        let given = || -> Result<Context<'_>, CommandError> {
            let mut context = Context::new(&self.settings, &self.caches, &call, files)?;
            add_given(&mut context, line)?;
            passed::show(&mut context, &line.passed)?;
            Ok(context)
        };

        let tool = call.program.file_name().and_then(|name| name.to_str()).and_then(Tool::of);
        let mut hints = Hints::default();
        if let Some(tool) = tool {
            let context = given()?;
            hints.unseen = passed::unseen(&context, &line.passed);
            let planned = match line.stdin {
                Some(_) => Err(LocalReason::StandardInput.into()),
                None => model::plan(tool, context),
            };
            match planned {
                Ok(planned) => return finish(planned, line, hints),
                // The tool could only say the same, and not even that without its other parts.
                Err(Stop::Local(reason @ LocalReason::Missing(_))) => return Err(reason.into()),
                Err(Stop::Local(reason)) => hints.unmodelled = Some(reason),
                Err(stop) => return Err(stop.into()),
            }
        }
        let planned = plan_plain(given()?, &path, line, &mut hints)?;
        finish(planned, line, hints)
    }
}

/// Shows the inputs and declares the outputs.
fn add_given(context: &mut Context<'_>, line: &CommandLine) -> Result<(), CommandError> {
    for text in &line.inputs {
        let cannot = |problem| CommandError::Input { name: text.clone(), problem };
        let Some(place) = context.view.resolve(context.cwd, text) else {
            let path = line.working_directory.join(text);
            return Err(match std::fs::metadata(path) {
                Ok(_) => cannot("neither a file nor a directory"),
                Err(_) => LocalReason::Missing(text.clone()).into(),
            });
        };
        if place.real.len() == 1 {
            return Err(cannot("the root directory"));
        }
        if place.is_directory {
            directory::show(context, text, Whole::Named)?;
        } else {
            let (_, file) = context.input(text)?;
            program::support(context, text, file.executable)?;
        }
    }
    Ok(line.outputs.iter().try_for_each(|text| add_output(context, text))?)
}

/// Declares an output at the real path that `text` leads to. Directories that do not exist yet are
/// made where the command runs, and here when there is something to put into them.
fn add_output(context: &mut Context<'_>, text: &str) -> Step<()> {
    let special = || Stop::from(LocalReason::SpecialOutput(text.to_owned()));
    if let Some(place) = context.view.resolve(context.cwd, text) {
        if place.real.len() == 1 {
            return Err(special());
        }
        context.view.add_way(&place);
        return if place.is_directory {
            context.declare_directory("out", &place.real)
        } else {
            context.declare("out", &place.real, OutputKind::file(Writing::Replace))
        };
    }
    let mut missing = Vec::new();
    let mut existing = text.trim_end_matches('/');
    let base = loop {
        let (directory, name) = match existing.rsplit_once('/') {
            Some(("", name)) => ("/", name),
            Some((directory, name)) => (directory.trim_end_matches('/'), name),
            None => (".", existing),
        };
        match name {
            "." => {}
            "" | ".." => return Err(special()),
            name => missing.push(name),
        }
        if let Some(id) = context.directory(directory) {
            break id;
        }
        if matches!(directory, "." | "/") {
            return Err(special());
        }
        existing = directory;
    };
    // A link to nowhere, a file where a directory is meant, a device.
    let first = missing.last().ok_or_else(special)?;
    if context.view.kind(base, first).is_some_and(|kind| kind != Kind::Directory) {
        return Err(special());
    }
    let path =
        missing.iter().rev().fold(context.view.path_of(base), |path, name| join(&path, name));
    if text.ends_with('/') {
        context.declare_directory("out", &path)
    } else {
        context.declare("out", &path, OutputKind::file(Writing::Replace))
    }
}

/// Plans a command that nothing is known of.
fn plan_plain(
    mut context: Context<'_>,
    path: &str,
    line: &CommandLine,
    hints: &mut Hints,
) -> Result<PlannedThunk, CommandError> {
    hints.not_given = not_given(&context, line);
    hints.unseen = passed::unseen(&context, &line.passed);
    let launch = program::launch(&mut context, path, &line.words)?;
    context.program = launch.executable;
    let closure = context.closure()?;
    let draft = Draft {
        arguments: launch.arguments,
        environment: line.passed.clone(),
        strip_colour_unless_tty: false,
        description: line.words.join(" "),
    };
    Ok(context.assemble(draft, &closure)?)
}

/// Words that are files or directories here, `--option=FILE` too, but not in the sandbox.
fn not_given(context: &Context<'_>, line: &CommandLine) -> Vec<String> {
    let words = line.words.iter().skip(1);
    let values = words.flat_map(|word| [Some(word.as_str()), word.split_once('=').map(|(_, v)| v)]);
    let mut missing = Vec::new();
    for word in values.flatten() {
        let Some(place) = context.view.resolve(context.cwd, word) else { continue };
        let is_shown = context.view.shows(&place.real) || context.is_output(&place.real);
        if !is_shown && !missing.iter().any(|known| known == word) {
            missing.push(word.to_owned());
        }
    }
    missing
}

/// What a person may have to know.
#[derive(Default)]
struct Hints {
    not_given: Vec<String>,
    unseen: Vec<Unseen>,
    unmodelled: Option<LocalReason>,
}

/// Adds what no model knows of.
fn finish(
    planned: PlannedThunk,
    line: &CommandLine,
    hints: Hints,
) -> Result<PlannedCommand, CommandError> {
    let mut spec = planned.thunk.spec().clone();
    if planned.strip_colour_unless_tty && !line.colour {
        spec.function.arguments.retain(|word| word != model::COLOUR);
    }
    let passed = line.passed.iter().map(|(name, value)| (name.clone(), value.clone()));
    spec.function.environment.extend(passed);
    spec.stdin = line.stdin.map(Source::Value);
    spec.limits.timeout_ms = line.timeout_ms.unwrap_or(spec.limits.timeout_ms);
    spec.limits.memory_bytes = line.memory_bytes.or(spec.limits.memory_bytes);
    let thunk = Thunk::try_from(spec).map_err(|error| LocalReason::Thunk(error.to_string()))?;
    let PlannedThunk { outputs, description, .. } = planned;
    let Hints { not_given, unseen, unmodelled } = hints;
    Ok(PlannedCommand { thunk, outputs, not_given, unseen, description, unmodelled })
}
