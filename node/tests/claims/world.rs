//! Nodes, thunks, and an engine that computes an output from what it was given.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mesh_node::claims::{Mesh, MeshParts, Signer, Verifier};
use mesh_node::driver::{Driver, Progress};
use mesh_node::exec::{Engine, EngineError, Exit, Job, Outcome, RunFuture, Turn};
use mesh_node::net::memory::MemoryMesh;
use mesh_node::net::{NetworkEvent, Service};
use mesh_node::records::{self, ClosestFuture, Neighbours, Records, RecordsParts};
use mesh_node::transfer::Transfers;
use mesh_protocol::name::{OutputRef, Tag, ThunkName, ValueName};
use mesh_protocol::path::AbsPath;
use mesh_protocol::peer::PeerId;
use mesh_protocol::records::{Closest, Target};
use mesh_protocol::sched::force::ForcePolicy;
use mesh_protocol::sched::lease::{self, LeasePolicy};
use mesh_protocol::thunk::{
    Function, Input, InputMode, Limits, Output, OutputObject, Platform, Source, Thunk, ThunkSpec,
    Usage,
};
use mesh_protocol::wire::admission;
use mesh_protocol::wire::claim::Capabilities;
use mesh_protocol::wire::records::Notary;
use mesh_store::{Store, StoreOptions};
use tokio::task::JoinHandle;

pub(crate) const PLATFORM: Platform = Platform::X86_64Linux;

pub(crate) fn tag() -> Tag {
    "out".parse().unwrap()
}

pub(crate) fn path(text: &str) -> AbsPath {
    text.parse().unwrap()
}

/// Signs by hashing: whoever knows a peer's id could, but the tests do not.
pub(crate) struct Hashing(pub(crate) PeerId);

fn digest_of(peer: PeerId, bytes: &[u8]) -> [u8; 32] {
    ValueName::of(&[&peer.0, bytes].concat()).digest().sha256
}

impl Signer for Hashing {
    fn sign(&self, bytes: &[u8]) -> [[u8; 32]; 2] {
        [digest_of(self.0, bytes); 2]
    }
}

impl Verifier for Hashing {
    fn verify(&self, peer: PeerId, bytes: &[u8], signature: &[[u8; 32]; 2]) -> bool {
        *signature == [digest_of(peer, bytes); 2]
    }
}

/// Takes as long as the thunk's first argument says (milliseconds), and leaves a file that holds
/// its other arguments and all its inputs' bytes - which must be in the store.
pub(crate) struct Pretend {
    store: Store,
    pub(crate) runs: AtomicU64,
    running: AtomicU32,
    pub(crate) running_max: AtomicU32,
    /// Says that it made what it did not make.
    pub(crate) lies: AtomicBool,
    /// Makes something else than others do.
    pub(crate) falsifies: AtomicBool,
    /// Makes something else each time.
    pub(crate) varies: AtomicBool,
    pub(crate) never_ends: AtomicBool,
    pub(crate) panics: AtomicBool,
    pub(crate) panics_before_turns: AtomicBool,
    /// Runs that were to wait for their turn.
    pub(crate) turns: AtomicU64,
    /// How many of these were in the store at the end of each run.
    pub(crate) looks_for: Mutex<BTreeSet<ValueName>>,
    pub(crate) found: Mutex<Vec<usize>>,
}

impl Pretend {
    fn new(store: Store) -> Self {
        Self {
            store,
            runs: AtomicU64::new(0),
            running: AtomicU32::new(0),
            running_max: AtomicU32::new(0),
            lies: AtomicBool::new(false),
            falsifies: AtomicBool::new(false),
            varies: AtomicBool::new(false),
            never_ends: AtomicBool::new(false),
            panics: AtomicBool::new(false),
            panics_before_turns: AtomicBool::new(false),
            turns: AtomicU64::new(0),
            looks_for: Mutex::default(),
            found: Mutex::default(),
        }
    }

