//! Policies on graphs small enough to schedule by hand.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;

use mesh_simulations::config::Document;
use mesh_simulations::experiment::Scenario;
use mesh_simulations::policy::PolicyName;
use mesh_simulations::run::Outcome;
use mesh_simulations::workload::{Builder, Graph, ObjectId, Spec, TaskId};

/// A run on hosts of one core, of these speeds, each behind 1 MB/s.
fn outcome(graph: &Graph, speeds: &[f64], policy: &str) -> Outcome {
    let hosts: String = speeds
        .iter()
        .map(|speed| {
            format!(
                "[[platform.hosts]]\nname = 'w'\nspeed = {speed:?}\naccess = {{ bandwidth = '1 MB/s' }}\n"
            )
        })
        .collect();
    let text = format!(
        "title = 'by hand'\n[platform]\n{hosts}[workload]\nkind = 'bag'\nwork = 1\n[policy]\n{policy}"
    );
    let document = Document::parse(&text, "test.toml", Path::new("")).unwrap();
    let scenario = Scenario::read(&document).unwrap();
    scenario.run_graph(graph, 1, scenario.policy.make().as_mut()).unwrap()
}

fn makespan(graph: &Graph, speeds: &[f64], policy: &str, ahead: u32) -> f64 {
    let policy = format!("name = '{policy}'\nahead = {ahead}");
    outcome(graph, speeds, &policy).summary.makespan
}

/// Where a task ran, and when it was placed and received, in seconds.
fn when(outcome: &Outcome, task: TaskId) -> (u32, f64, f64) {
    let record = &outcome.tasks[task.index()];
    (record.host.0, record.placed.seconds(), record.received.seconds())
}

fn task(builder: &mut Builder, work: f64, inputs: &[ObjectId], output: u64) -> ObjectId {
    let task = builder.task(Spec { class: "t", work, memory: 0 }, inputs, &[output]);
    builder.output(task)
}

fn assert_makespan(graph: &Graph, speeds: &[f64], policy: &str, expected: f64) {
    let seen = makespan(graph, speeds, policy, 0);
    assert!((seen - expected).abs() < 1e-6, "{policy}: {seen} instead of {expected}");
}

#[test]
fn ranks_see_the_long_chain() {
    let mut builder = Builder::default();
    task(&mut builder, 5.0, &[], 0);
    task(&mut builder, 5.0, &[], 0);
    let first = task(&mut builder, 1.0, &[], 0);
    task(&mut builder, 10.0, &[first], 0);
    let graph = builder.finish().unwrap();
    assert_makespan(&graph, &[1.0, 1.0], "fifo", 16.0);
    for policy in ["critical-path", "b-level", "heft"] {
        assert_makespan(&graph, &[1.0, 1.0], policy, 11.0);
    }
}

/// Fast hosts with 1 GB, and a slow one with 8 GB.
const MEMORIES: &str = "title = 'memory'
    [platform]
    [[platform.hosts]]
    name = 'fast'
    count = 3
    speed = 4
    memory = '1 GB'
    [[platform.hosts]]
    name = 'slow'
    cores = 2
    memory = '8 GB'
    [workload]
    kind = 'bag'
    work = 1
    [policy]
    ";

#[test]
fn tasks_run_only_where_they_fit() {
    let mut builder = Builder::default();
    let mut last = Vec::new();
    for bytes in [0, 1_000_000_000, 5_000_000_000, 5_000_000_001, 8_000_000_000] {
        for _ in 0..3 {
            let spec = Spec { class: "t", work: 2.0, memory: bytes };
            let task = builder.task(spec, &last, &[1000]);
            last = vec![builder.output(task)];
            builder.task(Spec { class: "t", work: 1.0, memory: bytes }, &[], &[1000]);
        }
    }
    let graph = builder.finish().unwrap();
    for (policy, _) in PolicyName::ALL {
        let text = format!("{MEMORIES}name = '{policy}'");
        let document = Document::parse(&text, "test.toml", Path::new("")).unwrap();
        let scenario = Scenario::read(&document).unwrap();
        let outcome = scenario.run_graph(&graph, 1, scenario.policy.make().as_mut());
        let outcome = outcome.unwrap_or_else(|error| panic!("{policy}: {error}"));
        for (task, record) in graph.tasks().iter().zip(&outcome.tasks) {
            let is_slow = record.host.0 == 3;
            assert!(is_slow || task.memory <= 1_000_000_000, "{policy}: {record:?}");
        }
    }
}

