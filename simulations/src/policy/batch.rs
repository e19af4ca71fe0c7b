//! Batch heuristics: for every ready task the earliest completion over the hosts that are free, then
//! one task after the other (Maheswaran, Ali, Siegel, Hensgen, Freund: "Dynamic matching and
//! scheduling of a class of independent tasks onto heterogeneous computing systems", 1999).
//!
//! - **min-min** takes the task whose earliest completion is earliest, **max-min** the one whose is
//!   latest;
//! - **sufferage** takes the task that loses most if it gets its second-best host.
//!
//! Unlike the originals, which fill queues of busy hosts, these place on free hosts only: what does
//! not fit now is decided again at the next change. They look at the first [`TASKS_MAX`] ready tasks
//! and the fastest [`HOSTS_MAX`] free hosts, so that one round costs at most their product.

use std::collections::VecDeque;

use super::{Placement, Policy};
use crate::platform::HostId;
use crate::run::View;
use crate::workload::TaskId;

/// How many ready tasks compete.
pub const TASKS_MAX: usize = 256;
/// How many free hosts are considered.
pub const HOSTS_MAX: usize = 256;

/// Which task is placed first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// The one that can be done earliest.
    MinMin,
    /// The one that can be done latest.
    MaxMin,
    /// The one that suffers most from its second choice.
    Sufferage,
}

/// The policy.
#[derive(Debug)]
pub(super) struct Batch {
    name: &'static str,
    rule: Rule,
    /// In the order in which they became ready.
    ready: VecDeque<TaskId>,
    /// For each task whether it is in `ready`: one may cease to be ready and be told again.
    listed: Vec<bool>,
    /// What is to be placed at this instant.
    plan: VecDeque<Placement>,
}

struct Candidate {
    task: TaskId,
    /// Completion and position among the hosts: of the best, and the completion of the second best.
    best: Option<(f64, usize)>,
    second: f64,
}

struct Host {
    id: HostId,
    room: u32,
}

impl Batch {
    pub(super) fn new(name: &'static str, rule: Rule) -> Self {
        Self { name, rule, ready: VecDeque::new(), listed: Vec::new(), plan: VecDeque::new() }
    }

    fn make_plan(&mut self, view: &View<'_>) {
        let listed = &mut self.listed;
        self.ready.retain(|&task| {
            listed[task.index()] = view.is_ready(task);
            listed[task.index()]
        });
        let mut hosts: Vec<Host> =
            view.free_hosts().take(HOSTS_MAX).map(|id| Host { id, room: view.slots(id) }).collect();
        let tasks = self.ready.iter().take(TASKS_MAX);
        let mut candidates: Vec<Candidate> =
            tasks.map(|&task| evaluate(view, task, &hosts)).collect();
        while let Some(at) = self.pick(&candidates) {
            let chosen = candidates.remove(at);
            let Some((_, place)) = chosen.best else { break };
            let host = &mut hosts[place];
            self.plan.push_back(Placement { task: chosen.task, host: host.id });
            host.room -= 1;
            // With memory the plan ends when a host is used twice: it sees only what is true now.
            if host.room == 0 || view.graph().task(chosen.task).memory > 0 {
                host.room = 0;
                for candidate in &mut candidates {
                    let was_best = candidate.best.is_some_and(|(_, best)| best == place);
                    if was_best || self.rule == Rule::Sufferage {
                        *candidate = evaluate(view, candidate.task, &hosts);
                    }
                }
            }
        }
    }

    fn pick(&self, candidates: &[Candidate]) -> Option<usize> {
        let score = |candidate: &Candidate| match (candidate.best, self.rule) {
            (None, _) => None,
            (Some((best, _)), Rule::MinMin) => Some(-best),
            (Some((best, _)), Rule::MaxMin) => Some(best),
            (Some((best, _)), Rule::Sufferage) => Some(candidate.second - best),
        };
        let scored = candidates.iter().enumerate().filter_map(|(at, c)| Some((at, score(c)?)));
        // Of equals the one that was ready first.
        scored.rev().max_by(|a, b| a.1.total_cmp(&b.1)).map(|(at, _)| at)
    }
}

fn evaluate(view: &View<'_>, task: TaskId, hosts: &[Host]) -> Candidate {
    let mut best: Option<(f64, usize)> = None;
    let mut second = f64::INFINITY;
    for (place, host) in hosts.iter().enumerate() {
        if host.room == 0 || !view.fits(host.id, task) {
            continue;
        }
        let completion = view.completion(host.id, task);
        match best {
            Some((least, _)) if completion >= least => second = second.min(completion),
            _ => {
                second = best.map_or(second, |(least, _)| least);
                best = Some((completion, place));
            }
        }
    }
    Candidate { task, best, second }
}

impl Policy for Batch {
    fn name(&self) -> &'static str {
        self.name
    }

    fn ready(&mut self, view: &View<'_>, task: TaskId) {
        self.listed.resize(view.graph().tasks().len(), false);
        if !std::mem::replace(&mut self.listed[task.index()], true) {
            self.ready.push_back(task);
        }
    }

    fn place(&mut self, view: &View<'_>) -> Option<Placement> {
        if self.plan.is_empty() {
            self.make_plan(view);
        }
        self.plan.pop_front()
    }
}
