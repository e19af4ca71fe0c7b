//! Two ends, a judge each, and everything in between that goes wrong.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::time::Time;

const MESH: MeshId = MeshId([100; 32]);
const LISTENER: PeerId = PeerId([1; 32]);
const DIALER: PeerId = PeerId([2; 32]);
const ADMIN: PeerId = PeerId([3; 32]);
const STRANGER: PeerId = PeerId([4; 32]);
const NOW_S: u64 = 1_800_000_000;
const SECRET: Secret = Secret([9; 32]);

/// Signatures as good as the real ones among those who do not look into this file.
fn sign(key: &[u8; 32], message: &[u8]) -> Signature {
    let mut signature = [0; 64];
    blake3::Hasher::new_keyed(key).update(message).finalize_xof().fill(&mut signature);
    let half = |from: usize| std::array::from_fn(|at| signature[from + at]);
    [half(0), half(32)]
}

#[derive(Default)]
struct Node {
    revoked: BTreeSet<PeerId>,
    tickets: BTreeMap<TicketId, Secret>,
}

impl Verifier for Node {
    fn verify(&self, key: &[u8; 32], message: &[u8], signature: &Signature) -> bool {
        sign(key, message) == *signature
    }
}

impl Judge for Node {
    fn is_revoked(&self, peer: PeerId) -> bool {
        self.revoked.contains(&peer)
    }

    fn secret(&self, ticket: TicketId) -> Option<Secret> {
        self.tickets.get(&ticket).copied()
    }
}

fn grant(peer: PeerId, roles: Roles) -> Grant {
    let (issued_s, expires_s) = (NOW_S - 100, NOW_S + 100);
    Grant { mesh: MESH, peer, roles, name: "a".to_owned(), issued_s, expires_s }
}

fn signed(grant: Grant, key: [u8; 32]) -> SignedGrant {
    SignedGrant { signature: sign(&key, &grant.signed_bytes().unwrap()), grant }
}

fn certificate(peer: PeerId) -> Certificate {
    Certificate { member: signed(grant(peer, Roles::MEMBER), MESH.0), admin: None }
}

fn by_admin(peer: PeerId, roles: Roles) -> Certificate {
    let admin = Some(signed(grant(ADMIN, Roles::ADMIN), MESH.0));
    Certificate { member: signed(grant(peer, roles), ADMIN.0), admin }
}

fn session(own: PeerId, other: PeerId) -> Session {
    Session { mesh: MESH, own, other, now_s: NOW_S, patience_us: 1000 }
}

/// How both ends of one connection ended, and what the dialer heard.
#[derive(Debug, Default)]
struct Ends {
    dialer: Option<Output>,
    listener: Option<Output>,
    sent_by_dialer: Vec<Vec<u8>>,
    sent_by_listener: Vec<Vec<u8>>,
    redeemed: u32,
}

/// Runs one connection to its end.
struct Run {
    node: Node,
    dialer: PeerId,
    dialer_session: Session,
    pass: Pass,
    nonce: [u8; 32],
    grants: Result<(), Refusal>,
}

impl Run {
    fn new(pass: Pass) -> Self {
        let node = Node { tickets: BTreeMap::from([(SECRET.id(), SECRET)]), ..Node::default() };
        let dialer_session = session(DIALER, LISTENER);
        Self { node, dialer: DIALER, dialer_session, pass, nonce: [5; 32], grants: Ok(()) }
    }

    fn showing(certificate: Certificate) -> Self {
        Self::new(Pass::Certificate(Box::new(certificate)))
    }

