//! Reductions: the fact that a thunk's outputs are these objects.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError, Format};
use crate::limits;
use crate::name::{Tag, ThunkName, ValueName};

/// `\x89MREDUC` and the version.
pub const REDUCTION_FORMAT: Format =
    Format { magic: *b"\x89MREDUC\x01", bytes_max: limits::REDUCTION_BYTES };

/// What a thunk came to when it ran with success, and how it ran.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reduction {
    /// The thunk.
    pub thunk: ThunkName,
    /// What it left, by tag; an optional output that it did not leave is missing here.
    pub outputs: BTreeMap<Tag, OutputObject>,
    /// What it wrote on standard output.
    pub stdout: ValueName,
    /// What it wrote on standard error.
    pub stderr: ValueName,
    /// What it took.
    pub usage: Usage,
    /// Who ran it: a node's id, or `local` for a node that is no member of a mesh.
    pub executor: String,
    /// When it ended, in seconds since 1970, by the executor's clock.
    pub finished_at_s: u64,
}

/// What one output turned out to be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputObject {
    /// A regular file.
    File {
        /// Its bytes.
        name: ValueName,
        /// Was one of its execute bits set?
        executable: bool,
    },
    /// A directory: the name of its tree.
    Tree(ValueName),
    /// A thunk, to be evaluated in place of this one (only of outputs declared dynamic).
    Thunk(ThunkName),
}

/// What a job took.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Usage {
    /// From start to end, in microseconds.
    pub wall_us: u64,
    /// User and system time of all its processes, in microseconds.
    pub cpu_us: u64,
    /// The most memory it held at once, in bytes.
    pub memory_peak_bytes: u64,
}

impl OutputObject {
    /// The object that it names: bytes, a tree, or a thunk's encoding.
    pub fn object(&self) -> ValueName {
        match self {
            Self::File { name, .. } | Self::Tree(name) => *name,
            Self::Thunk(name) => ValueName(name.digest()),
        }
    }
}

impl Reduction {
    /// The canonical bytes.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode(REDUCTION_FORMAT, self)
    }

    /// Reads canonical bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(REDUCTION_FORMAT, bytes)
    }

    /// Every value that must be at hand for the reduction to be worth something.
    pub fn values(&self) -> impl Iterator<Item = ValueName> + '_ {
        let outputs = self.outputs.values().map(OutputObject::object);
        outputs.chain([self.stdout, self.stderr])
    }
}
