//! `mesh force`

use std::io::{BufRead, BufReader, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;

use mesh_node::driver::{Driver, Progress, Watcher};
use mesh_node::exec::{SandboxEngine, SandboxOptions};
use mesh_protocol::limits;
use mesh_protocol::name::{ObjectName, OutputRef, Tag, ThunkName, ValueName};
use mesh_protocol::sched::force::{Event, ForcePolicy};
use mesh_protocol::thunk::{OutputObject, Thunk};
use mesh_store::Store;
use serde_json::{Map, Value, json};

use super::print_line;
use crate::args::ForceArgs;
use crate::build::placeholder;
use crate::config::{BuildSettings, Config};
use crate::error::CliError;
use crate::forcing::{Forcing, Where};
use crate::ui::{Console, Verbosity};
use crate::{exit, home, resolve, threads};

/// Lines of standard input that are worked on at once; more wait unread.
const LINES_AT_ONCE: usize = 4096;

pub(crate) fn run(args: &ForceArgs) -> Result<(), CliError> {
    let settings = BuildSettings::of(&Config::of_home()?, args.into());
    let store = home::open_store()?;
    let console =
        Console::new(if settings.quiet.value { Verbosity::Quiet } else { Verbosity::Normal });
    if args.trace.is_some() {
        console.record(Where::of(&settings).slots);
    }
    let runtime = threads::start()?;
    let done = runtime.block_on(async {
        let driver = start(&store, &settings, &console).await?;
        if args.names == ["-"] {
            lines(&store, &driver, &console).await
        } else {
            names(&store, &driver, &console, &args.names).await
        }
    });
    let summary = console.finish();
    let trace = console.take_trace(Some(&store));
    store.flush()?;
    console.note(summary);
    if let (Some(path), Some(trace)) = (&args.trace, trace) {
        trace.write(path)?;
    }
    done
}

async fn start(
    store: &Store,
    settings: &BuildSettings,
    console: &Console,
) -> Result<Driver, CliError> {
    let engine = SandboxEngine::start(store.clone(), SandboxOptions::default())
        .map_err(|error| CliError::new(exit::UNAVAILABLE, error).hint("mesh doctor says more"))?;
    let (at, home) = (Where::of(settings), home::directory()?);
    let policy = ForcePolicy { keep_going: settings.keep_going.value, ..ForcePolicy::default() };
    let watcher = watcher(store.clone(), console.clone());
    let forcing = Forcing { store, engine: Arc::new(engine), home: &home, console, at };
    Ok(forcing.driver(policy, at.slots, watcher).await)
}

/// Counts, and shows what thunks wrote on standard error and why they failed.
fn watcher(store: Store, console: Console) -> Watcher {
    Box::new(move |progress| {
        console.take(&progress);
        match progress {
            Progress::Event(Event::Failed(name, failure)) => {
                console.print(format!("mesh: {name:?} failed: {}\n", failure.reason).as_bytes());
            }
            Progress::Ended(_, Ok(outcome)) => {
                let stderr = store.read(outcome.stderr.digest(), limits::STREAM_BYTES);
                console.print(&stderr.unwrap_or_default());
            }
            Progress::Ended(name, Err(reason)) => {
                console.print(format!("mesh: {name:?}: {reason}\n").as_bytes());
            }
            _ => {}
        }
    })
}

/// What a word of the command line asks for.
enum Wanted {
    Value(ValueName),
    Output(OutputRef),
    /// A file of the user that is to become what it stands for.
    Placeholder(PathBuf, OutputRef),
    /// A file that stands for nothing but itself.
    File(PathBuf),
}

impl Wanted {
    fn read(store: &Store, text: &str) -> Result<Self, CliError> {
        match text.parse::<ObjectName>() {
            Ok(ObjectName::Value(name)) => Ok(Self::Value(name)),
            Ok(ObjectName::Thunk(thunk, Some(tag))) => Ok(Self::Output(OutputRef { thunk, tag })),
            Ok(ObjectName::Thunk(thunk, None)) => Ok(Self::Output(primary(store, thunk)?)),
            Err(error) => {
                let path = PathBuf::from(text);
                match placeholder::read(&path) {
                    Ok(Some(output)) => Ok(Self::Placeholder(path, output)),
                    Ok(None) => Ok(Self::File(path)),
                    Err(io) if io.kind() == ErrorKind::NotFound && !text.contains(['/', '.']) => {
                        Err(error.into())
                    }
                    Err(io) => Err(CliError::io(&path)(io)),
                }
            }
        }
    }

    /// Forces it. The name of what it came to.
    async fn bring(self, store: &Store, driver: &Driver) -> Result<ValueName, CliError> {
        match self {
            Self::Value(name) => Ok(name),
            Self::Output(output) => value_of(&reduce(driver, output).await?),
            Self::Placeholder(path, output) => {
                let object = reduce(driver, output.clone()).await?;
                let name = value_of(&object)?;
                let mut bytes = store.open_checked(name.digest())?;
                let executable = matches!(object, OutputObject::File { executable: true, .. });
                placeholder::fill_at(&path, output, &mut bytes, executable)
                    .map_err(CliError::io(&path))?;
                Ok(name)
            }
            Self::File(path) => Ok(store.name_file(&path)?.name),
        }
    }
}

async fn reduce(driver: &Driver, output: OutputRef) -> Result<OutputObject, CliError> {
    driver.demand(output).await.map_err(|error| CliError::new(exit::FOUND_WRONG, error))
}

fn value_of(object: &OutputObject) -> Result<ValueName, CliError> {
    match object {
        OutputObject::File { name, .. } | OutputObject::Tree(name) => Ok(*name),
        OutputObject::Thunk(thunk) => {
            Err(CliError::new(exit::INTERNAL, format_args!("{thunk} is not a value")))
        }
    }
}

async fn names(
    store: &Store,
    driver: &Driver,
    console: &Console,
    names: &[String],
) -> Result<(), CliError> {
    let mut demands = Vec::new();
    for text in names {
        let wanted = Wanted::read(store, text)?;
        let (store, driver) = (store.clone(), driver.clone());
        demands.push(tokio::spawn(async move { wanted.bring(&store, &driver).await }));
    }
    let mut failed = None;
    for demand in demands {
        match demand.await.map_err(|error| CliError::new(exit::INTERNAL, error))? {
            Ok(name) => console.aside(|| print_line(name))?,
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(()), Err)
}

fn primary(store: &Store, name: ThunkName) -> Result<OutputRef, CliError> {
    let thunk = resolve::thunk(store, name)?;
    match thunk.primary_output() {
        Some(tag) => Ok(OutputRef { thunk: name, tag: tag.clone() }),
        None => {
            let tags: Vec<&str> = thunk.spec().outputs.keys().map(Tag::as_str).collect();
            let hint = format!("name one as {name}#TAG, TAG one of: {}", tags.join(" "));
            Err(CliError::new(exit::DATA, format_args!("{name} has several outputs")).hint(hint))
        }
    }
}

/// A line of standard input: its number, and the thunk in it or what is wrong.
struct Line {
    number: u64,
    thunk: Result<(ThunkName, Thunk), String>,
}

/// Thunks as JSON lines on standard input, results as JSON lines on standard output as they come.
async fn lines(store: &Store, driver: &Driver, console: &Console) -> Result<(), CliError> {
    let mut incoming = read_lines(store.clone());
    let mut works = tokio::task::JoinSet::new();
    let mut wrong = 0_u64;
    let mut open = true;
    while open || !works.is_empty() {
        tokio::select! {
            line = incoming.recv(), if open && works.len() < LINES_AT_ONCE => match line {
                Some(Ok(line)) => {
                    let (store, driver) = (store.clone(), driver.clone());
                    works.spawn(async move { force_line(&store, &driver, line).await });
                }
                Some(Err(error)) => return Err(CliError::io("standard input")(error)),
                None => open = false,
            },
            Some(done) = works.join_next() => {
                let result = done.map_err(|error| CliError::new(exit::INTERNAL, error))?;
                wrong += u64::from(result.get("error").is_some());
                console.aside(|| print_line(Value::Object(result)))?;
            }
        }
    }
    match wrong {
        0 => Ok(()),
        count => Err(CliError::new(exit::FOUND_WRONG, format_args!("{count} thunks failed"))),
    }
}

/// Reads lines and stores their thunks on a thread of its own, one by one: as tasks, the first thousand of
/// them would come before the driver's, which would hear of the first thunk when the last is stored.
fn read_lines(store: Store) -> tokio::sync::mpsc::Receiver<std::io::Result<Line>> {
    let (sender, incoming) = tokio::sync::mpsc::channel(LINES_AT_ONCE);
    std::thread::spawn(move || {
        for (number, text) in (1_u64..).zip(BufReader::new(std::io::stdin()).lines()) {
            let line = match text {
                Ok(text) if text.trim().is_empty() => continue,
                Ok(text) => Ok(Line { number, thunk: take_thunk(&store, &text) }),
                Err(error) => Err(error),
            };
            let stop = line.is_err();
            if sender.blocking_send(line).is_err() || stop {
                return;
            }
        }
    });
    incoming
}

fn take_thunk(store: &Store, line: &str) -> Result<(ThunkName, Thunk), String> {
    if line.len() as u64 > limits::THUNK_BYTES {
        return Err("the line is longer than a thunk may be".to_owned());
    }
    let thunk = Thunk::from_json(line).map_err(|error| error.to_string())?;
    let (name, bytes) = thunk.encode().map_err(|error| error.to_string())?;
    store.put_bytes(&bytes).map_err(|error| error.to_string())?;
    Ok((name, thunk))
}

async fn force_line(store: &Store, driver: &Driver, line: Line) -> Map<String, Value> {
    let mut result = Map::from_iter([("line".to_owned(), json!(line.number))]);
    let outputs = match line.thunk {
        Ok(thunk) => force_thunk(store, driver, thunk, &mut result).await,
        Err(reason) => Err(reason),
    };
    match outputs {
        Ok(outputs) => result.insert("outputs".to_owned(), Value::Object(outputs)),
        Err(reason) => result.insert("error".to_owned(), json!(reason)),
    };
    result
}

async fn force_thunk(
    store: &Store,
    driver: &Driver,
    (name, thunk): (ThunkName, Thunk),
    result: &mut Map<String, Value>,
) -> Result<Map<String, Value>, String> {
    result.insert("thunk".to_owned(), json!(name));
    let mut outputs = Map::new();
    for (tag, declared) in &thunk.spec().outputs {
        match driver.demand(OutputRef { thunk: name, tag: tag.clone() }).await {
            Ok(object) => {
                outputs.insert(tag.to_string(), json!(object));
            }
            Err(error) if declared.required => return Err(error.to_string()),
            Err(_) => {}
        }
    }
    if let Ok(Some(reduction)) = store.recall(name) {
        result.insert("stdout".to_owned(), json!(reduction.stdout));
        result.insert("stderr".to_owned(), json!(reduction.stderr));
        result.insert("usage".to_owned(), json!(reduction.usage));
    }
    Ok(outputs)
}
