//! Workers, requesters and links that fail in the middle of a build.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use mesh_node::net::memory::MemoryMesh;
use mesh_protocol::limits;
use mesh_protocol::sched::lease::Event;
use tokio::time::Instant;

use crate::world::{Node, answers, build, many, thunk, until};

#[tokio::test(start_paused = true)]
async fn a_killed_worker_costs_time_and_nothing_else() {
    let net = MemoryMesh::new();
    let requester = Node::start(&net, 1, 0).await;
    let (victim, other) = (Node::start(&net, 2, 4).await, Node::start(&net, 3, 4).await);
    let driver = requester.driver(0);
    let thunks = many(&requester, 100, 100);
    let building = build(&requester, &driver, thunks);
    let killing = async {
        until("it has run a few", || victim.engine.runs() > 10).await;
        let engine = victim.engine.clone();
        victim.kill(&net).await;
        until("its jobs have ended with it", || engine.running() == 0).await;
        engine.runs()
    };
    let ((), runs) = tokio::join!(building, killing);
    assert!(runs < 100 && runs + other.engine.runs() >= 100);
    let events = requester.events.lock().unwrap();
    assert!(events.iter().any(|event| matches!(event, Event::PutBack(..))));
}

/// It is there, says nothing, and nobody is told.
#[tokio::test(start_paused = true)]
async fn a_frozen_worker_loses_its_leases_within_seconds() {
    let net = MemoryMesh::new();
    let requester = Node::start(&net, 1, 0).await;
    let (frozen, other) = (Node::start(&net, 2, 4).await, Node::start(&net, 3, 1).await);
    frozen.engine.never_ends.store(true, SeqCst);
    let driver = requester.driver(0);
    let start = Instant::now();
    let thunks = many(&requester, 20, 100);
    let building = build(&requester, &driver, thunks);
    let freezing = async {
        until("it holds leases", || frozen.engine.running() > 0).await;
        net.silence(requester.peer, frozen.peer);
    };
    tokio::join!(building, freezing);
    let bound = Duration::from_micros(2 * limits::SILENCE_US);
    assert!(start.elapsed() < bound, "{:?}", start.elapsed());
    assert_eq!(other.engine.runs(), 20);
    // And the worker cleans up after a requester that it does not hear.
    until("it has stopped", || frozen.engine.running() == 0).await;
    assert_eq!(frozen.mesh.status().await.jobs, (0, 0));
}

