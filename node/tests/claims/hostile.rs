//! Workers that lie, and peers that break the rules.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::SeqCst;

use mesh_node::claims::Signer;
use mesh_node::net::memory::MemoryMesh;
use mesh_node::net::{BoxStream, Network, Service};
use mesh_node::transfer::Suspicion;
use mesh_protocol::limits;
use mesh_protocol::name::ValueName;
use mesh_protocol::peer::PeerId;
use mesh_protocol::sched::lease::Event;
use mesh_protocol::thunk::{OutputObject, Reduction, Usage};
use mesh_protocol::wire::claim::{
    Capabilities, FromRequester, FromWorker, InlineObject, Open, Receipt, SignedReduction,
    Timeline, Window,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{Hashing, Node, PLATFORM, answers, build, many, peer, tag, until};

async fn send(stream: &mut BoxStream, message: &FromWorker) -> std::io::Result<()> {
    send_bytes(stream, &message.encode().unwrap()).await
}

async fn send_bytes(stream: &mut BoxStream, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(&(bytes.len() as u32).to_le_bytes()).await?;
    stream.write_all(bytes).await
}

async fn receive(stream: &mut BoxStream) -> std::io::Result<FromRequester> {
    let mut bytes = vec![0; stream.read_u32_le().await? as usize];
    stream.read_exact(&mut bytes).await?;
    Ok(FromRequester::decode(&bytes).unwrap())
}

fn open(slots: u32) -> FromWorker {
    let capabilities =
        Capabilities { platform: PLATFORM, cores: 8, memory_mib: 1024, speed_permille: 1000 };
    let window = Window { slots, prefetch: 0 };
    FromWorker::Open(Open { capabilities, window, holds: BTreeSet::new() })
}

fn misbehaved(node: &Node) -> BTreeSet<PeerId> {
    let events = node.events.lock().unwrap();
    let peers = events.iter().filter_map(|event| match event {
        Event::Misbehaved(peer, _) => Some(*peer),
        _ => None,
    });
    peers.collect()
}

/// Well-formed, signed, and there: only a second run tells.
#[tokio::test(start_paused = true)]
async fn false_outputs_are_found_out_by_who_checks() {
    let net = MemoryMesh::new();
    let requester = Node::start_checking(&net, 1, 0).await;
    let (liar, honest) = (Node::start(&net, 2, 4).await, Node::start(&net, 3, 4).await);
    liar.engine.falsifies.store(true, SeqCst);
    let driver = requester.driver(0);
    build(&requester, &driver, many(&requester, 60, 50)).await;
    assert!(liar.engine.runs() > 0 && honest.engine.runs() >= 60);
    assert!(requester.engine.runs() >= 60, "each is run here once more");
    assert_eq!(misbehaved(&requester), BTreeSet::from([liar.peer]));
    let lied = liar.engine.runs();
    let suspicions = requester.transfers.suspicions();
    assert!(matches!(&suspicions[..], [(peer, Suspicion::Lied(_))] if *peer == liar.peer));
    build(&requester, &driver, many(&requester, 90, 60)).await;
    assert_eq!(liar.engine.runs(), lied, "it is left out");
}

#[tokio::test(start_paused = true)]
async fn outputs_that_vary_bring_nobody_into_disrepute() {
    let net = MemoryMesh::new();
    let requester = Node::start_checking(&net, 1, 0).await;
    let worker = Node::start(&net, 2, 4).await;
    worker.engine.varies.store(true, SeqCst);
    requester.engine.varies.store(true, SeqCst);
    // They differ from each other's, and from their own.
    worker.engine.runs.store(1000, SeqCst);
    let answers = answers(&requester.driver(0), &many(&requester, 10, 50)).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(misbehaved(&requester), BTreeSet::new());
    assert_eq!((worker.engine.runs(), requester.engine.runs()), (1010, 20));
}

#[tokio::test(start_paused = true)]
async fn outputs_that_nobody_has_are_not_believed() {
    let net = MemoryMesh::new();
    let requester = Node::start(&net, 1, 0).await;
    let (liar, honest) = (Node::start(&net, 2, 4).await, Node::start(&net, 3, 4).await);
    liar.engine.lies.store(true, SeqCst);
    let driver = requester.driver(0);
    build(&requester, &driver, many(&requester, 60, 50)).await;
    assert!(liar.engine.runs() > 0);
    assert_eq!(honest.engine.runs(), 60);
    let blamed = |event: &Event| {
        matches!(event, Event::PutBack(_, Some(peer), reason)
        if *peer == liar.peer && reason.contains("its outputs cannot be had"))
    };
    assert!(requester.events.lock().unwrap().iter().any(blamed));
    let failed = requester.mesh.status().await.scores;
    assert!(failed.iter().any(|(peer, score)| *peer == Some(liar.peer) && score.failed > 0));
}

/// What a false worker does with a lease.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lie {
    /// It signs with another key.
    Signature,
    /// It names somebody else as the executor.
    Executor,
    /// The bytes that come along are others than their name says.
    Inline,
}

