//! The one loop of the network: wait for what happens, decide, carry out.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use libp2p::futures::StreamExt;
use libp2p::kad::QueryId;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, Swarm};
use mesh_protocol::limits;
use mesh_protocol::peer::PeerId;
use mesh_protocol::records::{Closest, Target};
use mesh_protocol::time::Time;
use mesh_protocol::wire::admission::{Farewell, MeshId, Revocation};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::super::meeting::News;
use super::super::member_stream::Usage;
use super::super::membership::{Shared, now_s};
use super::super::reconnect::{Backoff, Reconnect};
use super::super::streams::{Open, Reply};
use super::super::{NetworkEvent, Service, Topic};
use super::behaviour::{Behaviour, BehaviourEvent};
use super::links::{Links, Probed};
use super::{JoinState, MemberInfo, RevokedBy, SwarmConfig};
use crate::deadline::sleep_until;

/// Certificates that expire, changes to be saved, and members that were missed are looked for this often.
const HOUSEKEEPING: Duration = Duration::from_secs(5);

/// After so many of those, one of the connected members is told all that we know: gossip loses
/// messages, and what was lost must arrive some time.
const TICKS_PER_ROSTER: usize = 12;

/// Events for the node above beyond those that its channel holds: above this nothing more is
/// taken from the network.
const OUTBOX: usize = limits::NETWORK_EVENTS;

/// What is asked of the loop.
pub(super) enum Command {
    Open {
        peer: PeerId,
        service: Service,
        reply: Reply,
    },
    Publish(Topic, Vec<u8>),
    Revoked(Box<Revocation>),
    /// Say that this node leaves; how many have heard it?
    Part(Box<Farewell>, oneshot::Sender<usize>),
    /// Its owner wants to see it no more.
    Forgotten(PeerId),
    Peers(oneshot::Sender<Vec<MemberInfo>>),
    Closest(Target, oneshot::Sender<Closest>),
    Stop,
}

/// What the loop is made of.
pub(super) struct Parts {
    pub(super) swarm: Swarm<Behaviour>,
    pub(super) membership: Shared,
    pub(super) asked: mpsc::Receiver<Command>,
    pub(super) events: mpsc::Sender<NetworkEvent>,
    pub(super) joined: watch::Sender<JoinState>,
    pub(super) addresses: watch::Sender<Vec<String>>,
    /// Who says that this node was revoked.
    pub(super) revoked_by: watch::Sender<Option<RevokedBy>>,
    pub(super) seed: u64,
    pub(super) mesh: MeshId,
}

/// A member that is connected.
#[derive(Default)]
pub(super) struct Connected {
    pub(super) round_trip_us: Option<u64>,
    pub(super) usage: Usage,
}

/// The state of the network.
pub(super) struct MemberLoop {
    pub(super) parts: Parts,
    pub(super) connected: BTreeMap<PeerId, Connected>,
    pub(super) links: Links,
    pub(super) reconnect: Reconnect,
    /// Streams to peers that are not connected yet.
    pub(super) waiting: BTreeMap<PeerId, Vec<Open>>,
    /// Where the local network says that peers are.
    pub(super) neighbours: BTreeMap<PeerId, Vec<Multiaddr>>,
    pub(super) outbox: VecDeque<NetworkEvent>,
    /// Rosters being told or heard; of those heard, how many from whom.
    pub(super) meetings: JoinSet<Met>,
    pub(super) heard_from: BTreeMap<PeerId, usize>,
    /// Those to whom a roster could not be told: they are told again.
    pub(super) untold: BTreeSet<PeerId>,
    pub(super) news: mpsc::Sender<News>,
    /// Walks under way, and who waits for where they come to.
    pub(super) walks: HashMap<QueryId, (Target, oneshot::Sender<Closest>)>,
    pub(super) external: Vec<String>,
    pub(super) peers_wanted: usize,
    news_heard: mpsc::Receiver<News>,
    started: Instant,
    ticks: usize,
}

/// How a roster ended.
pub(super) enum Met {
    /// One of that member was heard, as far as it came.
    Heard(PeerId),
    Told,
    /// That member did not hear it.
    Untold(PeerId),
}

/// What happened.
enum Happening {
    Swarm(Box<SwarmEvent<BehaviourEvent>>),
    Asked(Option<Command>),
    News(News),
    /// There is room in the channel to the node above: its event is on the way.
    Told,
    /// The node above hears no more.
    Deaf,
    MeetingEnded(Option<Met>),
    Probed(Probed),
    Due,
    Housekeeping,
}

impl MemberLoop {
    pub(super) fn new(parts: Parts, config: &SwarmConfig) -> Self {
        let us = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let backoff = Backoff { min_us: us(config.backoff_min), max_us: us(config.backoff_max) };
        let (news, news_heard) = mpsc::channel(limits::DIALS);
        Self {
            connected: BTreeMap::new(),
            links: Links::new(parts.seed),
            reconnect: Reconnect::new(backoff, parts.seed),
            waiting: BTreeMap::new(),
            neighbours: BTreeMap::new(),
            outbox: VecDeque::new(),
            meetings: JoinSet::new(),
            heard_from: BTreeMap::new(),
            untold: BTreeSet::new(),
            walks: HashMap::new(),
            news,
            news_heard,
            external: config.external.clone(),
            peers_wanted: config.peers_wanted,
            started: Instant::now(),
            ticks: 0,
            parts,
        }
    }