    fn ends(self) -> Ends {
        let now = Time::ZERO;
        let mut ends = Ends::default();
        let mut dialer = Admission::dial(now, self.dialer_session, self.pass);
        let (mut from_listener, mut from_dialer) = (Vec::new(), Vec::new());
        let own = Box::new(certificate(LISTENER));
        let at_listener = session(LISTENER, self.dialer);
        let mut listener = Admission::listen(now, at_listener, own, self.nonce, &mut from_listener);
        while !(from_listener.is_empty() && from_dialer.is_empty()) {
            for output in std::mem::take(&mut from_listener) {
                match output {
                    Output::Send(bytes) => {
                        dialer.handle(now, Input::Message(&bytes), &self.node, &mut from_dialer);
                        ends.sent_by_listener.push(bytes);
                    }
                    Output::Redeem { ticket, name, .. } => {
                        assert_eq!((ticket, name.as_str()), (SECRET.id(), "new"));
                        ends.redeemed += 1;
                        let granted = self.grants.map(|()| Box::new(certificate(self.dialer)));
                        let input = Input::Granted(granted);
                        listener.handle(now, input, &self.node, &mut from_listener);
                    }
                    end => {
                        if matches!(end, Output::Refused(_)) {
                            dialer.handle(now, Input::Closed, &self.node, &mut from_dialer);
                        }
                        assert!(ends.listener.replace(end).is_none());
                    }
                }
            }
            for output in std::mem::take(&mut from_dialer) {
                match output {
                    Output::Send(bytes) => {
                        listener.handle(
                            now,
                            Input::Message(&bytes),
                            &self.node,
                            &mut from_listener,
                        );
                        ends.sent_by_dialer.push(bytes);
                    }
                    Output::Redeem { .. } => panic!("a dialer redeems nothing"),
                    end => {
                        if matches!(end, Output::Refused(_)) {
                            listener.handle(now, Input::Closed, &self.node, &mut from_listener);
                        }
                        assert!(ends.dialer.replace(end).is_none());
                    }
                }
            }
        }
        assert!(dialer.is_done() && listener.is_done());
        ends
    }

    /// The listener refuses for that reason; the dialer hears it, or nothing at all.
    fn ends_with(self, refusal: Refusal) {
        let ends = self.ends();
        assert_eq!(ends.listener, Some(Output::Refused(refusal)));
        let told = if refusal.is_told() { refusal } else { Refusal::Closed };
        assert_eq!(ends.dialer, Some(Output::Refused(told)));
        // The challenge, and no word more for strangers.
        assert_eq!(ends.sent_by_listener.len(), if refusal.is_told() { 2 } else { 1 });
    }
}

fn ticket() -> Pass {
    Pass::Ticket { secret: SECRET, name: "new".to_owned(), is_ephemeral: false }
}

#[test]
fn members_meet() {
    for certificate in [certificate(DIALER), by_admin(DIALER, Roles::WORKER)] {
        let ends = Run::showing(certificate.clone()).ends();
        let theirs = Box::new(self::certificate(LISTENER));
        let admitted = |certificate| Some(Output::Admitted { certificate, granted: None });
        assert_eq!(ends.dialer, admitted(theirs));
        assert_eq!(ends.listener, admitted(Box::new(certificate)));
    }
}

#[test]
fn a_ticket_makes_a_member() {
    let ends = Run::new(ticket()).ends();
    let theirs = Box::new(certificate(LISTENER));
    let granted = Box::new(certificate(DIALER));
    let granted_too = Some(granted.clone());
    assert_eq!(ends.dialer, Some(Output::Admitted { certificate: theirs, granted: granted_too }));
    assert_eq!(ends.listener, Some(Output::Admitted { certificate: granted, granted: None }));
    assert_eq!(ends.redeemed, 1);
    let secret_is_in = |bytes: &Vec<u8>| bytes.windows(32).any(|window| window == SECRET.0);
    assert!(!ends.sent_by_dialer.iter().any(secret_is_in));
}

