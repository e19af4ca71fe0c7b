//! The canonical encoding of everything that is named by its bytes or sent to a peer.
//!
//! Goals: one value has one encoding; decoding costs no more memory than the bytes it was given;
//! every format says what it is and which version it is in its first eight bytes.
//! Non-goal: speed beyond bincode's.
//!
//! bincode's decoder accepts more than its encoder writes (a number in a longer form, map entries
//! out of order), so [`decode`] encodes again and compares. This file is the only one that names
//! bincode.

use bincode::config;
use bincode::enc::write::Writer;
use bincode::error::EncodeError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// The first eight bytes of an encoding: what it is, and in which version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Format {
    /// Eight bytes; the last is the version.
    pub magic: [u8; 8],
    /// The longest encoding, in bytes, magic included.
    pub bytes_max: u64,
}

/// Why bytes are not an encoding.
#[derive(Debug, Error)]
pub enum CodecError {
    /// The first bytes are those of something else.
    #[error("not of this format (the first bytes differ)")]
    Magic,
    /// Right format, but a version that this program does not know.
    #[error("version {0} of the format is not known to this program")]
    Version(u8),
    /// Longer than the format allows.
    #[error("{length} bytes, but {max} are allowed")]
    TooLong {
        /// What was given or would be written.
        length: u64,
        /// The bound.
        max: u64,
    },
    /// The bytes do not decode, or what they say breaks a rule.
    #[error("malformed: {0}")]
    Malformed(String),
    /// Bytes that decode but that no encoder writes.
    #[error("not canonical: encoding it again gives other bytes")]
    NotCanonical,
}

/// Encodes `value` behind the format's magic.
pub fn encode<T: Serialize>(format: Format, value: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = Appender(format.magic.to_vec());
    bincode::serde::encode_into_writer(value, &mut bytes, config::standard())
        .map_err(|error| CodecError::Malformed(error.to_string()))?;
    let bytes = bytes.0;
    if bytes.len() as u64 > format.bytes_max {
        return Err(CodecError::TooLong { length: bytes.len() as u64, max: format.bytes_max });
    }
    Ok(bytes)
}

/// Decodes `bytes` if, and only if, [`encode`] would have written them.
pub fn decode<T: Serialize + DeserializeOwned>(
    format: Format,
    bytes: &[u8],
) -> Result<T, CodecError> {
    let length = bytes.len() as u64;
    if length > format.bytes_max {
        return Err(CodecError::TooLong { length, max: format.bytes_max });
    }
    let (magic, body) = bytes.split_at_checked(8).ok_or(CodecError::Magic)?;
    if magic[..7] != format.magic[..7] {
        return Err(CodecError::Magic);
    }
    if magic[7] != format.magic[7] {
        return Err(CodecError::Version(magic[7]));
    }
    // bincode gives memory ahead of the bytes it has read, up to what its limit allows.
    const AHEAD: usize = 64 * 1024 * 1024;
    let limits = config::standard().with_limit::<AHEAD>();
    let (value, read) = bincode::serde::decode_from_slice::<T, _>(body, limits)
        .map_err(|error| CodecError::Malformed(error.to_string()))?;
    if read != body.len() {
        return Err(CodecError::NotCanonical);
    }
    let mut expected = Comparer { expected: body };
    match bincode::serde::encode_into_writer(&value, &mut expected, config::standard()) {
        Ok(()) if expected.expected.is_empty() => Ok(value),
        _ => Err(CodecError::NotCanonical),
    }
}

/// Keeps what the encoder writes.
struct Appender(Vec<u8>);

impl Writer for Appender {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Compares what the encoder writes with what it should write, and keeps nothing.
struct Comparer<'a> {
    expected: &'a [u8],
}

impl Writer for Comparer<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        let rest = self.expected.strip_prefix(bytes);
        self.expected = rest.ok_or(EncodeError::Other("not the bytes that were expected"))?;
        Ok(())
    }
}
