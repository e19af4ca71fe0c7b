//! The simulator against SimGrid: the same workflows, hosts, placement and network models. The golden
//! values are made by `validation/simgrid_golden.py`.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;

use mesh_simulations::config::Document;
use mesh_simulations::experiment::Scenario;
use mesh_simulations::platform::HostId;
use mesh_simulations::policy::{Placement, Policy};
use mesh_simulations::run::View;
use mesh_simulations::workload::TaskId;

/// Task n runs on host n modulo the number of hosts, in the order of the numbers.
#[derive(Default)]
struct RoundRobin {
    /// For each host the next task.
    next: Vec<u32>,
}

impl Policy for RoundRobin {
    fn name(&self) -> &'static str {
        "round-robin"
    }

    fn ready(&mut self, _view: &View<'_>, _task: TaskId) {}

    fn place(&mut self, view: &View<'_>) -> Option<Placement> {
        let hosts = view.hosts() as u32;
        if self.next.is_empty() {
            self.next = (0..hosts).collect();
        }
        let tasks = view.graph().tasks().len() as u32;
        let host = (0..hosts).find(|&host| {
            let next = self.next[host as usize];
            next < tasks && view.is_ready(TaskId(next)) && view.room(HostId(host)) > 0
        })?;
        let task = TaskId(self.next[host as usize]);
        self.next[host as usize] += hosts;
        Some(Placement { task, host: HostId(host) })
    }
}

fn scenario(workflow: &str, hosts: &str, network: &str) -> String {
    let link = "bandwidth = '1 Gbit/s'";
    let (fidelity, backbone, access) = match network {
        "constant" => ("fast", format!("backbone = {{ {link}, latency = '1 ms' }}"), String::new()),
        "shared" => ("flow", format!("backbone = {{ {link}, latency = '1 ms' }}"), String::new()),
        _ => ("flow", String::new(), format!("access = {{ {link}, latency = '0.5 ms' }}")),
    };
    let group = |name: &str, count: u32, speed: f64| {
        format!("[[platform.hosts]]\nname = '{name}'\ncount = {count}\nspeed = {speed}\n{access}\n")
    };
    // Host n of the unequal ones has speed 1 + (n mod 4) / 2.
    let hosts = match hosts {
        "32-unequal" => {
            (0..32_u8).map(|n| group(&n.to_string(), 1, 1.0 + 0.5 * f64::from(n % 4))).collect()
        }
        count => group("w", count.parse().unwrap(), 1.0),
    };
    format!(
        "title = 'golden'\nfidelity = '{fidelity}'\ndata = 'edges'\n[platform]\n{backbone}\n{hosts}\
         [workload]\nkind = 'workflow'\nfile = 'workflows/{workflow}.json'\n[policy]\nname = 'fifo'\n"
    )
}

#[test]
fn makespans_are_those_of_simgrid() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("validation");
    let mut golden = csv::Reader::from_path(directory.join("simgrid_golden.csv")).unwrap();
    let mut count = 0;
    let mut worst = 0.0_f64;
    for row in golden.deserialize::<(String, String, String, f64)>() {
        let (workflow, hosts, network, expected) = row.unwrap();
        let text = scenario(&workflow, &hosts, &network);
        let document = Document::parse(&text, "golden", &directory).unwrap();
        let scenario = Scenario::read(&document).unwrap();
        let seen = scenario.run_with(1, &mut RoundRobin::default()).unwrap().summary.makespan;
        let error = (seen / expected - 1.0).abs();
        println!("{workflow} {hosts} {network}: {seen} {expected} {error:.1e}");
        worst = worst.max(error);
        count += 1;
    }
    assert_eq!(count, 27);
    assert!(worst <= 1e-6, "relative error {worst:.1e}");
}
