//! Offers: "I have work", by gossip.
//!
//! Goals: a worker that knows nothing of a requester learns in one small message whether it can
//! help and whether it has what the work needs; losing, repeating or reordering offers costs time
//! at most. Non-goals: naming thunks (a message per task never goes through gossip), and
//! promising anything: whoever comes may find nothing left.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError, Format};
use crate::limits;
use crate::name::ValueName;
use crate::thunk::{self, Platform};

/// `\x89MOFFER` and the version.
pub const OFFER_FORMAT: Format =
    Format { magic: *b"\x89MOFFER\x01", bytes_max: limits::OFFER_BYTES };

/// How much work one requester has. An empty one withdraws what was offered before.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Offer {
    /// A later offer of one requester has a higher number, also across its restarts.
    pub number: u64,
    /// Thunks that could run now if somebody took them.
    pub ready: BTreeMap<ResourceClass, u32>,
    /// Trees that they need.
    pub trees: BTreeSet<ValueName>,
}

/// What a machine must have to run a thunk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize, Deserialize)]
pub struct ResourceClass {
    /// Its kind.
    pub platform: Platform,
    /// Cores that it keeps busy.
    pub cores: u16,
    /// Memory in MiB, as a power of two (rounded up); none if the thunk names no bound.
    pub memory_mib_log2: Option<u8>,
}

impl ResourceClass {
    /// The class of a thunk with these limits.
    pub fn of(limits: &thunk::Limits) -> Self {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20).max(1);
        let log2 = |mib: u64| (u64::BITS - (mib - 1).leading_zeros()) as u8;
        Self {
            platform: limits.platform,
            cores: limits.cpus,
            memory_mib_log2: limits.memory_bytes.map(|bytes| log2(mib(bytes))),
        }
    }

    /// Does a machine of that platform, memory and number of cores suit? A thunk that wants more
    /// cores than there are gets them all.
    pub fn fits(&self, platform: Platform, memory_mib: u64) -> bool {
        let memory = self
            .memory_mib_log2
            .map_or(0, |log2| 1_u64.checked_shl(log2.into()).unwrap_or(u64::MAX));
        self.platform == platform && memory <= memory_mib
    }
}

impl Offer {
    /// The canonical bytes.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        self.check()?;
        codec::encode(OFFER_FORMAT, self)
    }

    /// Reads canonical bytes, and only what keeps the rules.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let offer: Self = codec::decode(OFFER_FORMAT, bytes)?;
        offer.check()?;
        Ok(offer)
    }

    /// Is nothing offered (any more)?
    pub fn is_withdrawal(&self) -> bool {
        self.ready.is_empty()
    }

    fn check(&self) -> Result<(), CodecError> {
        let classes = self.ready.iter().all(|(class, count)| {
            *count > 0 && class.cores > 0 && class.memory_mib_log2.is_none_or(|log2| log2 < 64)
        });
        let few =
            self.ready.len() <= limits::OFFER_CLASSES && self.trees.len() <= limits::OFFER_TREES;
        match classes && few {
            true => Ok(()),
            false => Err(CodecError::Malformed("an offer breaks its rules".to_owned())),
        }
    }
}
