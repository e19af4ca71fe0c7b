//! The protocol's own machines in simulated time.
#![allow(clippy::unwrap_used, missing_docs)] // a failed step fails the test

mod common;

use std::path::Path;

use mesh_protocol::sched::policy::PlacementName;
use mesh_simulations::experiment::Scenario;
use mesh_simulations::run::{Outcome, Summary};
use mesh_simulations::workload::ObjectOrigin;

/// A platform of 30 hosts with two cores each, half a millisecond from each other.
fn scenario(root: &str, hosts: &str, workload: &str, policy: &str) -> Result<Scenario, String> {
    let text = format!(
        "title = 'a test'\n{root}\n[platform]\ncontrol = '0.5 ms'\n\
         [[platform.hosts]]\nname = 'worker'\ncount = 30\ncores = 2\n{hosts}\n\
         [workload]\n{workload}\n[policy]\nname = '{policy}'\n"
    );
    common::scenario(&text, &[], Path::new(""))
}

fn run(hosts: &str, workload: &str) -> Outcome {
    scenario(PROTOCOL, hosts, workload, "critical-path").unwrap().run(7).unwrap()
}

const PROTOCOL: &str = "fidelity = 'protocol'";
const BAG: &str = "kind = 'bag'\ntasks = 600\nwork = '2 s'";

#[test]
fn asking_costs_little_beside_being_told_everything() {
    let told =
        scenario("fidelity = 'fast'", "", BAG, "critical-path").unwrap().run(7).unwrap().summary;
    let asked = run("", BAG).summary;
    assert_eq!(told.messages, 0);
    assert!(told.makespan <= asked.makespan, "{} and {}", told.makespan, asked.makespan);
    assert!(asked.makespan < 1.1 * told.makespan, "{} and {}", told.makespan, asked.makespan);
    // A lease, a start and a receipt each, at least, of what runs elsewhere.
    assert!(asked.messages > 2 * 600, "{}", asked.messages);
    assert_eq!((asked.speculated, asked.wasted), (0, 0.0), "all tasks are alike");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let hosts = "speed = { distribution = 'uniform', min = 0.5, max = 2 }";
    let [one, two] = [(), ()].map(|()| {
        run(
            hosts,
            "kind = 'make'\nunits = 300\nlibraries = 5\ncompile = 1\nlink = 2\narchive = 0.5",
        )
    });
    assert_eq!(one.summary, two.summary);
    let when = |outcome: &Outcome| -> Vec<_> {
        outcome.tasks.iter().map(|task| (task.host, task.started, task.received)).collect()
    };
    assert_eq!(when(&one), when(&two));
}

/// As `mesh join --only-when-idle`: what runs goes on, and nothing new begins.
#[test]
fn whoever_uses_a_host_lets_it_finish_what_it_runs() {
    for (fidelity, ahead) in [("fast", "ahead = 0"), ("flow", "ahead = 0"), ("protocol", "")] {
        let text = format!(
            "title = 'a test'\nfidelity = '{fidelity}'\n[platform]\ncontrol = '0.5 ms'\n\
             [[platform.hosts]]\nname = 'user'\nmemory = '1 kB'\n\
             [[platform.hosts]]\nname = 'worker'\nowner = {{ idle = 5, busy = 95 }}\n\
             [workload]\nkind = 'bag'\ntasks = 3\nwork = 4\nmemory = '1 MB'\n\
             [policy]\nname = 'fifo'\n{ahead}\n"
        );
        let outcome = common::scenario(&text, &[], Path::new("")).unwrap().run(1).unwrap();
        let mut begun: Vec<f64> = outcome.tasks.iter().map(|task| task.started.seconds()).collect();
        begun.sort_by(f64::total_cmp);
        let expected = [0.0, 4.0, 100.0];
        let is_near = |(begun, expected): (&f64, f64)| (0.0..0.1).contains(&(begun - expected));
        assert!(begun.iter().zip(expected).all(is_near), "{fidelity}: {begun:?}");
        assert_eq!((outcome.summary.aborted, outcome.summary.wasted), (0, 0.0), "{fidelity}");
    }
    let bad = scenario("", "owner = { idle = 5 }", BAG, "fifo").unwrap_err();
    assert!(bad.contains("owner.busy"), "{bad}");
}

