//! How much came from whom, and went to whom.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use mesh_protocol::limits;
use mesh_protocol::peer::PeerId;

/// Objects' bytes between a peer and us, as they are in the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    /// That it sent.
    pub received_bytes: u64,
    /// That we sent.
    pub sent_bytes: u64,
    /// That we sent, as they were on the wire.
    pub sent_wire_bytes: u64,
    /// That came inside leases and receipts of its; not counted above.
    pub inline_received_bytes: u64,
    /// That went inside ours.
    pub inline_sent_bytes: u64,
}

/// All peers', up to [`limits::SCORES_KEPT`]; those that come later are not counted.
#[derive(Default)]
pub(super) struct Ledger(Mutex<BTreeMap<PeerId, Traffic>>);

impl Ledger {
    pub(super) fn received(&self, peer: PeerId, bytes: u64) {
        self.count(peer, |traffic| traffic.received_bytes += bytes);
    }

    pub(super) fn sent(&self, peer: PeerId, bytes: u64, on_the_wire: u64) {
        self.count(peer, |traffic| {
            traffic.sent_bytes += bytes;
            traffic.sent_wire_bytes += on_the_wire;
        });
    }

    pub(super) fn inline(&self, peer: PeerId, received: u64, sent: u64) {
        self.count(peer, |traffic| {
            traffic.inline_received_bytes += received;
            traffic.inline_sent_bytes += sent;
        });
    }

    fn count(&self, peer: PeerId, add: impl FnOnce(&mut Traffic)) {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.len() < limits::SCORES_KEPT || peers.contains_key(&peer) {
            add(peers.entry(peer).or_default());
        }
    }

    pub(super) fn list(&self) -> Vec<(PeerId, Traffic)> {
        let peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        peers.iter().map(|(peer, traffic)| (*peer, *traffic)).collect()
    }
}
