//! Who is a member, by whose word.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Refusal;
use crate::codec::{self, CodecError, Format};
use crate::limits;
use crate::peer::PeerId;

/// `\x89MCERTI` and the version: a certificate, and what its signatures cover.
pub const CERTIFICATE_FORMAT: Format =
    Format { magic: *b"\x89MCERTI\x01", bytes_max: limits::CERTIFICATE_BYTES };

/// `\x89MGRANT` and the version: what the signature of a grant covers.
const GRANT_FORMAT: Format =
    Format { magic: *b"\x89MGRANT\x01", bytes_max: limits::CERTIFICATE_BYTES };

/// `\x89MREVOK` and the version.
pub const REVOCATION_FORMAT: Format =
    Format { magic: *b"\x89MREVOK\x01", bytes_max: limits::REVOCATION_BYTES };

/// `\x89MREVBY` and the version: what the signature of a revocation covers.
const REVOKED_FORMAT: Format =
    Format { magic: *b"\x89MREVBY\x01", bytes_max: limits::REVOCATION_BYTES };

/// `\x89MLEAVE` and the version: what the signature of a farewell covers.
const FAREWELL_FORMAT: Format = Format { magic: *b"\x89MLEAVE\x01", bytes_max: 256 };

/// An ed25519 signature (RFC 8032), in two halves.
pub type Signature = [[u8; 32]; 2];

/// A mesh: the ed25519 public key whose owner made it. Known to members and to who holds a ticket.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MeshId(pub [u8; 32]);

/// In hexadecimal, as a key is written.
impl fmt::Display for MeshId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for MeshId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "M{:02x}{:02x}{:02x}{:02x}", self.0[0], self.0[1], self.0[2], self.0[3])
    }
}

/// Checks signatures; the node and the simulation bring their own.
pub trait Verifier {
    /// Did the owner of `key` sign `message`?
    fn verify(&self, key: &[u8; 32], message: &[u8], signature: &Signature) -> bool;
}

/// What a member may do: any of three things.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Roles(u8);

impl Roles {
    /// Runs thunks for others.
    pub const WORKER: Self = Self(1);
    /// Has thunks run by others.
    pub const SUBMITTER: Self = Self(2);
    /// Both.
    pub const MEMBER: Self = Self(3);
    /// Both, and lets others in and out.
    pub const ADMIN: Self = Self(7);

    /// May this one do all that?
    pub fn include(self, all: Self) -> bool {
        self.0 & all.0 == all.0
    }

    fn are_known(self) -> bool {
        (1..=7).contains(&self.0)
    }
}

/// By the names that people use.
impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::WORKER => "worker",
            Self::SUBMITTER => "submitter",
            Self::MEMBER => "member",
            roles if roles.include(Self::ADMIN) => "admin",
            _ => "other",
        })
    }
}

impl std::str::FromStr for Roles {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        let all = [Self::WORKER, Self::SUBMITTER, Self::MEMBER, Self::ADMIN];
        all.into_iter().find(|roles| roles.to_string() == text).ok_or(UnknownRole)
    }
}

/// Not a role.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a role: a member is a worker, a submitter, a member (both) or an admin")]
pub struct UnknownRole;

/// "This peer is a member of that mesh."
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Grant {
    /// Of which mesh.
    pub mesh: MeshId,
    /// Who.
    pub peer: PeerId,
    /// What it may do.
    pub roles: Roles,
    /// What people call it; need not be unique.
    pub name: String,
    /// From when, in seconds since 1970.
    pub issued_s: u64,
    /// Until when (not included), in seconds since 1970.
    pub expires_s: u64,
}

/// A grant, and the word of somebody for it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SignedGrant {
    /// What is said.
    pub grant: Grant,
    /// By the mesh's key, or an admin's.
    pub signature: Signature,
}

/// What a member shows: its grant, and the grant of the admin who signed it if the mesh's key did not.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Certificate {
    /// The member's own.
    pub member: SignedGrant,
    /// The signer's, signed by the mesh's key. No longer chain than that.
    pub admin: Option<SignedGrant>,
}

/// "This peer is a member no more", for ever: a machine that shall come back makes a new identity.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Revocation {
    /// Of which mesh.
    pub mesh: MeshId,
    /// Who.
    pub peer: PeerId,
    /// When, in seconds since 1970: for people.
    pub at_s: u64,
    /// The signer's grant if the mesh's key did not sign.
    pub admin: Option<SignedGrant>,
    /// Of all that.
    pub signature: Signature,
}

/// "I am a member no more", by the peer itself. A certificate that was issued later makes it one
/// again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Farewell {
    /// Of which mesh.
    pub mesh: MeshId,
    /// Who leaves, and signs.
    pub peer: PeerId,
    /// When, in seconds since 1970.
    pub at_s: u64,
    /// Of all that.
    pub signature: Signature,
}

impl Farewell {
    /// The bytes that its signature covers.
    pub fn signed_bytes(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode(FAREWELL_FORMAT, &(self.mesh, self.peer, self.at_s))
    }

    /// May it be believed at that time? One from the future would keep its peer out.
    pub fn verify(&self, mesh: MeshId, now_s: u64, verifier: &dyn Verifier) -> Result<(), Refusal> {
        if self.mesh != mesh {
            return Err(Refusal::WrongMesh);
        }
        if self.at_s > now_s.saturating_add(limits::CLOCK_SKEW_S) {
            return Err(Refusal::NotYet);
        }
        let bytes = self.signed_bytes().map_err(|_| Refusal::Malformed)?;
        match verifier.verify(&self.peer.0, &bytes, &self.signature) {
            true => Ok(()),
            false => Err(Refusal::Forged),
        }
    }

