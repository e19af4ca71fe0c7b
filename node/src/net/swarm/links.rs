//! The connections, and what is done to find those that lead to nobody any more
//! ([`mesh_protocol::probe`] decides, [`super::super::probing`] says how).

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p::Stream;
use libp2p::swarm::ConnectionId;
use mesh_protocol::limits;
use mesh_protocol::peer::PeerId;
use mesh_protocol::probe::{Effect, Input, Probes};
use mesh_protocol::time::Time;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::super::identity::to_libp2p;
use super::super::member_stream::MemberStream;
use super::super::probing;
use super::super::streams::{Channel, Open};
use super::member_loop::MemberLoop;

/// All connections; a peer may have several.
pub(super) struct Links {
    probes: Probes<ConnectionId>,
    links: BTreeMap<ConnectionId, Link>,
    under_way: JoinSet<Probed>,
}

struct Link {
    peer: PeerId,
    /// For our next question.
    stream: Option<MemberStream>,
    /// Streams on which the other end may ask.
    askers: usize,
}

/// How a question ended.
pub(super) enum Probed {
    /// One of ours was answered.
    Answered { over: ConnectionId, stream: MemberStream, round_trip: Duration },
    /// One of ours will not be, on this stream; was it there before?
    Failed { over: ConnectionId, was_kept: bool },
    /// We have answered one.
    Asked { over: ConnectionId, stream: MemberStream },
    /// A stream on which the other end asked is closed.
    Ended { over: ConnectionId },
}

impl Links {
    pub(super) fn new(seed: u64) -> Self {
        Self { probes: Probes::new(seed), links: BTreeMap::new(), under_way: JoinSet::new() }
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.probes.next_deadline()
    }

    /// The next question that ends; none if none is under way. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Probed> {
        // One that panicked is one that is not answered.
        self.under_way.join_next().await.and_then(Result::ok)
    }

    fn of(&self, peer: PeerId) -> Vec<ConnectionId> {
        let of = self.links.iter().filter(|(_, link)| link.peer == peer);
        of.map(|(connection, _)| *connection).collect()
    }

    /// Waits for the next question of the other end, and answers it.
    fn listen(&mut self, over: ConnectionId, mut stream: MemberStream) {
        self.under_way.spawn(async move {
            match probing::answer(&mut stream).await {
                Ok(()) => Probed::Asked { over, stream },
                Err(_) => Probed::Ended { over },
            }
        });
    }
}

impl MemberLoop {
    pub(super) fn on_link_up(&mut self, connection: ConnectionId, peer: PeerId) {
        self.links.links.insert(connection, Link { peer, stream: None, askers: 0 });
        self.tell_probes(Input::Up(connection));
    }

    pub(super) fn on_link_down(&mut self, connection: ConnectionId) {
        self.links.links.remove(&connection);
        self.tell_probes(Input::Down(connection));
    }

    /// Something depends on the connections to this peer.
    pub(super) fn on_used(&mut self, peer: PeerId) {
        for connection in self.links.of(peer) {
            self.tell_probes(Input::Used(connection));
        }
    }

    /// The other end will ask on this stream.
    pub(super) fn on_asker(&mut self, over: ConnectionId, stream: Stream) {
        let Some(link) = self.links.links.get_mut(&over) else { return };
        // A stream that is dropped is reset.
        if link.askers < limits::LINK_ASKERS {
            link.askers += 1;
            self.links.listen(over, MemberStream::new(stream, None));
        }
    }

    pub(super) fn on_probed(&mut self, probed: Probed) {
        match probed {
            Probed::Answered { over, stream, round_trip } => {
                let Some(link) = self.links.links.get_mut(&over) else { return };
                link.stream = Some(stream);
                if let Some(connected) = self.connected.get_mut(&link.peer) {
                    connected.round_trip_us = u64::try_from(round_trip.as_micros()).ok();
                }
                self.tell_probes(Input::Answered(over));
            }
            // The other end may have closed it, for whatever reason; a new one will tell.
            Probed::Failed { over, was_kept: true } => self.ask(over),
            // It is dead unless the machine hears otherwise.
            Probed::Failed { was_kept: false, .. } => (),
            Probed::Asked { over, stream } => {
                if self.links.links.contains_key(&over) {
                    self.links.listen(over, stream);
                    self.tell_probes(Input::Asked(over));
                }
            }
            Probed::Ended { over } => {
                if let Some(link) = self.links.links.get_mut(&over) {
                    link.askers -= 1;
                }
            }
        }
    }

    /// Asks all whose time has come.
    pub(super) fn probe_due(&mut self) {
        let now = self.now();
        if self.links.next_deadline().is_none_or(|due| now < due) {
            return;
        }
        let is_used = |peer| self.connected.get(&peer).is_some_and(|known| known.usage.is_used());
        let links = self.links.links.iter().filter(|(_, link)| is_used(link.peer));
        let used: Vec<ConnectionId> = links.map(|(connection, _)| *connection).collect();
        used.into_iter().for_each(|connection| self.tell_probes(Input::Used(connection)));
        let mut effects = Vec::new();
        self.links.probes.handle_timeout(now, &mut effects);
        effects.into_iter().for_each(|effect| self.perform_probe(effect));
    }

    fn tell_probes(&mut self, input: Input<ConnectionId>) {
        let (now, mut effects) = (self.now(), Vec::new());
        self.links.probes.handle(now, input, &mut effects);
        effects.into_iter().for_each(|effect| self.perform_probe(effect));
    }

    fn perform_probe(&mut self, effect: Effect<ConnectionId>) {
        match effect {
            Effect::Ask(connection) => self.ask(connection),
            Effect::Dead(connection) => {
                tracing::debug!("nobody answers on connection {connection}");
                // It may be gone already.
                let _ = self.parts.swarm.close_connection(connection);
            }
        }
    }

    /// On the stream that is there, or on a new one.
    fn ask(&mut self, over: ConnectionId) {
        let Some(link) = self.links.links.get_mut(&over) else { return };
        if let Some(mut stream) = link.stream.take() {
            self.links.under_way.spawn(async move {
                match probing::ask(&mut stream).await {
                    Ok(round_trip) => Probed::Answered { over, stream, round_trip },
                    Err(_) => Probed::Failed { over, was_kept: true },
                }
            });
            return;
        }
        let Some(name) = to_libp2p(link.peer) else { return };
        let (reply, answer) = oneshot::channel();
        let open = Open { channel: Channel::Probe, user: None, reply };
        self.parts.swarm.behaviour_mut().streams.open(name, Some(over), open);
        self.links.under_way.spawn(async move {
            if let Ok(Ok(mut stream)) = answer.await
                && let Ok(round_trip) = probing::ask(&mut stream).await
            {
                return Probed::Answered { over, stream, round_trip };
            }
            Probed::Failed { over, was_kept: false }
        });
    }
}
