//! Nodes with a home each, in one process, over TCP on 127.0.0.1.

use std::future::Future;
use std::time::Duration;

use mesh_node::net::membership::Membership;
use mesh_node::net::swarm::{JoinState, Started, SwarmConfig, SwarmHandle, start};
use mesh_node::net::{BoxStream, NetworkEvent, Service};
use mesh_protocol::peer::PeerId;
use mesh_protocol::wire::admission::{Roles, Ticket};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

pub(crate) const NOW_S: u64 = 1_700_000_000;
pub(crate) const HOUR_S: u64 = 3600;

/// Runs a test that must come to an end, however slow the machine is.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    let ended = async { tokio::time::timeout(Duration::from_secs(60), test).await };
    runtime.block_on(ended).expect("the test hangs");
}

pub(crate) fn config() -> SwarmConfig {
    SwarmConfig {
        listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()],
        mdns: false,
        patience: Duration::from_secs(20),
        backoff_min: Duration::from_millis(20),
        backoff_max: Duration::from_millis(500),
        gossip_heartbeat: Duration::from_millis(100),
        ..SwarmConfig::default()
    }
}

pub(crate) struct Node {
    pub(crate) home: TempDir,
    pub(crate) started: Started,
}

impl Node {
    pub(crate) fn start(home: TempDir, membership: Membership, config: SwarmConfig) -> Self {
        Self { home, started: start(membership, config).unwrap() }
    }

    /// The first member of a mesh.
    pub(crate) async fn found(config: SwarmConfig) -> Self {
        let home = tempfile::tempdir().unwrap();
        let membership = Membership::found(home.path(), "founder", NOW_S).unwrap();
        let node = Self::start(home, membership, config);
        assert_eq!(node.handle().listening().await.len(), 1);
        node
    }

    pub(crate) fn invited(ticket: Ticket, name: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let membership = Membership::invited(home.path(), ticket, name, false).unwrap();
        Self::start(home, membership, config())
    }

    /// A newcomer, after it has joined.
    pub(crate) async fn join(ticket: Ticket, name: &str) -> Self {
        let node = Self::invited(ticket, name);
        let decided = node.handle().joined(|state| *state == JoinState::Joined).await;
        assert_eq!(decided, Some(JoinState::Joined));
        node
    }

    /// Another process with the same home.
    pub(crate) async fn restart(self, config: SwarmConfig) -> Self {
        let Self { home, started } = self;
        started.handle.stop().await;
        started.task.await.unwrap();
        let membership = Membership::open(home.path()).unwrap().unwrap();
        Self::start(home, membership, config)
    }

    pub(crate) fn handle(&self) -> &SwarmHandle {
        &self.started.handle
    }

    pub(crate) fn own(&self) -> PeerId {
        self.started.network.own()
    }

    pub(crate) async fn ticket(&self, uses: u32) -> Ticket {
        self.handle().invite(Roles::MEMBER, uses, HOUR_S).await.unwrap()
    }

    /// The address of its TCP port.
    pub(crate) async fn port(&self) -> String {
        let address = self.handle().listening().await.remove(0);
        let port = address.strip_prefix("/ip4/127.0.0.1/tcp/").unwrap();
        format!("127.0.0.1:{port}")
    }

    pub(crate) async fn connected(&mut self, peer: PeerId) {
        self.hear(|event| matches!(event, NetworkEvent::Connected(who) if *who == peer)).await;
    }

    pub(crate) async fn disconnected(&mut self, peer: PeerId) {
        self.hear(|event| matches!(event, NetworkEvent::Disconnected(who) if *who == peer)).await;
    }

    /// The next event like that; others are passed over.
    pub(crate) async fn hear(&mut self, is_it: impl Fn(&NetworkEvent) -> bool) -> NetworkEvent {
        loop {
            let event = self.started.events.recv().await.expect("the network ended");
            if is_it(&event) {
                return event;
            }
        }
    }
}

/// Says back what it hears, on each stream that comes.
pub(crate) fn echo(mut events: mpsc::Receiver<NetworkEvent>) {
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            if let NetworkEvent::Incoming { mut stream, .. } = event {
                tokio::spawn(async move {
                    let mut said = Vec::new();
                    stream.read_to_end(&mut said).await.unwrap();
                    stream.write_all(&said).await.unwrap();
                    stream.shutdown().await.unwrap();
                });
            }
        }
    });
}

/// Says something to who echoes.
pub(crate) async fn say(mut stream: BoxStream, said: &[u8]) -> Vec<u8> {
    stream.write_all(said).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).await.unwrap();
    heard
}

pub(crate) const SERVICES: [Service; 3] = [Service::Claim, Service::Transfer, Service::Records];