    /// Does it end what this certificate says?
    pub fn ends(&self, certificate: &Certificate) -> bool {
        let grant = &certificate.member.grant;
        grant.peer == self.peer && grant.issued_s <= self.at_s
    }
}

impl Grant {
    /// The bytes that its signature covers.
    pub fn signed_bytes(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode(GRANT_FORMAT, self)
    }

    /// Is it of this mesh and in force?
    fn check(&self, mesh: MeshId, now_s: u64) -> Result<(), Refusal> {
        if self.mesh != mesh {
            return Err(Refusal::WrongMesh);
        }
        if self.issued_s > now_s.saturating_add(limits::CLOCK_SKEW_S) {
            return Err(Refusal::NotYet);
        }
        if self.expires_s <= now_s {
            return Err(Refusal::Expired);
        }
        Ok(())
    }

    fn keeps_rules(&self) -> bool {
        self.roles.are_known() && is_name(&self.name)
    }
}

/// Fit for a line of a table: nothing that moves a cursor or hides text.
fn is_name(name: &str) -> bool {
    let plain = |c: char| {
        !c.is_control()
            && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    !name.is_empty() && name.len() <= limits::MEMBER_NAME_BYTES && name.chars().all(plain)
}

/// What of a name can be taken; "unnamed" if nothing can.
pub fn clean_name(name: &str) -> String {
    let mut clean = String::new();
    for c in name.chars().filter(|c| is_name(c.encode_utf8(&mut [0; 4]))) {
        if clean.len() + c.len_utf8() > limits::MEMBER_NAME_BYTES {
            break;
        }
        clean.push(c);
    }
    if clean.is_empty() { "unnamed".to_owned() } else { clean }
}

impl SignedGrant {
    fn is_signed_by(&self, key: &[u8; 32], verifier: &dyn Verifier) -> Result<(), Refusal> {
        let bytes = self.grant.signed_bytes().map_err(|_| Refusal::Malformed)?;
        match verifier.verify(key, &bytes, &self.signature) {
            true => Ok(()),
            false => Err(Refusal::Forged),
        }
    }
}

/// The key that signed, if its owner may let others in and out.
fn signer<'a>(
    admin: Option<&'a SignedGrant>,
    mesh: &'a MeshId,
    now_s: u64,
    verifier: &dyn Verifier,
) -> Result<&'a [u8; 32], Refusal> {
    let Some(admin) = admin else { return Ok(&mesh.0) };
    admin.is_signed_by(&mesh.0, verifier)?;
    admin.grant.check(*mesh, now_s)?;
    match admin.grant.roles.include(Roles::ADMIN) {
        true => Ok(&admin.grant.peer.0),
        false => Err(Refusal::Forged),
    }
}

impl Certificate {
    /// The canonical bytes.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        self.check_rules()?;
        codec::encode(CERTIFICATE_FORMAT, self)
    }

    /// Reads canonical bytes, and only what keeps the rules. Says nothing about truth: see
    /// [`Certificate::verify`].
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let certificate: Self = codec::decode(CERTIFICATE_FORMAT, bytes)?;
        certificate.check_rules()?;
        Ok(certificate)
    }

    /// Whose it is.
    pub fn peer(&self) -> PeerId {
        self.member.grant.peer
    }

    /// Does it make `peer` a member of `mesh` at that time? Signatures come before dates, so that
    /// whoever hears "expired" was a member once. Revocations are another matter.
    pub fn verify(
        &self,
        mesh: MeshId,
        peer: PeerId,
        now_s: u64,
        verifier: &dyn Verifier,
    ) -> Result<(), Refusal> {
        let Grant { mesh: theirs, peer: holder, roles, .. } = &self.member.grant;
        if *theirs != mesh {
            return Err(Refusal::WrongMesh);
        }
        if *holder != peer {
            return Err(Refusal::OfAnother);
        }
        let key = signer(self.admin.as_ref(), &mesh, now_s, verifier)?;
        self.member.is_signed_by(key, verifier)?;
        // Admins are made by the mesh's key alone.
        if self.admin.is_some() && roles.include(Roles::ADMIN) {
            return Err(Refusal::Forged);
        }
        self.member.grant.check(mesh, now_s)
    }

    /// Is it void because of who left: its holder, or the admin who signed it?
    pub fn rests_on(&self, peer: PeerId) -> bool {
        let admin = self.admin.as_ref().map(|admin| admin.grant.peer);
        self.peer() == peer || admin == Some(peer)
    }

    pub(super) fn check_rules(&self) -> Result<(), CodecError> {
        let admin = self.admin.as_ref().is_none_or(|admin| admin.grant.keeps_rules());
        super::check(admin && self.member.grant.keeps_rules())
    }
}

impl Revocation {
    /// The bytes that its signature covers.
    pub fn signed_bytes(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode(REVOKED_FORMAT, &(self.mesh, self.peer, self.at_s, &self.admin))
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode(REVOCATION_FORMAT, self)
    }

    /// Reads canonical bytes. Says nothing about truth.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(REVOCATION_FORMAT, bytes)
    }

    /// May it be believed at that time?
    pub fn verify(&self, mesh: MeshId, now_s: u64, verifier: &dyn Verifier) -> Result<(), Refusal> {
        if self.mesh != mesh {
            return Err(Refusal::WrongMesh);
        }
        // One that an admin signed stays true when the admin's own time is over.
        let at_s = self.at_s.min(now_s);
        let key = signer(self.admin.as_ref(), &mesh, at_s, verifier)?;
        let bytes = self.signed_bytes().map_err(|_| Refusal::Malformed)?;
        match verifier.verify(key, &bytes, &self.signature) {
            true => Ok(()),
            false => Err(Refusal::Forged),
        }
    }
}
