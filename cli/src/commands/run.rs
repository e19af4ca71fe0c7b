//! `mesh run`

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use mesh_cli::frontend::{
    CommandError, CommandLine, FileSource, Files, Frontends, LocalReason, PlannedCommand,
    ReadError, Settings, StoreFiles, Unseen, regular_file,
};
use mesh_node::driver::{Progress, Watcher};
use mesh_node::exec::{Exit, Outcome, SandboxEngine};
use mesh_protocol::graph::Cause;
use mesh_protocol::name::{OutputRef, Tag, ThunkName, ValueName};
use mesh_protocol::sched::force::ForcePolicy;
use mesh_protocol::thunk::OutputObject;
use mesh_store::Store;
use rustix::fs::FileType;
use serde_json::{Map, Value, json};

use super::bring::Bring;
use super::{print_bytes, print_line};
use crate::args::RunArgs;
use crate::build::{interposer, placeholder};
use crate::config::{BuildSettings, Config};
use crate::ended::{Ran, status};
use crate::error::CliError;
use crate::forcing::{Forcing, Where};
use crate::ui::{Console, Verbosity};
use crate::words::{self, Words};
use crate::{exit, home, stderr, threads};

/// How a command ended, now or when it ran.
struct Ended {
    ran: Ran,
    outputs: BTreeMap<Tag, OutputObject>,
    reused: bool,
}

pub(crate) fn run(args: &RunArgs) -> Result<u8, CliError> {
    // First, while there is no other thread that makes files.
    let umask = read_umask();
    home::with_store(|store| run_in(store, args, umask))
}

fn run_in(store: &Store, args: &RunArgs, umask: u32) -> Result<u8, CliError> {
    let settings = BuildSettings::of(&Config::of_home()?, args.into());
    let console =
        Console::new(if settings.quiet.value { Verbosity::Quiet } else { Verbosity::Normal });
    let planned = plan(args, store)?;
    let (thunk, bytes) = planned.thunk.encode().map_err(|e| CliError::new(exit::DATA, e))?;
    store.put_bytes(&bytes)?;
    for Unseen { variable, path } in &planned.unseen {
        console.note(format_args!(
            "{variable} names {path}, which the command cannot see; -i {path} gives it"
        ));
    }
    console.planned(thunk, &planned.description);
    if args.no_memo {
        store.forget(thunk)?;
    }
    let runtime = threads::start()?;
    let ended = runtime.block_on(execute(&settings, store, &console, thunk, &planned));
    let summary = console.finish();
    let ended = ended?;
    let brought = bring(&Bring::new(store, &planned.thunk, umask), &planned, &ended);
    if args.json {
        print_json(store, thunk, &planned, &ended)?;
    } else {
        show(store, &ended)?;
    }
    console.note(summary);
    if args.stdin.is_none() && has_input() {
        console.note("standard input was not given to the command; --stdin - does that");
    }
    brought?;
    finish(&settings, store, &planned, &ended)
}

/// Does somebody write to our standard input, or does it lead to a file with more in it?
fn has_input() -> bool {
    let stdin = io::stdin();
    let Ok(found) = rustix::fs::fstat(&stdin) else { return false };
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Fifo | FileType::Socket => {
            rustix::io::ioctl_fionread(&stdin).is_ok_and(|bytes| bytes > 0)
        }
        FileType::RegularFile => rustix::fs::tell(&stdin).is_ok_and(|at| at < found.st_size as u64),
        _ => false,
    }
}

fn read_umask() -> u32 {
    use rustix::fs::Mode;
    use rustix::process::umask;
    let mask = umask(Mode::RWXG | Mode::RWXO);
    umask(mask);
    mask.bits()
}

