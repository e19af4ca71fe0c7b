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
    ready: HashMap<ThunkName, Instant>,
    open: HashMap<ThunkName, Run>,
    /// This one is the first.
    machines: Vec<Machine>,
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
    ready: Instant,
    since: Instant,
    /// Where and how another member ran it, which is heard just before its end.
    away: Option<(PeerId, Option<Trip>)>,
    inputs: Vec<usize>,
    cores: u32,
}

/// Whose runs are shown together.
#[derive(Debug)]
struct Machine {
    /// None: this one.
    peer: Option<PeerId>,
    /// When the last run in each row ended.
    rows: Vec<Instant>,
}

impl Machine {
    /// The row for a run, from 0: the one that was left last, so that the others have room for those
    /// that began earlier and end later.
    fn row(&mut self, begin: Instant, end: Instant) -> usize {
        let free = self.rows.iter().enumerate().filter(|(_, left)| **left <= begin);
        let row = free.max_by_key(|(_, left)| **left).map(|(row, _)| row);
        let row = row.unwrap_or_else(|| {
            self.rows.push(end);
            self.rows.len() - 1
        });
        self.rows[row] = end;
        row
    }
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

/// What happened when to a lease at another member, by the clock of this machine.
#[derive(Clone, Copy)]
struct Times {
    given: Instant,
    came: Instant,
    fetched: Instant,
    started: Instant,
    ended: Instant,
    settled: Instant,
}

impl Times {
    /// Lengths of time are known, and that all has come to its end by now. What passed neither here nor there was
    /// spent on the way: half of it each way, as nobody knows better.
    fn of(settled: Instant, Trip { away_us, timeline, settled_us }: Trip) -> Self {
        let before = |end: Instant, us| end.checked_sub(Duration::from_micros(us)).unwrap_or(end);
        let received = before(settled, settled_us);
        let given = before(received, away_us);
        let came = given + Duration::from_micros(away_us.saturating_sub(timeline.ended_us) / 2);
        let after = |us| came + Duration::from_micros(us);
        Self {
            given,
            came,
            fetched: after(timeline.fetched_us),
            started: after(timeline.started_us),
            ended: after(timeline.ended_us),
            settled,
        }
    }
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
            machines: vec![Machine { peer: None, rows: Vec::new() }],
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
        let inputs = thunk.values().into_iter().map(|name| self.objects.number(name)).collect();
        for input in thunk.spec().inputs.values() {
            if let (InputMode::Tree, Source::Value(name)) = (input.mode, &input.source) {
                self.trees.insert(self.objects.number(*name));
            }
        }
        let cores = u32::from(thunk.spec().limits.cpus);
        let run = Run { description, ready, since: now, away: None, inputs, cores };
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
        let (pid, given, begin, end) = match away {
            None => (HERE, since, since, now),
            Some((peer, trip)) => {
                args.insert("peer".to_owned(), json!(peer.to_string()));
                let pid = self.pid(peer);
                match trip.map(|trip| Times::of(now, trip)) {
                    None => (pid, since, since, now),
                    Some(times) => {
                        self.leased(pid, (name, &description), &times);
                        (pid, times.given, times.started, times.ended)
                    }
                }
            }
        };
        let wait = (ready.min(given), given);
        self.span(HERE, ("queue", "waits"), (name, &description), wait);
        let row = self.machines[pid - 1].row(begin, end);
        let took = micros(end.saturating_duration_since(begin));
        let event = self.event(description, "run", "X", begin);
        let (tid, args) = (row + 1, Value::Object(args));
        self.events.push(Event { dur: Some(took), pid, tid, args, ..event });
    }

    /// The number of a machine in the picture.
    fn pid(&mut self, peer: PeerId) -> usize {
        let known = self.machines.iter().position(|machine| machine.peer == Some(peer));
        let at = known.unwrap_or_else(|| {
            self.machines.push(Machine { peer: Some(peer), rows: Vec::new() });
            self.machines.len() - 1
        });
        at + HERE
    }

    /// What a lease's time went to, beside the run itself.
    fn leased(&mut self, pid: usize, thunk: (ThunkName, &str), times: &Times) {
        let Times { given, came, fetched, started, ended, settled } = *times;
        for (name, from, to) in [
            ("lease", given, settled),
            ("fetch", came, fetched),
            ("wait", fetched, started),
            ("return", ended, settled),
        ] {
            self.span(pid, ("lease", name), thunk, (from, to));
        }
    }

    /// Something about a thunk that others of its kind may overlap. They have one name, or viewers give each of
    /// them a row.
    fn span(
        &mut self,
        pid: usize,
        (cat, name): (&'static str, &str),
        (thunk, what): (ThunkName, &str),
        (from, to): (Instant, Instant),
    ) {
        for (ph, at) in [("b", from), ("e", to)] {
            let id2 = Some(LocalId { local: format!("{thunk:?}") });
            let args = if ph == "b" { json!({ "what": what }) } else { json!({}) };
            let event = self.event(name.into(), cat, ph, at);
            self.events.push(Event { id2, pid, args, ..event });
        }
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
        let label = |what: &str, pid: usize, row: usize, name: String| json!({ "name": what, "ph": "M", "pid": pid, "tid": row, "args": { "name": name } });
        let machines = self.machines.iter().enumerate().flat_map(|(at, machine)| {
            let (pid, rows) = (at + HERE, 1..=machine.rows.len());
            let name = machine.peer.map_or("this machine".to_owned(), |peer| peer.to_string());
            let rows = rows.map(move |row| label("thread_name", pid, row, format!("row {row}")));
            std::iter::once(label("process_name", pid, 0, name)).chain(rows)
        });
        let events = self.events.iter().map(|event| json!(event));
        let events: Vec<Value> = machines.chain(events).collect();
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
