//! What a membership remembers, also after a crash, and what it does not believe.

use super::*;

const NOW_S: u64 = 1_800_000_000;
const PEER: PeerId = PeerId([1; 32]);
const OTHER: PeerId = PeerId([2; 32]);

/// A ticket of a founder or an admin: what its holders will be, how many, and for how long.
fn invite(
    issuer: &mut Membership,
    terms: (Roles, u32, u64),
    now_s: u64,
) -> Result<Ticket, MembershipError> {
    let secret = Secret(super::super::identity::random().unwrap());
    issuer.commit(|issuer| issuer.invite(secret, terms, vec![], now_s))
}

fn redeem(
    issuer: &mut Membership,
    ticket: TicketId,
    peer: PeerId,
    name: &str,
    now_s: u64,
) -> Result<Certificate, Refusal> {
    issuer.commit(|issuer| issuer.redeem(ticket, peer, (name, false), now_s))
}

fn reopen(home: &Path) -> Membership {
    Membership::open(home).unwrap().unwrap()
}

#[test]
fn a_use_of_a_ticket_is_counted_for_good_and_once_for_each_peer() {
    let home = tempfile::tempdir().unwrap();
    let mut founder = Membership::found(home.path(), "founder", NOW_S).unwrap();
    let ticket = invite(&mut founder, (Roles::WORKER, 1, 100), NOW_S).unwrap();
    let id = ticket.secret.id();
    let first = redeem(&mut founder, id, PEER, "a\u{7}", NOW_S).unwrap();
    assert_eq!((first.member.grant.name.as_str(), first.peer()), ("a", PEER));
    first.verify(founder.mesh(), PEER, NOW_S, &Ed25519).unwrap();
    // The node crashes; the newcomer has lost the answer.
    let mut founder = reopen(home.path());
    assert_eq!(redeem(&mut founder, id, PEER, "b", NOW_S + 50), Ok(first));
    assert_eq!(redeem(&mut founder, id, OTHER, "c", NOW_S), Err(Refusal::TicketUsedUp));
    assert_eq!(redeem(&mut founder, id, OTHER, "c", NOW_S + 100), Err(Refusal::TicketExpired));
    assert_eq!(
        redeem(&mut founder, TicketId([0; 16]), OTHER, "c", NOW_S),
        Err(Refusal::UnknownTicket)
    );
}

#[test]
fn who_lets_others_in_must_be_an_admin_still() {
    let homes = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut founder = Membership::found(homes[0].path(), "founder", NOW_S).unwrap();
    let ticket = invite(&mut founder, (Roles::ADMIN, 1, 100), NOW_S).unwrap();
    let mut admin = Membership::invited(homes[1].path(), ticket.clone(), "admin", false).unwrap();
    let early = invite(&mut admin, (Roles::MEMBER, 1, 100), NOW_S);
    assert!(matches!(early, Err(MembershipError::NotAdmin)));
    let own = redeem(&mut founder, ticket.secret.id(), admin.own(), "admin", NOW_S).unwrap();
    admin.join_granted(own.clone());
    founder.learn_member(own, &[], (NOW_S, NOW_S));
    let ticket = invite(&mut admin, (Roles::MEMBER, 9, 2 * CERTIFICATE_S), NOW_S).unwrap();
    let member = redeem(&mut admin, ticket.secret.id(), PEER, "member", NOW_S).unwrap();
    member.verify(founder.mesh(), PEER, NOW_S, &Ed25519).unwrap();
    assert!(founder.learn_member(member.clone(), &[], (NOW_S, NOW_S)));
    // Its own time is over before the ticket's.
    let late = redeem(&mut admin, ticket.secret.id(), OTHER, "late", NOW_S + CERTIFICATE_S);
    assert_eq!(late, Err(Refusal::NotGranted));
    // Who revokes an admin revokes those that rest on it.
    let revocation = founder.commit(|founder| founder.revoke(admin.own(), NOW_S)).unwrap();
    revocation.verify(founder.mesh(), NOW_S, &Ed25519).unwrap();
    let mut founder = reopen(homes[0].path());
    assert_eq!(founder.members().count(), 0);
    assert!(!founder.learn_member(member, &[], (NOW_S, NOW_S)));
    // And what it says is void from then on.
    let revenge = admin.revoke(founder.own(), NOW_S).unwrap();
    revenge.verify(founder.mesh(), NOW_S, &Ed25519).unwrap();
    assert!(!founder.learn_revocation(&revenge));
    assert_eq!(founder.roles(founder.own(), NOW_S), Some(Roles::ADMIN));
}

