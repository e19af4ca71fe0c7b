//! What holds under every policy and every fault.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::path::Path;

use mesh_simulations::experiment::{Scenario, run_seeds, write_summaries, write_tasks};
use mesh_simulations::policy::PolicyName;

/// Builds on hosts that come and go, with slow executions, unequal speeds and a busy network.
const ROUGH: &str = "title = 'rough'
    [platform]
    control = '2 ms'
    detection = '3 s'
    backbone = { bandwidth = '200 Mbit/s', latency = '1 ms' }
    [[platform.hosts]]
    name = 'desk'
    count = 3
    cores = 2
    access = { bandwidth = '100 Mbit/s', latency = '5 ms' }
    [[platform.hosts]]
    name = 'volunteer'
    count = 12
    cores = 2
    memory = '1 GB'
    speed = { distribution = 'lognormal', mean = 1, cv = 0.5 }
    start = { distribution = 'uniform', min = '1 ms', max = '20 ms' }
    access = { bandwidth = '20 Mbit/s', latency = '20 ms' }
    uplink = { bandwidth = '100 Mbit/s', latency = '5 ms' }
    stragglers = { share = 0.1, slowdown = { distribution = 'pareto', shape = 1.2, min = 1.5, max = 20 } }
    [platform.hosts.churn]
    up = { distribution = 'weibull', shape = 0.7, scale = 20 }
    down = { distribution = 'exponential', mean = 8 }
    [workload]
    kind = 'make'
    units = 60
    libraries = 4
    compile = { distribution = 'lognormal', mean = 3, cv = 1 }
    toolchain = '5 MB'
    arrivals = { count = 4, users = 3, every = { distribution = 'exponential', mean = 20 } }
    [policy]
    name = 'fifo'
    estimates = 'noisy'
    cv = 0.5
    ahead = 1";

fn scenario(text: &str, settings: &[&str]) -> Scenario {
    common::scenario(text, settings, Path::new("")).unwrap()
}

#[test]
fn every_policy_survives_churn_and_respects_the_rules() {
    let mut lost = 0;
    for (name, policy) in PolicyName::ALL {
        for fidelity in ["fast", "flow"] {
            let scenario = scenario(ROUGH, &[&format!("fidelity={fidelity}")]);
            for seed in 0..3 {
                let graph = scenario.workload.build(seed).unwrap();
                let outcome = scenario.run_graph(&graph, seed, policy.make().as_mut());
                let outcome = outcome.unwrap_or_else(|error| panic!("{name} {fidelity}: {error}"));
                let summary = &outcome.summary;
                assert!(summary.aborted > 0, "{name}: nobody went");
                lost += summary.repeated;
                assert!(summary.makespan >= summary.lower_bound, "{name}: {summary:?}");
                assert!(summary.utilisation > 0.0 && summary.utilisation <= 1.0);
                assert!(summary.wasted > 0.0);
                for (id, record) in outcome.records() {
                    assert!(record.attempts >= 1);
                    let times = [
                        record.ready,
                        record.placed,
                        record.started,
                        record.finished,
                        record.received,
                    ];
                    assert!(times.is_sorted(), "{name}: {id:?} {record:?}");
                    assert!(record.ready >= graph.jobs()[graph.task(id).job.index()].arrival);
                }
            }
        }
    }
    assert!(lost > 0, "no output was ever lost: the test is too gentle");
}

/// Hosts that go every few seconds, on graphs of every shape: nothing is forgotten, nothing waits for
/// ever, and the second run is the first.
#[test]
fn every_shape_ends_under_heavy_churn() {
    let shapes = [
        "{kind = 'fan', stages = 3, width = 20, object = '300 kB', work = 4, split = 1, join = 1}",
        "{kind = 'video', chunks = 18, batch = 6, encode = 6, raw = '1 MB'}",
        "{kind = 'fibonacci', n = 8, memo = false, call = 2, add = 0.5}",
        "{kind = 'recording', build = 'redis', toolchain = '3 MB'}",
    ];
    let mut repeated = 0;
    for shape in shapes {
        for (name, policy) in PolicyName::ALL {
            for (ahead, control, detection) in [(0, "0 s", "0 s"), (3, "500 ms", "100 ms")] {
                let settings = [
                    format!("workload={shape}"),
                    "workload.arrivals={count = 2, every = 9, users = 2}".to_owned(),
                    "platform.hosts.1.churn.up.scale=14".to_owned(),
                    format!("policy.ahead={ahead}"),
                    format!("platform.control={control}"),
                    format!("platform.detection={detection}"),
                    "fidelity=flow".to_owned(),
                    "horizon=1 d".to_owned(),
                ];
                let scenario = scenario(ROUGH, &settings.each_ref().map(String::as_str));
                for seed in 0..2 {
                    let graph = scenario.workload.build(seed).unwrap();
                    let run = || scenario.run_graph(&graph, seed, policy.make().as_mut());
                    let outcome = run().unwrap_or_else(|e| panic!("{name} {shape} {seed}: {e}"));
                    assert!(outcome.tasks.iter().all(|record| record.attempts > 0));
                    repeated += outcome.summary.repeated;
                    assert_eq!(run().unwrap().summary, outcome.summary);
                }
            }
        }
    }
    assert!(repeated > 1000, "{repeated}");
}

