//! Records between nodes of one process: what is told, kept, asked, believed and fetched.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_protocol::name::ValueName;
use mesh_protocol::thunk::{OutputObject, Usage};
use mesh_protocol::wire::admission::{Roles, Signature, Verifier};
use mesh_protocol::wire::records::{FromAsker, FromHolder, Statement};
use mesh_store::StoreOptions;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;
use crate::frame;
use crate::net::memory::MemoryMesh;
use crate::net::{NetworkEvent, Service};

const SILENCE: Duration = Duration::from_secs(60);

fn peer(number: u8) -> PeerId {
    PeerId([number; 32])
}

fn hash(peer: PeerId, bytes: &[u8]) -> Signature {
    [peer.0, Digest::of(&[&peer.0, bytes].concat()).sha256]
}

/// Signs by hashing, and knows peers from 200 on to be no members.
struct Village(PeerId);

impl Signer for Village {
    fn sign(&self, bytes: &[u8]) -> Signature {
        hash(self.0, bytes)
    }
}

impl Verifier for Village {
    fn verify(&self, key: &[u8; 32], message: &[u8], signature: &Signature) -> bool {
        *signature == hash(PeerId(*key), message)
    }
}

impl Notary for Village {
    fn roles(&self, peer: PeerId) -> Option<Roles> {
        (peer.0[0] < 200).then_some(Roles::MEMBER)
    }
}

/// All that are connected.
#[derive(Clone, Default)]
struct Connected(Arc<Mutex<BTreeSet<PeerId>>>);

impl Neighbours for Connected {
    fn closest(&self, target: Target) -> ClosestFuture<'_> {
        let peers = self.0.lock().unwrap().iter().copied().collect();
        Box::pin(std::future::ready(Closest { target, peers, are_all: true }))
    }
}

struct Node {
    peer: PeerId,
    store: Store,
    records: Records,
    connected: Connected,
    pump: JoinHandle<()>,
    directory: TempDir,
}

impl Node {
    async fn start(net: &MemoryMesh, number: u8) -> Self {
        Self::start_in(net, number, tempfile::tempdir().unwrap()).await
    }

    async fn start_in(net: &MemoryMesh, number: u8, directory: TempDir) -> Self {
        let peer = peer(number);
        let store = Store::open(StoreOptions::new(directory.path().join("store"))).unwrap();
        let (network, mut events) = net.join(peer).await;
        let transfers = Transfers::new(store.clone(), Arc::clone(&network));
        let connected = Connected::default();
        let records = Records::start(RecordsParts {
            store: store.clone(),
            kept: open_kept(directory.path()).unwrap(),
            network,
            neighbours: Arc::new(connected.clone()),
            transfers: transfers.clone(),
            signer: Arc::new(Village(peer)),
            notary: Arc::new(Village(peer)),
            seed: number.into(),
        });
        let (serves, here) = (records.clone(), connected.clone());
        let pump = tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                match event {
                    NetworkEvent::Incoming { peer, service: Service::Records, stream } => {
                        serves.serve(peer, stream);
                    }
                    NetworkEvent::Incoming { peer, service: Service::Transfer, stream } => {
                        transfers.serve(peer, stream);
                    }
                    NetworkEvent::Connected(peer) => {
                        let others = {
                            let mut here = here.0.lock().unwrap();
                            here.insert(peer);
                            here.len()
                        };
                        serves.connected(peer, others);
                    }
                    NetworkEvent::Disconnected(peer) => {
                        here.0.lock().unwrap().remove(&peer);
                        serves.disconnected(peer);
                    }
                    _ => {}
                }
            }
        });
        Self { peer, store, records, connected, pump, directory }
    }

    async fn leave(self, net: &MemoryMesh) -> TempDir {
        self.pump.abort();
        net.leave(self.peer).await;
        self.directory
    }

    /// A result of this node's, as if it had run something.
    fn result(&self, label: &str) -> Reduction {
        let put = |bytes: &[u8]| ValueName(self.store.put_bytes(bytes).unwrap());
        let output = OutputObject::File { name: put(label.as_bytes()), executable: false };
        let reduction = Reduction {
            thunk: ThunkName(put(format!("thunk {label}").as_bytes()).digest()),
            outputs: BTreeMap::from([("out".parse().unwrap(), output)]),
            stdout: put(b""),
            stderr: put(b""),
            usage: Usage::default(),
            executor: self.peer.to_string(),
            finished_at_s: 1,
        };
        self.store.record(&reduction).unwrap();
        reduction
    }

    async fn knows(&self, count: usize) {
        until(|| self.records.kept().0 >= count).await;
    }

    async fn sees(&self, count: usize) {
        until(|| self.connected.0.lock().unwrap().len() == count).await;
    }
}

async fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        // With a paused clock this passes time only when nothing else can happen.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn text(reduction: &Reduction) -> Digest {
    reduction.values().next().unwrap().digest()
}

#[tokio::test(start_paused = true)]
async fn what_one_found_out_all_can_use_also_when_it_has_gone() {
    let net = MemoryMesh::new();
    let a = Node::start(&net, 1).await;
    let b = Node::start(&net, 2).await;
    let reduction = a.result("hello");
    a.records.publish_reduction(&reduction);
    // The reduction, the thunk and its output.
    b.knows(3).await;
    let learned = b.records.learn(reduction.thunk, None).await.unwrap();
    assert_eq!((&*learned.reduction, learned.publisher), (&reduction, a.peer));
    assert_eq!(*b.store.recall(reduction.thunk).unwrap().unwrap(), reduction);
    a.leave(&net).await;
    b.sees(0).await;
    let c = Node::start(&net, 3).await;
    c.sees(1).await;
    assert_eq!(c.records.providers(text(&reduction)).await, [b.peer], "who has gone has nothing");
    let learned = c.records.learn(reduction.thunk, None).await.unwrap();
    assert_eq!(learned.publisher, b.peer);
    assert_eq!(learned.reduction.executor, peer(1).to_string(), "who ran it is not forgotten");
    assert_eq!(c.store.read(text(&reduction), 100).unwrap(), b"hello");
}

#[tokio::test(start_paused = true)]
async fn kept_records_outlive_their_keeper_but_not_their_publishers_presence() {
    let net = MemoryMesh::new();
    let a = Node::start(&net, 1).await;
    let b = Node::start(&net, 2).await;
    let reduction = a.result("hello");
    a.records.publish_reduction(&reduction);
    b.knows(3).await;
    let b = Node::start_in(&net, 2, b.leave(&net).await).await;
    assert_eq!(b.records.kept().0, 3);
    let c = Node::start(&net, 3).await;
    c.sees(2).await;
    // Only b answers.
    net.cut(a.peer, c.peer).await;
    c.sees(1).await;
    let record = c.records.reduction(reduction.thunk).await.unwrap();
    assert_eq!(record.statement.publisher, a.peer);
    assert!(c.records.learn(reduction.thunk, None).await.is_none(), "nobody has the output");
    assert!(c.store.recall(reduction.thunk).unwrap().is_none());
    assert_eq!(c.records.providers(text(&reduction)).await, [], "a is away, as c sees it");
    net.heal(a.peer, c.peer).await;
    c.sees(2).await;
    assert_eq!(c.records.providers(text(&reduction)).await, [a.peer]);
}

#[tokio::test(start_paused = true)]
async fn many_records_are_few_messages() {
    let net = MemoryMesh::new();
    let a = Node::start(&net, 1).await;
    let b = Node::start(&net, 2).await;
    let c = Node::start(&net, 3).await;
    a.sees(2).await;
    for number in 0..400 {
        a.records.publish_reduction(&a.result(&number.to_string()));
    }
    b.knows(1200).await;
    c.knows(1200).await;
    let counts = a.records.counts().await;
    assert_eq!((counts.records, counts.sent), (1200, 2400));
    assert!(counts.messages <= 16 && counts.walks <= 4, "{counts:?}");
    let results: Vec<Reduction> = (0..400).map(|number| a.result(&number.to_string())).collect();
    let questions = results.iter().map(|result| c.records.reduction(result.thunk));
    let mut found = 0;
    for question in questions.collect::<Vec<_>>() {
        found += usize::from(question.await.is_some());
    }
    assert_eq!(found, 400);
    b.records.publish_objects([text(&results[0])]);
    assert_eq!(b.records.providers(text(&results[0])).await.len(), 1, "it never had it");
}

#[tokio::test(start_paused = true)]
async fn what_was_found_out_before_is_published_at_the_start() {
    let net = MemoryMesh::new();
    let a = Node::start(&net, 1).await;
    for number in 0..20 {
        a.result(&number.to_string());
    }
    let [pinned, put] = [b"pinned", b"put to"].map(|bytes| a.store.put_bytes(bytes).unwrap());
    a.store.pin(pinned, "").unwrap();
    a.store.note_puts(&[put]).unwrap();
    a.store.put_bytes(b"an input").unwrap();
    a.records.publish_store().await.unwrap();
    let b = Node::start(&net, 2).await;
    b.knows(62).await;
    assert_eq!(a.records.counts().await.records, 62, "what builds read is not told");
    for name in [pinned, put] {
        assert_eq!(b.records.providers(name).await, [a.peer]);
    }
}