#[test]
fn certificates_that_do_not_hold_are_refused() {
    let with = |change: fn(&mut Grant)| {
        let mut grant = grant(DIALER, Roles::MEMBER);
        change(&mut grant);
        Run::showing(Certificate { member: signed(grant, MESH.0), admin: None })
    };
    with(|grant| grant.expires_s = NOW_S).ends_with(Refusal::Expired);
    with(|grant| grant.issued_s = NOW_S + 301).ends_with(Refusal::NotYet);
    with(|grant| grant.mesh = MeshId([101; 32])).ends_with(Refusal::WrongMesh);
    Run::showing(certificate(ADMIN)).ends_with(Refusal::OfAnother);
    // An expired one that nobody signed is not told that it has expired.
    let mut forged = certificate(DIALER);
    forged.member.grant.expires_s = NOW_S - 1;
    Run::showing(forged).ends_with(Refusal::Forged);
    let own = Certificate { member: signed(grant(DIALER, Roles::MEMBER), DIALER.0), admin: None };
    Run::showing(own).ends_with(Refusal::Forged);
}

#[test]
fn chains_that_do_not_hold_are_refused() {
    Run::showing(by_admin(DIALER, Roles::ADMIN)).ends_with(Refusal::Forged);
    let chain = |change: fn(&mut Grant), key: [u8; 32]| {
        let mut admin = grant(ADMIN, Roles::ADMIN);
        change(&mut admin);
        let member = signed(grant(DIALER, Roles::MEMBER), ADMIN.0);
        Run::showing(Certificate { member, admin: Some(signed(admin, key)) })
    };
    chain(|_| (), ADMIN.0).ends_with(Refusal::Forged);
    chain(|admin| admin.roles = Roles::MEMBER, MESH.0).ends_with(Refusal::Forged);
    chain(|admin| admin.expires_s = NOW_S, MESH.0).ends_with(Refusal::Expired);
    chain(|admin| admin.peer = STRANGER, MESH.0).ends_with(Refusal::Forged);
}

#[test]
fn who_was_revoked_is_told_so() {
    for revoked in [DIALER, ADMIN] {
        let mut run = Run::showing(by_admin(DIALER, Roles::MEMBER));
        run.node.revoked.insert(revoked);
        run.ends_with(Refusal::Revoked);
    }
    let mut run = Run::new(ticket());
    run.node.revoked.insert(DIALER);
    run.ends_with(Refusal::Revoked);
}

#[test]
fn tickets_that_are_over_or_not_ours_are_refused() {
    for refusal in [Refusal::TicketUsedUp, Refusal::TicketExpired] {
        let mut run = Run::new(ticket());
        run.grants = Err(refusal);
        run.ends_with(refusal);
    }
    let other =
        Pass::Ticket { secret: Secret([8; 32]), name: "new".to_owned(), is_ephemeral: false };
    Run::new(other).ends_with(Refusal::UnknownTicket);
}

/// What was recorded on one connection is worth nothing on another one.
#[test]
fn recorded_messages_are_refused() {
    let proof = Run::new(ticket()).ends().sent_by_dialer.remove(0);
    let shown = Run::showing(certificate(DIALER)).ends().sent_by_dialer.remove(0);
    let replay = |message: &[u8], other, nonce| {
        let node = Run::new(ticket()).node;
        let mut out = Vec::new();
        let own = Box::new(certificate(LISTENER));
        let mut listener =
            Admission::listen(Time::ZERO, session(LISTENER, other), own, nonce, &mut out);
        out.clear();
        listener.handle(Time::ZERO, Input::Message(message), &node, &mut out);
        out
    };
    let unknown = [Output::Refused(Refusal::UnknownTicket)];
    assert_eq!(replay(&proof, STRANGER, [5; 32]), unknown);
    assert_eq!(replay(&proof, DIALER, [6; 32]), unknown);
    assert_eq!(replay(&shown, STRANGER, [5; 32]), [Output::Refused(Refusal::OfAnother)]);
    // The very connection it was made for.
    assert!(matches!(replay(&proof, DIALER, [5; 32])[..], [Output::Redeem { .. }]));
}

#[test]
fn a_dialer_shows_nothing_to_who_does_not_know_the_mesh() {
    let mut run = Run::showing(certificate(DIALER));
    run.dialer_session.mesh = MeshId([101; 32]);
    let ends = run.ends();
    assert_eq!(ends.dialer, Some(Output::Refused(Refusal::WrongMesh)));
    assert!(ends.sent_by_dialer.is_empty());
    // Nor to a listener that says what another one said.
    let mut run = Run::showing(certificate(DIALER));
    run.dialer_session.other = STRANGER;
    assert!(run.ends().sent_by_dialer.is_empty());
}

