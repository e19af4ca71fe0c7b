//! The graph of a run: tasks, the objects between them, the jobs they belong to.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::kernel::SimTime;
use crate::limits::{TASKS_MAX, USES_MAX};

/// A task. Numbers are topological: a task comes after those whose outputs it takes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct TaskId(pub u32);

/// An object.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ObjectId(pub u32);

/// A job: the tasks that one user submits at once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct JobId(pub u32);

impl TaskId {
    /// As an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl ObjectId {
    /// As an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl JobId {
    /// As an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A task.
#[derive(Clone, Debug)]
pub struct Task {
    /// Seconds on one core of speed 1.
    pub work: f64,
    /// Bytes of memory while it runs.
    pub memory: u64,
    /// Its class: the position in [`Graph::classes`].
    pub class: u16,
    /// Its job.
    pub job: JobId,
    /// The task whose end brings this one into being; `None` if it is there when its job arrives.
    /// Nobody knows of it earlier.
    pub revealed_by: Option<TaskId>,
    outputs: (u32, u32),
}

/// Immutable bytes. An object of no bytes is a dependency without data: it needs no transfer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Object {
    /// Its size.
    pub bytes: u64,
    /// Where it comes from.
    pub origin: ObjectOrigin,
}

/// Where an object comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ObjectOrigin {
    /// The user of a job has it.
    Source(JobId),
    /// Every user has it, and hosts may hold it already: a toolchain.
    Common,
    /// A task makes it.
    Product(TaskId),
}

/// A job.
#[derive(Clone, Debug)]
pub struct Job {
    /// When it arrives.
    pub arrival: SimTime,
    /// Whose it is.
    pub user: u32,
    /// Its tasks.
    pub tasks: Range<u32>,
}

/// Everything that is to be run.
#[derive(Debug, Default)]
pub struct Graph {
    tasks: Vec<Task>,
    objects: Vec<Object>,
    jobs: Vec<Job>,
    classes: Vec<String>,
    inputs: Lists<ObjectId>,
    consumers: Lists<TaskId>,
    /// For each task the tasks that its end reveals.
    reveals: Lists<TaskId>,
}

/// Lists behind each other in one vector.
#[derive(Debug, Default)]
struct Lists<T> {
    /// Where list n begins; one entry more than lists.
    starts: Vec<u32>,
    items: Vec<T>,
}

impl<T: Copy + Default> Lists<T> {
    fn get(&self, index: usize) -> &[T] {
        match (self.starts.get(index), self.starts.get(index + 1)) {
            (Some(&from), Some(&to)) => &self.items[from as usize..to as usize],
            _ => &[],
        }
    }

    /// `pairs` says which item belongs to which list; items keep their order.
    fn group(lists: usize, pairs: impl Iterator<Item = (usize, T)> + Clone) -> Self {
        let mut starts = vec![0_u32; lists + 1];
        pairs.clone().for_each(|(list, _)| starts[list + 1] += 1);
        for n in 0..lists {
            starts[n + 1] += starts[n];
        }
        let mut next = starts.clone();
        let mut items = vec![T::default(); starts[lists] as usize];
        for (list, item) in pairs {
            items[next[list] as usize] = item;
            next[list] += 1;
        }
        Self { starts, items }
    }
}

impl Graph {
    /// All tasks.
    pub fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// A task.
    pub fn task(&self, id: TaskId) -> &Task {
        &self.tasks[id.index()]
    }

    /// All objects.
    pub fn objects(&self) -> &[Object] {
        &self.objects
    }

    /// An object.
    pub fn object(&self, id: ObjectId) -> &Object {
        &self.objects[id.index()]
    }

    /// All jobs, in the order of their arrival.
    pub fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    /// The names of the classes.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// What a task takes.
    pub fn inputs(&self, task: TaskId) -> &[ObjectId] {
        self.inputs.get(task.index())
    }

    /// What a task makes.
    pub fn outputs(&self, task: TaskId) -> impl Iterator<Item = ObjectId> + use<> {
        let (from, to) = self.tasks[task.index()].outputs;
        (from..to).map(ObjectId)
    }

    /// Who takes an object.
    pub fn consumers(&self, object: ObjectId) -> &[TaskId] {
        self.consumers.get(object.index())
    }

    /// Which tasks the end of this one brings into being.
    pub fn reveals(&self, task: TaskId) -> &[TaskId] {
        self.reveals.get(task.index())
    }

    /// Seconds of the longest chain of each job on cores of speed 1, without transfers.
    pub fn critical_paths(&self) -> Vec<f64> {
        let mut rank = vec![0.0_f64; self.tasks.len()];
        let mut longest = vec![0.0_f64; self.jobs.len()];
        for (at, task) in self.tasks.iter().enumerate().rev() {
            let id = TaskId(at as u32);
            let after = self.outputs(id).flat_map(|object| self.consumers(object));
            let after = after.chain(self.reveals(id));
            let tail = after.map(|next| rank[next.index()]).fold(0.0, f64::max);
            rank[at] = task.work + tail;
            let job = &mut longest[task.job.index()];
            *job = job.max(rank[at]);
        }
        longest
    }
}

/// What a new task is like.
#[derive(Clone, Copy, Debug)]
pub struct Spec<'a> {
    /// The name of its class.
    pub class: &'a str,
    /// Seconds on one core of speed 1.
    pub work: f64,
    /// Bytes of memory.
    pub memory: u64,
}