/// A member that says what it likes to whoever asks.
async fn liar(net: &MemoryMesh, number: u8, says: Vec<Record>) {
    let (_network, mut events) = net.join(peer(number)).await;
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            if let NetworkEvent::Incoming { mut stream, service: Service::Records, .. } = event {
                let says = says.clone();
                tokio::spawn(async move {
                    let max = limits::RECORDS_MESSAGE_BYTES;
                    while let Ok(Some(_)) = frame::read(&mut stream, max, SILENCE).await {
                        let mut buffer = Vec::new();
                        let answer = FromHolder::Found(says.clone()).encode().unwrap();
                        frame::append(&mut buffer, &answer);
                        frame::write(&mut stream, &buffer, SILENCE).await.unwrap();
                    }
                });
            }
        }
    });
}

fn record(publisher: PeerId, signer: PeerId, reduction: &Reduction, made_s: u64) -> Record {
    let fact = Fact::Reduced(Box::new(reduction.clone()));
    let statement = Statement { publisher, made_s, expires_s: made_s + 100, fact };
    statement.signed(|bytes| hash(signer, bytes)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_lie_is_not_believed() {
    let net = MemoryMesh::new();
    let a = Node::start(&net, 1).await;
    let (wanted, other) = (a.result("wanted"), a.result("other"));
    a.store.forget(wanted.thunk).unwrap();
    let now_s = now_s();
    let lies = [
        record(a.peer, peer(9), &wanted, now_s),
        record(peer(200), peer(200), &wanted, now_s),
        record(peer(9), peer(9), &wanted, now_s - 1000),
        record(peer(9), peer(9), &wanted, now_s + 10_000),
        record(peer(9), peer(9), &other, now_s),
    ];
    let asks = Node::start(&net, 2).await;
    for lie in lies {
        liar(&net, 9, vec![lie]).await;
        asks.sees(2).await;
        assert_eq!(asks.records.reduction(wanted.thunk).await, None);
        net.leave(peer(9)).await;
        asks.sees(1).await;
    }
    // Its word, and it can be heard - but there is nothing behind it.
    let mut false_outputs = wanted.clone();
    let name = ValueName::of(b"never seen");
    let output = OutputObject::File { name, executable: false };
    false_outputs.outputs = BTreeMap::from([("out".parse().unwrap(), output)]);
    liar(&net, 9, vec![record(peer(9), peer(9), &false_outputs, now_s)]).await;
    asks.sees(2).await;
    assert!(asks.records.reduction(wanted.thunk).await.is_some());
    assert_eq!(asks.records.learn(wanted.thunk, None).await, None);
    assert!(asks.store.recall(wanted.thunk).unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn nobody_publishes_for_others_or_takes_their_place() {
    let net = MemoryMesh::new();
    let a = Node::start(&net, 1).await;
    let (network, _events) = net.join(peer(9)).await;
    let theirs = record(peer(8), peer(8), &a.result("x"), now_s());
    let old = record(peer(9), peer(9), &a.result("y"), now_s() - 1000);
    let garbage = b"\x89MRDASK\x01garbage".to_vec();
    let publish = |record: Record| FromAsker::Publish(vec![record]).encode().unwrap();
    for bytes in [publish(theirs), publish(old), garbage] {
        let mut stream = network.open(a.peer, Service::Records).await.unwrap();
        let mut buffer = Vec::new();
        frame::append(&mut buffer, &bytes);
        frame::write(&mut stream, &buffer, SILENCE).await.unwrap();
        let answer = frame::read(&mut stream, limits::RECORDS_MESSAGE_BYTES, SILENCE).await;
        assert!(!matches!(answer, Ok(Some(_))), "the stream is closed");
    }
    assert_eq!(a.records.kept().0, 0);
    let mut open = Vec::new();
    for _ in 0..limits::RECORDS_SERVED_PER_PEER {
        open.push(network.open(a.peer, Service::Records).await.unwrap());
    }
    until(|| a.records.shared.server.open(peer(9)) == limits::RECORDS_SERVED_PER_PEER).await;
    let mut one_more = network.open(a.peer, Service::Records).await.unwrap();
    let answer = frame::read(&mut one_more, 100, SILENCE).await;
    assert!(!matches!(answer, Ok(Some(_))), "too many");
}

#[test]
fn kademlia_puts_keys_and_peers_where_we_do() {
    use libp2p::kad::KBucketKey;
    use mesh_protocol::records::Position;
    let target = Target([7; 32]);
    for number in 1..100_u8 {
        let key = libp2p::identity::Keypair::ed25519_from_bytes([number; 32]).unwrap();
        let public = key.public().try_into_ed25519().unwrap().to_bytes();
        let ours = Position::of_peer(PeerId(public)).distance(&Position::of_target(target));
        let theirs = KBucketKey::from(key.public().to_peer_id())
            .distance(&KBucketKey::from(target.0.to_vec()));
        assert_eq!(theirs.0, libp2p::kad::U256::from_big_endian(&ours));
    }
}
