//! Transfers of objects between hosts.

use super::DataModel;
use super::holdings::Place;
use super::lease::Lease;
use super::slab::Key;
use super::state::{Event, Sim};
use crate::kernel::{Draws, EventId, Purpose, SimTime, Span};
use crate::network::{FairShare, FlowId, Model, Topology};
use crate::platform::HostId;
use crate::workload::{ObjectId, ObjectOrigin};

/// An object on its way.
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) object: ObjectId,
    pub(super) to: HostId,
    /// `None` while there is no source.
    from: Option<HostId>,
    waiters: Vec<Key<Lease>>,
    /// Whether it brings a result home.
    pub(super) is_result: bool,
    event: Option<EventId>,
    flow: Option<FlowId>,
}

/// The state of the network model.
#[derive(Debug)]
pub(super) struct Network {
    fair: Option<FairShare>,
    /// For each flow its transfer.
    transfers: Vec<Option<Key<Transfer>>>,
    changes: Vec<(FlowId, SimTime)>,
    /// How many transfers were started, for the choice of sources.
    started: u64,
}

/// Among how many holders, at most, the least busy is looked for.
const SOURCES_MAX: usize = 8;

impl Network {
    pub(super) fn new(model: Model, topology: &Topology) -> Self {
        let fair = (model == Model::Fair).then(|| FairShare::new(topology.bandwidths()));
        Self { fair, transfers: Vec::new(), changes: Vec::new(), started: 0 }
    }
}

