//! Members on a network on which things go wrong.

use serde_json::Value;

use mesh_tests::{Members, Network, name, wait_until};

/// All members on lines that lose frames and take time, before anybody has joined.
fn on_bad_lines(count: usize, lost_percent: u32, delay_ms: u32) -> Option<Members> {
    let mut network = Network::new(count)?;
    for host in 0..count {
        network.lose(host, lost_percent);
        if !network.delay(host, delay_ms) {
            return None;
        }
    }
    let mut members = Members::on(network, count);
    members.found();
    (1..count).for_each(|number| members.admit(number));
    members.wait_until_all_connected();
    Some(members)
}

#[test]
fn nodes_join_over_slow_and_lossy_lines() {
    let Some(members) = on_bad_lines(4, 5, 50) else { return };
    let trips = || -> Option<Vec<u64>> {
        members.seen_by(3).iter().map(|seen| seen.json["round_trip_us"].as_u64()).collect()
    };
    wait_until("round trips to be known", || trips().is_some());
    // Two lines of 50 ms, there and back.
    let trips = trips().unwrap();
    assert!(trips.len() == 3 && trips.iter().all(|us| *us >= 200_000), "not slow: {trips:?}");
}

#[test]
fn what_goes_over_a_slow_line_is_packed() {
    let Some(mut network) = Network::new(2) else { return };
    network.limit_rate(1, 20);
    let mut members = Members::on(network, 2);
    members.found();
    members.admit(1);
    members.wait_until_all_connected();
    let text: String = (0..600_000).map(|number| format!("line {number}\n")).collect();
    let object = members.home(0).run_with(["put", "-"], text.as_bytes()).ok();
    assert_eq!(members.home(1).ok(["cat", &object]), text.trim_end());
    let status: Value = serde_json::from_str(&members.home(0).ok(["status", "--json"])).unwrap();
    let sent = |what: &str| status["peers"][0][what].as_u64().unwrap();
    assert_eq!(sent("sent_bytes"), text.len() as u64);
    assert!(sent("sent_wire_bytes") < sent("sent_bytes") / 2, "{status}");
}

#[test]
fn members_on_both_sides_of_a_partition_meet_again() {
    let Some(network) = Network::new(5) else { return };
    let mut members = Members::on(network, 5);
    members.found();
    (1..4).for_each(|number| members.admit(number));
    members.wait_until_all_connected();
    members.network().partition(&[2, 3]);
    members.wait_until_connected(0, &[1]);
    members.wait_until_connected(1, &[0]);
    members.wait_until_connected(2, &[3]);
    members.wait_until_connected(3, &[2]);
    // What happens on one side meanwhile is known on the other afterwards.
    members.admit(4);
    members.network().heal();
    members.wait_until_all_connected();
}

#[test]
fn a_revocation_reaches_everybody_over_lossy_lines() {
    let Some(mut members) = on_bad_lines(5, 5, 0) else { return };
    let out = name(4);
    members.home(0).ok(["revoke", &out]);
    for number in 0..4 {
        members.wait_until(number, "its revocation to be known", |members| {
            members.seen_by(number).iter().all(|seen| seen.name != out)
        });
    }
    members.wait_until_connected(4, &[]);
}

#[test]
fn who_is_frozen_killed_or_unplugged_is_missed_and_comes_back() {
    let Some(mut members) = Members::networked(4) else { return };
    members.node(1).freeze();
    members.take(2).kill();
    members.network().unplug(3);
    members.wait_until_connected(0, &[]);
    members.wait_until_connected(3, &[]);
    members.node(1).thaw();
    members.start(2);
    members.network().plug(3);
    members.wait_until_all_connected();
}
