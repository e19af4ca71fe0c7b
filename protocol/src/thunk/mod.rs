//! Thunks: one step of work, closed over everything it reads.
//!
//! A [`Thunk`] names its function (executable, arguments, environment, working directory), every
//! file it may see (by path and by content name), the files it will leave, and its limits. Two
//! thunks with equal content have equal names, so a result is found again by name alone
//! (gg, section 3: "thunks" in its intermediate representation).
//!
//! A `Thunk` is valid by construction: it comes from a [`ThunkSpec`] through `TryFrom`, or from
//! bytes, which go the same way.

mod json;
mod reduction;
mod spec;
mod stream;
mod validate;

pub use json::JsonError;
pub use reduction::{OutputObject, REDUCTION_FORMAT, Reduction, Usage};
pub use spec::{Function, Input, InputMode, Limits, Output, Platform, Source, ThunkSpec};
pub use stream::{KeptStream, is_cut};
pub use validate::ThunkError;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize, Serializer};

use crate::codec::{self, CodecError, Format};
use crate::limits;
use crate::name::{Digest, OutputRef, Tag, ThunkName, ValueName};

/// `\x89MTHUNK` and the version.
pub const THUNK_FORMAT: Format =
    Format { magic: *b"\x89MTHUNK\x01", bytes_max: limits::THUNK_BYTES };

/// One valid step of work. Read its parts through [`Thunk::spec`].
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "ThunkSpec")]
pub struct Thunk(ThunkSpec);

impl Thunk {
    /// The parts.
    pub fn spec(&self) -> &ThunkSpec {
        &self.0
    }

    /// The canonical bytes, and the name they give it.
    pub fn encode(&self) -> Result<(ThunkName, Vec<u8>), CodecError> {
        let bytes = codec::encode(THUNK_FORMAT, self)?;
        Ok((ThunkName(Digest::of(&bytes)), bytes))
    }

    /// Reads canonical bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(THUNK_FORMAT, bytes)
    }

    /// Do these bytes claim to be a thunk?
    pub fn is_encoded(bytes: &[u8]) -> bool {
        bytes.starts_with(&THUNK_FORMAT.magic[..7])
    }

    /// The outputs of other thunks that it reads, each once, in order.
    pub fn dependencies(&self) -> BTreeSet<&OutputRef> {
        self.sources()
            .filter_map(|source| match source {
                Source::Output(output) => Some(output),
                Source::Value(_) => None,
            })
            .collect()
    }

    /// The values that it reads, each once, in order.
    pub fn values(&self) -> BTreeSet<ValueName> {
        self.sources()
            .filter_map(|source| match source {
                Source::Value(name) => Some(*name),
                Source::Output(_) => None,
            })
            .collect()
    }

    fn sources(&self) -> impl Iterator<Item = &Source> {
        self.0.inputs.values().map(|input| &input.source).chain(&self.0.stdin)
    }

    /// The output that stands for the whole thunk where no tag is given: the only one, or the one
    /// tagged `out`.
    pub fn primary_output(&self) -> Option<&Tag> {
        let outputs = &self.0.outputs;
        match outputs.len() {
            1 => outputs.keys().next(),
            _ => outputs.keys().find(|tag| tag.as_str() == "out"),
        }
    }

    /// The same step with every dependency replaced by the value that it reduced to.
    ///
    /// An input whose output turned out to be executable, or a directory, takes that mode.
    pub fn substitute(
        &self,
        reduced: &BTreeMap<OutputRef, OutputObject>,
    ) -> Result<Self, ThunkError> {
        let mut spec = self.0.clone();
        for (path, input) in &mut spec.inputs {
            if let Source::Output(output) = &input.source {
                let (name, mode) = match reduced.get(output) {
                    Some(OutputObject::File { name, executable: true }) => {
                        (*name, InputMode::Executable)
                    }
                    Some(OutputObject::File { name, executable: false }) => (*name, input.mode),
                    Some(OutputObject::Tree(name)) => (*name, InputMode::Tree),
                    Some(OutputObject::Thunk(_)) | None => {
                        return Err(ThunkError::Unreduced(path.to_string()));
                    }
                };
                *input = Input { source: Source::Value(name), mode };
            }
        }
        if let Some(Source::Output(output)) = &spec.stdin {
            match reduced.get(output) {
                Some(OutputObject::File { name, .. }) => spec.stdin = Some(Source::Value(*name)),
                _ => return Err(ThunkError::Unreduced("standard input".to_owned())),
            }
        }
        Self::try_from(spec)
    }
}

impl Serialize for Thunk {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl From<Thunk> for ThunkSpec {
    fn from(thunk: Thunk) -> Self {
        thunk.0
    }
}

#[cfg(test)]
mod tests;
