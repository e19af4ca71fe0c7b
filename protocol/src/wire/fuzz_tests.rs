//! Every kind of bytes that a peer can send, damaged in many ways: refused, or a message like any
//! other, and never more memory than was sent.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::admission::{
    ADMISSION_FORMAT, CERTIFICATE_FORMAT, Certificate, Farewell, FromDialer, FromListener, Grant,
    MeshId, REVOCATION_FORMAT, Refusal, Revocation, Roles, SignedGrant, TicketId,
};
use super::claim::{CLAIM_FORMAT, FromRequester, FromWorker, LEASE_FORMAT};
use super::offer::{OFFER_FORMAT, Offer};
use super::records::tests::{askers, holders, records};
use super::records::{
    FromAsker, FromHolder, RECORD_FORMAT, RECORDS_ASK_FORMAT, RECORDS_TELL_FORMAT, Record,
};
use super::roster::{ROSTER_FORMAT, Roster, RosterMember};
use super::tests::{from_requesters, from_workers, offers, reductions, values};
use super::transfer::{Answer, Encoding, PIECE_FORMAT, WANT_FORMAT, Want, WantedRange};
use crate::codec::CodecError;
use crate::limits;
use crate::peer::PeerId;
use crate::thunk::{REDUCTION_FORMAT, Reduction, THUNK_FORMAT, Thunk};
use crate::tree::{TREE_FORMAT, Tree, TreeEntry};

/// Reads a message of one kind and writes it again.
type Again = fn(&[u8]) -> Result<Vec<u8>, CodecError>;

/// All kinds: those of streams and gossip, and objects that are read when they have come. A new
/// message belongs here.
const KINDS: [(&str, [u8; 8], Again); 16] = [
    ("offer", OFFER_FORMAT.magic, |bytes| Offer::decode(bytes)?.encode()),
    ("from worker", CLAIM_FORMAT.magic, |bytes| FromWorker::decode(bytes)?.encode()),
    ("from requester", LEASE_FORMAT.magic, |bytes| FromRequester::decode(bytes)?.encode()),
    ("want", WANT_FORMAT.magic, |bytes| Want::decode(bytes)?.encode()),
    ("answer", PIECE_FORMAT.magic, |bytes| Answer::decode(bytes)?.encode()),
    ("from listener", ADMISSION_FORMAT.magic, |bytes| FromListener::decode(bytes)?.encode()),
    ("from dialer", ADMISSION_FORMAT.magic, |bytes| FromDialer::decode(bytes)?.encode()),
    ("certificate", CERTIFICATE_FORMAT.magic, |bytes| Certificate::decode(bytes)?.encode()),
    ("revocation", REVOCATION_FORMAT.magic, |bytes| Revocation::decode(bytes)?.encode()),
    ("from asker", RECORDS_ASK_FORMAT.magic, |bytes| FromAsker::decode(bytes)?.encode()),
    ("from holder", RECORDS_TELL_FORMAT.magic, |bytes| FromHolder::decode(bytes)?.encode()),
    ("record", RECORD_FORMAT.magic, |bytes| Record::decode(bytes)?.encode()),
    ("roster", ROSTER_FORMAT.magic, |bytes| Roster::decode(bytes)?.encode()),
    ("tree", TREE_FORMAT.magic, |bytes| Tree::decode(bytes)?.encode()),
    ("thunk", THUNK_FORMAT.magic, |bytes| Ok(Thunk::decode(bytes)?.encode()?.1)),
    ("reduction", REDUCTION_FORMAT.magic, |bytes| Reduction::decode(bytes)?.encode()),
];

fn grants() -> impl Strategy<Value = SignedGrant> {
    let roles = prop_oneof![Just(Roles::WORKER), Just(Roles::MEMBER), Just(Roles::ADMIN)];
    let grant = (any::<[u8; 32]>(), any::<[u8; 32]>(), roles, "[a-z]{1,20}", any::<(u64, u64)>());
    let grant = grant.prop_map(|(mesh, peer, roles, name, (issued_s, expires_s))| Grant {
        mesh: MeshId(mesh),
        peer: PeerId(peer),
        roles,
        name,
        issued_s,
        expires_s,
    });
    (grant, any::<[[u8; 32]; 2]>()).prop_map(|(grant, signature)| SignedGrant { grant, signature })
}

