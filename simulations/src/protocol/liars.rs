//! Hosts that answer without having run anything, and what of it a requester finds out.
//!
//! As in the node: outputs are fetched before a receipt counts. If their bytes are others than the receipt
//! names, that is the machine's failure, the lease machine backs off from it, and for
//! [`limits::TRANSFER_LIAR_US`] nothing is fetched from it any more, so that its receipts fail at once. If
//! the bytes are as named, the receipt counts, whatever the program would have come to, unless it is
//! [checked](super::checks).

use std::collections::BTreeMap;

use mesh_protocol::graph::Outputs;
use mesh_protocol::limits;

use super::books;
use crate::kernel::{Draws, Purpose, SimTime, Span};
use crate::platform::{HostId, Hosts, Lie};
use crate::run::Setup;
use crate::workload::{Graph, ObjectOrigin, TaskId};

/// Who lies, who was caught, and which results are false.
pub(super) struct Liars {
    lies: Vec<Option<Liar>>,
    /// By requester and worker: until when nothing is fetched from it.
    caught: BTreeMap<(HostId, HostId), SimTime>,
    /// Was the answer to each task that was looked at last a lie?
    is_lie: Vec<bool>,
    is_false: Vec<bool>,
}

#[derive(Clone, Copy)]
struct Liar {
    lie: Lie,
    /// What it still runs before it begins to lie.
    honest_left: u32,
}

impl Liars {
    /// Draws them; a user's own host believes itself.
    pub(super) fn new(setup: &Setup<'_>, hosts: &Hosts, is_home: &[bool]) -> Self {
        let lie = |host: HostId| {
            let liars = hosts.group(setup.platform, host).liars?;
            let mut draws = Draws::new(setup.seed, Purpose::Liar, u64::from(host.0));
            let lies = !is_home[host.index()] && draws.unit() < liars.share;
            lies.then_some(Liar { lie: liars.lie, honest_left: liars.after })
        };
        let tasks = setup.graph.tasks().len();
        Self {
            lies: (0..hosts.len() as u32).map(|host| lie(HostId(host))).collect(),
            caught: BTreeMap::new(),
            is_lie: vec![false; tasks],
            is_false: vec![false; tasks],
        }
    }

    /// It has something to run: does it answer without running it?
    pub(super) fn lies(&mut self, host: HostId) -> bool {
        let Some(liar) = &mut self.lies[host.index()] else { return false };
        let is_honest = liar.honest_left > 0;
        liar.honest_left = liar.honest_left.saturating_sub(1);
        !is_honest
    }

    /// Is nothing fetched from it?
    pub(super) fn is_caught(&self, now: SimTime, home: HostId, worker: HostId) -> bool {
        self.caught.get(&(home, worker)).is_some_and(|until| now < *until)
    }

    /// Nothing is fetched from it for a while.
    pub(super) fn catch(&mut self, now: SimTime, home: HostId, worker: HostId) {
        let until = now + Span::from_ns(limits::TRANSFER_LIAR_US.saturating_mul(1_000));
        self.caught.entry((home, worker)).or_insert(until);
    }

    /// Are outputs that were asked for those that were named?
    pub(super) fn fetched(
        &mut self,
        now: SimTime,
        home: HostId,
        worker: HostId,
        outputs: &Outputs,
    ) -> Result<(), String> {
        let lies_about_bytes = self.lies[worker.index()].is_some_and(|it| it.lie == Lie::Bytes);
        if !(lies_about_bytes && is_lie(outputs)) {
            return Ok(());
        }
        self.catch(now, home, worker);
        Err("the bytes it sent are others".to_owned())
    }

    /// This is the answer that is looked at now.
    pub(super) fn answered(&mut self, task: TaskId, is_lie: bool) {
        self.is_lie[task.index()] = is_lie;
    }

    /// The last answer counts. Is its result false, as it is a lie or was made of false ones?
    pub(super) fn end(&mut self, graph: &Graph, task: TaskId) -> bool {
        let mut makers =
            graph.inputs(task).iter().filter_map(|object| match graph.object(*object).origin {
                ObjectOrigin::Product(maker) => Some(maker),
                _ => None,
            });
        let is_lie = self.is_lie[task.index()];
        let is_false = is_lie || makers.any(|maker| self.is_false[maker.index()]);
        self.is_false[task.index()] = is_false;
        is_false
    }
}

/// Does it say something else than what the program comes to?
pub(super) fn is_lie(outputs: &Outputs) -> bool {
    **outputs != books::outputs(false)
}
