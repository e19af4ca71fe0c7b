//! WfCommons WfFormat (<https://wfcommons.org>), JSON, versions 1.3 to 1.6.
//!
//! Read are the tasks, who depends on whom, files with their sizes, run times and memory. A parent
//! that makes none of the task's files is a dependency without data. Left out: cores (every task
//! takes one), the machines on which the times were measured (times are taken as of a core of speed
//! 1), and the memory of version 1.3, whose unit varies.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use super::{Builder, ObjectId, Spec, TaskId};
use crate::config::{ConfigError, Section};
use crate::limits::INPUT_BYTES_MAX;

/// `kind = "workflow"`: a workflow read from a file, its tasks in topological order.
#[derive(Debug)]
pub struct Workflow {
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    class: String,
    work: f64,
    memory: u64,
    /// Files by name, with sizes.
    inputs: Vec<(String, u64)>,
    outputs: Vec<(String, u64)>,
    /// Positions in `steps`.
    parents: Vec<usize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: String,
    workflow: Body,
}

/// Up to 1.4 the tasks hold everything; from 1.5 on it is split into specification and execution.
#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    tasks: Vec<OldTask>,
    specification: Option<Specification>,
    execution: Option<Execution>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OldTask {
    name: String,
    category: Option<String>,
    #[serde(default)]
    parents: Vec<String>,
    #[serde(default)]
    files: Vec<OldFile>,
    #[serde(alias = "runtime", default)]
    runtime_in_seconds: f64,
    memory_in_bytes: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OldFile {
    name: String,
    link: String,
    #[serde(alias = "size", default)]
    size_in_bytes: f64,
}

#[derive(Deserialize)]
struct Specification {
    tasks: Vec<NewTask>,
    #[serde(default)]
    files: Vec<NewFile>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewTask {
    name: String,
    id: String,
    #[serde(default)]
    parents: Vec<String>,
    #[serde(default)]
    input_files: Vec<String>,
    #[serde(default)]
    output_files: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewFile {
    id: String,
    size_in_bytes: f64,
}

#[derive(Deserialize)]
struct Execution {
    tasks: Vec<Executed>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Executed {
    id: String,
    runtime_in_seconds: f64,
    memory_in_bytes: Option<f64>,
}

/// A task of any version, before it is ordered.
struct Raw {
    id: String,
    class: String,
    work: f64,
    memory: f64,
    parents: Vec<String>,
    inputs: Vec<(String, u64)>,
    outputs: Vec<(String, u64)>,
}

impl Workflow {
    pub(super) fn read(section: &Section<'_>) -> Result<Self, ConfigError> {
        let allowed = "the path of a WfFormat JSON file";
        let path = section.need("file", section.file("file")?, allowed)?;
        Self::open(&path).map_err(|problem| {
            section.wrong("file", format!("{}: {problem}", path.display()), allowed)
        })
    }

    /// Reads a file.
    pub fn open(path: &Path) -> Result<Self, String> {
        let size = std::fs::metadata(path).map_err(|e| e.to_string())?.len();
        if size > INPUT_BYTES_MAX {
            return Err("larger than 1 GiB".to_owned());
        }
        Self::parse(&std::fs::read_to_string(path).map_err(|e| e.to_string())?)
    }

    /// Reads a text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let document: Document = serde_json::from_str(text).map_err(|e| e.to_string())?;
        let version = document.schema_version.as_str();
        let raw = match version {
            "1.3" | "1.4" => document.workflow.tasks.into_iter().map(old).collect(),
            "1.5" | "1.6" => new(document.workflow)?,
            _ => return Err(format!("schemaVersion {version:?}; 1.3 to 1.6 are known")),
        };
        order(raw)
    }

    pub(super) fn generate(&self, builder: &mut Builder) {
        let mut files: BTreeMap<&str, ObjectId> = BTreeMap::new();
        let mut done: Vec<ObjectId> = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            let mut inputs: Vec<ObjectId> = Vec::with_capacity(step.inputs.len());
            for (name, bytes) in &step.inputs {
                let known = files.entry(name.as_str());
                inputs.push(*known.or_insert_with(|| builder.source(*bytes)));
            }
            inputs.extend(step.parents.iter().map(|&parent| done[parent]));
            // The last output stands for the end of the task itself.
            let sizes: Vec<u64> = step.outputs.iter().map(|(_, bytes)| *bytes).chain([0]).collect();
            let spec = Spec { class: &step.class, work: step.work, memory: step.memory };
            let task: TaskId = builder.task(spec, &inputs, &sizes);
            let first = builder.output(task).0;
            for (n, (name, _)) in step.outputs.iter().enumerate() {
                files.insert(name, ObjectId(first + n as u32));
            }
            done.push(ObjectId(first + step.outputs.len() as u32));
        }
    }
}

fn old(task: OldTask) -> Raw {
    let side = |link: &str| {
        let files = task.files.iter().filter(|file| file.link == link);
        files.map(|file| (file.name.clone(), file.size_in_bytes as u64)).collect()
    };
    Raw {
        class: task.category.clone().unwrap_or_else(|| class_of(&task.name)),
        work: task.runtime_in_seconds,
        memory: task.memory_in_bytes.unwrap_or(0.0),
        inputs: side("input"),
        outputs: side("output"),
        parents: task.parents,
        id: task.name,
    }
}

fn new(body: Body) -> Result<Vec<Raw>, String> {
    let specification = body.specification.ok_or("workflow.specification is missing")?;
    let execution =
        body.execution.ok_or("workflow.execution is missing: nothing says how long tasks take")?;
    let sizes: BTreeMap<&str, u64> =
        specification.files.iter().map(|f| (f.id.as_str(), f.size_in_bytes as u64)).collect();
    let executed: BTreeMap<&str, &Executed> =
        execution.tasks.iter().map(|task| (task.id.as_str(), task)).collect();
    let sized = |names: &[String]| {
        let sized = |name: &String| {
            let bytes = sizes.get(name.as_str());
            Ok((name.clone(), *bytes.ok_or_else(|| format!("file {name:?} has no size"))?))
        };
        names.iter().map(sized).collect::<Result<Vec<_>, String>>()
    };
    let raw = |task: &NewTask| {
        let run = executed.get(task.id.as_str());
        let run = run.ok_or_else(|| format!("task {:?} was not executed", task.id))?;
        Ok(Raw {
            id: task.id.clone(),
            class: class_of(&task.name),
            work: run.runtime_in_seconds,
            memory: run.memory_in_bytes.unwrap_or(0.0),
            parents: task.parents.clone(),
            inputs: sized(&task.input_files)?,
            outputs: sized(&task.output_files)?,
        })
    };
    specification.tasks.iter().map(raw).collect()
}

/// `mProject_00000004` is a `mProject`.
fn class_of(name: &str) -> String {
    name.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('_').to_owned()
}

/// Sorts tasks topologically, by parents and by files; equals in the order of the file.
fn order(raw: Vec<Raw>) -> Result<Workflow, String> {
    let mut index = BTreeMap::new();
    let mut makers: BTreeMap<String, usize> = BTreeMap::new();
    for (at, task) in raw.iter().enumerate() {
        if index.insert(task.id.clone(), at).is_some() {
            return Err(format!("task {:?} twice", task.id));
        }
        if !(0.0..=1e9).contains(&task.work) {
            return Err(format!("task {:?} takes {} s", task.id, task.work));
        }
        for (file, _) in &task.outputs {
            makers.entry(file.clone()).or_insert(at);
        }
    }
    let mut before: Vec<BTreeSet<usize>> = Vec::with_capacity(raw.len());
    let mut after: Vec<Vec<usize>> = vec![Vec::new(); raw.len()];
    for (at, task) in raw.iter().enumerate() {
        let parents = task.parents.iter().map(|name| {
            index
                .get(name)
                .copied()
                .ok_or_else(|| format!("task {:?} has no parent {name:?}", task.id))
        });
        let mut all = parents.collect::<Result<BTreeSet<usize>, String>>()?;
        all.extend(
            task.inputs.iter().filter_map(|(file, _)| makers.get(file)).filter(|&&m| m != at),
        );
        all.iter().for_each(|&parent| after[parent].push(at));
        before.push(all);
    }
    let mut missing: Vec<usize> = before.iter().map(BTreeSet::len).collect();
    let mut ready: BTreeSet<usize> = (0..raw.len()).filter(|&at| missing[at] == 0).collect();
    let mut places = vec![0; raw.len()];
    let mut sorted = Vec::with_capacity(raw.len());
    while let Some(at) = ready.pop_first() {
        places[at] = sorted.len();
        sorted.push(at);
        for &next in &after[at] {
            missing[next] -= 1;
            if missing[next] == 0 {
                ready.insert(next);
            }
        }
    }
    if sorted.len() < raw.len() {
        return Err("tasks depend on each other in a circle".to_owned());
    }
    let mut raw: Vec<Option<Raw>> = raw.into_iter().map(Some).collect();
    let steps = sorted.iter().filter_map(|&at| raw[at].take().map(|task| (at, task)));
    let steps = steps.map(|(at, task)| step(at, task, &before[at], &places, &makers)).collect();
    Ok(Workflow { steps })
}

fn step(
    at: usize,
    task: Raw,
    before: &BTreeSet<usize>,
    places: &[usize],
    makers: &BTreeMap<String, usize>,
) -> Step {
    // What a task itself makes, it does not take; what two tasks make, the first one made.
    let made_here = |file: &str| makers.get(file) == Some(&at);
    let inputs: Vec<_> = task.inputs.into_iter().filter(|(file, _)| !made_here(file)).collect();
    let by_file: BTreeSet<usize> =
        inputs.iter().filter_map(|(file, _)| makers.get(file).copied()).collect();
    Step {
        class: task.class,
        work: task.work,
        memory: task.memory.max(0.0) as u64,
        outputs: task.outputs.into_iter().filter(|(file, _)| made_here(file)).collect(),
        parents: before.difference(&by_file).map(|&parent| places[parent]).collect(),
        inputs,
    }
}
