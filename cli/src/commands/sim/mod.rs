//! `mesh sim`

mod replay;
mod results;

use std::fs;
use std::path::Path;

use mesh_simulations::config::{ConfigError, Document};
use mesh_simulations::experiment::{
    Calibration, Comparison, Difference, Grid, Inventory, Scenario, SimulationError, Sweep,
    SweepError, machine_toml, run_seeds,
};
use mesh_simulations::kernel::Span;

use super::print_line;
use crate::args::{
    Settings, SimCalibrateArgs, SimCommand, SimCompareArgs, SimRunArgs, SimSweepArgs,
    SimValidateArgs,
};
use crate::error::CliError;
use crate::{exit, stderr};

pub(crate) fn run(command: &SimCommand) -> Result<(), CliError> {
    match command {
        SimCommand::Run(args) => run_scenario(args),
        SimCommand::Replay(args) => replay::run(args),
        SimCommand::Calibrate(args) => calibrate(args),
        SimCommand::Sweep(args) => sweep(args),
        SimCommand::Compare(args) => compare(args),
        SimCommand::Validate(args) => validate(args),
    }
}

fn run_scenario(args: &SimRunArgs) -> Result<(), CliError> {
    let document = document(&args.scenario, &args.settings.set)?;
    let scenario = Scenario::read(&document)?;
    let seeds = seeds(&scenario, &args.settings);
    stderr::write_line(format_args!("{}: {} seeds", scenario.title, seeds.len()));
    let runs = run_seeds(&scenario, &seeds)?;
    if let Some(directory) = &args.out {
        results::write(directory, &document, &scenario, &runs)?;
    }
    if args.json {
        return print_line(results::json(&scenario.title, &runs));
    }
    results::print(&runs)
}

fn calibrate(args: &SimCalibrateArgs) -> Result<(), CliError> {
    // Says that a file is missing with the exit code for it.
    fs::metadata(&args.trace).map_err(CliError::io(&args.trace))?;
    let span = |ms: f64| Span::from_seconds(ms / 1e3);
    let (submit, lease) = (span(args.submit), span(args.lease));
    let machine = Calibration { cores: args.cores, submit, lease }.machine(&args.trace)?;
    print_line(machine_toml(&machine).trim_end())
}

fn sweep(args: &SimSweepArgs) -> Result<(), CliError> {
    let document = document(&args.scenario, &args.settings.set)?;
    let scenario = Scenario::read(&document)?;
    let seeds = seeds(&scenario, &args.settings);
    let mut grid = Grid::default();
    for axis in &args.over {
        grid.add(axis)?;
    }
    let sweep = Sweep::new(&document, &grid, &seeds)?;
    stderr::write_line(format_args!("{} combinations, {} seeds each", sweep.len(), seeds.len()));
    let progress = sweep.run(&args.out)?;
    stderr::write_line(format_args!("{} run now, {} were there", progress.run, progress.found));
    let table = args.out.join("summary.csv");
    results::write_sweep(&args.out, &table, &document, &scenario, args.over.len())?;
    print_line(table.display())
}

fn compare(args: &SimCompareArgs) -> Result<(), CliError> {
    let (first, seeds) = read(&args.first, &args.settings, &args.set_a)?;
    let (second, _) = read(&args.second, &args.settings, &args.set_b)?;
    let comparison = Comparison::new(&run_seeds(&first, &seeds)?, &run_seeds(&second, &seeds)?);
    let sentence = comparison.sentence("A", "B");
    if args.json {
        let differences: Vec<_> = comparison.differences.iter().map(difference_json).collect();
        return print_line(serde_json::json!({
            "pairs": comparison.pairs,
            "sentence": sentence,
            "differences": differences,
        }));
    }
    print_line(&sentence)?;
    if comparison.differences.is_empty() {
        return Ok(());
    }
    print_line(format_args!(
        "\n{:<16} {:>14} {:>14} {:>14} {:>12}",
        "", "A", "B", "B - A", "± 95 %"
    ))?;
    for Difference { column, first, second, difference } in &comparison.differences {
        let (mean, half_width) = (difference.mean, difference.half_width);
        print_line(format_args!(
            "{column:<16} {:>14} {:>14} {:>14} {:>12}",
            figure(*first),
            figure(*second),
            figure(mean),
            figure(half_width)
        ))?;
    }
    Ok(())
}