#[test]
fn one_home_is_in_one_mesh_until_it_leaves() {
    let homes = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut founder = Membership::found(homes[0].path(), "founder", NOW_S).unwrap();
    let ticket = invite(&mut founder, (Roles::MEMBER, 1, 100), NOW_S).unwrap();
    let again = Membership::found(homes[0].path(), "again", NOW_S);
    assert!(matches!(again, Err(MembershipError::Already(_))));
    // A ticket that was not redeemed gives way.
    let one = Membership::invited(homes[1].path(), ticket.clone(), "one", false).unwrap();
    let two = Membership::invited(homes[1].path(), ticket, "two", false).unwrap();
    assert_eq!((one.own(), two.name()), (two.own(), "two"));
    assert!(Membership::leave(homes[0].path()).unwrap());
    assert!(!Membership::leave(homes[0].path()).unwrap());
    let fresh = Membership::found(homes[0].path(), "fresh", NOW_S).unwrap();
    assert_ne!(fresh.mesh(), founder.mesh());
    assert_eq!(fresh.own(), founder.own(), "the node keeps its key");
}

/// Its disk takes nothing any more, root or not.
fn break_disk(home: &Path) {
    std::fs::remove_dir_all(home.join("identity")).unwrap();
    std::fs::write(home.join("identity"), "in the way").unwrap();
}

fn mend_disk(home: &Path) {
    std::fs::remove_file(home.join("identity")).unwrap();
}

#[test]
fn what_cannot_be_written_was_not_done() {
    let home = tempfile::tempdir().unwrap();
    let mut founder = Membership::found(home.path(), "founder", NOW_S).unwrap();
    let ticket = invite(&mut founder, (Roles::WORKER, 1, 100), NOW_S).unwrap().secret.id();
    break_disk(home.path());
    assert_eq!(redeem(&mut founder, ticket, PEER, "a", NOW_S), Err(Refusal::NotGranted));
    assert!(invite(&mut founder, (Roles::WORKER, 1, 100), NOW_S).is_err());
    assert!(founder.commit(|founder| founder.revoke(PEER, NOW_S)).is_err());
    assert!(founder.commit(|founder| founder.withdraw(ticket)).is_err());
    assert!(!founder.is_revoked(PEER));
    assert_eq!(founder.tickets(NOW_S).len(), 1, "as it was");
    assert_eq!(founder.tickets(NOW_S)[0].uses_left, 1);
}

#[tokio::test]
async fn what_was_learned_is_written_as_soon_as_that_is_possible() {
    let home = tempfile::tempdir().unwrap();
    let founder = Membership::found(home.path(), "founder", NOW_S).unwrap();
    let revocation = founder.clone().revoke(PEER, NOW_S).unwrap();
    let shared = Shared::new(founder);
    break_disk(home.path());
    assert!(shared.lock().learn_revocation(&revocation));
    assert!(shared.save().is_err());
    assert!(shared.lock().is_revoked(PEER), "it counts at once");
    mend_disk(home.path());
    shared.save().unwrap();
    assert!(reopen(home.path()).is_revoked(PEER));
    // A change and what was learned while it was written.
    let withdrawn = shared.commit(|membership| membership.withdraw(TicketId([0; 16]))).await;
    assert!(matches!(withdrawn, Err(MembershipError::UnknownTicket)));
}

