//! What a scenario amounts to, without running it.

use super::{Scenario, SimulationError};

/// The machines and the workload of a scenario under one seed, added up.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Inventory {
    /// Hosts.
    pub hosts: u64,
    /// Cores of all hosts.
    pub cores: u64,
    /// Jobs.
    pub jobs: usize,
    /// Tasks of all jobs.
    pub tasks: usize,
    /// Objects: inputs and outputs.
    pub objects: usize,
    /// Bytes of all objects.
    pub bytes: u64,
    /// Seconds of all tasks on one core of speed 1.
    pub work_s: f64,
    /// Seconds of the longest chain of a job on cores of speed 1, without transfers.
    pub critical_path_s: f64,
    /// Tasks that need more memory than any host has: a run of these does not end.
    pub unplaceable: usize,
}

impl Inventory {
    /// Builds the workload under a seed and counts.
    pub fn new(scenario: &Scenario, seed: u64) -> Result<Self, SimulationError> {
        let graph = scenario.workload.build(seed)?;
        let groups = scenario.platform.groups.iter().filter(|group| group.count > 0);
        let memory_max = groups.clone().map(|group| group.memory).max().unwrap_or(0);
        Ok(Self {
            hosts: groups.clone().map(|group| u64::from(group.count)).sum(),
            cores: groups.map(|group| u64::from(group.count) * u64::from(group.cores)).sum(),
            jobs: graph.jobs().len(),
            tasks: graph.tasks().len(),
            objects: graph.objects().len(),
            bytes: graph.objects().iter().fold(0, |sum, object| object.bytes.saturating_add(sum)),
            work_s: graph.tasks().iter().map(|task| task.work).sum(),
            critical_path_s: graph.critical_paths().into_iter().fold(0.0, f64::max),
            unplaceable: graph.tasks().iter().filter(|task| task.memory > memory_max).count(),
        })
    }
}
