//! Nothing goes wrong: who runs what, what moves, and how slots are shared.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::Ordering::SeqCst;

use mesh_node::driver::Progress;
use mesh_node::net::memory::MemoryMesh;
use mesh_protocol::random::Random;
use mesh_protocol::tree::{Tree, TreeEntry};

use crate::world::{Node, answers, build, many, thunk, until};

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    (0..length / 8).flat_map(|_| random.bits().to_le_bytes()).collect()
}

#[tokio::test(start_paused = true)]
async fn without_own_slots_all_runs_elsewhere_and_its_progress_is_told() {
    let net = MemoryMesh::new();
    let requester = Node::start(&net, 1, 0).await;
    let workers = [Node::start(&net, 2, 4).await, Node::start(&net, 3, 4).await];
    let told = Arc::new(Mutex::new((0, 0)));
    let tell = Arc::clone(&told);
    let driver = requester.watched_driver(0, move |progress| match progress {
        Progress::Started(..) => tell.lock().unwrap().0 += 1,
        Progress::Ended(_, Ok(outcome)) if outcome.usage.wall_us == 50_000 => {
            tell.lock().unwrap().1 += 1;
        }
        _ => {}
    });
    build(&requester, &driver, many(&requester, 200, 50)).await;
    let runs: Vec<u64> = workers.iter().map(|worker| worker.engine.runs()).collect();
    assert_eq!((requester.engine.runs(), runs.iter().sum::<u64>()), (0, 200));
    assert!(runs.iter().all(|runs| *runs > 50), "{runs:?}");
    assert_eq!(*told.lock().unwrap(), (200, 200));
    // Inputs and outputs are small: they came along.
    assert!(workers.iter().all(|worker| worker.received_from(requester.peer) == 0));
    assert_eq!(requester.received_from(workers[0].peer), 0);
    let status = requester.mesh.status().await;
    assert_eq!((status.counts.leased, status.counts.stray, status.leases), (200, 0, (0, 0)));
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_slot_is_made_ready_if_it_waits_for_long() {
    for (ms, turns) in [(1_000, 9), (10, 0)] {
        let net = MemoryMesh::new();
        let requester = Node::start(&net, 1, 0).await;
        let worker = Node::start(&net, 2, 1).await;
        build(&requester, &requester.driver(0), many(&requester, 10, ms)).await;
        let engine = &worker.engine;
        assert_eq!((engine.runs(), engine.running_max.load(SeqCst)), (10, 1));
        assert_eq!(engine.turns.load(SeqCst), turns, "of {ms} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn own_slots_take_part_and_a_mesh_of_one_is_a_machine() {
    let net = MemoryMesh::new();
    let alone = Node::start(&net, 1, 2).await;
    let driver = alone.driver(2);
    build(&alone, &driver, many(&alone, 20, 50)).await;
    assert_eq!((alone.engine.runs(), alone.engine.running_max.load(SeqCst)), (20, 2));
    let worker = Node::start(&net, 2, 2).await;
    let more = (0..40).map(|i| thunk(50, &format!("more {i}"), &[], &[])).collect();
    build(&alone, &driver, more).await;
    assert!(alone.engine.runs() > 25 && worker.engine.runs() > 5);
    // What has been reduced is not run again.
    let before = alone.engine.runs() + worker.engine.runs();
    build(&alone, &alone.driver(2), many(&alone, 20, 50)).await;
    assert_eq!(alone.engine.runs() + worker.engine.runs(), before);
}

#[tokio::test(start_paused = true)]
async fn thunks_that_depend_on_each_other_and_fail_do_so_as_here() {
    let net = MemoryMesh::new();
    let requester = Node::start(&net, 1, 0).await;
    let _worker = Node::start(&net, 2, 4).await;
    let driver = requester.driver(0);
    let first = thunk(10, "first", &[], &[]);
    let mut second: mesh_protocol::thunk::ThunkSpec = thunk(10, "second", &[], &[]).into();
    let output = mesh_protocol::name::OutputRef {
        thunk: first.encode().unwrap().0,
        tag: crate::world::tag(),
    };
    let input = mesh_protocol::thunk::Input::output(output);
    second.inputs.insert(crate::world::path("/in/000"), input);
    let second = mesh_protocol::thunk::Thunk::try_from(second).unwrap();
    let fails = thunk(10, "fail", &[], &[]);
    let all = answers(&driver, &[second, first, fails]).await;
    let wanted = mesh_protocol::name::ValueName::of(b"secondfirst");
    assert!(matches!(&all[0], Ok(object)
        if *object == mesh_protocol::thunk::OutputObject::File { name: wanted, executable: false }));
    assert!(all[1].is_ok());
    assert_eq!(&*all[2].as_ref().unwrap_err().reason, "exit status 1");
}

#[tokio::test(start_paused = true)]
async fn a_toolchain_goes_once_to_each_worker_and_from_worker_to_worker() {
    let net = MemoryMesh::new();
    let requester = Node::start(&net, 1, 0).await;
    let file = |i| TreeEntry::File { name: requester.put(&noise(i, 2_000_000)), executable: true };
    let entries: BTreeMap<String, TreeEntry> = (0..3).map(|i| (format!("{i}"), file(i))).collect();
    let tree = requester.store.put_tree_value(&Tree::new(entries).unwrap()).unwrap();
    let bytes = 3 * 2_000_000 + tree.digest().length;
    let use_tree = |from: usize| {
        (from..from + 100).map(|i| thunk(200, &format!("{i}"), &[], &[tree])).collect()
    };
    let first = Node::start(&net, 2, 8).await;
    let driver = requester.driver(0);
    build(&requester, &driver, use_tree(0)).await;
    assert_eq!(first.received_from(requester.peer), bytes);
    let second = Node::start(&net, 3, 8).await;
    build(&requester, &driver, use_tree(100)).await;
    assert!(second.engine.runs() > 10, "it took part");
    let from_both = second.received_from(requester.peer) + second.received_from(first.peer);
    assert_eq!(from_both, bytes);
    assert!(second.received_from(first.peer) > 1_000_000, "from worker to worker");
    assert_eq!(first.received_from(requester.peer), bytes, "once");
}

#[tokio::test(start_paused = true)]
async fn what_runs_next_is_fetched_while_something_runs() {
    let net = MemoryMesh::new();
    let requester = Node::start(&net, 1, 0).await;
    let worker = Node::start(&net, 2, 1).await;
    let inputs = [requester.put(&noise(1, 200_000)), requester.put(&noise(2, 200_000))];
    *worker.engine.looks_for.lock().unwrap() = inputs.into();
    let driver = requester.driver(0);
    let thunks = inputs.iter().map(|input| thunk(500, "x", &[*input], &[])).collect();
    build(&requester, &driver, thunks).await;
    assert_eq!(*worker.engine.found.lock().unwrap(), [2, 2], "at the end of each run");
    assert_eq!(worker.engine.running_max.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn requesters_share_workers_and_are_workers_themselves() {
    let net = MemoryMesh::new();
    let nodes = [
        Node::start(&net, 1, 2).await,
        Node::start(&net, 2, 2).await,
        Node::start(&net, 3, 4).await,
    ];
    let drivers = [nodes[0].driver(2), nodes[1].driver(2)];
    let thunks = [many(&nodes[0], 100, 40), many(&nodes[1], 100, 40)];
    let [one, two] = thunks;
    tokio::join!(build(&nodes[0], &drivers[0], one), build(&nodes[1], &drivers[1], two));
    let runs: Vec<u64> = nodes.iter().map(|node| node.engine.runs()).collect();
    assert_eq!(runs.iter().sum::<u64>(), 200);
    for (node, slots) in nodes.iter().zip([2, 2, 4]) {
        assert!(node.engine.running_max.load(SeqCst) <= slots, "own and others' together");
    }
    let served: Vec<u64> = {
        let by = |i: usize| nodes[i].events.lock().unwrap().len() as u64;
        vec![by(0), by(1)]
    };
    assert!(served.iter().all(|events| *events >= 100), "{served:?}");
}

#[tokio::test(start_paused = true)]
async fn who_drains_finishes_or_hands_back_and_others_go_on() {
    let net = MemoryMesh::new();
    let requester = Node::start(&net, 1, 0).await;
    let (drains, stays) = (Node::start(&net, 2, 2).await, Node::start(&net, 3, 2).await);
    let driver = requester.driver(0);
    let thunks = many(&requester, 60, 100);
    let building = build(&requester, &driver, thunks);
    let draining = async {
        until("it runs something", || drains.engine.running() > 0).await;
        drains.mesh.drain().await;
        drains.engine.runs()
    };
    let ((), runs) = tokio::join!(building, draining);
    assert_eq!(drains.engine.runs(), runs, "nothing began after it had drained");
    assert_eq!(runs + stays.engine.runs(), 60, "what ran was finished");
}
