//! Who is close, and who is a member, by what the network knows.

use mesh_protocol::peer::PeerId;
use mesh_protocol::records::Target;
use mesh_protocol::wire::admission::{Roles, Signature, Verifier};
use mesh_protocol::wire::records::Notary;

use super::{ClosestFuture, Neighbours};
use crate::net::identity::Ed25519;
use crate::net::swarm::SwarmHandle;

/// The connected members as long as those are all; beyond, Kademlia.
pub struct MembersAndKademlia(pub SwarmHandle);

impl Neighbours for MembersAndKademlia {
    fn closest(&self, target: Target) -> ClosestFuture<'_> {
        Box::pin(self.0.closest(target))
    }
}

/// Certificates and keys.
pub struct Office(pub SwarmHandle);

impl Verifier for Office {
    fn verify(&self, key: &[u8; 32], message: &[u8], signature: &Signature) -> bool {
        Ed25519.verify(key, message, signature)
    }
}

impl Notary for Office {
    fn roles(&self, peer: PeerId) -> Option<Roles> {
        self.0.roles(peer)
    }
}
