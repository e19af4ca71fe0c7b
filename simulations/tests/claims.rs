//! Ways in which work and slots find each other.
#![allow(clippy::unwrap_used, missing_docs)] // a failed step fails the test

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use mesh_simulations::experiment::Scenario;
use mesh_simulations::run::{Outcome, Summary};

const WAYS: [&str; 4] = ["pull", "broadcast", "central", "probing"];

/// Hosts with two cores each, ten milliseconds from each other, of which the first is the user's.
fn scenario(policy: &str, hosts: &str, workload: &str) -> Result<Scenario, String> {
    let text = format!(
        "title = 'a test'\nfidelity = 'protocol'\n[policy]\nname = 'fifo'\n{policy}\n\
         [workload]\n{workload}\n[platform]\ncontrol = '10 ms'\n[[platform.hosts]]\nname = 'user'\n\
         [[platform.hosts]]\nname = 'worker'\ncores = 2\n{hosts}\n"
    );
    common::scenario(&text, &[], Path::new(""))
}

fn run(policy: &str, hosts: &str, workload: &str, seed: u64) -> Outcome {
    scenario(policy, hosts, workload).unwrap().run(seed).unwrap()
}

/// A small bag among so many workers.
fn told(policy: &str, workers: u64) -> Summary {
    let bag = "kind = 'bag'\ntasks = 20\nwork = '2 s'";
    run(&format!("claims = {policy}"), &format!("count = {workers}"), bag, 7).summary
}

#[test]
fn what_an_offer_costs_is_as_its_way_has_it() {
    for workers in [100, 400] {
        let others = workers;
        let [pull, broadcast, central] =
            ["'pull'", "'broadcast'", "'central'"].map(|way| told(way, workers));
        // A requester passes gossip on to six, whatever the mesh; all others do so as well.
        let offers = pull.offers_sent / 6;
        assert!((1..10).contains(&offers), "{pull:?}");
        assert_eq!((pull.offers_sent, pull.offer_messages), (6 * offers, 3 * others * offers));
        // It tells everybody itself.
        let all = others * offers;
        assert_eq!((broadcast.offers_sent, broadcast.offer_messages), (all, all));
        assert_eq!((central.offers_sent, central.offer_messages), (0, 0));
        // What is offered is what its own core does not take, once: then others come for all.
        for probes in [1, 2, 3] {
            let probing = told(&format!("'probing'\nprobes = {probes}"), workers);
            assert_eq!((probing.offers_sent, probing.offer_messages), (19 * probes, 19 * probes));
        }
    }
}

#[test]
fn whoever_is_not_told_does_not_come() {
    let bag = "kind = 'bag'\ntasks = 4\nwork = '1 s'";
    let helpers = |seed: u64| -> BTreeSet<_> {
        let outcome = run("claims = 'probing'\nprobes = 1", "count = 200", bag, seed);
        outcome.tasks.iter().map(|task| task.host).collect()
    };
    let drawn: BTreeSet<_> = (0..5).map(helpers).collect();
    assert!(drawn.iter().all(|hosts| hosts.len() <= 4), "three probes and the user's: {drawn:?}");
    assert_eq!(drawn.len(), 5, "whom of two hundred is up to the seed: {drawn:?}");
}

#[test]
fn nobody_is_faster_than_who_knows_everything() {
    for workload in [
        "kind = 'bag'\ntasks = 300\nwork = '2 s'",
        "kind = 'fan'\nstages = 10\nwidth = 80\nwork = 2\nsplit = 0.1\njoin = 0.1",
        "kind = 'make'\nunits = 300\nlibraries = 5\ncompile = 1\nlink = 2\narchive = 0.5",
    ] {
        for seed in 0..3 {
            let [pull, broadcast, central, probing] = WAYS.map(|way| {
                run(&format!("claims = '{way}'"), "count = 50", workload, seed).summary.makespan
            });
            let all = (pull, broadcast, central, probing);
            assert!(central < pull.min(broadcast).min(probing), "{all:?}");
            // Gossip takes more hops than one.
            assert!(broadcast <= pull, "{all:?}");
        }
    }
}

#[test]
fn knowing_everything_is_as_good_as_a_policy_that_does() {
    let text = "title = 'a test'\n[policy]\nname = 'fifo'\n[platform]\ncontrol = '10 ms'\n\
                [[platform.hosts]]\nname = 'user'\n[[platform.hosts]]\nname = 'worker'\n\
                cores = 2\ncount = 100\n[workload]\nkind = 'bag'\ntasks = 20\nwork = '2 s'\n";
    let fast = common::scenario(text, &[], Path::new("")).unwrap().run(7).unwrap().summary;
    assert_eq!(told("'central'", 100).makespan, fast.makespan);
}

#[test]
fn every_way_ends_among_hosts_that_go_and_is_the_same_each_time() {
    let hosts = "count = 30\nchurn = { up = { distribution = 'exponential', mean = '60 s' }, down = '20 s' }";
    let bag = "kind = 'bag'\ntasks = 400\nwork = '3 s'";
    for way in WAYS {
        let [one, two] = [(), ()].map(|()| run(&format!("claims = '{way}'"), hosts, bag, 5));
        assert!(one.summary.departures > 0, "{way}");
        assert!(one.tasks.iter().all(|task| task.received > task.ready), "{way}");
        assert_eq!(one.summary, two.summary, "{way}");
    }
}

#[test]
fn pull_is_what_nobody_has_to_say() {
    let bag = "kind = 'bag'\ntasks = 100\nwork = '1 s'";
    let said = run("claims = 'pull'", "count = 20", bag, 2).summary;
    assert_eq!(run("", "count = 20", bag, 2).summary, said);
}

#[test]
fn what_is_wrong_is_told_with_what_is_allowed() {
    let bag = "kind = 'bag'\ntasks = 1\nwork = 1";
    let told = |policy: &str| scenario(policy, "count = 2", bag).unwrap_err();
    assert_eq!(
        told("claims = 'push'"),
        "test.toml:5: policy.claims: \"push\" is unknown; allowed: pull, broadcast, central, probing"
    );
    for policy in ["probes = 2", "claims = 'pull'\nprobes = 2"] {
        assert!(told(policy).contains("policy.probes: "), "{}", told(policy));
    }
    let range = told("claims = 'probing'\nprobes = 65");
    assert!(range.ends_with("allowed: a whole number from 1 to 64"), "{range}");
    let text = "title = 'a test'\n[policy]\nname = 'fifo'\nclaims = 'pull'\n[platform]\n\
                [[platform.hosts]]\nname = 'user'\n[workload]\nkind = 'bag'\ntasks = 1\nwork = 1\n";
    let error = common::scenario(text, &[], Path::new("")).unwrap_err();
    assert!(error.ends_with("only with fidelity = \"protocol\""), "{error}");
}
