//! Who is sent away, why, and how little it learns.

use std::time::Duration;

use libp2p::core::transport::{DialOpts, PortUse, Transport};
use libp2p::core::upgrade::OutboundConnectionUpgrade;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt};
use libp2p::identity::Keypair;
use libp2p::swarm::SwarmEvent;
use libp2p::{Swarm, noise, ping, tcp, yamux};
use mesh_node::net::NetworkEvent;
use mesh_node::net::membership::{Membership, now_s};
use mesh_node::net::swarm::{JoinState, SwarmConfig};
use mesh_protocol::limits;
use mesh_protocol::wire::admission::{
    FromDialer, FromListener, MeshId, Refusal, Roles, Secret, Ticket, knock,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::world::{HOUR_S, NOW_S, Node, config, run};

/// How a newcomer with that ticket ends.
async fn refused(ticket: Ticket) -> JoinState {
    let node = Node::invited(ticket, "stranger");
    node.handle().joined(|state| *state != JoinState::Waiting).await.unwrap()
}

#[test]
fn tickets_that_are_over_unknown_or_of_another_mesh() {
    run(async {
        let founder = Node::found(config()).await;
        let ticket = founder.ticket(1).await;
        let first = Node::join(ticket.clone(), "first").await;
        assert_eq!(refused(ticket.clone()).await, JoinState::Refused(Refusal::TicketUsedUp));
        let over = founder.handle().invite(Roles::MEMBER, 1, 0).await.unwrap();
        assert_eq!(refused(over).await, JoinState::Refused(Refusal::TicketExpired));
        let mut unknown = ticket.clone();
        unknown.secret.0[0] ^= 1;
        assert_eq!(refused(unknown).await, JoinState::Refused(Refusal::Closed));
        // Right secret, wrong mesh: the knock is not ours.
        let wrong = Ticket { mesh: MeshId([7; 32]), ..ticket.clone() };
        assert_eq!(refused(wrong).await, JoinState::Refused(Refusal::Closed));
        for refusal in [Refusal::TicketUsedUp, Refusal::UnknownTicket, Refusal::WrongMesh] {
            founder.handle().refused(refusal, 1).await;
        }
        assert_eq!(founder.handle().peers().await.len(), 1);
        // Whoever redeemed it once and lost the answer may come again.
        let peer = first.own();
        let again = first.restart(config()).await;
        assert_eq!(again.own(), peer);
    });
}

#[test]
fn a_certificate_that_has_expired() {
    run(async {
        let homes = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [at, late_at] = &homes;
        let mut founder = Membership::found(at.path(), "founder", NOW_S).unwrap();
        let long_ago_s = now_s() - 2 * 365 * 24 * HOUR_S;
        let (secret, terms) = (Secret([5; 32]), (Roles::MEMBER, 1, u64::MAX / 2));
        let ticket =
            founder.commit(|founder| founder.invite(secret, terms, vec![], now_s())).unwrap();
        let mut late = Membership::invited(late_at.path(), ticket.clone(), "late", false).unwrap();
        let id = ticket.secret.id();
        let certificate = founder.redeem(id, late.own(), ("late", false), long_ago_s).unwrap();
        late.join_granted(certificate);
        let [at, late_at] = homes;
        let founder = Node::start(at, founder, config());
        // It knows where to go.
        let addresses = founder.handle().listening().await;
        let theirs = Membership::open(founder.home.path()).unwrap().unwrap();
        let seen = (now_s(), now_s());
        late.learn_member(theirs.certificate().unwrap().clone(), &addresses, seen);
        let late = Node::start(late_at, late, config());
        founder.handle().refused(Refusal::Expired, 1).await;
        // And it hears why.
        late.handle().refused(Refusal::Expired, 1).await;
        assert!(founder.handle().peers().await.is_empty());
    });
}

#[test]
fn who_is_revoked_is_out_everywhere_and_stays_out() {
    run(async {
        let mut founder = Node::found(config()).await;
        let ticket = founder.ticket(3).await;
        let mut other = Node::join(ticket.clone(), "other").await;
        let mut bad = Node::join(ticket.clone(), "bad").await;
        let peer = bad.own();
        other.connected(peer).await;
        founder.connected(peer).await;
        bad.connected(other.own()).await;
        founder.handle().revoke(peer).await.unwrap();
        // By gossip: the founder alone was told.
        other.disconnected(peer).await;
        founder.disconnected(peer).await;
        other.handle().refused(Refusal::Revoked, 1).await;
        bad.handle().refused(Refusal::Revoked, 1).await;
        // Also after restarts: of the one where it was, so that the other one finds it.
        let listen = other.handle().listening().await;
        let other = other.restart(SwarmConfig { listen, ..config() }).await;
        let bad = bad.restart(config()).await;
        other.handle().refused(Refusal::Revoked, 1).await;
        assert!(other.handle().peers().await.iter().all(|known| known.peer != peer));
        // Many attempts, few lines.
        founder.handle().refused(Refusal::Revoked, 5).await;
        let door = founder.handle().door();
        assert!(door.logged <= door.refused.len() as u64, "{door:?}");
        // A ticket that let it in lets nobody in any more: its owner may have another key.
        let again = Node::invited(ticket, "again");
        let refused = JoinState::Refused(Refusal::TicketUsedUp);
        again.handle().joined(|state| *state == refused).await.unwrap();
        // A newcomer learns of it when it joins.
        let mut late = Node::join(founder.ticket(1).await, "late").await;
        late.connected(other.own()).await;
        assert!(late.handle().peers().await.iter().all(|known| known.peer != peer));
        drop(bad);
    });
}

#[test]
fn a_recorded_handshake_is_worth_nothing() {
    run(async {
        let mut founder = Node::found(config()).await;
        let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut ticket = founder.ticket(2).await;
        let port = proxy.local_addr().unwrap().port();
        ticket.addresses = vec![format!("/ip4/127.0.0.1/tcp/{port}")];
        let newcomer = Node::invited(ticket, "newcomer");
        // What the newcomer says goes through, and is kept.
        let (from, _) = proxy.accept().await.unwrap();
        let to = TcpStream::connect(founder.port().await).await.unwrap();
        let (mut from_read, mut from_write) = from.into_split();
        let (mut to_read, mut to_write) = to.into_split();
        let back =
            tokio::spawn(async move { tokio::io::copy(&mut to_read, &mut from_write).await });
        let (kept, mut heard) = tokio::sync::mpsc::channel(100);
        let forth = tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = from_read.read(&mut buffer).await {
                to_write.write_all(&buffer[..read]).await.unwrap();
                let _ = kept.send(buffer[..read].to_vec()).await;
            }
        });
        founder.connected(newcomer.own()).await;
        newcomer.handle().stop().await;
        founder.disconnected(newcomer.own()).await;
        let mut recorded = Vec::new();
        while let Some(bytes) = heard.recv().await {
            recorded.extend(bytes);
        }
        let mut replay = TcpStream::connect(founder.port().await).await.unwrap();
        replay.write_all(&recorded).await.unwrap();
        founder.handle().refused(Refusal::Malformed, 1).await;
        // Noise's own answer to the knock, which says nothing to who has not the key for it.
        let mut answer = Vec::new();
        let _ = replay.read_to_end(&mut answer).await;
        assert!(answer.len() < 300, "{} bytes", answer.len());
        assert!(!founder.handle().peers().await[0].is_connected);
        back.abort();
        forth.abort();
    });
}

