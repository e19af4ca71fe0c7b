//! `mesh peers`

use std::collections::BTreeMap;

use mesh_node::api::{MemberInfo, Peers, Reply, Request, ServeError};
use mesh_node::net::membership::Membership;
use mesh_protocol::peer::PeerId;

use super::{node_status, print_line, short, try_node};
use crate::args::JsonArgs;
use crate::error::CliError;
use crate::{exit, home, stderr};

pub(crate) fn run(args: &JsonArgs) -> Result<(), CliError> {
    let peers = match try_node(&Request::Peers)? {
        Some(Reply::Peers(peers)) => peers,
        Some(_) => return Err(CliError::new(exit::INTERNAL, "unexpected answer")),
        None => {
            let membership = Membership::open(&home::directory()?)?.ok_or(ServeError::NoMember)?;
            Peers::at_rest(&membership)
        }
    };
    let suspicions = suspicions()?;
    if args.json {
        return print_line(json(&peers, &suspicions));
    }
    if peers.listening.is_empty() {
        stderr::write_line(
            "mesh: no node of this home runs; this is what it knew (mesh join starts it)",
        );
    }
    print_line(format_args!("self       {}  {}", short(peers.own), peers.name))?;
    peers.members.iter().try_for_each(|member| print_line(line(member, &suspicions)))
}

type Suspicions = BTreeMap<PeerId, String>;

/// What the node of this home has against others.
fn suspicions() -> Result<Suspicions, CliError> {
    let known = node_status()?.map(|status| status.peers).unwrap_or_default();
    Ok(known.into_iter().filter_map(|peer| Some((peer.peer?, peer.suspicion?))).collect())
}

fn line(member: &MemberInfo, suspicions: &Suspicions) -> String {
    let state = if member.is_connected { "connected" } else { "away" };
    let trip = member.round_trip_us.filter(|_| member.is_connected);
    let trip = trip.map_or(String::new(), |us| format!("  {:.1} ms", us as f64 / 1000.0));
    let (peer, name, roles) = (short(member.peer), &member.name, member.roles);
    let suspicion = suspicions.get(&member.peer);
    let suspicion = suspicion.map_or(String::new(), |what| format!("  suspect: {what}"));
    format!("{state:9}  {peer}  {name}  {roles}{trip}{suspicion}")
}

fn json(peers: &Peers, suspicions: &Suspicions) -> serde_json::Value {
    let member = |member: &MemberInfo| {
        serde_json::json!({
            "peer": member.peer.to_string(),
            "name": member.name,
            "role": member.roles.to_string(),
            "connected": member.is_connected,
            "addresses": member.addresses,
            "round_trip_us": member.round_trip_us,
            "met_s": member.met_s,
            "seen_s": member.seen_s,
            "suspicion": suspicions.get(&member.peer),
        })
    };
    serde_json::json!({
        "mesh": peers.mesh.to_string(),
        "peer": peers.own.to_string(),
        "name": peers.name,
        "listening": peers.listening,
        "members": peers.members.iter().map(member).collect::<Vec<_>>(),
    })
}
