//! The protocol's own machines in simulated time.
#![allow(clippy::unwrap_used, missing_docs)] // a failed step fails the test

use std::path::Path;

use mesh_simulations::config::Document;
use mesh_simulations::experiment::Scenario;
use mesh_simulations::run::Outcome;

/// A platform of 30 hosts with two cores each, half a millisecond from each other.
fn scenario(root: &str, hosts: &str, workload: &str, policy: &str) -> Result<Scenario, String> {
    let text = format!(
        "title = 'a test'\n{root}\n[platform]\ncontrol = '0.5 ms'\n\
         [[platform.hosts]]\nname = 'worker'\ncount = 30\ncores = 2\n{hosts}\n\
         [workload]\n{workload}\n[policy]\nname = '{policy}'\n"
    );
    let document = Document::parse(&text, "test.toml", Path::new("")).map_err(|e| e.to_string())?;
    Scenario::read(&document).map_err(|error| error.to_string())
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

#[test]
fn stragglers_are_overtaken_by_second_copies() {
    let slow = "stragglers = { share = 0.01, slowdown = 20 }";
    let makespan = |speculation: &str| {
        let root = format!("{PROTOCOL}\nspeculation = '{speculation}'");
        scenario(&root, slow, BAG, "critical-path").unwrap().run(7).unwrap().summary
    };
    let (never, ours) = (makespan("none"), makespan("stragglers"));
    assert_eq!(never.speculated, 0);
    assert!(ours.speculated > 0 && ours.wasted > 0.0, "{ours:?}");
    assert!(ours.makespan < 0.8 * never.makespan, "{} and {}", ours.makespan, never.makespan);
}

#[test]
fn a_policy_that_sees_everything_is_no_policy_of_a_node() {
    let error = scenario(PROTOCOL, "", BAG, "heft").unwrap_err();
    assert!(error.contains("fidelity") && error.contains("critical-path"), "{error}");
}