fn plan(args: &RunArgs, store: &Store) -> Result<PlannedCommand, CliError> {
    let line = command_line(args, store)?;
    let hidden_directories = interposers(line.environment.get("PATH"));
    let frontends = Frontends::new(Settings { hidden_directories });
    let files = RealFiles(StoreFiles::new(store.clone()));
    frontends.plan_command(&line, &files).map_err(|error| {
        let code = match &error {
            CommandError::NotFound { .. } => exit::NO_COMMAND,
            CommandError::NotExecutable { .. } => exit::NOT_EXECUTABLE,
            CommandError::NeedReal(_)
            | CommandError::Reason(LocalReason::Missing(_) | LocalReason::Toolchain(_)) => {
                exit::NOT_FOUND
            }
            CommandError::Reason(LocalReason::Failed(_)) => exit::IO,
            CommandError::Input { .. } | CommandError::Reason(_) => exit::DATA,
        };
        CliError::new(code, error)
    })
}

/// The host's files; one that a build has yet to make is an error.
struct RealFiles(StoreFiles);

impl Files for RealFiles {
    fn source(&self, path: &Path) -> io::Result<Option<FileSource>> {
        let Some(metadata) = regular_file(path)? else { return Ok(None) };
        let lengths = placeholder::BYTES_MIN..=placeholder::BYTES_MAX;
        if lengths.contains(&metadata.len()) && placeholder::read(path)?.is_some() {
            return Err(io::Error::other(
                "a placeholder: `mesh force` with its path makes it real",
            ));
        }
        self.0.source_of(path, &metadata).map(Some)
    }

    fn read(&self, path: &Path) -> Result<Arc<[u8]>, ReadError> {
        self.0.read(path)
    }

    fn put(&self, bytes: &[u8]) -> io::Result<ValueName> {
        self.0.put(bytes)
    }
}

fn command_line(args: &RunArgs, store: &Store) -> Result<CommandLine, CliError> {
    let texts = |paths: &[PathBuf]| -> Result<Vec<String>, CliError> {
        paths.iter().map(|path| text(path.as_os_str())).collect()
    };
    let mut passed = BTreeMap::new();
    for variable in &args.env {
        let (name, value) = variable_of(variable)?;
        passed.extend(value.map(|value| (name, value)));
    }
    // What is not UTF-8 here is of no use to a thunk; models look at few names only.
    let environment = std::env::vars_os();
    let environment = environment.filter_map(|(k, v)| Some((into_text(k)?, into_text(v)?)));
    let mut environment: BTreeMap<String, String> = environment.collect();
    environment.extend(passed.clone());
    let colour = io::stderr().is_terminal()
        && environment.get("TERM").is_some_and(|term| term != "dumb")
        && environment.get("GCC_COLORS").is_none_or(|colours| !colours.is_empty());
    Ok(CommandLine {
        words: args.command.iter().map(|word| text(word)).collect::<Result<_, _>>()?,
        working_directory: std::env::current_dir().map_err(CliError::io("."))?,
        environment,
        passed,
        inputs: texts(&args.inputs)?,
        outputs: texts(&args.outputs)?,
        stdin: args.stdin.as_deref().map(|path| stdin(store, path)).transpose()?,
        colour,
        timeout_ms: args.timeout,
        memory_bytes: args.memory,
    })
}

fn into_text(text: OsString) -> Option<String> {
    text.into_string().ok()
}

fn text(word: &OsStr) -> Result<String, CliError> {
    let problem = || {
        let problem = format!("{} is not UTF-8", word.to_string_lossy());
        CliError::new(exit::DATA, problem).hint("a thunk can only name text")
    };
    word.to_str().map(str::to_owned).ok_or_else(problem)
}

/// `NAME=VALUE`, or `NAME` with the value that it has here, if it has one.
fn variable_of(word: &OsStr) -> Result<(String, Option<String>), CliError> {
    let word = text(word)?;
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => {
            let value = std::env::var_os(&word).map(|value| text(&value)).transpose()?;
            (word, value)
        }
    };
    if name.is_empty() {
        return Err(CliError::new(exit::USAGE, "--env wants NAME or NAME=VALUE"));
    }
    Ok((name, value))
}