impl Sim<'_> {
    /// Brings an object to a host, for a lease or as a result. Who wants what is on its way already
    /// waits with the others.
    pub(super) fn fetch(&mut self, object: ObjectId, to: HostId, lease: Option<Key<Lease>>) {
        let keeps = self.setup.data == DataModel::Objects;
        if keeps
            && let Some(Place::Coming(key)) = self.holdings.place(to, object)
            && let Some(transfer) = self.transfers.get_mut(key)
        {
            transfer.waiters.extend(lease);
            transfer.is_result |= lease.is_none();
            return;
        }
        let key = self.transfers.insert(Transfer {
            object,
            to,
            from: None,
            waiters: lease.into_iter().collect(),
            is_result: lease.is_none(),
            event: None,
            flow: None,
        });
        if keeps {
            self.holdings.expect(to, object, key);
        }
        self.nodes[to.index()].incoming.push(key);
        self.depart(key);
    }

    /// Chooses a source and starts; without a source, looks again when the loss has been noticed.
    fn depart(&mut self, key: Key<Transfer>) {
        let Some(transfer) = self.transfers.get(key) else { return };
        let (object, to) = (transfer.object, transfer.to);
        let now = self.queue.now();
        let Some(from) = self.source(object, to) else {
            let again = now + self.setup.platform.detection + Span::from_ns(1);
            let event = self.queue.schedule(again, Event::Retry(key));
            if let Some(transfer) = self.transfers.get_mut(key) {
                transfer.event = Some(event);
            }
            return;
        };
        self.network.started += 1;
        let (path, latency) = self.topology.path(&self.hosts, from, to);
        let bytes = self.setup.graph.object(object).bytes as f64;
        let event = if self.network.fair.is_some() {
            self.queue.schedule(now + Span::from_seconds(latency), Event::Joined(key))
        } else {
            let seconds = latency + bytes / self.topology.bottleneck(&path);
            self.queue.schedule(now + Span::from_seconds(seconds), Event::Moved(key))
        };
        self.nodes[from.index()].outgoing.push(key);
        if let Some(transfer) = self.transfers.get_mut(key) {
            transfer.from = Some(from);
            transfer.event = Some(event);
        }
    }

    /// From where to fetch: of some holders the one that feeds the fewest others.
    pub(super) fn source(&self, object: ObjectId, to: HostId) -> Option<HostId> {
        if self.setup.data == DataModel::Edges {
            return Some(self.made_at[object.index()]);
        }
        let holders = self.holdings.holders(object);
        let owner = match self.setup.graph.object(object).origin {
            ObjectOrigin::Source(job) => Some(self.home(job)),
            ObjectOrigin::Common => Some(self.nearest_home(to)),
            ObjectOrigin::Product(_) => None,
        };
        let offset = if holders.len() > SOURCES_MAX {
            let entity = (u64::from(object.0) << 32) ^ self.network.started;
            Draws::new(self.setup.seed, Purpose::Source, entity).below(holders.len())
        } else {
            0
        };
        let some = holders.iter().cycle().skip(offset).take(holders.len().min(SOURCES_MAX));
        let candidates = owner.into_iter().chain(some.copied());
        candidates.min_by_key(|host| self.nodes[host.index()].outgoing.len())
    }

    /// The home from which a host fetches what every user has.
    fn nearest_home(&self, to: HostId) -> HostId {
        let count = self.setup.platform.groups[self.setup.home].count;
        let spread = HostId(self.home_start + to.0 % count);
        if self.is_home[spread.index()] { spread } else { self.home(crate::workload::JobId(0)) }
    }

    /// The latency is over: the bytes share the links from now on.
    pub(super) fn on_joined(&mut self, key: Key<Transfer>) {
        let now = self.queue.now();
        let Some(transfer) = self.transfers.get_mut(key) else { return };
        let (Some(from), Some(fair)) = (transfer.from, self.network.fair.as_mut()) else { return };
        let (path, _) = self.topology.path(&self.hosts, from, transfer.to);
        let bytes = self.setup.graph.object(transfer.object).bytes as f64;
        let flow = fair.join(now, path, bytes);
        transfer.flow = Some(flow);
        transfer.event = None;
        let index = flow.0 as usize;
        if self.network.transfers.len() <= index {
            self.network.transfers.resize(index + 1, None);
        }
        self.network.transfers[index] = Some(key);
    }

    /// At the end of an instant: finds the rates, and when each flow will be done.
    pub(super) fn settle_network(&mut self) {
        let now = self.queue.now();
        let Some(fair) = self.network.fair.as_mut().filter(|fair| fair.is_dirty()) else { return };
        let mut changes = std::mem::take(&mut self.network.changes);
        fair.settle(now, &mut changes);
        for (flow, at) in changes.drain(..) {
            let Some(key) = self.network.transfers[flow.0 as usize] else { continue };
            let Some(transfer) = self.transfers.get_mut(key) else { continue };
            let event = self.queue.schedule(at, Event::Moved(key));
            if let Some(old) = transfer.event.replace(event) {
                self.queue.cancel(old);
            }
        }
        self.network.changes = changes;
    }

    /// All bytes are there.
    pub(super) fn on_moved(&mut self, key: Key<Transfer>) {
        if let Some(transfer) = self.transfers.get_mut(key) {
            transfer.event = None;
        }
        self.detach(key);
        let Some(transfer) = self.remove_transfer(key) else { return };
        let bytes = self.setup.graph.object(transfer.object).bytes;
        self.totals.bytes += bytes;
        self.totals.transfers += 1;
        if self.setup.data == DataModel::Objects {
            self.holdings.add(transfer.to, transfer.object);
        }
        // Whoever waits longest began the fetch: the bytes are its.
        let mut share = bytes;
        for lease in transfer.waiters {
            self.on_input(lease, std::mem::take(&mut share));
        }
        if transfer.is_result
            && let ObjectOrigin::Product(task) = self.setup.graph.object(transfer.object).origin
        {
            self.job_step(task);
        }
    }

    /// Looks for a source again; without one, the object is lost.
    pub(super) fn on_retry(&mut self, key: Key<Transfer>) {
        let Some(transfer) = self.transfers.get_mut(key) else { return };
        transfer.event = None;
        let (object, to) = (transfer.object, transfer.to);
        if self.source(object, to).is_some() {
            self.depart(key);
        } else {
            self.lose(object);
        }
    }

    /// Whether the transfer neither moves nor waits for an event: its source went.
    pub(super) fn is_stalled(&self, key: Key<Transfer>) -> bool {
        self.transfers.get(key).is_some_and(|t| t.from.is_none() && t.event.is_none())
    }

    /// Whether a result is on its way to its user.
    pub(super) fn is_coming_home(&self, home: HostId, object: ObjectId) -> bool {
        match self.holdings.place(home, object) {
            Some(Place::Coming(key)) => self.transfers.get(key).is_some_and(|t| t.is_result),
            _ => false,
        }
    }

    /// Stops the movement; the transfer stays.
    pub(super) fn detach(&mut self, key: Key<Transfer>) {
        let now = self.queue.now();
        let Some(transfer) = self.transfers.get_mut(key) else { return };
        if let Some(event) = transfer.event.take() {
            self.queue.cancel(event);
        }
        if let (Some(flow), Some(fair)) = (transfer.flow.take(), self.network.fair.as_mut()) {
            fair.leave(now, flow);
            self.network.transfers[flow.0 as usize] = None;
        }
        if let Some(from) = transfer.from.take() {
            remove(&mut self.nodes[from.index()].outgoing, key);
        }
    }

    /// Takes a stopped transfer away.
    pub(super) fn remove_transfer(&mut self, key: Key<Transfer>) -> Option<Transfer> {
        let transfer = self.transfers.remove(key)?;
        remove(&mut self.nodes[transfer.to.index()].incoming, key);
        if self.setup.data == DataModel::Objects {
            self.holdings.forget(transfer.to, transfer.object);
        }
        Some(transfer)
    }

    /// A lease does not wait any more; a transfer that nobody waits for ends.
    pub(super) fn stop_waiting(&mut self, lease: Key<Lease>, host: HostId) {
        for at in (0..self.nodes[host.index()].incoming.len()).rev() {
            let key = self.nodes[host.index()].incoming[at];
            let Some(transfer) = self.transfers.get_mut(key) else { continue };
            transfer.waiters.retain(|&waiter| waiter != lease);
            if transfer.waiters.is_empty() && !transfer.is_result {
                self.detach(key);
                self.remove_transfer(key);
            }
        }
    }
}

fn remove(list: &mut Vec<Key<Transfer>>, key: Key<Transfer>) {
    if let Some(at) = list.iter().position(|&other| other == key) {
        list.swap_remove(at);
    }
}
