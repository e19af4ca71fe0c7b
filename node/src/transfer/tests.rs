//! Several members in one process, with real stores.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime};

use mesh_protocol::limits;
use mesh_protocol::outboard::{self, Outboard};
use mesh_protocol::tree::{Tree, TreeEntry};
use mesh_protocol::wire::transfer::{Answer, Encoding, Want};
use mesh_store::StoreOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::*;
use crate::frame;
use crate::net::memory::MemoryMesh;
use crate::net::{NetworkEvent, Service};

struct Member {
    peer: PeerId,
    store: Store,
    transfers: Transfers,
    network: Arc<dyn Network>,
    _directory: tempfile::TempDir,
}

impl Member {
    /// Answers others with what `serve` does.
    async fn with(
        mesh: &MemoryMesh,
        number: u8,
        serve: impl Fn(&Transfers, PeerId, BoxStream) + Send + 'static,
    ) -> Self {
        let peer = PeerId([number; 32]);
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(StoreOptions::new(directory.path())).unwrap();
        let (network, mut events) = mesh.join(peer).await;
        let transfers = Transfers::new(store.clone(), Arc::clone(&network));
        let serving = transfers.clone();
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if let NetworkEvent::Incoming { peer, service: Service::Transfer, stream } = event {
                    serve(&serving, peer, stream);
                }
            }
        });
        Self { peer, store, transfers, network, _directory: directory }
    }

    async fn new(mesh: &MemoryMesh, number: u8) -> Self {
        Self::with(mesh, number, |transfers, peer, stream| transfers.serve(peer, stream)).await
    }

    fn put(&self, bytes: &[u8]) -> ValueName {
        ValueName(self.store.put_bytes(bytes).unwrap())
    }

    /// Changes a byte of an object on the disk, and leaves no trace of it.
    fn falsify(&self, name: ValueName, at: u64) {
        let path = self.store.root().join(Store::relative_blob_path(name.digest()));
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(&path, permissions).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(b"\xff", at).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
    }

    fn received_from(&self, peer: PeerId) -> u64 {
        let all = self.transfers.traffic();
        all.iter().find(|(other, _)| *other == peer).map_or(0, |(_, t)| t.received_bytes)
    }

    async fn fetch(&self, names: &[ValueName], sources: &Sources) -> Result<(), FetchError> {
        self.transfers.fetch(names.iter().copied().collect(), sources).await
    }

    fn liars(&self) -> Vec<PeerId> {
        let suspicions = self.transfers.suspicions().into_iter();
        let liars = suspicions.filter(|(_, why)| matches!(why, Suspicion::Lied(_)));
        liars.map(|(peer, _)| peer).collect()
    }
}

/// Bytes that no compressor likes.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = mesh_protocol::random::Random::new(seed);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend(random.bits().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn both(first: &Member, second: &Member) -> Sources {
    Sources { origin: Some(first.peer), hints: vec![second.peer] }
}

const LARGE: usize = 3 * limits::TRANSFER_PART_BYTES as usize + 12_345;

#[tokio::test]
async fn objects_and_trees_come_whole_and_once() {
    let mesh = MemoryMesh::new();
    let (a, b) = (Member::new(&mesh, 1).await, Member::new(&mesh, 2).await);
    let file = |name| TreeEntry::File { name, executable: false };
    let tree = |entries: Vec<(String, TreeEntry)>| {
        a.store.put_tree_value(&Tree::new(entries.into_iter().collect()).unwrap()).unwrap()
    };
    let small = (0..300_u32).map(|i| (format!("{i}"), file(a.put(&i.to_le_bytes()))));
    let deep = tree(small.chain([("empty".to_owned(), file(a.put(b"")))]).collect());
    let large = a.put(&noise(1, LARGE));
    let link = TreeEntry::Symlink("large".to_owned());
    let root = tree(vec![
        ("deep".to_owned(), TreeEntry::Directory(deep)),
        ("again".to_owned(), TreeEntry::Directory(deep)),
        ("large".to_owned(), file(large)),
        ("link".to_owned(), link),
    ]);
    let sources = Sources::only(a.peer);
    b.transfers.fetch_trees(BTreeSet::from([root]), &sources).await.unwrap();
    assert!(b.store.contains_tree(root));
    assert_eq!(b.store.read(large.digest(), u64::MAX).unwrap(), noise(1, LARGE));
    let bytes = root.digest().length + deep.digest().length + LARGE as u64 + 300 * 4;
    assert_eq!(b.received_from(a.peer), bytes);
    b.transfers.fetch_trees(BTreeSet::from([root]), &sources).await.unwrap();
    b.fetch(&[large, deep], &sources).await.unwrap();
    assert_eq!(b.received_from(a.peer), bytes, "it is all here");
}

