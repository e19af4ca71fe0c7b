//! One host: its machines, and what carries out their effects.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_protocol::name::ThunkName;
use mesh_protocol::peer::{PeerId, StreamId};
use mesh_protocol::sched::claim::{self, Claims, Job};
use mesh_protocol::sched::lease::{self, Leases};
use mesh_protocol::sched::offer::{self, Offerer};
use mesh_protocol::thunk::Thunk;
use mesh_protocol::time::Time;
use mesh_protocol::wire::claim::{Capabilities, FromRequester, FromWorker, Lease, LeaseId, Open};
use mesh_protocol::wire::offer::{Offer, ResourceClass};

use super::Policies;
use crate::kernel::{Draws, EventId, Purpose, SimTime};
use crate::platform::HostId;

/// What a host wants of the world.
#[derive(Debug)]
pub(super) enum Wish {
    Publish(Offer),
    Open(StreamId, PeerId, Open),
    ToRequester(StreamId, FromWorker),
    ToWorker(StreamId, FromRequester),
    Lease(StreamId, LeaseId, ThunkName),
    CloseClaim(StreamId),
    CloseServed(StreamId),
    Fetch(Job, Lease),
    Run(Run, ThunkName),
    Stop(Run),
    /// The requester's run has its answer.
    Ended(u64, bool),
    Wasted(u64),
    Speculated,
}

/// A task that a host executes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Run {
    Own(LeaseId),
    Job(Job),
}

/// One of them.
pub(super) struct Running {
    pub(super) name: ThunkName,
    pub(super) since: SimTime,
    /// When it ends, once its sandbox is there.
    pub(super) event: Option<EventId>,
    /// Is nothing run, and something else told?
    pub(super) is_lie: bool,
}

/// The requester's side.
struct Requester {
    leases: Leases,
    offerer: Offerer,
    /// Of what will be ready at once, although it is not yet.
    expected: Option<ResourceClass>,
}

/// A host.
pub(super) struct Node {
    slots: u32,
    /// Of those, what others may have.
    given: u32,
    requester: Option<Box<Requester>>,
    claims: Claims,
    set_own: u32,
    set_claims: u32,
    pub(super) timer: Option<(SimTime, EventId)>,
    pub(super) running: BTreeMap<Run, Running>,
    /// Streams to others, and of others, by link.
    pub(super) claimed: BTreeMap<StreamId, u32>,
    pub(super) served: BTreeMap<StreamId, u32>,
    pub(super) next_served: u64,
    /// Leases whose outputs are on their way.
    pub(super) settling: BTreeMap<StreamId, BTreeSet<LeaseId>>,
}

/// Hosts are peers by number.
pub(super) fn peer(host: HostId) -> PeerId {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&host.0.to_le_bytes());
    PeerId(bytes)
}

/// And back.
pub(super) fn host_of(peer: PeerId) -> HostId {
    let [a, b, c, d, ..] = peer.0;
    HostId(u32::from_le_bytes([a, b, c, d]))
}

impl Node {
    pub(super) fn new(
        now: Time,
        me: Capabilities,
        (policies, is_home): (Policies, bool),
        (seed, slots): (u64, u32),
    ) -> Self {
        let (pace, spread_us) = policies.claims.waits();
        let requester = is_home.then(|| {
            let policy = policies.names.make(Draws::new(seed, Purpose::Policy, 0).next_u64());
            let offerer = Offerer::new(now.us()).with_pace(pace);
            Box::new(Requester { leases: Leases::new(policy, me), offerer, expected: None })
        });
        Self {
            slots,
            given: slots,
            requester,
            claims: Claims::new(me, seed).with_spread(spread_us),
            set_own: 0,
            set_claims: 0,
            timer: None,
            running: BTreeMap::new(),
            claimed: BTreeMap::new(),
            served: BTreeMap::new(),
            next_served: 0,
            settling: BTreeMap::new(),
        }
    }

    /// Others may have all of it, or nothing while its owner uses it.
    pub(super) fn give(&mut self, in_use: bool) {
        self.given = if in_use { 0 } else { self.slots };
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        let own = self
            .requester
            .as_ref()
            .map(|requester| [requester.leases.next_deadline(), requester.offerer.next_deadline()]);
        own.into_iter().flatten().chain([self.claims.next_deadline()]).flatten().min()
    }

    pub(super) fn lease(&mut self, now: Time, input: lease::Input, wishes: &mut Vec<Wish>) {
        let Some(requester) = &mut self.requester else { return };
        let mut effects = Vec::new();
        requester.leases.handle(now, input, &mut effects);
        wish_of_leases(effects, wishes);
        // Before the other side may start anything.
        let others = self.slots.saturating_sub(requester.leases.own_cores()).min(self.given);
        if others < self.set_claims {
            self.set_claims = others;
            self.claim(now, claim::Input::Slots(others), wishes);
        }
    }

    pub(super) fn claim(&mut self, now: Time, input: claim::Input, wishes: &mut Vec<Wish>) {
        let mut effects = Vec::new();
        self.claims.handle(now, input, &mut effects);
        wish_of_claims(effects, wishes);
    }