#[test]
fn what_fits_nowhere_is_told_before_the_run() {
    let mut builder = Builder::default();
    task(&mut builder, 1.0, &[], 0);
    builder.task(Spec { class: "t", work: 1.0, memory: 8_000_000_001 }, &[], &[]);
    let graph = builder.finish().unwrap();
    for (policy, _) in PolicyName::ALL {
        let text = format!("{MEMORIES}name = '{policy}'");
        let document = Document::parse(&text, "test.toml", Path::new("")).unwrap();
        let scenario = Scenario::read(&document).unwrap();
        let run = scenario.run_graph(&graph, 1, scenario.policy.make().as_mut());
        let error = run.err().unwrap().to_string();
        let wanted = "task 1 needs 8000000001 bytes of memory, and no host has them";
        assert!(error.contains(wanted), "{policy}: {error}");
    }
}

#[test]
fn max_min_starts_the_longest() {
    let mut builder = Builder::default();
    for work in [1.0, 1.0, 1.0, 9.0] {
        task(&mut builder, work, &[], 0);
    }
    let graph = builder.finish().unwrap();
    assert_makespan(&graph, &[1.0, 1.0], "min-min", 10.0);
    assert_makespan(&graph, &[1.0, 1.0], "max-min", 9.0);
}

#[test]
fn sufferage_serves_whom_the_second_choice_hurts() {
    // The maker runs on the fast host. What takes its 10 MB takes 1 s there and 12 s elsewhere; the
    // other task, which is ready just before, 1 s and 2 s.
    let mut builder = Builder::default();
    let maker = builder.task(Spec { class: "t", work: 2.0, memory: 0 }, &[], &[0, 10_000_000]);
    let small = builder.output(maker);
    let large = ObjectId(small.0 + 1);
    task(&mut builder, 2.0, &[small], 0);
    task(&mut builder, 2.0, &[large], 0);
    let graph = builder.finish().unwrap();
    assert_makespan(&graph, &[2.0, 1.0], "min-min", 13.0);
    assert_makespan(&graph, &[2.0, 1.0], "sufferage", 3.0);
}

#[test]
fn locality_goes_where_the_bytes_are() {
    let mut builder = Builder::default();
    let one = task(&mut builder, 1.0, &[], 10_000_000);
    let two = task(&mut builder, 1.0, &[], 10_000_000);
    task(&mut builder, 1.0, &[two], 0);
    task(&mut builder, 1.0, &[one], 0);
    let graph = builder.finish().unwrap();
    assert_makespan(&graph, &[1.0, 1.0], "locality", 2.0);
    assert_makespan(&graph, &[1.0, 1.0], "b-level", 2.0);
    assert_makespan(&graph, &[1.0, 1.0], "heft", 2.0);
}

#[test]
fn a_plan_fills_gaps() {
    // The long chain leaves the second core idle while 10 MB cross to it; a short task fits there.
    let mut builder = Builder::default();
    let start = task(&mut builder, 1.0, &[], 10_000_000);
    task(&mut builder, 20.0, &[start], 0);
    task(&mut builder, 20.0, &[start], 0);
    task(&mut builder, 8.0, &[], 0);
    let graph = builder.finish().unwrap();
    // One of the two runs elsewhere from 11 to 31; the short one from 0 to 8 before it.
    assert_eq!(makespan(&graph, &[1.0, 1.0], "heft", 1), 31.0);
}

#[test]
fn leases_in_advance_leave_no_core_idle() {
    let mut builder = Builder::default();
    for _ in 0..6 {
        task(&mut builder, 1.0, &[], 0);
    }
    let graph = builder.finish().unwrap();
    for (policy, _) in PolicyName::ALL {
        assert_eq!(makespan(&graph, &[1.0, 1.0, 1.0], policy, 2), 2.0, "{policy}");
    }
}

