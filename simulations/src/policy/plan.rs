//! Plans: tasks in the order of a rank, each on the core where it is best, gaps included.
//!
//! - **HEFT** ranks by the longest way to the end, and takes the core where a task would end earliest
//!   (Topcuoglu, Hariri, Wu: "Performance-effective and low-complexity task scheduling for
//!   heterogeneous computing", 2002);
//! - **PEFT** ranks by the mean of the [optimistic cost table](super::oct), and takes the core where that
//!   end and the host's entry of the table are least in sum, so that what follows counts as well
//!   (Arabnejad, Barbosa: "List scheduling algorithm for heterogeneous systems by an optimistic cost
//!   table", 2014).
//!
//! The plan is made from estimates when tasks come into being, and kept: each core runs its tasks in
//! the planned order, whatever happens. Only tasks that must run again, because their host went, go to
//! whatever is free; and tasks of a growing graph that wait for what nobody knows yet are planned when
//! somebody does. The plan lets transfers overlap with what the core runs before, as the originals do;
//! a run does so only with leases beyond its cores (`ahead`). Planning a graph of t tasks on c cores
//! takes t x c steps and more.
//!
//! A task is planned only on hosts that have the memory for it. How much of it others use at the same
//! time is not planned: a task waits for what it lacks.

use std::collections::{BinaryHeap, VecDeque};

use super::oct::CostTable;
use super::rank::{Ranked, Ranks};
use super::{Placement, Policy};
use crate::platform::HostId;
use crate::run::View;
use crate::workload::{ObjectId, ObjectOrigin, TaskId};

/// What comes after a task.
#[derive(Debug)]
enum Foresight {
    /// The longest way to the end: HEFT.
    Upward(Ranks),
    /// The optimistic cost table: PEFT.
    Optimistic(CostTable),
}

impl Foresight {
    fn add(&mut self, view: &View<'_>, tasks: &[TaskId]) {
        match self {
            Self::Upward(ranks) => ranks.add(view, tasks),
            Self::Optimistic(table) => table.add(view, tasks),
        }
    }

    fn rank(&self, task: TaskId) -> f64 {
        match self {
            Self::Upward(ranks) => ranks.of(task),
            Self::Optimistic(table) => table.rank(task),
        }
    }

    /// Seconds to be added to the end of a task when hosts are compared.
    fn after(&self, task: TaskId, host: HostId) -> f64 {
        match self {
            Self::Upward(_) => 0.0,
            Self::Optimistic(table) => table.of(task, host),
        }
    }
}

/// The policy.
#[derive(Debug)]
pub(super) struct Plan {
    name: &'static str,
    foresight: Foresight,
    cores: Vec<Core>,
    /// For each task its core, where it is planned to end, and whether it was placed.
    planned: Vec<Option<Planned>>,
    /// For each task that is known and not planned, how many of its inputs nobody is planned to make.
    missing: Vec<usize>,
    /// Cores to look at.
    open: VecDeque<usize>,
    /// Tasks that have lost their place in the plan.
    strays: VecDeque<TaskId>,
}

#[derive(Debug)]
struct Core {
    host: HostId,
    /// What is planned, by start: (start, end, task).
    slots: Vec<(f64, f64, TaskId)>,
    /// How many of them were placed.
    next: usize,
    /// Placed and not done: one, and more while the host has leases to spare.
    leased: Vec<TaskId>,
}

#[derive(Clone, Copy, Debug)]
struct Planned {
    core: usize,
    end: f64,
    placed: bool,
}

impl Plan {
    pub(super) fn heft() -> Self {
        Self::new("heft", Foresight::Upward(Ranks::new(true)))
    }

    pub(super) fn peft() -> Self {
        Self::new("peft", Foresight::Optimistic(CostTable::default()))
    }