#[test]
fn hosts_that_go_cost_time_and_no_task() {
    let churn = "churn = { up = { distribution = 'exponential', mean = '60 s' }, down = '20 s' }\n";
    // Users' own hosts stay.
    let text = format!("{churn}[[platform.hosts]]\nname = 'user'\ncount = 1\n");
    let stable = run("[[platform.hosts]]\nname = 'user'\n", BAG).summary;
    let outcome = run(&text, BAG);
    assert!(outcome.summary.departures > 0 && outcome.summary.aborted > 0);
    assert!(outcome.summary.makespan > stable.makespan);
    assert!(outcome.tasks.iter().all(|task| task.finished > task.started));
}

fn speculating(name: &str, hosts: &str, workload: &str, seed: u64) -> Summary {
    let root = format!("{PROTOCOL}\nspeculation = '{name}'");
    scenario(&root, hosts, workload, "critical-path").unwrap().run(seed).unwrap().summary
}

#[test]
fn stragglers_are_overtaken_by_second_copies() {
    let slow = "stragglers = { share = 0.01, slowdown = 20 }";
    let never = speculating("none", slow, BAG, 7);
    assert_eq!(never.speculated, 0);
    for name in ["ours", "late"] {
        let copied = speculating(name, slow, BAG, 7);
        assert!(copied.speculated > 0 && copied.wasted > 0.0, "{name}: {copied:?}");
        assert!(copied.makespan < 0.8 * never.makespan, "{name}: {copied:?} and {never:?}");
    }
}

#[test]
fn only_small_jobs_are_cloned_and_then_whole() {
    let slow = "stragglers = { share = 0.1, slowdown = 20 }";
    let bag = |tasks: u32| format!("kind = 'bag'\ntasks = {tasks}\nwork = '2 s'");
    let mut makespans = [0.0, 0.0, 0.0];
    for seed in 0..50 {
        let small = ["none", "ours", "clone"].map(|name| speculating(name, slow, &bag(4), seed));
        assert_eq!((small[1].speculated, small[2].speculated), (0, 4));
        for (sum, seen) in makespans.iter_mut().zip(small) {
            *sum += seen.makespan / 50.0;
        }
    }
    // One of four is slow in a third of the jobs, and nobody knows yet what is usual; both copies of
    // one are slow in a twenty-fifth.
    let [none, ours, clone] = makespans;
    assert!(ours == none && clone < 0.5 * none, "{makespans:?}");
    let large = speculating("clone", slow, &bag(600), 1);
    assert!(large.speculated <= 10, "{large:?}");
}

#[test]
fn late_needs_no_time_twice_the_usual_and_copies_a_tenth_at_most() {
    let slow = |count: u32| {
        format!("[[platform.hosts]]\nname = 'slow'\ncount = {count}\nspeed = 0.15\ncores = 2")
    };
    let stages = "kind = 'fan'\nstages = 20\nwidth = 60\nwork = 2\nsplit = 0.1\njoin = 0.1";
    let run = |name: &str, count: u32| speculating(name, &slow(count), stages, 3);
    // Two of 62 slots are slow. What is beyond its usual time is slower than three quarters of all.
    let [none, ours, late] = ["none", "ours", "late"].map(|name| run(name, 1).makespan);
    assert!(late < 0.9 * ours && ours < 0.6 * none, "{late} and {ours} and {none}");
    // A third are: more than the copies that LATE makes at once, and the rest has to wait.
    let [ours, late] = ["ours", "late"].map(|name| run(name, 15));
    assert!(late.makespan > 1.05 * ours.makespan, "{late:?} and {ours:?}");
}

#[test]
fn speculation_is_one_of_four() {
    let error = scenario(&format!("{PROTOCOL}\nspeculation = 'stragglers'"), "", BAG, "fifo");
    let error = error.unwrap_err();
    assert!(error.starts_with("test.toml:3: speculation: \"stragglers\" is unknown"), "{error}");
    assert!(error.ends_with("allowed: none, ours, late, clone"), "{error}");
}

#[test]
fn a_policy_that_sees_everything_is_no_policy_of_a_node() {
    let error = scenario(PROTOCOL, "", BAG, "heft").unwrap_err();
    assert!(error.contains("fidelity") && error.contains("critical-path"), "{error}");
}

#[test]
fn every_policy_of_a_node_is_one_of_the_protocol() {
    for (name, placement) in PlacementName::ALL {
        let scenario = scenario(PROTOCOL, "", BAG, name).unwrap();
        assert_eq!(scenario.policy.placement(), Some(placement));
        assert!(scenario.run(1).unwrap().summary.makespan >= 20.0, "{name}");
    }
}

