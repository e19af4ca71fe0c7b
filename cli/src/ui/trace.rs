//! `--trace FILE`: what ran when and where, for chrome://tracing, Perfetto and the simulator.
//!
//! The form is Chrome's Trace Event Format, JSON object variant: `docs/trace.md` has the schema.
//! Dependencies are not written down, as they are in the names: who reads an object that another
//! left waited for it. What is in trees is looked up once the build is over, so that a reader knows
//! how many bytes a thunk needs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_node::exec::Outcome;
use mesh_protocol::name::{ThunkName, ValueName};
use mesh_protocol::peer::PeerId;
use mesh_protocol::thunk::{InputMode, OutputObject, Source, Thunk};
use mesh_protocol::tree::{Tree, TreeEntry};
use mesh_store::Store;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::report;
use crate::error::CliError;
use crate::exit;

/// Says what the rest means; another number where that changes.
const SCHEMA: &str = "mesh-trace/1";

/// Of all that is seen at this machine.
const HERE: u64 = 1;

/// Objects that are named: beyond, the insides of trees are left out, which are most of a file.
const OBJECTS_MAX: usize = 200_000;

/// What is recorded of one build.
#[derive(Debug)]
pub(crate) struct Trace {
    began: Instant,
    slots: u32,
    /// When its dependencies were values, of what has not started.
    ready: HashMap<ThunkName, Instant>,
    open: HashMap<ThunkName, Run>,
    /// For each row of the picture, whether something runs in it.
    lanes: Vec<bool>,
    objects: Objects,
    /// Objects that are trees, of those that runs read or left.
    trees: BTreeSet<usize>,
    /// What is directly in a tree, by its number.
    contents: BTreeMap<usize, Vec<usize>>,
    events: Vec<Event>,
}

#[derive(Debug)]
struct Run {
    description: Arc<str>,
    since: Instant,
    lane: usize,
    inputs: Vec<usize>,
    cores: u32,
}

/// Numbers for names, which would be most of the file otherwise.
#[derive(Debug, Default)]
struct Objects {
    numbers: BTreeMap<ValueName, usize>,
    names: Vec<ValueName>,
}

impl Objects {
    fn number(&mut self, name: ValueName) -> usize {
        *self.numbers.entry(name).or_insert_with(|| {
            self.names.push(name);
            self.names.len() - 1
        })
    }
}

/// One of the format's events. Times are in microseconds since the build began.
#[derive(Debug, Serialize)]
struct Event {
    #[serde(serialize_with = "text")]
    name: Arc<str>,
    cat: &'static str,
    ph: &'static str,
    ts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    dur: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id2: Option<LocalId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    s: Option<&'static str>,
    pid: u64,
    tid: usize,
    args: Value,
}

/// An id that ties events of one machine: with a plain `id`, viewers draw them outside of all machines.
#[derive(Debug, Serialize)]
struct LocalId {
    local: String,
}

impl Trace {
    pub(crate) fn new(began: Instant, slots: u32) -> Self {
        Self {
            began,
            slots,
            ready: HashMap::new(),
            open: HashMap::new(),
            lanes: Vec::new(),
            objects: Objects::default(),
            trees: BTreeSet::new(),
            contents: BTreeMap::new(),
            events: Vec::new(),
        }
    }

    /// Its dependencies are values, or it has none; the first time counts.
    pub(super) fn ready(&mut self, now: Instant, name: ThunkName) {
        self.ready.entry(name).or_insert(now);
    }

    pub(super) fn started(
        &mut self,
        now: Instant,
        name: ThunkName,
        thunk: &Thunk,
        description: Arc<str>,
    ) {
        let ready = self.ready.remove(&name).unwrap_or(now);
        // Under one name, or viewers give each of them a row.
        let wait = [("b", ready), ("e", now)].map(|(ph, at)| Event {
            id2: Some(LocalId { local: format!("{name:?}") }),
            args: if ph == "b" { json!({ "what": *description }) } else { json!({}) },
            ..self.event("waits".into(), "queue", ph, at)
        });
        self.events.extend(wait);
        let lane = self.lanes.iter().position(|busy| !busy).unwrap_or_else(|| {
            self.lanes.push(false);
            self.lanes.len() - 1
        });
        self.lanes[lane] = true;
        let inputs = thunk.values().into_iter().map(|name| self.objects.number(name)).collect();
        for input in thunk.spec().inputs.values() {
            if let (InputMode::Tree, Source::Value(name)) = (input.mode, &input.source) {
                self.trees.insert(self.objects.number(*name));
            }
        }
        let cores = u32::from(thunk.spec().limits.cpus);
        self.open.insert(name, Run { description, since: now, lane, inputs, cores });
    }