    async fn pretend(&self, job: Job) -> Result<Outcome, EngineError> {
        let run = self.runs.fetch_add(1, SeqCst);
        let _running = Running::enter(self);
        let arguments = &job.thunk.spec().function.arguments;
        let took = Duration::from_millis(arguments[1].parse().unwrap());
        tokio::time::sleep(took).await;
        if self.never_ends.load(SeqCst) {
            std::future::pending::<()>().await;
        }
        let sought = self.looks_for.lock().unwrap();
        let found = sought.iter().filter(|name| self.store.contains(name.digest())).count();
        self.found.lock().unwrap().push(found);
        drop(sought);
        let mut bytes = output_of(&self.store, &job.thunk);
        if self.falsifies.load(SeqCst) {
            bytes.extend(b"false");
        }
        if self.varies.load(SeqCst) {
            bytes.extend(run.to_le_bytes());
        }
        let empty = ValueName(self.store.put_bytes(b"").unwrap());
        let name = match self.lies.load(SeqCst) {
            true => ValueName::of(&[&bytes, b"not".as_slice()].concat()),
            false => ValueName(self.store.put_bytes(&bytes).unwrap()),
        };
        assert!(!self.panics.load(SeqCst), "as the test wants it");
        let failed = arguments.iter().any(|argument| argument == "fail");
        Ok(Outcome {
            exit: Exit::Code(i32::from(failed)),
            outputs: BTreeMap::from([(tag(), OutputObject::File { name, executable: false })]),
            missing: Vec::new(),
            stdout: empty,
            stderr: empty,
            usage: Usage { wall_us: took.as_micros() as u64, ..Usage::default() },
        })
    }
}

struct Running<'a>(&'a Pretend);

impl<'a> Running<'a> {
    fn enter(engine: &'a Pretend) -> Self {
        let now = engine.running.fetch_add(1, SeqCst) + 1;
        engine.running_max.fetch_max(now, SeqCst);
        Self(engine)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
    }
}

impl Pretend {
    pub(crate) fn running(&self) -> u32 {
        self.running.load(SeqCst)
    }

    pub(crate) fn runs(&self) -> u64 {
        self.runs.load(SeqCst)
    }
}

impl Engine for Pretend {
    fn run(&self, job: Job) -> RunFuture<'_> {
        Box::pin(self.pretend(job))
    }

    fn run_in_turn(&self, job: Job, turn: Turn) -> RunFuture<'_> {
        self.turns.fetch_add(1, SeqCst);
        Box::pin(async move {
            assert!(!self.panics_before_turns.load(SeqCst), "as the test wants it");
            turn.come().await;
            self.pretend(job).await
        })
    }
}

/// What a thunk comes to.
pub(crate) fn output_of(store: &Store, thunk: &Thunk) -> Vec<u8> {
    let mut bytes = thunk.spec().function.arguments[2..].join(" ").into_bytes();
    for input in thunk.spec().inputs.values() {
        let Source::Value(name) = &input.source else { panic!("an input that is no value") };
        match input.mode {
            InputMode::Tree => assert!(store.contains_tree(*name), "a tree is not here"),
            _ => bytes.extend(store.read(name.digest(), u64::MAX).unwrap()),
        }
    }
    bytes
}

impl admission::Verifier for Hashing {
    fn verify(&self, key: &[u8; 32], message: &[u8], signature: &[[u8; 32]; 2]) -> bool {
        *signature == [digest_of(PeerId(*key), message); 2]
    }
}

impl Notary for Hashing {
    fn roles(&self, _: PeerId) -> Option<admission::Roles> {
        Some(admission::Roles::MEMBER)
    }
}

/// All that are connected are close.
#[derive(Clone, Default)]
struct Connected(Arc<Mutex<BTreeSet<PeerId>>>);

impl Connected {
    fn hear(&self, event: &NetworkEvent) {
        match event {
            NetworkEvent::Connected(peer) => self.0.lock().unwrap().insert(*peer),
            NetworkEvent::Disconnected(peer) => self.0.lock().unwrap().remove(peer),
            _ => false,
        };
    }
}

