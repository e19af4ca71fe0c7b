//! What one member found out ends the runs of another.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mesh_node::claims::RecallCounts;
use mesh_node::driver::Progress;
use mesh_node::net::memory::MemoryMesh;
use mesh_protocol::limits;
use mesh_protocol::name::OutputRef;
use mesh_protocol::peer::PeerId;
use mesh_protocol::sched::force::Event;
use mesh_protocol::thunk::Thunk;

use crate::world::*;

#[derive(Default)]
struct Seen {
    learned: Vec<Option<PeerId>>,
    reused: usize,
    executed: usize,
}

fn watch(seen: &Arc<Mutex<Seen>>) -> impl FnMut(Progress) + Send + 'static {
    let seen = Arc::clone(seen);
    move |progress| {
        let mut seen = seen.lock().unwrap();
        match progress {
            Progress::Learned(_, by) => seen.learned.push(by),
            Progress::Event(Event::Reused(_)) => seen.reused += 1,
            Progress::Event(Event::Executed(_)) => seen.executed += 1,
            _ => {}
        }
    }
}

/// Both have the same sources.
fn give_inputs(from: &Node, to: &Node, thunks: &[Thunk]) {
    for input in thunks.iter().flat_map(Thunk::values) {
        to.put(&from.store.read(input.digest(), 1000).unwrap());
    }
}

/// Pretended time, far beyond any look-up: no run ends before its answer comes.
const LONG_MS: u64 = 120_000;

#[tokio::test(start_paused = true)]
async fn runs_end_when_somebody_else_knows() {
    let net = MemoryMesh::new();
    let first = Node::start_with_records(&net, 1, 2).await;
    let thunks = many(&first, 8, LONG_MS);
    build(&first, &first.driver(2), thunks.clone()).await;
    assert_eq!(first.engine.runs(), 8);
    let second = Node::start_with_records(&net, 2, 2).await;
    give_inputs(&first, &second, &thunks);
    first.mesh.give(0).await;
    let seen = Arc::new(Mutex::new(Seen::default()));
    let began = tokio::time::Instant::now();
    let driver = second.watched_driver(2, watch(&seen));
    build(&second, &driver, thunks.clone()).await;
    assert!(began.elapsed().as_secs() < 60, "in pretended time");
    until("the runs are stopped", || second.engine.running() == 0).await;
    let seen = seen.lock().unwrap();
    assert_eq!((seen.executed, seen.reused), (0, 8));
    assert_eq!(seen.learned, [Some(first.peer); 8], "by who ran them");
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_more_than_is_asked_at_once_gets_the_rest_later() {
    let net = MemoryMesh::new();
    let first = Node::start_with_records(&net, 1, 2).await;
    let known = many(&first, 4, LONG_MS);
    build(&first, &first.driver(2), known.clone()).await;
    let second = Node::start_with_records(&net, 2, 2).await;
    first.mesh.give(0).await;
    give_inputs(&first, &second, &known);
    let unknown = (0..limits::LOOKUPS + 4).map(|i| thunk(LONG_MS, &format!("{i}"), &[], &[]));
    let driver = second.driver(0);
    let mut demands = tokio::task::JoinSet::new();
    for thunk in unknown.chain(known.clone()) {
        let (name, _) = thunk.encode().unwrap();
        driver.add(name, Arc::new(thunk)).await;
        let driver = driver.clone();
        let output = OutputRef { thunk: name, tag: tag() };
        demands.spawn(async move { (name, driver.demand(output).await.is_ok()) });
    }
    let known: BTreeSet<_> = known.iter().map(|thunk| (thunk.encode().unwrap().0, true)).collect();
    let mut answered = BTreeSet::new();
    while answered.len() < known.len() {
        let next = tokio::time::timeout(Duration::from_secs(60), demands.join_next()).await;
        answered.insert(next.expect("in pretended time").unwrap().unwrap());
    }
    assert_eq!(answered, known);
    assert_eq!(second.mesh.status().await.recalls, RecallCounts::default());
}

#[tokio::test(start_paused = true)]
async fn what_nobody_knows_runs_as_if_nobody_had_been_asked() {
    let net = MemoryMesh::new();
    let _silent = net.join(peer(9)).await;
    let node = Node::start_with_records(&net, 1, 4).await;
    let seen = Arc::new(Mutex::new(Seen::default()));
    let thunks = many(&node, 4, 10);
    let began = tokio::time::Instant::now();
    build(&node, &node.watched_driver(4, watch(&seen)), thunks).await;
    let took = began.elapsed().as_millis();
    assert!(took < 1000, "nothing waits for an answer: {took} ms of pretended time");
    assert_eq!((seen.lock().unwrap().executed, node.engine.runs()), (4, 4));
}

#[tokio::test(start_paused = true)]
async fn what_a_worker_ran_for_somebody_else_is_reused_and_not_counted_as_run() {
    let net = MemoryMesh::new();
    let worker = Node::start(&net, 1, 2).await;
    let first = Node::start(&net, 2, 0).await;
    let thunks = many(&first, 6, 10);
    build(&first, &first.driver(0), thunks.clone()).await;
    assert_eq!(worker.engine.runs(), 6);
    let second = Node::start(&net, 3, 0).await;
    give_inputs(&first, &second, &thunks);
    let seen = Arc::new(Mutex::new(Seen::default()));
    build(&second, &second.watched_driver(0, watch(&seen)), thunks).await;
    assert_eq!(worker.engine.runs(), 6, "nothing runs twice");
    let seen = seen.lock().unwrap();
    assert_eq!((seen.executed, seen.reused), (0, 6));
    assert_eq!(seen.learned, [Some(worker.peer); 6]);
}
