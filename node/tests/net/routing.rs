//! Who is close to a key, in a mesh of more members than one is connected to.

use std::collections::BTreeSet;

use mesh_node::net::NetworkEvent;
use mesh_node::net::membership::Membership;
use mesh_node::net::swarm::{JoinState, SwarmConfig};
use mesh_protocol::peer::PeerId;
use mesh_protocol::records::Target;

use crate::world::*;

/// They connect to whoever let them in, and to nobody else by themselves.
fn shy() -> SwarmConfig {
    SwarmConfig { peers_wanted: 1, ..config() }
}

async fn join(ticket: &mesh_protocol::wire::admission::Ticket, name: &str) -> Node {
    let home = tempfile::tempdir().unwrap();
    let membership = Membership::invited(home.path(), ticket.clone(), name, false).unwrap();
    let node = Node::start(home, membership, shy());
    node.handle().joined(|state| *state == JoinState::Joined).await;
    node
}

/// Asks until the answer is that: routes become known in time.
async fn finds(node: &Node, target: Target, all: &BTreeSet<PeerId>) {
    let others: BTreeSet<PeerId> = all.iter().copied().filter(|peer| *peer != node.own()).collect();
    loop {
        let closest = node.handle().closest(target).await;
        let found: BTreeSet<PeerId> = closest.peers.iter().copied().collect();
        assert!(!found.contains(&node.own()));
        // Before it has heard of more than it wants, it takes those for all.
        if found == others && !closest.are_all {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[test]
fn kademlia_reaches_those_that_one_is_not_connected_to() {
    run(async {
        let mut founder = Node::found(shy()).await;
        let ticket = founder.ticket(5).await;
        let mut nodes = Vec::new();
        for name in ["b", "c", "d", "e", "f"] {
            let node = join(&ticket, name).await;
            founder.connected(node.own()).await;
            nodes.push(node);
        }
        let mut all: BTreeSet<PeerId> = nodes.iter().map(Node::own).collect();
        all.insert(founder.own());
        for node in &nodes {
            finds(node, Target([7; 32]), &all).await;
        }
        // Who has left stops being an answer.
        let left = nodes.remove(2);
        let gone = left.own();
        left.handle().stop().await;
        left.started.task.await.unwrap();
        all.remove(&gone);
        founder
            .hear(|event| matches!(event, NetworkEvent::Disconnected(who) if *who == gone))
            .await;
        for node in &nodes {
            finds(node, Target([8; 32]), &all).await;
        }
    });
}