impl Neighbours for Connected {
    fn closest(&self, target: Target) -> ClosestFuture<'_> {
        let peers = self.0.lock().unwrap().iter().copied().collect();
        Box::pin(std::future::ready(Closest { target, peers, are_all: true }))
    }
}

/// A member: what a process would be.
pub(crate) struct Node {
    pub(crate) peer: PeerId,
    pub(crate) store: Store,
    pub(crate) engine: Arc<Pretend>,
    pub(crate) transfers: Transfers,
    pub(crate) mesh: Mesh,
    pub(crate) events: Arc<Mutex<Vec<lease::Event>>>,
    pump: JoinHandle<()>,
    _directory: tempfile::TempDir,
}

pub(crate) fn peer(number: u8) -> PeerId {
    PeerId([number; 32])
}

impl Node {
    pub(crate) async fn start(net: &MemoryMesh, number: u8, slots: u32) -> Self {
        Self::start_as(net, number, slots, false, 0).await
    }

    /// One that takes nobody's word.
    pub(crate) async fn start_checking(net: &MemoryMesh, number: u8, slots: u32) -> Self {
        Self::start_as(net, number, slots, false, 1000).await
    }

    /// One that tells others what it found out, and asks them.
    pub(crate) async fn start_with_records(net: &MemoryMesh, number: u8, slots: u32) -> Self {
        Self::start_as(net, number, slots, true, 0).await
    }

    async fn start_as(
        net: &MemoryMesh,
        number: u8,
        slots: u32,
        with_records: bool,
        check_permille: u32,
    ) -> Self {
        let own = peer(number);
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(StoreOptions::new(directory.path())).unwrap();
        let engine = Arc::new(Pretend::new(store.clone()));
        let (network, mut events) = net.join(own).await;
        let transfers = Transfers::new(store.clone(), Arc::clone(&network));
        let all = Connected::default();
        let records = with_records.then(|| {
            Records::start(RecordsParts {
                store: store.clone(),
                kept: records::open_kept(directory.path()).unwrap(),
                network: Arc::clone(&network),
                neighbours: Arc::new(all.clone()),
                transfers: transfers.clone(),
                signer: Arc::new(Hashing(own)),
                notary: Arc::new(Hashing(own)),
                seed: number.into(),
            })
        });
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&heard);
        let mesh = Mesh::start(MeshParts {
            store: store.clone(),
            engine: engine.clone(),
            network: Arc::clone(&network),
            transfers: transfers.clone(),
            records: records.clone(),
            signer: Arc::new(Hashing(own)),
            verifier: Arc::new(Hashing(own)),
            capabilities: Capabilities {
                platform: PLATFORM,
                cores: 8,
                memory_mib: 1024,
                speed_permille: 1000,
            },
            slots,
            policy: LeasePolicy::default(),
            check_permille,
            seed: u64::from(number),
            watcher: Box::new(move |event| hears.lock().unwrap().push(event)),
        });
        let (delivers, serves, tells) = (mesh.clone(), transfers.clone(), records.clone());
        let pump = tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                all.hear(&event);
                match delivers.deliver(event).await {
                    Some(NetworkEvent::Incoming { peer, service: Service::Transfer, stream }) => {
                        serves.serve(peer, stream);
                    }
                    Some(NetworkEvent::Incoming { peer, service: Service::Records, stream }) => {
                        if let Some(records) = &tells {
                            records.serve(peer, stream);
                        }
                    }
                    _ => {}
                }
            }
        });
        let events = heard;
        let _directory = directory;
        Self { peer: own, store, engine, transfers, mesh, events, pump, _directory }
    }

    /// As `kill -9`: nothing is said, links break.
    pub(crate) async fn kill(self, net: &MemoryMesh) {
        self.pump.abort();
        net.leave(self.peer).await;
    }

    pub(crate) fn driver(&self, slots: u32) -> Driver {
        self.watched_driver(slots, |_| {})
    }

    pub(crate) fn watched_driver(
        &self,
        slots: u32,
        watch: impl FnMut(Progress) + Send + 'static,
    ) -> Driver {
        let policy = ForcePolicy { keep_going: true, ..ForcePolicy::default() };
        Driver::start_in_mesh(self.store.clone(), &self.mesh, policy, slots, Box::new(watch))
    }

    pub(crate) fn put(&self, bytes: &[u8]) -> ValueName {
        ValueName(self.store.put_bytes(bytes).unwrap())
    }

    pub(crate) fn received_from(&self, peer: PeerId) -> u64 {
        let all = self.transfers.traffic();
        all.iter().find(|(other, _)| *other == peer).map_or(0, |(_, t)| t.received_bytes)
    }
}

