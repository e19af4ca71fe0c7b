//! Member: what a node is to the others, as one machine. It gives its own work away (leases, offers), and
//! does theirs (claims).
//!
//! Goals: never more cores busy than there are slots, whoever keeps them busy; its own work first; what its
//! owner keeps back is given to nobody. Whoever drives it - the node, the simulator, the test cluster - has
//! nothing to decide.
//!
//! ```text
//!   force --Ready--> +--------+ --Unplaced--> +---------+ --Publish--> others
//!   workers <------> | leases |               | offerer |
//!                    +--------+               +---------+
//!           OwnSlots ^  | own_cores
//!                    |  v
//!                  ( balance )  slots, given, own
//!                    ^  |
//!      running_cores |  v Slots
//!                    +--------+
//!   requesters <---> | claims |
//!                    +--------+
//! ```
//!
//! After any number of inputs, and before it waits, the driver calls [`Member::settle`]: slots that were
//! freed are given out then, and what is offered is said once for all that happened.

use crate::limits;
use crate::sched::claim::{self, Claims};
use crate::sched::lease::{self, LeasePolicy, Leases};
use crate::sched::offer::{self, Offerer, Pace};
use crate::time::Time;
use crate::wire::claim::Capabilities;
use crate::wire::offer::{Offer, ResourceClass};

/// How the cores of a machine are shared out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share {
    /// Cores that may be kept busy in all.
    pub slots: u32,
    /// Of those, how many by others' work at most.
    pub given: u32,
    /// And how many by its own work at most.
    pub own: u32,
}

impl Share {
    /// All for everybody.
    pub fn of(slots: u32) -> Self {
        Self { slots, given: slots, own: slots }
    }
}

/// What the machine is told.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is handed on at once, and never kept")]
pub enum Input {
    /// Something about its own work. Its slots are the machine's affair.
    Lease(lease::Input),
    /// Something about others' work. Likewise.
    Claim(claim::Input),
    /// Somebody came within reach, who has heard nothing yet.
    Joined,
    /// From now on, cores are shared out like this.
    Share(Share),
    /// A thunk of that class will be ready in a moment, or none any more: it is offered already.
    Expect(Option<ResourceClass>),
}

/// What the machine wants done.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// For its own work.
    Lease(lease::Effect),
    /// For others' work.
    Claim(claim::Effect),
    /// Tell everybody.
    Publish(Offer),
}

/// What a member is made of.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Its machine.
    pub me: Capabilities,
    /// Of its random choices.
    pub seed: u64,
    /// Of its offers.
    pub pace: Pace,
    /// A claim follows an offer after at most so many microseconds.
    pub spread_us: u64,
}

impl Settings {
    /// With the waits that nodes have.
    pub fn of(me: Capabilities, seed: u64) -> Self {
        Self { me, seed, pace: Pace::default(), spread_us: limits::CLAIM_SPREAD_US }
    }
}

/// The half that gives work away.
struct Requester {
    leases: Leases,
    offerer: Offerer,
    expected: Option<ResourceClass>,
}

/// The machine. One per node.
pub struct Member {
    /// None if it never has work of its own.
    requester: Option<Box<Requester>>,
    claims: Claims,
    share: Share,
    /// What the halves were told last.
    own_slots: u32,
    claim_slots: u32,
}

impl Member {
    /// One that has no slots so far. Its offers are numbered from `first_offer` on, which must be more than
    /// any number of an earlier run of this node: microseconds since 1970 will do.
    pub fn new(settings: &Settings, policy: LeasePolicy, first_offer: u64) -> Self {
        let requester = Requester {
            leases: Leases::new(policy, settings.me),
            offerer: Offerer::new(first_offer).with_pace(settings.pace),
            expected: None,
        };
        Self { requester: Some(Box::new(requester)), ..Self::worker(settings) }
    }

    /// One that only does others' work: what concerns its own is ignored.
    pub fn worker(settings: &Settings) -> Self {
        let claims = Claims::new(settings.me, settings.seed).with_spread(settings.spread_us);
        Self { requester: None, claims, share: Share::of(0), own_slots: 0, claim_slots: 0 }
    }

    /// Its own work; none if it never has any.
    pub fn leases(&self) -> Option<&Leases> {
        self.requester.as_ref().map(|requester| &requester.leases)
    }

    /// Others' work.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Cores that its own work and others' keep busy.
    pub fn busy(&self) -> (u32, u32) {
        (self.leases().map_or(0, Leases::own_cores), self.claims.running_cores())
    }

    /// Takes one input and appends what is to be done about it.
    pub fn handle(&mut self, now: Time, input: Input, effects: &mut Vec<Effect>) {
        let before = self.busy();
        match input {
            Input::Lease(input) => self.lease(now, input, effects),
            Input::Claim(input) => self.claim(now, input, effects),
            Input::Joined => self.offer(now, offer::Input::Joined, effects),
            Input::Share(share) => {
                self.share = share;
                self.balance(now, effects);
            }
            Input::Expect(class) => {
                if let Some(requester) = &mut self.requester {
                    requester.expected = class;
                }
            }
        }
        self.check(before);
    }

