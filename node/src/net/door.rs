//! The door: how many may stand in it, for how long, and what is noted of those who were sent away.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use mesh_protocol::limits;
use mesh_protocol::peer::PeerId;
use mesh_protocol::wire::admission::Refusal;
use tokio::sync::{oneshot, watch};

/// Connections that are being admitted.
#[derive(Clone)]
pub(super) struct Waiting(watch::Sender<Places>);

#[derive(Debug, Default)]
pub(super) struct Places {
    next: u64,
    /// By the order in which they came.
    taken: BTreeMap<u64, Taken>,
}

#[derive(Debug)]
struct Taken {
    from: IpAddr,
    /// Dropped when the place is for somebody else.
    _stay: oneshot::Sender<()>,
}

/// One of them, until it is dropped.
pub(super) struct Place {
    waiting: Waiting,
    number: u64,
    stay: oneshot::Receiver<()>,
}

impl Default for Waiting {
    fn default() -> Self {
        Self(watch::Sender::new(Places::default()))
    }
}

impl Waiting {
    /// A place. When all are taken, somebody has to leave: whoever has taken longest, of those who
    /// come from where most come from. So it is always those who say nothing.
    pub(super) fn enter(&self, from: IpAddr) -> Place {
        let (stay, stays) = oneshot::channel();
        let mut number = 0;
        self.0.send_modify(|places| {
            places.make_room(from);
            number = places.next;
            places.next += 1;
            places.taken.insert(number, Taken { from, _stay: stay });
        });
        Place { waiting: self.clone(), number, stay: stays }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.borrow().taken.len()
    }

    /// Waits until there are that many.
    pub(super) async fn reach(&self, count: usize) {
        // The sender is ours: it does not end.
        let _ = self.0.subscribe().wait_for(|places| places.taken.len() == count).await;
    }
}

impl Places {
    fn make_room(&mut self, from: IpAddr) {
        let mut origins: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for taken in self.taken.values() {
            *origins.entry(taken.from).or_default() += 1;
        }
        let here = origins.get(&from).copied().unwrap_or(0);
        let crowded = if here >= limits::ADMISSIONS_PER_ADDRESS {
            Some(from)
        } else if self.taken.len() >= limits::ADMISSIONS {
            let most = origins.values().max().copied();
            let of_most = |taken: &&Taken| origins.get(&taken.from).copied() == most;
            self.taken.values().find(of_most).map(|taken| taken.from)
        } else {
            None
        };
        let oldest = self.taken.iter().find(|(_, taken)| Some(taken.from) == crowded);
        if let Some(number) = oldest.map(|(number, _)| *number) {
            self.taken.remove(&number);
        }
        debug_assert!(self.taken.len() < limits::ADMISSIONS, "there is room for one");
    }
}

impl Place {
    /// Waits until the place is for somebody else.
    pub(super) async fn lost(&mut self) {
        let _ = (&mut self.stay).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.waiting.0.send_if_modified(|places| places.taken.remove(&self.number).is_some());
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
    fn whoever_is_silent_leaves_for_who_comes() {
        let waiting = Waiting::default();
        let ip = |last: u8| IpAddr::from([10, 0, 0, last]);
        let has_left = |place: &mut Place| {
            !matches!(place.stay.try_recv(), Err(oneshot::error::TryRecvError::Empty))
        };
        // One address holds no more than its share, and its own oldest leave.
        let mut crowd: Vec<Place> =
            (0..2 * limits::ADMISSIONS_PER_ADDRESS).map(|_| waiting.enter(ip(1))).collect();
        assert_eq!(waiting.count(), limits::ADMISSIONS_PER_ADDRESS);
        let left = crowd.iter_mut().filter_map(|place| has_left(place).then_some(()));
        assert_eq!(left.count(), limits::ADMISSIONS_PER_ADDRESS);
        assert!(has_left(&mut crowd[0]) && !has_left(&mut crowd[limits::ADMISSIONS_PER_ADDRESS]));
        // Five addresses take all places; a newcomer gets one, and stays.
        let mut others: Vec<Place> = (0..5 * limits::ADMISSIONS_PER_ADDRESS)
            .map(|n| waiting.enter(ip(2 + n as u8 % 5)))
            .collect();
        assert_eq!(waiting.count(), limits::ADMISSIONS);
        let mut newcomer = waiting.enter(ip(200));
        assert_eq!(waiting.count(), limits::ADMISSIONS);
        for n in 0..4 * limits::ADMISSIONS {
            others.push(waiting.enter(ip(2 + n as u8 % 5)));
        }
        assert!(!has_left(&mut newcomer));
        drop((crowd, others, newcomer));
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
