//! How work and slots find each other: to whom offers go, and how.
//!
//! The machines are the same whichever way is taken. A requester's [`Offerer`] decides when there is
//! something to say, a worker's [`Claims`] what it makes of what it heard, and leases follow claims.
//!
//! | way | an offer goes | messages for each | left out |
//! |---|---|---|---|
//! | pull | by gossip | hosts × degree / 2, of which the requester sends the degree | lost messages, control messages of gossip |
//! | broadcast | to every host, directly | hosts, all from the requester | the time that one uplink takes for them |
//! | central | to every host, at once | none | what such a centre costs, and that it may be away |
//! | probing | to hosts drawn anew for each | probes × thunks, all from the requester, hosts at most | see below |
//!
//! Central is what the others are measured by: offers neither settle nor keep their distance, workers
//! do not spread their claims, claims are with the requester at once, and it has those of all idle
//! slots before it places what became ready. Leases and receipts travel as ever. It is no optimum: the
//! placement is still that of one requester, and a worker takes on a second one no faster.
//!
//! Probing is batch sampling with late binding as in Sparrow (Ousterhout, Wendell, Zaharia, Stoica, SOSP
//! 2013): what a probed host puts on its board is a reservation, and it claims when it has a slot. Unlike
//! there, the host goes by its shares of requesters and not by the order of probes, what is still there
//! after [`OFFER_REFRESH_US`](mesh_protocol::limits::OFFER_REFRESH_US) is probed for again, and nobody is
//! told that nothing is left: whoever comes then sees.
//!
//! [`Offerer`]: mesh_protocol::sched::offer::Offerer
//! [`Claims`]: mesh_protocol::sched::claim::Claims

use std::collections::BTreeSet;
use std::rc::Rc;

use mesh_protocol::limits;
use mesh_protocol::sched::claim;
use mesh_protocol::sched::offer::Pace;
use mesh_protocol::wire::offer::Offer;

use super::node::peer;
use super::world::{Event, World};
use crate::kernel::{Draws, Purpose, Span};
use crate::platform::HostId;

/// How many others a host passes a gossip message on to (gossipsub's degree D).
pub const GOSSIP_DEGREE: u64 = 6;

/// How work and slots find each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ClaimProtocol {
    /// Offers are gossiped, and workers claim: the node's own way.
    #[default]
    Pull,
    /// A requester sends every offer to every host.
    Broadcast,
    /// Everybody knows everything at once: what no decentralised way can surpass.
    Central,
    /// A requester sends an offer to so many random hosts for each thunk in it.
    Probing(u32),
}

impl ClaimProtocol {
    /// All of them, with the names that scenarios use, and their settings unless a scenario says
    /// otherwise.
    pub const ALL: [(&'static str, Self); 4] = [
        ("pull", Self::Pull),
        ("broadcast", Self::Broadcast),
        ("central", Self::Central),
        ("probing", Self::Probing(2)),
    ];

    /// How long offers wait, and over how many microseconds claims spread.
    pub(super) fn waits(self) -> (Pace, u64) {
        match self {
            Self::Central => (Pace { settle_us: 0, interval_us: 0 }, 0),
            Self::Pull | Self::Broadcast | Self::Probing(_) => {
                (Pace::default(), limits::CLAIM_SPREAD_US)
            }
        }
    }
}

impl World<'_> {
    /// Tells whom it is for.
    pub(super) fn publish(&mut self, from: HostId, offer: Offer) {
        let hosts = self.hosts.len() as u64;
        let others = hosts.saturating_sub(1);
        let mut draws = Draws::new(self.setup.seed, Purpose::Gossip, self.offers);
        self.offers += 1;
        let (messages, sent) = match self.policies.claims {
            ClaimProtocol::Pull => {
                self.gossip(from, offer, &mut draws);
                (others * GOSSIP_DEGREE / 2, others.min(GOSSIP_DEGREE))
            }
            ClaimProtocol::Broadcast => {
                let all = (0..hosts as u32).map(HostId).filter(|to| *to != from);
                self.tell(from, offer, all);
                (others, others)
            }
            ClaimProtocol::Central => {
                self.tell_at_once(from, &offer);
                (0, 0)
            }
            ClaimProtocol::Probing(probes) => {
                let thunks: u64 = offer.ready.values().map(|count| u64::from(*count)).sum();
                let probes = others.min(thunks.saturating_mul(u64::from(probes)));
                let probed = sample(others as usize, probes as usize, &mut draws);
                // The sender is not among those drawn.
                let skip = |at: usize| HostId(at as u32 + u32::from(at as u32 >= from.0));
                self.tell(from, offer, probed.into_iter().map(skip));
                (probes, probes)
            }
        };
        self.totals.messages += messages;
        self.totals.offer_messages += messages;
        self.totals.offers_sent += sent;
    }