#[test]
fn a_ticket_that_let_in_who_was_revoked_lets_nobody_in() {
    let home = tempfile::tempdir().unwrap();
    let mut founder = Membership::found(home.path(), "founder", NOW_S).unwrap();
    let [bad, good] = [0, 1].map(|_| {
        let ticket = invite(&mut founder, (Roles::WORKER, 9, 100), NOW_S).unwrap();
        ticket.secret.id()
    });
    redeem(&mut founder, bad, PEER, "a", NOW_S).unwrap();
    redeem(&mut founder, good, OTHER, "b", NOW_S).unwrap();
    founder.commit(|founder| founder.revoke(PEER, NOW_S)).unwrap();
    let new_key = PeerId([3; 32]);
    assert_eq!(redeem(&mut founder, bad, new_key, "a", NOW_S), Err(Refusal::TicketUsedUp));
    assert!(redeem(&mut founder, good, new_key, "c", NOW_S).is_ok());
    let listed = founder.tickets(NOW_S);
    assert_eq!(listed.iter().map(|it| (it.ticket, it.uses_left)).collect::<Vec<_>>(), [(good, 7)]);
    founder.commit(|founder| founder.withdraw(good)).unwrap();
    assert!(founder.tickets(NOW_S).is_empty());
    let late = redeem(&mut reopen(home.path()), good, PeerId([4; 32]), "d", NOW_S);
    assert_eq!(late, Err(Refusal::TicketUsedUp));
}

#[test]
fn who_has_left_is_gone_until_it_is_let_in_again() {
    let homes = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut founder = Membership::found(homes[0].path(), "founder", NOW_S).unwrap();
    let ticket = invite(&mut founder, (Roles::MEMBER, 2, 100), NOW_S).unwrap();
    let id = ticket.secret.id();
    let mut other = Membership::invited(homes[1].path(), ticket, "other", false).unwrap();
    let old = redeem(&mut founder, id, other.own(), "other", NOW_S).unwrap();
    other.join_granted(old.clone());
    assert!(founder.learn_member(old.clone(), &[], (NOW_S, NOW_S)));
    let farewell = other.farewell(NOW_S).unwrap();
    farewell.verify(founder.mesh(), NOW_S, &Ed25519).unwrap();
    let forged = Farewell { peer: founder.own(), ..farewell.clone() };
    assert_eq!(forged.verify(founder.mesh(), NOW_S, &Ed25519), Err(Refusal::Forged));
    let early = farewell.verify(founder.mesh(), NOW_S - 2 * limits::CLOCK_SKEW_S, &Ed25519);
    assert_eq!(early, Err(Refusal::NotYet));
    assert!(founder.learn_farewell(&farewell));
    assert!(!founder.learn_farewell(&farewell), "no news");
    assert_eq!(founder.members().count(), 0);
    assert!(!founder.learn_member(old.clone(), &[], (NOW_S, NOW_S)), "others have not heard yet");
    // By the same ticket, within the same second: another certificate, and another use.
    let new = redeem(&mut founder, id, other.own(), "other", NOW_S).unwrap();
    assert_ne!(new, old);
    assert!(founder.learn_member(new, &[], (NOW_S, NOW_S)));
    assert_eq!(redeem(&mut founder, id, OTHER, "late", NOW_S), Err(Refusal::TicketUsedUp));
}

#[test]
fn farewells_are_bounded_and_the_newest_stay() {
    let home = tempfile::tempdir().unwrap();
    let mut founder = Membership::found(home.path(), "founder", NOW_S).unwrap();
    let farewell = |n: u32, at_s: u64| {
        let mut peer = [9; 32];
        peer[..4].copy_from_slice(&n.to_le_bytes());
        Farewell { mesh: MeshId([0; 32]), peer: PeerId(peer), at_s, signature: [[0; 32]; 2] }
    };
    let most = limits::FAREWELLS_KEPT as u32;
    assert!((0..most).all(|n| founder.learn_farewell(&farewell(n, 10 + u64::from(n)))));
    assert!(!founder.learn_farewell(&farewell(most, 10)), "older than all that are kept");
    assert!(founder.learn_farewell(&farewell(most, 5_000)));
    assert!(!founder.has_heard(&farewell(0, 10)) && founder.has_heard(&farewell(1, 11)));
    founder.forget_absent(5_000 + CERTIFICATE_S);
    assert!(!founder.has_heard(&farewell(most, 5_000)), "what it ends has expired");
}

