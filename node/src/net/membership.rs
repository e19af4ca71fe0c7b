//! What a node knows of its mesh: its own certificate, the other members, who is one no more, and the
//! tickets it issued. Kept in one file, replaced as a whole.
//!
//! Members that nobody has met for a month are forgotten, wherever they are; who is there after all
//! shows its certificate and is known again.
//!
//! ```text
//! MESH_HOME/identity/node.key     this node's key
//! MESH_HOME/identity/mesh.key     the mesh's, on the machine that made it
//! MESH_HOME/identity/membership   all that is below
//! ```

mod first;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use mesh_protocol::codec::{self, Format};
use mesh_protocol::limits;
use mesh_protocol::peer::PeerId;
use mesh_protocol::wire::admission::{
    Certificate, Farewell, Grant, Judge, MeshId, Refusal, Revocation, Roles, Secret, Signature,
    SignedGrant, Ticket, TicketId, Verifier, clean_name,
};
use mesh_protocol::wire::roster::{Roster, RosterMember};
use mesh_store::files;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::identity::{Ed25519, IdentityError, Key, Replace, write_private};

/// Bounded by what may be in it: members above all.
const BOOK: Format = Format {
    magic: *b"\x89MBOOK\0\x02",
    bytes_max: 2 * limits::ROSTER_BYTES * limits::ROSTER_MESSAGES as u64,
};

/// How long a certificate holds: a year.
const CERTIFICATE_S: u64 = 365 * 24 * 60 * 60;

/// That of a node that will be gone soon: a week.
const EPHEMERAL_S: u64 = 7 * 24 * 60 * 60;

/// A member that nobody has met for so long is forgotten: 30 days.
const ABSENT_S: u64 = 30 * 24 * 60 * 60;

/// How exactly it is kept when a member was last seen.
const SEEN_STEP_S: u64 = 60 * 60;

/// Certificates of those who made the mesh: as good as for ever.
const FOUNDER_S: u64 = 100 * CERTIFICATE_S;

/// What is in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Book {
    mesh: MeshId,
    /// None as long as the ticket was not redeemed.
    own: Option<Certificate>,
    /// What this node came with, or will come with.
    ticket: Option<Ticket>,
    name: String,
    /// It will be gone soon.
    is_ephemeral: bool,
    members: BTreeMap<PeerId, Member>,
    revocations: BTreeMap<PeerId, Revocation>,
    farewells: BTreeMap<PeerId, Farewell>,
    /// Those whom its owner wants to see no more unless they come back, and since when.
    forgotten: BTreeMap<PeerId, u64>,
    issued: BTreeMap<TicketId, Issued>,
}

/// What is known of another member.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Member {
    /// Its certificate; verified.
    pub certificate: Certificate,
    /// Where it may be found, the best first: multiaddresses without its name.
    pub addresses: Vec<String>,
    /// When we last met, in seconds since 1970; 0 if never.
    pub met_s: u64,
    /// When somebody last met it, as far as we were told, in seconds since 1970.
    pub seen_s: u64,
}

/// A ticket that somebody can still come in by.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TicketInfo {
    /// Names it.
    pub ticket: TicketId,
    /// What its holder will be.
    pub roles: Roles,
    /// How many machines it still lets in.
    pub uses_left: u32,
    /// Until when, in seconds since 1970.
    pub expires_s: u64,
    /// The names of those it has let in.
    pub redeemed: Vec<String>,
}

/// A ticket that this node redeems.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Issued {
    secret: Secret,
    roles: Roles,
    uses_left: u32,
    expires_s: u64,
    /// Whom it let in: they may lose the answer and come again.
    redeemed: BTreeMap<PeerId, Certificate>,
}