    fn new(name: &'static str, foresight: Foresight) -> Self {
        Self {
            name,
            foresight,
            cores: Vec::new(),
            planned: Vec::new(),
            missing: Vec::new(),
            open: VecDeque::new(),
            strays: VecDeque::new(),
        }
    }

    fn start(&mut self, view: &View<'_>) {
        if !self.cores.is_empty() {
            return;
        }
        self.planned = vec![None; view.graph().tasks().len()];
        self.missing = vec![0; view.graph().tasks().len()];
        for host in (0..view.hosts() as u32).map(HostId) {
            for _ in 0..view.cores(host) {
                self.cores.push(Core { host, slots: Vec::new(), next: 0, leased: Vec::new() });
            }
        }
    }

    /// How many of its inputs come from tasks that are not in the plan. Those might come into being
    /// later, and be planned behind the task that waits for them.
    fn unplanned(&self, view: &View<'_>, task: TaskId) -> usize {
        let graph = view.graph();
        let is_unplanned = |input: &&ObjectId| match graph.object(**input).origin {
            ObjectOrigin::Product(maker) => self.planned[maker.index()].is_none(),
            _ => false,
        };
        graph.inputs(task).iter().filter(is_unplanned).count()
    }

    /// Of tasks whose makers are all planned always the one of the highest rank; of equals the earlier.
    fn plan_all(&mut self, view: &View<'_>, tasks: &[TaskId]) {
        let graph = view.graph();
        let mut open = BinaryHeap::new();
        let ranked = |plan: &Self, task: TaskId| {
            let order = u64::from(task.0);
            Ranked { rank: plan.foresight.rank(task), order, task }
        };
        for &task in tasks {
            self.missing[task.index()] = self.unplanned(view, task);
            if self.missing[task.index()] == 0 {
                open.push(ranked(self, task));
            }
        }
        while let Some(Ranked { task, .. }) = open.pop() {
            self.plan(view, task);
            for &next in graph.outputs(task).flat_map(|output| graph.consumers(output)) {
                // What is not known yet counts for itself when it comes into being.
                let Some(left) = self.missing[next.index()].checked_sub(1) else { continue };
                self.missing[next.index()] = left;
                if left == 0 {
                    open.push(ranked(self, next));
                }
            }
        }
    }

    fn plan(&mut self, view: &View<'_>, task: TaskId) {
        let mut best: Option<(f64, f64, f64, usize)> = None;
        let mut arrival = (HostId(u32::MAX), 0.0);
        let memory = view.graph().task(task).memory;
        let suits = |core: &&Core| view.memory(core.host) >= memory;
        for (at, core) in self.cores.iter().enumerate().filter(|(_, core)| suits(core)) {
            // Cores of one host stand together: the inputs arrive at the same time.
            if arrival.0 != core.host {
                arrival = (core.host, self.inputs_at(view, task, core.host));
            }
            let duration = view.estimate(task) / view.speed(core.host);
            let start = core.gap(arrival.1.max(view.now()), duration);
            let end = start + duration;
            let cost = end + self.foresight.after(task, core.host);
            if best.is_none_or(|(least, ..)| cost < least) {
                best = Some((cost, end, start, at));
            }
        }
        if let Some((_, end, start, at)) = best {
            let slots = &mut self.cores[at].slots;
            let place = slots.partition_point(|slot| (slot.0, slot.1) <= (start, end));
            self.cores[at].slots.insert(place, (start, end, task));
            self.planned[task.index()] = Some(Planned { core: at, end, placed: false });
            self.open.push_back(at);
        }
    }

    /// When the last input is on the host, as planned.
    fn inputs_at(&self, view: &View<'_>, task: TaskId, host: HostId) -> f64 {
        let graph = view.graph();
        let arrivals = graph.inputs(task).iter().map(|&input| {
            let object = graph.object(input);
            let ObjectOrigin::Product(maker) = object.origin else { return 0.0 };
            let Some(made) = self.planned[maker.index()] else { return 0.0 };
            made.end + view.transfer(self.cores[made.core].host, host, object.bytes)
        });
        arrivals.fold(0.0, f64::max)
    }

