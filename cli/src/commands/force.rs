//! `mesh force`

mod ends;
mod lines;
mod names;

use std::sync::Arc;

use mesh_node::driver::{Driver, Progress, Watcher};
use mesh_node::exec::{Exit, Outcome, SandboxEngine};
use mesh_protocol::graph::Cause;
use mesh_protocol::name::ThunkName;
use mesh_protocol::sched::force::{Event, ForceError, ForcePolicy};
use mesh_protocol::thunk::KeptStream;
use mesh_store::Store;
use serde_json::{Map, Value, json};

use crate::args::ForceArgs;
use crate::config::{BuildSettings, Config};
use crate::ended::Ran;
use crate::error::CliError;
use crate::forcing::{Forcing, Where};
use crate::ui::{Console, Verbosity};
use crate::words::{self, Words};
use crate::{exit, home, threads};
use ends::Ends;

/// What both forms of the command work with.
#[derive(Clone)]
struct Forced {
    store: Store,
    driver: Driver,
    console: Console,
    ends: Ends,
}

pub(crate) fn run(store: &Store, args: &ForceArgs) -> Result<(), CliError> {
    let settings = BuildSettings::of(&Config::of_home()?, args.into());
    let console =
        Console::new(if settings.quiet.value { Verbosity::Quiet } else { Verbosity::Normal });
    if args.trace.is_some() {
        console.record(Where::of(&settings).slots);
    }
    let runtime = threads::start()?;
    let done = runtime.block_on(async {
        let forced = start(store, &settings, &console).await?;
        if args.names == ["-"] {
            lines::run(&forced).await
        } else {
            names::run(&forced, &args.names, args.json).await
        }
    });
    let summary = console.finish();
    let trace = console.take_trace(Some(store));
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
) -> Result<Forced, CliError> {
    let engine = SandboxEngine::start(store.clone(), settings.sandbox())
        .map_err(|error| CliError::new(exit::UNAVAILABLE, error).hint("mesh doctor says more"))?;
    let (at, home) = (Where::of(settings), home::directory()?);
    let policy = ForcePolicy { keep_going: settings.keep_going.value, ..ForcePolicy::default() };
    let ends = Ends::default();
    let watcher = watcher(store.clone(), console.clone(), ends.clone());
    let forcing = Forcing { store, engine: Arc::new(engine), home: &home, console, at };
    let driver = forcing.driver(policy, at.slots, watcher).await;
    Ok(Forced { store: store.clone(), driver, console: console.clone(), ends })
}

/// Counts, keeps how runs failed, and shows what thunks wrote on standard error and why they failed.
fn watcher(store: Store, console: Console, ends: Ends) -> Watcher {
    Box::new(move |progress| {
        console.take(&progress);
        ends.take(&progress);
        match progress {
            Progress::Event(Event::Failed(name, failure)) => {
                let mut text = format!("mesh: {name:?} failed: {}\n", failure.reason);
                if let Some(stdout) = ends.of(name).map(|ran| ran.stdout)
                    && stdout.digest().length > 0
                {
                    text.push_str(&format!("hint: its standard output: mesh cat {stdout}\n"));
                }
                console.print(text.as_bytes());
            }
            Progress::Ended(_, Ok(outcome)) => show(&store, &console, &outcome),
            Progress::Ended(name, Err(reason)) => {
                console.print(format!("mesh: {name:?}: {reason}\n").as_bytes());
            }
            _ => {}
        }
    })
}

/// Shows what a run wrote on standard error.
fn show(store: &Store, console: &Console, outcome: &Outcome) {
    match words::read(store, outcome.stderr) {
        Ok(stderr) => {
            console.print(&stderr.bytes);
            let notice = Words { stdout: KeptStream::default(), stderr }.notice();
            notice.into_iter().for_each(|notice| console.print(notice.as_bytes()));
        }
        Err(error) => console.note(error),
    }
}

impl Forced {
    /// What is said of an output that could not be had.
    fn trouble(&self, error: &ForceError) -> Trouble {
        let mut keys = Map::new();
        if let Some((blamed, ran)) = self.ends.to_blame(error) {
            keys.insert("failed".to_owned(), json!(blamed));
            match ran.to_json(&self.store) {
                Ok(ended) => keys.extend(ended),
                Err(problem) => self.console.note(problem),
            }
        }
        Trouble { code: code(error), reason: error.to_string(), keys }
    }

    /// The keys of the run that a thunk was reduced by.
    fn remembered(&self, thunk: ThunkName) -> Result<Map<String, Value>, CliError> {
        match self.store.recall(thunk)? {
            Some(known) => Ran {
                exit: Exit::Code(0),
                stdout: known.stdout,
                stderr: known.stderr,
                usage: known.usage,
            }
            .to_json(&self.store),
            None => {
                let text = format!("the result of {thunk} is gone from the store");
                Err(CliError::new(exit::NOT_FOUND, text).hint("mesh force makes it again"))
            }
        }
    }
}

/// Why something could not be forced.
#[derive(Clone)]
struct Trouble {
    code: u8,
    reason: String,
    /// How the run that is to blame ended, for JSON results.
    keys: Map<String, Value>,
}

impl Trouble {
    fn new(code: u8, reason: String) -> Self {
        Self { code, reason, keys: Map::new() }
    }

    /// Adds it to a JSON result. The exit code.
    fn report(self, result: &mut Map<String, Value>) -> u8 {
        result.insert("error".to_owned(), json!(self.reason));
        result.extend(self.keys);
        self.code
    }
}

impl From<CliError> for Trouble {
    fn from(error: CliError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<Trouble> for CliError {
    fn from(trouble: Trouble) -> Self {
        Self::new(trouble.code, trouble.reason)
    }
}

/// The exit code for an output that cannot be had.
fn code(error: &ForceError) -> u8 {
    match error.cause {
        Cause::NoOutput if error.is_absence() => exit::NOT_FOUND,
        Cause::Program | Cause::NoOutput | Cause::Stopped => exit::FOUND_WRONG,
        Cause::Machine => exit::UNAVAILABLE,
        Cause::NotFound => exit::NOT_FOUND,
        Cause::Graph => exit::DATA,
    }
}