    pub(super) fn ended(&mut self, now: Instant, name: ThunkName, end: Result<&Outcome, &str>) {
        let Some(Run { description, since, lane, inputs, cores }) = self.open.remove(&name) else {
            return;
        };
        self.lanes[lane] = false;
        let mut args = Map::new();
        args.insert("thunk".to_owned(), json!(name));
        args.insert("cores".to_owned(), json!(cores));
        args.insert("inputs".to_owned(), json!(inputs));
        match end {
            Ok(outcome) => {
                let left = outcome.outputs.values();
                let outputs: Vec<usize> = left.map(|output| self.left(output)).collect();
                args.insert("outputs".to_owned(), json!(outputs));
                args.insert("succeeded".to_owned(), json!(outcome.is_success()));
                args.insert("run_us".to_owned(), json!(outcome.usage.wall_us));
                args.insert("cpu_us".to_owned(), json!(outcome.usage.cpu_us));
                args.insert("memory_bytes".to_owned(), json!(outcome.usage.memory_peak_bytes));
            }
            Err(reason) => {
                args.insert("succeeded".to_owned(), json!(false));
                args.insert("reason".to_owned(), json!(reason));
            }
        }
        let took = micros(now.saturating_duration_since(since));
        let event = self.event(description, "run", "X", since);
        let args = Value::Object(args);
        self.events.push(Event { dur: Some(took), tid: lane + 1, args, ..event });
    }

    /// The number of what a run left.
    fn left(&mut self, output: &OutputObject) -> usize {
        let number = self.objects.number(output.object());
        if matches!(output, OutputObject::Tree(_)) {
            self.trees.insert(number);
        }
        number
    }

    /// It ran at that member, as far as is known here.
    pub(super) fn elsewhere(&mut self, now: Instant, name: ThunkName, at: PeerId, busy_us: u64) {
        let args = json!({ "thunk": name, "peer": at.to_string(), "run_us": busy_us });
        self.instant(now, ("elsewhere", "elsewhere"), args);
    }

    pub(super) fn reused(&mut self, now: Instant, name: ThunkName) {
        // One that was begun meanwhile is stopped, and leaves its row to others.
        if let Some(run) = self.open.remove(&name) {
            self.lanes[run.lane] = false;
        }
        self.instant(now, ("reused", "memo"), json!({ "thunk": name }));
    }

    pub(super) fn local(&mut self, now: Instant, argv: &[String], reason: &str) {
        self.instant(now, ("local", "local"), json!({ "argv": argv, "reason": reason }));
    }

    /// Something that takes no time, by its name and category.
    fn instant(&mut self, now: Instant, (name, cat): (&str, &'static str), args: Value) {
        let event = self.event(name.into(), cat, "i", now);
        self.events.push(Event { s: Some("p"), args, ..event });
    }

    fn event(&self, name: Arc<str>, cat: &'static str, ph: &'static str, at: Instant) -> Event {
        let ts = micros(at.saturating_duration_since(self.began));
        let (dur, id2, s, args) = (None, None, None, json!({}));
        Event { name, cat, ph, ts, dur, id2, s, pid: HERE, tid: 0, args }
    }

    /// Notes what is in the trees, as far as the store has them.
    pub(crate) fn look_into_trees(&mut self, store: &Store) {
        self.note_contents(|name| store.read_tree(name).ok());
    }

    fn note_contents(&mut self, read: impl Fn(ValueName) -> Option<Tree>) {
        let mut open: Vec<usize> = self.trees.iter().copied().collect();
        while let Some(number) = open.pop() {
            if self.contents.contains_key(&number) || self.objects.names.len() > OBJECTS_MAX {
                continue;
            }
            let Some(tree) = read(self.objects.names[number]) else { continue };
            let mut held = BTreeSet::new();
            for (_, entry) in tree.entries() {
                match entry {
                    TreeEntry::File { name, .. } => drop(held.insert(self.objects.number(*name))),
                    TreeEntry::Directory(name) => {
                        let inner = self.objects.number(*name);
                        held.insert(inner);
                        open.push(inner);
                    }
                    TreeEntry::Symlink(_) => {}
                }
            }
            self.contents.insert(number, held.into_iter().collect());
        }
    }

    /// All of it as JSON.
    fn to_json(&self) -> Value {
        let label = |what: &str, row: usize, name: String| json!({ "name": what, "ph": "M", "pid": HERE, "tid": row, "args": { "name": name } });
        let machine = label("process_name", 0, "this machine".to_owned());
        let rows =
            (1..=self.lanes.len()).map(|row| label("thread_name", row, format!("row {row}")));
        let events = self.events.iter().map(|event| json!(event));
        let events: Vec<Value> = std::iter::once(machine).chain(rows).chain(events).collect();
        json!({
            "displayTimeUnit": "ms",
            "otherData": {
                "schema": SCHEMA,
                "slots": self.slots,
                "objects": self.objects.names,
                "trees": self.contents,
            },
            "traceEvents": events,
        })
    }

    /// Writes it; `-` is standard output.
    pub(crate) fn write(&self, path: &Path) -> Result<(), CliError> {
        let json = serde_json::to_vec(&self.to_json());
        let json = json.map_err(|error| CliError::new(exit::INTERNAL, error))?;
        report::write_file(path, json)
    }
}

/// Serde's own way for shared text is a feature that is off.
fn text<S: serde::Serializer>(text: &str, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(text)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "trace_tests.rs"]
mod tests;
