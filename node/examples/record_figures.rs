//! What publishing and finding records costs: three members over loopback TCP in one process.
//!
//! `cargo run --release -p mesh-node --example record_figures -- [RECORDS] [IDLE_SECONDS]`

#![allow(clippy::unwrap_used)] // whoever measures sees why it did not work

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mesh_node::claims::Signer;
use mesh_node::net::identity::Key;
use mesh_node::net::membership::{Membership, now_s};
use mesh_node::net::swarm::{self, JoinState, Started, SwarmConfig, SwarmHandle};
use mesh_node::net::{NetworkEvent, Service};
use mesh_node::records::{MembersAndKademlia, Office, Records, RecordsParts, open_kept};
use mesh_node::transfer::Transfers;
use mesh_protocol::name::Digest;
use mesh_protocol::wire::admission::Roles;
use mesh_store::{Store, StoreOptions};

struct NodeKey(Key);

impl Signer for NodeKey {
    fn sign(&self, bytes: &[u8]) -> [[u8; 32]; 2] {
        self.0.sign(bytes)
    }
}

/// One member's records, over a network of its own.
fn start(home: &Path, membership: Membership) -> (Records, Store, SwarmHandle) {
    let store = Store::open(StoreOptions::new(home.join("store"))).unwrap();
    let key = membership.key().clone();
    let listen = vec!["/ip4/127.0.0.1/tcp/0".to_owned()];
    let config = SwarmConfig { listen, mdns: false, ..SwarmConfig::default() };
    let Started { network, mut events, handle, .. } = swarm::start(membership, config).unwrap();
    let transfers = Transfers::new(store.clone(), Arc::clone(&network));
    let records = Records::start(RecordsParts {
        store: store.clone(),
        kept: open_kept(home).unwrap(),
        network,
        neighbours: Arc::new(MembersAndKademlia(handle.clone())),
        transfers,
        signer: Arc::new(NodeKey(key)),
        notary: Arc::new(Office(handle.clone())),
        seed: 1,
    });
    let serves = records.clone();
    tokio::spawn(async move {
        let mut others = 0;
        while let Some(event) = events.recv().await {
            match event {
                NetworkEvent::Incoming { peer, service: Service::Records, stream } => {
                    serves.serve(peer, stream);
                }
                NetworkEvent::Connected(peer) => {
                    others += 1;
                    serves.connected(peer, others);
                }
                _ => {}
            }
        }
    });
    (records, store, handle)
}

/// User and system time of this process so far, in microseconds; the kernel counts in hundredths of a second.
fn cpu_us() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // Behind the name, which may hold anything, from field 3 on.
    let fields = stat.rsplit_once(')').unwrap().1;
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks.map(|ticks| ticks.parse::<f64>().unwrap() * 10_000.0).sum()
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>().unwrap());
    let (count, idle_s) = (arguments.next().unwrap_or(5_000), arguments.next().unwrap_or(10));
    let homes = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let founder = Membership::found(homes[0].path(), "first", now_s()).unwrap();
    let first = start(homes[0].path(), founder);
    first.2.listening().await;
    let mut others = Vec::new();
    for home in &homes[1..] {
        let ticket = first.2.invite(Roles::MEMBER, 1, 3600).await.unwrap();
        let member = Membership::invited(home.path(), ticket, "other", false).unwrap();
        let other = start(home.path(), member);
        other.2.joined(|state| *state == JoinState::Joined).await;
        others.push(other);
    }
    let objects: Vec<Digest> =
        (0..count).map(|number| first.1.put_bytes(&number.to_le_bytes()).unwrap()).collect();
    let before = cpu_us();
    for some in objects.chunks(1000) {
        first.0.publish_objects(some.iter().copied());
    }
    let total = 2 * count as usize;
    while others.iter().map(|other| other.0.kept().0).sum::<usize>() < total {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (used, counts) = (cpu_us() - before, first.0.counts().await);
    println!("{count} objects, {} records kept by 2 members: {counts:?}", counts.sent);
    println!("CPU of both ends for each record kept: {:.1} us", used / counts.sent as f64);
    let before = cpu_us();
    let mut asking = tokio::task::JoinSet::new();
    for object in objects.iter().copied().take(1000) {
        let records = others[0].0.clone();
        asking.spawn(async move { !records.providers(object).await.is_empty() });
    }
    let found = asking.join_all().await.into_iter().filter(|found| *found).count();
    println!("CPU for each of 1000 look-ups, {found} found: {:.1} us", (cpu_us() - before) / 1e3);
    let (before, messages) = (cpu_us(), first.0.counts().await.messages);
    tokio::time::sleep(Duration::from_secs(idle_s)).await;
    let messages = first.0.counts().await.messages - messages;
    let share = (cpu_us() - before) / (idle_s as f64 * 1e6) * 100.0;
    println!("idle for {idle_s} s: {messages} messages, {share:.2} % of a core for 3 nodes");
}