/// A thunk that takes so long; its inputs are files but for those that are said to be trees.
pub(crate) fn thunk(ms: u64, label: &str, inputs: &[ValueName], trees: &[ValueName]) -> Thunk {
    let files = inputs.iter().map(|name| Input::file(*name));
    let trees = trees.iter().map(|name| Input::tree(*name));
    let numbered = files.chain(trees).enumerate();
    let spec = ThunkSpec {
        function: Function {
            executable: path("/f"),
            arguments: vec!["f".to_owned(), ms.to_string(), label.to_owned()],
            environment: BTreeMap::new(),
            working_directory: AbsPath::root(),
        },
        inputs: numbered.map(|(i, input)| (path(&format!("/in/{i:03}")), input)).collect(),
        symlinks: BTreeMap::new(),
        directories: BTreeSet::new(),
        outputs: BTreeMap::from([(tag(), Output::required(path("/out")))]),
        stdin: None,
        limits: Limits::for_platform(PLATFORM),
    };
    Thunk::try_from(spec).unwrap()
}

/// Demands all of them, waits, and checks every answer, byte by byte, in the requester's store.
pub(crate) async fn build(node: &Node, driver: &Driver, thunks: Vec<Thunk>) {
    for (place, answer) in answers(driver, &thunks).await.into_iter().enumerate() {
        let Ok(OutputObject::File { name, .. }) = answer else { panic!("{place}: {answer:?}") };
        let bytes = node.store.read(name.digest(), u64::MAX).unwrap();
        assert_eq!(bytes, output_of(&node.store, &thunks[place]));
    }
}

pub(crate) async fn answers(
    driver: &Driver,
    thunks: &[Thunk],
) -> Vec<Result<OutputObject, mesh_protocol::sched::force::ForceError>> {
    let mut names: Vec<ThunkName> = Vec::new();
    for thunk in thunks {
        let (name, _) = thunk.encode().unwrap();
        driver.add(name, Arc::new(thunk.clone())).await;
        names.push(name);
    }
    let mut demands = tokio::task::JoinSet::new();
    for (place, thunk) in names.into_iter().enumerate() {
        let driver = driver.clone();
        demands.spawn(async move { (place, driver.demand(OutputRef { thunk, tag: tag() }).await) });
    }
    let mut all = demands.join_all().await;
    all.sort_by_key(|(place, _)| *place);
    all.into_iter().map(|(_, answer)| answer).collect()
}

/// So many of them, each with two small inputs of its own and one that all share.
pub(crate) fn many(node: &Node, count: usize, ms: u64) -> Vec<Thunk> {
    let shared = node.put(b"shared");
    let make = |i: usize| {
        let own = node.put(format!("input {i} of {:?}", node.peer).as_bytes());
        thunk(ms, &format!("label {i}"), &[shared, own], &[])
    };
    (0..count).map(make).collect()
}

/// Gives others their turn until something holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1_000_000 {
        if holds() {
            return;
        }
        // With a paused clock this passes time only when nothing else can happen.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it never came to this: {what}");
}
