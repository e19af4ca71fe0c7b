//! A whole mesh in one thread: requesters and workers, a network that delays, loses, repeats and
//! reorders, machines that crash, freeze, break and are cut off. Everything is drawn from a seed, so
//! that what fails can be played again.
//!
//! Always: no machine runs more than its slots, no run is answered twice, no thunk is reduced twice
//! by one requester, queues stay within their bounds, nothing spins. In the end, once faults have
//! stopped and while one worker lives: every demand is answered with the value that the
//! graph has by hand, and nobody holds anything any more.
//!
//! `MESH_SEEDS=10000` tries so many seeds (in release, please); `MESH_SEED=17` plays one and prints its log.

mod log;
mod node;
mod plan;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use plan::Plan;
use world::{Summary, World};

/// Seeds of an ordinary test run: a few seconds in a debug build.
const SEEDS_DEFAULT: u64 = 300;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// Plays one seed; its log goes with what went wrong.
fn play(seed: u64, keep_log: bool) -> (Result<Summary, String>, String) {
    let mut world = World::new(seed, keep_log);
    let played = catch_unwind(AssertUnwindSafe(|| world.play()));
    let result = played.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(text.unwrap_or_else(|| "panicked".to_owned()))
    });
    (result, world.log.text())
}

#[test]
fn every_seed_is_safe_and_comes_to_an_end() {
    if let Some(seed) = number("MESH_SEED") {
        let (result, log) = play(seed, true);
        println!("{log}");
        println!("{:?}", result.expect("this seed"));
        return;
    }
    let seeds = number("MESH_SEEDS").unwrap_or(SEEDS_DEFAULT);
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let parts: Vec<Summary> = std::thread::scope(|scope| {
        let part = |first: u64| {
            let mut total = Summary::default();
            for seed in (first..seeds).step_by(threads as usize) {
                match play(seed, false).0 {
                    Ok(summary) => total.add(&summary),
                    Err(reason) => panic!(
                        "seed {seed}: {reason}\nreplay: MESH_SEED={seed} cargo test -p mesh-protocol \
                         --test cluster every_seed -- --nocapture"
                    ),
                }
            }
            total
        };
        let workers: Vec<_> = (0..threads).map(|first| scope.spawn(move || part(first))).collect();
        let ends = workers.into_iter().map(|worker| worker.join());
        ends.map(|end| end.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    let mut total = Summary::default();
    parts.iter().for_each(|part| total.add(part));
    println!("{seeds} seeds: {total:?}");
    // A test that meets none of what it is about tests nothing.
    assert!(total.answered > 0 && total.crashes > 0 && total.freezes > 0 && total.partitions > 0);
    assert!(total.lost_messages > 0 && total.remote_runs > total.own_runs / 10);
    assert!(total.put_back > 0 && total.speculated > 0 && total.moved > 0 && total.stray > 0);
}

/// 32 workers of 4 slots: 1,000 thunks of a second take 8 rounds at best, by a network that delays by
/// half a millisecond. Simulated time, so this holds on any machine.
#[test]
fn a_thousand_seconds_on_128_slots_take_little_more_than_eight() {
    let mut world = World::of(Plan::uniform(32, 4, 1_000, 1_000_000), 1, false);
    let makespan_us = world.makespan_us().expect("it ends");
    println!("{} ms: {:?}", makespan_us / 1000, world.summary());
    assert!(makespan_us < 7_812_500 * 110 / 100, "{makespan_us} us");
    assert_eq!(world.summary().put_back, 0);
}

#[test]
fn the_same_seed_leaves_the_same_log() {
    for seed in [1, 2, 3, 11] {
        let (first, log) = play(seed, true);
        let (second, again) = play(seed, true);
        assert_eq!(first, second);
        assert!(log.lines().count() > 100, "seed {seed} does something");
        assert!(log == again, "seed {seed} leaves two logs");
        assert!(log != play(seed + 100, true).1);
    }
}