    /// Offers a thunk of that class before it is ready, until [`Node::ready`].
    pub(super) fn expect(&mut self, class: ResourceClass) {
        if let Some(requester) = &mut self.requester {
            requester.expected = Some(class);
        }
    }

    /// It is.
    pub(super) fn ready(&mut self, now: Time, input: lease::Input, wishes: &mut Vec<Wish>) {
        if let Some(requester) = &mut self.requester {
            requester.expected = None;
        }
        self.lease(now, input, wishes);
    }

    pub(super) fn joined(&mut self, now: Time, wishes: &mut Vec<Wish>) {
        self.offer(now, offer::Input::Joined, wishes);
    }

    fn offer(&mut self, now: Time, input: offer::Input, wishes: &mut Vec<Wish>) {
        let Some(requester) = &mut self.requester else { return };
        let mut effects = Vec::new();
        requester.offerer.handle(now, input, &mut effects);
        wish_of_offers(effects, wishes);
    }

    pub(super) fn on_timer(&mut self, now: Time, wishes: &mut Vec<Wish>) {
        let due = |deadline: Option<Time>| deadline.is_some_and(|deadline| deadline <= now);
        if let Some(requester) = &mut self.requester {
            if due(requester.leases.next_deadline()) {
                let mut effects = Vec::new();
                requester.leases.handle_timeout(now, &mut effects);
                wish_of_leases(effects, wishes);
            }
            if due(requester.offerer.next_deadline()) {
                let mut effects = Vec::new();
                requester.offerer.handle_timeout(now, &mut effects);
                wish_of_offers(effects, wishes);
            }
        }
        if due(self.claims.next_deadline()) {
            let mut effects = Vec::new();
            self.claims.handle_timeout(now, &mut effects);
            wish_of_claims(effects, wishes);
        }
    }

    /// After anything happened: what one side keeps busy, the other may not start; own work first.
    pub(super) fn settle(&mut self, now: Time, wishes: &mut Vec<Wish>) {
        loop {
            let own = self.slots.saturating_sub(self.claims.running_cores());
            if self.requester.is_some() && own != self.set_own {
                self.set_own = own;
                self.lease(now, lease::Input::OwnSlots(own), wishes);
                continue;
            }
            let busy = self.requester.as_ref().map_or(0, |requester| requester.leases.own_cores());
            let others = self.slots.saturating_sub(busy).min(self.given);
            if others == self.set_claims {
                break;
            }
            self.set_claims = others;
            self.claim(now, claim::Input::Slots(others), wishes);
        }
        if let Some(requester) = &self.requester {
            let (mut ready, trees) = requester.leases.unplaced();
            if let Some(class) = requester.expected {
                ready.entry(class).or_insert(1);
            }
            self.offer(now, offer::Input::Unplaced(ready, trees), wishes);
        }
    }
}

fn wish_of_leases(effects: Vec<lease::Effect>, wishes: &mut Vec<Wish>) {
    wishes.extend(effects.into_iter().filter_map(|effect| {
        Some(match effect {
            lease::Effect::Lease { stream, lease, name, .. } => Wish::Lease(stream, lease, name),
            lease::Effect::Send(stream, message) => Wish::ToWorker(stream, message),
            lease::Effect::Close(stream) => Wish::CloseServed(stream),
            lease::Effect::Run { lease, name, .. } => Wish::Run(Run::Own(lease), name),
            lease::Effect::StopOwn(lease) => Wish::Stop(Run::Own(lease)),
            lease::Effect::Ended(run, end) => Wish::Ended(run.0, end.is_ok()),
            lease::Effect::Event(lease::Event::Wasted(_, us)) => Wish::Wasted(us),
            lease::Effect::Event(lease::Event::Speculated(..)) => Wish::Speculated,
            lease::Effect::Record(..) | lease::Effect::Event(_) => return None,
        })
    }));
}

fn wish_of_claims(effects: Vec<claim::Effect>, wishes: &mut Vec<Wish>) {
    wishes.extend(effects.into_iter().filter_map(|effect| {
        Some(match effect {
            claim::Effect::Open(stream, peer, open) => Wish::Open(stream, peer, open),
            claim::Effect::Send(stream, message) => Wish::ToRequester(stream, message),
            claim::Effect::Close(stream) => Wish::CloseClaim(stream),
            claim::Effect::Fetch(job, lease) => Wish::Fetch(job, lease),
            claim::Effect::Run { job, name, .. } => Wish::Run(Run::Job(job), name),
            claim::Effect::Stop(job) => Wish::Stop(Run::Job(job)),
            // What a host does ahead costs no virtual time.
            claim::Effect::Prepare(..) | claim::Effect::Drained => return None,
        })
    }));
}

fn wish_of_offers(effects: Vec<offer::Effect>, wishes: &mut Vec<Wish>) {
    wishes.extend(effects.into_iter().map(|offer::Effect::Publish(offer)| Wish::Publish(offer)));
}

/// What a worker was given to read.
pub(super) type Fetched = Result<Arc<Thunk>, String>;
