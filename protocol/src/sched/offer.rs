//! Offer: say that there is work, and remember who said so.
//!
//! Goals: gossip carries a few small messages a second, however many thunks there are; idle workers
//! learn of work within a moment, and stop coming soon after it is gone; a worker spreads itself
//! fairly over those who offer, and first goes where it has what is needed. Non-goals: naming
//! thunks, and knowing how much work is really left (whoever claims will see).
//!
//! ```text
//!  requester:            something is left             settled, or the interval is over
//!    Silent (withdrawn) --------------------> Due ------------------------------------> Offered
//!          ^                                   ^  doubled, halved, other classes or trees, |
//!          |                                   |  a member joined, refresh                 |
//!          |                                   '-------------------------------------------|
//!          '---------------------------- nothing is left: an empty offer -----------------'
//!  worker:   unknown --offer--> listed --refused, unreachable--> left alone for a while --> listed
//!                                 '--empty offer, not said again in time--> forgotten
//! ```

use std::collections::{BTreeMap, BTreeSet};

use crate::limits;
use crate::name::ValueName;
use crate::peer::PeerId;
use crate::random::Random;
use crate::time::Time;
use crate::wire::claim::Capabilities;
use crate::wire::offer::{Offer, ResourceClass};

/// What the requester's side is told.
#[derive(Debug)]
pub enum Input {
    /// What no claimant has taken: see [`Leases::unplaced`](super::lease::Leases::unplaced).
    Unplaced(BTreeMap<ResourceClass, u32>, BTreeSet<ValueName>),
    /// A member came that has not heard the last offer.
    Joined,
}

/// What the requester's side wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Gossip this.
    Publish(Offer),
}

/// The requester's side.
#[derive(Debug)]
pub struct Offerer {
    number: u64,
    said: Offer,
    said_at: Option<Time>,
    wanted: Offer,
    due: Option<Time>,
    pace: Pace,
}

/// How long an offer waits before it is said, in microseconds. Gossip has its reasons to; who tells by
/// other means may have none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// For more of the same burst.
    pub settle_us: u64,
    /// After the offer before.
    pub interval_us: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { settle_us: limits::OFFER_SETTLE_US, interval_us: limits::OFFER_INTERVAL_US }
    }
}

impl Offerer {
    /// One that has offered nothing. Numbers must go on where those of an earlier run of this node
    /// ended: microseconds since 1970 at the start will do.
    pub fn new(first_number: u64) -> Self {
        let nothing = Offer::default();
        Self {
            number: first_number,
            said: nothing.clone(),
            said_at: None,
            wanted: nothing,
            due: None,
            pace: Pace::default(),
        }
    }

    /// The same with another pace.
    pub fn with_pace(self, pace: Pace) -> Self {
        Self { pace, ..self }
    }

    /// Takes one input and appends what is to be done about it.
    pub fn handle(&mut self, now: Time, input: Input, effects: &mut Vec<Effect>) {
        let urgent = match input {
            Input::Unplaced(mut ready, mut trees) => {
                while ready.len() > limits::OFFER_CLASSES {
                    ready.pop_last();
                }
                while trees.len() > limits::OFFER_TREES {
                    trees.pop_last();
                }
                self.wanted = Offer { number: 0, ready, trees };
                differs(&self.said, &self.wanted)
            }
            Input::Joined => !self.wanted.is_withdrawal(),
        };
        self.due = match (urgent, self.wanted.is_withdrawal()) {
            (true, _) => Some(self.due_soon(now)),
            (false, false) => {
                let refresh = self.said_at.map(|at| at + limits::OFFER_REFRESH_US);
                self.due.into_iter().chain(refresh).min()
            }
            (false, true) => None,
        };
        self.handle_timeout(now, effects);
    }

    /// At once after a pause, else when the interval is over; what is due already stays so.
    fn due_soon(&self, now: Time) -> Time {
        let settled = now + self.pace.settle_us;
        let earliest = self.said_at.map_or(settled, |at| settled.max(at + self.pace.interval_us));
        self.due.map_or(earliest, |due| due.min(earliest))
    }

    /// When [`Offerer::handle_timeout`] must be called at the latest.
    pub fn next_deadline(&self) -> Option<Time> {
        self.due
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        self.number += 1;
        self.said = Offer { number: self.number, ..self.wanted.clone() };
        self.said_at = Some(now);
        let holds = !self.said.is_withdrawal();
        self.due = holds.then_some(now + limits::OFFER_REFRESH_US);
        effects.push(Effect::Publish(self.said.clone()));
    }
}

/// Is the difference worth a message? Numbers count by their order of magnitude.
fn differs(said: &Offer, wanted: &Offer) -> bool {
    let magnitude = |count: &u32| u32::BITS - count.leading_zeros();
    let same = said.ready.len() == wanted.ready.len()
        && said.ready.iter().zip(&wanted.ready).all(|((a, said), (b, wanted))| {
            a == b && magnitude(said).abs_diff(magnitude(wanted)) < 2
        });
    !same || !wanted.trees.is_subset(&said.trees)
}