fn stdin(store: &Store, path: &Path) -> Result<ValueName, CliError> {
    if path == Path::new("-") {
        let file = std::fs::File::open("/dev/stdin").map_err(CliError::io("standard input"))?;
        return Ok(ValueName(store.put_file(&file)?));
    }
    Ok(store.name_file(path)?.name)
}

/// Directories of `PATH` in which this program stands in for compilers (`mesh build`).
fn interposers(path: Option<&String>) -> Vec<PathBuf> {
    let is_one =
        |path: &Path| std::fs::metadata(path).is_ok_and(|found| interposer::is_any(path, &found));
    let directories = path.map(String::as_str).unwrap_or_default().split(':').map(PathBuf::from);
    directories
        .filter(|directory| ["cc", "gcc", "ld"].iter().any(|n| is_one(&directory.join(n))))
        .collect()
}

async fn execute(
    settings: &BuildSettings,
    store: &Store,
    console: &Console,
    name: ThunkName,
    planned: &PlannedCommand,
) -> Result<Ended, CliError> {
    let engine = SandboxEngine::start(store.clone(), settings.sandbox())
        .map_err(|error| CliError::new(exit::UNAVAILABLE, error).hint("mesh doctor says more"))?;
    let outcome = Arc::new(Mutex::new(None));
    let watcher = watcher(console.clone(), Arc::clone(&outcome));
    let policy = ForcePolicy::default();
    let (at, home) = (Where::of(settings), home::directory()?);
    let forcing = Forcing { store, engine: Arc::new(engine), home: &home, console, at };
    let driver = forcing.driver(policy, 1, watcher).await;
    let Some(tag) = planned.thunk.spec().outputs.keys().next() else {
        return Err(CliError::new(exit::INTERNAL, "a thunk without outputs"));
    };
    // An optional output may be missing; whether the command succeeded shows elsewhere.
    let answer = driver.demand(OutputRef { thunk: name, tag: tag.clone() }).await;
    let ran: Option<Outcome> = outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(ran) = ran {
        let Outcome { exit, outputs, stdout, stderr, usage, .. } = ran;
        let ran = Ran { exit, stdout, stderr, usage };
        return Ok(Ended { ran, outputs, reused: false });
    }
    match (store.recall(name)?, answer) {
        (Some(known), _) => Ok(Ended {
            ran: Ran {
                exit: Exit::Code(0),
                stdout: known.stdout,
                stderr: known.stderr,
                usage: known.usage,
            },
            outputs: known.outputs.clone(),
            reused: true,
        }),
        (None, Err(error)) => {
            // Nothing ran, so what is to blame is the thunk itself.
            let is_data = matches!(error.cause, Cause::Program | Cause::Graph);
            let code = if is_data { exit::DATA } else { exit::UNAVAILABLE };
            Err(CliError::new(code, error))
        }
        (None, Ok(_)) => Err(CliError::new(exit::INTERNAL, "a result that was lost at once")),
    }
}

/// Counts, and keeps the outcome of the one run.
fn watcher(console: Console, outcome: Arc<Mutex<Option<Outcome>>>) -> Watcher {
    Box::new(move |progress| {
        console.take(&progress);
        if let Progress::Ended(_, Ok(ran)) = progress {
            *outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(ran);
        }
    })
}

/// Shows what the command wrote, as it wrote it, and then says what is missing of that.
fn show(store: &Store, ended: &Ended) -> Result<(), CliError> {
    let words = Words::read(store, ended.ran.stdout, ended.ran.stderr)?;
    stderr::write_bytes(&words.stderr.bytes)?;
    let printed = print_bytes(&words.stdout.bytes);
    words.notice().into_iter().for_each(stderr::write);
    printed
}

