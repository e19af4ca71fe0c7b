//! What transfer and claiming cost, two members in one process: `cargo run --release -p mesh-node
//! --example mesh_figures`. Objects go over TCP on the loopback, and once more over libp2p's encrypted
//! streams; claims over a network in memory, to an engine that does nothing, so that only our own work is left.
#![allow(clippy::unwrap_used)] // a failed step has no figure

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mesh_node::claims::{Mesh, MeshParts, Signer, Verifier};
use mesh_node::driver::Driver;
use mesh_node::exec::{Engine, Exit, Job, Outcome, RunFuture};
use mesh_node::net::membership::Membership;
use mesh_node::net::memory::MemoryMesh;
use mesh_node::net::swarm::{JoinState, Started, SwarmConfig, start};
use mesh_node::net::{Network, NetworkError, NetworkEvent, OpenFuture, Service, Topic};
use mesh_node::transfer::{Sources, Transfers};
use mesh_protocol::name::{OutputRef, ValueName};
use mesh_protocol::path::AbsPath;
use mesh_protocol::peer::PeerId;
use mesh_protocol::random::Random;
use mesh_protocol::sched::force::ForcePolicy;
use mesh_protocol::sched::lease::LeasePolicy;
use mesh_protocol::thunk::{
    Function, Input, Limits, Output, OutputObject, Platform, Thunk, ThunkSpec, Usage,
};
use mesh_protocol::wire::admission::Roles;
use mesh_protocol::wire::claim::Capabilities;
use mesh_store::{Store, StoreOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const LARGE_BYTES: usize = 256 << 20;
const SMALL: u32 = 5_000;
const THUNKS: u32 = 5_000;

/// Streams are TCP connections to one address.
struct Loopback(SocketAddr);

impl Network for Loopback {
    fn own(&self) -> PeerId {
        peer(1)
    }

    fn open(&self, peer: PeerId, _: Service) -> OpenFuture<'_> {
        Box::pin(async move {
            let stream = TcpStream::connect(self.0).await;
            let stream = stream.map_err(|_| NetworkError::Unreachable(peer))?;
            stream.set_nodelay(true).map_err(|_| NetworkError::Unreachable(peer))?;
            Ok(Box::new(stream) as mesh_node::net::BoxStream)
        })
    }

    fn publish(&self, _: Topic, _: Vec<u8>) {}
}

fn peer(number: u8) -> PeerId {
    PeerId([number; 32])
}

fn store(directory: &tempfile::TempDir) -> Store {
    Store::open(StoreOptions::new(directory.path())).unwrap()
}

/// Processor time of this process so far (proc(5): fields 14 and 15, in hundredths).
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(10 * ticks)
}

fn report(what: &str, start: Instant, before: Duration, bytes: usize) -> f64 {
    let (wall, busy) = (start.elapsed().as_secs_f64(), (cpu() - before).as_secs_f64());
    let rate = bytes as f64 / wall / 1e6;
    println!("{what}: {wall:.3} s, {rate:.0} MB/s, {busy:.2} s of processor");
    rate
}

async fn plain_tcp() -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let bytes = vec![7; 256 * 1024];
    let (start, before) = (Instant::now(), cpu());
    let send = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        for _ in 0..LARGE_BYTES / bytes.len() {
            stream.write_all(&bytes).await.unwrap();
        }
    };
    let receive = tokio::spawn(async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let (mut buffer, mut all) = (vec![0; 256 * 1024], 0);
        while all < LARGE_BYTES {
            all += stream.read(&mut buffer).await.unwrap();
        }
    });
    send.await;
    receive.await.unwrap();
    report("256 MiB, plain TCP into nothing", start, before, LARGE_BYTES)
}

/// Two members over TCP, Noise and Yamux, and their homes.
async fn members() -> [(Started, tempfile::TempDir); 2] {
    let config = || SwarmConfig {
        listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()],
        mdns: false,
        ..SwarmConfig::default()
    };
    let now_s = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let [home, other] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let first = start(Membership::found(home.path(), "first", now_s).unwrap(), config()).unwrap();
    first.handle.listening().await;
    let ticket = first.handle.invite(Roles::MEMBER, 1, 3600).await.unwrap();
    let second = Membership::invited(other.path(), ticket, "second", false).unwrap();
    let second = start(second, config()).unwrap();
    second.handle.joined(|state| *state == JoinState::Joined).await.unwrap();
    [(first, home), (second, other)]
}