/// It answers, but its program does not end: a second copy runs elsewhere.
#[tokio::test(start_paused = true)]
async fn a_straggler_is_overtaken() {
    let net = MemoryMesh::new();
    let requester = Node::start(&net, 1, 0).await;
    let (slow, fast) = (Node::start(&net, 2, 1).await, Node::start(&net, 3, 1).await);
    let driver = requester.driver(0);
    build(&requester, &driver, many(&requester, 20, 100)).await;
    slow.engine.never_ends.store(true, SeqCst);
    let more = (0..20).map(|i| thunk(100, &format!("more {i}"), &[], &[])).collect();
    build(&requester, &driver, more).await;
    let status = requester.mesh.status().await;
    assert!(status.counts.speculated >= 1, "{status:?}");
    until("the copy is cancelled", || slow.engine.running() == 0).await;
    assert!(fast.engine.runs() > 20);
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_heals_ends_in_a_correct_build() {
    let net = MemoryMesh::new();
    let requester = Node::start(&net, 1, 0).await;
    let workers = [Node::start(&net, 2, 2).await, Node::start(&net, 3, 2).await];
    for cuts in [false, true] {
        let driver = requester.driver(0);
        let make = |i: u32| thunk(300, &format!("{cuts} {i}"), &[], &[]);
        let thunks: Vec<_> = (0..60).map(make).collect();
        let before: u64 = workers.iter().map(|worker| worker.engine.runs()).sum();
        let building = build(&requester, &driver, thunks);
        let partition = async {
            until("some have run", || {
                workers.iter().map(|worker| worker.engine.runs()).sum::<u64>() > before + 10
            })
            .await;
            for worker in &workers {
                match cuts {
                    true => net.cut(requester.peer, worker.peer).await,
                    false => net.silence(requester.peer, worker.peer),
                }
            }
            tokio::time::sleep(Duration::from_secs(30)).await;
            for worker in &workers {
                net.heal(requester.peer, worker.peer).await;
            }
        };
        tokio::join!(building, partition);
    }
    let status = requester.mesh.status().await;
    assert!(status.counts.put_back > 0 && status.leases == (0, 0), "{status:?}");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_joins_in_the_middle_gets_work_within_a_second() {
    let net = MemoryMesh::new();
    let requester = Node::start(&net, 1, 0).await;
    let _first = Node::start(&net, 2, 1).await;
    let driver = requester.driver(0);
    let thunks = many(&requester, 40, 500);
    let building = build(&requester, &driver, thunks);
    let joining = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let late = Node::start(&net, 3, 4).await;
        let joined = Instant::now();
        until("it has work", || late.engine.runs() > 0).await;
        (joined.elapsed(), late)
    };
    let ((), (took, _late)) = tokio::join!(building, joining);
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn when_a_requester_goes_its_workers_clean_up_and_its_work_is_found_again() {
    let net = MemoryMesh::new();
    let worker = Node::start(&net, 9, 2).await;
    let requester = Node::start(&net, 1, 0).await;
    let driver = requester.driver(0);
    let thunks: Vec<_> = (0..10).map(|i| thunk(100, &format!("{i}"), &[], &[])).collect();
    let demands = {
        let (driver, thunks) = (driver.clone(), thunks.clone());
        tokio::spawn(async move { answers(&driver, &thunks).await })
    };
    until("some have run", || worker.engine.runs() > 4).await;
    demands.abort();
    drop(driver);
    requester.kill(&net).await;
    until("all is stopped", || worker.engine.running() == 0).await;
    assert_eq!(worker.mesh.status().await.jobs.0, 0);
    let done = worker.engine.found.lock().unwrap().len() as u64;
    let before = worker.engine.runs();
    let again = Node::start(&net, 2, 0).await;
    build(&again, &again.driver(0), thunks).await;
    assert_eq!(worker.engine.runs() - before, 10 - done, "what was finished is not run again");
}

#[tokio::test(start_paused = true)]
async fn a_build_that_is_cancelled_stops_its_runs_everywhere() {
    let net = MemoryMesh::new();
    let requester = Node::start(&net, 1, 1).await;
    let worker = Node::start(&net, 2, 2).await;
    worker.engine.never_ends.store(true, SeqCst);
    let driver = requester.driver(1);
    let thunks = many(&requester, 10, 60_000);
    let building = answers(&driver, &thunks);
    let cancelling = async {
        until("both run", || worker.engine.running() > 0 && requester.engine.running() > 0).await;
        driver.cancel("enough").await;
    };
    let (ends, ()) = tokio::join!(building, cancelling);
    assert!(ends.iter().all(|end| &*end.as_ref().unwrap_err().reason == "enough"));
    until("all is stopped", || worker.engine.running() + requester.engine.running() == 0).await;
    assert_eq!(requester.mesh.status().await.leases, (0, 0));
}

/// Its driver is gone without a word: nobody waits for what it wanted.
#[tokio::test(start_paused = true)]
async fn what_a_driver_wanted_ends_with_it() {
    let net = MemoryMesh::new();
    let requester = Node::start(&net, 1, 1).await;
    let worker = Node::start(&net, 2, 1).await;
    let driver = requester.driver(1);
    let thunks = many(&requester, 10, 1_000_000);
    let waiting = driver.clone();
    let demands = tokio::spawn(async move { answers(&waiting, &thunks).await });
    let all = || worker.engine.running() + requester.engine.running();
    until("both run", || all() == 2).await;
    demands.abort();
    drop(driver);
    until("all is stopped", || all() == 0).await;
}

/// A bug of ours on one machine is that machine's failure, not a slot that is lost for ever.
#[tokio::test(start_paused = true)]
async fn a_panic_costs_one_run() {
    let net = MemoryMesh::new();
    let requester = Node::start(&net, 1, 0).await;
    let (buggy, other) = (Node::start(&net, 2, 2).await, Node::start(&net, 3, 2).await);
    buggy.engine.panics.store(true, SeqCst);
    build(&requester, &requester.driver(0), many(&requester, 20, 50)).await;
    assert!(buggy.engine.runs() > 0);
    assert_eq!((other.engine.runs(), buggy.mesh.status().await.jobs.0), (20, 0));
}

/// The same while it only made ready: it runs all the same, once.
#[tokio::test(start_paused = true)]
async fn a_panic_before_the_turn_costs_nothing() {
    let net = MemoryMesh::new();
    let requester = Node::start(&net, 1, 0).await;
    let buggy = Node::start(&net, 2, 2).await;
    buggy.engine.panics_before_turns.store(true, SeqCst);
    build(&requester, &requester.driver(0), many(&requester, 10, 1_000)).await;
    assert!(buggy.engine.turns.load(SeqCst) > 0);
    assert_eq!((buggy.engine.runs(), buggy.engine.running_max.load(SeqCst)), (10, 2));
}
