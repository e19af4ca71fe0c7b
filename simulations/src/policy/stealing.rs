//! Work stealing: every host has a queue of its own, and one that has nothing steals from another
//! (Blumofe, Leiserson: "Scheduling multithreaded computations by work stealing", JACM 1999).
//!
//! A task that becomes ready goes to the end of one queue: of the host that ended the last task it
//! waited for, or of its user's host if it waited for none (`push = "origin"`), or of any host
//! (`push = "random"`). A host with an idle core takes the task that came last to its own queue; if
//! that is empty, the one that came first to the queue of a victim drawn at random. A thief that draws
//! a victim with nothing for it turns to the next one. Deciding costs nothing here, so thieves
//! try until they find something, and nobody idles while there is something to steal. What is stolen
//! still has to be leased, and its inputs to be fetched.
//!
//! Queues outlive the absence of their hosts: it is the users who keep them. Nothing is leased beyond
//! the cores, whatever `ahead` says: queues serve that purpose, and what is leased cannot be stolen.

use std::collections::VecDeque;

use super::{Placement, Policy};
use crate::kernel::{Draws, Purpose};
use crate::platform::HostId;
use crate::run::View;
use crate::workload::{ObjectOrigin, TaskId};

/// Where tasks are queued that become ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Push {
    /// Where the last task that they waited for was run, or with their users.
    Origin,
    /// Anywhere.
    Random,
}

/// The policy.
#[derive(Debug)]
pub(super) struct Stealing {
    push: Push,
    queues: Vec<VecDeque<TaskId>>,
    /// Hosts whose queues are not empty, in no order, and for each host its place among them.
    stocked: Vec<HostId>,
    place: Vec<Option<usize>>,
    /// For each task that is done how many were before it, and where it ran.
    done: Vec<Option<(u64, HostId)>>,
    count: u64,
    /// For each task whether it is in a queue.
    queued: Vec<bool>,
    draws: Option<Draws>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    First,
    Last,
}

impl Stealing {
    pub(super) fn new(push: Push) -> Self {
        Self {
            push,
            queues: Vec::new(),
            stocked: Vec::new(),
            place: Vec::new(),
            done: Vec::new(),
            count: 0,
            queued: Vec::new(),
            draws: None,
        }
    }

    fn draw(&mut self, view: &View<'_>, below: usize) -> usize {
        let draws = || Draws::new(view.seed(), Purpose::Policy, 0);
        self.draws.get_or_insert_with(draws).below(below)
    }

    /// The host to whose queue a task goes.
    fn target(&mut self, view: &View<'_>, task: TaskId) -> HostId {
        if self.push == Push::Random {
            return HostId(self.draw(view, view.hosts()) as u32);
        }
        let graph = view.graph();
        let makers =
            graph.inputs(task).iter().filter_map(|&input| match graph.object(input).origin {
                ObjectOrigin::Product(maker) => Some(maker),
                _ => None,
            });
        let before = makers.chain(graph.task(task).revealed_by);
        let last = before.filter_map(|before| self.done[before.index()]).max();
        last.map_or_else(|| view.home(task), |(_, host)| host)
    }

    /// Takes the first, or the last, task of a queue that fits on a host. Those that ceased to be
    /// ready stay where they are until they are ready again.
    fn take(&mut self, view: &View<'_>, from: HostId, to: HostId, end: End) -> Option<TaskId> {
        let queue = &mut self.queues[from.index()];
        let mut fitting = queue
            .iter()
            .enumerate()
            .filter(|(_, task)| view.is_ready(**task) && view.fits(to, **task));
        let found = match end {
            End::First => fitting.next(),
            End::Last => fitting.next_back(),
        };
        let at = found.map(|(at, _)| at)?;
        let task = queue.remove(at)?;
        if queue.is_empty() {
            self.unstock(from);
        }
        self.queued[task.index()] = false;
        Some(task)
    }

    fn unstock(&mut self, host: HostId) {
        if let Some(at) = self.place[host.index()].take() {
            self.stocked.swap_remove(at);
            if let Some(moved) = self.stocked.get(at) {
                self.place[moved.index()] = Some(at);
            }
        }
    }

    fn steal(&mut self, view: &View<'_>, thief: HostId) -> Option<TaskId> {
        let count = self.stocked.len();
        let first = self.draw(view, count);
        let mut victims = (0..count).map(|n| (first + n) % count);
        // Nothing is taken from those that are passed over, so their places stay what they are.
        victims.find_map(|at| self.take(view, self.stocked[at], thief, End::First))
    }
}

impl Policy for Stealing {
    fn name(&self) -> &'static str {
        "stealing"
    }

    fn known(&mut self, view: &View<'_>, _tasks: &[TaskId]) {
        let tasks = view.graph().tasks().len();
        self.queues.resize_with(view.hosts(), VecDeque::new);
        self.place.resize(view.hosts(), None);
        self.done.resize(tasks, None);
        self.queued.resize(tasks, false);
    }

    fn done(&mut self, _view: &View<'_>, task: TaskId, host: HostId) {
        self.count += 1;
        self.done[task.index()] = Some((self.count, host));
    }

    fn ready(&mut self, view: &View<'_>, task: TaskId) {
        if std::mem::replace(&mut self.queued[task.index()], true) {
            return;
        }
        let host = self.target(view, task);
        self.queues[host.index()].push_back(task);
        if self.place[host.index()].is_none() {
            self.place[host.index()] = Some(self.stocked.len());
            self.stocked.push(host);
        }
    }

    fn place(&mut self, view: &View<'_>) -> Option<Placement> {
        if self.stocked.is_empty() {
            return None;
        }
        let idle = view.free_hosts().take_while(|&host| view.is_idle(host));
        // Before anybody steals, all have taken what is theirs.
        let own = idle.clone().filter(|host| self.place[host.index()].is_some());
        for host in own.collect::<Vec<_>>() {
            if let Some(task) = self.take(view, host, host, End::Last) {
                return Some(Placement { task, host });
            }
        }
        for host in idle {
            if let Some(task) = self.steal(view, host) {
                return Some(Placement { task, host });
            }
        }
        None
    }
}
