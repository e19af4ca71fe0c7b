//! Kademlia: who is close to a key, in a mesh of more members than one is connected to.

use libp2p::kad::{self, GetClosestPeersError, QueryResult};
use mesh_protocol::limits;
use mesh_protocol::peer::PeerId;
use mesh_protocol::records::{Closest, Target};
use tokio::sync::oneshot;

use super::super::identity::{from_libp2p, to_libp2p};
use super::super::membership::now_s;
use super::member_loop::MemberLoop;

/// Walks under way; a question beyond is answered with nobody, and asked again later.
const WALKS: usize = 64;

impl MemberLoop {
    pub(super) fn closest(&mut self, target: Target, reply: oneshot::Sender<Closest>) {
        let members = self.parts.membership.lock().members().count();
        let are_all = members <= self.peers_wanted;
        if are_all || self.walks.len() >= WALKS {
            let peers = if are_all { self.connected.keys().copied().collect() } else { vec![] };
            // Whoever asked may have gone.
            return drop(reply.send(Closest { target, peers, are_all }));
        }
        let kad = &mut self.parts.swarm.behaviour_mut().kad;
        let key = kad::KBucketKey::new(target.0.to_vec());
        // The walk begins with them.
        let first: Vec<PeerId> = kad
            .get_closest_local_peers(&key)
            .filter_map(|key| from_libp2p(key.preimage()))
            .take(limits::CLOSEST)
            .collect();
        let walk = kad.get_closest_peers(target.0.to_vec());
        self.walks.insert(walk, (target, reply));
        first.into_iter().for_each(|peer| self.on_used(peer));
    }

    pub(super) fn on_routing(&mut self, event: kad::Event) {
        let kad::Event::OutboundQueryProgressed {
            id,
            result: QueryResult::GetClosestPeers(end),
            step,
            ..
        } = event
        else {
            return;
        };
        if !step.last {
            return;
        }
        let Some((target, reply)) = self.walks.remove(&id) else { return };
        let found = match end {
            Ok(end) => end.peers,
            Err(GetClosestPeersError::Timeout { peers, .. }) => peers,
        };
        let own = self.own();
        let membership = self.parts.membership.lock();
        let is_member = |peer: &PeerId| *peer != own && membership.roles(*peer, now_s()).is_some();
        let peers = found.iter().filter_map(|info| from_libp2p(&info.peer_id));
        let peers = peers.filter(is_member).take(limits::CLOSEST).collect();
        let _ = reply.send(Closest { target, peers, are_all: false });
    }

    pub(super) fn remove_route(&mut self, peer: PeerId) {
        if let Some(name) = to_libp2p(peer) {
            self.parts.swarm.behaviour_mut().kad.remove_peer(&name);
        }
    }

    /// A member whose address is known is a way to others.
    pub(super) fn add_route(&mut self, peer: PeerId) {
        let Some(name) = to_libp2p(peer) else { return };
        for address in self.addresses_of(peer) {
            self.parts.swarm.behaviour_mut().kad.add_address(&name, address);
        }
    }
}
