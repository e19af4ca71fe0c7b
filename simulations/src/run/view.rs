//! What a policy may see.

use super::lease::Stage;
use super::state::Sim;
use crate::kernel::SimTime;
use crate::platform::HostId;
use crate::workload::{Graph, ObjectId, ObjectOrigin, TaskId};

/// The state of a run as a global policy sees it: everything that is true now, nothing that is drawn
/// for later.
///
/// Tasks that have not come into being must not be looked at: a policy learns of tasks through
/// [`Policy::known`](crate::policy::Policy::known).
#[derive(Clone, Copy)]
pub struct View<'a>(pub(super) &'a Sim<'a>);

impl<'a> View<'a> {
    /// The graph.
    pub fn graph(&self) -> &'a Graph {
        self.0.setup.graph
    }

    /// The seed, for policies that draw.
    pub fn seed(&self) -> u64 {
        self.0.setup.seed
    }

    /// Seconds since the start.
    pub fn now(&self) -> f64 {
        self.0.queue.now().seconds()
    }

    /// The same, exactly.
    pub fn time(&self) -> SimTime {
        self.0.queue.now()
    }

    /// Whether a task may be placed.
    pub fn is_ready(&self, task: TaskId) -> bool {
        self.0.is_ready(task)
    }

    /// Seconds of work that the policy believes a task to be, on a core of speed 1.
    pub fn estimate(&self, task: TaskId) -> f64 {
        self.0.estimates[task.index()]
    }

    /// How many hosts there are, up or not.
    pub fn hosts(&self) -> usize {
        self.0.hosts.len()
    }

    /// Cores of a host.
    pub fn cores(&self, host: HostId) -> u32 {
        self.0.hosts.group(self.0.setup.platform, host).cores
    }

    /// Bytes of memory of a host.
    pub fn memory(&self, host: HostId) -> u64 {
        self.0.hosts.group(self.0.setup.platform, host).memory
    }

    /// Bytes of memory of a host that no lease has.
    pub fn memory_free(&self, host: HostId) -> u64 {
        self.0.nodes[host.index()].memory_free
    }

    /// The name of a host's group.
    pub fn group(&self, host: HostId) -> &'a str {
        &self.0.hosts.group(self.0.setup.platform, host).name
    }

    /// Leases that each host takes beyond its cores.
    pub fn ahead(&self) -> u32 {
        self.0.setup.ahead
    }

    /// The host from which the user of a task's job submits.
    pub fn home(&self, task: TaskId) -> HostId {
        self.0.home(self.graph().task(task).job)
    }

    /// Work a second of one core.
    pub fn speed(&self, host: HostId) -> f64 {
        self.0.hosts.speed(host)
    }

    /// Whether a host is there.
    pub fn is_up(&self, host: HostId) -> bool {
        self.0.nodes[host.index()].up
    }

    /// How many more tasks a host takes; 0 if it is away, or its owner uses it.
    pub fn room(&self, host: HostId) -> u32 {
        self.0.nodes[host.index()].gives()
    }

    /// Whether a host has room and memory for a task.
    pub fn fits(&self, host: HostId, task: TaskId) -> bool {
        let node = &self.0.nodes[host.index()];
        self.room(host) > 0 && node.memory_free >= self.graph().task(task).memory
    }

    /// Whether a host has a core for which there is no lease.
    pub fn is_idle(&self, host: HostId) -> bool {
        self.room(host) > self.0.setup.ahead
    }

    /// Leases that a host takes before it must be looked at again: one per idle core; without any, one
    /// in advance.
    pub fn slots(&self, host: HostId) -> u32 {
        let (room, ahead) = (self.room(host), self.0.setup.ahead);
        if room > ahead { room - ahead } else { room.min(1) }
    }

    /// Hosts with room: those with an idle core, fastest first; then those that take a first lease in
    /// advance, fastest first; and so on.
    pub fn free_hosts(&self) -> impl Iterator<Item = HostId> + Clone + use<'a> {
        let sim = self.0;
        let hosts = sim.hosts.len() as u32;
        let first = sim.free.first();
        let places = std::iter::successors(first, |&place| sim.free.at_least(place + 1));
        places.map(move |place| sim.hosts.at_rank(place % hosts))
    }

    /// Seconds, as estimated, until a host would have a core for one more lease: each core that becomes
    /// free takes the next of those that were leased before. What they still fetch is not counted.
    pub fn wait(&self, host: HostId) -> f64 {
        if self.is_idle(host) {
            return 0.0;
        }
        let sim = self.0;
        let leases = sim.nodes[host.index()].leases.iter().filter_map(|&key| sim.leases.get(key));
        let mut ends = vec![0.0_f64; self.cores(host) as usize];
        let mut busy = 0;
        let mut waiting = Vec::new();
        for lease in leases {
            let work = self.estimate(lease.task) / self.speed(host);
            match lease.stage {
                Stage::Running => {
                    let ran = (sim.queue.now() - lease.started).seconds();
                    ends[busy] = (work - ran).max(0.0);
                    busy += 1;
                }
                Stage::Preparing => waiting.push(work),
                Stage::Reporting => {}
            }
        }
        let earliest = |ends: &[f64]| {
            let first = ends.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1));
            first.map_or(0, |(core, _)| core)
        };
        for work in waiting {
            let core = earliest(&ends);
            ends[core] += work;
        }
        ends[earliest(&ends)]
    }

    /// Hosts that are up and have fetched or made an object.
    pub fn holders(&self, object: ObjectId) -> &'a [HostId] {
        self.0.holdings.holders(object)
    }

    /// Whether a host has an object.
    pub fn holds(&self, host: HostId, object: ObjectId) -> bool {
        self.0.holds(host, object)
    }

    /// Bytes of a task's inputs that a host has not.
    pub fn missing_bytes(&self, host: HostId, task: TaskId) -> u64 {
        let inputs = self.graph().inputs(task).iter();
        let missing = inputs.filter(|&&input| !self.holds(host, input));
        missing.map(|&input| self.graph().object(input).bytes).sum()
    }

    /// Seconds until a host would have done a task: fetching what is missing as if it came over one
    /// idle path, and at the same time waiting for a core; starting the sandbox; working as long as
    /// estimated.
    pub fn completion(&self, host: HostId, task: TaskId) -> f64 {
        let start = self.0.hosts.group(self.0.setup.platform, host).start.mean();
        let inputs = self.graph().inputs(task).iter();
        let missing = inputs.filter(|&&input| !self.holds(host, input));
        let mut bytes = 0;
        let mut source = None;
        for &input in missing {
            bytes += self.graph().object(input).bytes;
            source = source.or_else(|| self.source(input, task));
        }
        let fetch =
            source.map_or(0.0, |from| self.0.topology.alone(&self.0.hosts, from, host, bytes));
        fetch.max(self.wait(host)) + start + self.estimate(task) / self.speed(host)
    }

    fn source(&self, object: ObjectId, task: TaskId) -> Option<HostId> {
        match self.graph().object(object).origin {
            ObjectOrigin::Product(_) => self.holders(object).first().copied(),
            _ => Some(self.home(task)),
        }
    }

    /// Latency and bandwidth between the home of the first job and a typical other host: what
    /// rankings take for a mean over all pairs.
    pub fn typical_link(&self) -> (f64, f64) {
        let sim = self.0;
        let home = sim.home(crate::workload::JobId(0));
        let other = HostId((home.0 + sim.hosts.len() as u32 / 2) % sim.hosts.len() as u32);
        let (path, latency) = sim.topology.path(&sim.hosts, home, other);
        (latency, sim.topology.bottleneck(&path))
    }

    /// Seconds that transferring an object takes over an idle path between two hosts.
    pub fn transfer(&self, from: HostId, to: HostId, bytes: u64) -> f64 {
        if bytes == 0 || from == to {
            return 0.0;
        }
        self.0.topology.alone(&self.0.hosts, from, to, bytes)
    }
}