/// The worker's side: who has work, and who has had how much of us.
#[derive(Debug, Default)]
pub struct Board {
    offers: BTreeMap<PeerId, Listed>,
    alone: BTreeMap<PeerId, LeftAlone>,
    /// Core-microseconds that each was served. Newcomers begin with the least of the others, so that
    /// nobody can save up.
    served: BTreeMap<PeerId, u64>,
}

#[derive(Debug)]
struct Listed {
    offer: Offer,
    expires: Time,
}

#[derive(Debug)]
struct LeftAlone {
    until: Time,
    failures: u32,
}

impl Board {
    /// Takes an offer, if it is news. The sender has been authenticated.
    pub fn insert(&mut self, now: Time, peer: PeerId, offer: Offer) -> bool {
        self.expire(now);
        let known = self.offers.get(&peer);
        let news = known.is_none_or(|listed| listed.offer.number < offer.number);
        if !news || (known.is_none() && self.offers.len() >= limits::OFFERS_KEPT) {
            return false;
        }
        let floor = self.offers.keys().filter_map(|peer| self.served.get(peer)).min();
        let floor = floor.copied().unwrap_or(0);
        let served = self.served.entry(peer).or_insert(floor);
        if known.is_none() {
            *served = floor.max(*served);
        }
        self.offers.insert(peer, Listed { offer, expires: now + limits::OFFER_LIFE_US });
        true
    }

    /// Forgets what has not been said again, and what was kept only to compare with it.
    fn expire(&mut self, now: Time) {
        self.offers.retain(|_, listed| listed.expires > now);
        self.alone.retain(|_, left| left.until + limits::BACKOFF_US_MAX > now);
        if self.served.len() > 2 * limits::OFFERS_KEPT {
            let offers = &self.offers;
            self.served.retain(|peer, _| offers.contains_key(peer));
        }
    }

    /// The requester to serve next: of those that have had least of us, one whose trees we have.
    pub fn choose(
        &self,
        now: Time,
        machine: &Capabilities,
        holds: &BTreeSet<ValueName>,
        attached: &BTreeSet<PeerId>,
        random: &mut Random,
    ) -> Option<PeerId> {
        let mut able: Vec<(&PeerId, &Listed, u64)> = Vec::new();
        for (peer, listed) in &self.offers {
            let fits = |class: &ResourceClass| class.fits(machine.platform, machine.memory_mib);
            let alone = self.alone.get(peer).is_some_and(|left| left.until > now);
            let live = listed.expires > now && !alone && !attached.contains(peer);
            if live && listed.offer.ready.keys().any(fits) {
                able.push((peer, listed, self.served.get(peer).copied().unwrap_or(0)));
            }
        }
        let least = able.iter().map(|(_, _, served)| *served).min()?;
        able.retain(|(_, _, served)| *served <= least.saturating_add(limits::FAIR_SHARE_US));
        let held = |offer: &Offer| match offer.trees.len() {
            0 => 0,
            all => offer.trees.intersection(holds).count() * 1000 / all,
        };
        let ranked = able.into_iter().map(|(peer, listed, served)| {
            (held(&listed.offer), u64::MAX - served, random.bits(), *peer)
        });
        ranked.max().map(|(_, _, _, peer)| peer)
    }

    /// Trees that a requester's offer names and that we have.
    pub fn held_of(&self, peer: &PeerId, holds: &BTreeSet<ValueName>) -> BTreeSet<ValueName> {
        let trees = self.offers.get(peer).map(|listed| &listed.offer.trees);
        trees.map(|trees| trees.intersection(holds).copied().collect()).unwrap_or_default()
    }

    /// It was served that much.
    pub fn serve(&mut self, peer: PeerId, core_us: u64) {
        let served = self.served.entry(peer).or_insert(0);
        *served = served.saturating_add(core_us);
    }

    /// It wants to be left alone for so long.
    pub fn refused(&mut self, now: Time, peer: PeerId, wait_us: u64) {
        let until = now + wait_us.clamp(limits::BACKOFF_US_MIN, limits::BACKOFF_US_MAX);
        self.leave_alone(peer, until);
    }

    /// It could not be reached, or vanished.
    pub fn failed(&mut self, now: Time, peer: PeerId) {
        let failures = self.alone.get(&peer).map_or(0, |left| left.failures);
        let wait_us = (limits::BACKOFF_US_MIN << failures.min(20)).min(limits::BACKOFF_US_MAX);
        self.leave_alone(peer, now + wait_us);
        if let Some(left) = self.alone.get_mut(&peer) {
            left.failures += 1;
        }
    }

    fn leave_alone(&mut self, peer: PeerId, until: Time) {
        if self.alone.len() < limits::SCORES_KEPT || self.alone.contains_key(&peer) {
            self.alone.entry(peer).or_insert(LeftAlone { until, failures: 0 }).until = until;
        }
    }

    /// It works: what went wrong before is forgotten.
    pub fn worked(&mut self, peer: &PeerId) {
        self.alone.remove(peer);
    }

    /// When somebody who has work may next be asked, after `now`.
    pub fn next_chance(&self, now: Time) -> Option<Time> {
        let waits = self.alone.iter().filter(|(peer, left)| {
            left.until > now
                && self.offers.get(peer).is_some_and(|listed| listed.expires > left.until)
        });
        waits.map(|(_, left)| left.until).min()
    }
}

#[cfg(test)]
#[path = "offer_tests.rs"]
mod tests;