/// The same object on one of libp2p's streams, and fetched on as many as it takes.
async fn over_libp2p(from: &Store, large: ValueName) {
    let [(mut first, _home), (second, _other)] = members().await;
    let own = first.network.own();
    let serves = Transfers::new(from.clone(), Arc::clone(&first.network));
    tokio::spawn(async move {
        let mut is_raw = true;
        while let Some(event) = first.events.recv().await {
            let NetworkEvent::Incoming { peer, mut stream, .. } = event else { continue };
            if !std::mem::take(&mut is_raw) {
                serves.serve(peer, stream);
                continue;
            }
            tokio::spawn(async move {
                let (mut buffer, mut all) = (vec![0; 256 * 1024], 0);
                while all < LARGE_BYTES {
                    all += stream.read(&mut buffer).await.unwrap();
                }
                stream.write_all(b"!").await.unwrap();
                stream.flush().await.unwrap();
            });
        }
    });
    let mut stream = second.network.open(own, Service::Transfer).await.unwrap();
    let bytes = vec![7; 256 * 1024];
    let (begin, before) = (Instant::now(), cpu());
    for _ in 0..LARGE_BYTES / bytes.len() {
        stream.write_all(&bytes).await.unwrap();
    }
    stream.flush().await.unwrap();
    stream.read_exact(&mut [0]).await.unwrap();
    let raw = report("256 MiB, a stream of libp2p into nothing", begin, before, LARGE_BYTES);
    let to = tempfile::tempdir().unwrap();
    let asks = Transfers::new(store(&to), Arc::clone(&second.network));
    let (begin, before) = (Instant::now(), cpu());
    asks.fetch(BTreeSet::from([large]), &Sources::only(own)).await.unwrap();
    let rate =
        report("256 MiB over libp2p, fetched, hashed and stored", begin, before, LARGE_BYTES);
    println!("  that is {:.2} of a stream of libp2p", rate / raw);
}

async fn transfer() {
    let plain = plain_tcp().await;
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (from, to) = (store(&from), store(&to));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serves = Transfers::new(from.clone(), Arc::new(Loopback(address)));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            serves.serve(peer(1), Box::new(stream));
        }
    });
    let mut random = Random::new(1);
    let noise: Vec<u8> = (0..LARGE_BYTES / 8).flat_map(|_| random.bits().to_le_bytes()).collect();
    let large = ValueName(from.put_bytes(&noise).unwrap());
    let asks = Transfers::new(to.clone(), Arc::new(Loopback(address)));
    let sources = Sources::only(peer(2));
    let (start, before) = (Instant::now(), cpu());
    asks.fetch(BTreeSet::from([large]), &sources).await.unwrap();
    let rate = report("256 MiB, fetched, hashed and stored", start, before, LARGE_BYTES);
    println!("  that is {:.2} of plain TCP", rate / plain);
    let copy = |i: u32| ValueName(from.put_bytes(&noise[i as usize * 97..][..2_000]).unwrap());
    let small: BTreeSet<ValueName> = (0..SMALL).map(copy).collect();
    let (start, before) = (Instant::now(), cpu());
    asks.fetch(small, &sources).await.unwrap();
    report("5,000 objects of 2,000 bytes", start, before, SMALL as usize * 2_000);
    over_libp2p(&from, large).await;
}

struct Unsigned;

impl Signer for Unsigned {
    fn sign(&self, _: &[u8]) -> [[u8; 32]; 2] {
        [[0; 32]; 2]
    }
}

impl Verifier for Unsigned {
    fn verify(&self, _: PeerId, _: &[u8], _: &[[u8; 32]; 2]) -> bool {
        true
    }
}

/// Every thunk comes to the same small file.
struct Nothing(ValueName, ValueName);

