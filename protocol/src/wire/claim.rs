//! Claims: "give me some", on a direct stream that a worker opens to a requester.
//!
//! Goals: a batch of thunks is on its way to a worker before it has a free slot; either end may
//! vanish between any two messages, and the other one knows within seconds; every receipt names the lease
//! it ends, so that one that comes late or twice is recognised. Non-goals: moving inputs and
//! outputs, except small ones that spare a round trip (transfer has its own streams), and trust:
//! the stream is authenticated by the transport, a reduction by its signature, which the driver
//! checks before a machine sees it.
//!
//! ```text
//!  worker                                   requester
//!    | Open: capabilities, window, holds  -->  |      once, first
//!    | <--  Lease … (as many as the window)    |
//!    | Started, Heartbeat, Receipt, HandBack ->|      each about leases of this stream
//!    | Window: more or fewer from now on  -->  |
//!    | <--  Cancel, Alive, Dry, Refuse         |
//! ```

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError, Format};
use crate::limits;
use crate::name::{ThunkName, ValueName};
use crate::peer::PeerId;
use crate::sched::force::FailureClass;
use crate::thunk::{Platform, Reduction};

/// `\x89MCLAIM` and the version: what workers say.
pub const CLAIM_FORMAT: Format =
    Format { magic: *b"\x89MCLAIM\x03", bytes_max: limits::CLAIM_BYTES };

/// `\x89MLEASE` and the version: what requesters say.
pub const LEASE_FORMAT: Format =
    Format { magic: *b"\x89MLEASE\x01", bytes_max: limits::CLAIM_BYTES };

/// "This thunk is yours until t": given by one requester, never twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct LeaseId(pub u64);

/// What a worker says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum FromWorker {
    /// The first message of a stream.
    Open(Open),
    /// From now on, so much.
    Window(Window),
    /// That one runs.
    Started(LeaseId),
    /// I am alive, and these are all that I hold.
    Heartbeat(BTreeSet<LeaseId>),
    /// That one ended.
    Receipt(Box<Receipt>),
    /// I will not run these; nothing is wrong with them. And no more until the next
    /// [`FromWorker::Window`]: nobody throws thunks to and fro.
    HandBack(BTreeSet<LeaseId>),
}

/// Who claims.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Open {
    /// What the machine is.
    pub capabilities: Capabilities,
    /// How much it takes.
    pub window: Window,
    /// Trees that it has, of those that were offered.
    pub holds: BTreeSet<ValueName>,
}

/// What a machine is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Capabilities {
    /// Which thunks it can run.
    pub platform: Platform,
    /// Cores that it has, all together.
    pub cores: u32,
    /// Memory that thunks may use, in MiB.
    pub memory_mib: u64,
    /// Speed of one core, in thousandths of a reference machine's; its own word.
    pub speed_permille: u32,
}

/// How much a claim may hold, in cores of the thunks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Window {
    /// That would run at once.
    pub slots: u32,
    /// Beyond those: fetched, and waiting for a slot.
    pub prefetch: u32,
}

impl Window {
    /// Both together.
    pub fn cores(self) -> u32 {
        self.slots.saturating_add(self.prefetch)
    }
}

/// How a lease ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Receipt {
    /// Which one.
    pub lease: LeaseId,
    /// What came of it.
    pub end: Result<SignedReduction, LeaseFailure>,
    /// Small outputs, to spare a round trip.
    pub objects: Vec<InlineObject>,
    /// Where its time went.
    pub timeline: Timeline,
}

/// When a lease had come how far, in microseconds, by the worker's clock and word. What it did not come to is zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Timeline {
    /// It came, by a clock that began at any time and stays the same for a stream.
    pub came_us: u64,
    /// From then until all that it reads was there.
    pub fetched_us: u64,
    /// Until it began to run.
    pub started_us: u64,
    /// Until it had run.
    pub ended_us: u64,
}

/// A reduction, and its executor's word for it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SignedReduction {
    /// What the thunk came to.
    pub reduction: Reduction,
    /// The executor's ed25519 signature of the reduction's canonical bytes, in two halves.
    pub signature: [[u8; 32]; 2],
    /// Nothing ran for this lease: the executor had run it before, for somebody else.
    pub remembered: bool,
}

