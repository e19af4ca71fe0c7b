//! A policy of your own: `cargo run -p mesh-simulations --example policy`.
//!
//! Shortest task first, on the slowest host that is free, so that fast hosts stay free for long tasks.
//! Compared with `fifo` on the workflow of `scenarios/estimates.toml`, paired by seed.

use std::error::Error;
use std::path::Path;

use mesh_simulations::config::Document;
use mesh_simulations::experiment::{Comparison, Scenario, run_seeds};
use mesh_simulations::policy::{Placement, Policy};
use mesh_simulations::run::View;
use mesh_simulations::workload::TaskId;

#[derive(Default)]
struct ShortestFirst {
    ready: Vec<TaskId>,
}

impl Policy for ShortestFirst {
    fn name(&self) -> &'static str {
        "shortest-first"
    }

    fn ready(&mut self, _view: &View<'_>, task: TaskId) {
        self.ready.push(task);
    }

    fn place(&mut self, view: &View<'_>) -> Option<Placement> {
        // Tasks whose inputs were lost meanwhile will be told again.
        self.ready.retain(|&task| view.is_ready(task));
        self.ready.sort_by(|a, b| view.estimate(*b).total_cmp(&view.estimate(*a)));
        let task = *self.ready.last()?;
        let host = view.free_hosts().filter(|&host| view.fits(host, task)).last()?;
        self.ready.pop();
        Some(Placement { task, host })
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/estimates.toml");
    let mut document = Document::read(&file)?;
    document.set("policy.name=fifo")?;
    let scenario = Scenario::read(&document)?;
    let seeds: Vec<u64> = (1..=10).collect();
    let fifo = run_seeds(&scenario, &seeds)?;
    let mut own = Vec::new();
    for &seed in &seeds {
        own.push((seed, scenario.run_with(seed, &mut ShortestFirst::default())?.summary));
    }
    println!("{}", Comparison::new(&fifo, &own).sentence("fifo", "shortest-first"));
    Ok(())
}