/// Bytes on the port: what comes back, until the end.
async fn send(node: &Node, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(node.port().await).await.unwrap();
    // Closed or reset, as it comes.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    answer
}

#[test]
fn garbage_gets_no_answer() {
    run(async {
        let founder = Node::found(config()).await;
        for garbage in [&b"GET / HTTP/1.1\r\nHost: mesh\r\n\r\n"[..], &[0; 24], &[255; 100_000]] {
            assert_eq!(send(&founder, garbage).await, b"");
        }
        founder.handle().refused(Refusal::WrongMesh, 3).await;
        // Even after a right knock: a length and less than that, then a Noise message that is none.
        let knock = knock(founder.handle().mesh(), [1; 8]);
        let bad = [&knock[..], &[0, 40], &[7; 40], &[255; 70_000]].concat();
        assert!(send(&founder, &bad).await.len() < 300);
        founder.handle().refused(Refusal::Malformed, 1).await;
        let door = founder.handle().door();
        assert_eq!(door.logged, 2, "one line for each reason");
    });
}

/// A stranger that knows the mesh, has a key of its own and speaks Noise: it sends these bytes in
/// place of its pass. Gives what it heard after the challenge.
async fn after_challenge(node: &Node, bytes: &[u8]) -> Vec<u8> {
    let address: Multiaddr = node.handle().listening().await.remove(0).parse().unwrap();
    let mut transport = tcp::tokio::Transport::new(tcp::Config::default());
    let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
    let mut socket = transport.dial(address, options).unwrap().await.unwrap();
    socket.write_all(&knock(node.handle().mesh(), [2; 8])).await.unwrap();
    let noise = noise::Config::new(&Keypair::generate_ed25519()).unwrap();
    let (_, mut io) = noise.upgrade_outbound(socket, "").await.unwrap();
    let mut length = [0; 2];
    io.read_exact(&mut length).await.unwrap();
    let mut challenge = vec![0; u16::from_le_bytes(length).into()];
    io.read_exact(&mut challenge).await.unwrap();
    let challenge = FromListener::decode(&challenge).unwrap();
    assert!(matches!(challenge, FromListener::Challenge { .. }));
    io.write_all(bytes).await.unwrap();
    io.flush().await.unwrap();
    let mut answer = Vec::new();
    let _ = io.read_to_end(&mut answer).await;
    answer
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_le_bytes(), message].concat()
}