/// Brings what the command left, also where it failed: so would have the command itself.
fn bring(bring: &Bring<'_>, planned: &PlannedCommand, ended: &Ended) -> Result<(), CliError> {
    for output in &planned.outputs {
        if let Some(object) = ended.outputs.get(&output.tag) {
            bring.output(object, &output.path)?;
        }
    }
    Ok(())
}

/// Required outputs that a command which succeeded did not leave.
fn missing<'p>(planned: &'p PlannedCommand, ended: &Ended) -> Vec<&'p Path> {
    let outputs = planned.outputs.iter().filter(|output| output.required);
    let missing = outputs.filter(|output| !ended.outputs.contains_key(&output.tag));
    missing.map(|output| output.path.as_path()).collect()
}

fn finish(
    settings: &BuildSettings,
    store: &Store,
    planned: &PlannedCommand,
    ended: &Ended,
) -> Result<u8, CliError> {
    match ended.ran.exit {
        Exit::TimedOut => stderr::write_line("mesh: the command ran out of time"),
        Exit::OutOfMemory => stderr::write_line("mesh: the command ran out of memory"),
        Exit::TooLarge(excess) => {
            stderr::write_line(format_args!("mesh: the command failed: {excess}"))
        }
        Exit::Code(_) | Exit::Signal(_) => {}
    }
    let code = status(ended.ran.exit);
    if !settings.quiet.value {
        // Also of one that succeeded: it may have gone on without what it did not find.
        hints(planned, code == exit::NO_COMMAND || misses_programs(store, ended));
    }
    let missing = missing(planned, ended);
    if ended.ran.exit != Exit::Code(0) || missing.is_empty() {
        return Ok(code);
    }
    let paths: Vec<String> = missing.iter().map(|p| p.display().to_string()).collect();
    let text = format!("the command left no {}", paths.join(", no "));
    Err(CliError::new(exit::FOUND_WRONG, text))
}

/// Did a shell say that there is no such program? In a pipeline only the last one's status shows.
fn misses_programs(store: &Store, ended: &Ended) -> bool {
    let Ok(stderr) = words::read(store, ended.ran.stderr) else { return false };
    let mut lines = stderr.bytes.split(|byte| *byte == b'\n');
    lines.any(|line| line.ends_with(b": not found") || line.ends_with(b": command not found"))
}

/// Why the command may have come to something else here than without mesh.
fn hints(planned: &PlannedCommand, misses_programs: bool) {
    for word in &planned.not_given {
        stderr::write_line(format_args!("hint: {word} was not given with -i"));
    }
    if let Some(reason) = &planned.unmodelled {
        stderr::write_line(format_args!("hint: only what -i gives was there for it: {reason}"));
    }
    if misses_programs {
        stderr::write_line(format_args!(
            "hint: programs that the command starts are given with -i: -i \"$(command -v NAME)\""
        ));
    }
}

fn print_json(
    store: &Store,
    thunk: ThunkName,
    planned: &PlannedCommand,
    ended: &Ended,
) -> Result<(), CliError> {
    let mut outputs = Map::new();
    for output in &planned.outputs {
        let path = String::from_utf8_lossy(output.path.as_os_str().as_bytes()).into_owned();
        outputs.extend(ended.outputs.get(&output.tag).map(|object| (path, json!(object))));
    }
    let mut result = Map::from_iter([
        ("thunk".to_owned(), json!(thunk)),
        ("reused".to_owned(), json!(ended.reused)),
        ("outputs".to_owned(), Value::Object(outputs)),
    ]);
    result.extend(ended.ran.to_json(store)?);
    print_line(Value::Object(result))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables() {
        let variable = |word: &str| variable_of(word.as_ref()).unwrap();
        assert_eq!(variable("A=b=c"), ("A".to_owned(), Some("b=c".to_owned())));
        assert_eq!(variable("A="), ("A".to_owned(), Some(String::new())));
        assert_eq!(variable("MESH_TEST_UNSET"), ("MESH_TEST_UNSET".to_owned(), None));
        assert!(variable_of("=x".as_ref()).is_err());
    }
}