impl Engine for Nothing {
    fn run(&self, _: Job) -> RunFuture<'_> {
        let object = OutputObject::File { name: self.0, executable: false };
        let outcome = Outcome {
            exit: Exit::Code(0),
            outputs: BTreeMap::from([("out".parse().unwrap(), object)]),
            missing: Vec::new(),
            stdout: self.1,
            stderr: self.1,
            usage: Usage::default(),
        };
        Box::pin(async move { Ok(outcome) })
    }
}

async fn member(net: &MemoryMesh, number: u8, slots: u32, store: &Store) -> Mesh {
    let put = |bytes: &[u8]| ValueName(store.put_bytes(bytes).unwrap());
    let (network, mut events) = net.join(peer(number)).await;
    let transfers = Transfers::new(store.clone(), Arc::clone(&network));
    let mesh = Mesh::start(MeshParts {
        store: store.clone(),
        engine: Arc::new(Nothing(put(b"made"), put(b""))),
        network,
        transfers: transfers.clone(),
        records: None,
        signer: Arc::new(Unsigned),
        verifier: Arc::new(Unsigned),
        capabilities: Capabilities {
            platform: Platform::X86_64Linux,
            cores: 8,
            memory_mib: 1024,
            speed_permille: 1000,
        },
        slots,
        policy: LeasePolicy::default(),
        seed: 1,
        check_permille: 0,
        watcher: Box::new(|_| {}),
    });
    let delivers = mesh.clone();
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            if let Some(NetworkEvent::Incoming { peer, service: Service::Transfer, stream }) =
                delivers.deliver(event).await
            {
                transfers.serve(peer, stream);
            }
        }
    });
    mesh
}

fn thunk(number: u32, input: ValueName) -> Thunk {
    let path = |text: &str| text.parse::<AbsPath>().unwrap();
    Thunk::try_from(ThunkSpec {
        function: Function {
            executable: path("/f"),
            arguments: vec!["f".to_owned(), number.to_string()],
            environment: BTreeMap::new(),
            working_directory: AbsPath::root(),
        },
        inputs: BTreeMap::from([(path("/in"), Input::file(input))]),
        symlinks: BTreeMap::new(),
        directories: BTreeSet::new(),
        outputs: BTreeMap::from([("out".parse().unwrap(), Output::required(path("/out")))]),
        stdin: None,
        limits: Limits::for_platform(Platform::X86_64Linux),
    })
    .unwrap()
}

async fn claiming(own_slots: u32, workers_slots: u32) {
    let net = MemoryMesh::new();
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (from, to) = (store(&from), store(&to));
    let requester = member(&net, 1, own_slots, &from).await;
    let _worker = member(&net, 2, workers_slots, &to).await;
    let policy = ForcePolicy::default();
    let driver =
        Driver::start_in_mesh(from.clone(), &requester, policy, own_slots, Box::new(|_| {}));
    let input = ValueName(from.put_bytes(b"input").unwrap());
    let demand = |number: u32| {
        let (driver, thunk) = (driver.clone(), thunk(number, input));
        async move {
            let (name, _) = thunk.encode().unwrap();
            driver.add(name, Arc::new(thunk)).await;
            let output = OutputRef { thunk: name, tag: "out".parse().unwrap() };
            driver.demand(output).await.unwrap();
        }
    };
    demand(u32::MAX).await;
    let mut took: Vec<Duration> = Vec::new();
    for number in THUNKS..THUNKS + 200 {
        let start = Instant::now();
        demand(number).await;
        took.push(start.elapsed());
    }
    took.sort_unstable();
    println!("  one at a time: p50 {:?}, p99 {:?}", took[100], took[198]);
    let (start, before) = (Instant::now(), cpu());
    let mut demands = JoinSet::new();
    for number in 0..THUNKS {
        demands.spawn(demand(number));
    }
    demands.join_all().await;
    let (wall, busy) = (start.elapsed().as_secs_f64(), cpu() - before);
    let each = busy.as_micros() / u128::from(THUNKS);
    println!(
        "  {THUNKS} at once: {:.0} a second, {each} us of processor each",
        f64::from(THUNKS) / wall
    );
}

#[tokio::main]
async fn main() {
    transfer().await;
    println!("thunks that do nothing, on this machine's own slots:");
    claiming(4, 0).await;
    println!("the same, on another member's (both ends in this process):");
    claiming(0, 4).await;
}
