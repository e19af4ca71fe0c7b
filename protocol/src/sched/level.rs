//! How far from the end a thunk is: what critical path scheduling goes by.

use crate::graph::{Graph, NodeId, Progress, Waiter};

/// The b-level of every thunk, as of the last sweep: the thunks on the longest known way from it to
/// a demand (Kwok and Ahmad, ACM Computing Surveys 1999, with each thunk's weight one).
///
/// A sweep is linear, and comes when the graph has doubled: so all sweeps together are linear too.
/// In between, a level is what the sweep left and what the thunk's direct waiters say.
#[derive(Default)]
pub(super) struct Levels {
    levels: Vec<Option<u32>>,
}

impl Levels {
    /// The level of `id`, which is ready to run: at least one.
    pub(super) fn of(&mut self, graph: &Graph, id: NodeId) -> u32 {
        if graph.len() >= 2 * self.levels.len() {
            self.sweep(graph);
        }
        let swept = self.known(id).unwrap_or(0);
        swept.max(self.waiters_level(graph, id))
    }

    fn known(&self, id: NodeId) -> Option<u32> {
        self.levels.get(id.index()).copied().flatten()
    }

    fn waiters_level(&self, graph: &Graph, id: NodeId) -> u32 {
        // What another thunk stands for costs nothing of its own any more.
        let own = u32::from(!matches!(graph.get(id).progress, Progress::Substituted(_)));
        let levels = waiting_nodes(graph, id).filter_map(|waiter| self.known(waiter));
        levels.max().unwrap_or(0) + own
    }

    fn sweep(&mut self, graph: &Graph) {
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
                    self.levels[id.index()] = Some(self.waiters_level(graph, id));
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
        let found = [top, left, right, bottom, alone].map(|id| levels.of(&graph, id));
        assert_eq!(found, [1, 2, 3, 4, 1]);
        // One that stands for another adds nothing to it.
        graph.get_mut(bottom).progress = Progress::Substituted(alone);
        let stand_in = graph.node(ThunkName::of(&[5]));
        graph.wait(stand_in, Waiter::Node(bottom));
        let mut levels = Levels::default();
        assert_eq!(levels.of(&graph, stand_in), 4);
    }

    #[test]
    fn waiting_in_a_circle_ends() {
        let mut graph = Graph::default();
        let (a, b) = (graph.node(ThunkName::of(b"a")), graph.node(ThunkName::of(b"b")));
        graph.wait(a, Waiter::Node(b));
        graph.wait(b, Waiter::Node(a));
        assert!(Levels::default().of(&graph, a) >= 1);
    }
}