#[test]
fn without_faults_no_core_runs_two_tasks_and_inputs_come_first() {
    for (name, policy) in PolicyName::ALL {
        let scenario = scenario(
            ROUGH,
            &["fidelity=flow", "platform.hosts.1.churn.up=1e8", "platform.hosts.1.churn.down=1"],
        );
        let graph = scenario.workload.build(5).unwrap();
        let outcome = scenario.run_graph(&graph, 5, policy.make().as_mut()).unwrap();
        assert_eq!(outcome.summary.aborted, 0);
        let mut changes = Vec::new();
        for (id, record) in outcome.records() {
            changes.push((record.host, record.finished, -1));
            changes.push((record.host, record.started, 1));
            for &input in graph.inputs(id) {
                let made = |maker: mesh_simulations::workload::TaskId| {
                    outcome.tasks[maker.index()].finished
                };
                if let mesh_simulations::workload::ObjectOrigin::Product(maker) =
                    graph.object(input).origin
                {
                    assert!(made(maker) <= record.started, "{name}");
                }
            }
        }
        // Ends sort before starts of the same instant.
        changes.sort_unstable();
        let mut running = 0;
        let mut host = None;
        for (at, _, change) in changes {
            if host != Some(at) {
                (host, running) = (Some(at), 0);
            }
            running += change;
            assert!(running <= 2, "{name}: three tasks on two cores");
        }
    }
}

/// All results of some seeds as they are written to files, with a given number of threads.
fn bytes(threads: usize) -> Vec<u8> {
    let scenario = scenario(ROUGH, &["fidelity=flow", "policy.name=b-level"]);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let runs = pool.install(|| run_seeds(&scenario, &[3, 4, 5, 6])).unwrap();
    let mut out = Vec::new();
    write_summaries(&mut out, &[], runs.iter().map(|(seed, s)| (&[][..], *seed, s))).unwrap();
    let graph = scenario.workload.build(3).unwrap();
    write_tasks(&mut out, &graph, &scenario.run(3).unwrap()).unwrap();
    out
}

#[test]
fn a_seed_gives_the_same_bytes_on_any_number_of_threads() {
    let once = bytes(1);
    assert_eq!(once, bytes(1));
    assert_eq!(once, bytes(2));
    assert!(once.len() > 10_000);
}

#[test]
fn policies_meet_the_same_world() {
    // Speeds, estimates, departures and slow executions do not depend on who schedules: with one
    // core the order alone differs, and the sum of all work is the same.
    let text = "title = 'world'
        [platform]
        [[platform.hosts]]
        name = 'w'
        speed = { distribution = 'lognormal', mean = 1, cv = 1 }
        stragglers = { share = 0.3, slowdown = { distribution = 'exponential', mean = 5 } }
        [workload]
        kind = 'bag'
        tasks = 50
        work = { distribution = 'bimodal', low = 1, high = 30, share = 0.2 }
        [policy]
        name = 'fifo'";
    let makespan = |policy: &str| {
        let setting = format!("policy.name={policy}");
        scenario(text, &[&setting]).run(9).unwrap().summary.makespan
    };
    let fifo = makespan("fifo");
    for other in ["lifo", "random", "critical-path", "min-min"] {
        assert!((makespan(other) - fifo).abs() < 1e-6, "{other}");
    }
}

#[test]
fn runs_that_cannot_end_say_so() {
    let error = |settings: &[&str]| scenario(ROUGH, settings).run(1).unwrap_err().to_string();
    let forever = error(&["workload.compile=1e6", "platform.hosts.0.cores=1", "horizon=1 d"]);
    assert!(forever.contains("never end"), "{forever}");
    let huge = error(&[
        "workload.memory=2 GB",
        "platform.hosts.0.memory=1 GB",
        "platform.hosts.1.memory=1 GB",
    ]);
    assert!(huge.contains("memory"), "{huge}");
}
