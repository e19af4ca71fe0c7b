//! One record of the log, as bytes.
//!
//! ```text
//! 0  3  f5 4c 52     so that the next record can be found behind damaged bytes
//! 3  1  kind         1 reduction, 2 forget, 3 pin, 4 unpin; others are passed over
//! 4  4  length of the payload, little-endian
//! 8  4  CRC-32 of offset (8 bytes), kind, length and payload
//! 12 4  zero
//! 16 …  payload: a digest (32 + 8 bytes), then what the kind says; padded with zeros to 8 bytes
//! ```
//!
//! The offset is part of the checksum: bytes that turn up in another place are not a record.

use mesh_protocol::limits;
use mesh_protocol::name::Digest;

/// Bytes before the payload.
pub(crate) const HEADER_BYTES: usize = 16;

/// A digest in bytes.
pub(crate) const DIGEST_BYTES: usize = 40;

/// Records begin at multiples of this.
pub(crate) const ALIGNMENT: u64 = 8;

/// What every record begins with.
pub(crate) const MAGIC: [u8; 3] = [0xf5, b'L', b'R'];

/// What a record says about its digest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// The thunk reduced to what follows, an encoded reduction.
    Reduction,
    /// Results of the thunk are not to be used again.
    Forget,
    /// The object is to be kept; a note follows.
    Pin,
    /// It no longer is.
    Unpin,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Reduction => 1,
            Self::Forget => 2,
            Self::Pin => 3,
            Self::Unpin => 4,
        }
    }

    fn of_code(code: u8) -> Option<Self> {
        [Self::Reduction, Self::Forget, Self::Pin, Self::Unpin]
            .into_iter()
            .find(|kind| kind.code() == code)
    }
}

/// A record that was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Record<'bytes> {
    /// None for a kind that a later version writes.
    pub(crate) kind: Option<Kind>,
    pub(crate) digest: Digest,
    pub(crate) body: &'bytes [u8],
}

/// A digest as 40 bytes.
pub(crate) fn digest_bytes(digest: Digest) -> [u8; DIGEST_BYTES] {
    let mut bytes = [0; DIGEST_BYTES];
    bytes[..32].copy_from_slice(&digest.sha256);
    bytes[32..].copy_from_slice(&digest.length.to_le_bytes());
    bytes
}

/// The digest that these bytes begin with.
pub(crate) fn digest_from(bytes: &[u8]) -> Option<Digest> {
    let sha256 = bytes.get(..32)?.try_into().ok()?;
    let length = u64::from_le_bytes(bytes.get(32..DIGEST_BYTES)?.try_into().ok()?);
    Some(Digest { sha256, length })
}

/// How many bytes a record with such a payload takes.
pub(crate) fn record_bytes(payload: usize) -> u64 {
    ((HEADER_BYTES + payload) as u64).next_multiple_of(ALIGNMENT)
}

/// The length of the payload, if these bytes may begin a record.
pub(crate) fn payload_length(header: &[u8]) -> Option<usize> {
    if header.get(..3)? != MAGIC || header.get(12..HEADER_BYTES)? != [0; 4] {
        return None;
    }
    let length = u32::from_le_bytes(header.get(4..8)?.try_into().ok()?);
    let fits = u64::from(length) <= limits::LOG_RECORD_BYTES && length as usize >= DIGEST_BYTES;
    fits.then_some(length as usize)
}

fn checksum(offset: u64, kind: u8, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&offset.to_le_bytes());
    hasher.update(&[kind]);
    hasher.update(&(payload.len() as u32).to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// The bytes of a record that will stand at `offset`.
pub(crate) fn encode(offset: u64, kind: Kind, digest: Digest, body: &[u8]) -> Vec<u8> {
    let payload_length = DIGEST_BYTES + body.len();
    let total = record_bytes(payload_length) as usize;
    let mut bytes = Vec::with_capacity(total);
    bytes.extend_from_slice(&MAGIC);
    bytes.push(kind.code());
    bytes.extend_from_slice(&(payload_length as u32).to_le_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&digest_bytes(digest));
    bytes.extend_from_slice(body);
    let sum = checksum(offset, kind.code(), &bytes[HEADER_BYTES..]);
    bytes[8..12].copy_from_slice(&sum.to_le_bytes());
    bytes.resize(total, 0);
    bytes
}

/// The record at the beginning of `bytes`, which stand at `offset`. None if it is damaged or not
/// whole.
pub(crate) fn decode(offset: u64, bytes: &[u8]) -> Option<Record<'_>> {
    let length = payload_length(bytes)?;
    if (bytes.len() as u64) < record_bytes(length) {
        return None;
    }
    let payload = &bytes[HEADER_BYTES..HEADER_BYTES + length];
    let sum = u32::from_le_bytes(bytes[8..12].try_into().ok()?);
    if checksum(offset, bytes[3], payload) != sum {
        return None;
    }
    let digest = digest_from(payload)?;
    Some(Record { kind: Kind::of_code(bytes[3]), digest, body: &payload[DIGEST_BYTES..] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_itself_only_whole_and_in_its_place() {
        let digest = Digest::of(b"x");
        let bytes = encode(64, Kind::Pin, digest, b"why");
        let record = decode(64, &bytes).unwrap();
        assert_eq!(
            (record.kind, record.digest, record.body),
            (Some(Kind::Pin), digest, &b"why"[..])
        );
        assert_eq!(decode(72, &bytes), None);
        for length in 0..bytes.len() {
            assert_eq!(decode(64, &bytes[..length]), None);
        }
        // Padding is not covered: nothing depends on it.
        for at in 0..HEADER_BYTES + DIGEST_BYTES + 3 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert_eq!(decode(64, &damaged), None, "byte {at}");
        }
    }

    #[test]
    fn a_kind_of_a_later_version_is_passed_over() {
        let mut bytes = encode(0, Kind::Pin, Digest::of(b""), b"");
        bytes[3] = 200;
        let sum = checksum(0, 200, &bytes[HEADER_BYTES..HEADER_BYTES + DIGEST_BYTES]);
        bytes[8..12].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(decode(0, &bytes).unwrap().kind, None);
    }
}
