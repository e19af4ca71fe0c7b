//! Members find each other and talk.

use std::time::Duration;

use mesh_node::net::membership::Membership;
use mesh_node::net::{NetworkError, NetworkEvent, Service, Topic};
use mesh_protocol::peer::PeerId;
use mesh_protocol::wire::admission::Roles;

use crate::world::{HOUR_S, Node, SERVICES, config, echo, run, say};

#[test]
fn two_join_by_ticket_and_open_streams_both_ways() {
    run(async {
        let mut founder = Node::found(config()).await;
        let mut newcomer = Node::join(founder.ticket(1).await, "new\u{1b}comer").await;
        let names = [founder.own(), newcomer.own()];
        founder.connected(names[1]).await;
        newcomer.connected(names[0]).await;
        let peers = founder.handle().peers().await;
        assert_eq!((peers.len(), peers[0].name.as_str()), (1, "newcomer"));
        assert!(peers[0].is_connected && peers[0].roles == Roles::MEMBER);
        let networks = [founder.started.network.clone(), newcomer.started.network.clone()];
        echo(founder.started.events);
        echo(newcomer.started.events);
        for service in SERVICES {
            for (network, other) in [(&networks[0], names[1]), (&networks[1], names[0])] {
                let stream = network.open(other, service).await.unwrap();
                assert_eq!(say(stream, b"hello").await, b"hello");
            }
        }
    });
}

/// 100 each way at once; `libp2p-stream` would lose some.
#[test]
fn a_hundred_streams_at_once_all_arrive() {
    run(async {
        let mut founder = Node::found(config()).await;
        let newcomer = Node::join(founder.ticket(1).await, "newcomer").await;
        let names = [founder.own(), newcomer.own()];
        founder.connected(names[1]).await;
        let networks = [founder.started.network.clone(), newcomer.started.network.clone()];
        echo(founder.started.events);
        echo(newcomer.started.events);
        let mut streams = tokio::task::JoinSet::new();
        for number in 0..100_u32 {
            for side in 0..2 {
                let (network, other) = (networks[side].clone(), names[1 - side]);
                streams.spawn(async move {
                    let stream = network.open(other, Service::Transfer).await.unwrap();
                    // More than one frame, and different for each.
                    let said = number.to_le_bytes().repeat(10_000);
                    assert!(say(stream, &said).await == said);
                });
            }
        }
        assert!(streams.join_all().await.len() == 200);
    });
}

#[test]
fn five_find_each_other_through_one_and_gossip() {
    run(async {
        let founder = Node::found(config()).await;
        let ticket = founder.ticket(4).await;
        let mut nodes = vec![founder];
        for name in ["b", "c", "d", "e"] {
            nodes.push(Node::join(ticket.clone(), name).await);
        }
        let names: Vec<PeerId> = nodes.iter().map(Node::own).collect();
        for node in &mut nodes {
            let mut missing: Vec<PeerId> = names.clone();
            missing.retain(|name| *name != node.own());
            while !missing.is_empty() {
                let event = node.hear(|event| matches!(event, NetworkEvent::Connected(_))).await;
                let NetworkEvent::Connected(peer) = event else { unreachable!() };
                missing.retain(|name| *name != peer);
            }
        }
        for speaker in 0..nodes.len() {
            let network = nodes[speaker].started.network.clone();
            let message = vec![speaker as u8; 100];
            let said = message.clone();
            // Like an offer, it is said until all have heard it.
            let saying = tokio::spawn(async move {
                let mut again = tokio::time::interval(Duration::from_millis(50));
                loop {
                    again.tick().await;
                    network.publish(Topic::Offers, said.clone());
                }
            });
            for (hearer, node) in nodes.iter_mut().enumerate() {
                if hearer != speaker {
                    let is_it = |event: &NetworkEvent| {
                        matches!(event, NetworkEvent::Gossip { from, topic: Topic::Offers, message: heard }
                            if *from == names[speaker] && *heard == message)
                    };
                    node.hear(is_it).await;
                }
            }
            saying.abort();
        }
    });
}

#[test]
fn a_restarted_member_is_back_without_a_ticket() {
    run(async {
        let mut founder = Node::found(config()).await;
        let mut newcomer = Node::join(founder.ticket(1).await, "newcomer").await;
        founder.connected(newcomer.own()).await;
        newcomer.connected(founder.own()).await;
        let mut newcomer = newcomer.restart(config()).await;
        newcomer.connected(founder.own()).await;
        // It says where it is now, so the founder finds it too: by itself, after a restart.
        let (peer, port) = (newcomer.own(), newcomer.handle().listening().await);
        let network = newcomer.started.network.clone();
        let events =
            std::mem::replace(&mut newcomer.started.events, tokio::sync::mpsc::channel(1).1);
        echo(events);
        let addresses = |node: &Node| {
            let handle = node.handle().clone();
            async move { handle.peers().await.remove(0).addresses }
        };
        while addresses(&founder).await != port {
            tokio::task::yield_now().await;
        }
        let mut founder = founder.restart(config()).await;
        founder.connected(peer).await;
        let stream = founder.started.network.open(peer, Service::Records).await.unwrap();
        assert_eq!(say(stream, b"again").await, b"again");
        assert_eq!(network.own(), peer);
    });
}

#[test]
fn an_admin_lets_others_in() {
    run(async {
        let founder = Node::found(config()).await;
        let ticket = founder.handle().invite(Roles::ADMIN, 1, HOUR_S).await.unwrap();
        let admin = Node::join(ticket, "admin").await;
        admin.handle().listening().await;
        let mut member = Node::join(admin.ticket(1).await, "member").await;
        // Both believe it: the chain leads to the mesh's key.
        member.connected(founder.own()).await;
        let peers = member.handle().peers().await;
        assert!(peers.iter().any(|peer| peer.peer == admin.own() && peer.roles == Roles::ADMIN));
        let refused = member.handle().invite(Roles::MEMBER, 1, HOUR_S).await;
        assert!(refused.is_err(), "a plain member invites nobody");
        assert!(admin.handle().invite(Roles::ADMIN, 1, HOUR_S).await.is_err());
    });
}

#[test]
fn who_is_not_there_cannot_be_reached() {
    run(async {
        let mut founder = Node::found(config()).await;
        let network = founder.started.network.clone();
        let nobody = PeerId([7; 32]);
        let open = network.open(nobody, Service::Claim).await;
        assert!(matches!(open, Err(NetworkError::Unreachable(peer)) if peer == nobody));
        let newcomer = Node::join(founder.ticket(1).await, "newcomer").await;
        let peer = newcomer.own();
        founder.connected(peer).await;
        newcomer.handle().stop().await;
        newcomer.started.task.await.unwrap();
        founder.disconnected(peer).await;
        let open = network.open(peer, Service::Claim).await;
        assert!(matches!(open, Err(NetworkError::Unreachable(_))));
        founder.handle().stop().await;
        founder.started.task.await.unwrap();
        assert!(matches!(network.open(peer, Service::Claim).await, Err(NetworkError::Closed)));
        network.publish(Topic::Offers, vec![1]);
        assert!(Membership::open(founder.home.path()).unwrap().is_some());
    });
}
