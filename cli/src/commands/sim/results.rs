//! What runs came to: on the terminal, as JSON, as files.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter};
use std::path::Path;

use mesh_simulations::config::Document;
use mesh_simulations::experiment::{
    Scenario, SimulationError, mean_interval, write_summaries, write_tasks,
};
use mesh_simulations::report::{RunReport, SweepReport, write_trace};
use mesh_simulations::run::Summary;
use serde_json::{Map, Value, json};

use super::{figure, finite};
use crate::commands::print_line;
use crate::error::CliError;
use crate::stderr;

/// Runs with their seeds.
pub(super) type Runs = [(u64, Summary)];

/// The title, how many seeds, and each column.
pub(super) fn json(title: &str, runs: &Runs) -> Value {
    let columns = means(runs).into_iter().map(|(column, mean, half_width)| {
        (column.to_owned(), json!({ "mean": mean, "half_width": half_width }))
    });
    let columns: Map<String, Value> = columns.collect();
    json!({ "title": title, "seeds": runs.len(), "columns": columns })
}

/// A line for each column.
pub(super) fn print(runs: &Runs) -> Result<(), CliError> {
    for (column, mean, half_width) in means(runs) {
        match half_width {
            Some(half_width) => print_line(format_args!(
                "{column:<16} {:>14} ± {}",
                figure(mean),
                figure(half_width)
            ))?,
            None => print_line(format_args!("{column:<16} {:>14}", figure(mean)))?,
        }
    }
    Ok(())
}

/// Each column with its mean and, for several seeds, half the width of its interval.
fn means(runs: &Runs) -> Vec<(&'static str, f64, Option<f64>)> {
    let columns: Vec<_> = runs.iter().map(|(_, summary)| summary.columns()).collect();
    let names = columns.first().into_iter().flatten().enumerate();
    let mean = names.map(|(at, (name, _))| {
        let values: Vec<f64> = columns.iter().map(|row| row[at].1).collect();
        let interval = mean_interval(&values);
        (*name, interval.mean, finite(interval.half_width))
    });
    mean.collect()
}

/// Writes what `--out` promises.
pub(super) fn write(
    directory: &Path,
    document: &Document,
    scenario: &Scenario,
    runs: &Runs,
) -> Result<(), CliError> {
    fs::create_dir_all(directory).map_err(CliError::io(directory))?;
    let create = |name: &str| {
        let path = directory.join(name);
        let file = File::create(&path).map_err(CliError::io(&path))?;
        Ok::<_, CliError>((BufWriter::new(file), path))
    };
    let (file, path) = create("summary.csv")?;
    let rows = runs.iter().map(|(seed, summary)| (&[][..], *seed, summary));
    write_summaries(file, &[], rows).map_err(|error| CliError::io(&path)(error.into()))?;
    let Some((seed, _)) = runs.first() else { return Ok(()) };
    let graph = scenario.workload.build(*seed).map_err(SimulationError::from)?;
    let outcome = scenario.run(*seed)?;
    let (file, path) = create("tasks.csv")?;
    write_tasks(file, &graph, &outcome).map_err(|error| CliError::io(&path)(error.into()))?;
    let (file, path) = create("trace.json")?;
    let left_out = write_trace(file, scenario, *seed, (&graph, &outcome));
    let left_out = left_out.map_err(CliError::io(&path))?;
    if left_out > 0 {
        stderr::write_line(format_args!("{}: {left_out} tasks are left out of it", path.display()));
    }
    let path = directory.join("report.html");
    let (graph, outcome) = (&graph, &outcome);
    let report = RunReport { document, scenario, runs, graph, outcome };
    fs::write(&path, report.html()).map_err(CliError::io(&path))?;
    stderr::write_line(format_args!("wrote {}", directory.display()));
    Ok(())
}

/// Writes the report of a sweep beside its table.
pub(super) fn write_sweep(
    directory: &Path,
    table: &Path,
    document: &Document,
    scenario: &Scenario,
    axes: usize,
) -> Result<(), CliError> {
    let file = File::open(table).map_err(CliError::io(table))?;
    let report = SweepReport::read(BufReader::new(file), axes);
    let report = report.map_err(|error| CliError::io(table)(error.into()))?;
    let path = directory.join("report.html");
    fs::write(&path, report.html(document, scenario)).map_err(CliError::io(&path))
}