/// The seed of the workload that is looked at: the first that `run` would use.
const FIRST_SEED: u64 = 1;

fn validate(args: &SimValidateArgs) -> Result<(), CliError> {
    let scenario = Scenario::read(&document(&args.scenario, &args.set)?)?;
    let found = Inventory::new(&scenario, FIRST_SEED)?;
    if found.unplaceable > 0 {
        let problem = format!("{} tasks need more memory than any host has", found.unplaceable);
        return Err(ConfigError::file(args.scenario.display(), problem).into());
    }
    if args.json {
        return print_line(serde_json::json!({
            "title": scenario.title,
            "hosts": found.hosts,
            "cores": found.cores,
            "jobs": found.jobs,
            "tasks": found.tasks,
            "objects": found.objects,
            "bytes": found.bytes,
            "work_s": found.work_s,
            "critical_path_s": found.critical_path_s,
        }));
    }
    print_line(&scenario.title)?;
    print_line(format_args!("{} hosts, {} cores", found.hosts, found.cores))?;
    let Inventory { jobs, tasks, objects, bytes, .. } = found;
    print_line(format_args!("{jobs} jobs, {tasks} tasks, {objects} objects of {bytes} bytes"))?;
    print_line(format_args!(
        "{} s of work, longest chain {} s",
        figure(found.work_s),
        figure(found.critical_path_s)
    ))
}

fn difference_json(difference: &Difference) -> serde_json::Value {
    serde_json::json!({
        "column": difference.column,
        "first": difference.first,
        "second": difference.second,
        "difference": difference.difference.mean,
        "half_width": finite(difference.difference.half_width),
        "effect": finite(difference.effect()),
        "clear": difference.is_clear(),
    })
}

/// Five digits or more.
fn figure(number: f64) -> String {
    match number.abs() {
        size if size >= 10_000.0 => format!("{number:.0}"),
        size if size >= 10.0 => format!("{number:.3}"),
        _ => format!("{number:.5}"),
    }
}

/// JSON has no infinity.
fn finite(number: f64) -> Option<f64> {
    number.is_finite().then_some(number)
}

fn document(path: &Path, settings: &[String]) -> Result<Document, CliError> {
    // Says that a file is missing with the exit code for it.
    fs::metadata(path).map_err(CliError::io(path))?;
    let mut document = Document::read(path)?;
    for setting in settings {
        document.set(setting)?;
    }
    Ok(document)
}

fn read(
    path: &Path,
    settings: &Settings,
    own: &[String],
) -> Result<(Scenario, Vec<u64>), CliError> {
    let scenario = Scenario::read(&document(path, &[&settings.set[..], own].concat())?)?;
    let seeds = seeds(&scenario, settings);
    Ok((scenario, seeds))
}

fn seeds(scenario: &Scenario, settings: &Settings) -> Vec<u64> {
    (1..=u64::from(settings.seeds.unwrap_or(scenario.seeds))).collect()
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        Self::new(exit::DATA, error)
    }
}

impl From<SimulationError> for CliError {
    fn from(error: SimulationError) -> Self {
        let code = match error {
            SimulationError::TooLarge(_) => exit::DATA,
            SimulationError::Run(_) => exit::FOUND_WRONG,
        };
        Self::new(code, error)
    }
}

impl From<SweepError> for CliError {
    fn from(error: SweepError) -> Self {
        match error {
            SweepError::Io { path, source } => Self::io(path)(source),
            SweepError::Simulation { .. } => Self::new(exit::FOUND_WRONG, error),
        }
    }
}