#[test]
fn peft_sees_what_comes_after_the_next_task() {
    // Two makers; what takes both of their outputs would end earlier on the slow host, where one of
    // them left 1 MB, but its own 15 MB are then taken by the longest task of all.
    let mut builder = Builder::default();
    let one = task(&mut builder, 4.0, &[], 0);
    let two = task(&mut builder, 1.9, &[], 1_000_000);
    let both = task(&mut builder, 0.5, &[one, two], 15_000_000);
    task(&mut builder, 20.0, &[both], 0);
    let graph = builder.finish().unwrap();
    // HEFT: 1.9 and 0.5 and 20 s on the slow host, the second after the 2 s of the first maker.
    assert_makespan(&graph, &[2.0, 1.0], "heft", 2.0 + 0.5 + 20.0);
    assert_makespan(&graph, &[2.0, 1.0], "peft", (4.0 + 1.9 + 0.5 + 20.0) / 2.0);
}

/// The maker of 10 MB, what keeps its host busy for so long, and what takes the 10 MB.
fn busy_holder(seconds: f64) -> Graph {
    let mut builder = Builder::default();
    let maker = builder.task(Spec { class: "t", work: 1.0, memory: 0 }, &[], &[0, 10_000_000]);
    let (token, large) = (builder.output(maker), ObjectId(builder.output(maker).0 + 1));
    task(&mut builder, seconds, &[token], 0);
    task(&mut builder, 1.0, &[large], 0);
    // Ends just after the maker, so that the other host has a core all the time from then on.
    task(&mut builder, 1.1, &[], 0);
    builder.finish().unwrap()
}

#[test]
fn delay_waits_for_the_bytes_and_no_longer_than_it_may() {
    let reader = TaskId(2);
    // The holder of the bytes is free again at 3 s: within the wait from 1.1 s on, when the other host
    // could have had the reader, it goes there.
    let patient = outcome(&busy_holder(2.0), &[1.0, 1.0], "name = 'delay'\nwait = 5");
    assert_eq!(when(&patient, reader), (0, 3.0, 4.0));
    assert_eq!(patient.summary.bytes_moved, 0);
    // After half a second it gives up, and fetches 10 MB.
    let hasty = outcome(&busy_holder(2.0), &[1.0, 1.0], "name = 'delay'\nwait = 0.5");
    assert_eq!(when(&hasty, reader), (1, 1.6, 12.6));
    assert_eq!(hasty.summary.bytes_moved, 10_000_000);
    let never = outcome(&busy_holder(2.0), &[1.0, 1.0], "name = 'delay'\nwait = 0");
    assert_eq!(when(&never, reader), (1, 1.1, 12.1));
    // Waiting is bounded even if the holder stays busy.
    let bounded = outcome(&busy_holder(100.0), &[1.0, 1.0], "name = 'delay'\nwait = 5");
    assert_eq!(when(&bounded, reader), (1, 6.1, 17.1));
}

#[test]
fn owners_take_the_newest_and_thieves_the_oldest() {
    let mut builder = Builder::default();
    for _ in 0..6 {
        task(&mut builder, 1.0, &[], 0);
    }
    let graph = builder.finish().unwrap();
    // All begin in the queue of the user's host, the first.
    let run = outcome(&graph, &[1.0, 1.0], "name = 'stealing'");
    let seen: Vec<_> = (0..6).map(|task| when(&run, TaskId(task))).collect();
    let stolen = [(1, 0.0, 1.0), (1, 1.0, 2.0), (1, 2.0, 3.0)];
    let own = [(0, 2.0, 3.0), (0, 1.0, 2.0), (0, 0.0, 1.0)];
    assert_eq!(seen, [stolen, own].concat());
}

#[test]
fn what_a_host_makes_ready_stays_with_it_unless_somebody_idles() {
    // Four chains on four hosts: each stays where its first task was stolen to.
    let mut builder = Builder::default();
    let mut chains = Vec::new();
    for _ in 0..4 {
        let mut last = task(&mut builder, 1.0, &[], 1_000_000);
        for _ in 0..3 {
            last = task(&mut builder, 1.0, &[last], 1_000_000);
        }
        chains.push(last);
    }
    task(&mut builder, 1.0, &[], 0);
    let graph = builder.finish().unwrap();
    let run = outcome(&graph, &[1.0; 4], "name = 'stealing'");
    for chain in 0..4 {
        let hosts = (0..4).map(|n| when(&run, TaskId(4 * chain + n)).0);
        let hosts: std::collections::BTreeSet<_> = hosts.collect();
        assert_eq!(hosts.len(), 1, "{hosts:?}");
    }
    // From random queues chains are torn apart, but no core idles while there is something to steal.
    let random = outcome(&graph, &[1.0; 4], "name = 'stealing'\npush = 'random'").summary;
    assert!(random.bytes_moved > run.summary.bytes_moved, "{random:?}");
}

