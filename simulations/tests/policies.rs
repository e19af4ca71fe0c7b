//! Policies on graphs small enough to schedule by hand.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;

use mesh_simulations::config::Document;
use mesh_simulations::experiment::Scenario;
use mesh_simulations::policy::PolicyName;
use mesh_simulations::workload::{Builder, Graph, ObjectId, Spec};

/// Makespan on hosts of one core, of these speeds, each behind 1 MB/s.
fn makespan(graph: &Graph, speeds: &[f64], policy: &str, ahead: u32) -> f64 {
    let hosts: String = speeds
        .iter()
        .map(|speed| {
            format!(
                "[[platform.hosts]]\nname = 'w'\nspeed = {speed:?}\naccess = {{ bandwidth = '1 MB/s' }}\n"
            )
        })
        .collect();
    let text = format!(
        "title = 'by hand'\n[platform]\n{hosts}[workload]\nkind = 'bag'\nwork = 1\n[policy]\nname = 'fifo'\nahead = {ahead}"
    );
    let document = Document::parse(&text, "test.toml", Path::new("")).unwrap();
    let name = PolicyName::ALL.iter().find(|(name, _)| *name == policy).unwrap().1;
    let scenario = Scenario::read(&document).unwrap();
    scenario.run_graph(graph, 1, name.make().as_mut()).unwrap().summary.makespan
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