fn certificates() -> impl Strategy<Value = Certificate> {
    (grants(), proptest::option::of(grants()))
        .prop_map(|(member, admin)| Certificate { member, admin })
}

fn revocations() -> impl Strategy<Value = Revocation> {
    let admin = proptest::option::of(grants());
    (any::<[u8; 32]>(), any::<[u8; 32]>(), any::<u64>(), admin, any::<[[u8; 32]; 2]>()).prop_map(
        |(mesh, peer, at_s, admin, signature)| Revocation {
            mesh: MeshId(mesh),
            peer: PeerId(peer),
            at_s,
            admin,
            signature,
        },
    )
}

fn listeners() -> impl Strategy<Value = FromListener> {
    let challenge = any::<([u8; 32], [u8; 32])>()
        .prop_map(|(nonce, proof)| FromListener::Challenge { nonce, proof });
    let welcome = (certificates(), proptest::option::of(certificates())).prop_map(
        |(certificate, granted)| FromListener::Welcome {
            certificate: Box::new(certificate),
            granted: granted.map(Box::new),
        },
    );
    prop_oneof![challenge, welcome, Just(FromListener::Refused(Refusal::Expired))]
}

fn dialers() -> impl Strategy<Value = FromDialer> {
    let ticket = (any::<[u8; 16]>(), any::<[u8; 32]>(), "[a-z]{1,20}", any::<bool>()).prop_map(
        |(id, proof, name, is_ephemeral)| FromDialer::Ticket {
            id: TicketId(id),
            proof,
            name,
            is_ephemeral,
        },
    );
    let certificate = certificates().prop_map(|one| FromDialer::Certificate(Box::new(one)));
    prop_oneof![ticket, certificate]
}

fn rosters() -> impl Strategy<Value = Roster> {
    let addresses = vec("/ip4/10\\.0\\.0\\.[1-9]/tcp/[1-9]{1,4}", 0..3);
    let member =
        (certificates(), addresses, any::<u64>()).prop_map(|(certificate, addresses, seen_s)| {
            RosterMember { certificate, addresses, seen_s }
        });
    let farewell = any::<([u8; 32], [u8; 32], u64, [[u8; 32]; 2])>().prop_map(
        |(mesh, peer, at_s, signature)| Farewell {
            mesh: MeshId(mesh),
            peer: PeerId(peer),
            at_s,
            signature,
        },
    );
    (vec(member, 0..3), vec(revocations(), 0..3), vec(farewell, 0..3))
        .prop_map(|(members, revocations, farewells)| Roster { members, revocations, farewells })
}

fn wants() -> impl Strategy<Value = Want> {
    let real = values().prop_filter("no bytes", |name| name.digest().length > 0);
    let range = real.prop_map(|name| {
        let length = name.digest().length.min(limits::TRANSFER_PIECE_BYTES.into());
        WantedRange { name, start: 0, length }
    });
    vec(range, 1..5).prop_map(|items| Want { items })
}

fn answers() -> impl Strategy<Value = Answer> {
    let proofs = vec(any::<[u8; 32]>(), 0..=limits::TRANSFER_PROOF_HASHES);
    let items = 0..limits::TRANSFER_WANTS as u32;
    let piece =
        (items, 1..=limits::TRANSFER_PIECE_BYTES, proofs).prop_map(|(item, length, proof)| {
            Answer::Piece { item, length, encoding: Encoding::Plain, proof }
        });
    prop_oneof![piece, (0..limits::TRANSFER_WANTS as u32).prop_map(|item| Answer::Missing { item })]
}

fn trees() -> impl Strategy<Value = Tree> {
    let entry = prop_oneof![
        (values(), any::<bool>())
            .prop_map(|(name, executable)| TreeEntry::File { name, executable }),
        values().prop_map(TreeEntry::Directory),
        "[a-z/]{1,9}".prop_map(TreeEntry::Symlink),
    ];
    proptest::collection::btree_map("[a-z]{1,9}", entry, 0..5)
        .prop_map(|entries: BTreeMap<String, TreeEntry>| Tree::new(entries).unwrap())
}

