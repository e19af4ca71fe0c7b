//! What is spoken on an admitted connection: streams and gossip; and how neighbours are found.

use std::collections::HashSet;
use std::time::Duration;

use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::gossipsub::{
    self, IdentTopic, MessageAuthenticity, TopicHash, ValidationMode, WhitelistSubscriptionFilter,
};
use libp2p::identity::Keypair;
use libp2p::kad::store::MemoryStore;
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{PeerId, StreamProtocol, kad, mdns};
use mesh_protocol::limits;
use mesh_protocol::wire::admission::MeshId;

use super::super::Topic;
use super::super::streams::Streams;
use super::{StartError, SwarmConfig};

/// Gossipsub with nothing but our topics.
pub(super) type Gossip =
    gossipsub::Behaviour<gossipsub::IdentityTransform, WhitelistSubscriptionFilter>;

/// Kademlia as a routing table: it keeps no records ([`crate::records`] does).
pub(super) type Routing = kad::Behaviour<MemoryStore>;

/// A signature, a key, a sequence number and a topic's name around each message.
const ENVELOPE_BYTES: usize = 512;

/// A walk through the mesh ends after this long with what it has found.
const WALK_PATIENCE: Duration = Duration::from_secs(5);

/// Those whom no walk has come by are looked for this often.
const BOOTSTRAP_INTERVAL: Duration = Duration::from_secs(15 * 60);

/// Two that dial each other at once have two; a third is a mistake.
const CONNECTIONS_PER_PEER: u32 = 3;

const TOPICS: [Topic; 2] = [Topic::Offers, Topic::Revocations];

#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    limits: connection_limits::Behaviour,
    pub(super) streams: Streams,
    pub(super) gossip: Gossip,
    pub(super) kad: Routing,
    mdns: Toggle<mdns::tokio::Behaviour>,
}

impl Behaviour {
    pub(super) fn new(
        keypair: &Keypair,
        mesh: MeshId,
        config: &SwarmConfig,
    ) -> Result<Self, StartError> {
        let limits = ConnectionLimits::default()
            .with_max_pending_incoming(Some(2 * limits::ADMISSIONS as u32))
            .with_max_established_per_peer(Some(CONNECTIONS_PER_PEER))
            .with_max_established(Some(limits::CONNECTIONS));
        let mdns = match config.mdns {
            true => Some(mdns(keypair.public().to_peer_id())?),
            false => None,
        };
        Ok(Self {
            limits: connection_limits::Behaviour::new(limits),
            streams: Streams::new(mesh, config.patience),
            gossip: gossip(keypair, mesh, config)?,
            kad: kad(keypair.public().to_peer_id(), mesh)?,
            mdns: mdns.into(),
        })
    }
}

fn mdns(own: PeerId) -> Result<mdns::tokio::Behaviour, StartError> {
    mdns::tokio::Behaviour::new(mdns::Config::default(), own).map_err(StartError::Mdns)
}

fn kad(own: PeerId, mesh: MeshId) -> Result<Routing, StartError> {
    let name = StreamProtocol::try_from_owned(format!("/mesh/{mesh}/kad"))
        .map_err(|error| StartError::Routing(error.to_string()))?;
    let mut config = kad::Config::new(name);
    config
        .set_query_timeout(WALK_PATIENCE)
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        .set_publication_interval(None)
        .set_replication_interval(None)
        .set_provider_publication_interval(None)
        .set_periodic_bootstrap_interval(Some(BOOTSTRAP_INTERVAL));
    let mut kad = Routing::with_config(own, MemoryStore::new(own), config);
    // By itself it would wait until somebody confirms that we can be reached, which on a local network
    // nobody does.
    kad.set_mode(Some(kad::Mode::Server));
    Ok(kad)
}

fn gossip(keypair: &Keypair, mesh: MeshId, config: &SwarmConfig) -> Result<Gossip, StartError> {
    let largest = TOPICS.iter().map(|topic| topic.bytes_max()).max().unwrap_or(0);
    let settings = gossipsub::ConfigBuilder::default()
        .protocol_id_prefix(format!("/mesh/{mesh}/gossip"))
        .validation_mode(ValidationMode::Strict)
        // We say who may speak: members, as far as we know.
        .validate_messages()
        .max_transmit_size(largest + ENVELOPE_BYTES)
        .heartbeat_interval(config.gossip_heartbeat)
        .build()
        .map_err(|error| StartError::Gossip(error.to_string()))?;
    let topics: Vec<IdentTopic> = TOPICS.iter().map(|topic| name(mesh, *topic)).collect();
    let allowed: HashSet<TopicHash> = topics.iter().map(|topic| topic.hash()).collect();
    let mut gossip = Gossip::new_with_subscription_filter(
        MessageAuthenticity::Signed(keypair.clone()),
        settings,
        WhitelistSubscriptionFilter(allowed),
    )
    .map_err(|error| StartError::Gossip(error.to_owned()))?;
    for topic in topics {
        gossip.subscribe(&topic).map_err(|error| StartError::Gossip(error.to_string()))?;
    }
    Ok(gossip)
}

/// What a topic is called in gossip.
pub(super) fn name(mesh: MeshId, topic: Topic) -> IdentTopic {
    let name = match topic {
        Topic::Offers => "offers",
        Topic::Revocations => "revocations",
    };
    IdentTopic::new(format!("/mesh/{mesh}/{name}"))
}

/// Which topic is called that.
pub(super) fn topic(mesh: MeshId, hash: &TopicHash) -> Option<Topic> {
    TOPICS.into_iter().find(|topic| name(mesh, *topic).hash() == *hash)
}
