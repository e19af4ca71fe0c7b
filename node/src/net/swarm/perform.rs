//! What the loop does about what happened.

use std::time::Duration;

use libp2p::core::ConnectedPoint;
use libp2p::gossipsub::{self, MessageAcceptance};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, SwarmEvent};
use libp2p::{Multiaddr, TransportError, mdns};
use mesh_protocol::limits;
use mesh_protocol::peer::PeerId;
use mesh_protocol::wire::admission::{Farewell, Judge, Refusal, Revocation, Roles};
use mesh_protocol::wire::roster::Roster;
use tokio::sync::oneshot;

use super::super::identity::{Ed25519, from_libp2p, to_libp2p};
use super::super::meeting::{self, News};
use super::super::member_stream::MemberStream;
use super::super::membership::now_s;
use super::super::streams::{Channel, Incoming, Open, OpenError};
use super::super::transport::ConnectError;
use super::super::{NetworkEvent, Service, Topic};
use super::behaviour::{BehaviourEvent, name, topic};
use super::member_loop::{Command, Connected, MemberLoop, Met};
use super::{JoinState, MemberInfo, RevokedBy};

/// Gossip is dropped before the streams that came are: with this many events waiting.
const GOSSIP_WAITING: usize = limits::NETWORK_EVENTS / 2;

/// Rosters of one member that are heard at once.
const ROSTERS_PER_PEER: usize = 8;

/// A roster that has not come after this long does not come: on a line that loses a fifth of its
/// packets one takes half of it.
const ROSTER_PATIENCE: Duration = Duration::from_secs(30);

impl MemberLoop {
    pub(super) fn on_command(&mut self, command: Command) {
        match command {
            Command::Open { peer, service, reply } => {
                self.open(peer, Open { channel: Channel::Service(service), user: None, reply });
            }
            Command::Publish(topic, message) => self.publish(topic, message),
            Command::Revoked(revocation) => self.on_out_news(vec![*revocation], vec![]),
            Command::Part(farewell, told) => self.part(*farewell, told),
            Command::Forgotten(peer) => self.on_gone(peer),
            Command::Peers(reply) => drop(reply.send(self.peers())),
            Command::Closest(target, reply) => self.closest(target, reply),
            Command::Stop => (),
        }
    }