/// Why something cannot be done with a membership.
#[derive(Debug, Error)]
pub enum MembershipError {
    /// Keys or the file.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The file is damaged or of another version.
    #[error("{} cannot be used: {source}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: codec::CodecError,
    },
    /// There is one already.
    #[error("this node is a member of mesh {0:?} already; `mesh leave` first")]
    Already(MeshId),
    /// Letting others in and out is for admins.
    #[error("only an admin may do that, and this node is none")]
    NotAdmin,
    /// A ticket for nobody, or for too many.
    #[error("a ticket lets in at least 1 and at most {max} machines", max = limits::TICKET_USES)]
    Uses,
    /// More tickets than a node keeps.
    #[error("this node has issued as many tickets as it keeps; wait until one expires")]
    Tickets,
    /// No such ticket.
    #[error("this node has issued no such ticket")]
    UnknownTicket,
    /// No such member.
    #[error("no such member is known")]
    UnknownMember,
    /// More revocations than a node keeps.
    #[error("this mesh has revoked as many peers as a node keeps; make a new one")]
    Revocations,
    /// The node ended meanwhile.
    #[error("the node ended before it was done")]
    Interrupted,
}

/// A node's membership in one mesh. What changes it changes the memory only; [`Membership::commit`]
/// has a change on the disk first.
#[derive(Clone, Debug)]
pub struct Membership {
    path: PathBuf,
    node: Key,
    mesh_key: Option<Key>,
    book: Book,
    is_dirty: bool,
}

/// Seconds since 1970, as this machine's clock has it.
pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Has nobody met it for so long that it is to be forgotten?
fn is_absent(grant: &Grant, seen_s: u64, now_s: u64) -> bool {
    seen_s.max(grant.issued_s).saturating_add(ABSENT_S) <= now_s
}

fn paths(home: &Path) -> [PathBuf; 3] {
    let directory = home.join("identity");
    ["node.key", "mesh.key", "membership"].map(|name| directory.join(name))
}

impl Membership {
    /// Makes a mesh whose first member and admin is this node.
    pub fn found(home: &Path, name: &str, now_s: u64) -> Result<Self, MembershipError> {
        Self::refuse_second(home)?;
        let [node, mesh, path] = paths(home);
        let (node, mesh_key) = (Key::load_or_create(&node)?, Key::load_or_create(&mesh)?);
        let mesh = MeshId(mesh_key.public());
        let mut membership = Self::new(path, node, Some(mesh_key), mesh, name);
        let own = membership.own();
        let grant = membership.grant(own, Roles::ADMIN, name, now_s, FOUNDER_S);
        membership.book.own = Some(membership.certify(grant, now_s)?);
        membership.write()?;
        Ok(membership)
    }

    /// Prepares to join by a ticket; [`Membership::join_granted`] ends it.
    pub fn invited(
        home: &Path,
        ticket: Ticket,
        name: &str,
        is_ephemeral: bool,
    ) -> Result<Self, MembershipError> {
        Self::refuse_second(home)?;
        let [node, _, path] = paths(home);
        let mut membership = Self::new(path, Key::load_or_create(&node)?, None, ticket.mesh, name);
        membership.book.ticket = Some(ticket);
        membership.book.is_ephemeral = is_ephemeral;
        membership.write()?;
        Ok(membership)
    }

