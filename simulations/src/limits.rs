//! Every bound of a scenario, with its reason.

/// The most hosts: with a timer and some running tasks each they stay below what the event queue
/// holds.
pub const HOSTS_MAX: u64 = 1_000_000;
/// The most cores of one host.
pub const CORES_MAX: u64 = 4_096;
/// The most tasks of all jobs together: their records stay below 4 GB.
pub const TASKS_MAX: usize = 16_000_000;
/// The most objects, and the most uses of objects by tasks.
pub const USES_MAX: usize = 64_000_000;
/// The largest scenario file.
pub const SCENARIO_BYTES_MAX: u64 = 1 << 20;
/// The largest workload or churn file.
pub const INPUT_BYTES_MAX: u64 = 1 << 30;
/// The largest trace of a build: with some 800 bytes a run, 150,000 runs.
pub const TRACE_BYTES_MAX: u64 = 128 << 20;
/// The most runs of a trace.
pub const TRACE_RUNS_MAX: usize = 1_000_000;
/// The most objects that are looked at while a trace is read, each as often as a run reads it: seconds.
pub const TRACE_STEPS_MAX: u64 = 500_000_000;
/// The most combinations of one sweep: each holds an open scenario.
pub const CELLS_MAX: usize = 10_000;
/// The longest line that an external policy is told: a million new tasks of three inputs each.
pub const MESSAGE_BYTES_MAX: usize = 1 << 28;
/// The longest line that an external policy answers: half a million placements.
pub const ANSWER_BYTES_MAX: usize = 1 << 24;
/// The most words of the command of an external policy.
pub const WORDS_MAX: usize = 1_000;
/// The most leases in advance of one host: each costs a bit per host.
pub const AHEAD_MAX: u64 = 64;