    pub(super) async fn run(mut self) {
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let happening = self.wait(&mut housekeeping).await;
            if !self.apply(happening) {
                break;
            }
            self.dial_due();
            self.probe_due();
        }
        self.save();
    }

    async fn wait(&mut self, housekeeping: &mut tokio::time::Interval) -> Happening {
        let due = [self.reconnect.next_deadline(), self.links.next_deadline()];
        let due = due.into_iter().flatten().min();
        let due = due.map(|due| self.started + Duration::from_micros(due.us()));
        let has_room = self.outbox.len() < OUTBOX;
        let parts = &mut self.parts;
        tokio::select! {
            permit = parts.events.reserve(), if !self.outbox.is_empty() => match permit {
                Ok(permit) => {
                    if let Some(event) = self.outbox.pop_front() {
                        permit.send(event);
                    }
                    Happening::Told
                }
                Err(_) => Happening::Deaf,
            },
            event = parts.swarm.select_next_some(), if has_room => Happening::Swarm(Box::new(event)),
            command = parts.asked.recv() => Happening::Asked(command),
            Some(news) = self.news_heard.recv() => Happening::News(news),
            Some(ended) = self.meetings.join_next() => {
                Happening::MeetingEnded(ended.ok())
            }
            Some(probed) = self.links.next() => Happening::Probed(probed),
            () = sleep_until(due) => Happening::Due,
            _ = housekeeping.tick() => Happening::Housekeeping,
        }
    }

    /// Decides; false if that was all.
    fn apply(&mut self, happening: Happening) -> bool {
        match happening {
            Happening::Swarm(event) => self.on_swarm(*event),
            Happening::Asked(None | Some(Command::Stop)) => return false,
            Happening::Asked(Some(command)) => self.on_command(command),
            Happening::News(news) => self.on_news(news),
            Happening::Deaf => self.outbox.clear(),
            Happening::MeetingEnded(Some(Met::Heard(from))) => {
                if let Some(heard) = self.heard_from.get_mut(&from) {
                    *heard -= 1;
                }
            }
            Happening::MeetingEnded(Some(Met::Untold(peer))) => {
                self.untold.insert(peer);
            }
            Happening::MeetingEnded(Some(Met::Told) | None) => (),
            Happening::Probed(probed) => self.on_probed(probed),
            Happening::Housekeeping => self.on_housekeeping(),
            Happening::Told | Happening::Due => (),
        }
        true
    }

    pub(super) fn now(&self) -> Time {
        let us = u64::try_from(self.started.elapsed().as_micros());
        Time::from_us(us.unwrap_or(u64::MAX))
    }

    fn on_housekeeping(&mut self) {
        let (own, now_s) = (self.own(), now_s());
        let (lapsed, members) = {
            let mut membership = self.parts.membership.lock();
            self.connected.keys().for_each(|peer| membership.sees(*peer, now_s));
            membership.forget_absent(now_s);
            let is_out = |peer: &PeerId| membership.roles(*peer, now_s).is_none();
            let lapsed: Vec<PeerId> = self.connected.keys().copied().filter(is_out).collect();
            if membership.certificate().is_some() && is_out(&own) {
                tracing::error!("this node is a member no more: expired or revoked");
            }
            let members: Vec<PeerId> = membership.members().map(|(peer, _)| peer).collect();
            (lapsed, members)
        };
        lapsed.into_iter().for_each(|peer| self.disconnect(peer));
        self.want(members);
        for peer in std::mem::take(&mut self.untold) {
            if self.connected.contains_key(&peer) {
                self.tell_all(peer);
            }
        }
        self.ticks += 1;
        if self.ticks.is_multiple_of(TICKS_PER_ROSTER) && !self.connected.is_empty() {
            // Each in its turn.
            let turn = self.ticks / TICKS_PER_ROSTER % self.connected.len();
            let peer = self.connected.keys().nth(turn).copied();
            peer.into_iter().for_each(|peer| self.tell_all(peer));
        }
        let membership = self.parts.membership.clone();
        // Nobody waits for it: what is lost by a crash is who was met lately.
        drop(tokio::task::spawn_blocking(move || log_failure(membership.save())));
    }

    fn save(&mut self) {
        log_failure(self.parts.membership.save());
    }

    pub(super) fn own(&self) -> PeerId {
        self.parts.membership.lock().own()
    }
}

fn log_failure(saved: Result<(), super::super::membership::MembershipError>) {
    if let Err(error) = saved {
        tracing::error!("what is known of the mesh was not saved: {error}");
    }
}
