//! Machines become members of a mesh, see each other, and leave.

use mesh_tests::{Mesh, Node, wait_until};

fn members(mesh: &Mesh) -> Vec<(String, bool)> {
    let peers: serde_json::Value = serde_json::from_str(&mesh.ok(["peers", "--json"])).unwrap();
    let member = |member: &serde_json::Value| {
        let name = member["name"].as_str().unwrap().to_owned();
        (name, member["connected"].as_bool().unwrap())
    };
    let mut members: Vec<_> = peers["members"].as_array().unwrap().iter().map(member).collect();
    members.sort();
    members
}

#[test]
fn machines_join_by_ticket_come_back_and_leave() {
    let [one, two, three] = [Mesh::new(), Mesh::new(), Mesh::new()];
    one.ok(["init", "--name", "one"]);
    assert_eq!(one.run(["init"]).code, Some(64), "there is a mesh already");
    assert_eq!(one.run(["invite"]).code, Some(69), "it does not run");
    let mut first = Node::join(&one, &[]);
    first.says("listening on");
    let ticket = one.ok(["invite", "--role", "worker", "--expires", "10m"]);
    let mut second = Node::join(&two, &[&ticket, "--name", "two"]);
    second.says("one is there");
    first.says("two is there");
    assert_eq!(members(&one), [("two".to_owned(), true)]);
    assert_eq!(members(&two), [("one".to_owned(), true)]);
    // It was for one machine.
    let late = three.run(["join", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0", &ticket]);
    assert_eq!(late.code, Some(1));
    assert!(late.stderr.contains("has been used as often as it may be"), "{}", late.stderr);
    assert_eq!(two.run(["invite"]).code, Some(1), "a worker lets nobody in");
    assert_eq!(two.run(["join"]).code, Some(1), "one node in a home");
    // Without a ticket it is back; killed, so that nothing was put in order.
    second.kill();
    first.says("is gone");
    let mut second = Node::join(&two, &[]);
    second.says("one is there");
    first.says("two is there");
    second.interrupt();
    first.says("is gone");
    assert_eq!(members(&two), [("one".to_owned(), false)]);
    two.ok(["leave"]);
    assert_eq!(two.run(["peers"]).code, Some(66));
    assert_eq!(one.run(["leave"]).code, Some(64), "not without its key in mind");
    one.ok(["leave", "--force"]);
    first.says("ending");
}

#[test]
fn who_is_revoked_is_out() {
    let [one, two] = [Mesh::new(), Mesh::new()];
    one.ok(["init", "--name", "one"]);
    let mut first = Node::join(&one, &[]);
    first.says("listening on");
    let ticket = one.ok(["invite", "--uses", "2"]);
    let mut second = Node::join(&two, &[&ticket, "--name", "two"]);
    second.says("one is there");
    first.says("two is there");
    assert_eq!(one.run(["revoke", "nobody"]).code, Some(66));
    one.ok(["revoke", "two"]);
    first.says("is gone");
    assert_eq!(members(&one), []);
    // It is told.
    second.says("was revoked");
    let status: serde_json::Value = serde_json::from_str(&two.ok(["status", "--json"])).unwrap();
    assert_eq!(status["revoked"], true);
    // It is known by its key, also with a good ticket.
    second.interrupt();
    two.ok(["leave"]);
    let again = two.run(["join", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0", &ticket]);
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains("revoked"), "{}", again.stderr);
    first.interrupt();
}

#[test]
fn who_leaves_says_so_and_who_is_gone_can_be_forgotten() {
    let [one, two, three, four] = [Mesh::new(), Mesh::new(), Mesh::new(), Mesh::new()];
    one.ok(["init", "--name", "one"]);
    let mut first = Node::join(&one, &[]);
    first.says("listening on");
    let ticket = one.ok(["invite", "--uses", "4"]);
    let mut second = Node::join(&two, &[&ticket, "--name", "two"]);
    second.says("one is there");
    let mut third = Node::join(&three, &[&ticket, "--name", "three"]);
    third.says("one is there");
    third.says("two is there");
    // A node for a while is out of all lists when it ends.
    let mut fourth = Node::join(&four, &[&ticket, "--name", "four", "--ephemeral"]);
    fourth.says("one is there");
    first.says("four is there");
    fourth.interrupt();
    wait_until("four is in no list", || {
        [&one, &two, &three].iter().all(|mesh| members(mesh).iter().all(|(name, _)| name != "four"))
    });
    // And so is who leaves, also if its node had ended before.
    third.interrupt();
    let away = [("one".to_owned(), true), ("three".to_owned(), false)];
    wait_until("three is away", || members(&two) == away);
    three.ok(["leave"]);
    wait_until("three is in no list", || {
        [&one, &two].iter().all(|mesh| members(mesh).iter().all(|(name, _)| name != "three"))
    });
    // Who was killed is away until it is forgotten, and comes back by itself.
    second.kill();
    wait_until("two is away", || members(&one) == [("two".to_owned(), false)]);
    assert_eq!(one.run(["forget", "nobody"]).code, Some(66));
    one.ok(["forget", "two"]);
    assert_eq!(members(&one), []);
    let mut second = Node::join(&two, &[]);
    second.says("one is there");
    assert_eq!(one.run(["forget", "two"]).code, Some(64), "it is there");
    assert_eq!(members(&one), [("two".to_owned(), true)]);
    second.interrupt();
    first.interrupt();
}

#[test]
fn tickets_are_listed_and_withdrawn() {
    let [one, two] = [Mesh::new(), Mesh::new()];
    one.ok(["init", "--name", "one"]);
    assert_eq!(one.run(["tickets"]).code, Some(69), "it does not run");
    let mut first = Node::join(&one, &[]);
    first.says("listening on");
    assert_eq!(one.ok(["tickets"]), "");
    let ticket = one.ok(["invite", "--uses", "2", "--role", "worker"]);
    let listed = one.ok(["tickets"]);
    assert!(listed.contains("worker  2 more, for 2"), "{listed}");
    let mut second = Node::join(&two, &[&ticket, "--name", "two"]);
    second.says("one is there");
    let listed: serde_json::Value = serde_json::from_str(&one.ok(["tickets", "--json"])).unwrap();
    assert_eq!((&listed[0]["uses_left"], &listed[0]["redeemed"][0]), (&1.into(), &"two".into()));
    assert_eq!(one.run(["withdraw", "0000000000"]).code, Some(66));
    one.ok(["withdraw", &ticket]);
    assert_eq!(one.ok(["tickets"]), "");
    assert_eq!(members(&one), [("two".to_owned(), true)], "whom it has let in stays");
    let three = Mesh::new();
    let late = three.run(["join", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0", &ticket]);
    assert_eq!(late.code, Some(1));
    second.interrupt();
    first.interrupt();
}

/// Two nodes of one user could share a port, and each would get the other's connections.
#[test]
fn one_port_is_for_one_node() {
    let [one, two] = [Mesh::new(), Mesh::new()];
    one.ok(["init"]);
    two.ok(["init"]);
    let mut first = Node::join(&one, &[]);
    first.says("listening on");
    let peers: serde_json::Value = serde_json::from_str(&one.ok(["peers", "--json"])).unwrap();
    let address = peers["listening"][0].as_str().unwrap();
    let second = two.run(["join", "--no-mdns", "--listen", address]);
    assert_eq!(second.code, Some(69), "{}", second.stderr);
    assert!(second.stderr.contains("another program listens there"), "{}", second.stderr);
    // At once when it has ended, whatever is left of its connections.
    first.interrupt();
    let mut again = Node::start(&mut two.command(["join", "--no-mdns", "--listen", address]));
    again.says("listening on");
    again.interrupt();
}