/// Why there is no reduction.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LeaseFailure {
    /// Whose fault it is.
    pub class: FailureClass,
    /// For people.
    pub reason: String,
}

/// Bytes that are small enough to come along.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InlineObject {
    /// What they must hash to: whoever receives them checks.
    pub name: ValueName,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// What a requester says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum FromRequester {
    /// Run this.
    Lease(Lease),
    /// Forget these, running or not; no receipt is wanted.
    Cancel(BTreeSet<LeaseId>),
    /// I am alive.
    Alive,
    /// I have nothing for you now; stay if you like.
    Dry,
    /// I have nothing for you, and will not for so many milliseconds. Closes the stream.
    Refuse(u32),
}

/// A thunk to run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Lease {
    /// Names it in the receipt.
    pub lease: LeaseId,
    /// Which thunk.
    pub thunk: ThunkName,
    /// Its canonical bytes, if they are small enough.
    pub bytes: Option<Vec<u8>>,
    /// Peers that have inputs of it, the best first.
    pub sources: Vec<PeerId>,
    /// Small inputs.
    pub objects: Vec<InlineObject>,
}

impl FromWorker {
    /// The canonical bytes.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        check(self.keeps_rules())?;
        codec::encode(CLAIM_FORMAT, self)
    }

    /// Reads canonical bytes, and only what keeps the rules.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let message: Self = codec::decode(CLAIM_FORMAT, bytes)?;
        check(message.keeps_rules())?;
        Ok(message)
    }

    fn keeps_rules(&self) -> bool {
        match self {
            Self::Open(open) => {
                let Capabilities { cores, speed_permille, .. } = open.capabilities;
                let capable = (1..=limits::CLAIM_CORES).contains(&cores) && speed_permille > 0;
                capable && open.window.keeps_rules() && open.holds.len() <= limits::CLAIM_HOLDS
            }
            Self::Window(window) => window.keeps_rules(),
            Self::Started(_) => true,
            Self::Heartbeat(leases) | Self::HandBack(leases) => {
                leases.len() <= limits::CLAIM_LEASES
            }
            Self::Receipt(receipt) => {
                let reason = receipt.end.as_ref().err().map_or(0, |failure| failure.reason.len());
                reason <= limits::CLAIM_REASON_BYTES && are_small(&receipt.objects)
            }
        }
    }
}

impl FromRequester {
    /// The canonical bytes.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        check(self.keeps_rules())?;
        codec::encode(LEASE_FORMAT, self)
    }

    /// Reads canonical bytes, and only what keeps the rules.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let message: Self = codec::decode(LEASE_FORMAT, bytes)?;
        check(message.keeps_rules())?;
        Ok(message)
    }

    fn keeps_rules(&self) -> bool {
        match self {
            Self::Lease(lease) => {
                let bytes = lease.bytes.as_ref().map_or(0, Vec::len);
                let inline = bytes <= limits::CLAIM_INLINE_BYTES && are_small(&lease.objects);
                inline && lease.sources.len() <= limits::LEASE_SOURCES
            }
            Self::Cancel(leases) => leases.len() <= limits::CLAIM_LEASES,
            Self::Alive | Self::Dry | Self::Refuse(_) => true,
        }
    }
}

impl Window {
    fn keeps_rules(self) -> bool {
        self.slots <= limits::CLAIM_CORES && self.prefetch <= limits::CLAIM_CORES
    }
}

fn are_small(objects: &[InlineObject]) -> bool {
    let bytes: usize = objects.iter().map(|object| object.bytes.len()).sum();
    objects.len() <= limits::CLAIM_INLINE_OBJECTS && bytes <= limits::CLAIM_INLINE_BYTES
}

fn check(keeps_rules: bool) -> Result<(), CodecError> {
    match keeps_rules {
        true => Ok(()),
        false => Err(CodecError::Malformed("a message breaks its rules".to_owned())),
    }
}
