//! The door: how many may stand in it, for how long, and what is noted of those who were sent away.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use mesh_protocol::limits;
use mesh_protocol::peer::PeerId;
use mesh_protocol::wire::admission::Refusal;
use tokio::sync::watch;

/// Connections that are being admitted, by where they come from.
#[derive(Clone)]
pub(super) struct Waiting(watch::Sender<BTreeMap<IpAddr, usize>>);

/// One of them, until it is dropped.
pub(super) struct Place {
    waiting: Waiting,
    from: IpAddr,
}

impl Default for Waiting {
    fn default() -> Self {
        Self(watch::Sender::new(BTreeMap::new()))
    }
}

impl Waiting {
    /// A place, if there is one left for who comes from there.
    pub(super) fn enter(&self, from: IpAddr) -> Option<Place> {
        let entered = self.0.send_if_modified(|places| {
            let all: usize = places.values().sum();
            let here = places.get(&from).copied().unwrap_or(0);
            let has_room = all < limits::ADMISSIONS && here < limits::ADMISSIONS_PER_ADDRESS;
            if has_room {
                places.insert(from, here + 1);
            }
            has_room
        });
        entered.then(|| Place { waiting: self.clone(), from })
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.borrow().values().sum()
    }

    /// Waits until there are that many.
    pub(super) async fn reach(&self, count: usize) {
        // The sender is ours: it does not end.
        let reached = |places: &BTreeMap<_, usize>| places.values().sum::<usize>() == count;
        let _ = self.0.subscribe().wait_for(reached).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.waiting.0.send_modify(|places| {
            match places.get(&self.from).copied().unwrap_or(0) {
                0 | 1 => places.remove(&self.from),
                count => places.insert(self.from, count - 1),
            };
        });
    }
}

/// From where a connection comes, as far as it counts: of IPv6 the network, for one machine has
/// more addresses there than we have places.
pub(super) fn origin(address: &Multiaddr) -> IpAddr {
    let ip = address.iter().find_map(|part| match part {
        Protocol::Ip4(ip) => Some(IpAddr::V4(ip)),
        Protocol::Ip6(ip) => Some(match ip.to_ipv4_mapped() {
            Some(ip) => IpAddr::V4(ip),
            None => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
        }),
        _ => None,
    });
    ip.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED))
}

/// Who was refused: by name if it has proved one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Refused {
    Peer(PeerId),
    Origin(IpAddr),
}

/// What was refused so far.
#[derive(Clone)]
pub(super) struct Refusals(watch::Sender<Counts>);

/// How often, and of whom that was said.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) by_reason: BTreeMap<Refusal, u64>,
    /// Lines that this made in the log.
    pub(super) logged: u64,
    told: BTreeSet<(Refused, Refusal)>,
}

impl Default for Refusals {
    fn default() -> Self {
        Self(watch::Sender::new(Counts::default()))
    }
}

impl Refusals {
    /// Counts it, and logs it if that was not said of this one before.
    pub(super) fn note(&self, who: Refused, refusal: Refusal) {
        self.0.send_modify(|counts| {
            *counts.by_reason.entry(refusal).or_default() += 1;
            if counts.told.len() >= limits::REFUSALS_KEPT {
                counts.told.clear();
            }
            if counts.told.insert((who, refusal)) {
                counts.logged += 1;
                match who {
                    Refused::Peer(peer) => tracing::warn!("no connection with {peer}: {refusal}"),
                    Refused::Origin(ip) => tracing::warn!("no connection from {ip}: {refusal}"),
                }
            }
        });
    }

    /// How many were refused, by reason, and how many lines that made in the log.
    pub(super) fn counts(&self) -> (BTreeMap<Refusal, u64>, u64) {
        let counts = self.0.borrow();
        (counts.by_reason.clone(), counts.logged)
    }

    /// Waits until so many were refused for that reason.
    pub(super) async fn reach(&self, refusal: Refusal, count: u64) {
        let reached =
            |counts: &Counts| counts.by_reason.get(&refusal).copied().unwrap_or(0) >= count;
        // The sender is ours: it does not end.
        let _ = self.0.subscribe().wait_for(reached).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_does_not_take_all_places() {
        let waiting = Waiting::default();
        let ip = |last: u8| IpAddr::from([10, 0, 0, last]);
        let mut places: Vec<Place> = std::iter::from_fn(|| waiting.enter(ip(1))).collect();
        assert_eq!(places.len(), limits::ADMISSIONS_PER_ADDRESS);
        places.extend((2..102).filter_map(|last| waiting.enter(ip(last))));
        assert_eq!((places.len(), waiting.count()), (limits::ADMISSIONS, limits::ADMISSIONS));
        assert!(waiting.enter(ip(200)).is_none());
        places.remove(0);
        assert!(waiting.enter(ip(1)).is_some());
        places.clear();
        assert_eq!(waiting.count(), 0);
    }

    #[test]
    fn a_network_of_ipv6_is_one_origin() {
        let of = |text: &str| origin(&text.parse().unwrap());
        assert_eq!(of("/ip6/2001:db8::1/tcp/1"), of("/ip6/2001:db8::2:3/tcp/9"));
        assert_ne!(of("/ip6/2001:db8::1/tcp/1"), of("/ip6/2001:db8:0:1::1/tcp/1"));
        assert_eq!(of("/ip6/::ffff:10.0.0.1/tcp/1"), of("/ip4/10.0.0.1/tcp/2"));
    }

    #[test]
    fn a_reason_is_logged_once_for_each() {
        let refusals = Refusals::default();
        let who = |number| Refused::Peer(PeerId([number; 32]));
        for number in [1, 1, 2, 1] {
            refusals.note(who(number), Refusal::Expired);
        }
        refusals.note(who(1), Refusal::Revoked);
        let (by_reason, logged) = refusals.counts();
        assert_eq!(by_reason, BTreeMap::from([(Refusal::Expired, 4), (Refusal::Revoked, 1)]));
        assert_eq!(logged, 3);
    }
}
