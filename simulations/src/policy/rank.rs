//! Ranks: how much is still to come after a task.

use std::cmp::Ordering;

use crate::run::View;
use crate::workload::TaskId;

/// A task in a heap.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ranked {
    /// Higher comes first.
    pub(super) rank: f64,
    /// Of equals, the lower.
    pub(super) order: u64,
    pub(super) task: TaskId,
}

/// For each task the length of the longest chain that begins with it, of those that are known.
///
/// A graph that grows gives its new tasks a rank that counts what was known before; older tasks keep
/// theirs.
#[derive(Debug, Default)]
pub(super) struct Ranks {
    ranks: Vec<f64>,
    with_transfers: bool,
    link: Option<(f64, f64)>,
}

impl Ranks {
    /// With or without the time that outputs take over a typical link.
    pub(super) fn new(with_transfers: bool) -> Self {
        Self { ranks: Vec::new(), with_transfers, link: None }
    }

    /// Ranks new tasks, which are in topological order.
    pub(super) fn add(&mut self, view: &View<'_>, tasks: &[TaskId]) {
        let graph = view.graph();
        // What is not known yet lengthens no chain.
        self.ranks.resize(graph.tasks().len(), f64::NEG_INFINITY);
        let (latency, bandwidth) = *self.link.get_or_insert_with(|| view.typical_link());
        for &task in tasks.iter().rev() {
            let mut tail = 0.0_f64;
            for output in graph.outputs(task) {
                let bytes = graph.object(output).bytes;
                let transfer = if self.with_transfers && bytes > 0 {
                    latency + bytes as f64 / bandwidth
                } else {
                    0.0
                };
                for &next in graph.consumers(output) {
                    tail = tail.max(transfer + self.ranks[next.index()]);
                }
            }
            self.ranks[task.index()] = view.estimate(task) + tail;
        }
    }

    /// The rank of a known task.
    pub(super) fn of(&self, task: TaskId) -> f64 {
        self.ranks.get(task.index()).copied().unwrap_or(0.0)
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked {}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank.total_cmp(&other.rank).then_with(|| other.order.cmp(&self.order))
    }
}
