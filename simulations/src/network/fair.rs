//! Max-min fair sharing of links.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Path;
use crate::kernel::{SimTime, Span};

/// A flow; numbers are used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FlowId(pub u32);

/// Links and the flows that share them.
///
/// Rates are max-min fair: a flow's rate can only be raised by lowering one that is no higher
/// (Bertsekas and Gallager, "Data Networks", 6.5.2). They are found by filling: the link with the
/// least bandwidth per flow fixes its flows, and so on with what is left.
///
/// When flows join or leave, only what is connected to them through shared links is filled again,
/// once per simulated instant.
#[derive(Debug)]
pub struct FairShare {
    links: Vec<LinkState>,
    flows: Vec<Flow>,
    free: Vec<FlowId>,
    dirty: Vec<u32>,
    /// Flows that joined, and whose path has no link that counts.
    unbounded: Vec<FlowId>,
    /// The number of the current filling, for marks.
    round: u64,
    component: Component,
}

#[derive(Debug)]
struct LinkState {
    bandwidth: f64,
    flows: Vec<FlowId>,
    mark: u64,
    left: f64,
    unfixed: u32,
}

#[derive(Clone, Debug)]
struct Flow {
    path: Path,
    /// Where the flow stands in each link's list.
    places: [u32; 5],
    left: f64,
    rate: f64,
    /// The rate that the filling under way found.
    next: f64,
    updated: SimTime,
    mark: u64,
    fixed: bool,
}

/// What the current filling touches.
#[derive(Debug, Default)]
struct Component {
    links: Vec<u32>,
    flows: Vec<FlowId>,
    queue: BinaryHeap<Reverse<(u64, u32)>>,
}

impl FairShare {
    /// Links with these bandwidths, in bytes a second.
    pub fn new(bandwidths: &[f64]) -> Self {
        let link = |&bandwidth: &f64| LinkState {
            bandwidth,
            flows: Vec::new(),
            mark: 0,
            left: 0.0,
            unfixed: 0,
        };
        Self {
            links: bandwidths.iter().map(link).collect(),
            flows: Vec::new(),
            free: Vec::new(),
            dirty: Vec::new(),
            unbounded: Vec::new(),
            round: 0,
            component: Component::default(),
        }
    }

    /// Begins to move bytes along a path. Nothing moves before [`Self::settle`].
    pub fn join(&mut self, now: SimTime, path: Path, bytes: f64) -> FlowId {
        let id = self.free.pop().unwrap_or(FlowId(self.flows.len() as u32));
        let mut places = [0; 5];
        for (place, &link) in places.iter_mut().zip(path.links()) {
            let flows = &mut self.links[link as usize].flows;
            *place = flows.len() as u32;
            flows.push(id);
            self.dirty.push(link);
        }
        let flow = Flow {
            path,
            places,
            left: bytes,
            rate: 0.0,
            next: 0.0,
            updated: now,
            mark: 0,
            fixed: false,
        };
        match self.flows.get_mut(id.0 as usize) {
            Some(slot) => *slot = flow,
            None => self.flows.push(flow),
        }
        if path.links().is_empty() {
            self.unbounded.push(id);
        }
        id
    }

    /// Ends a flow, done or not, and says how many bytes it had still to move.
    pub fn leave(&mut self, now: SimTime, id: FlowId) -> f64 {
        let flow = self.flows[id.0 as usize].clone();
        for (&link, &place) in flow.path.links().iter().zip(&flow.places) {
            self.dirty.push(link);
            let flows = &mut self.links[link as usize].flows;
            flows.swap_remove(place as usize);
            if let Some(&moved) = flows.get(place as usize) {
                let moved = &mut self.flows[moved.0 as usize];
                let at = moved.path.links().iter().position(|&other| other == link);
                if let Some(at) = at {
                    moved.places[at] = place;
                }
            }
        }
        self.unbounded.retain(|&other| other != id);
        self.free.push(id);
        flow.left_at(now)
    }

    /// Whether rates are out of date.
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty() || !self.unbounded.is_empty()
    }

    /// Finds the rates again, and writes for every flow whose rate changed when it will be done.
    pub fn settle(&mut self, now: SimTime, done_at: &mut Vec<(FlowId, SimTime)>) {
        self.gather();
        self.fill();
        for &id in &self.component.flows {
            let flow = &mut self.flows[id.0 as usize];
            if flow.next != flow.rate {
                flow.left = flow.left_at(now);
                flow.updated = now;
                flow.rate = flow.next;
                done_at.push((id, now + Span::from_seconds(flow.left / flow.rate)));
            }
        }
        // What crosses no link that counts is there at once.
        done_at.extend(self.unbounded.drain(..).map(|id| (id, now)));
    }

    /// The links and flows connected to a dirty link.
    fn gather(&mut self) {
        let Self { links, flows, dirty, component, round, .. } = self;
        *round += 1;
        component.links.clear();
        component.flows.clear();
        let reach = |links: &mut Vec<LinkState>, at: u32, found: &mut Vec<u32>| {
            let link = &mut links[at as usize];
            if link.mark != *round {
                link.mark = *round;
                found.push(at);
            }
        };
        for link in dirty.drain(..) {
            reach(links, link, &mut component.links);
        }
        let mut next = 0;
        while let Some(&at) = component.links.get(next) {
            next += 1;
            for place in 0..links[at as usize].flows.len() {
                let id = links[at as usize].flows[place];
                let flow = &mut flows[id.0 as usize];
                if flow.mark != *round {
                    flow.mark = *round;
                    flow.fixed = false;
                    component.flows.push(id);
                    for &link in flow.path.links() {
                        reach(links, link, &mut component.links);
                    }
                }
            }
        }
    }

    /// Finds the next rate of every flow of the component.
    fn fill(&mut self) {
        let Self { links, flows, component, .. } = self;
        component.queue.clear();
        for &at in &component.links {
            let link = &mut links[at as usize];
            link.left = link.bandwidth;
            link.unfixed = link.flows.len() as u32;
            if link.unfixed > 0 {
                component.queue.push(Reverse((link.share().to_bits(), at)));
            }
        }
        // Rounding must not let the level sink.
        let mut level = 0.0_f64;
        while let Some(Reverse((share, at))) = component.queue.pop() {
            let link = &links[at as usize];
            if link.unfixed == 0 {
                continue;
            }
            let current = link.share().to_bits();
            if current > share {
                component.queue.push(Reverse((current, at)));
                continue;
            }
            level = level.max(f64::from_bits(share));
            for place in 0..links[at as usize].flows.len() {
                let flow = &mut flows[links[at as usize].flows[place].0 as usize];
                if !flow.fixed {
                    flow.fixed = true;
                    flow.next = level;
                    for &crossed in flow.path.links() {
                        let link = &mut links[crossed as usize];
                        link.unfixed -= 1;
                        link.left = (link.left - level).max(0.0);
                    }
                }
            }
        }
    }
}