/// Makes graphs.
#[derive(Debug, Default)]
pub struct Builder {
    graph: Graph,
    classes: BTreeMap<String, u16>,
    common: BTreeMap<String, ObjectId>,
    overflow: bool,
}

impl Builder {
    /// Opens the next job. Jobs come in the order of their arrival.
    pub fn job(&mut self, arrival: SimTime, user: u32) {
        let start = self.graph.tasks.len() as u32;
        self.graph.jobs.push(Job { arrival, user, tasks: start..start });
    }

    /// An object that the user of the open job has.
    pub fn source(&mut self, bytes: u64) -> ObjectId {
        let job = JobId(self.graph.jobs.len().saturating_sub(1) as u32);
        self.object(bytes, ObjectOrigin::Source(job))
    }

    /// The object of this name that all jobs share. The first call fixes its size.
    pub fn common(&mut self, name: &str, bytes: u64) -> ObjectId {
        if let Some(&known) = self.common.get(name) {
            return known;
        }
        let object = self.object(bytes, ObjectOrigin::Common);
        self.common.insert(name.to_owned(), object);
        object
    }

    /// Adds a task to the open job, with outputs of these sizes. Inputs must be there already; an
    /// input that is named twice counts once.
    pub fn task(&mut self, spec: Spec<'_>, inputs: &[ObjectId], outputs: &[u64]) -> TaskId {
        self.revealed_task(None, spec, inputs, outputs)
    }

    /// Adds a task that the end of another brings into being.
    pub fn revealed_task(
        &mut self,
        revealed_by: Option<TaskId>,
        spec: Spec<'_>,
        inputs: &[ObjectId],
        outputs: &[u64],
    ) -> TaskId {
        let uses = self.graph.inputs.items.len() + inputs.len();
        if self.graph.tasks.len() >= TASKS_MAX || uses > USES_MAX {
            self.overflow = true;
            return TaskId(0);
        }
        if self.graph.jobs.is_empty() {
            self.job(SimTime::ZERO, 0);
        }
        let id = TaskId(self.graph.tasks.len() as u32);
        let first = self.graph.objects.len() as u32;
        for &bytes in outputs {
            self.object(bytes, ObjectOrigin::Product(id));
        }
        let lists = &mut self.graph.inputs;
        if lists.starts.is_empty() {
            lists.starts.push(0);
        }
        let from = lists.items.len();
        for &input in inputs {
            if !lists.items[from..].contains(&input) {
                lists.items.push(input);
            }
        }
        lists.starts.push(lists.items.len() as u32);
        let class = self.class(spec.class);
        let job = JobId(self.graph.jobs.len().saturating_sub(1) as u32);
        self.graph.tasks.push(Task {
            work: spec.work,
            memory: spec.memory,
            class,
            job,
            revealed_by,
            outputs: (first, first + outputs.len() as u32),
        });
        if let Some(job) = self.graph.jobs.last_mut() {
            job.tasks.end = id.0 + 1;
        }
        id
    }

    /// The first output of a task.
    pub fn output(&self, task: TaskId) -> ObjectId {
        self.graph.tasks.get(task.index()).map_or(ObjectId(0), |task| ObjectId(task.outputs.0))
    }

    /// How many tasks there are.
    pub fn len(&self) -> usize {
        self.graph.tasks.len()
    }

    /// Whether the graph is too large already: what is added now is lost.
    pub fn is_full(&self) -> bool {
        self.overflow
    }

    /// Whether there are no tasks.
    pub fn is_empty(&self) -> bool {
        self.graph.tasks.is_empty()
    }

    /// The graph; `None` if it is larger than [`crate::limits`] admits.
    pub fn finish(mut self) -> Option<Graph> {
        if self.overflow {
            return None;
        }
        let graph = &mut self.graph;
        let tasks = graph.tasks.len();
        let inputs = &graph.inputs;
        let uses = (0..tasks).flat_map(|task| {
            inputs.get(task).iter().map(move |object| (object.index(), TaskId(task as u32)))
        });
        graph.consumers = Lists::group(graph.objects.len(), uses);
        let revealed = graph.tasks.iter().enumerate();
        let revealed = revealed.filter_map(|(task, what)| {
            what.revealed_by.map(|by| (by.index(), TaskId(task as u32)))
        });
        graph.reveals = Lists::group(tasks, revealed);
        Some(self.graph)
    }

    fn class(&mut self, name: &str) -> u16 {
        if let Some(&known) = self.classes.get(name) {
            return known;
        }
        // Past 65,535 classes the rest share the last one.
        let id = self.graph.classes.len().min(usize::from(u16::MAX)) as u16;
        if self.graph.classes.len() <= usize::from(u16::MAX) {
            self.graph.classes.push(name.to_owned());
        }
        self.classes.insert(name.to_owned(), id);
        id
    }

    fn object(&mut self, bytes: u64, origin: ObjectOrigin) -> ObjectId {
        if self.graph.objects.len() >= USES_MAX {
            self.overflow = true;
            return ObjectId(0);
        }
        self.graph.objects.push(Object { bytes, origin });
        ObjectId(self.graph.objects.len() as u32 - 1)
    }
}