    pub(super) fn on_swarm(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Streams(incoming)) => self.on_stream(incoming),
            SwarmEvent::Behaviour(BehaviourEvent::Gossip(gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            })) => {
                let acceptance = self.on_gossip(message);
                let gossip = &mut self.parts.swarm.behaviour_mut().gossip;
                gossip.report_message_validation_result(
                    &message_id,
                    &propagation_source,
                    acceptance,
                );
            }
            SwarmEvent::Behaviour(BehaviourEvent::Kad(event)) => self.on_routing(event),
            SwarmEvent::Behaviour(BehaviourEvent::Mdns(mdns::Event::Discovered(found))) => {
                found.into_iter().for_each(|(peer, address)| self.on_neighbour(&peer, address));
            }
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                num_established,
                ..
            } => {
                if let Some(peer) = from_libp2p(&peer_id) {
                    let is_first = num_established.get() == 1;
                    self.on_connected(peer, connection_id, &endpoint, is_first);
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, .. } => {
                self.on_link_down(connection_id);
                if let Some(peer) = from_libp2p(&peer_id).filter(|_| num_established == 0) {
                    self.on_disconnected(peer);
                }
            }
            SwarmEvent::OutgoingConnectionError { peer_id, error, .. } => {
                if let Some(peer) = peer_id.and_then(|peer| from_libp2p(&peer)) {
                    self.on_dial_failed(peer, &error);
                }
            }
            SwarmEvent::NewListenAddr { .. } | SwarmEvent::ExpiredListenAddr { .. } => {
                self.on_addresses();
            }
            SwarmEvent::ListenerClosed { reason: Err(error), .. }
            | SwarmEvent::ListenerError { error, .. } => tracing::error!("cannot listen: {error}"),
            _ => (),
        }
    }

    fn on_connected(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        endpoint: &ConnectedPoint,
        is_first: bool,
    ) {
        let address = match endpoint {
            ConnectedPoint::Dialer { address, .. } => bare(address.clone()),
            ConnectedPoint::Listener { .. } => None,
        };
        let is_member = {
            let mut membership = self.parts.membership.lock();
            membership.met(peer, address, now_s());
            membership.roles(peer, now_s()).is_some()
        };
        // Revoked while it was being admitted.
        if !is_member {
            return self.disconnect(peer);
        }
        self.reconnect.forget(peer);
        self.parts.joined.send_if_modified(|state| {
            let was = std::mem::replace(state, JoinState::Joined);
            was != JoinState::Joined
        });
        self.add_route(peer);
        if is_first {
            self.connected.insert(peer, Connected::default());
            self.outbox.push_back(NetworkEvent::Connected(peer));
        }
        self.on_link_up(connection, peer);
        for open in self.waiting.remove(&peer).unwrap_or_default() {
            self.open(peer, open);
        }
        // Also if there is another connection: that may be what a restarted peer has left behind.
        self.tell_all(peer);
    }

    fn on_disconnected(&mut self, peer: PeerId) {
        if self.connected.remove(&peer).is_some() {
            self.outbox.push_back(NetworkEvent::Disconnected(peer));
        }
        self.want(vec![peer]);
    }

    fn on_dial_failed(&mut self, peer: PeerId, error: &DialError) {
        if let DialError::DialPeerConditionFalse(_) = error {
            // There is a connection, or another attempt whose end will be told.
            let now = self.now();
            return self.reconnect.failed(peer, now);
        }
        let is_known = self.parts.membership.lock().member(peer).is_some();
        let is_issuer = self.issuer() == Some(peer);
        let now = self.now();
        self.reconnect.failed(peer, now);
        if is_issuer {
            let state = match refusal(error) {
                Some(refusal) => JoinState::Refused(refusal),
                None => JoinState::Unreachable(explain(error)),
            };
            let joined = |known: &JoinState| *known == JoinState::Joined;
            self.parts.joined.send_if_modified(|known| {
                let is_news = !joined(known) && *known != state;
                if is_news {
                    *known = state;
                }
                is_news
            });
        } else if is_known && refusal(error) == Some(Refusal::Revoked) {
            self.on_own_end(RevokedBy::Word(peer));
        } else if !is_known {
            self.reconnect.forget(peer);
            self.neighbours.remove(&peer);
        }
        for open in self.waiting.remove(&peer).unwrap_or_default() {
            let _ = open.reply.send(Err(OpenError::Gone));
        }
    }

    /// A member says that this node was revoked, which may be a lie, or an admin has signed it. Its
    /// owner should know.
    fn on_own_end(&mut self, by: RevokedBy) {
        self.parts.revoked_by.send_if_modified(|known| {
            let is_news = known.is_none();
            known.get_or_insert(by);
            is_news
        });
    }

    /// Who issued our ticket, as long as we are no member.
    fn issuer(&self) -> Option<PeerId> {
        let membership = self.parts.membership.lock();
        let ticket = membership.ticket().filter(|_| membership.certificate().is_none());
        ticket.map(|ticket| ticket.issuer)
    }

    /// Dials all whose time has come.
    pub(super) fn dial_due(&mut self) {
        let now = self.now();
        for peer in self.reconnect.due(now) {
            if self.connected.contains_key(&peer) {
                self.reconnect.forget(peer);
            } else if let Err(error) = self.dial(peer) {
                self.on_dial_failed(peer, &error);
            }
        }
    }

    fn dial(&mut self, peer: PeerId) -> Result<(), DialError> {
        let addresses = self.addresses_of(peer);
        let name = to_libp2p(peer).filter(|_| !addresses.is_empty());
        let Some(name) = name else { return Err(DialError::NoAddresses) };
        let options = DialOpts::peer_id(name)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .addresses(addresses)
            // From the port on which we listen, two that dial each other at once would make one TCP
            // connection of it (simultaneous open, RFC 9293, 3.5), on which both speak first.
            .allocate_new_port()
            .build();
        self.parts.swarm.dial(options)
    }

    pub(super) fn addresses_of(&self, peer: PeerId) -> Vec<Multiaddr> {
        let membership = self.parts.membership.lock();
        let ticket = membership.ticket().filter(|ticket| ticket.issuer == peer);
        let ticket = ticket.into_iter().flat_map(|ticket| &ticket.addresses);
        let known = membership.member(peer).into_iter().flat_map(|member| &member.addresses);
        let known = known.chain(ticket).filter_map(|address| address.parse().ok());
        let mut addresses: Vec<Multiaddr> = Vec::new();
        let neighbour = self.neighbours.get(&peer).into_iter().flatten().cloned();
        for address in known.chain(neighbour) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }

    /// Those of them that are missing are dialled in time, as long as there are not enough.
    pub(super) fn want(&mut self, peers: Vec<PeerId>) {
        let (now, own) = (self.now(), self.own());
        let mut room = self.peers_wanted.saturating_sub(self.connected.len());
        let issuer = self.issuer();
        for peer in peers.into_iter().chain(issuer) {
            let may =
                issuer == Some(peer) || self.parts.membership.lock().roles(peer, now_s()).is_some();
            if room > 0 && may && peer != own && !self.connected.contains_key(&peer) {
                self.reconnect.want(peer, now);
                room -= 1;
            }
        }
    }

    fn open(&mut self, peer: PeerId, mut open: Open) {
        let connected = to_libp2p(peer).zip(self.connected.get(&peer));
        if let Some((name, connected)) = connected {
            if open.channel.is_use() {
                open.user = Some(connected.usage.user());
                self.on_used(peer);
            }
            return self.parts.swarm.behaviour_mut().streams.open(name, None, open);
        }
        let waiting: usize = self.waiting.values().map(Vec::len).sum();
        let may = self.parts.membership.lock().roles(peer, now_s()).is_some();
        if !may || waiting >= limits::OPENS_WAITING {
            let _ = open.reply.send(Err(OpenError::Gone));
            return;
        }
        self.waiting.entry(peer).or_default().push(open);
        let now = self.now();
        self.reconnect.hurry(peer, now);
    }

    fn on_stream(&mut self, Incoming { peer, connection, channel, stream }: Incoming) {
        let Some(peer) = from_libp2p(&peer) else { return };
        match channel {
            Channel::Roster => self.hear_roster(peer, MemberStream::new(stream, None)),
            Channel::Probe => self.on_asker(connection, stream),
            Channel::Service(service) => {
                let roles = self.parts.membership.lock().roles(peer, now_s());
                // Only workers claim. A stream that is dropped is reset.
                let may = roles
                    .is_some_and(|roles| service != Service::Claim || roles.include(Roles::WORKER));
                if may {
                    let user = self.connected.get(&peer).map(|connected| connected.usage.user());
                    self.on_used(peer);
                    let stream = Box::new(MemberStream::new(stream, user));
                    self.outbox.push_back(NetworkEvent::Incoming { peer, service, stream });
                }
            }
        }
    }

    fn on_gossip(&mut self, message: gossipsub::Message) -> MessageAcceptance {
        let topic = topic(self.parts.mesh, &message.topic);
        let author = message.source.as_ref().and_then(from_libp2p);
        let Some((topic, from)) = topic.zip(author) else { return MessageAcceptance::Reject };
        let Some(roles) = self.parts.membership.lock().roles(from, now_s()) else {
            // Perhaps we have not heard of it yet.
            return MessageAcceptance::Ignore;
        };
        if message.data.len() > topic.bytes_max() {
            return MessageAcceptance::Reject;
        }
        match topic {
            Topic::Offers if !roles.include(Roles::SUBMITTER) => MessageAcceptance::Ignore,
            Topic::Offers => {
                if self.outbox.len() < GOSSIP_WAITING {
                    let message = message.data;
                    self.outbox.push_back(NetworkEvent::Gossip { from, topic, message });
                }
                MessageAcceptance::Accept
            }
            Topic::Revocations => self.on_revocation(&message.data),
        }
    }

    fn on_revocation(&mut self, bytes: &[u8]) -> MessageAcceptance {
        let Ok(revocation) = Revocation::decode(bytes) else { return MessageAcceptance::Reject };
        if revocation.verify(self.parts.mesh, now_s(), &Ed25519).is_err() {
            return MessageAcceptance::Reject;
        }
        if self.parts.membership.lock().learn_revocation(&revocation) {
            self.on_out(&revocation);
        }
        MessageAcceptance::Accept
    }

    pub(super) fn on_news(&mut self, news: News) {
        self.on_out_news(news.revocations, news.farewells);
        let now = self.now();
        for peer in &news.members {
            self.add_route(*peer);
            let is_wanted = self.connected.len() < self.peers_wanted;
            if is_wanted && !self.connected.contains_key(peer) {
                self.reconnect.hurry(*peer, now);
            }
        }
    }

    /// Revocations and farewells that are noted already: tells all, and parts with whom they concern.
    /// Revocations by gossip to those who are far; both to our neighbours directly, for gossip may be
    /// lost. Whom it concerns hears it too, before it is disconnected.
    fn on_out_news(&mut self, revocations: Vec<Revocation>, farewells: Vec<Farewell>) {
        if revocations.is_empty() && farewells.is_empty() {
            return;
        }
        for revocation in &revocations {
            if let Ok(bytes) = revocation.encode() {
                self.publish(Topic::Revocations, bytes);
            }
        }
        let roster = Roster { revocations, farewells, ..Roster::default() };
        let connected: Vec<PeerId> = self.connected.keys().copied().collect();
        connected.into_iter().for_each(|peer| self.tell(peer, roster.clone()));
        roster.revocations.iter().for_each(|revocation| self.on_out(revocation));
        for Farewell { peer, .. } in &roster.farewells {
            tracing::info!("{peer} has left the mesh");
            self.on_gone(*peer);
        }
    }

    fn on_out(&mut self, revocation: &Revocation) {
        if revocation.peer == self.own() {
            tracing::error!("this node was revoked: it is a member no more");
            self.on_own_end(RevokedBy::Signed);
        }
        tracing::info!("{} is a member no more", revocation.peer);
        let now_s = now_s();
        let out = |peer: &&PeerId| self.parts.membership.lock().roles(**peer, now_s).is_none();
        let out: Vec<PeerId> = self.connected.keys().filter(out).copied().collect();
        self.on_gone(revocation.peer);
        // Those whom it let in, too.
        out.into_iter().for_each(|peer| self.disconnect(peer));
    }

    /// It will not come back, or only by itself.
    fn on_gone(&mut self, peer: PeerId) {
        self.reconnect.forget(peer);
        self.remove_route(peer);
        self.disconnect(peer);
    }

    /// Tells those who are connected that this node leaves, and then how many have heard it.
    fn part(&mut self, farewell: Farewell, told: oneshot::Sender<usize>) {
        let roster = Roster { farewells: vec![farewell], ..Roster::default() };
        let connected: Vec<PeerId> = self.connected.keys().copied().collect();
        let hear: Vec<_> =
            connected.into_iter().map(|peer| self.telling(peer, roster.clone())).collect();
        tokio::spawn(async move {
            let heard = libp2p::futures::future::join_all(hear).await;
            // Whoever asked may have stopped waiting.
            let _ = told.send(heard.into_iter().filter(|heard| *heard).count());
        });
    }

    pub(super) fn disconnect(&mut self, peer: PeerId) {
        if let Some(name) = to_libp2p(peer) {
            // It may be gone already.
            let _ = self.parts.swarm.disconnect_peer_id(name);
        }
    }

    fn publish(&mut self, topic: Topic, message: Vec<u8>) {
        let name = name(self.parts.mesh, topic);
        let gossip = &mut self.parts.swarm.behaviour_mut().gossip;
        // What is said to all depends on those who pass it on.
        let passed_on: Vec<PeerId> =
            gossip.mesh_peers(&name.hash()).filter_map(from_libp2p).collect();
        if let Err(error) = gossip.publish(name, message) {
            tracing::debug!("gossip that nobody hears: {error}");
        }
        passed_on.into_iter().for_each(|peer| self.on_used(peer));
    }

    /// The local network says where a peer is. If it is no member, it will not know our knock.
    fn on_neighbour(&mut self, name: &libp2p::PeerId, address: Multiaddr) {
        let Some(peer) = from_libp2p(name).filter(|peer| *peer != self.own()) else { return };
        if self.parts.membership.lock().is_revoked(peer) {
            return;
        }
        let is_new = !self.neighbours.contains_key(&peer);
        if is_new && self.neighbours.len() >= limits::PEERS_WANTED {
            return;
        }
        let addresses = self.neighbours.entry(peer).or_default();
        let address = strip(address);
        if !addresses.contains(&address) && addresses.len() < limits::ADDRESSES {
            addresses.push(address);
        }
        if !self.connected.contains_key(&peer) {
            let now = self.now();
            self.reconnect.hurry(peer, now);
        }
    }

    /// Where others find us has changed: those who are connected are told.
    fn on_addresses(&mut self) {
        let addresses = self.own_addresses();
        self.parts.addresses.send_if_modified(|known| {
            let is_news = *known != addresses;
            *known = addresses;
            is_news
        });
        let connected: Vec<PeerId> = self.connected.keys().copied().collect();
        connected.into_iter().for_each(|peer| self.tell_all(peer));
    }

    /// Those that others can reach: loopback only if there is nothing else.
    fn own_addresses(&self) -> Vec<String> {
        let listeners = self.parts.swarm.listeners().cloned().map(strip);
        let (near, far): (Vec<Multiaddr>, Vec<Multiaddr>) = listeners.partition(is_loopback);
        let listeners = if far.is_empty() { near } else { far };
        let listeners = listeners.iter().map(Multiaddr::to_string);
        let all = self.external.iter().cloned().chain(listeners);
        all.take(limits::ADDRESSES).collect()
    }

    /// Tells a member all that we know.
    pub(super) fn tell_all(&mut self, peer: PeerId) {
        let addresses = self.own_addresses();
        let roster = self.parts.membership.lock().roster(addresses, now_s());
        self.tell(peer, roster);
    }

    fn tell(&mut self, peer: PeerId, roster: Roster) {
        let telling = self.telling(peer, roster);
        self.meetings.spawn(async move {
            match telling.await {
                true => Met::Told,
                false => Met::Untold(peer),
            }
        });
    }

    /// Comes to whether it has heard it.
    fn telling(&mut self, peer: PeerId, roster: Roster) -> impl Future<Output = bool> + use<> {
        let (reply, answer) = oneshot::channel();
        self.open(peer, Open { channel: Channel::Roster, user: None, reply });
        async move {
            if let Ok(Ok(stream)) = answer.await {
                let told = meeting::tell(stream, roster);
                if matches!(tokio::time::timeout(ROSTER_PATIENCE, told).await, Ok(Ok(()))) {
                    return true;
                }
            }
            tracing::debug!("{peer} did not hear our roster");
            false
        }
    }

    fn hear_roster(&mut self, peer: PeerId, stream: MemberStream) {
        let heard = self.heard_from.entry(peer).or_default();
        if *heard >= ROSTERS_PER_PEER {
            return;
        }
        *heard += 1;
        let (membership, news) = (self.parts.membership.clone(), self.news.clone());
        self.meetings.spawn(async move {
            let heard = meeting::hear(stream, peer, &membership, &news);
            if !matches!(tokio::time::timeout(ROSTER_PATIENCE, heard).await, Ok(Ok(()))) {
                tracing::debug!("the roster of {peer} was cut or malformed");
            }
            Met::Heard(peer)
        });
    }

    fn peers(&self) -> Vec<MemberInfo> {
        let membership = self.parts.membership.lock();
        let members = membership.members().map(|(peer, member)| {
            let connected = self.connected.get(&peer);
            MemberInfo {
                is_connected: connected.is_some(),
                round_trip_us: connected.and_then(|connected| connected.round_trip_us),
                ..MemberInfo::away(peer, member)
            }
        });
        members.collect()
    }
}

