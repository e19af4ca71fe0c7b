//! The graph of thunks and how far each has been reduced.
//!
//! Nodes are thunks, known by name alone until somebody needs their bytes; edges lead from a thunk
//! to the outputs that it reads. The graph grows while it runs: a thunk whose dependencies are all
//! values is *substituted* by one that names those values, and that one is a node of its own; an
//! output may itself be a thunk, which is then evaluated in its place. Every node thus ends as
//! outputs or as a failure, and what waits for it is told once.
//!
//! This file knows nothing of slots, memos or attempts: that is [`crate::sched::force`].

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::limits;
use crate::name::{OutputRef, Tag, ThunkName};
use crate::thunk::{OutputObject, Thunk};

/// Outputs of a finished thunk, by tag.
pub type Outputs = Arc<BTreeMap<Tag, OutputObject>>;

/// The place of a thunk in its graph.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct NodeId(u32);

impl NodeId {
    /// Its number: they count from zero.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// How far a thunk is.
#[derive(Clone, Debug)]
pub enum Progress {
    /// Nobody has asked for it.
    Idle,
    /// The memo has been asked.
    Recalling,
    /// Its bytes have been asked for.
    Fetching,
    /// It waits for so many outputs of others.
    Waiting(u32),
    /// It waits for the thunk that stands for it now that its dependencies are values.
    Substituted(NodeId),
    /// It reads values alone: it can run.
    Ready,
    /// It runs.
    Running,
    /// It has been reduced.
    Done(Outputs),
    /// It will not be reduced.
    Failed(Failed),
}

/// Why a thunk will not be reduced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// What happened, to this thunk or to the last one on the way.
    pub reason: Arc<str>,
    /// The dependency that failed; none if it is this thunk itself.
    pub because_of: Option<NodeId>,
    /// What kind of trouble it is.
    pub cause: Cause,
}

/// Kinds of trouble that keep an output from being had.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Cause {
    /// A thunk ran and failed, or no machine could ever run it.
    Program,
    /// The machines that tried failed.
    Machine,
    /// The content of a thunk cannot be found.
    NotFound,
    /// A thunk succeeded without that output.
    NoOutput,
    /// Thunks wait for each other, lead on without end, or read what is not there to be read.
    Graph,
    /// It was not tried: everything was stopped first.
    Stopped,
}

/// One thunk of the graph.
#[derive(Debug)]
pub struct Node {
    /// Its name.
    pub name: ThunkName,
    /// Its content, once known; let go when it is done.
    pub thunk: Option<Arc<Thunk>>,
    /// How far it is.
    pub progress: Progress,
    waiters: Vec<Waiter>,
}

/// Who waits for a thunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waiter {
    /// A thunk that reads one of its outputs, or that it stands for.
    Node(NodeId),
    /// Somebody outside, by a number of theirs.
    Demand(u64),
}

/// Where the chain of "this output is that thunk's output" ends for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// At a value.
    Value(OutputObject),
    /// At a thunk that is not done yet.
    Unfinished(NodeId),
    /// At a failure.
    Failed(Failed),
}

/// Thunks by name, and how far each has been reduced.
#[derive(Default, Debug)]
pub struct Graph {
    nodes: Vec<Node>,
    index: BTreeMap<ThunkName, NodeId>,
}

impl Graph {
    /// The node of that name; made if there is none.
    pub fn node(&mut self, name: ThunkName) -> NodeId {
        let nodes = &mut self.nodes;
        *self.index.entry(name).or_insert_with(|| {
            let id = NodeId(u32::try_from(nodes.len()).unwrap_or(u32::MAX));
            let progress = Progress::Idle;
            nodes.push(Node { name, thunk: None, progress, waiters: Vec::new() });
            id
        })
    }

    /// The node of that name, if there is one.
    pub fn find(&self, name: &ThunkName) -> Option<NodeId> {
        self.index.get(name).copied()
    }

