//! Tickets: one line of text that lets a machine in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::certificate::{MeshId, Roles};
use crate::codec::{self, Format};
use crate::limits;
use crate::peer::PeerId;

/// `\x89MTICKT` and the version; below the text.
const TICKET_FORMAT: Format = Format { magic: *b"\x89MTICKT\x01", bytes_max: limits::TICKET_BYTES };

/// What the text begins with, so that one sees what it is.
const PREFIX: &str = "mesh1";

/// Bytes of the checksum: one mistyped ticket in four billion goes through, to be refused later.
const CHECKSUM_BYTES: usize = 4;

/// What whoever holds a ticket can prove to know, and never shows.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(pub [u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Names a ticket without giving it away: drawn from its secret by a one-way function.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct TicketId(pub [u8; 16]);

/// In hexadecimal.
impl fmt::Display for TicketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Secret {
    /// Names the ticket with this secret.
    pub fn id(&self) -> TicketId {
        let long = blake3::derive_key("mesh 1 ticket id", &self.0);
        let mut short = [0; 16];
        short.copy_from_slice(&long[..16]);
        TicketId(short)
    }

    /// Proves knowledge of the secret to one listener on one connection: whoever repeats it is
    /// another peer, or was given another challenge.
    pub fn prove(
        &self,
        mesh: MeshId,
        challenge: &[u8; 32],
        dialer: PeerId,
        listener: PeerId,
    ) -> [u8; 32] {
        let key = blake3::derive_key("mesh 1 ticket proof", &self.0);
        let said = [mesh.0, *challenge, dialer.0, listener.0].concat();
        *blake3::keyed_hash(&key, &said).as_bytes()
    }
}

/// A way to become a member.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ticket {
    /// Of which mesh.
    pub mesh: MeshId,
    /// Who issued it, and redeems it.
    pub issuer: PeerId,
    /// Where the issuer listens: multiaddresses without its name.
    pub addresses: Vec<String>,
    /// What the issuer knows it by.
    pub secret: Secret,
    /// What its holder will be; the issuer's word counts.
    pub roles: Roles,
    /// How many machines it lets in; the issuer counts.
    pub uses: u32,
    /// Until when, in seconds since 1970; the issuer's clock counts.
    pub expires_s: u64,
}

/// Why a line is no ticket.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum TicketError {
    /// It does not begin like one.
    #[error("a ticket begins with \"{PREFIX}\"")]
    Prefix,
    /// A character that is in no ticket.
    #[error("{0:?} is in no ticket")]
    Character(char),
    /// Cut or mistyped.
    #[error("the ticket is incomplete or mistyped (its checksum is wrong)")]
    Checksum,
    /// Longer than any ticket.
    #[error("too long for a ticket")]
    TooLong,
    /// Whole, but not one that this program understands.
    #[error("not a ticket that this program understands: {0}")]
    Malformed(String),
}

/// One line of lower-case letters and digits.
impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = codec::encode(TICKET_FORMAT, self).map_err(|_| fmt::Error)?;
        bytes.extend(checksum(&bytes));
        write!(f, "{PREFIX}{}", to_base32(&bytes))
    }
}

/// White space around it is ignored, as is case.
impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        let text = text.trim();
        if text.len() as u64 > PREFIX.len() as u64 + limits::TICKET_BYTES * 2 {
            return Err(TicketError::TooLong);
        }
        let text = text.to_ascii_lowercase();
        let bytes = from_base32(text.strip_prefix(PREFIX).ok_or(TicketError::Prefix)?)?;
        let at = bytes.len().checked_sub(CHECKSUM_BYTES).ok_or(TicketError::Checksum)?;
        let (body, sum) = bytes.split_at(at);
        if sum != checksum(body) {
            return Err(TicketError::Checksum);
        }
        let malformed = |error: codec::CodecError| TicketError::Malformed(error.to_string());
        let ticket: Self = codec::decode(TICKET_FORMAT, body).map_err(malformed)?;
        super::check(ticket.keeps_rules()).map_err(malformed)?;
        Ok(ticket)
    }
}

impl Ticket {
    /// Could it be written and read again?
    pub fn keeps_rules(&self) -> bool {
        self.addresses.len() <= limits::ADDRESSES && self.addresses.iter().all(|a| is_address(a))
    }
}

/// Looks like a multiaddress: `/` and printable ASCII.
pub(crate) fn is_address(address: &str) -> bool {
    address.starts_with('/')
        && address.len() <= limits::ADDRESS_BYTES
        && address.bytes().all(|byte| byte.is_ascii_graphic())
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = blake3::derive_key("mesh 1 ticket checksum", bytes);
    [hash[0], hash[1], hash[2], hash[3]]
}

/// RFC 4648, lower case, without padding: a double click takes all of it.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

fn to_base32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 8 / 5 + 1);
    let (mut held, mut bits) = (0_u32, 0);
    for byte in bytes {
        held = held << 8 | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(ALPHABET[(held >> bits) as usize & 31]));
        }
    }
    if bits > 0 {
        text.push(char::from(ALPHABET[(held << (5 - bits)) as usize & 31]));
    }
    text
}

fn from_base32(text: &str) -> Result<Vec<u8>, TicketError> {
    let mut bytes = Vec::with_capacity(text.len() * 5 / 8);
    let (mut held, mut bits) = (0_u32, 0);
    for c in text.chars() {
        let value = ALPHABET.iter().position(|letter| char::from(*letter) == c);
        held = held << 5 | value.ok_or(TicketError::Character(c))? as u32;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
        }
    }
    // What is left over is zero and less than a letter, or it is not what `to_base32` writes.
    match bits < 5 && held & ((1 << bits) - 1) == 0 {
        true => Ok(bytes),
        false => Err(TicketError::Checksum),
    }
}
