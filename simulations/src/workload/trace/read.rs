//! The file, which anybody may have made: checked before anything is believed.

use std::collections::BTreeMap;
use std::path::Path;

use mesh_protocol::name::ValueName;
use serde::Deserialize;

use super::events::{Events, RunEvent};
use super::objects::{Contents, Grouping, Walk};
use super::{Recorded, Run, Time, Trace};
use crate::limits::TRACE_BYTES_MAX;

const SCHEMA: &str = "mesh-trace/1";
/// Characters of a task's class.
const CLASS_CHARS: usize = 40;
/// Objects beyond a PiB are a mistake.
const BYTES_MAX: u64 = 1 << 50;

/// The head alone, so that a file of another kind is told what it lacks.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    other_data: Option<Schema>,
}

#[derive(Deserialize)]
struct Schema {
    schema: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    other_data: Other,
    trace_events: Events,
}

#[derive(Deserialize)]
struct Other {
    #[serde(default)]
    slots: u32,
    #[serde(default)]
    objects: Vec<ValueName>,
    trees: Option<BTreeMap<u32, Vec<u32>>>,
}

pub(super) fn open(path: &Path) -> Result<Trace, String> {
    let size = std::fs::metadata(path).map_err(|e| e.to_string())?.len();
    if size > TRACE_BYTES_MAX {
        return Err(format!("larger than {} MiB", TRACE_BYTES_MAX >> 20));
    }
    parse(&std::fs::read(path).map_err(|e| e.to_string())?)
}

pub(super) fn parse(text: &[u8]) -> Result<Trace, String> {
    let head: Head = serde_json::from_slice(text).map_err(|e| e.to_string())?;
    match head.other_data.and_then(|other| other.schema).as_deref() {
        Some(SCHEMA) => {}
        Some(schema) => return Err(format!("schema {schema:?}; {SCHEMA} is known")),
        None => return Err("no otherData.schema: not a trace of mesh build".to_owned()),
    }
    let File { other_data, trace_events } =
        serde_json::from_slice(text).map_err(|e| e.to_string())?;
    let sizes = other_data.objects.iter().map(|name| match name.digest().length {
        bytes if bytes <= BYTES_MAX => Ok(bytes),
        bytes => Err(format!("an object of {bytes} bytes")),
    });
    let sizes = sizes.collect::<Result<Vec<_>, _>>()?;
    let recorded = Recorded {
        slots: other_data.slots.max(1),
        has_trees: other_data.trees.is_some(),
        ..trace_events.recorded
    };
    let contents = Contents::new(sizes, other_data.trees.unwrap_or_default())?;
    let mut trace = Trace { runs: Vec::new(), shared: Vec::new(), recorded, time: Time::Wall };
    link(&trace_events.runs, &contents, &mut trace)?;
    Ok(trace)
}

/// An output of a run: when it was there, whose it is, which of the run's outputs.
type Made = (u64, u32, u32);

/// Ties runs by what they read and left.
fn link(events: &[RunEvent], contents: &Contents, trace: &mut Trace) -> Result<(), String> {
    // Of each object, who of those that started so far left it first.
    let mut makers: Vec<Option<Made>> = vec![None; contents.len()];
    let mut grouping = Grouping::new(contents.len());
    let mut walk = Walk::new(contents);
    for (at, event) in events.iter().enumerate() {
        let args = &event.args;
        contents.check(&event.name, args.inputs.iter().chain(&args.outputs))?;
        let (mut reads, mut takes) = (Vec::new(), Vec::new());
        walk.visit(&args.inputs, |object| {
            match makers[object as usize].filter(|(end, ..)| *end <= event.start) {
                Some((_, run, output)) => takes.push((run, output)),
                None => reads.push(object),
            }
            makers[object as usize].is_none_or(|(end, ..)| end > event.start)
        })?;
        grouping.add(&reads);
        for (n, object) in args.outputs.iter().enumerate() {
            let maker = &mut makers[*object as usize];
            if maker.is_none_or(|(known, ..)| event.end < known) {
                *maker = Some((event.end, at as u32, n as u32));
            }
        }
        let leaves = args.outputs.iter().map(|object| walk.bytes(*object));
        trace.runs.push(Run {
            class: class(&event.name),
            wall_s: event.run_us as f64 / 1e6,
            cpu_s: args.cpu_us as f64 / 1e6,
            memory: args.memory_bytes.min(BYTES_MAX),
            reads: Vec::new(),
            takes,
            leaves: leaves.collect::<Result<_, _>>()?,
        });
    }
    trace.shared = grouping.finish(contents, &mut trace.runs);
    Ok(())
}

/// What people call the kind of run: `cc` of `cc src/a.c`.
fn class(name: &str) -> String {
    let word = name.split_whitespace().next().unwrap_or("run");
    let word = word.rsplit('/').next().filter(|last| !last.is_empty()).unwrap_or(word);
    word.chars().take(CLASS_CHARS).collect()
}