#[test]
fn who_is_silent_is_not_waited_for() {
    let mut out = Vec::new();
    let own = Box::new(certificate(LISTENER));
    let at = session(LISTENER, DIALER);
    let mut machine = Admission::listen(Time::ZERO, at, own, [5; 32], &mut out);
    let deadline = machine.next_deadline().unwrap();
    assert_eq!(deadline, Time::from_us(1000));
    out.clear();
    machine.handle_timeout(Time::from_us(999), &mut out);
    assert_eq!(out, []);
    machine.handle_timeout(deadline, &mut out);
    let late = FromDialer::Certificate(Box::new(certificate(DIALER))).encode().unwrap();
    machine.handle(deadline, Input::Message(&late), &Node::default(), &mut out);
    assert_eq!(out, [Output::Refused(Refusal::TimedOut)]);
    assert_eq!(machine.next_deadline(), None);
}

#[test]
fn only_who_knows_the_mesh_knocks_right() {
    let right = knock(MESH, [1; 8]);
    assert!(is_knock(MESH, &right));
    assert!(!is_knock(MeshId([101; 32]), &right));
    for at in 0..right.len() {
        let mut wrong = right;
        wrong[at] ^= 1;
        assert!(!is_knock(MESH, &wrong));
    }
}

#[test]
fn revocations_hold_if_who_signed_them_may() {
    let revocation = |admin: Option<SignedGrant>, key: [u8; 32]| {
        let half = [0; 32];
        let mut made =
            Revocation { mesh: MESH, peer: DIALER, at_s: NOW_S, admin, signature: [half; 2] };
        made.signature = sign(&key, &made.signed_bytes().unwrap());
        let again = Revocation::decode(&made.encode().unwrap()).unwrap();
        assert_eq!(again, made);
        again.verify(MESH, NOW_S + 1000, &Node::default())
    };
    let admin = || Some(signed(grant(ADMIN, Roles::ADMIN), MESH.0));
    assert_eq!(revocation(None, MESH.0), Ok(()));
    // Also when the admin's own grant is over.
    assert_eq!(revocation(admin(), ADMIN.0), Ok(()));
    assert_eq!(revocation(None, ADMIN.0), Err(Refusal::Forged));
    let member = signed(grant(ADMIN, Roles::MEMBER), MESH.0);
    assert_eq!(revocation(Some(member), ADMIN.0), Err(Refusal::Forged));
}

#[test]
fn names_hide_nothing() {
    assert_eq!(clean_name("host\u{1b}[31m\n\u{202e}x"), "host[31mx");
    assert_eq!(clean_name(&"é".repeat(40)), "é".repeat(32));
    assert_eq!(clean_name("\n"), "unnamed");
    let mut certificate = certificate(DIALER);
    certificate.member.grant.name = "a\nb".to_owned();
    assert!(certificate.encode().is_err());
}

fn tickets() -> impl Strategy<Value = Ticket> {
    let addresses = vec("/(ip4|dns)/[a-z0-9.]{1,20}/tcp/[0-9]{1,5}", 0..=3);
    let ids = any::<[[u8; 32]; 3]>();
    (ids, addresses, any::<u32>(), any::<u64>()).prop_map(
        |([mesh, issuer, secret], addresses, uses, expires_s)| Ticket {
            mesh: MeshId(mesh),
            issuer: PeerId(issuer),
            addresses,
            secret: Secret(secret),
            roles: Roles::WORKER,
            uses,
            expires_s,
        },
    )
}

