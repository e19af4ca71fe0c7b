//! Admission: who may talk at all, settled on each connection before any protocol is spoken.
//!
//! Goals: on an encrypted connection whose ends have proved their keys (Noise), each end learns that
//! the other is a member of the same mesh, by a [`Certificate`], or a newcomer becomes one by a
//! [`Ticket`]; whoever is neither costs a few hashes, and learns nothing but that something listens.
//! Nothing said on one connection is worth anything on another one: a certificate names the key of
//! its holder, which the connection has proved; a proof covers the listener's challenge and both
//! ends. Non-goals: hiding members from each other, and hiding from a former holder of a ticket
//! that a machine is a node of its mesh: mesh ids are known to those.
//!
//! ```text
//!  dialer                                     listener
//!    | knock (24 bytes), then Noise     -->  |   no knock of this mesh: closed without a word
//!    | <--  Challenge: nonce, proof          |   the dialer shows nothing to who knows no mesh id
//!    | Certificate, or Ticket proof     -->  |   not a member: closed without a word
//!    | <--  Welcome: certificate [, granted] |   was a member, or has a ticket that is over: told
//! ```
//!
//! The listener may speak other protocols after its Welcome, the dialer when it has found it good.

mod certificate;
mod machine;
#[cfg(test)]
mod tests;
mod ticket;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use certificate::{
    CERTIFICATE_FORMAT, Certificate, Farewell, Grant, MeshId, REVOCATION_FORMAT, Revocation, Roles,
    Signature, SignedGrant, UnknownRole, Verifier, clean_name,
};
pub use machine::{Admission, Input, Judge, Output, Pass, Session};
pub(crate) use ticket::is_address;
pub use ticket::{Secret, Ticket, TicketError, TicketId};

use crate::codec::{self, CodecError, Format};
use crate::limits;
use crate::peer::PeerId;

/// `\x89MADMIT` and the version: the messages of this protocol.
pub const ADMISSION_FORMAT: Format =
    Format { magic: *b"\x89MADMIT\x02", bytes_max: limits::ADMISSION_BYTES };

/// Bytes of a [`knock`].
pub const KNOCK_BYTES: usize = 24;

/// The first bytes on a connection, in clear: some of the dialer's own, and a hash of them that only
/// who knows the mesh id can make. Keeps out what scans the internet, at the price of a hash; it
/// proves nothing, for it can be repeated.
pub fn knock(mesh: MeshId, nonce: [u8; 8]) -> [u8; KNOCK_BYTES] {
    let hash = blake3::keyed_hash(&blake3::derive_key("mesh 1 knock", &mesh.0), &nonce);
    let mut bytes = [0; KNOCK_BYTES];
    bytes[..8].copy_from_slice(&nonce);
    bytes[8..].copy_from_slice(&hash.as_bytes()[..16]);
    bytes
}

/// Is it a knock at the door of this mesh?
pub fn is_knock(mesh: MeshId, bytes: &[u8; KNOCK_BYTES]) -> bool {
    let nonce = std::array::from_fn(|at| bytes[at]);
    knock(mesh, nonce) == *bytes
}

/// What a listener proves: that it knows the mesh id.
fn listener_proof(
    mesh: MeshId,
    nonce: &[u8; 32],
    dialer: PeerId,
    listener: PeerId,
) -> blake3::Hash {
    let key = blake3::derive_key("mesh 1 listener", &mesh.0);
    blake3::keyed_hash(&key, &[*nonce, dialer.0, listener.0].concat())
}