#[tokio::test]
async fn what_many_want_at_once_comes_once() {
    let mesh = MemoryMesh::new();
    let (a, b) = (Member::new(&mesh, 1).await, Member::new(&mesh, 2).await);
    let names = [a.put(&noise(1, LARGE)), a.put(b"small"), a.put(&noise(2, 500_000))];
    let mut jobs = JoinSet::new();
    for _ in 0..100 {
        let (transfers, sources) = (b.transfers.clone(), Sources::only(a.peer));
        jobs.spawn(async move { transfers.fetch(BTreeSet::from(names), &sources).await });
    }
    for end in jobs.join_all().await {
        end.unwrap();
    }
    assert_eq!(b.received_from(a.peer), LARGE as u64 + 5 + 500_000);
}

#[tokio::test]
async fn a_large_object_comes_from_several_and_goes_on_when_one_breaks_off() {
    let mesh = MemoryMesh::new();
    let (a, b) = (Member::new(&mesh, 1).await, Member::new(&mesh, 2).await);
    let c = Member::new(&mesh, 3).await;
    let length = 10 * limits::TRANSFER_PART_BYTES as usize;
    let name = a.put(&noise(1, length));
    b.put(&noise(1, length));
    let (transfers, sources) = (c.transfers.clone(), both(&a, &b));
    let fetch =
        tokio::spawn(async move { transfers.fetch(BTreeSet::from([name]), &sources).await });
    while c.received_from(b.peer) == 0 {
        assert!(!fetch.is_finished(), "it came from one alone");
        tokio::task::yield_now().await;
    }
    mesh.cut(b.peer, c.peer).await;
    fetch.await.unwrap().unwrap();
    assert_eq!(c.store.read(name.digest(), u64::MAX).unwrap(), noise(1, length));
    let (from_a, from_b) = (c.received_from(a.peer), c.received_from(b.peer));
    assert!(from_a > 0 && from_b < length as u64, "{from_a} and {from_b}");
    let piece = u64::from(limits::TRANSFER_PIECE_BYTES);
    assert!(from_a + from_b <= length as u64 + piece, "all but a piece counted");
}

#[tokio::test(start_paused = true)]
async fn who_is_silent_is_not_waited_for() {
    let mesh = MemoryMesh::new();
    let (a, b) = (Member::new(&mesh, 1).await, Member::new(&mesh, 2).await);
    let c = Member::new(&mesh, 3).await;
    let names = [a.put(&noise(1, LARGE)), a.put(b"small")];
    b.put(&noise(1, LARGE));
    b.put(b"small");
    mesh.silence(a.peer, c.peer);
    let start = tokio::time::Instant::now();
    c.fetch(&names, &both(&a, &b)).await.unwrap();
    assert!(start.elapsed() <= Duration::from_micros(3 * limits::TRANSFER_SILENCE_US));
    assert_eq!(c.transfers.suspicions(), [(a.peer, Suspicion::Failing(2))]);
    // Alone, it is asked in spite of that, and works again.
    let other = a.put(b"other");
    mesh.heal(a.peer, c.peer).await;
    c.fetch(&[other], &Sources::only(a.peer)).await.unwrap();
    assert_eq!(c.transfers.suspicions(), []);
}

/// A stream that is open and then says nothing more.
#[tokio::test(start_paused = true)]
async fn a_stream_that_stalls_is_given_up() {
    let mesh = MemoryMesh::new();
    let held = Arc::new(std::sync::Mutex::new(Vec::new()));
    let keep = Arc::clone(&held);
    let a = Member::with(&mesh, 1, move |_, _, stream| keep.lock().unwrap().push(stream)).await;
    let (b, c) = (Member::new(&mesh, 2).await, Member::new(&mesh, 3).await);
    let names = [b.put(&noise(1, LARGE)), b.put(b"small")];
    c.fetch(&names, &both(&a, &b)).await.unwrap();
    assert!(!held.lock().unwrap().is_empty() && c.liars().is_empty());
}