    /// The membership that this node has; `None` if there is none.
    pub fn open(home: &Path) -> Result<Option<Self>, MembershipError> {
        let [node, mesh_key, path] = paths(home);
        let bytes = match files::read(&path, BOOK.bytes_max) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(IdentityError::io("read", &path)(error).into()),
        };
        let damaged = |source| MembershipError::Damaged { path: path.clone(), source };
        let book = first::decode(&bytes).unwrap_or_else(|| codec::decode(BOOK, &bytes));
        let book: Book = book.map_err(damaged)?;
        let node = Key::load_or_create(&node)?;
        let key = Key::load(&mesh_key)?.filter(|key| key.public() == book.mesh.0);
        Ok(Some(Self { path, node, mesh_key: key, book, is_dirty: false }))
    }

    /// Forgets the mesh, for good; the node keeps its key. What made the mesh is forgotten too.
    pub fn leave(home: &Path) -> Result<bool, MembershipError> {
        let [_, mesh, path] = paths(home);
        let mut was_there = false;
        for path in [path, mesh] {
            match std::fs::remove_file(&path) {
                Ok(()) => was_there = true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => (),
                Err(error) => return Err(IdentityError::io("remove", &path)(error).into()),
            }
        }
        Ok(was_there)
    }

    /// A ticket that was never redeemed may give way to another one.
    fn refuse_second(home: &Path) -> Result<(), MembershipError> {
        match Self::open(home)? {
            Some(there) if there.book.own.is_some() => {
                Err(MembershipError::Already(there.book.mesh))
            }
            _ => Ok(()),
        }
    }

    fn new(path: PathBuf, node: Key, mesh_key: Option<Key>, mesh: MeshId, name: &str) -> Self {
        let book = Book {
            mesh,
            own: None,
            ticket: None,
            name: clean_name(name),
            is_ephemeral: false,
            members: BTreeMap::new(),
            revocations: BTreeMap::new(),
            farewells: BTreeMap::new(),
            forgotten: BTreeMap::new(),
            issued: BTreeMap::new(),
        };
        Self { path, node, mesh_key, book, is_dirty: false }
    }

    /// This node.
    pub fn own(&self) -> PeerId {
        PeerId(self.node.public())
    }

    /// This node's key.
    pub fn key(&self) -> &Key {
        &self.node
    }

    /// The mesh.
    pub fn mesh(&self) -> MeshId {
        self.book.mesh
    }

    /// Is the mesh's own key on this machine?
    pub fn has_mesh_key(&self) -> bool {
        self.mesh_key.is_some()
    }

    /// What people call this node.
    pub fn name(&self) -> &str {
        match &self.book.own {
            Some(own) => &own.member.grant.name,
            None => &self.book.name,
        }
    }

    /// This node's certificate; none before its ticket was redeemed.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.book.own.as_ref()
    }

    /// The ticket that this node came with, or will come with.
    pub fn ticket(&self) -> Option<&Ticket> {
        self.book.ticket.as_ref()
    }

    /// Will it be gone soon?
    pub fn is_ephemeral(&self) -> bool {
        self.book.is_ephemeral
    }

    /// All other members that are known, those that were revoked not among them.
    pub fn members(&self) -> impl Iterator<Item = (PeerId, &Member)> {
        self.book.members.iter().map(|(peer, member)| (*peer, member))
    }

    /// What is known of one.
    pub fn member(&self, peer: PeerId) -> Option<&Member> {
        self.book.members.get(&peer)
    }

    /// What a member may do now: none for who is not one, or no more.
    pub fn roles(&self, peer: PeerId, now_s: u64) -> Option<Roles> {
        let grant = match peer == self.own() {
            true => &self.book.own.as_ref()?.member.grant,
            false => &self.book.members.get(&peer)?.certificate.member.grant,
        };
        (grant.expires_s > now_s && !self.is_revoked(peer)).then_some(grant.roles)
    }

    /// Makes a change whose result somebody else will rely on: on the disk first, then in memory. If
    /// it cannot be written, it was not made.
    pub fn commit<T, E: From<MembershipError>>(
        &mut self,
        change: impl Fn(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut changed = self.clone();
        let made = change(&mut changed)?;
        changed.write()?;
        *self = changed;
        Ok(made)
    }

    /// The ticket was redeemed: this is what we are now.
    pub fn join_granted(&mut self, certificate: Certificate) {
        self.book.own = Some(certificate);
    }

    /// Makes a ticket of a secret, which is a new one. Admins only; only the mesh's own key makes
    /// admins.
    pub fn invite(
        &mut self,
        secret: Secret,
        (roles, uses, life_s): (Roles, u32, u64),
        addresses: Vec<String>,
        now_s: u64,
    ) -> Result<Ticket, MembershipError> {
        if !self.may_sign(roles, now_s) {
            return Err(MembershipError::NotAdmin);
        }
        if !(1..=limits::TICKET_USES).contains(&uses) {
            return Err(MembershipError::Uses);
        }
        self.book.issued.retain(|_, issued| issued.expires_s > now_s);
        if self.book.issued.len() >= limits::TICKETS_KEPT {
            return Err(MembershipError::Tickets);
        }
        let expires_s = now_s.saturating_add(life_s);
        let redeemed = BTreeMap::new();
        let issued = Issued { secret, roles, uses_left: uses, expires_s, redeemed };
        self.book.issued.insert(secret.id(), issued);
        let addresses = addresses.into_iter().take(limits::ADDRESSES).collect();
        let (mesh, issuer) = (self.book.mesh, self.own());
        Ok(Ticket { mesh, issuer, addresses, secret, roles, uses, expires_s })
    }

    /// The tickets that this node has issued and that may still let somebody in.
    pub fn tickets(&self, now_s: u64) -> Vec<TicketInfo> {
        let issued = self.book.issued.iter();
        let open = issued.filter(|(_, issued)| issued.uses_left > 0 && issued.expires_s > now_s);
        let tickets = open.map(|(ticket, issued)| TicketInfo {
            ticket: *ticket,
            roles: issued.roles,
            uses_left: issued.uses_left,
            expires_s: issued.expires_s,
            redeemed: issued.redeemed.values().map(|it| it.member.grant.name.clone()).collect(),
        });
        tickets.collect()
    }

    /// A ticket lets nobody in any more. Whom it has let in stays.
    pub fn withdraw(&mut self, ticket: TicketId) -> Result<(), MembershipError> {
        let issued = self.book.issued.get_mut(&ticket).ok_or(MembershipError::UnknownTicket)?;
        issued.uses_left = 0;
        self.is_dirty = true;
        Ok(())
    }

    /// Lets a newcomer in by a ticket whose secret it has proved to know.
    pub fn redeem(
        &mut self,
        ticket: TicketId,
        peer: PeerId,
        (name, is_ephemeral): (&str, bool),
        now_s: u64,
    ) -> Result<Certificate, Refusal> {
        let issued = self.book.issued.get(&ticket).ok_or(Refusal::UnknownTicket)?;
        let left = self.book.farewells.get(&peer);
        if let Some(certificate) = issued.redeemed.get(&peer)
            && left.is_none_or(|farewell| !farewell.ends(certificate))
        {
            return Ok(certificate.clone());
        }
        if issued.expires_s <= now_s {
            return Err(Refusal::TicketExpired);
        }
        let uses_left = issued.uses_left.checked_sub(1).ok_or(Refusal::TicketUsedUp)?;
        let life_s = if is_ephemeral { EPHEMERAL_S } else { CERTIFICATE_S };
        let mut grant = self.grant(peer, issued.roles, name, now_s, life_s);
        // Newer than what its farewell has ended, also within the same second.
        grant.issued_s = grant.issued_s.max(left.map_or(0, |farewell| farewell.at_s + 1));
        let certificate = self.certify(grant, now_s).map_err(|_| Refusal::NotGranted)?;
        if let Some(issued) = self.book.issued.get_mut(&ticket) {
            issued.uses_left = uses_left;
            issued.redeemed.insert(peer, certificate.clone());
        }
        Ok(certificate)
    }

    /// Declares that a peer is a member no more.
    pub fn revoke(&mut self, peer: PeerId, now_s: u64) -> Result<Revocation, MembershipError> {
        let admin = match (&self.mesh_key, &self.book.own) {
            (Some(_), _) => None,
            (None, Some(own)) if own.member.grant.roles.include(Roles::ADMIN) => {
                Some(own.member.clone())
            }
            _ => return Err(MembershipError::NotAdmin),
        };
        let signature = [[0; 32]; 2];
        let mesh = self.book.mesh;
        let mut revocation = Revocation { mesh, peer, at_s: now_s, admin, signature };
        let signer = self.mesh_key.as_ref().unwrap_or(&self.node);
        let bytes = revocation.signed_bytes().map_err(self.damaged())?;
        revocation.signature = signer.sign(&bytes);
        match self.learn_revocation(&revocation) || self.is_revoked(peer) {
            true => Ok(revocation),
            false => Err(MembershipError::Revocations),
        }
    }

    /// Takes note of a revocation that was verified. True if it is news.
    pub fn learn_revocation(&mut self, revocation: &Revocation) -> bool {
        let peer = revocation.peer;
        let by = revocation.admin.as_ref().map(|admin| admin.grant.peer);
        let is_void = by.is_some_and(|by| self.is_revoked(by));
        let is_full = self.book.revocations.len() >= limits::REVOCATIONS_KEPT;
        if is_void || is_full || self.is_revoked(peer) {
            return false;
        }
        self.book.revocations.insert(peer, revocation.clone());
        self.book.members.retain(|_, member| !member.certificate.rests_on(peer));
        // Else its owner comes back by the same ticket, with another key.
        for issued in self.book.issued.values_mut() {
            if issued.redeemed.contains_key(&peer) {
                issued.uses_left = 0;
            }
        }
        self.is_dirty = true;
        true
    }

    /// Says that this node leaves.
    pub fn farewell(&self, now_s: u64) -> Result<Farewell, MembershipError> {
        let signature = [[0; 32]; 2];
        let (mesh, peer) = (self.book.mesh, self.own());
        // A clock that was put back does not keep it here.
        let issued_s = self.book.own.as_ref().map_or(0, |own| own.member.grant.issued_s);
        let at_s = now_s.max(issued_s);
        let mut farewell = Farewell { mesh, peer, at_s, signature };
        farewell.signature = self.node.sign(&farewell.signed_bytes().map_err(self.damaged())?);
        Ok(farewell)
    }

    /// Is it no news?
    pub fn has_heard(&self, farewell: &Farewell) -> bool {
        let known = self.book.farewells.get(&farewell.peer);
        known.is_some_and(|known| known.at_s >= farewell.at_s)
    }

    /// Takes note of a farewell that was verified. True if it is news.
    pub fn learn_farewell(&mut self, farewell: &Farewell) -> bool {
        let (peer, at_s) = (farewell.peer, farewell.at_s);
        if peer == self.own() || self.has_heard(farewell) {
            return false;
        }
        let is_known = self.book.farewells.contains_key(&peer);
        if !is_known && self.book.farewells.len() >= limits::FAREWELLS_KEPT {
            let oldest = self.book.farewells.values().min_by_key(|known| known.at_s);
            match oldest.map(|oldest| (oldest.peer, oldest.at_s)) {
                Some((oldest, since_s)) if since_s < at_s => self.book.farewells.remove(&oldest),
                _ => return false,
            };
        }
        self.book.farewells.insert(peer, farewell.clone());
        self.book.members.retain(|_, member| !farewell.ends(&member.certificate));
        self.is_dirty = true;
        true
    }

    /// Its owner wants to see a member no more, unless it comes back.
    pub fn forget(&mut self, peer: PeerId, now_s: u64) -> Result<(), MembershipError> {
        self.book.members.remove(&peer).ok_or(MembershipError::UnknownMember)?;
        self.book.forgotten.insert(peer, now_s);
        self.is_dirty = true;
        Ok(())
    }

    /// Forgets what nobody needs any more.
    pub fn forget_absent(&mut self, now_s: u64) {
        let before = self.book.members.len() + self.book.farewells.len();
        self.book.members.retain(|_, member| {
            let grant = &member.certificate.member.grant;
            grant.expires_s > now_s && !is_absent(grant, member.seen_s, now_s)
        });
        self.book
            .farewells
            .retain(|_, farewell| farewell.at_s.saturating_add(CERTIFICATE_S) > now_s);
        // Whoever was not seen since then is absent by now.
        self.book.forgotten.retain(|_, since_s| since_s.saturating_add(ABSENT_S) > now_s);
        self.is_dirty |= before != self.book.members.len() + self.book.farewells.len();
    }

    /// A member has shown its certificate itself, now.
    pub(super) fn comes(&mut self, certificate: Certificate, now_s: u64) {
        self.book.forgotten.remove(&certificate.peer());
        self.learn_member(certificate, &[], (now_s, now_s));
    }

    /// Takes note of a member whose certificate was verified, and that somebody met at that time.
    /// True if it, or one of its addresses, is news.
    pub fn learn_member(
        &mut self,
        certificate: Certificate,
        addresses: &[String],
        (seen_s, now_s): (u64, u64),
    ) -> bool {
        let peer = certificate.peer();
        let seen_s = seen_s.min(now_s);
        if peer == self.own() || !self.is_welcome(&certificate, seen_s, now_s) {
            return false;
        }
        self.book.forgotten.remove(&peer);
        if !self.book.members.contains_key(&peer) && !self.make_room() {
            return false;
        }
        let mut is_news = !self.book.members.contains_key(&peer);
        let new = Member { certificate: certificate.clone(), addresses: vec![], met_s: 0, seen_s };
        let member = self.book.members.entry(peer).or_insert(new);
        if member.seen_s.saturating_add(SEEN_STEP_S) <= seen_s {
            member.seen_s = seen_s;
            self.is_dirty = true;
        }
        if member.certificate.member.grant.issued_s < certificate.member.grant.issued_s {
            member.certificate = certificate;
            is_news = true;
        }
        for address in addresses {
            if !member.addresses.contains(address) && member.addresses.len() < limits::ADDRESSES {
                member.addresses.push(address.clone());
                is_news = true;
            }
        }
        self.is_dirty |= is_news;
        is_news
    }

    /// May it be in the list: was it not revoked, has it not left, and is it not gone for long?
    fn is_welcome(&self, certificate: &Certificate, seen_s: u64, now_s: u64) -> bool {
        let peer = certificate.peer();
        let admin = certificate.admin.as_ref().map(|admin| admin.grant.peer);
        let is_revoked = self.is_revoked(peer) || admin.is_some_and(|admin| self.is_revoked(admin));
        let has_left =
            self.book.farewells.get(&peer).is_some_and(|farewell| farewell.ends(certificate));
        let is_forgotten = self.book.forgotten.get(&peer).is_some_and(|since_s| seen_s <= *since_s);
        let grant = &certificate.member.grant;
        !is_revoked && !has_left && !is_forgotten && !is_absent(grant, seen_s, now_s)
    }

    /// Forgets a member that was never met if there are too many.
    fn make_room(&mut self) -> bool {
        if self.book.members.len() < limits::MEMBERS_KEPT {
            return true;
        }
        let oldest = self.book.members.iter().min_by_key(|(_, member)| member.met_s);
        match oldest.map(|(peer, member)| (*peer, member.met_s)) {
            Some((peer, 0)) => self.book.members.remove(&peer).is_some(),
            _ => false,
        }
    }

    /// A member told where it is, itself: that replaces what others said.
    pub fn set_addresses(&mut self, peer: PeerId, addresses: &[String]) {
        let few = addresses.iter().take(limits::ADDRESSES);
        if let Some(member) = self.book.members.get_mut(&peer)
            && !addresses.is_empty()
            && !few.clone().eq(&member.addresses)
        {
            member.addresses = few.cloned().collect();
            self.is_dirty = true;
        }
    }

    /// We met, at this address if we dialled it.
    pub fn met(&mut self, peer: PeerId, address: Option<String>, now_s: u64) {
        let Some(member) = self.book.members.get_mut(&peer) else { return };
        (member.met_s, member.seen_s) = (now_s, now_s);
        if let Some(address) = address {
            member.addresses.retain(|known| *known != address);
            member.addresses.insert(0, address);
            member.addresses.truncate(limits::ADDRESSES);
        }
        self.is_dirty = true;
    }

    /// A member is connected still.
    pub fn sees(&mut self, peer: PeerId, now_s: u64) {
        if let Some(member) = self.book.members.get_mut(&peer)
            && member.met_s.saturating_add(SEEN_STEP_S) <= now_s
        {
            (member.met_s, member.seen_s) = (now_s, now_s);
            self.is_dirty = true;
        }
    }

    /// What to tell a member when we meet: ourselves first.
    pub fn roster(&self, own_addresses: Vec<String>, now_s: u64) -> Roster {
        let own = self.book.own.iter().map(|certificate| RosterMember {
            certificate: certificate.clone(),
            addresses: own_addresses.clone(),
            seen_s: now_s,
        });
        let others = self.book.members.values().map(|member| RosterMember {
            certificate: member.certificate.clone(),
            addresses: member.addresses.clone(),
            seen_s: member.seen_s,
        });
        Roster {
            members: own.chain(others).collect(),
            revocations: self.book.revocations.values().cloned().collect(),
            farewells: self.book.farewells.values().cloned().collect(),
        }
    }

    /// Writes the file as a whole.
    fn write(&self) -> Result<(), MembershipError> {
        let bytes = codec::encode(BOOK, &self.book).map_err(self.damaged())?;
        let written = write_private(&self.path, &bytes, Replace::Always);
        Ok(written.map_err(IdentityError::io("write", &self.path))?)
    }

    fn damaged(&self) -> impl Fn(codec::CodecError) -> MembershipError {
        let path = self.path.clone();
        move |source| MembershipError::Damaged { path: path.clone(), source }
    }

    fn may_sign(&self, roles: Roles, now_s: u64) -> bool {
        let own = self.roles(self.own(), now_s);
        let is_admin = own.is_some_and(|own| own.include(Roles::ADMIN));
        self.mesh_key.is_some() || (is_admin && !roles.include(Roles::ADMIN))
    }

    fn grant(&self, peer: PeerId, roles: Roles, name: &str, now_s: u64, life_s: u64) -> Grant {
        let expires_s = now_s.saturating_add(life_s);
        let name = clean_name(name);
        Grant { mesh: self.book.mesh, peer, roles, name, issued_s: now_s, expires_s }
    }

    fn certify(&self, grant: Grant, now_s: u64) -> Result<Certificate, MembershipError> {
        if !self.may_sign(grant.roles, now_s) {
            return Err(MembershipError::NotAdmin);
        }
        let bytes = grant.signed_bytes().map_err(self.damaged())?;
        let (signer, admin) = match &self.mesh_key {
            Some(key) => (key, None),
            None => (&self.node, self.book.own.as_ref().map(|own| own.member.clone())),
        };
        Ok(Certificate { member: SignedGrant { grant, signature: signer.sign(&bytes) }, admin })
    }
}