proptest! {
    #[test]
    fn tickets_survive_as_text(ticket in tickets()) {
        let text = ticket.to_string();
        prop_assert!(text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()));
        prop_assert_eq!(&text.parse::<Ticket>().unwrap(), &ticket);
        prop_assert_eq!(&format!(" {}\n", text.to_uppercase()).parse::<Ticket>().unwrap(), &ticket);
        let (shown, secret) = (format!("{ticket:?}"), format!("{:?}", ticket.secret.0));
        prop_assert!(!shown.contains(&secret));
    }

    #[test]
    fn mistyped_tickets_are_noticed(
        ticket in tickets(), at in any::<prop::sample::Index>(), with in "[a-z2-7]", cut in any::<bool>(),
    ) {
        let mut text = ticket.to_string();
        let at = at.index(text.len());
        match cut {
            true => text.truncate(at),
            false => text.replace_range(at..=at, &with),
        }
        prop_assume!(text != ticket.to_string());
        prop_assert!(text.parse::<Ticket>().is_err());
    }

    #[test]
    fn arbitrary_text_is_no_ticket(text in "(mesh1)?.{0,60}") {
        prop_assert!(text.parse::<Ticket>().is_err());
    }

    /// Whatever comes, and whenever: no harm, nobody admitted, at most one end.
    #[test]
    fn arbitrary_messages_let_nobody_in(
        messages in vec((prop::sample::select(vec![true, false]), vec(any::<u8>(), 0..200)), 1..4),
        listens in any::<bool>(),
    ) {
        let mut out = Vec::new();
        let own = Box::new(certificate(LISTENER));
        let mut machine = match listens {
            true => Admission::listen(Time::ZERO, session(LISTENER, DIALER), own, [5; 32], &mut out),
            false => Admission::dial(Time::ZERO, session(DIALER, LISTENER), ticket()),
        };
        for (magic, bytes) in messages {
            let magic: &[u8] = if magic { &ADMISSION_FORMAT.magic } else { &[] };
            let message = [magic, &bytes].concat();
            machine.handle(Time::ZERO, Input::Message(&message), &Node::default(), &mut out);
        }
        let ends = out.iter().filter(|output| !matches!(output, Output::Send(_)));
        prop_assert!(ends.clone().all(|end| matches!(end, Output::Refused(_))));
        prop_assert_eq!(ends.count(), 1);
    }

    /// A good message with one byte changed, cut or added admits nobody, or is the same in effect.
    #[test]
    fn damaged_passes_let_nobody_in(
        at in any::<prop::sample::Index>(), with in 1_u8.., how in 0..3, by_ticket in any::<bool>(),
    ) {
        let pass = match by_ticket {
            true => ticket(),
            false => Pass::Certificate(Box::new(by_admin(DIALER, Roles::MEMBER))),
        };
        let mut bytes = Run::new(pass).ends().sent_by_dialer.remove(0);
        let at = at.index(bytes.len());
        match how {
            0 => bytes[at] ^= with,
            1 => bytes.truncate(at),
            _ => bytes.insert(at, with),
        }
        let mut out = Vec::new();
        let own = Box::new(certificate(LISTENER));
        let at = session(LISTENER, DIALER);
        let mut listener = Admission::listen(Time::ZERO, at, own, [5; 32], &mut out);
        let node = Run::new(ticket()).node;
        listener.handle(Time::ZERO, Input::Message(&bytes), &node, &mut out);
        let admitted = |output: &Output| match output {
            Output::Admitted { .. } => true,
            // The name alone is not covered by the proof: it is the connection's to protect.
            Output::Redeem { ticket, .. } => *ticket != SECRET.id(),
            _ => false,
        };
        prop_assert!(!out.iter().any(admitted));
    }
}

#[test]
fn too_long_a_message_is_refused_unread() {
    let mut out = Vec::new();
    let mut machine = Admission::dial(Time::ZERO, session(DIALER, LISTENER), ticket());
    let long = vec![0; crate::limits::ADMISSION_BYTES as usize + 1];
    machine.handle(Time::ZERO, Input::Message(&long), &Node::default(), &mut out);
    assert_eq!(out, [Output::Refused(Refusal::Oversized)]);
}