/// An address without the name of its peer.
fn strip(address: Multiaddr) -> Multiaddr {
    address.into_iter().filter(|part| !matches!(part, Protocol::P2p(_))).collect()
}

fn bare(address: Multiaddr) -> Option<String> {
    let text = strip(address).to_string();
    (text.len() <= limits::ADDRESS_BYTES).then_some(text)
}

fn is_loopback(address: &Multiaddr) -> bool {
    address.iter().any(|part| match part {
        Protocol::Ip4(ip) => ip.is_loopback(),
        Protocol::Ip6(ip) => ip.is_loopback(),
        _ => false,
    })
}

/// What the other end, or we, held against the connection.
fn refusal(error: &DialError) -> Option<Refusal> {
    let DialError::Transport(errors) = error else { return None };
    errors.iter().find_map(|(_, error)| {
        let TransportError::Other(error) = error else { return None };
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(error) = cause {
            if let Some(ConnectError::Refused(refusal)) = error.downcast_ref() {
                return Some(*refusal);
            }
            let inner = error.downcast_ref::<std::io::Error>().and_then(|error| error.get_ref());
            cause = inner.map(|inner| inner as _).or_else(|| error.source());
        }
        None
    })
}

/// The first reason, for people.
fn explain(error: &DialError) -> String {
    match error {
        DialError::Transport(errors) => match errors.first() {
            Some((address, error)) => format!("{}: {error}", strip(address.clone())),
            None => error.to_string(),
        },
        other => other.to_string(),
    }
}