impl Verifier for Membership {
    fn verify(&self, key: &[u8; 32], message: &[u8], signature: &Signature) -> bool {
        Ed25519.verify(key, message, signature)
    }
}

impl Judge for Membership {
    fn is_revoked(&self, peer: PeerId) -> bool {
        self.book.revocations.contains_key(&peer)
    }

    fn secret(&self, ticket: TicketId) -> Option<Secret> {
        self.book.issued.get(&ticket).map(|issued| issued.secret)
    }
}

/// A membership that the connections and the loop of one node share. Locked for a look or a
/// change, never while waiting for a peer or the disk.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    membership: Arc<Mutex<Membership>>,
    /// Held by whoever writes the file.
    writing: Arc<Mutex<()>>,
}

impl Shared {
    pub(super) fn new(membership: Membership) -> Self {
        Self { membership: Arc::new(Mutex::new(membership)), writing: Arc::default() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Membership> {
        self.membership.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// [`Membership::commit`] on a thread that may wait for the disk. What was learned meanwhile
    /// stays: the change is made twice, and the second time it must do what it did the first time.
    pub(super) async fn commit<T, E>(
        &self,
        change: impl Fn(&mut Membership) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<MembershipError> + Send + 'static,
    {
        let shared = self.clone();
        let committed = tokio::task::spawn_blocking(move || {
            let _writing = shared.writing.lock().unwrap_or_else(PoisonError::into_inner);
            let mut changed = shared.lock().clone();
            change(&mut changed)?;
            changed.write()?;
            change(&mut shared.lock())
        });
        committed.await.unwrap_or_else(|_| Err(MembershipError::Interrupted.into()))
    }

    /// Writes what was learned since the last time. Waits for the disk.
    pub(super) fn save(&self) -> Result<(), MembershipError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let learned = {
            let mut membership = self.lock();
            std::mem::take(&mut membership.is_dirty).then(|| membership.clone())
        };
        let Some(learned) = learned else { return Ok(()) };
        // What cannot be written now is tried again.
        learned.write().inspect_err(|_| self.lock().is_dirty = true)
    }
}

impl From<MembershipError> for Refusal {
    fn from(error: MembershipError) -> Self {
        tracing::error!("a ticket could not be redeemed: {error}");
        Self::NotGranted
    }
}

#[cfg(test)]
mod tests;