/// Sixty chains of six short tasks, and one of three long ones: counted in tasks it is the shorter one.
#[test]
fn levels_in_time_find_the_long_chain_that_levels_in_tasks_leave_for_later() {
    let mut tasks = Vec::new();
    let mut chain = |kind: &str, number: usize, length: usize, seconds: f64| {
        let id = |at: usize| format!("{kind}-{number}-{at}");
        for at in 0..length {
            let parents: Vec<String> = at.checked_sub(1).map(id).into_iter().collect();
            tasks.push(serde_json::json!({
                "name": id(at), "category": kind, "parents": parents, "runtimeInSeconds": seconds,
                "files": [],
            }));
        }
    };
    (0..60).for_each(|number| chain("short", number, 6, 1.0));
    chain("long", 0, 3, 30.0);
    let workflow = serde_json::json!({
        "name": "chains", "schemaVersion": "1.4", "workflow": { "tasks": tasks },
    });
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("chains.json"), workflow.to_string()).unwrap();
    let makespan = |policy: &str| {
        let text = format!(
            "title = 'chains'\nfidelity = 'protocol'\n[platform]\ncontrol = '1 ms'\n\
             [[platform.hosts]]\nname = 'worker'\ncount = 4\n\
             [workload]\nkind = 'workflow'\nfile = 'chains.json'\n[policy]\nname = '{policy}'\n"
        );
        let scenario = common::scenario(&text, &[], directory.path()).unwrap();
        scenario.run(1).unwrap().summary.makespan
    };
    // All work over all cores is 112.5 s. In tasks, 45 s are spent on the short chains before three are
    // left of each, too; in time, the long chain begins when the first short task has ended.
    let (in_tasks, in_time) = (makespan("critical-path"), makespan("b-level"));
    assert!((112.5..120.0).contains(&in_time), "{in_time}");
    assert!(in_tasks > 1.1 * in_time, "{in_tasks} {in_time}");
}

const USER: &str = "[[platform.hosts]]\nname = 'user'\nmemory = '1 kB'\n";

/// A user whose own machine runs nothing, and workers of whom this share lies.
fn hostile(share: f64, lie: &str, workload: &str) -> Outcome {
    let root = format!("{PROTOCOL}\nhome = 'user'\nspeculation = 'none'");
    let hosts = format!("liars = {{ share = {share}, lie = '{lie}' }}\n{USER}");
    scenario(&root, &hosts, workload, "critical-path").unwrap().run(7).unwrap()
}

#[test]
fn lies_about_bytes_cost_time_and_no_result() {
    let bag = format!("{BAG}\nmemory = '10 MB'\noutput = '1 MB'");
    let (honest, some) = (hostile(0.0, "bytes", &bag), hostile(0.2, "bytes", &bag));
    assert_eq!((honest.summary.lies_found, honest.summary.false_results), (0, 0));
    assert!(some.summary.lies_found > 0, "{:?}", some.summary);
    assert_eq!(some.summary.false_results, 0);
    assert!(some.tasks.iter().all(|task| task.finished > task.started), "all were run by somebody");
    // A liar is caught with the first output it sends; from then on nothing is fetched from it.
    let bytes = some.summary.bytes_moved - honest.summary.bytes_moved;
    assert!((1..=30).contains(&(bytes / 1_000_000)), "{bytes}");
    // Four workers in five are there, and little is lost beyond the fifth.
    let ratio = some.summary.makespan / honest.summary.makespan;
    assert!((1.0..1.6).contains(&ratio), "{ratio}");
}

#[test]
fn lies_about_results_spread_and_nobody_knows() {
    let workload = "kind = 'fan'\nstages = 3\nwidth = 40\nwork = 1\nsplit = 0.1\njoin = 0.1";
    let root = format!("{PROTOCOL}\nspeculation = 'none'");
    // The user's machine runs some itself, and believes itself.
    let hosts = "liars = { share = 0.1, lie = 'result' }";
    let scenario = scenario(&root, hosts, workload, "fifo").unwrap();
    let (graph, outcome) = (scenario.workload.build(7).unwrap(), scenario.run(7).unwrap());
    let mut is_false: Vec<bool> = Vec::new();
    for (task, record) in outcome.records() {
        let mut makers =
            graph.inputs(task).iter().filter_map(|object| match graph.object(*object).origin {
                ObjectOrigin::Product(maker) => Some(maker),
                _ => None,
            });
        // Only a liar is done when it begins.
        let is_lie = record.finished == record.started;
        is_false.push(is_lie || makers.any(|maker| is_false[maker.index()]));
    }
    let expected = is_false.iter().filter(|is_false| **is_false).count() as u64;
    assert_eq!(outcome.summary.false_results, expected);
    assert!(0 < expected && expected < 3 * 42, "{expected}");
    assert_eq!(outcome.summary.lies_found, 0);
}

