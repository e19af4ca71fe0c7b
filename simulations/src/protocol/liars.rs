//! Hosts that answer without having run anything, and what of it a requester finds out.
//!
//! As in the node: outputs are fetched before a receipt counts. If their bytes are others than the receipt
//! names, that is the machine's failure, the lease machine backs off from it, and for
//! [`limits::TRANSFER_LIAR_US`] nothing is fetched from it any more, so that its receipts fail at once. If
//! the bytes are as named, the receipt counts, whatever the program would have come to.

use std::collections::BTreeMap;

use mesh_protocol::limits;
use mesh_protocol::sched::force::FailureClass;
use mesh_protocol::wire::claim::{LeaseFailure, Receipt};

use crate::kernel::{Draws, Purpose, SimTime, Span};
use crate::platform::{HostId, Hosts, Lie};
use crate::run::Setup;
use crate::workload::{Graph, ObjectOrigin, TaskId};

/// Who lies, who was caught, and which results are false.
pub(super) struct Liars {
    lies: Vec<Option<Lie>>,
    /// By requester and worker: until when nothing is fetched from it.
    caught: BTreeMap<(HostId, HostId), SimTime>,
    /// Whose answer to each task was looked at last.
    answered_by: Vec<HostId>,
    is_false: Vec<bool>,
}

impl Liars {
    /// Draws them; a user's own host believes itself.
    pub(super) fn new(setup: &Setup<'_>, hosts: &Hosts, is_home: &[bool]) -> Self {
        let lie = |host: HostId| {
            let liars = hosts.group(setup.platform, host).liars?;
            let mut draws = Draws::new(setup.seed, Purpose::Liar, u64::from(host.0));
            let lies = !is_home[host.index()] && draws.unit() < liars.share;
            lies.then_some(liars.lie)
        };
        let tasks = setup.graph.tasks().len();
        Self {
            lies: (0..hosts.len() as u32).map(|host| lie(HostId(host))).collect(),
            caught: BTreeMap::new(),
            answered_by: vec![HostId(0); tasks],
            is_false: vec![false; tasks],
        }
    }

    /// Does it answer without running anything?
    pub(super) fn lies(&self, host: HostId) -> bool {
        self.lies[host.index()].is_some()
    }

    /// Is nothing fetched from it?
    pub(super) fn is_caught(&self, now: SimTime, home: HostId, worker: HostId) -> bool {
        self.caught.get(&(home, worker)).is_some_and(|until| now < *until)
    }

    /// What is left of a receipt once its outputs have been asked for; says whether it was a lie that
    /// was found out.
    pub(super) fn check(
        &mut self,
        now: SimTime,
        home: HostId,
        worker: HostId,
        receipt: &mut Receipt,
    ) -> bool {
        if self.lies[worker.index()] != Some(Lie::Bytes) {
            return false;
        }
        let until = now + Span::from_ns(limits::TRANSFER_LIAR_US.saturating_mul(1_000));
        self.caught.entry((home, worker)).or_insert(until);
        let reason = "the bytes it sent are others".to_owned();
        receipt.end = Err(LeaseFailure { class: FailureClass::Machine, reason });
        true
    }

    /// This is the answer that is looked at now.
    pub(super) fn answered(&mut self, task: TaskId, by: HostId) {
        self.answered_by[task.index()] = by;
    }

    /// The last answer counts. Is its result false, as it is a lie or was made of false ones?
    pub(super) fn end(&mut self, graph: &Graph, task: TaskId) -> bool {
        let mut makers =
            graph.inputs(task).iter().filter_map(|object| match graph.object(*object).origin {
                ObjectOrigin::Product(maker) => Some(maker),
                _ => None,
            });
        let by = self.answered_by[task.index()];
        let is_false = self.lies(by) || makers.any(|maker| self.is_false[maker.index()]);
        self.is_false[task.index()] = is_false;
        is_false
    }
}
