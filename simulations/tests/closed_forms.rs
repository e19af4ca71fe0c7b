//! The simulator against what is known without it.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;

use mesh_simulations::config::Document;
use mesh_simulations::experiment::Scenario;
use mesh_simulations::run::{Outcome, Summary};

fn outcome(text: &str, seed: u64) -> Outcome {
    let document = Document::parse(text, "test.toml", Path::new("")).unwrap();
    Scenario::read(&document).unwrap().run(seed).unwrap()
}

fn summary(text: &str) -> Summary {
    outcome(text, 1).summary
}

fn assert_near(seen: f64, expected: f64, relative: f64) {
    assert!((seen / expected - 1.0).abs() <= relative, "{seen} instead of {expected}");
}

/// The mean wait in M/M/c: Erlang's C over the spare service rate.
fn erlang_wait(servers: u32, arrival: f64, service: f64) -> f64 {
    let load = arrival / service;
    let c = f64::from(servers);
    let mut term = 1.0;
    let mut sum = 0.0;
    for k in 0..servers {
        sum += term;
        term *= load / f64::from(k + 1);
    }
    let busy = term * c / (c - load);
    busy / (sum + busy) / (c * service - arrival)
}

fn queue(cores: u32, every: f64, jobs: u32) -> String {
    format!(
        "title = 'M/M/{cores}'
         [platform]
         [[platform.hosts]]
         name = 'server'
         cores = {cores}
         [workload]
         kind = 'bag'
         work = {{ distribution = 'exponential', mean = 1.0 }}
         [workload.arrivals]
         count = {jobs}
         every = {{ distribution = 'exponential', mean = {every} }}
         [policy]
         name = 'fifo'"
    )
}

#[test]
fn queues_wait_as_erlang_says() {
    assert_near(erlang_wait(1, 0.5, 1.0), 1.0, 1e-12);
    for (cores, every) in [(1, 2.0), (2, 1.0 / 1.2), (4, 1.0 / 2.8)] {
        let text = queue(cores, every, 500_000);
        let document = Document::parse(&text, "test.toml", Path::new("")).unwrap();
        let scenario = Scenario::read(&document).unwrap();
        // Four seeds: one run of a queue is a correlated sample.
        let waits: f64 = (0..4).map(|seed| scenario.run(seed).unwrap().summary.wait.mean).sum();
        assert_near(waits / 4.0, erlang_wait(cores, 1.0 / every, 1.0), 0.01);
    }
}

/// The same arrivals and services through the recursion of Kiefer and Wolfowitz: no sampling error.
#[test]
fn every_job_waits_as_the_recursion_says() {
    for (cores, every) in [(1, 1.2), (16, 1.0 / 14.5)] {
        let document =
            Document::parse(&queue(cores, every, 20_000), "test.toml", Path::new("")).unwrap();
        let scenario = Scenario::read(&document).unwrap();
        let graph = scenario.workload.build(7).unwrap();
        let outcome = scenario.run(7).unwrap();
        let mut free_at = vec![0.0_f64; cores as usize];
        for (job, record) in graph.jobs().iter().zip(&outcome.tasks) {
            let arrival = job.arrival.seconds();
            free_at.sort_by(f64::total_cmp);
            let start = free_at[0].max(arrival);
            free_at[0] = start + graph.tasks()[job.tasks.start as usize].work;
            assert!((record.started.seconds() - start).abs() < 1e-3, "{start} {record:?}");
        }
    }
}

#[test]
fn identical_tasks_take_as_many_rounds_as_needed() {
    for (hosts, cores, tasks, speed) in [(1, 1, 10, 1.0), (3, 4, 100, 1.0), (7, 2, 1000, 2.0)] {
        let text = format!(
            "title = 'rounds'
             [platform]
             [[platform.hosts]]
             name = 'w'
             count = {hosts}
             cores = {cores}
             speed = {speed}
             start = '10 ms'
             [workload]
             kind = 'bag'
             tasks = {tasks}
             work = 3.0
             [policy]
             name = 'fifo'"
        );
        let rounds = f64::from(tasks) / f64::from(hosts * cores);
        let seen = summary(&text);
        assert_near(seen.makespan, rounds.ceil() * (3.0 / speed + 0.01), 1e-9);
        assert_near(seen.lower_bound, (rounds * 3.0 / speed).max(3.0 / speed), 1e-9);
    }
}

