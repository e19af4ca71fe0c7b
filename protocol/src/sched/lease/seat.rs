//! One claimant, as the requester knows it.

use std::collections::{BTreeSet, VecDeque};

use crate::limits;
use crate::name::ValueName;
use crate::peer::{PeerId, StreamId};
use crate::time::Time;
use crate::wire::claim::{Capabilities, LeaseId, Window};

/// Where leases go: the requester's own slots are a claimant like any other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Seat {
    /// This machine.
    Own,
    /// The worker at the other end of a claim stream.
    Stream(StreamId),
}

/// What is known of a claimant, and what it holds.
#[derive(Debug)]
pub(super) struct Claimant {
    /// None for this machine.
    pub(super) peer: Option<PeerId>,
    pub(super) capabilities: Capabilities,
    pub(super) window: Window,
    pub(super) leases: BTreeSet<LeaseId>,
    /// Cores of those.
    pub(super) cores: u32,
    /// When it last said anything.
    pub(super) heard: Time,
    /// When something was last said to it.
    pub(super) told: Time,
    /// Has it been told that there is nothing?
    pub(super) told_dry: bool,
    pub(super) holds: Holds,
}

impl Claimant {
    pub(super) fn new(
        now: Time,
        peer: Option<PeerId>,
        capabilities: Capabilities,
        window: Window,
    ) -> Self {
        Self {
            peer,
            capabilities,
            window,
            leases: BTreeSet::new(),
            cores: 0,
            heard: now,
            told: now,
            told_dry: false,
            holds: Holds::default(),
        }
    }

    /// The cores that a thunk takes there: one that wants more than there are gets them all. A
    /// worker sees to its own slots; here, they are ours to keep.
    pub(super) fn cores_of(&self, wanted: u16) -> u32 {
        let there = match self.peer {
            Some(_) => self.capabilities.cores,
            None => self.window.slots,
        };
        u32::from(wanted).min(there).max(1)
    }

    /// Cores still free below `bound`. An empty claimant takes any thunk that its machine can run,
    /// however small its window is, or the thunk would wait for ever.
    pub(super) fn has_room(&self, cores: u32, bound: u32) -> bool {
        let few = self.leases.len() < limits::CLAIM_LEASES;
        few && bound > 0 && (self.cores == 0 || self.cores.saturating_add(cores) <= bound)
    }

    /// Does it hold less than it takes?
    pub(super) fn is_roomy(&self) -> bool {
        self.window.cores() > self.cores
    }

    /// When the requester must act even if nothing happens: say something, or give it up.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.peer?;
        Some((self.heard + limits::SILENCE_US).min(self.told + limits::HEARTBEAT_US))
    }
}

/// Values that a claimant has, as far as one knows: what it said, was sent, and made.
#[derive(Debug, Default)]
pub(super) struct Holds {
    set: BTreeSet<ValueName>,
    order: VecDeque<ValueName>,
}

impl Holds {
    pub(super) fn contains(&self, name: &ValueName) -> bool {
        self.set.contains(name)
    }

    pub(super) fn insert(&mut self, name: ValueName) {
        if !self.set.insert(name) {
            return;
        }
        self.order.push_back(name);
        if self.order.len() > limits::CLAIMANT_HOLDS
            && let Some(oldest) = self.order.pop_front()
        {
            self.set.remove(&oldest);
        }
    }
}