#[tokio::test]
async fn a_liar_is_named_and_the_truth_comes_from_others() {
    let mesh = MemoryMesh::new();
    let (liar, good) = (Member::new(&mesh, 1).await, Member::new(&mesh, 2).await);
    let (small, large) = (b"small".to_vec(), noise(1, LARGE));
    for bytes in [small, large] {
        let c = Member::new(&mesh, 3).await;
        let name = good.put(&bytes);
        liar.put(&bytes);
        liar.falsify(name, bytes.len() as u64 - 1);
        let alone = c.fetch(&[name], &Sources::only(liar.peer)).await;
        assert!(matches!(alone, Err(FetchError::Nowhere { .. })), "{alone:?}");
        assert_eq!(c.liars(), [liar.peer]);
        assert!(!c.store.contains(name.digest()));
        let before = c.received_from(liar.peer);
        c.fetch(&[name], &both(&liar, &good)).await.unwrap();
        assert_eq!(c.store.read(name.digest(), u64::MAX).unwrap(), bytes);
        assert_eq!(c.received_from(liar.peer), before, "it is not asked again");
    }
}

/// They lie alike, and are more than those who do not.
#[tokio::test]
async fn liars_among_several_sources_are_found() {
    let mesh = MemoryMesh::new();
    let (liar, other) = (Member::new(&mesh, 1).await, Member::new(&mesh, 2).await);
    let (good, c) = (Member::new(&mesh, 3).await, Member::new(&mesh, 4).await);
    let bytes = noise(1, 8 * limits::TRANSFER_PART_BYTES as usize);
    let name = good.put(&bytes);
    for liar in [&liar, &other] {
        liar.put(&bytes);
        liar.falsify(name, bytes.len() as u64 - 1);
    }
    let sources = Sources { origin: None, hints: vec![liar.peer, good.peer, other.peer] };
    c.fetch(&[name], &sources).await.unwrap();
    assert_eq!(c.store.read(name.digest(), u64::MAX).unwrap(), bytes);
    let liars = c.liars();
    assert!(liars.contains(&liar.peer) && !liars.contains(&good.peer), "{liars:?}");
}

/// What does not fit what its sender said before is found when it comes, and costs nothing else.
#[tokio::test]
async fn a_false_piece_is_found_as_it_comes() {
    let mesh = MemoryMesh::new();
    let (bad, good) = (Member::new(&mesh, 1).await, Member::new(&mesh, 2).await);
    let (b, c) = (Member::new(&mesh, 3).await, Member::new(&mesh, 4).await);
    let bytes = noise(1, 8 * limits::TRANSFER_PART_BYTES as usize);
    let name = good.put(&bytes);
    bad.put(&bytes);
    b.fetch(&[name], &Sources::only(bad.peer)).await.unwrap();
    let piece = u64::from(limits::TRANSFER_PIECE_BYTES);
    for part in 0..8 {
        bad.falsify(name, part * limits::TRANSFER_PART_BYTES + piece);
    }
    let alone = c.fetch(&[name], &Sources::only(bad.peer)).await.unwrap_err().to_string();
    assert!(alone.contains("a piece that it sent of"), "{alone}");
    assert_eq!(c.liars(), [bad.peer]);
    assert!(c.received_from(bad.peer) < limits::TRANSFER_PART_BYTES, "the rest was not asked for");

    let d = Member::new(&mesh, 5).await;
    d.fetch(&[name], &both(&good, &bad)).await.unwrap();
    assert_eq!(d.store.read(name.digest(), u64::MAX).unwrap(), bytes);
    assert_eq!(d.liars(), [bad.peer]);
    let (from_good, from_bad) = (d.received_from(good.peer), d.received_from(bad.peer));
    assert!(from_good <= bytes.len() as u64 && from_bad <= 3 * piece, "{from_good} {from_bad}");
}

