//! Rosters: what members tell each other of the mesh when they meet.
//!
//! Goals: who has joined one member finds the others, and a revocation reaches whoever missed its
//! gossip. Nothing here is believed for its sender's sake: certificates, revocations and farewells
//! carry their signatures. Addresses do not; a wrong one costs a connection attempt. Nor do the times
//! when members were seen; a wrong one keeps somebody in the list who is long gone. Non-goal: routing in meshes of
//! more than a few hundred members.

use serde::{Deserialize, Serialize};

use super::admission::{Certificate, Farewell, Revocation, is_address};
use crate::codec::{self, CodecError, Format};
use crate::limits;

/// `\x89MROSTR` and the version.
pub const ROSTER_FORMAT: Format =
    Format { magic: *b"\x89MROSTR\x02", bytes_max: limits::ROSTER_BYTES };

/// One message; a stream carries at most [`limits::ROSTER_MESSAGES`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Roster {
    /// Members, the sender among them.
    pub members: Vec<RosterMember>,
    /// Those who are members no more.
    pub revocations: Vec<Revocation>,
    /// Those who have left.
    pub farewells: Vec<Farewell>,
}

/// A member, and where it may be found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RosterMember {
    /// Who.
    pub certificate: Certificate,
    /// Multiaddresses without the peer's name.
    pub addresses: Vec<String>,
    /// When somebody last met it, as far as the sender knows, in seconds since 1970.
    pub seen_s: u64,
}

impl Roster {
    /// The canonical bytes.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        self.check()?;
        codec::encode(ROSTER_FORMAT, self)
    }

    /// Reads canonical bytes, and only what keeps the rules.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let roster: Self = codec::decode(ROSTER_FORMAT, bytes)?;
        roster.check()?;
        Ok(roster)
    }

    /// As many messages as it takes for all that is in it; what is beyond the bounds stays away.
    pub fn split(self) -> Vec<Self> {
        let revocations = self.revocations.chunks(limits::ROSTER_ENTRIES);
        let revocations =
            revocations.map(|some| Self { revocations: some.to_vec(), ..Self::default() });
        let farewells = self.farewells.chunks(limits::ROSTER_ENTRIES);
        let farewells = farewells.map(|some| Self { farewells: some.to_vec(), ..Self::default() });
        let members = self.members.chunks(limits::ROSTER_ENTRIES);
        let members = members.map(|some| Self { members: some.to_vec(), ..Self::default() });
        // Bad news first.
        revocations.chain(farewells).chain(members).take(limits::ROSTER_MESSAGES).collect()
    }

    fn check(&self) -> Result<(), CodecError> {
        let rules = |member: &RosterMember| {
            let addresses = &member.addresses;
            let few = addresses.len() <= limits::ADDRESSES;
            few && addresses.iter().all(|address| is_address(address))
        };
        let entries = self.members.len() + self.revocations.len() + self.farewells.len();
        let few = entries <= limits::ROSTER_ENTRIES;
        match few && self.members.iter().all(rules) {
            true => Ok(()),
            false => Err(CodecError::Malformed("a roster breaks its rules".to_owned())),
        }
    }
}