    /// The next placement of a core, if it may start one now.
    fn next_of(&mut self, view: &View<'_>, at: usize) -> Option<Placement> {
        loop {
            let host = self.cores[at].host;
            let &(_, _, task) = self.cores[at].slots.get(self.cores[at].next)?;
            let is_away = !view.is_up(host);
            let may_start = is_away || (view.fits(host, task) && self.may_lease(view, at));
            if !view.is_ready(task) || !may_start {
                return None;
            }
            self.cores[at].next += 1;
            if let Some(planned) = &mut self.planned[task.index()] {
                planned.placed = true;
            }
            if !is_away {
                self.cores[at].leased.push(task);
                return Some(Placement { task, host });
            }
            // Nobody knows when an absent host comes back.
            self.strays.push_back(task);
        }
    }

    /// A busy core may fetch for its next task with a lease that no idle core of its host needs.
    fn may_lease(&self, view: &View<'_>, at: usize) -> bool {
        let host = self.cores[at].host;
        let is_here = |core: &&Core| core.host == host;
        let before = self.cores[..at].iter().rev().take_while(is_here);
        let here = before.chain(self.cores[at..].iter().take_while(is_here));
        let idle = here.filter(|core| core.leased.is_empty()).count();
        self.cores[at].leased.is_empty() || view.room(host) as usize > idle
    }

    /// A core has one task less.
    fn free(&mut self, core: usize, task: TaskId) {
        self.cores[core].leased.retain(|&leased| leased != task);
        self.open.push_back(core);
    }
}

impl Core {
    /// The earliest start from `from` on with so much time, after what was placed already: the order
    /// of planned times is then an order in which everything can run.
    fn gap(&self, from: f64, duration: f64) -> f64 {
        let placed = self.next.checked_sub(1).map_or(0.0, |last| self.slots[last].1);
        let from = from.max(placed);
        let mut start = from;
        for &(begin, end, _) in &self.slots[self.slots.partition_point(|slot| slot.1 <= from)..] {
            if start + duration <= begin {
                break;
            }
            start = start.max(end);
        }
        start
    }
}

impl Policy for Plan {
    fn name(&self) -> &'static str {
        self.name
    }

    fn known(&mut self, view: &View<'_>, tasks: &[TaskId]) {
        self.start(view);
        self.foresight.add(view, tasks);
        self.plan_all(view, tasks);
    }

    fn done(&mut self, _view: &View<'_>, task: TaskId, _host: HostId) {
        if let Some(Planned { core, .. }) = self.planned[task.index()] {
            self.free(core, task);
        }
    }

    fn ready(&mut self, _view: &View<'_>, task: TaskId) {
        match self.planned[task.index()] {
            Some(planned) if !planned.placed => self.open.push_back(planned.core),
            Some(planned) => {
                // Its host went: the core goes on with the rest of its plan when it can.
                self.free(planned.core, task);
                self.strays.push_back(task);
            }
            None => self.strays.push_back(task),
        }
    }

    fn place(&mut self, view: &View<'_>) -> Option<Placement> {
        for _ in 0..self.open.len() {
            let at = self.open.pop_front()?;
            if let Some(placement) = self.next_of(view, at) {
                return Some(placement);
            }
            let core = &self.cores[at];
            let waits = core.slots.get(core.next).is_some_and(|slot| view.is_ready(slot.2));
            if waits {
                self.open.push_back(at);
            }
        }
        for _ in 0..self.strays.len() {
            let task = self.strays.pop_front()?;
            if !view.is_ready(task) {
                continue;
            }
            if let Some(host) = view.free_hosts().find(|&host| view.fits(host, task)) {
                return Some(Placement { task, host });
            }
            self.strays.push_back(task);
        }
        None
    }
}