/// A good message of any kind.
fn messages() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        offers().prop_map(|message| message.encode().unwrap()),
        from_workers().prop_map(|message| message.encode().unwrap()),
        from_requesters().prop_map(|message| message.encode().unwrap()),
        wants().prop_map(|message| message.encode().unwrap()),
        answers().prop_map(|message| message.encode().unwrap()),
        listeners().prop_map(|message| message.encode().unwrap()),
        dialers().prop_map(|message| message.encode().unwrap()),
        certificates().prop_map(|message| message.encode().unwrap()),
        revocations().prop_map(|message| message.encode().unwrap()),
        rosters().prop_map(|message| message.encode().unwrap()),
        askers().prop_map(|message| message.encode().unwrap()),
        holders().prop_map(|message| message.encode().unwrap()),
        records(2).prop_map(|records| records[0].encode().unwrap()),
        trees().prop_map(|message| message.encode().unwrap()),
        reductions().prop_map(|message| message.encode().unwrap()),
    ]
}

/// One thing that happens to bytes.
#[derive(Clone, Debug)]
enum Damage {
    Set(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, Vec<u8>),
    Repeat(prop::sample::Index, prop::sample::Index),
}

fn damages() -> impl Strategy<Value = Damage> {
    let at = any::<prop::sample::Index>;
    // The largest lengths of the encoding among them.
    let inserted = prop_oneof![
        vec(any::<u8>(), 1..20),
        Just(vec![251, 255, 255]),
        Just(vec![252, 255, 255, 255, 255]),
        Just(vec![253, 255, 255, 255, 255, 255, 255, 255, 127]),
    ];
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, with)| Damage::Set(at, with)),
        at().prop_map(Damage::Cut),
        (at(), inserted).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        (at(), at()).prop_map(|(from, to)| Damage::Repeat(from, to)),
    ]
}

impl Damage {
    fn apply(self, bytes: &mut Vec<u8>) {
        let length = bytes.len();
        if length == 0 {
            return;
        }
        match self {
            Self::Set(at, with) => bytes[at.index(length)] = with,
            Self::Cut(at) => bytes.truncate(at.index(length)),
            Self::Insert(at, inserted) => {
                let at = at.index(length);
                bytes.splice(at..at, inserted);
            }
            Self::Repeat(one, two) => {
                let (one, two) = (one.index(length), two.index(length));
                let part = bytes[one.min(two)..one.max(two)].to_vec();
                bytes.extend(part);
            }
        }
    }
}

/// The kinds that take these bytes; each must write them again, byte for byte.
fn takers(bytes: &[u8]) -> Vec<&'static str> {
    let taken = KINDS.iter().filter_map(|(kind, _, again)| Some((*kind, again(bytes).ok()?)));
    let check = |(kind, again): (&'static str, Vec<u8>)| {
        assert_eq!(again, bytes, "{kind} takes what it would not write");
        kind
    };
    taken.map(check).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    /// Also behind a right beginning, which random bytes hardly have.
    #[test]
    fn arbitrary_bytes(kind in 0..KINDS.len(), rest in vec(any::<u8>(), 0..400)) {
        takers(&rest);
        takers(&[KINDS[kind].1.as_slice(), &rest].concat());
    }

    #[test]
    fn good_messages_are_of_one_kind(message in messages()) {
        prop_assert_eq!(takers(&message).len(), 1);
    }

    #[test]
    fn damaged_messages(mut message in messages(), damages in vec(damages(), 1..5)) {
        for damage in damages {
            damage.apply(&mut message);
            takers(&message);
        }
    }

    /// The end of one message behind the beginning of another.
    #[test]
    fn spliced_messages(one in messages(), two in messages(), at in any::<(prop::sample::Index, prop::sample::Index)>()) {
        takers(&[&one[..at.0.index(one.len())], &two[at.1.index(two.len())..]].concat());
    }
}

/// More bytes than a kind may have are refused before they are read.
#[test]
fn longer_than_any_message() {
    let mut bytes = vec![0; limits::THUNK_BYTES as usize + 9];
    for (kind, magic, again) in KINDS {
        bytes[..8].copy_from_slice(&magic);
        assert!(matches!(again(&bytes), Err(CodecError::TooLong { .. })), "{kind}");
    }
}
