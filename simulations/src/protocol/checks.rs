//! Results of others that a requester runs again before they count, and what comes of it: as the node does,
//! with its own machine ([`Audits`]) and its own judgement ([`compare`]).
//!
//! A requester's host runs as many checks at once as it has cores, beside whatever else runs there: neither
//! delays the other, and none asks for memory. A second run follows where the first comes to something else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use mesh_protocol::graph::Outputs;
use mesh_protocol::sched::audit::{Audits, Verdict, compare};
use mesh_protocol::sched::lease;
use mesh_protocol::wire::claim::LeaseId;

use super::books;
use super::node::peer;
use super::world::{Event, World};
use crate::kernel::{Draws, Purpose, Span};
use crate::platform::HostId;
use crate::workload::TaskId;

/// What a worker answered, on its way to the requester's books.
pub(super) struct Answer {
    pub(super) home: HostId,
    /// And the worker's life.
    pub(super) worker: (HostId, u32),
    pub(super) lease: LeaseId,
    pub(super) task: TaskId,
    pub(super) outputs: Outputs,
    /// Is it to be checked when its outputs are here?
    pub(super) is_checked: bool,
}

/// An answer that is being checked.
pub(super) struct Check {
    answer: Answer,
    /// What came of the first run, when the second is under way.
    first: Option<Outputs>,
    took: Span,
}

/// What the requester of a host has checked.
struct Checker {
    audits: Audits,
    turns: u32,
    waiting: VecDeque<Box<Check>>,
    found: BTreeSet<HostId>,
}

/// By requester.
pub(super) struct Checks {
    share_permille: u32,
    seed: u64,
    checkers: BTreeMap<HostId, Checker>,
}

impl Checks {
    pub(super) fn new(share_permille: u32, seed: u64) -> Self {
        Self { share_permille, seed, checkers: BTreeMap::new() }
    }

    /// Is an answer of this worker's to be checked?
    pub(super) fn wants(&mut self, home: HostId, cores: u32, worker: HostId) -> bool {
        let (share, seed) = (self.share_permille, self.seed);
        let checker = self.checkers.entry(home).or_insert_with(|| {
            let seed = Draws::new(seed, Purpose::Audit, u64::from(home.0)).next_u64();
            let audits = Audits::new(share, seed);
            Checker { audits, turns: cores, waiting: VecDeque::new(), found: BTreeSet::new() }
        });
        checker.audits.wants(peer(worker))
    }
}

impl World<'_> {
    /// An answer's outputs are here, and it is to be checked.
    pub(super) fn check(&mut self, answer: Answer) {
        let home = answer.home;
        let check = Box::new(Check { answer, first: None, took: Span::ZERO });
        let Some(checker) = self.checks.checkers.get_mut(&home) else { return };
        if checker.turns == 0 {
            return checker.waiting.push_back(check);
        }
        checker.turns -= 1;
        self.run_again(check);
    }

    fn run_again(&mut self, mut check: Box<Check>) {
        let task = check.answer.task;
        self.executions[task.index()] += 1;
        let execution = self.executions[task.index()];
        check.took = self.setup.duration(&self.hosts, task, check.answer.home, execution);
        self.queue.schedule(self.queue.now() + check.took, Event::Checked(check));
    }

    /// A run of a check ended: with what the program comes to, as its user's own machine believes itself.
    pub(super) fn on_checked(&mut self, mut check: Box<Check>) {
        self.totals.busy += check.took.seconds();
        self.totals.checked += check.took.seconds();
        let (told, here) = (&check.answer.outputs, Arc::new(books::outputs(false)));
        let verdict = match &check.first {
            None => compare(told, Some(&here), None),
            Some(first) => compare(told, Some(first), Some(Some(&here))),
        };
        let Some(verdict) = verdict else {
            check.first = Some(here);
            return self.run_again(check);
        };
        self.totals.checks += 1;
        let Check { answer, .. } = *check;
        let Answer { home, worker: (worker, _), .. } = answer;
        let Some(checker) = self.checks.checkers.get_mut(&home) else { return };
        checker.audits.record(peer(worker), verdict);
        match checker.waiting.pop_front() {
            Some(next) => self.run_again(next),
            None => checker.turns += 1,
        }
        if verdict != Verdict::Lied {
            return self.conclude(answer, Ok(()));
        }
        self.found_out(home, worker);
        self.conclude(
            answer,
            Err("its outputs are not those that come of the thunk here".to_owned()),
        );
        let input = lease::Input::Lied(peer(worker));
        self.drive(home, |node, now, wishes| node.lease(now, input, wishes));
    }

    fn found_out(&mut self, home: HostId, worker: HostId) {
        let now = self.queue.now();
        self.totals.lies_found += 1;
        self.liars.catch(now, home, worker);
        let found = self.checks.checkers.get_mut(&home).map(|checker| &mut checker.found);
        if found.is_some_and(|found| found.insert(worker)) {
            self.totals.liars_found += 1;
            self.totals.liars_found_at += now.seconds();
        }
    }
}
