//! `mesh status`

use mesh_node::api::{NodeStatus, PeerStatus, RevokedBy};
use mesh_protocol::sched::named::PolicyNames;
use serde_json::{Value, json};

use super::{nobody, node_status, print_line, short, size};
use crate::args::JsonArgs;
use crate::error::CliError;

pub(crate) fn run(args: &JsonArgs) -> Result<(), CliError> {
    let Some(status) = node_status()? else {
        if args.json {
            return print_line(json!({ "running": false }));
        }
        return Err(nobody());
    };
    if args.json {
        return print_line(json(&status));
    }
    lines(&status).iter().try_for_each(print_line)
}

fn lines(status: &NodeStatus) -> Vec<String> {
    let NodeStatus { own, name, slots, given, own_cores, others_cores, .. } = status;
    let mut lines = vec![
        format!("{name} ({})", short(*own)),
        format!(
            "cores: {own_cores} busy for own builds, {others_cores} for others; {slots} in all, {given} for others"
        ),
    ];
    lines.extend(status.revoked.map(|by| {
        let by = match by {
            RevokedBy::Signed => "an admin".to_owned(),
            RevokedBy::Word(peer) => format!("as {} says", short(peer)),
        };
        format!(
            "revoked ({by}): a member no more; to come back: mesh leave, remove identity/node.key \
             in MESH_HOME, and join by a new ticket"
        )
    }));
    lines.extend(status.held.map(|reason| format!("gives others nothing: {reason}")));
    lines.extend(status.metrics.map(|address| format!("metrics: http://{address}/metrics")));
    let NodeStatus { builds, leases, wanted, policies, .. } = status;
    if *policies != PolicyNames::default() {
        let PolicyNames { placement, speculation } = policies;
        lines.push(format!("policies: placement {placement}, speculation {speculation}"));
    }
    let plural = if *builds == 1 { "" } else { "s" };
    lines.push(format!("builds: {builds} build{plural}, {leases} of {wanted} thunks leased"));
    let counts = &status.counts;
    lines.push(format!(
        "leases so far: {} given, {} put back, {} speculated, {} moved",
        counts.leased, counts.put_back, counts.speculated, counts.moved
    ));
    let records = &status.records;
    lines.push(format!("records: {} told, {} kept for others", records.published, records.kept));
    lines.extend(status.peers.iter().map(peer_line));
    lines
}

fn peer_line(peer: &PeerStatus) -> String {
    let id = peer.peer.map(short).unwrap_or_default();
    let mut line = format!("  {id}  {}", peer.name.as_deref().unwrap_or("(no member)"));
    if let Some((leases, cores)) = peer.works {
        line += &format!("  runs {leases} for us on {cores} cores");
    }
    if let Some((leases, cores)) = peer.served {
        line += &format!("  has {leases} here on {cores} cores");
    }
    if peer.succeeded + peer.failed > 0 {
        let seconds = peer.busy_us as f64 / 1e6;
        line += &format!("  {} run, {} failed, {seconds:.1} s", peer.succeeded, peer.failed);
        line += &format!(", speed {:.2}", peer.speed_permille as f64 / 1000.0);
    }
    line += &format!("  received {}, sent {}", size(peer.received_bytes), size(peer.sent_bytes));
    if peer.sent_wire_bytes < peer.sent_bytes {
        line += &format!(" packed to {}", size(peer.sent_wire_bytes));
    }
    if let Some(suspicion) = &peer.suspicion {
        line += &format!("  suspect: {suspicion}");
    }
    line
}

fn json(status: &NodeStatus) -> Value {
    json!({
        "running": true,
        "peer": status.own.to_string(),
        "name": status.name,
        "revoked": status.revoked.is_some(),
        "metrics": status.metrics.map(|address| address.to_string()),
        "cores": {
            "all": status.slots, "given": status.given,
            "held": status.held.map(|reason| reason.to_string()),
            "own": status.own_cores, "others": status.others_cores,
        },
        "placement": status.policies.placement.name(),
        "speculation": status.policies.speculation.name(),
        "builds": status.builds,
        "leases": status.leases,
        "wanted": status.wanted,
        "leased": status.counts.leased,
        "put_back": status.counts.put_back,
        "speculated": status.counts.speculated,
        "moved": status.counts.moved,
        "wasted_ms": status.counts.wasted_us / 1000,
        "lookups": {
            "waiting": status.recalls_waiting,
            "dropped": status.recalls_dropped,
        },
        "records": {
            "published": status.records.published,
            "refused": status.records.refused,
            "kept": status.records.kept,
        },
        "peers": status.peers.iter().map(peer_json).collect::<Vec<_>>(),
    })
}

fn peer_json(peer: &PeerStatus) -> Value {
    let held = |held: Option<(u64, u32)>| {
        held.map(|(leases, cores)| json!({ "leases": leases, "cores": cores }))
    };
    json!({
        "peer": peer.peer.map(|peer| peer.to_string()),
        "name": peer.name,
        "works": held(peer.works),
        "served": held(peer.served),
        "succeeded": peer.succeeded,
        "failed": peer.failed,
        "busy_ms": peer.busy_us / 1000,
        "speed_permille": peer.speed_permille,
        "received_bytes": peer.received_bytes,
        "sent_bytes": peer.sent_bytes,
        "sent_wire_bytes": peer.sent_wire_bytes,
        "suspicion": peer.suspicion,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_node::api::{LeaseCounts, RecordCounts};
    use mesh_protocol::peer::PeerId;
    use mesh_protocol::sched::speculation::SpeculationName;

    #[test]
    fn a_status_in_words() {
        let peer = PeerStatus {
            peer: Some(PeerId([0xab; 32])),
            name: Some("attic".to_owned()),
            works: Some((3, 2)),
            served: None,
            succeeded: 41,
            failed: 1,
            busy_us: 12_340_000,
            speed_permille: 870,
            received_bytes: 2048,
            sent_bytes: 3 << 20,
            sent_wire_bytes: 1 << 20,
            suspicion: Some("it lied: false bytes".to_owned()),
        };
        let status = NodeStatus {
            own: PeerId([1; 32]),
            name: "desk".to_owned(),
            metrics: None,
            slots: 4,
            given: 2,
            revoked: None,
            held: None,
            own_cores: 1,
            others_cores: 0,
            policies: PolicyNames::default(),
            builds: 1,
            leases: 4,
            wanted: 9,
            counts: LeaseCounts { leased: 50, put_back: 2, speculated: 1, moved: 0, wasted_us: 0 },
            recalls_waiting: 0,
            recalls_dropped: 0,
            records: RecordCounts { published: 7, refused: 0, kept: 12 },
            peers: vec![peer],
        };
        let expected = [
            "desk (0101010101010101)",
            "cores: 1 busy for own builds, 0 for others; 4 in all, 2 for others",
            "builds: 1 build, 4 of 9 thunks leased",
            "leases so far: 50 given, 2 put back, 1 speculated, 0 moved",
            "records: 7 told, 12 kept for others",
            concat!(
                "  abababababababab  attic  runs 3 for us on 2 cores  41 run, 1 failed, 12.3 s, ",
                "speed 0.87  received 2.0 KiB, sent 3.0 MiB packed to 1.0 MiB  suspect: it lied: false bytes",
            ),
        ];
        assert_eq!(lines(&status), expected);
        let policies = PolicyNames { speculation: SpeculationName::Late, ..PolicyNames::default() };
        let other = lines(&NodeStatus { policies, ..status });
        assert_eq!(other[2], "policies: placement critical-path, speculation late");
    }
}
