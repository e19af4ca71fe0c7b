//! What runs came to: on the terminal, as JSON, as files.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::Path;

use mesh_simulations::experiment::{
    Scenario, SimulationError, mean_interval, write_summaries, write_tasks,
};
use mesh_simulations::run::Summary;
use serde_json::{Map, Value, json};

use super::{figure, finite};
use crate::commands::print_line;
use crate::error::CliError;

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
pub(super) fn write(directory: &Path, scenario: &Scenario, runs: &Runs) -> Result<(), CliError> {
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
    eprintln!("wrote {}", directory.display());
    Ok(())
}
