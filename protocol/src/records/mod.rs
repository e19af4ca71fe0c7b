//! Content routing: who keeps which record, told and asked in as few messages as there are peers.
//!
//! Goals: what is new reaches those closest to it in the background, at a bounded rate, many
//! records to a message; what is asked is answered by the first who knows, within a deadline.
//! Non-goals: the routing table (Kademlia's, of whoever drives this), and what a record says.
//!
//! ```text
//!   publish: New ─▶ due ─▶ FindClosest ─▶ placed ─▶ Send, one peer at a time ─▶ due again
//!   lookup:  Look ─▶ gathered ─▶ FindClosest ─▶ Ask, all closest at once ─▶ Done
//! ```
//!
//! **Sweeps.** To ask who is closest for each key would cost a walk through the mesh each. But who is
//! closest to one key is closest to its neighbours too: an answer that reaches as far as 2^h knows
//! every peer within 2^h, so it places all keys within 2^h ([`Closest`] does). So a sweep costs about as
//! many walks as there are neighbourhoods, however many keys there are.
//!
//! Keys and peers stand where Kademlia as libp2p has it puts them (SHA-256 of the key, and of the
//! peer id), so that its routing table can be asked.

pub mod lookup;
pub mod publish;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};

use crate::limits;
use crate::peer::PeerId;
use crate::wire::records::RecordKey;

/// What Kademlia is asked for: the hash in a record's key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Target(pub [u8; 32]);

impl Target {
    /// Where a record belongs.
    pub fn of(key: &RecordKey) -> Self {
        Self(key.digest().sha256)
    }
}

/// A place in the space of all keys.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Position([u8; 32]);

/// Exclusive or of two places, as a number; the first byte is the highest.
pub type Distance = [u8; 32];

impl Position {
    /// Where a target is.
    pub fn of_target(target: Target) -> Self {
        Self(Sha256::digest(target.0).into())
    }

    /// Where a peer is: the hash of what libp2p writes for it, the key in a protobuf in an identity
    /// multihash.
    pub fn of_peer(peer: PeerId) -> Self {
        const PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];
        Self(Sha256::new_with_prefix(PREFIX).chain_update(peer.0).finalize().into())
    }

    /// How far it is from here to there, and back.
    pub fn distance(&self, other: &Self) -> Distance {
        std::array::from_fn(|at| self.0[at] ^ other.0[at])
    }
}

/// An answer to "who is closest?".
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Closest {
    /// To what.
    pub target: Target,
    /// Other members, in any order.
    pub peers: Vec<PeerId>,
    /// Are these all that there are? Otherwise they are the closest ones.
    pub are_all: bool,
}

/// Keys that have no place so far, in the order of their places.
type Unplaced = BTreeSet<(Position, RecordKey)>;

fn unplaced(key: RecordKey) -> (Position, RecordKey) {
    (Position::of_target(Target::of(&key)), key)
}

impl Closest {
    /// Takes the keys out of `keys` whose closest peers are surely among these, with those peers: at most
    /// [`limits::RECORD_REPLICAS`], the closest first.
    fn place(&self, keys: &mut Unplaced) -> Vec<(RecordKey, Vec<PeerId>)> {
        let target = Position::of_target(self.target);
        let peers: Vec<(Position, PeerId)> =
            self.peers.iter().map(|peer| (Position::of_peer(*peer), *peer)).collect();
        let reach = peers.iter().map(|(at, _)| bits(&at.distance(&target))).max().unwrap_or(0);
        let within = |at: &Position| bits(&at.distance(&target)) < reach;
        let is_dense = peers.iter().filter(|(at, _)| within(at)).count() >= limits::RECORD_REPLICAS;
        let is_placed = |at: &Position| self.are_all || *at == target || (is_dense && within(at));
        let placed: Vec<_> = keys.iter().filter(|(at, _)| is_placed(at)).copied().collect();
        let place = |(at, key): (Position, RecordKey)| {
            keys.remove(&(at, key));
            (key, nearest(&at, &peers))
        };
        placed.into_iter().map(place).collect()
    }
}

fn nearest(at: &Position, peers: &[(Position, PeerId)]) -> Vec<PeerId> {
    let mut near: Vec<(Distance, PeerId)> = Vec::with_capacity(limits::RECORD_REPLICAS + 1);
    for (position, peer) in peers {
        let found = (position.distance(at), *peer);
        let place = near.partition_point(|other| *other < found);
        if place < limits::RECORD_REPLICAS {
            near.insert(place, found);
            near.truncate(limits::RECORD_REPLICAS);
        }
    }
    near.into_iter().map(|(_, peer)| peer).collect()
}

/// How many bits a distance has, leading zeros apart.
fn bits(distance: &Distance) -> u32 {
    let zeros = distance.iter().take_while(|byte| **byte == 0).count() as u32;
    let first = distance.get(zeros as usize).map_or(0, |byte| byte.leading_zeros());
    u8::BITS * (distance.len() as u32 - zeros) - first
}
