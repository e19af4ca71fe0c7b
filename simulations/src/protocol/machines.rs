//! Machines that several hosts share, and what of their time nodes take ([`crate::platform::Costs`]).
//!
//! Whatever costs time happens when that time has passed, under processor sharing of the machine's cores.
//! A node does one thing after another, in the order in which it came, and so does a user's command beside
//! it; sandboxes are made and taken down each by itself.

use std::collections::{BTreeMap, VecDeque};

use mesh_protocol::wire::claim::FromRequester;

use super::streams::Message;
use super::world::{Event, World};
use crate::kernel::{EventId, Processors, Span};
use crate::platform::{Costs, HostId, Machine, Platform};

/// The machines of a platform.
pub(super) struct Machines {
    shared: Vec<Shared>,
    /// What waits for each thread; the first is what it does.
    threads: BTreeMap<(HostId, Thread), VecDeque<(Span, Event)>>,
}

struct Shared {
    processors: Processors<Work>,
    /// When the next of its jobs ends.
    timer: Option<EventId>,
}

/// What does one thing after another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Thread {
    /// The node of a host.
    Node,
    /// The command of its user.
    User,
}

enum Work {
    /// The first of a thread's.
    First(HostId, Thread),
    /// Of no thread.
    Alone(Event),
}

/// Who has something to do: a host, on a machine, by one of its threads or beside them.
pub(super) struct Who {
    host: HostId,
    machine: usize,
    thread: Option<Thread>,
}

impl Machines {
    pub(super) fn new(platform: &Platform) -> Self {
        let shared =
            |machine: &Machine| Shared { processors: Processors::new(machine.cores), timer: None };
        Self { shared: platform.machines.iter().map(shared).collect(), threads: BTreeMap::new() }
    }
}

impl World<'_> {
    /// Whose time an event takes, and how much; nobody's if its host shares no machine.
    pub(super) fn cost(&self, event: &Event) -> Option<(Who, Span)> {
        if self.setup.platform.machines.is_empty() {
            return None;
        }
        let half = |cost: Span| Span::from_ns(cost.ns() / 2);
        let by = |host, thread, cost: &dyn Fn(Costs) -> Span| {
            let machine = self.hosts.group(self.setup.platform, host).machine?;
            let costs = self.setup.platform.machines[machine].costs;
            Some((Who { host, machine, thread }, cost(costs)))
        };
        let home = |task| self.setup.home(self.setup.graph.task(task).job);
        match event {
            Event::Offer(host, ..) => by(*host, Some(Thread::Node), &|costs| costs.message),
            Event::On(link, end) => {
                let (host, ..) = self.links[*link as usize].at(*end);
                by(host, Some(Thread::Node), &|costs| costs.message)
            }
            Event::Say(link, to, message) => {
                let (host, ..) = self.links[*link as usize].at(to.other());
                let is_lease = matches!(**message, Message::FromRequester(FromRequester::Lease(_)));
                by(host, Some(Thread::Node), &|costs| match is_lease {
                    true => costs.message + half(costs.lease),
                    false => costs.message,
                })
            }
            Event::Brought(_, answer) => {
                by(answer.home, Some(Thread::Node), &|costs| half(costs.lease))
            }
            Event::Ready(task) => by(home(*task), Some(Thread::User), &|costs| half(costs.submit)),
            Event::Answered(host, _) => by(*host, Some(Thread::User), &|costs| half(costs.submit)),
            Event::Begun(host, ..) => by(*host, None, &|costs| half(costs.sandbox)),
            Event::Ran(host, _, run) => {
                let node = self.nodes[host.index()].as_ref();
                let running = node.and_then(|node| node.running.get(run))?;
                if running.is_lie { None } else { by(*host, None, &|costs| half(costs.sandbox)) }
            }
            _ => None,
        }
    }

    /// Lets it happen when there has been so much time for it.
    pub(super) fn spend(&mut self, who: Who, cost: Span, event: Event) {
        let Who { host, machine, thread } = who;
        let Some(thread) = thread else {
            return self.start(machine, cost, Work::Alone(event));
        };
        let waiting = self.machines.threads.entry((host, thread)).or_default();
        waiting.push_back((cost, event));
        if waiting.len() == 1 {
            self.start(machine, cost, Work::First(host, thread));
        }
    }

    fn start(&mut self, machine: usize, cost: Span, work: Work) {
        let now = self.queue.now();
        self.machines.shared[machine].processors.add(now, cost, work);
        self.await_next(machine);
    }

    fn await_next(&mut self, machine: usize) {
        let shared = &mut self.machines.shared[machine];
        if let Some(timer) = shared.timer.take() {
            self.queue.cancel(timer);
        }
        let next = shared.processors.next_end();
        shared.timer = next.map(|at| self.queue.schedule(at, Event::Spent(machine)));
    }

    pub(super) fn on_spent(&mut self, machine: usize) {
        let now = self.queue.now();
        let shared = &mut self.machines.shared[machine];
        shared.timer = None;
        let event = match shared.processors.take(now) {
            None => return,
            Some(Work::Alone(event)) => Some(event),
            Some(Work::First(host, thread)) => {
                let waiting = self.machines.threads.entry((host, thread)).or_default();
                let done = waiting.pop_front();
                if let Some((cost, _)) = waiting.front() {
                    shared.processors.add(now, *cost, Work::First(host, thread));
                }
                done.map(|(_, event)| event)
            }
        };
        self.await_next(machine);
        if let Some(event) = event {
            self.happen(event);
        }
    }
}