    /// The node.
    pub fn get(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// The node, to be changed.
    pub fn get_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.index()]
    }

    /// All nodes, in the order in which they became known.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        (0..).map(NodeId).zip(&self.nodes)
    }

    /// How many thunks there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Adds somebody to be told when `id` ends.
    pub fn wait(&mut self, id: NodeId, waiter: Waiter) {
        self.get_mut(id).waiters.push(waiter);
    }

    /// Who is to be told when `id` ends.
    pub fn waiters(&self, id: NodeId) -> &[Waiter] {
        &self.get(id).waiters
    }

    /// Ends `id` and returns who is to be told.
    pub fn finish(&mut self, id: NodeId, end: Result<Outputs, Failed>) -> Vec<Waiter> {
        let node = self.get_mut(id);
        node.thunk = None;
        node.progress = match end {
            Ok(outputs) => Progress::Done(outputs),
            Err(failed) => Progress::Failed(failed),
        };
        std::mem::take(&mut node.waiters)
    }

    /// Follows an output through finished thunks to a value, an unfinished thunk, or a failure.
    pub fn resolve(&mut self, output: &OutputRef) -> Resolution {
        let mut id = self.node(output.thunk);
        let mut followed: Option<Tag> = None;
        for step in 0..limits::REDUCTION_CHAIN {
            let outputs = match &self.get(id).progress {
                Progress::Done(outputs) => outputs,
                Progress::Failed(failed) => {
                    let because_of = Some(id);
                    return Resolution::Failed(Failed { because_of, ..failed.clone() });
                }
                _ => return Resolution::Unfinished(id),
            };
            let tag = followed.as_ref().unwrap_or(&output.tag);
            // Only the thunk that was asked must have this very tag; one in its place may have
            // another one for its whole.
            let chosen = match step == 0 || outputs.contains_key(tag) {
                true => Some(tag),
                false => primary_tag(outputs),
            };
            let found = chosen.and_then(|tag| Some((tag, outputs.get(tag)?)));
            let Some((tag, found)) = found else {
                let reason = format!("{} left no output #{}", self.get(id).name, output.tag);
                let (reason, cause) = (reason.into(), Cause::NoOutput);
                return Resolution::Failed(Failed { reason, because_of: Some(id), cause });
            };
            match found {
                OutputObject::Thunk(next) => {
                    let next = *next;
                    followed = Some(tag.clone());
                    id = self.node(next);
                }
                value => return Resolution::Value(value.clone()),
            }
        }
        let reason = format!("{output} leads from thunk to thunk without end");
        let (reason, cause) = (reason.into(), Cause::Graph);
        Resolution::Failed(Failed { reason, because_of: Some(id), cause })
    }

    /// The names from a failed thunk down to the one that is to blame.
    pub fn blame(&self, id: NodeId) -> Vec<ThunkName> {
        let mut path = vec![self.get(id).name];
        let mut next = id;
        while let Progress::Failed(Failed { because_of: Some(cause), .. }) = self.get(next).progress
        {
            if path.len() > self.nodes.len() {
                break;
            }
            path.push(self.get(cause).name);
            next = cause;
        }
        path
    }

    /// The thunks that one waits for directly.
    pub fn awaited(&mut self, id: NodeId) -> Vec<NodeId> {
        match &self.get(id).progress {
            Progress::Substituted(other) => vec![*other],
            Progress::Waiting(_) => {
                let Some(thunk) = self.get(id).thunk.clone() else { return Vec::new() };
                let outputs = thunk.dependencies();
                let resolved = outputs.into_iter().map(|output| self.resolve(output));
                let unfinished = resolved.filter_map(|resolution| match resolution {
                    Resolution::Unfinished(id) => Some(id),
                    _ => None,
                });
                unfinished.collect()
            }
            _ => Vec::new(),
        }
    }

    /// A way from `start` back to a thunk already on it, if waiting goes in a circle there.
    pub fn find_cycle(&mut self, start: NodeId) -> Option<Vec<NodeId>> {
        let mut seen = std::collections::BTreeSet::new();
        let mut path: Vec<(NodeId, Vec<NodeId>)> = vec![(start, self.awaited(start))];
        while let Some((_, rest)) = path.last_mut() {
            let Some(next) = rest.pop() else {
                path.pop();
                continue;
            };
            if let Some(at) = path.iter().position(|(id, _)| *id == next) {
                return Some(path[at..].iter().map(|(id, _)| *id).chain([next]).collect());
            }
            if seen.insert(next) {
                let awaited = self.awaited(next);
                path.push((next, awaited));
            }
        }
        None
    }
}

/// The output that stands for a whole thunk: the only one, or the one tagged `out`.
pub fn primary(outputs: &BTreeMap<Tag, OutputObject>) -> Option<Tag> {
    primary_tag(outputs).cloned()
}

fn primary_tag(outputs: &BTreeMap<Tag, OutputObject>) -> Option<&Tag> {
    match outputs.len() {
        1 => outputs.keys().next(),
        _ => outputs.keys().find(|tag| tag.as_str() == "out"),
    }
}