/// Gives one piece of other bytes, as if they were the object, and then nothing more.
async fn lie_and_stall(mut stream: BoxStream, bytes: Arc<Vec<u8>>) -> std::io::Result<()> {
    let want = frame::read(&mut stream, limits::TRANSFER_WANT_BYTES, Duration::MAX).await?;
    let start = Want::decode(&want.unwrap()).unwrap().items[0].start;
    let pieces = bytes.chunks(limits::TRANSFER_PIECE_BYTES as usize);
    let starts = (0..).step_by(limits::TRANSFER_PIECE_BYTES as usize);
    let nodes = starts.zip(pieces.clone()).map(|(start, bytes)| outboard::piece(start, bytes));
    let proof = Outboard::new(nodes.collect()).proof(start);
    let piece = pieces.clone().nth(start as usize / limits::TRANSFER_PIECE_BYTES as usize).unwrap();
    let (length, encoding) = (piece.len() as u32, Encoding::Plain);
    let mut answer = Vec::new();
    let header = Answer::Piece { item: 0, length, encoding, proof };
    frame::append(&mut answer, &header.encode().unwrap());
    frame::append(&mut answer, piece);
    stream.write_all(&answer).await?;
    std::future::pending().await
}

#[tokio::test(start_paused = true)]
async fn who_lies_and_then_stalls_holds_nobody_up() {
    let mesh = MemoryMesh::new();
    let (true_bytes, false_bytes) = (noise(1, LARGE), Arc::new(noise(2, LARGE)));
    let (lied, hear) = tokio::sync::watch::channel(false);
    let liar = Member::with(&mesh, 1, move |_, _, stream| {
        tokio::spawn(lie_and_stall(stream, Arc::clone(&false_bytes)));
        lied.send_replace(true);
    });
    let liar = liar.await;
    let good = Member::with(&mesh, 2, move |transfers, peer, stream| {
        let (transfers, mut hear) = (transfers.clone(), hear.clone());
        tokio::spawn(async move {
            hear.wait_for(|lied| *lied).await.unwrap();
            transfers.serve(peer, stream);
        });
    });
    let (good, c) = (good.await, Member::new(&mesh, 3).await);
    let name = good.put(&true_bytes);
    let start = tokio::time::Instant::now();
    c.fetch(&[name], &both(&good, &liar)).await.unwrap();
    assert!(start.elapsed() < Duration::from_micros(limits::TRANSFER_SILENCE_US));
    assert_eq!(c.store.read(name.digest(), u64::MAX).unwrap(), true_bytes);
    assert_eq!(c.liars(), [liar.peer]);
}

#[tokio::test]
async fn garbage_is_a_lie_and_costs_no_memory() {
    let mesh = MemoryMesh::new();
    let answers: [&[u8]; 3] = [
        b"\xff\xff\xff\xff\xff\xff",
        b"\x08\x00\x00\x00\x89MPIECE\x01",
        &[9, 0, 0, 0, 0x89, b'M', b'P', b'I', b'E', b'C', b'E', 1, 77],
    ];
    for answer in answers {
        let bad = Member::with(&mesh, 1, move |_, _, mut stream| {
            tokio::spawn(async move {
                let _ = stream.write_all(answer).await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
            });
        });
        let bad = bad.await;
        let (good, c) = (Member::new(&mesh, 2).await, Member::new(&mesh, 3).await);
        let name = good.put(b"x");
        c.fetch(&[name], &both(&bad, &good)).await.unwrap();
        assert_eq!(c.transfers.suspicions().first().map(|(peer, _)| *peer), Some(bad.peer));
    }
}

#[tokio::test]
async fn what_nobody_has_is_an_error_that_says_so() {
    let mesh = MemoryMesh::new();
    let (a, b) = (Member::new(&mesh, 1).await, Member::new(&mesh, 2).await);
    let c = Member::new(&mesh, 3).await;
    for name in [ValueName::of(b"nowhere"), ValueName::of(&noise(9, LARGE))] {
        let error = c.fetch(&[name], &both(&a, &b)).await.unwrap_err();
        assert!(matches!(error, FetchError::Nowhere { asked: 2, .. }), "{error}");
        assert!(error.to_string().ends_with("the last one: it does not have it"), "{error}");
    }
    let mut huge = ValueName::of(b"huge");
    huge.0.length = limits::TRANSFER_OBJECT_BYTES + 1;
    let error = c.fetch(&[huge], &both(&a, &b)).await.unwrap_err();
    assert!(matches!(error, FetchError::TooMuch(..)), "{error}");
    assert_eq!(c.transfers.suspicions(), []);
}