/// The same with a user who checks; its machine runs 16 checks at once.
fn checked(check: u32, liars: &str, workload: &str) -> Summary {
    let text = format!(
        "title = 'a test'\n{PROTOCOL}\nhome = 'user'\nspeculation = 'none'\n\
         [platform]\ncontrol = '0.5 ms'\n\
         [[platform.hosts]]\nname = 'user'\nmemory = '1 kB'\ncores = 16\n\
         [[platform.hosts]]\nname = 'honest'\ncount = 27\ncores = 2\n\
         [[platform.hosts]]\nname = 'hostile'\ncount = 3\ncores = 2\nliars = {{ share = 1, {liars} }}\n\
         [workload]\n{workload}\n[policy]\nname = 'fifo'\ncheck = {check}\n"
    );
    common::scenario(&text, &[], Path::new("")).unwrap().run(7).unwrap().summary
}

#[test]
fn who_lies_from_the_start_is_found_with_the_first_result() {
    let bag = "kind = 'bag'\ntasks = 2000\nwork = '2 s'\nmemory = '10 MB'";
    let unchecked = checked(0, "lie = 'result'", bag);
    assert!(unchecked.false_results > 500, "{unchecked:?}");
    assert_eq!((unchecked.checks, unchecked.checked, unchecked.liars_found), (0, 0.0, 0));
    let seen = checked(5, "lie = 'result'", bag);
    assert_eq!((seen.false_results, seen.liars_found), (0, 3), "whoever is new is checked");
    // The first check of a liar's takes two runs, and no more of its receipts counts after that.
    assert!((4.0..6.0).contains(&seen.liar_found), "{}", seen.liar_found);
    // Ten of each of 27 at least, and then one in twenty of the rest.
    assert!((270 + 30..270 + 300).contains(&seen.checks), "{}", seen.checks);
    assert!(seen.checked >= 2.0 * seen.checks as f64, "{seen:?}");
}

#[test]
fn who_lies_later_is_found_by_the_share_that_is_checked() {
    let bag = "kind = 'bag'\ntasks = 2000\nwork = '2 s'\nmemory = '10 MB'";
    let [none, some, half, all] =
        [0, 5, 50, 100].map(|check| checked(check, "lie = 'result', after = 15", bag));
    assert_eq!((none.liars_found, all.false_results), (0, 0));
    assert_eq!((some.liars_found, half.liars_found, all.liars_found), (3, 3, 3));
    assert!(
        none.false_results > some.false_results
            && some.false_results > half.false_results
            && half.false_results > 0,
        "{} {} {}",
        none.false_results,
        some.false_results,
        half.false_results
    );
    assert!(some.checks < half.checks && half.checks < all.checks);
    // What is not found to be a lie is checked once, and counts.
    assert_eq!(all.checks, 2000 + all.lies_found);
}

#[test]
fn what_is_made_honestly_of_false_results_is_no_lie() {
    let fan = "kind = 'fan'\nstages = 6\nwidth = 200\nwork = 1\nsplit = 0.1\njoin = 0.1";
    let seen = checked(20, "lie = 'result', after = 11", fan);
    assert!(seen.false_results > 200, "a stage is made of what the one before left: {seen:?}");
    assert!((1..=3).contains(&seen.liars_found), "no honest one is left out: {seen:?}");
}

#[test]
fn checks_are_for_the_protocol_and_in_percent() {
    for (root, check, key) in
        [("", "5", "check"), (PROTOCOL, "101", "check"), (PROTOCOL, "-1", "check")]
    {
        let policy = format!("fifo'\ncheck = {check}\nahead = 0 # '");
        let error = scenario(root, "", BAG, &policy).unwrap_err();
        assert!(error.contains(key), "{error}");
    }
}