    fn gossip(&mut self, from: HostId, offer: Offer, draws: &mut Draws) {
        let offer = Rc::new(offer);
        let hosts = self.hosts.len();
        let hops_max = f64::log2(hosts.max(2) as f64) / f64::log2(GOSSIP_DEGREE as f64);
        for to in (0..hosts as u32).map(HostId).filter(|to| *to != from) {
            // Most hosts are at the rim of the tree that a message grows.
            let hops = (hops_max * draws.unit_positive().sqrt()).ceil().max(1.0);
            let delay = self.setup.platform.control.seconds() * hops * (1.0 + draws.unit() / 2.0);
            self.deliver(to, from, &offer, Span::from_seconds(delay));
        }
    }

    /// A message each, directly.
    fn tell(&mut self, from: HostId, offer: Offer, to: impl Iterator<Item = HostId>) {
        let offer = Rc::new(offer);
        let delay = self.setup.platform.control;
        to.for_each(|to| self.deliver(to, from, &offer, delay));
    }

    fn deliver(&mut self, to: HostId, from: HostId, offer: &Rc<Offer>, delay: Span) {
        if self.nodes[to.index()].is_some() {
            let at = self.queue.now() + delay;
            self.queue.schedule(at, Event::Offer(to, peer(from), Rc::clone(offer)));
        }
    }

    /// All decide on what they hear before anything comes of it: what comes of it may be the next offer.
    fn tell_at_once(&mut self, from: HostId, offer: &Offer) {
        let others = (0..self.hosts.len() as u32).map(HostId).filter(|to| *to != from);
        let mut decided = Vec::new();
        for to in others {
            let input = claim::Input::Offer(peer(from), offer.clone());
            let wishes = self.decide(to, |node, now, wishes| {
                node.claim(now, input, wishes);
                // Claims are due now.
                node.on_timer(now, wishes);
            });
            decided.push((to, wishes));
        }
        for (host, wishes) in decided {
            self.carry_out(host, wishes);
        }
    }
}

/// So many different numbers below `bound`, each as likely as any other (Floyd's algorithm: Bentley,
/// Communications of the ACM 30(9), 1987).
fn sample(bound: usize, count: usize, draws: &mut Draws) -> BTreeSet<usize> {
    let mut drawn = BTreeSet::new();
    for last in bound.saturating_sub(count)..bound {
        let at = draws.below(last + 1);
        if !drawn.insert(at) {
            drawn.insert(last);
        }
    }
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_of_their_size_and_reach_everything() {
        let mut seen = [0_u32; 7];
        for seed in 0..700 {
            let mut draws = Draws::new(seed, Purpose::Gossip, 0);
            let drawn = sample(7, 3, &mut draws);
            assert_eq!(drawn.len(), 3);
            drawn.iter().for_each(|at| seen[*at] += 1);
        }
        assert!(seen.iter().all(|count| (240..360).contains(count)), "{seen:?}");
        let mut draws = Draws::new(1, Purpose::Gossip, 0);
        assert_eq!(sample(4, 4, &mut draws).len(), 4);
        assert!(sample(4, 0, &mut draws).is_empty());
    }
}