/// Why a peer is not let in. Of these only what [`Refusal::is_told`] is said to it.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Error, Serialize, Deserialize,
)]
pub enum Refusal {
    /// Another mesh, or none.
    #[error("it is not of this mesh")]
    WrongMesh,
    /// A signature that does not hold, or by somebody who may not sign.
    #[error("its certificate was not signed by this mesh")]
    Forged,
    /// A certificate that names another peer.
    #[error("it showed the certificate of another peer")]
    OfAnother,
    /// A certificate from the future.
    #[error("its certificate is not valid yet: one of the clocks is wrong")]
    NotYet,
    /// A certificate of the past.
    #[error("its certificate has expired")]
    Expired,
    /// It was a member.
    #[error("it was revoked")]
    Revoked,
    /// Nobody here issued that ticket, or its proof does not fit this connection.
    #[error("its ticket is not one of ours")]
    UnknownTicket,
    /// A ticket that let in as many as it was for.
    #[error("the ticket has been used as often as it may be")]
    TicketUsedUp,
    /// A ticket that came too late.
    #[error("the ticket has expired")]
    TicketExpired,
    /// The issuer could not make a certificate.
    #[error("the ticket could not be redeemed now")]
    NotGranted,
    /// Bytes that are no message, or one that breaks its rules.
    #[error("it sent what is no message of this protocol")]
    Malformed,
    /// More bytes than a message has.
    #[error("it announced a longer message than is allowed")]
    Oversized,
    /// A message that does not belong there.
    #[error("it sent a message out of turn")]
    OutOfTurn,
    /// Nothing came in time.
    #[error("it did not answer in time")]
    TimedOut,
    /// It closed the connection without a word, as one does to strangers.
    #[error(
        "it closed the connection without a word: it does not know us, is of another mesh, or is overrun"
    )]
    Closed,
}

impl Refusal {
    /// May the refused one hear it? Only who has shown that it was, or could be, a member.
    pub fn is_told(self) -> bool {
        let told = [Self::Expired, Self::NotYet, Self::Revoked, Self::NotGranted];
        told.contains(&self) || matches!(self, Self::TicketUsedUp | Self::TicketExpired)
    }
}

/// What a listener says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum FromListener {
    /// The first message.
    Challenge {
        /// Never used before.
        nonce: [u8; 32],
        /// That the listener knows the mesh id: a keyed BLAKE3 hash of the nonce and both ends.
        proof: [u8; 32],
    },
    /// You are in.
    Welcome {
        /// The listener's own.
        certificate: Box<Certificate>,
        /// The dialer's, if it came with a ticket.
        granted: Option<Box<Certificate>>,
    },
    /// You are not.
    Refused(Refusal),
}

/// What a dialer says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum FromDialer {
    /// I am a member.
    Certificate(Box<Certificate>),
    /// I was invited.
    Ticket {
        /// By which ticket.
        id: TicketId,
        /// That the dialer knows its secret: see [`Secret::prove`].
        proof: [u8; 32],
        /// What the newcomer would be called.
        name: String,
        /// Will it be gone soon, and not come back?
        is_ephemeral: bool,
    },
}

impl FromListener {
    /// The canonical bytes.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        check(self.keeps_rules())?;
        codec::encode(ADMISSION_FORMAT, self)
    }

    /// Reads canonical bytes, and only what keeps the rules.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let message: Self = codec::decode(ADMISSION_FORMAT, bytes)?;
        check(message.keeps_rules())?;
        Ok(message)
    }

    fn keeps_rules(&self) -> bool {
        match self {
            Self::Challenge { .. } => true,
            Self::Welcome { certificate, granted } => {
                let granted = granted.as_ref().is_none_or(|granted| granted.check_rules().is_ok());
                granted && certificate.check_rules().is_ok()
            }
            Self::Refused(refusal) => refusal.is_told(),
        }
    }
}

impl FromDialer {
    /// The canonical bytes.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        check(self.keeps_rules())?;
        codec::encode(ADMISSION_FORMAT, self)
    }

    /// Reads canonical bytes, and only what keeps the rules.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let message: Self = codec::decode(ADMISSION_FORMAT, bytes)?;
        check(message.keeps_rules())?;
        Ok(message)
    }

    fn keeps_rules(&self) -> bool {
        match self {
            Self::Certificate(certificate) => certificate.check_rules().is_ok(),
            Self::Ticket { name, .. } => clean_name(name) == *name,
        }
    }
}

fn check(keeps_rules: bool) -> Result<(), CodecError> {
    match keeps_rules {
        true => Ok(()),
        false => Err(CodecError::Malformed("a message breaks its rules".to_owned())),
    }
}
