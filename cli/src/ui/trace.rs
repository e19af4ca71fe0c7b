//! `--trace FILE`: what ran when and where, for chrome://tracing, Perfetto and the simulator.
//!
//! The form is Chrome's Trace Event Format, JSON object variant: `docs/trace.md` has the schema.
//! Dependencies are not written down, as they are in the names: who reads an object that another
//! left waited for it. What is in trees is looked up once the build is over, so that a reader knows
//! how many bytes a thunk needs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use mesh_node::claims::Trip;
use mesh_node::exec::Outcome;
use mesh_protocol::name::{ThunkName, ValueName};
use mesh_protocol::peer::PeerId;
use mesh_protocol::thunk::{InputMode, OutputObject, Source, Thunk};
use mesh_protocol::tree::{Tree, TreeEntry};
use mesh_store::Store;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::report;
use super::trips::{self, Clocks, Lease, Times};
use crate::error::CliError;
use crate::exit;

/// Says what the rest means; another number where that changes.
const SCHEMA: &str = "mesh-trace/1";

/// The number of this machine; others have the ones after it.
const HERE: usize = 1;

/// Objects that are named: beyond, the insides of trees are left out, which are most of a file.
const OBJECTS_MAX: usize = 200_000;

/// What is recorded of one build.
#[derive(Debug)]
pub(crate) struct Trace {
    began: Instant,
    slots: u32,
    /// When its dependencies were values, of what has not started.
    ready: HashMap<ThunkName, u64>,
    open: HashMap<ThunkName, Run>,
    /// The other machines, in the order in which they were first heard of.
    peers: Vec<PeerId>,
    ended: Vec<Ended>,
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
    ready: u64,
    since: u64,
    /// Where and how another member ran it, which is heard just before its end.
    away: Option<(PeerId, Option<Trip>)>,
    inputs: Vec<usize>,
    cores: u32,
}

/// One that is over. Times are in microseconds since the build began.
#[derive(Debug)]
struct Ended {
    name: ThunkName,
    description: Arc<str>,
    pid: usize,
    ready: u64,
    /// As far as it is known without the lease.
    begin: u64,
    end: u64,
    lease: Option<Lease>,
    args: Map<String, Value>,
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
    pid: usize,
    tid: usize,
    args: Value,
}

/// An id that ties events of one machine, the first 17 letters of a thunk's name. With a plain `id`, viewers
/// draw them outside of all machines.
#[derive(Debug, Serialize)]
struct LocalId {
    local: String,
}

impl Event {
    fn new(pid: usize, cat: &'static str, name: Arc<str>, ph: &'static str, ts: u64) -> Self {
        Self { name, cat, ph, ts, dur: None, id2: None, s: None, pid, tid: 0, args: json!({}) }
    }
}

impl Trace {
    pub(crate) fn new(began: Instant, slots: u32) -> Self {
        Self {
            began,
            slots,
            ready: HashMap::new(),
            open: HashMap::new(),
            peers: Vec::new(),
            ended: Vec::new(),
            objects: Objects::default(),
            trees: BTreeSet::new(),
            contents: BTreeMap::new(),
            events: Vec::new(),
        }
    }

    /// Its dependencies are values, or it has none; the first time counts.
    pub(super) fn ready(&mut self, now: Instant, name: ThunkName) {
        let now = self.micros(now);
        self.ready.entry(name).or_insert(now);
    }

    pub(super) fn started(
        &mut self,
        now: Instant,
        name: ThunkName,
        thunk: &Thunk,
        description: Arc<str>,
    ) {
        let since = self.micros(now);
        let ready = self.ready.remove(&name).unwrap_or(since);
        let inputs = thunk.values().into_iter().map(|name| self.objects.number(name)).collect();
        for input in thunk.spec().inputs.values() {
            if let (InputMode::Tree, Source::Value(name)) = (input.mode, &input.source) {
                self.trees.insert(self.objects.number(*name));
            }
        }
        let cores = u32::from(thunk.spec().limits.cpus);
        let run = Run { description, ready, since, away: None, inputs, cores };
        self.open.insert(name, run);
    }

    pub(super) fn ended(&mut self, now: Instant, name: ThunkName, end: Result<&Outcome, &str>) {
        let Some(run) = self.open.remove(&name) else { return };
        let Run { description, ready, since, away, inputs, cores } = run;
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
        let end = self.micros(now);
        let (pid, lease) = match away {
            None => (HERE, None),
            Some((peer, trip)) => {
                args.insert("peer".to_owned(), json!(peer.to_string()));
                (self.pid(peer), trip.map(|trip| Lease::new(end, trip)))
            }
        };
        self.ended.push(Ended { name, description, pid, ready, begin: since, end, lease, args });
    }

    /// The number of another machine in the picture.
    fn pid(&mut self, peer: PeerId) -> usize {
        let known = self.peers.iter().position(|known| *known == peer);
        let at = known.unwrap_or_else(|| {
            self.peers.push(peer);
            self.peers.len() - 1
        });
        HERE + 1 + at
    }

