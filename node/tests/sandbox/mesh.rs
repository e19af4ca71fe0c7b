//! A requester without slots, two workers with real sandboxes, and a network in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_node::claims::{Mesh, MeshParts, Signer, Verifier};
use mesh_node::driver::Driver;
use mesh_node::exec::{Engine, SandboxEngine, SandboxOptions};
use mesh_node::net::memory::MemoryMesh;
use mesh_node::net::{NetworkEvent, Service};
use mesh_node::transfer::Transfers;
use mesh_protocol::name::{OutputRef, ValueName};
use mesh_protocol::peer::PeerId;
use mesh_protocol::sched::force::ForcePolicy;
use mesh_protocol::sched::lease::{Event, LeasePolicy};
use mesh_protocol::thunk::{Input, OutputObject, Platform, Thunk};
use mesh_protocol::wire::claim::Capabilities;
use mesh_store::{Store, StoreOptions};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::Case;
use crate::world::{World, path, tag};

pub(crate) const CASES: &[Case] = &[
    ("thunks_run_on_other_members", thunks_run_on_other_members),
    ("a_member_that_dies_costs_time_only", a_member_that_dies_costs_time_only),
];

/// Signs with nothing: whose signature it is, is tested elsewhere.
struct Unsigned;

impl Signer for Unsigned {
    fn sign(&self, _: &[u8]) -> [[u8; 32]; 2] {
        [[0; 32]; 2]
    }
}

impl Verifier for Unsigned {
    fn verify(&self, _: PeerId, _: &[u8], signature: &[[u8; 32]; 2]) -> bool {
        *signature == [[0; 32]; 2]
    }
}

struct Member {
    peer: PeerId,
    mesh: Mesh,
    /// Leases that it gave to others.
    leased: watch::Receiver<u32>,
    pump: JoinHandle<()>,
}

async fn join(
    net: &MemoryMesh,
    number: u8,
    slots: u32,
    store: &Store,
    engine: Arc<dyn Engine>,
) -> Member {
    let peer = PeerId([number; 32]);
    let (network, mut events) = net.join(peer).await;
    let transfers = Transfers::new(store.clone(), Arc::clone(&network));
    let (tell, leased) = watch::channel(0);
    let capabilities = Capabilities {
        platform: Platform::host().unwrap(),
        cores: 2,
        memory_mib: 1024,
        speed_permille: 1000,
    };
    let mesh = Mesh::start(MeshParts {
        store: store.clone(),
        engine,
        network,
        transfers: transfers.clone(),
        records: None,
        signer: Arc::new(Unsigned),
        verifier: Arc::new(Unsigned),
        capabilities,
        slots,
        policy: LeasePolicy::default(),
        check_permille: 0,
        seed: u64::from(number),
        watcher: Box::new(move |event| {
            if matches!(event, Event::Leased(..)) {
                tell.send_modify(|leased| *leased += 1);
            }
        }),
    });
    let delivers = mesh.clone();
    let pump = tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            if let Some(NetworkEvent::Incoming { peer, service: Service::Transfer, stream }) =
                delivers.deliver(event).await
            {
                transfers.serve(peer, stream);
            }
        }
    });
    Member { peer, mesh, leased, pump }
}

/// A worker: what it keeps, and itself.
async fn worker(net: &MemoryMesh, number: u8) -> (tempfile::TempDir, Member) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(StoreOptions::new(directory.path().join("store"))).unwrap();
    let engine = SandboxEngine::start(store.clone(), SandboxOptions::default()).unwrap();
    let member = join(net, number, 2, &store, Arc::new(engine)).await;
    (directory, member)
}

/// Each reads a small file, and a large one that all share.
fn thunks(world: &World, count: u32) -> Vec<(Thunk, Vec<u8>)> {
    let large = world.put(vec![b'x'; 3_000_000]);
    let script = world.script("cat in > out; wc -c < large >> out", &["cat", "wc"]);
    let make = |i: u32| {
        let mut spec = script.clone();
        let text = format!("thunk {i}\n");
        spec.inputs.insert(path("/out/in"), Input::file(world.put(&text)));
        spec.inputs.insert(path("/out/large"), Input::file(large));
        (Thunk::try_from(spec).unwrap(), format!("{text}3000000\n").into_bytes())
    };
    (0..count).map(make).collect()
}

/// Demands all, and checks each output in the requester's store.
async fn build(world: &World, driver: &Driver, thunks: Vec<(Thunk, Vec<u8>)>) {
    let mut demands = JoinSet::new();
    for (thunk, wanted) in thunks {
        let (name, _) = thunk.encode().unwrap();
        driver.add(name, Arc::new(thunk)).await;
        let driver = driver.clone();
        let output = OutputRef { thunk: name, tag: tag("out") };
        demands.spawn(async move { (driver.demand(output).await, wanted) });
    }
    while let Some(end) = demands.join_next().await {
        let (answer, wanted) = end.unwrap();
        let OutputObject::File { name, .. } = answer.unwrap() else { panic!("no file") };
        assert_eq!(ValueName::of(&wanted), name);
        assert_eq!(world.bytes(name), wanted);
    }
}

fn executors(world: &World, thunks: &[(Thunk, Vec<u8>)]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for (thunk, _) in thunks {
        let reduction = world.store.recall(thunk.encode().unwrap().0).unwrap().unwrap();
        *counts.entry(reduction.executor.clone()).or_insert(0) += 1;
    }
    counts
}

/// More than one thread: what races here may race.
fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(3).enable_all().build().unwrap()
}

struct Never;

impl Engine for Never {
    fn run(&self, job: mesh_node::exec::Job) -> mesh_node::exec::RunFuture<'_> {
        panic!("{:?} ran at the requester", job.name)
    }
}

fn thunks_run_on_other_members() {
    let world = World::new();
    let all = thunks(&world, 200);
    runtime().block_on(async {
        let net = MemoryMesh::new();
        let requester = join(&net, 1, 0, &world.store, Arc::new(Never)).await;
        let workers = [worker(&net, 2).await, worker(&net, 3).await];
        let driver = driver(&world, &requester);
        build(&world, &driver, all.clone()).await;
        let by = executors(&world, &all);
        assert_eq!(by.values().sum::<usize>(), 200);
        for (_, worker) in &workers {
            assert!(by.get(&worker.peer.to_string()).is_some_and(|runs| *runs > 20), "{by:?}");
        }
    });
}

fn driver(world: &World, member: &Member) -> Driver {
    let policy = ForcePolicy::default();
    Driver::start_in_mesh(world.store.clone(), &member.mesh, policy, 0, Box::new(|_| {}))
}

fn a_member_that_dies_costs_time_only() {
    let world = World::new();
    let all = thunks(&world, 100);
    runtime().block_on(async {
        let net = MemoryMesh::new();
        let mut requester = join(&net, 1, 0, &world.store, Arc::new(Never)).await;
        let (_directory, victim) = worker(&net, 2).await;
        let (_other_directory, _other) = worker(&net, 3).await;
        let driver = driver(&world, &requester);
        let building = build(&world, &driver, all.clone());
        let killing = async {
            requester.leased.wait_for(|leased| *leased > 30).await.unwrap();
            victim.pump.abort();
            net.leave(victim.peer).await;
            drop(victim.mesh);
        };
        tokio::join!(building, killing);
        assert_eq!(executors(&world, &all).values().sum::<usize>(), 100);
    });
}