#[test]
fn whom_nobody_meets_is_forgotten_wherever_it_is() {
    let home = tempfile::tempdir().unwrap();
    let mut founder = Membership::found(home.path(), "founder", NOW_S).unwrap();
    let ticket = invite(&mut founder, (Roles::MEMBER, 1, 100), NOW_S).unwrap().secret.id();
    let other = redeem(&mut founder, ticket, PEER, "other", NOW_S).unwrap();
    assert!(founder.learn_member(other.clone(), &[], (0, NOW_S)), "it is new");
    let [before, after] = [NOW_S + ABSENT_S - 1, NOW_S + ABSENT_S];
    founder.forget_absent(before);
    assert_eq!(founder.members().count(), 1);
    // Somebody has met it, and says so.
    founder.learn_member(other.clone(), &[], (NOW_S + ABSENT_S / 2, before));
    founder.forget_absent(after);
    assert_eq!(founder.members().count(), 1);
    founder.forget_absent(after + ABSENT_S / 2);
    assert_eq!(founder.members().count(), 0);
    let now_s = after + ABSENT_S / 2;
    assert!(!founder.learn_member(other.clone(), &[], (NOW_S, now_s)), "others are slower");
    // A time to come is no reason to keep it for longer.
    assert!(founder.learn_member(other.clone(), &[], (u64::MAX, now_s)));
    founder.forget_absent(now_s + ABSENT_S);
    assert_eq!(founder.members().count(), 0);
    // It is there.
    let now_s = now_s + ABSENT_S;
    assert!(founder.learn_member(other.clone(), &[], (now_s, now_s)));
    // Its owner has it forgotten, until it comes again.
    founder.forget(PEER, now_s).unwrap();
    assert!(matches!(founder.forget(PEER, now_s), Err(MembershipError::UnknownMember)));
    assert!(!founder.learn_member(other.clone(), &[], (now_s, now_s)));
    assert!(founder.learn_member(other, &[], (now_s + 1, now_s + 1)));
}

#[test]
fn a_node_that_will_be_gone_soon_has_a_short_certificate() {
    let home = tempfile::tempdir().unwrap();
    let mut founder = Membership::found(home.path(), "founder", NOW_S).unwrap();
    let ticket = invite(&mut founder, (Roles::WORKER, 2, 100), NOW_S).unwrap().secret.id();
    let life = |is_ephemeral, peer| {
        let mut founder = founder.clone();
        let certificate = founder.redeem(ticket, peer, ("a", is_ephemeral), NOW_S).unwrap();
        certificate.member.grant.expires_s - NOW_S
    };
    assert_eq!((life(true, PEER), life(false, OTHER)), (EPHEMERAL_S, CERTIFICATE_S));
    let certificate = founder.redeem(ticket, PEER, ("a", true), NOW_S).unwrap();
    founder.learn_member(certificate, &[], (NOW_S, NOW_S));
    founder.forget_absent(NOW_S + EPHEMERAL_S);
    assert_eq!(founder.members().count(), 0, "it has expired");
}

#[test]
fn a_file_of_the_first_version_is_read() {
    let home = tempfile::tempdir().unwrap();
    let founder = Membership::found(home.path(), "founder", NOW_S).unwrap();
    let path = home.path().join("identity/membership");
    std::fs::write(&path, first::encode(&founder.book)).unwrap();
    let read = reopen(home.path());
    assert_eq!((read.mesh(), read.certificate()), (founder.mesh(), founder.certificate()));
    std::fs::write(&path, b"\x89MBOOK\0\x09").unwrap();
    assert!(matches!(
        Membership::open(home.path()),
        Err(MembershipError::Damaged { source: codec::CodecError::Version(9), .. })
    ));
}