/// Mean and 95th percentile of the waits of single tasks that come to 50 hosts, which are busy for nine
/// tenths of the time.
fn waits(policy: &str) -> (f64, f64) {
    let text = format!(
        "title = 'Sparrow'
         [platform]
         [[platform.hosts]]
         name = 'w'
         count = 50
         [workload]
         kind = 'bag'
         tasks = 1
         work = {{ distribution = 'exponential', mean = 1 }}
         [workload.arrivals]
         count = 20000
         every = {{ distribution = 'exponential', mean = {} }}
         [policy]
         {policy}",
        1.0 / 45.0
    );
    let document = Document::parse(&text, "test.toml", Path::new("")).unwrap();
    let wait = Scenario::read(&document).unwrap().run(3).unwrap().summary.wait;
    (wait.mean, wait.p95)
}

#[test]
fn two_probes_are_much_better_than_one_and_all_are_as_good_as_one_queue() {
    let (one, two) = (waits("name = 'power-of-two'\nprobes = 1"), waits("name = 'power-of-two'"));
    let all = waits("name = 'power-of-two'\nprobes = 50");
    let queue = waits("name = 'fifo'");
    // One: 50 queues M/M/1 of load 0.9, which wait for 9 s in the mean.
    assert!((6.0..12.0).contains(&one.0), "{one:?}");
    assert!(two.0 < one.0 / 4.0 && two.1 < one.1 / 4.0, "{one:?} {two:?}");
    // Late binding: where everybody was probed, nobody waits while a host idles.
    assert!((all.0 / queue.0 - 1.0).abs() < 1e-6 && two.0 > queue.0, "{all:?} {queue:?} {two:?}");
}

#[test]
fn reservations_of_hosts_that_go_are_drawn_anew() {
    // Of 40 hosts all but the user's leave one after the other, and never come back.
    let text = "title = 'leavers'
        [platform]
        detection = '2 s'
        [[platform.hosts]]
        name = 'home'
        [[platform.hosts]]
        name = 'leaver'
        count = 39
        churn = { up = { distribution = 'uniform', min = 5, max = 100 }, down = 1e8 }
        [workload]
        kind = 'bag'
        tasks = 400
        work = '2 s'
        [policy]
        name = 'power-of-two'
        probes = 1";
    let document = Document::parse(text, "test.toml", Path::new("")).unwrap();
    let outcome = Scenario::read(&document).unwrap().run(1).unwrap();
    assert!(outcome.summary.departures > 5 && outcome.tasks.iter().all(|task| task.attempts > 0));
}

#[test]
fn settings_of_a_policy_are_checked() {
    let error = |policy: &str| {
        let text = format!(
            "title = 'wrong'\n[platform]\n[[platform.hosts]]\nname = 'w'\n[workload]\nkind = 'bag'\nwork = 1\n[policy]\n{policy}"
        );
        let document = Document::parse(&text, "test.toml", Path::new("")).unwrap();
        Scenario::read(&document).unwrap_err().to_string()
    };
    let wrong = error("name = 'power-of-two'\nprobes = 0");
    assert!(
        wrong.starts_with("test.toml:10: policy.probes: 0 is out of range; allowed: "),
        "{wrong}"
    );
    assert!(wrong.ends_with("from 1 to 64"), "{wrong}");
    let wrong = error("name = 'delay'\nwait = 'soon'");
    assert!(wrong.starts_with("test.toml:10: policy.wait: \"soon\"; allowed: seconds"), "{wrong}");
    let wrong = error("name = 'stealing'\npush = 'elsewhere'");
    assert!(wrong.ends_with("\"elsewhere\" is unknown; allowed: origin, random"), "{wrong}");
    let wrong = error("name = 'fifo'\nwait = 3");
    assert!(
        wrong.ends_with("policy.wait: without delay; allowed: only with name = \"delay\""),
        "{wrong}"
    );
    let wrong = error("name = 'thief'");
    assert!(wrong.contains("peft") && wrong.contains("power-of-two"), "{wrong}");
}