#[tokio::test]
async fn when_the_leader_goes_a_follower_takes_over() {
    let mesh = MemoryMesh::new();
    let stalls = Member::with(&mesh, 1, |_, _, mut stream| {
        tokio::spawn(async move { stream.read_to_end(&mut Vec::new()).await });
    });
    let (stalls, good) = (stalls.await, Member::new(&mesh, 2).await);
    let c = Member::new(&mesh, 3).await;
    let name = good.put(b"x");
    let fetch = |sources: Sources| {
        let transfers = c.transfers.clone();
        tokio::spawn(async move { transfers.fetch(BTreeSet::from([name]), &sources).await })
    };
    let leader = fetch(Sources::only(stalls.peer));
    tokio::task::yield_now().await;
    let follower = fetch(Sources::only(good.peer));
    tokio::task::yield_now().await;
    leader.abort();
    follower.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_peer_that_asks_badly_or_too_much_is_refused_and_others_are_served() {
    let mesh = MemoryMesh::new();
    let (a, b) = (Member::new(&mesh, 1).await, Member::new(&mesh, 2).await);
    let name = a.put(b"x");
    let mut bad = b.network.open(a.peer, Service::Transfer).await.unwrap();
    let mut bytes = Vec::new();
    frame::append(&mut bytes, b"garbage");
    bad.write_all(&bytes).await.unwrap();
    assert_eq!(bad.read(&mut [0]).await.unwrap(), 0, "it was closed");
    let mut open = Vec::new();
    for _ in 0..limits::TRANSFER_SERVED_PER_PEER {
        open.push(b.network.open(a.peer, Service::Transfer).await.unwrap());
    }
    let mut one_more = b.network.open(a.peer, Service::Transfer).await.unwrap();
    assert_eq!(one_more.read(&mut [0]).await.unwrap(), 0, "too many are open");
    drop(open);
    let c = Member::new(&mesh, 3).await;
    c.fetch(&[name], &Sources::only(a.peer)).await.unwrap();
}

#[tokio::test]
async fn a_tree_without_end_is_refused() {
    let mesh = MemoryMesh::new();
    let (a, b) = (Member::new(&mesh, 1).await, Member::new(&mesh, 2).await);
    let mut tree = a.store.put_tree_value(&Tree::new(BTreeMap::new()).unwrap()).unwrap();
    for _ in 0..limits::TREE_DEPTH + 2 {
        let entries = BTreeMap::from([("d".to_owned(), TreeEntry::Directory(tree))]);
        tree = a.store.put_tree_value(&Tree::new(entries).unwrap()).unwrap();
    }
    let fetched = b.transfers.fetch_trees(BTreeSet::from([tree]), &Sources::only(a.peer)).await;
    assert!(matches!(fetched, Err(FetchError::TooMuch(..))), "{fetched:?}");
}

#[tokio::test(start_paused = true)]
async fn one_peer_is_asked_on_a_few_streams_at_once_and_others_meanwhile() {
    let mesh = MemoryMesh::new();
    let held = Arc::new(std::sync::Mutex::new(Vec::new()));
    let keep = Arc::clone(&held);
    let a = Member::with(&mesh, 1, move |_, _, stream| keep.lock().unwrap().push(stream)).await;
    let (b, c) = (Member::new(&mesh, 2).await, Member::new(&mesh, 3).await);
    let mut jobs = JoinSet::new();
    for i in 0..100_u32 {
        let name = ValueName::of(&i.to_le_bytes());
        let (transfers, sources) = (c.transfers.clone(), Sources::only(a.peer));
        jobs.spawn(async move { transfers.fetch(BTreeSet::from([name]), &sources).await });
    }
    while held.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    let name = b.put(b"x");
    c.fetch(&[name], &Sources::only(b.peer)).await.unwrap();
    assert!(held.lock().unwrap().len() <= limits::TRANSFER_PER_PEER);
    jobs.shutdown().await;
}
