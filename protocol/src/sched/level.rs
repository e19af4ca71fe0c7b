//! How far from the end a thunk is: what critical path scheduling goes by.

use serde::{Deserialize, Serialize};

use crate::graph::{Graph, Node, NodeId, Progress, Waiter};
use crate::sched::kinds::Estimates;

/// The b-level of a thunk (Kwok and Ahmad, ACM Computing Surveys 1999): the longest known way from it to a
/// demand, itself included, under two weights. What moving results takes is in neither: a requester does not
/// know the links between others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Level {
    /// Each thunk counts one.
    pub thunks: u32,
    /// Each counts the microseconds that its kind is expected to take.
    pub us: u64,
}

impl Level {
    /// The longer way, by each weight.
    pub fn max(self, other: Self) -> Self {
        Self { thunks: self.thunks.max(other.thunks), us: self.us.max(other.us) }
    }

    /// One thunk more, which takes so long.
    pub fn after(self, us: u64) -> Self {
        Self { thunks: self.thunks.saturating_add(1), us: self.us.saturating_add(us) }
    }
}

/// The level of every thunk, as of the last sweep.
///
/// A sweep is linear, and comes when the graph has doubled: so all sweeps together are linear too. Others
/// come when the runs that estimates go by have doubled. In between, a level is what the sweep left and what
/// the thunk's direct waiters say.
#[derive(Default)]
pub(super) struct Levels {
    levels: Vec<Option<Level>>,
}

impl Levels {
    /// The level of `id`, which is ready to run: at least one thunk.
    pub(super) fn of(&mut self, graph: &Graph, estimates: &Estimates, id: NodeId) -> Level {
        if graph.len() >= 2 * self.levels.len() {
            self.sweep(graph, estimates);
        }
        self.known(id).unwrap_or_default().max(self.waiters_level(graph, estimates, id))
    }

    fn known(&self, id: NodeId) -> Option<Level> {
        self.levels.get(id.index()).copied().flatten()
    }

    fn waiters_level(&self, graph: &Graph, estimates: &Estimates, id: NodeId) -> Level {
        let levels = waiting_nodes(graph, id).filter_map(|waiter| self.known(waiter));
        let behind = levels.fold(Level::default(), Level::max);
        let Node { progress, thunk, .. } = graph.get(id);
        match progress {
            // What another thunk stands for costs nothing of its own any more.
            Progress::Substituted(_) => behind,
            _ => {
                let executable = thunk.as_ref().map(|thunk| &thunk.spec().function.executable);
                behind.after(estimates.of(executable))
            }
        }
    }

    pub(super) fn sweep(&mut self, graph: &Graph, estimates: &Estimates) {
        self.levels = vec![None; graph.len()];
        let mut entered = vec![false; graph.len()];
        let mut path: Vec<NodeId> = Vec::new();
        for (start, _) in graph.nodes() {
            path.push(start);
            while let Some(&id) = path.last() {
                if !std::mem::replace(&mut entered[id.index()], true) {
                    // Who waits in a circle has been entered, and counts as nothing.
                    path.extend(waiting_nodes(graph, id).filter(|next| !entered[next.index()]));
                    continue;
                }
                path.pop();
                if self.levels[id.index()].is_none() {
                    self.levels[id.index()] = Some(self.waiters_level(graph, estimates, id));
                }
            }
        }
    }
}

fn waiting_nodes(graph: &Graph, id: NodeId) -> impl Iterator<Item = NodeId> {
    graph.waiters(id).iter().filter_map(|waiter| match waiter {
        Waiter::Node(id) => Some(*id),
        Waiter::Demand(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;
    use crate::name::ThunkName;

    #[test]
    fn a_level_is_the_longest_way_to_a_demand() {
        let mut graph = Graph::default();
        let mut node = |label: u8| graph.node(ThunkName::of(&[label]));
        let [top, left, right, bottom, alone] = [0, 1, 2, 3, 4].map(&mut node);
        graph.wait(top, Waiter::Demand(0));
        graph.wait(left, Waiter::Node(top));
        graph.wait(right, Waiter::Node(left));
        graph.wait(bottom, Waiter::Node(right));
        graph.wait(bottom, Waiter::Node(top));
        let mut levels = Levels::default();
        let estimates = Estimates::default();
        let mut of = |graph: &Graph, id| levels.of(graph, &estimates, id).thunks;
        let found = [top, left, right, bottom, alone].map(|id| of(&graph, id));
        assert_eq!(found, [1, 2, 3, 4, 1]);
        // One that stands for another adds nothing to it.
        graph.get_mut(bottom).progress = Progress::Substituted(alone);
        let stand_in = graph.node(ThunkName::of(&[5]));
        graph.wait(stand_in, Waiter::Node(bottom));
        let level = Levels::default().of(&graph, &estimates, stand_in);
        assert_eq!(level, Level { thunks: 4, us: 4 * limits::UNSEEN_US });
    }

    #[test]
    fn waiting_in_a_circle_ends() {
        let mut graph = Graph::default();
        let (a, b) = (graph.node(ThunkName::of(b"a")), graph.node(ThunkName::of(b"b")));
        graph.wait(a, Waiter::Node(b));
        graph.wait(b, Waiter::Node(a));
        assert!(Levels::default().of(&graph, &Estimates::default(), a).thunks >= 1);
    }
}