#[test]
fn strangers_that_know_the_mesh_hear_a_challenge_and_no_more() {
    run(async {
        let founder = Node::found(config()).await;
        let theirs = Membership::open(founder.home.path()).unwrap().unwrap();
        let stolen = Box::new(theirs.certificate().unwrap().clone());
        let mut forged = stolen.clone();
        forged.member.grant.peer.0[0] ^= 1;
        let show = |certificate| framed(&FromDialer::Certificate(certificate).encode().unwrap());
        let too_long = (limits::ADMISSION_BYTES as u16 + 1).to_le_bytes();
        let cases = [
            (too_long.to_vec(), Refusal::Oversized),
            (framed(b"whatever"), Refusal::Malformed),
            (framed(&[]), Refusal::Malformed),
            (show(stolen), Refusal::OfAnother),
            (show(forged), Refusal::OfAnother),
        ];
        for (bytes, refusal) in cases {
            let before = founder.handle().door().refused.get(&refusal).copied().unwrap_or(0);
            assert_eq!(after_challenge(&founder, &bytes).await, b"", "{refusal:?}");
            founder.handle().refused(refusal, before + 1).await;
        }
        assert!(founder.handle().peers().await.is_empty());
    });
}

#[test]
fn a_plain_libp2p_peer_is_offered_nothing() {
    run(async {
        let founder = Node::found(config()).await;
        let keypair = Keypair::generate_ed25519();
        let transport = tcp::tokio::Transport::new(tcp::Config::default())
            .upgrade(libp2p::core::upgrade::Version::V1)
            .authenticate(noise::Config::new(&keypair).unwrap())
            .multiplex(yamux::Config::default())
            .boxed();
        let peer = keypair.public().to_peer_id();
        let settings = libp2p::swarm::Config::with_tokio_executor();
        let mut swarm = Swarm::new(transport, ping::Behaviour::default(), peer, settings);
        let address: Multiaddr = founder.handle().listening().await.remove(0).parse().unwrap();
        swarm.dial(address).unwrap();
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::OutgoingConnectionError { .. } => break,
                SwarmEvent::ConnectionEstablished { .. } => panic!("it was let in"),
                _ => (),
            }
        }
        founder.handle().refused(Refusal::WrongMesh, 1).await;
    });
}

#[test]
fn those_who_say_nothing_are_few_and_do_not_stay() {
    run(async {
        let impatient = SwarmConfig { patience: Duration::from_secs(3), ..config() };
        let mut founder = Node::found(impatient).await;
        let port = founder.port().await;
        let mut silent = Vec::new();
        for _ in 0..limits::ADMISSIONS_PER_ADDRESS {
            silent.push(TcpStream::connect(&port).await.unwrap());
        }
        founder.handle().waiting(limits::ADMISSIONS_PER_ADDRESS).await;
        // For one more the one that came first has to leave, long before its time is over.
        let mut answer = Vec::new();
        let one_more = TcpStream::connect(&port).await.unwrap();
        let _ = silent[0].read_to_end(&mut answer).await;
        silent.push(one_more);
        assert_eq!(founder.handle().door().waiting, limits::ADMISSIONS_PER_ADDRESS);
        // And so a newcomer comes in past all of them, from the same address.
        let newcomer = Node::join(founder.ticket(1).await, "newcomer").await;
        let peer = newcomer.own();
        founder.hear(|event| matches!(event, NetworkEvent::Connected(who) if *who == peer)).await;
        // Their time is over.
        founder.handle().waiting(0).await;
        let count = limits::ADMISSIONS_PER_ADDRESS as u64;
        founder.handle().refused(Refusal::TimedOut, count).await;
        for mut stream in silent {
            let _ = stream.read_to_end(&mut answer).await;
        }
        assert_eq!((answer.as_slice(), founder.handle().door().logged), (&b""[..], 1));
    });
}
