//! List scheduling: tasks in some order, each to a host chosen when its turn comes.

use std::collections::BinaryHeap;

use super::rank::{Ranked, Ranks};
use super::{Placement, Policy};
use crate::kernel::{Draws, Purpose};
use crate::platform::HostId;
use crate::run::View;
use crate::workload::TaskId;

/// Which ready task comes first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    Fifo,
    Lifo,
    Random,
    /// Longest chain of work.
    Work,
    /// Longest chain of work and transfers.
    Upward,
}

/// Which free host gets it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Choice {
    Fastest,
    Earliest,
    Bytes,
}

/// How many hosts are looked at for one task.
const HOSTS_MAX: usize = 64;
/// How many tasks that fit nowhere are passed over.
const PASSED_MAX: usize = 16;

/// The policy.
#[derive(Debug)]
pub(super) struct List {
    name: &'static str,
    order: Order,
    choice: Choice,
    ranks: Ranks,
    ready: BinaryHeap<Ranked>,
    count: u64,
}

impl List {
    pub(super) fn new(name: &'static str, order: Order, choice: Choice) -> Self {
        let ranks = Ranks::new(order == Order::Upward);
        Self { name, order, choice, ranks, ready: BinaryHeap::new(), count: 0 }
    }

    fn host(&self, view: &View<'_>, task: TaskId) -> Option<HostId> {
        let fastest = || view.free_hosts().take(HOSTS_MAX).find(|&host| view.fits(host, task));
        // Hosts that have some input, if they are free.
        let inputs = view.graph().inputs(task).iter();
        let holders = inputs.flat_map(|&input| view.holders(input).iter().copied().take(HOSTS_MAX));
        let holders = holders.filter(|&host| view.fits(host, task)).take(HOSTS_MAX);
        match self.choice {
            Choice::Fastest => fastest(),
            Choice::Bytes => {
                // Locality that waits lets others idle: bytes count among idle hosts first.
                let missing =
                    |&host: &HostId| (!view.is_idle(host), view.missing_bytes(host, task), host);
                holders.chain(fastest()).min_by_key(missing)
            }
            Choice::Earliest => {
                let free = view.free_hosts().take(HOSTS_MAX).filter(|&host| view.fits(host, task));
                let completions = holders.chain(free).map(|h| (view.completion(h, task), h));
                let best = completions.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
                best.map(|(_, host)| host)
            }
        }
    }
}

impl Policy for List {
    fn name(&self) -> &'static str {
        self.name
    }

    fn known(&mut self, view: &View<'_>, tasks: &[TaskId]) {
        if matches!(self.order, Order::Work | Order::Upward) {
            self.ranks.add(view, tasks);
        }
    }

    fn ready(&mut self, view: &View<'_>, task: TaskId) {
        self.count += 1;
        let rank = match self.order {
            Order::Fifo => 0.0,
            Order::Lifo => self.count as f64,
            Order::Random => Draws::new(view.seed(), Purpose::Policy, u64::from(task.0)).unit(),
            Order::Work | Order::Upward => self.ranks.of(task),
        };
        self.ready.push(Ranked { rank, order: self.count, task });
    }

    fn place(&mut self, view: &View<'_>) -> Option<Placement> {
        let mut passed = Vec::new();
        let mut found = None;
        while passed.len() < PASSED_MAX {
            let Some(entry) = self.ready.pop() else { break };
            // Entries of tasks that ceased to be ready, or were entered twice, fall away here.
            if !view.is_ready(entry.task) {
                continue;
            }
            if let Some(host) = self.host(view, entry.task) {
                found = Some(Placement { task: entry.task, host });
                break;
            }
            passed.push(entry);
        }
        self.ready.extend(passed);
        found
    }
}
