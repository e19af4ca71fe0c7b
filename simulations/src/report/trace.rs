//! A run as the trace of a build (`docs/trace.md`): for Perfetto, and to be replayed.

use std::collections::BTreeMap;
use std::io::{self, Write};

use mesh_protocol::name::{Digest, ThunkName, ValueName};
use serde::{Serialize, Serializer};
use serde_json::json;

use super::lanes::lanes;
use super::run::host_name;
use crate::experiment::Scenario;
use crate::kernel::SimTime;
use crate::platform::HostId;
use crate::run::Outcome;
use crate::workload::{Graph, ObjectId, TaskId};

/// Tasks that are written: some 100 MB.
const TASKS_MAX: usize = 100_000;
/// Uses of objects by tasks that are written.
const USES_MAX: usize = 4_000_000;

/// Writes the run of a seed; returns how many tasks were left out because there are too many.
///
/// Times are virtual, and of each task there is the last execution. A machine is a host, a row one of its
/// cores; objects have names that no content has. `otherData.simulated` tells the trace from a real one.
pub fn write_trace(
    out: impl Write,
    scenario: &Scenario,
    seed: u64,
    (graph, outcome): (&Graph, &Outcome),
) -> io::Result<usize> {
    let tasks = written(graph);
    let left_out = graph.tasks().len() - tasks;
    let other = Other {
        schema: "mesh-trace/1",
        simulated: Simulated { title: &scenario.title, seed, left_out },
        slots: scenario.platform.groups.first().map_or(1, |group| group.cores),
        objects: Objects(graph, used(graph, tasks)),
        trees: BTreeMap::new(),
    };
    let lanes = lanes(&outcome.tasks);
    let mut trace = Events { out, lanes, scenario, graph, outcome, is_first: true };
    trace.out.write_all(b"{\"displayTimeUnit\":\"ms\",\"otherData\":")?;
    serde_json::to_writer(&mut trace.out, &other)?;
    trace.out.write_all(b",\"traceEvents\":[")?;
    let mut rows: BTreeMap<HostId, u32> = BTreeMap::new();
    for (record, lane) in outcome.tasks[..tasks].iter().zip(&trace.lanes) {
        let rows = rows.entry(record.host).or_default();
        *rows = (*rows).max(lane + 1);
    }
    for (host, rows) in rows {
        trace.host(host, rows)?;
    }
    for task in (0..tasks as u32).map(TaskId) {
        trace.task(task)?;
    }
    trace.out.write_all(b"\n]}\n")?;
    trace.out.flush()?;
    Ok(left_out)
}

/// How many tasks have room: those that all others depend on come first.
fn written(graph: &Graph) -> usize {
    let mut uses = 0;
    let tasks = (0..graph.tasks().len().min(TASKS_MAX) as u32).map(TaskId);
    let fits = tasks.take_while(|task| {
        uses += graph.inputs(*task).len();
        uses <= USES_MAX
    });
    fits.count()
}

/// How many objects these first tasks name, the first ones all counted.
fn used(graph: &Graph, tasks: usize) -> usize {
    let tasks = (0..tasks as u32).map(TaskId);
    let objects = tasks.flat_map(|task| {
        graph.inputs(task).iter().copied().chain(graph.outputs(task)).map(|ObjectId(object)| object)
    });
    objects.max().map_or(0, |last| last as usize + 1)
}

#[derive(Serialize)]
struct Other<'a> {
    schema: &'static str,
    simulated: Simulated<'a>,
    slots: u32,
    objects: Objects<'a>,
    trees: BTreeMap<u32, Vec<u32>>,
}

#[derive(Serialize)]
struct Simulated<'a> {
    title: &'a str,
    seed: u64,
    left_out: usize,
}

/// The names of the first objects, made as they are written.
struct Objects<'a>(&'a Graph, usize);

impl Serialize for Objects<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let objects = self.0.objects().iter().take(self.1).enumerate();
        serializer
            .collect_seq(objects.map(|(at, object)| ValueName(digest(at as u32, object.bytes))))
    }
}

struct Events<'a, W> {
    out: W,
    lanes: Vec<u32>,
    scenario: &'a Scenario,
    graph: &'a Graph,
    outcome: &'a Outcome,
    is_first: bool,
}

/// Names of this kind, number and length, in the form of names of content.
fn digest(number: u32, length: u64) -> Digest {
    let mut sha256 = [0; 32];
    sha256[28..].copy_from_slice(&number.to_be_bytes());
    Digest { sha256, length }
}

impl<W: Write> Events<'_, W> {
    fn event(&mut self, event: &impl Serialize) -> io::Result<()> {
        self.out.write_all(if std::mem::take(&mut self.is_first) { b"\n" } else { b",\n" })?;
        serde_json::to_writer(&mut self.out, event).map_err(io::Error::from)
    }

    /// The names of a machine and of its rows.
    fn host(&mut self, host: HostId, rows: u32) -> io::Result<()> {
        let machine = (0, "process_name", host_name(self.scenario, host));
        let rows = (1..=rows).map(|row| (row, "thread_name", format!("core {row}")));
        for (row, what, name) in std::iter::once(machine).chain(rows) {
            let args = json!({ "name": name });
            self.event(&json!({
                "name": what, "ph": "M", "pid": pid(host), "tid": row, "args": args,
            }))?;
        }
        Ok(())
    }

    /// Its wait, and its run.
    fn task(&mut self, id: TaskId) -> io::Result<()> {
        let (task, record) = (self.graph.task(id), self.outcome.tasks[id.index()]);
        let class = &self.graph.classes()[usize::from(task.class)];
        let thunk = ThunkName(digest(id.0, 1)).to_string();
        let name = format!("{class} {}", id.0);
        let (pid, tid) = (pid(record.host), self.lanes[id.index()] + 1);
        let (from, to) = (micros(record.started), micros(record.finished.max(record.started)));
        let ready = micros(record.ready).min(from);
        for (ph, ts, args) in [("b", ready, json!({ "what": name })), ("e", from, json!({}))] {
            self.event(&json!({
                "name": "waits", "cat": "queue", "ph": ph, "ts": ts, "id2": { "local": thunk },
                "pid": pid, "tid": 0, "args": args,
            }))?;
        }
        let inputs: Vec<u32> = self.graph.inputs(id).iter().map(|object| object.0).collect();
        let outputs: Vec<u32> = self.graph.outputs(id).map(|ObjectId(object)| object).collect();
        self.event(&json!({
            "name": name, "cat": "run", "ph": "X", "ts": from, "dur": to - from, "pid": pid, "tid": tid,
            "args": {
                "thunk": thunk, "cores": 1, "inputs": inputs, "outputs": outputs, "succeeded": true,
                "run_us": to - from, "cpu_us": to - from, "memory_bytes": task.memory,
                "attempts": record.attempts, "fetched_bytes": record.fetched,
            },
        }))
    }
}

fn pid(host: HostId) -> u64 {
    u64::from(host.0) + 1
}

fn micros(time: SimTime) -> u64 {
    time.ns() / 1_000
}
