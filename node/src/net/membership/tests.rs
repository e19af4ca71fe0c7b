//! What a membership remembers, also after a crash, and what it does not believe.

use super::*;

const NOW_S: u64 = 1_800_000_000;
const PEER: PeerId = PeerId([1; 32]);
const OTHER: PeerId = PeerId([2; 32]);

fn reopen(home: &Path) -> Membership {
    Membership::open(home).unwrap().unwrap()
}

#[test]
fn a_use_of_a_ticket_is_counted_for_good_and_once_for_each_peer() {
    let home = tempfile::tempdir().unwrap();
    let mut founder = Membership::found(home.path(), "founder", NOW_S).unwrap();
    let ticket = founder.invite(Roles::WORKER, 1, 100, vec![], NOW_S).unwrap();
    let id = ticket.secret.id();
    let first = founder.redeem(id, PEER, "a\u{7}", NOW_S).unwrap();
    assert_eq!((first.member.grant.name.as_str(), first.peer()), ("a", PEER));
    first.verify(founder.mesh(), PEER, NOW_S, &Ed25519).unwrap();
    // The node crashes; the newcomer has lost the answer.
    let mut founder = reopen(home.path());
    assert_eq!(founder.redeem(id, PEER, "b", NOW_S + 50), Ok(first));
    assert_eq!(founder.redeem(id, OTHER, "c", NOW_S), Err(Refusal::TicketUsedUp));
    assert_eq!(founder.redeem(id, OTHER, "c", NOW_S + 100), Err(Refusal::TicketExpired));
    assert_eq!(founder.redeem(TicketId([0; 16]), OTHER, "c", NOW_S), Err(Refusal::UnknownTicket));
}

#[test]
fn who_lets_others_in_must_be_an_admin_still() {
    let homes = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut founder = Membership::found(homes[0].path(), "founder", NOW_S).unwrap();
    let ticket = founder.invite(Roles::ADMIN, 1, 100, vec![], NOW_S).unwrap();
    let mut admin = Membership::invited(homes[1].path(), ticket.clone(), "admin").unwrap();
    let early = admin.invite(Roles::MEMBER, 1, 100, vec![], NOW_S);
    assert!(matches!(early, Err(MembershipError::NotAdmin)));
    let own = founder.redeem(ticket.secret.id(), admin.own(), "admin", NOW_S).unwrap();
    admin.join_granted(own.clone()).unwrap();
    founder.learn_member(own, &[]);
    let ticket = admin.invite(Roles::MEMBER, 9, 2 * CERTIFICATE_S, vec![], NOW_S).unwrap();
    let member = admin.redeem(ticket.secret.id(), PEER, "member", NOW_S).unwrap();
    member.verify(founder.mesh(), PEER, NOW_S, &Ed25519).unwrap();
    assert!(founder.learn_member(member.clone(), &[]));
    // Its own time is over before the ticket's.
    let late = admin.redeem(ticket.secret.id(), OTHER, "late", NOW_S + CERTIFICATE_S);
    assert_eq!(late, Err(Refusal::NotGranted));
    // Who revokes an admin revokes those that rest on it.
    let revocation = founder.revoke(admin.own(), NOW_S).unwrap();
    revocation.verify(founder.mesh(), NOW_S, &Ed25519).unwrap();
    let mut founder = reopen(homes[0].path());
    assert_eq!(founder.members().count(), 0);
    assert!(!founder.learn_member(member, &[]));
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
    let ticket = founder.invite(Roles::MEMBER, 1, 100, vec![], NOW_S).unwrap();
    let again = Membership::found(homes[0].path(), "again", NOW_S);
    assert!(matches!(again, Err(MembershipError::Already(_))));
    // A ticket that was not redeemed gives way.
    let one = Membership::invited(homes[1].path(), ticket.clone(), "one").unwrap();
    let two = Membership::invited(homes[1].path(), ticket, "two").unwrap();
    assert_eq!((one.own(), two.name()), (two.own(), "two"));
    assert!(Membership::leave(homes[0].path()).unwrap());
    assert!(!Membership::leave(homes[0].path()).unwrap());
    let fresh = Membership::found(homes[0].path(), "fresh", NOW_S).unwrap();
    assert_ne!(fresh.mesh(), founder.mesh());
    assert_eq!(fresh.own(), founder.own(), "the node keeps its key");
}