async fn lie(network: std::sync::Arc<dyn Network>, requester: u8, lie: Lie) -> std::io::Result<()> {
    let own = network.own();
    let mut stream = network.open(peer(requester), Service::Claim).await.unwrap();
    send(&mut stream, &open(2)).await?;
    loop {
        let FromRequester::Lease(lease) = receive(&mut stream).await? else { continue };
        let name = ValueName::of(b"what it should be");
        let object = OutputObject::File { name, executable: false };
        let executor = if lie == Lie::Executor { peer(77) } else { own };
        let reduction = Reduction {
            thunk: lease.thunk,
            outputs: [(tag(), object)].into(),
            stdout: name,
            stderr: name,
            usage: Usage::default(),
            executor: executor.to_string(),
            finished_at_s: 0,
        };
        let key = if lie == Lie::Signature { peer(78) } else { own };
        let signature = Hashing(key).sign(&reduction.encode().unwrap());
        let bytes = match lie {
            Lie::Inline => b"what it is".to_vec(),
            _ => b"what it should be".to_vec(),
        };
        let receipt = Receipt {
            lease: lease.lease,
            end: Ok(SignedReduction { reduction, signature, remembered: false }),
            objects: vec![InlineObject { name, bytes }],
            timeline: Timeline::default(),
        };
        send(&mut stream, &FromWorker::Started(lease.lease)).await?;
        send(&mut stream, &FromWorker::Receipt(Box::new(receipt))).await?;
    }
}

#[tokio::test(start_paused = true)]
async fn false_receipts_are_not_believed() {
    for (how, wanted) in [
        (Lie::Signature, "its signature is false"),
        (Lie::Executor, "its signature is false"),
        (Lie::Inline, "are others"),
    ] {
        let net = MemoryMesh::new();
        let requester = Node::start(&net, 1, 0).await;
        let (network, mut events) = net.join(peer(2)).await;
        tokio::spawn(async move { while events.recv().await.is_some() {} });
        let driver = requester.driver(0);
        tokio::spawn(lie(network, 1, how));
        let thunks = many(&requester, 20, 50);
        let building = build(&requester, &driver, thunks);
        let joining = async {
            let was_refused = |event: &Event| matches!(event, Event::PutBack(_, _, reason) if reason.contains(wanted));
            until("it was found out", || requester.events.lock().unwrap().iter().any(was_refused))
                .await;
            Node::start(&net, 3, 4).await
        };
        let ((), honest) = tokio::join!(building, joining);
        assert_eq!(honest.engine.runs(), 20, "{how:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn garbage_and_floods_of_streams_cost_little() {
    let net = MemoryMesh::new();
    let requester = Node::start(&net, 1, 0).await;
    let (network, mut events) = net.join(peer(2)).await;
    tokio::spawn(async move { while events.recv().await.is_some() {} });
    let open_stream = || network.open(requester.peer, Service::Claim);
    // Not who it is first; no message; a frame without end; a message that breaks its rules.
    let endless = (u32::MAX).to_le_bytes();
    for bytes in [
        FromWorker::Heartbeat(BTreeSet::new()).encode().unwrap(),
        b"garbage".to_vec(),
        [open(1).encode().unwrap().as_slice(), b"\0"].concat(),
    ] {
        let mut stream = open_stream().await.unwrap();
        send_bytes(&mut stream, &bytes).await.unwrap();
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "it was closed");
    }
    let mut stream = open_stream().await.unwrap();
    stream.write_all(&endless).await.unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    // More streams than a peer may have are closed at once; those that say nothing, in the end.
    let mut streams = Vec::new();
    for _ in 0..100 {
        streams.push(open_stream().await.unwrap());
    }
    let start = tokio::time::Instant::now();
    for stream in streams.iter_mut().rev() {
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    }
    assert!(start.elapsed().as_micros() as u64 <= 2 * limits::SILENCE_US);
    let _worker = Node::start(&net, 3, 2).await;
    build(&requester, &requester.driver(0), many(&requester, 10, 10)).await;
}

/// It claims for a thousand cores, and reads nothing.
#[tokio::test(start_paused = true)]
async fn a_worker_that_does_not_read_is_given_up() {
    let net = MemoryMesh::new();
    let requester = Node::start(&net, 1, 0).await;
    let (network, mut events) = net.join(peer(2)).await;
    tokio::spawn(async move { while events.recv().await.is_some() {} });
    let mut stream = network.open(requester.peer, Service::Claim).await.unwrap();
    send(&mut stream, &open(limits::CLAIM_CORES)).await.unwrap();
    let thunks = many(&requester, 300, 10);
    let driver = requester.driver(0);
    let building = build(&requester, &driver, thunks);
    let joining = async {
        let is_leased = |event: &Event| matches!(event, Event::Leased(..));
        until("it was leased to", || requester.events.lock().unwrap().iter().any(is_leased)).await;
        let honest = Node::start(&net, 3, 8).await;
        // Its heartbeats come, though.
        loop {
            tokio::time::sleep(std::time::Duration::from_secs(2)).await;
            let heartbeat = FromWorker::Heartbeat(BTreeSet::new());
            if send(&mut stream, &heartbeat).await.is_err() {
                return honest;
            }
        }
    };
    let ((), honest) = tokio::join!(building, joining);
    assert_eq!(honest.engine.runs(), 300);
}