/// `tasks` workers, each fetching its own 100 MB from the user at once.
fn download(fidelity: &str, tasks: u32) -> Summary {
    summary(&format!(
        "title = 'download'
         fidelity = '{fidelity}'
         home = 'user'
         [platform]
         [[platform.hosts]]
         name = 'worker'
         count = {tasks}
         speed = 1e6
         access = {{ latency = '10 ms', bandwidth = '1 Gbit/s' }}
         [[platform.hosts]]
         name = 'user'
         memory = 1
         access = {{ latency = '5 ms', bandwidth = '100 Mbit/s' }}
         [workload]
         kind = 'bag'
         tasks = {tasks}
         memory = 2
         work = 1e-3
         input = '100 MB'
         [policy]
         name = 'fifo'"
    ))
}

#[test]
fn transfers_share_a_link_fairly() {
    // 100 MB over 12.5 MB/s and 15 ms.
    for tasks in [1, 5, 40] {
        let alone = 0.015 + 8.0;
        assert_near(download("fast", tasks).makespan, alone, 1e-6);
        assert_near(download("flow", tasks).makespan, 0.015 + 8.0 * f64::from(tasks), 1e-6);
        assert_eq!(download("flow", tasks).bytes_moved, u64::from(tasks) * 100_000_000);
    }
}

#[test]
fn a_late_transfer_slows_an_early_one() {
    // Two jobs, 4 s apart. The first moves 50 of 100 MB alone, then both share: the first needs
    // 8 s for its rest and ends at 12; the second has 50 MB left and ends at 16.
    let text = "title = 'two'
        fidelity = 'flow'
        home = 'user'
        [platform]
        [[platform.hosts]]
        name = 'worker'
        count = 2
        speed = 1e6
        [[platform.hosts]]
        name = 'user'
        memory = 1
        access = { bandwidth = '100 Mbit/s' }
        [workload]
        kind = 'bag'
        memory = 2
        work = 1e-3
        input = '100 MB'
        arrivals = { count = 2, every = 4.0 }
        [policy]
        name = 'fifo'";
    let finished: Vec<f64> =
        outcome(text, 1).tasks.iter().map(|task| task.started.seconds()).collect();
    assert_near(finished[0], 12.0, 1e-6);
    assert_near(finished[1], 16.0, 1e-6);
}

#[test]
fn objects_are_fetched_once_per_host_and_passed_on() {
    // 20 tasks on 4 hosts take the same 10 MB: 4 transfers, not 20.
    let text = |common: &str| {
        format!(
            "title = 'common'
             fidelity = 'flow'
             home = 'user'
             [platform]
             [[platform.hosts]]
             name = 'worker'
             count = 4
             cache = '{common}'
             access = {{ bandwidth = '80 Mbit/s' }}
             [[platform.hosts]]
             name = 'user'
             memory = 1
             access = {{ bandwidth = '80 Mbit/s' }}
             [workload]
             kind = 'bag'
             tasks = 20
             memory = 2
             work = 1.0
             common = '10 MB'
             [policy]
             name = 'fifo'"
        )
    };
    let cold = summary(&text("cold"));
    assert_eq!((cold.transfers, cold.bytes_moved), (4, 40_000_000));
    // One second for each copy over the user's link, in the worst case all at once.
    assert_near(cold.makespan, 4.0 + 5.0, 1e-6);
    let warm = summary(&text("common"));
    assert_eq!(warm.transfers, 0);
    assert_near(warm.makespan, 5.0, 1e-9);
}

#[test]
fn messages_and_sandboxes_cost_what_the_platform_says() {
    let text = |ahead: u32| {
        format!(
            "title = 'control'
             [platform]
             control = '50 ms'
             [[platform.hosts]]
             name = 'w'
             start = '100 ms'
             [workload]
             kind = 'bag'
             tasks = 10
             work = 1.0
             [policy]
             name = 'fifo'
             ahead = {ahead}"
        )
    };
    // Without a second lease the core waits for receipt and lease; with one it never does.
    assert_near(summary(&text(0)).makespan, 10.0 * (1.1 + 0.1), 1e-9);
    assert_near(summary(&text(1)).makespan, 10.0 * 1.1 + 0.1, 1e-9);
}

#[test]
fn a_chain_takes_its_critical_path() {
    let text = "title = 'chain'
        [platform]
        [[platform.hosts]]
        name = 'w'
        count = 5
        cores = 8
        [workload]
        kind = 'fibonacci'
        n = 30
        call = 0.5
        add = 0.25
        [policy]
        name = 'lifo'";
    // 16 calls down to fib(0), 29 additions up.
    let seen = summary(text);
    assert_near(seen.makespan, 16.0 * 0.5 + 29.0 * 0.25, 1e-9);
    assert_near(seen.ratio, 1.0, 1e-9);
}
