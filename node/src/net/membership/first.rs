//! The file as its first version had it, so that who updates stays a member.

use std::collections::BTreeMap;

use mesh_protocol::codec::{self, CodecError, Format};
use mesh_protocol::peer::PeerId;
use mesh_protocol::wire::admission::{Certificate, MeshId, Revocation, Ticket, TicketId};
use serde::{Deserialize, Serialize};

use super::{Issued, now_s};

const BOOK: Format = Format { magic: *b"\x89MBOOK\0\x01", ..super::BOOK };

#[derive(Serialize, Deserialize)]
struct Book {
    mesh: MeshId,
    own: Option<Certificate>,
    ticket: Option<Ticket>,
    name: String,
    members: BTreeMap<PeerId, Member>,
    revocations: BTreeMap<PeerId, Revocation>,
    issued: BTreeMap<TicketId, Issued>,
}

#[derive(Serialize, Deserialize)]
struct Member {
    certificate: Certificate,
    addresses: Vec<String>,
    met_s: u64,
}

/// What is in such a file; `None` if it is of another version.
pub(super) fn decode(bytes: &[u8]) -> Option<Result<super::Book, CodecError>> {
    match codec::decode::<Book>(BOOK, bytes) {
        Err(CodecError::Version(_)) => None,
        other => Some(other.map(Book::into_now)),
    }
}

impl Book {
    fn into_now(self) -> super::Book {
        let Self { mesh, own, ticket, name, members, revocations, issued } = self;
        // Nobody kept when others were seen: their time begins now.
        let seen_s = now_s();
        let members = members.into_iter().map(|(peer, member)| {
            let Member { certificate, addresses, met_s } = member;
            (peer, super::Member { certificate, addresses, met_s, seen_s })
        });
        super::Book {
            mesh,
            own,
            ticket,
            name,
            is_ephemeral: false,
            members: members.collect(),
            revocations,
            farewells: BTreeMap::new(),
            forgotten: BTreeMap::new(),
            issued,
        }
    }
}

/// Writes it as that version did.
#[cfg(test)]
pub(super) fn encode(book: &super::Book) -> Vec<u8> {
    let super::Book { mesh, own, ticket, name, members, revocations, issued, .. } = book.clone();
    let members = members.into_iter().map(|(peer, member)| {
        let super::Member { certificate, addresses, met_s, .. } = member;
        (peer, Member { certificate, addresses, met_s })
    });
    let members = members.collect();
    let book = Book { mesh, own, ticket, name, members, revocations, issued };
    codec::encode(BOOK, &book).unwrap()
}
