//! Experiments: a scenario under many seeds, over a grid of settings, against another scenario.
//!
//! Runs are independent and spread over all cores; a run itself uses one. Results come in the order
//! of cells and seeds, so that the number of threads changes no byte of them.

mod calibrate;
mod compare;
mod inventory;
mod replay;
mod report;
mod scenario;
mod statistics;
mod sweep;

pub use calibrate::{Calibration, machine_toml};
pub use compare::{Comparison, Difference};
pub use inventory::Inventory;
pub use replay::Replay;
pub use report::{write_summaries, write_tasks};
pub use scenario::{Scenario, SimulationError};
pub use statistics::{Interval, mean_interval};
pub use sweep::{Grid, Progress, Sweep, SweepError};

use rayon::prelude::*;

use crate::run::Summary;

/// Runs a scenario under each of these seeds.
pub fn run_seeds(
    scenario: &Scenario,
    seeds: &[u64],
) -> Result<Vec<(u64, Summary)>, SimulationError> {
    let runs: Vec<_> =
        seeds.par_iter().map(|&seed| Ok((seed, scenario.run(seed)?.summary))).collect();
    // The first error in the order of seeds, whichever came first in time.
    runs.into_iter().collect()
}
