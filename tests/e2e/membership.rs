//! Machines become members of a mesh, see each other, and leave.

use mesh_tests::Mesh;

use crate::joined::Joined;

fn members(mesh: &Mesh) -> Vec<(String, bool)> {
    let peers: serde_json::Value = serde_json::from_str(&mesh.ok(["peers", "--json"])).unwrap();
    let member = |member: &serde_json::Value| {
        let name = member["name"].as_str().unwrap().to_owned();
        (name, member["connected"].as_bool().unwrap())
    };
    peers["members"].as_array().unwrap().iter().map(member).collect()
}

#[test]
fn machines_join_by_ticket_come_back_and_leave() {
    let [one, two, three] = [Mesh::new(), Mesh::new(), Mesh::new()];
    one.ok(["init", "--name", "one"]);
    assert_eq!(one.run(["init"]).code, Some(64), "there is a mesh already");
    assert_eq!(one.run(["invite"]).code, Some(69), "it does not run");
    let mut first = Joined::start(&one, &[]);
    first.says("listening on");
    let ticket = one.ok(["invite", "--role", "worker", "--expires", "10m"]);
    let mut second = Joined::start(&two, &[&ticket, "--name", "two"]);
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
    drop(second);
    first.says("is gone");
    let mut second = Joined::start(&two, &[]);
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
    let mut first = Joined::start(&one, &[]);
    first.says("listening on");
    let ticket = one.ok(["invite", "--uses", "2"]);
    let mut second = Joined::start(&two, &[&ticket, "--name", "two"]);
    second.says("one is there");
    first.says("two is there");
    assert_eq!(one.run(["revoke", "nobody"]).code, Some(66));
    one.ok(["revoke", "two"]);
    first.says("is gone");
    assert_eq!(members(&one), []);
    // It is known by its key, also with a good ticket.
    second.interrupt();
    two.ok(["leave"]);
    let again = two.run(["join", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0", &ticket]);
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains("revoked"), "{}", again.stderr);
    first.interrupt();
}
