//! What the machines call tasks and objects, and what tasks wait for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_protocol::name::{Digest, Tag, ThunkName, ValueName};
use mesh_protocol::path::AbsPath;
use mesh_protocol::sched::force::RunId;
use mesh_protocol::sched::kinds::Estimates;
use mesh_protocol::sched::level::Level;
use mesh_protocol::thunk::{
    Function, Input, Limits, Output, OutputObject, Platform, Thunk, ThunkSpec,
};

use crate::run::Setup;
use crate::workload::{JobId, ObjectId, ObjectOrigin, TaskId};

/// Of all simulated machines.
pub(super) const PLATFORM: Platform = Platform::X86_64Linux;

const MIB: u64 = 1 << 20;

/// Tasks as thunks, and how far they are.
pub(super) struct Books<'a> {
    setup: Setup<'a>,
    /// What tasks of a class are known by.
    kinds: Vec<AbsPath>,
    /// Longest chain from each task on.
    levels: Vec<Level>,
    /// What a job's user has seen of run times: each build learns anew.
    estimates: Vec<Estimates>,
    missing: Vec<u32>,
    known: Vec<bool>,
    done: Vec<bool>,
    job_left: Vec<u32>,
    pub(super) jobs_left: usize,
    pub(super) tasks_left: u64,
}

fn name(kind: u8, number: u32, length: u64) -> Digest {
    let mut sha256 = [0; 32];
    sha256[0] = kind;
    sha256[1..5].copy_from_slice(&number.to_le_bytes());
    Digest { sha256, length }
}

/// What a task is called.
pub(super) fn thunk_name(task: TaskId) -> ThunkName {
    ThunkName(name(1, task.0, 1))
}

/// Which task that is.
pub(super) fn task_of(name: ThunkName) -> TaskId {
    let bytes = name.digest().sha256;
    TaskId(u32::from_le_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]))
}

/// What somebody says that a task left: what it comes to, which is where the graph says, or something else.
pub(super) fn outputs(is_false: bool) -> BTreeMap<Tag, OutputObject> {
    let name = name(3, u32::from(is_false), 0);
    let object = OutputObject::File { name: ValueName(name), executable: false };
    "out".parse().map_or_else(|_| BTreeMap::new(), |tag| BTreeMap::from([(tag, object)]))
}

impl<'a> Books<'a> {
    pub(super) fn new(setup: Setup<'a>) -> Self {
        let graph = setup.graph;
        let is_product =
            |object: &&ObjectId| matches!(graph.object(**object).origin, ObjectOrigin::Product(_));
        let tasks = (0..graph.tasks().len() as u32).map(TaskId);
        let missing = tasks.map(|task| graph.inputs(task).iter().filter(is_product).count() as u32);
        let kinds = (0..graph.classes().len()).map(|class| format!("/class/{class}"));
        let mut books = Self {
            kinds: kinds.filter_map(|kind| kind.parse().ok()).collect(),
            levels: vec![Level::default(); graph.tasks().len()],
            estimates: graph.jobs().iter().map(|_| Estimates::default()).collect(),
            missing: missing.collect(),
            known: vec![false; graph.tasks().len()],
            done: vec![false; graph.tasks().len()],
            job_left: graph.jobs().iter().map(|job| job.tasks.len() as u32).collect(),
            jobs_left: 0,
            tasks_left: graph.tasks().len() as u64,
            setup,
        };
        books.jobs_left = books.job_left.iter().filter(|left| **left > 0).count();
        (0..graph.jobs().len() as u32).for_each(|job| books.sweep(JobId(job)));
        books
    }

    /// Of a task, as force would tell it.
    pub(super) fn level(&self, task: TaskId) -> Level {
        self.levels[task.index()]
    }

    fn sweep(&mut self, job: JobId) {
        let graph = self.setup.graph;
        let estimates = &self.estimates[job.index()];
        for task in graph.jobs()[job.index()].tasks.clone().rev().map(TaskId) {
            let consumers = graph.outputs(task).flat_map(|object| graph.consumers(object));
            let after = consumers.chain(graph.reveals(task)).map(|next| self.levels[next.index()]);
            let us = estimates.of(self.kinds.get(usize::from(graph.task(task).class)));
            self.levels[task.index()] = after.fold(Level::default(), Level::max).after(us);
        }
    }

