//! `mesh sim` as it is typed.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Subcommand, Debug)]
pub(crate) enum SimCommand {
    /// Run a scenario under some seeds and print means with their 95 % confidence
    Run(SimRunArgs),
    /// Say what a build that was recorded would have taken on other machines
    ///
    /// Takes the file that mesh build --trace wrote. The machine that recorded it is there with its
    /// cores and all sources, and so are others like it that begin with nothing. Links are shared
    /// (fidelity = "flow"), and nobody knows run times beforehand. --set changes any of it, as in a
    /// scenario: platform.hosts.0 is that machine, platform.hosts.1 the others.
    Replay(SimReplayArgs),
    /// Say what nodes take of a machine that they share, as a scenario has it
    ///
    /// Takes the file that mesh force --trace wrote of thunks that do nothing, on a mesh whose nodes are all on
    /// one machine: how fast those follow each other is up to the machine alone.
    Calibrate(SimCalibrateArgs),
    /// Run a scenario over a grid of settings, on all cores; a stopped sweep goes on where it was
    ///
    /// Prints the path of the table: a row per combination and seed.
    Sweep(SimSweepArgs),
    /// Compare two scenarios under the same seeds, and say in a sentence whether they differ
    Compare(SimCompareArgs),
    /// Check a scenario without running it, and say what it amounts to
    ///
    /// Builds the workload of the first seed. Finds what is misspelt, out of range or missing, and
    /// tasks that fit no host.
    Validate(SimValidateArgs),
}

#[derive(Args, Debug)]
pub(crate) struct SimRunArgs {
    /// The scenario, a TOML file
    pub(crate) scenario: PathBuf,
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// Write there report.html, summary.csv (a row per seed), and of the first seed tasks.csv and
    /// trace.json (for Perfetto)
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// As one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct SimReplayArgs {
    /// The recording: what mesh build --trace wrote
    pub(crate) trace: PathBuf,
    /// Other machines that help
    #[arg(long, value_name = "N", default_value_t = 4,
        value_parser = clap::value_parser!(u64).range(0..1_000_000))]
    pub(crate) hosts: u64,
    /// Of each machine's link, in each direction
    #[arg(long, value_name = "RATE", default_value = "1 Gbit/s")]
    pub(crate) bandwidth: String,
    /// Of each machine's link; a lease takes as long
    #[arg(long, value_name = "TIME", default_value = "1 ms")]
    pub(crate) latency: String,
    /// Who runs what: a policy of the simulator
    #[arg(long, value_name = "NAME", default_value = "critical-path")]
    pub(crate) policy: String,
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// Write there report.html, summary.csv (a row per seed), and of the first seed tasks.csv and
    /// trace.json (for Perfetto)
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// As one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct SimCalibrateArgs {
    /// The recording: what mesh force --trace wrote
    pub(crate) trace: PathBuf,
    /// Cores of the machine (default: as the recording says)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) cores: Option<u32>,
    /// CPU time of the user's command for each thunk, in milliseconds, if it is known
    #[arg(long, value_name = "MS", default_value_t = 0.0)]
    pub(crate) submit: f64,
    /// CPU time of the requester's node for each thunk, in milliseconds, if it is known
    #[arg(long, value_name = "MS", default_value_t = 0.0)]
    pub(crate) lease: f64,
}

#[derive(Args, Debug)]
pub(crate) struct SimSweepArgs {
    /// The scenario, a TOML file
    pub(crate) scenario: PathBuf,
    /// A key of the scenario and the values it takes; with several, all combinations
    #[arg(long, value_name = "KEY=VALUE,VALUE…", required = true)]
    pub(crate) over: Vec<String>,
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// Where summary.csv, report.html and what is needed to go on are kept
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct SimCompareArgs {
    /// The first scenario, a TOML file
    pub(crate) first: PathBuf,
    /// The second; the same file again makes sense with --set-a and --set-b
    pub(crate) second: PathBuf,
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// A setting of the first only
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set_a: Vec<String>,
    /// A setting of the second only
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set_b: Vec<String>,
    /// As one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct SimValidateArgs {
    /// The scenario, a TOML file
    pub(crate) scenario: PathBuf,
    /// Set a key of the scenario, such as policy.name=heft or platform.hosts.0.count=64
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// As one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Settings {
    /// Set a key of the scenario, such as policy.name=heft or platform.hosts.0.count=64
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// How many seeds, from 1 on (default: as the scenario says)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) seeds: Option<u32>,
}