impl LinkState {
    /// What each flow that is not fixed yet would get. Never negative, so that its bits sort as it
    /// does.
    fn share(&self) -> f64 {
        self.left / f64::from(self.unfixed)
    }
}

impl Flow {
    fn left_at(&self, now: SimTime) -> f64 {
        (self.left - self.rate * (now - self.updated).seconds()).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(links: &[u32]) -> Path {
        let mut path = Path::default();
        links.iter().for_each(|&link| path.push(link));
        path
    }

    #[test]
    fn a_flow_gets_what_a_shorter_one_leaves() {
        // The example of every textbook: one long flow, two short ones, unequal links.
        let mut net = FairShare::new(&[10.0, 30.0]);
        let long = net.join(SimTime::ZERO, path(&[0, 1]), 50.0);
        let near = net.join(SimTime::ZERO, path(&[0]), 50.0);
        let far = net.join(SimTime::ZERO, path(&[1]), 50.0);
        let mut done = Vec::new();
        net.settle(SimTime::ZERO, &mut done);
        let seconds = |id| done.iter().find(|(flow, _)| *flow == id).map(|(_, at)| at.seconds());
        assert_eq!(
            [seconds(long), seconds(near), seconds(far)],
            [Some(10.0), Some(10.0), Some(2.0)]
        );
    }

    #[test]
    fn what_is_not_connected_is_not_touched() {
        let mut net = FairShare::new(&[10.0, 10.0]);
        let mut done = Vec::new();
        net.join(SimTime::ZERO, path(&[0]), 100.0);
        net.settle(SimTime::ZERO, &mut done);
        done.clear();
        let other = net.join(SimTime::from_ns(5), path(&[1]), 100.0);
        net.settle(SimTime::from_ns(5), &mut done);
        assert_eq!(done.len(), 1);
        assert_eq!(done[0].0, other);
    }

    #[test]
    fn a_flow_that_left_has_its_rest() {
        let mut net = FairShare::new(&[10.0]);
        let flow = net.join(SimTime::ZERO, path(&[0]), 100.0);
        net.settle(SimTime::ZERO, &mut Vec::new());
        assert_eq!(net.leave(SimTime::ZERO + Span::from_seconds(3.0), flow), 70.0);
    }

    proptest! {
        /// Whatever joins and leaves: no link is overloaded, and every flow has a bottleneck, that
        /// is a full link on which nobody gets more.
        #[test]
        fn rates_are_max_min_fair(
            bandwidths in prop::collection::vec(1.0_f64..1000.0, 4),
            actions in prop::collection::vec((prop::collection::btree_set(0_u32..4, 1..4), any::<bool>(), 0_usize..8), 1..60),
        ) {
            let mut net = FairShare::new(&bandwidths);
            let mut alive: Vec<FlowId> = Vec::new();
            for (n, (links, leave, which)) in actions.into_iter().enumerate() {
                let now = SimTime::from_ns(n as u64 * 1000);
                if leave && !alive.is_empty() {
                    net.leave(now, alive.swap_remove(which % alive.len()));
                } else {
                    let links: Vec<u32> = links.into_iter().collect();
                    alive.push(net.join(now, path(&links), 1e12));
                }
                net.settle(now, &mut Vec::new());
                let rate = |id: &FlowId| net.flows[id.0 as usize].rate;
                let load = |link: u32| net.links[link as usize].flows.iter().map(rate).sum::<f64>();
                for (link, bandwidth) in bandwidths.iter().enumerate() {
                    prop_assert!(load(link as u32) <= bandwidth * (1.0 + 1e-9));
                }
                for id in &alive {
                    let bottleneck = net.flows[id.0 as usize].path.links().iter().any(|&link| {
                        load(link) >= bandwidths[link as usize] * (1.0 - 1e-9)
                            && net.links[link as usize].flows.iter().all(|other| rate(other) <= rate(id) * (1.0 + 1e-9))
                    });
                    prop_assert!(bottleneck, "{id:?} could be faster");
                }
            }
        }
    }
}