#[test]
fn whoever_is_surrounded_by_liars_does_its_work_itself() {
    let hosts = "liars = { share = 1 }\n[[platform.hosts]]\nname = 'user'\ncores = 2\n";
    let root = format!("{PROTOCOL}\nhome = 'user'");
    let work = "kind = 'bag'\ntasks = 40\nwork = '2 s'";
    let outcome = scenario(&root, hosts, work, "fifo").unwrap().run(7).unwrap();
    assert_eq!(outcome.summary.false_results, 0);
    assert!(outcome.summary.lies_found > 0);
    assert!(outcome.tasks.iter().all(|task| task.host.0 == 30), "the user's own");
    // 40 s alone.
    assert!((40.0..48.0).contains(&outcome.summary.makespan), "{}", outcome.summary.makespan);
}

#[test]
fn liars_are_for_the_protocol() {
    let hosts = "liars = { share = 0.1 }";
    let error = scenario("fidelity = 'fast'", hosts, BAG, "fifo").unwrap_err();
    assert!(error.contains("fidelity: liars"), "{error}");
    let error = scenario(PROTOCOL, "liars = { share = 2 }", BAG, "fifo").unwrap_err();
    assert!(error.contains("platform.hosts.0.liars.share: 2 is out of range"), "{error}");
}

/// One of so many cores for all 30 hosts, where a task costs that, and the difference that it makes.
fn on_one_machine(cores: u32, costs: &str, workload: &str) -> (Summary, Summary) {
    let alone = run("", workload).summary;
    let platform =
        format!("machine = 'one'\n[[platform.machines]]\nname = 'one'\ncores = {cores}\n{costs}");
    (run(&platform, workload).summary, alone)
}

#[test]
fn a_machine_that_costs_nothing_changes_nothing() {
    let (shared, alone) = on_one_machine(1, "", BAG);
    assert_eq!((shared.makespan, shared.messages), (alone.makespan, alone.messages));
}

#[test]
fn a_task_alone_takes_its_costs_longer() {
    let costs = "submit = '2 ms'\nlease = '30 ms'\nsandbox = '400 ms'";
    let (shared, alone) =
        on_one_machine(1, costs, "kind = 'bag'\ntasks = 1\nwork = '2 s'\nmemory = 1");
    let more = shared.makespan - alone.makespan;
    // The one user's own host runs it, without a lease on any stream.
    assert!((more - 0.402).abs() < 1e-3, "{more}");
}

#[test]
fn a_machine_is_as_fast_as_its_cores() {
    for cores in [1, 3] {
        let costs = "sandbox = '30 ms'\nlease = '6 ms'";
        let bag = "kind = 'bag'\ntasks = 600\nwork = '1 ms'";
        let (shared, _) = on_one_machine(cores, costs, bag);
        // What runs at the user's own host is not leased.
        let least = 600.0 * 0.030 / f64::from(cores);
        let most = 600.0 * 0.036 / f64::from(cores) + 0.5;
        assert!((least..most).contains(&shared.makespan), "{cores}: {}", shared.makespan);
    }
    // All have to hear of the offers.
    let (shared, alone) = on_one_machine(1, "message = '1 ms'", BAG);
    assert!(shared.makespan > alone.makespan + 0.02, "{} {}", shared.makespan, alone.makespan);
}

#[test]
fn machines_are_named_and_belong_to_the_protocol() {
    let machine = "machine = 'one'\n[[platform.machines]]\nname = 'one'";
    let fast = scenario("fidelity = 'fast'", machine, BAG, "fifo").unwrap_err();
    assert!(fast.contains("fidelity") && fast.contains("machines"), "{fast}");
    let unknown = scenario(PROTOCOL, &machine.replacen("one", "two", 1), BAG, "fifo").unwrap_err();
    assert!(unknown.contains("no machine \"two\"") && unknown.contains("one"), "{unknown}");
}

#[test]
fn a_user_without_the_memory_runs_nothing() {
    let platform = "memory = '1 GB'\n[[platform.hosts]]\nname = 'user'\nmemory = '1 kB'";
    let bag = format!("{BAG}\nmemory = '1 MB'");
    let root = format!("{PROTOCOL}\nhome = 'user'");
    let outcome = scenario(&root, platform, &bag, "fifo").unwrap().run(7).unwrap();
    assert!(outcome.tasks.iter().all(|task| task.host.0 < 30));
}