    /// After anything happened: gives out slots that were freed, and offers what nobody has. How many thunks
    /// that are.
    pub fn settle(&mut self, now: Time, effects: &mut Vec<Effect>) -> u32 {
        let before = self.busy();
        self.balance(now, effects);
        self.check(before);
        let Some(requester) = &self.requester else { return 0 };
        let (mut ready, trees) = requester.leases.unplaced();
        let unplaced = ready.values().fold(0, |sum: u32, count| sum.saturating_add(*count));
        if let Some(class) = requester.expected {
            ready.entry(class).or_insert(1);
        }
        self.offer(now, offer::Input::Unplaced(ready, trees), effects);
        unplaced
    }

    /// When [`Member::handle_timeout`] must be called at the latest.
    pub fn next_deadline(&self) -> Option<Time> {
        let own = self
            .requester
            .as_ref()
            .map(|requester| [requester.leases.next_deadline(), requester.offerer.next_deadline()]);
        own.into_iter().flatten().chain([self.claims.next_deadline()]).flatten().min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let due = |deadline: Option<Time>| deadline.is_some_and(|deadline| deadline <= now);
        let before = self.busy();
        if let Some(requester) = &mut self.requester
            && due(requester.leases.next_deadline())
        {
            let mut wishes = Vec::new();
            requester.leases.handle_timeout(now, &mut wishes);
            effects.extend(wishes.into_iter().map(Effect::Lease));
            self.balance(now, effects);
        }
        if due(self.claims.next_deadline()) {
            let mut wishes = Vec::new();
            self.claims.handle_timeout(now, &mut wishes);
            effects.extend(wishes.into_iter().map(Effect::Claim));
            self.balance(now, effects);
        }
        if let Some(requester) = &mut self.requester
            && due(requester.offerer.next_deadline())
        {
            let mut wishes = Vec::new();
            requester.offerer.handle_timeout(now, &mut wishes);
            publish(wishes, effects);
        }
        self.check(before);
    }

    fn lease(&mut self, now: Time, input: lease::Input, effects: &mut Vec<Effect>) {
        let Some(requester) = &mut self.requester else { return };
        let mut wishes = Vec::new();
        requester.leases.handle(now, input, &mut wishes);
        effects.extend(wishes.into_iter().map(Effect::Lease));
        // Before the other half may start anything.
        let slots = self.slots_of_claims();
        if slots < self.claim_slots {
            self.claim_slots = slots;
            self.claim(now, claim::Input::Slots(slots), effects);
        }
    }

    fn claim(&mut self, now: Time, input: claim::Input, effects: &mut Vec<Effect>) {
        let mut wishes = Vec::new();
        self.claims.handle(now, input, &mut wishes);
        effects.extend(wishes.into_iter().map(Effect::Claim));
        // Likewise: what began for others is taken from its own.
        let slots = self.slots_of_leases();
        if slots < self.own_slots {
            self.own_slots = slots;
            self.lease(now, lease::Input::OwnSlots(slots), effects);
        }
    }

    fn offer(&mut self, now: Time, input: offer::Input, effects: &mut Vec<Effect>) {
        let Some(requester) = &mut self.requester else { return };
        let mut wishes = Vec::new();
        requester.offerer.handle(now, input, &mut wishes);
        publish(wishes, effects);
    }

    /// What one half keeps busy, the other may not start; its own work first.
    fn balance(&mut self, now: Time, effects: &mut Vec<Effect>) {
        loop {
            let slots = self.slots_of_leases();
            if slots != self.own_slots && self.requester.is_some() {
                self.own_slots = slots;
                self.lease(now, lease::Input::OwnSlots(slots), effects);
                continue;
            }
            let slots = self.slots_of_claims();
            if slots == self.claim_slots {
                return;
            }
            self.claim_slots = slots;
            self.claim(now, claim::Input::Slots(slots), effects);
        }
    }

    fn slots_of_leases(&self) -> u32 {
        self.share.slots.saturating_sub(self.claims.running_cores()).min(self.share.own)
    }

    fn slots_of_claims(&self) -> u32 {
        self.share.slots.saturating_sub(self.busy().0).min(self.share.given)
    }

    /// Nothing begins beyond the slots; what ran when they became fewer runs on.
    fn check(&self, (own, others): (u32, u32)) {
        let (own_now, others_now) = self.busy();
        let (before, now) =
            (u64::from(own) + u64::from(others), u64::from(own_now) + u64::from(others_now));
        debug_assert!(now <= before.max(u64::from(self.share.slots)), "{now} cores are busy");
        debug_assert!(others_now <= others.max(self.share.given), "{others_now} cores are busy");
    }
}

fn publish(wishes: Vec<offer::Effect>, effects: &mut Vec<Effect>) {
    effects.extend(wishes.into_iter().map(|offer::Effect::Publish(offer)| Effect::Publish(offer)));
}

#[cfg(test)]
#[path = "member_tests.rs"]
mod tests;
