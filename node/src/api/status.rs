//! How a node stands: what `mesh status` and `mesh peers` show.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use mesh_protocol::owner::Reason;
use mesh_protocol::peer::PeerId;
use mesh_protocol::sched::named::PolicyNames;
use serde::{Deserialize, Serialize};

use crate::claims;
use crate::net::swarm::RevokedBy;
use crate::node::Node;
use crate::transfer::Suspicion;

/// A node that runs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The node itself.
    pub own: PeerId,
    /// What people call it.
    pub name: String,
    /// Where it serves metrics, if it does.
    pub metrics: Option<SocketAddr>,
    /// Cores that may be busy here.
    pub slots: u32,
    /// Of those, as many as others' thunks may have.
    pub given: u32,
    /// Why that is nothing, if the owner wants it so.
    pub held: Option<Reason>,
    /// Who says that it is a member no more.
    pub revoked: Option<RevokedBy>,
    /// Cores that are busy for own builds.
    pub own_cores: u32,
    /// Cores that are busy for others.
    pub others_cores: u32,
    /// How what is built from here is leased.
    pub policies: PolicyNames,
    /// Builds of this machine.
    pub builds: u64,
    /// Leases of theirs that run or wait, here and elsewhere.
    pub leases: u64,
    /// Thunks that they want run.
    pub wanted: u64,
    /// What became of leases since the node began.
    pub counts: LeaseCounts,
    /// Look-ups of builds that wait for others.
    pub recalls_waiting: u64,
    /// Those for which there was no room.
    pub recalls_dropped: u64,
    /// What it tells others, and keeps for them.
    pub records: RecordCounts,
    /// Whoever it has to do with.
    pub peers: Vec<PeerStatus>,
}

/// What became of leases that a node gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct LeaseCounts {
    /// All.
    pub leased: u64,
    /// Second copies.
    pub speculated: u64,
    /// Taken from a queue to an idle slot.
    pub moved: u64,
    /// That came to nothing, or came back.
    pub put_back: u64,
    /// Time that copies ran in vain, in microseconds.
    pub wasted_us: u64,
}

/// Records of a node: see `docs/routing.md`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RecordCounts {
    /// That it publishes.
    pub published: u64,
    /// For which there was no room.
    pub refused: u64,
    /// That it keeps for others.
    pub kept: u64,
}

/// What a node has to do with one peer.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Who.
    pub peer: Option<PeerId>,
    /// What people call it, if it is a member.
    pub name: Option<String>,
    /// Leases that it holds of ours, and its cores that they take.
    pub works: Option<(u64, u32)>,
    /// Leases that we hold of it, and our cores that run them.
    pub served: Option<(u64, u32)>,
    /// Thunks that it reduced for us.
    pub succeeded: u64,
    /// Failures of its machine, and leases lost with it.
    pub failed: u64,
    /// What it took for those that succeeded, in microseconds.
    pub busy_us: u64,
    /// Its speed against others on the same kinds of thunks, in thousandths; 0: not known.
    pub speed_permille: u64,
    /// Bytes of objects that it sent, and that we sent.
    pub received_bytes: u64,
    /// See above.
    pub sent_bytes: u64,
    /// What we sent, in bytes on the wire: fewer where the line is slow and they were packed.
    pub sent_wire_bytes: u64,
    /// What there is against it.
    pub suspicion: Option<String>,
}

impl NodeStatus {
    /// Asks all parts of a node.
    pub(super) async fn of(node: &Node, metrics: Option<SocketAddr>) -> Self {
        let status = node.mesh().status().await;
        let counts = LeaseCounts {
            leased: status.counts.leased,
            speculated: status.counts.speculated,
            moved: status.counts.moved,
            put_back: status.counts.put_back,
            wasted_us: status.counts.wasted_us,
        };
        let publication = node.records().counts().await;
        let records = RecordCounts {
            published: publication.records as u64,
            refused: publication.refused,
            kept: node.records().kept().0 as u64,
        };
        Self {
            own: node.swarm().own(),
            name: node.swarm().name(),
            metrics,
            slots: status.slots.0,
            given: status.slots.1,
            held: node.owner().reason(),
            revoked: node.swarm().revoked(),
            own_cores: status.cores.0,
            others_cores: status.cores.1,
            policies: node.policies(),
            builds: status.builds as u64,
            leases: status.leases.0 as u64,
            wanted: status.leases.1 as u64,
            counts,
            recalls_waiting: status.recalls.waiting,
            recalls_dropped: status.recalls.dropped,
            records,
            peers: peers(node, &status),
        }
    }
}

fn peers(node: &Node, status: &claims::Status) -> Vec<PeerStatus> {
    let mut peers: BTreeMap<PeerId, PeerStatus> = BTreeMap::new();
    let mut of = |peer: PeerId, set: &dyn Fn(&mut PeerStatus)| set(peers.entry(peer).or_default());
    for (peer, leases, cores, _) in &status.workers {
        of(*peer, &|known| known.works = Some((*leases as u64, *cores)));
    }
    for (peer, leases, cores) in &status.serving {
        of(*peer, &|known| known.served = Some((*leases as u64, *cores)));
    }
    for (peer, score) in &status.scores {
        let Some(peer) = peer else { continue };
        of(*peer, &|known| {
            (known.succeeded, known.failed) = (score.succeeded, score.failed);
            (known.busy_us, known.speed_permille) = (score.busy_us, score.speed_permille);
        });
    }
    for (peer, traffic) in node.transfers().traffic() {
        of(peer, &|known| {
            known.received_bytes = traffic.received_bytes + traffic.inline_received_bytes;
            known.sent_bytes = traffic.sent_bytes + traffic.inline_sent_bytes;
            known.sent_wire_bytes = traffic.sent_wire_bytes + traffic.inline_sent_bytes;
        });
    }
    for (peer, suspicion) in node.transfers().suspicions() {
        of(peer, &|known| known.suspicion = Some(text(&suspicion)));
    }
    let named = peers.into_iter().map(|(peer, known)| PeerStatus {
        peer: Some(peer),
        name: node.swarm().name_of(peer),
        ..known
    });
    named.collect()
}

fn text(suspicion: &Suspicion) -> String {
    match suspicion {
        Suspicion::Failing(1) => "it failed to give an object".to_owned(),
        Suspicion::Failing(times) => format!("it failed to give objects {times} times in a row"),
        Suspicion::Lied(what) => format!("it lied: {what}"),
    }
}