    /// The number of what a run left.
    fn left(&mut self, output: &OutputObject) -> usize {
        let number = self.objects.number(output.object());
        if matches!(output, OutputObject::Tree(_)) {
            self.trees.insert(number);
        }
        number
    }

    /// It was with that member: its end comes next.
    pub(super) fn elsewhere(&mut self, name: ThunkName, at: PeerId, trip: Option<Trip>) {
        if let Some(run) = self.open.get_mut(&name) {
            run.away = Some((at, trip));
        }
    }

    pub(super) fn reused(&mut self, now: Instant, name: ThunkName) {
        // One that was begun meanwhile is stopped.
        self.open.remove(&name);
        self.instant(now, ("reused", "memo"), json!({ "thunk": name }));
    }

    pub(super) fn local(&mut self, now: Instant, argv: &[String], reason: &str) {
        self.instant(now, ("local", "local"), json!({ "argv": argv, "reason": reason }));
    }

    /// Something that takes no time, by its name and category.
    fn instant(&mut self, now: Instant, (name, cat): (&str, &'static str), args: Value) {
        let event = Event::new(HERE, cat, name.into(), "i", self.micros(now));
        self.events.push(Event { s: Some("p"), args, ..event });
    }

    fn micros(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.began);
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
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
        let node = trips::node(self.ended.iter().filter_map(|run| run.lease.as_ref()));
        let mut events = Vec::new();
        let names = self.peers.iter().map(PeerId::to_string);
        for (at, name) in std::iter::once("this machine".to_owned()).chain(names).enumerate() {
            self.draw(HERE + at, name, node, &mut events);
        }
        events.extend(self.events.iter().map(|event| json!(event)));
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

    /// A machine with its rows, and what ran there.
    fn draw(&self, pid: usize, name: String, node: i128, events: &mut Vec<Value>) {
        let ended = || self.ended.iter().filter(|run| run.pid == pid);
        let clocks = Clocks::new(node, ended().filter_map(|run| run.lease.as_ref()));
        let mut runs: Vec<_> = ended()
            .map(|run| {
                let times = run.lease.as_ref().map(|lease| lease.times(clocks));
                let span = times.as_ref().map(|times| (times.started, times.ended));
                (span.unwrap_or((run.begin, run.end)), times, run)
            })
            .collect();
        runs.sort_by_key(|(span, ..)| *span);
        let mut rows = Vec::new();
        for ((begin, end), times, run) in runs {
            let thunk = (run.name, &*run.description);
            let given = times.as_ref().map_or(begin, |times| times.given);
            span(HERE, ("queue", "waits"), thunk, (run.ready.min(given), given), events);
            if let Some(Times { given, came, fetched, started, ended, settled }) = times {
                for (name, from, to) in [
                    ("lease", given, settled),
                    ("fetch", came, fetched),
                    ("wait", fetched, started),
                    ("return", ended, settled),
                ] {
                    span(pid, ("lease", name), thunk, (from, to), events);
                }
            }
            let event = Event::new(pid, "run", Arc::clone(&run.description), "X", begin);
            let (dur, tid) = (Some(end.saturating_sub(begin)), row(&mut rows, begin, end));
            events.push(json!(Event { dur, tid, args: Value::Object(run.args.clone()), ..event }));
        }
        let label = |what: &str, row: usize, name: String| json!({ "name": what, "ph": "M", "pid": pid, "tid": row, "args": { "name": name } });
        events.push(label("process_name", 0, name));
        events.extend((1..=rows.len()).map(|row| label("thread_name", row, format!("row {row}"))));
    }

    /// Writes it; `-` is standard output.
    pub(crate) fn write(&self, path: &Path) -> Result<(), CliError> {
        let json = serde_json::to_vec(&self.to_json());
        let json = json.map_err(|error| CliError::new(exit::INTERNAL, error))?;
        report::write_file(path, json)
    }
}

/// The first row, from 1, in which nothing runs then; of each it is known until when something does.
fn row(rows: &mut Vec<u64>, begin: u64, end: u64) -> usize {
    let row = rows.iter().position(|until| *until <= begin).unwrap_or_else(|| {
        rows.push(end);
        rows.len() - 1
    });
    rows[row] = end;
    row + 1
}

/// Something about a thunk that others of its kind may overlap. They have one name, or viewers give each of them
/// a row.
fn span(
    pid: usize,
    (cat, name): (&'static str, &str),
    (thunk, what): (ThunkName, &str),
    (from, to): (u64, u64),
    events: &mut Vec<Value>,
) {
    for (ph, ts) in [("b", from), ("e", to)] {
        let id2 = Some(LocalId { local: thunk.to_string()[..17].to_owned() });
        let args = if ph == "b" { json!({ "what": what }) } else { json!({}) };
        events.push(json!(Event { id2, args, ..Event::new(pid, cat, name.into(), ph, ts) }));
    }
}

/// Serde's own way for shared text is a feature that is off.
fn text<S: serde::Serializer>(text: &str, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(text)
}

#[cfg(test)]
#[path = "trace_tests.rs"]
mod tests;