    /// A run took so long. The levels that are others by that, of what is ready or runs: as force would
    /// tell them.
    pub(super) fn took(&mut self, task: TaskId, us: u64) -> Vec<(RunId, Level)> {
        let graph = self.setup.graph;
        let job = graph.task(task).job;
        let Some(kind) = self.kinds.get(usize::from(graph.task(task).class)) else {
            return Vec::new();
        };
        if !self.estimates[job.index()].record(kind, us) {
            return Vec::new();
        }
        self.estimates[job.index()].renew();
        let tasks = graph.jobs()[job.index()].tasks.clone();
        let before = self.levels[tasks.start as usize..tasks.end as usize].to_vec();
        self.sweep(job);
        let now = tasks.zip(before).filter(|(task, before)| self.levels[*task as usize] != *before);
        let now = now
            .map(|(task, _)| task as usize)
            .filter(|&at| self.known[at] && self.missing[at] == 0 && !self.done[at]);
        now.map(|at| (RunId(at as u64), self.levels[at])).collect()
    }

    pub(super) fn is_done(&self, task: TaskId) -> bool {
        self.done[task.index()]
    }

    /// The tasks of a job that are ready when it arrives.
    pub(super) fn arrive(&mut self, job: JobId) -> Vec<TaskId> {
        let tasks = self.setup.graph.jobs()[job.index()].tasks.clone().map(TaskId);
        let known = tasks.filter(|task| self.setup.graph.task(*task).revealed_by.is_none());
        known.collect::<Vec<_>>().into_iter().filter(|task| self.reveal(*task)).collect()
    }

    /// Is it ready with that?
    fn reveal(&mut self, task: TaskId) -> bool {
        let is_new = !std::mem::replace(&mut self.known[task.index()], true);
        is_new && self.missing[task.index()] == 0
    }

    /// The tasks that are ready now that this one is done, and whether its job is done.
    pub(super) fn end(&mut self, task: TaskId) -> (Vec<TaskId>, bool) {
        let graph = self.setup.graph;
        self.done[task.index()] = true;
        self.tasks_left -= 1;
        let mut ready = Vec::new();
        for object in graph.outputs(task) {
            for consumer in graph.consumers(object) {
                let missing = &mut self.missing[consumer.index()];
                *missing = missing.saturating_sub(1);
                if *missing == 0 && self.known[consumer.index()] {
                    ready.push(*consumer);
                }
            }
        }
        let revealed = graph.reveals(task).to_vec();
        ready.extend(revealed.into_iter().filter(|task| self.reveal(*task)));
        let left = &mut self.job_left[graph.task(task).job.index()];
        *left -= 1;
        let is_last = *left == 0;
        self.jobs_left -= usize::from(is_last);
        (ready, is_last)
    }

    /// What the machines see of a task: its class, its inputs by size, its memory.
    /// What no thunk can be is an error, in words.
    pub(super) fn thunk(&self, task: TaskId) -> Result<Arc<Thunk>, String> {
        self.try_thunk(task).map_err(|error| error.to_string())
    }

    fn try_thunk(&self, task: TaskId) -> Result<Arc<Thunk>, Box<dyn std::error::Error>> {
        let graph = self.setup.graph;
        let what = graph.task(task);
        let kind = self.kinds.get(usize::from(what.class)).ok_or("it has no class")?;
        let mut inputs = BTreeMap::new();
        for object in graph.inputs(task) {
            let bytes = graph.object(*object).bytes;
            let path = format!("/in/{}", object.0).parse::<AbsPath>()?;
            inputs.insert(path, Input::file(ValueName(name(2, object.0, bytes))));
        }
        let memory = (what.memory > 0).then_some(what.memory.div_ceil(MIB) * MIB);
        let spec = ThunkSpec {
            function: Function {
                executable: kind.clone(),
                arguments: vec!["task".to_owned()],
                environment: BTreeMap::new(),
                working_directory: AbsPath::root(),
            },
            inputs,
            symlinks: BTreeMap::new(),
            directories: BTreeSet::new(),
            outputs: BTreeMap::from([("out".parse()?, Output::required("/out".parse()?))]),
            stdin: None,
            limits: Limits { memory_bytes: memory, ..Limits::for_platform(PLATFORM) },
        };
        Ok(Arc::new(Thunk::try_from(spec)?))
    }
}
