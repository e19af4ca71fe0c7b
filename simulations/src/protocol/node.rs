//! One host: its machine, and what it wants of the world.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_protocol::name::ThunkName;
use mesh_protocol::peer::{PeerId, StreamId};
use mesh_protocol::sched::claim::{self, Job};
use mesh_protocol::sched::lease::{self, Settle};
use mesh_protocol::sched::member::{self, Member, Settings, Share};
use mesh_protocol::thunk::Thunk;
use mesh_protocol::time::Time;
use mesh_protocol::wire::claim::{Capabilities, FromRequester, FromWorker, Lease, LeaseId, Open};
use mesh_protocol::wire::offer::Offer;

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
    Settle(Box<Settle>),
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

/// A host.
pub(super) struct Node {
    slots: u32,
    member: Member,
    pub(super) timer: Option<(SimTime, EventId)>,
    pub(super) running: BTreeMap<Run, Running>,
    /// Streams to others, and of others, by link.
    pub(super) claimed: BTreeMap<StreamId, u32>,
    pub(super) served: BTreeMap<StreamId, u32>,
    pub(super) next_served: u64,
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
        let settings = Settings { me, seed, pace, spread_us };
        let member = match is_home {
            true => {
                let seed = Draws::new(seed, Purpose::Policy, 0).next_u64();
                Member::new(&settings, policies.names.make(seed), now.us())
            }
            false => Member::worker(&settings),
        };
        Self {
            slots,
            member,
            timer: None,
            running: BTreeMap::new(),
            claimed: BTreeMap::new(),
            served: BTreeMap::new(),
            next_served: 0,
        }
    }

    /// Others may have all of it, or nothing while its owner uses it.
    pub(super) fn give(&mut self, now: Time, in_use: bool, wishes: &mut Vec<Wish>) {
        let given = if in_use { 0 } else { self.slots };
        let share = Share { given, ..Share::of(self.slots) };
        self.tell(now, member::Input::Share(share), wishes);
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.member.next_deadline()
    }

    pub(super) fn tell(&mut self, now: Time, input: member::Input, wishes: &mut Vec<Wish>) {
        let mut effects = Vec::new();
        self.member.handle(now, input, &mut effects);
        wish(effects, wishes);
    }

    pub(super) fn lease(&mut self, now: Time, input: lease::Input, wishes: &mut Vec<Wish>) {
        self.tell(now, member::Input::Lease(input), wishes);
    }

    pub(super) fn claim(&mut self, now: Time, input: claim::Input, wishes: &mut Vec<Wish>) {
        self.tell(now, member::Input::Claim(input), wishes);
    }

    pub(super) fn on_timer(&mut self, now: Time, wishes: &mut Vec<Wish>) {
        let mut effects = Vec::new();
        self.member.handle_timeout(now, &mut effects);
        wish(effects, wishes);
    }

    pub(super) fn settle(&mut self, now: Time, wishes: &mut Vec<Wish>) {
        let mut effects = Vec::new();
        self.member.settle(now, &mut effects);
        wish(effects, wishes);
    }
}

fn wish(effects: Vec<member::Effect>, wishes: &mut Vec<Wish>) {
    wishes.extend(effects.into_iter().filter_map(|effect| match effect {
        member::Effect::Lease(effect) => wish_of_lease(effect),
        member::Effect::Claim(effect) => wish_of_claim(effect),
        member::Effect::Publish(offer) => Some(Wish::Publish(offer)),
    }));
}

fn wish_of_lease(effect: lease::Effect) -> Option<Wish> {
    Some(match effect {
        lease::Effect::Lease { stream, lease, name, .. } => Wish::Lease(stream, lease, name),
        lease::Effect::Send(stream, message) => Wish::ToWorker(stream, message),
        lease::Effect::Close(stream) => Wish::CloseServed(stream),
        lease::Effect::Settle(settle) => Wish::Settle(settle),
        lease::Effect::Run { lease, name, .. } => Wish::Run(Run::Own(lease), name),
        lease::Effect::StopOwn(lease) => Wish::Stop(Run::Own(lease)),
        lease::Effect::Ended(run, end) => Wish::Ended(run.0, end.is_ok()),
        lease::Effect::Event(lease::Event::Wasted(_, us)) => Wish::Wasted(us),
        lease::Effect::Event(lease::Event::Speculated(..)) => Wish::Speculated,
        lease::Effect::Record(..) | lease::Effect::Event(_) => return None,
    })
}

fn wish_of_claim(effect: claim::Effect) -> Option<Wish> {
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
}

/// What a worker was given to read.
pub(super) type Fetched = Result<Arc<Thunk>, String>;
