//! Grids of settings, resumable.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::report::write_summaries;
use super::run_seeds;
use super::scenario::{Scenario, SimulationError};
use crate::config::{ConfigError, Document};
use crate::limits::CELLS_MAX;

/// Keys with the values that each takes.
#[derive(Clone, Debug, Default)]
pub struct Grid {
    axes: Vec<(String, Vec<String>)>,
}

/// A grid over a scenario.
#[derive(Debug)]
pub struct Sweep {
    names: Vec<String>,
    cells: Vec<Cell>,
    seeds: Vec<u64>,
}

/// One combination of values.
#[derive(Debug)]
struct Cell {
    /// A value for each axis.
    values: Vec<String>,
    scenario: Scenario,
    /// What its results depend on, in one line.
    identity: String,
}

/// What a sweep did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Cells that were run now.
    pub run: usize,
    /// Cells whose results were there.
    pub found: usize,
}

/// Why a sweep stopped.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// A simulation failed.
    #[error("{cell}: {source}")]
    Simulation {
        /// The settings.
        cell: String,
        /// Why.
        source: SimulationError,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Grid {
    /// Adds `key=value,value,…`.
    pub fn add(&mut self, axis: &str) -> Result<(), ConfigError> {
        let wrong = |problem| ConfigError::file(format!("--over {axis}"), problem);
        let (key, values) = axis.split_once('=').ok_or_else(|| wrong("no = in it"))?;
        let values: Vec<String> = values.split(',').map(|value| value.trim().to_owned()).collect();
        if values.iter().any(String::is_empty) {
            return Err(wrong("an empty value"));
        }
        self.axes.push((key.trim().to_owned(), values));
        Ok(())
    }

    /// All combinations; the last axis varies fastest.
    fn combinations(&self) -> Vec<Vec<String>> {
        let mut all = vec![Vec::new()];
        for (_, values) in &self.axes {
            let extended = all.iter().flat_map(|head: &Vec<String>| {
                values.iter().map(|value| head.iter().chain([value]).cloned().collect())
            });
            all = extended.collect();
        }
        all
    }

    fn size(&self) -> usize {
        self.axes.iter().fold(1, |product, (_, values)| product.saturating_mul(values.len()))
    }
}

impl Sweep {
    /// Reads the scenario under every combination, so that mistakes show before anything runs.
    pub fn new(document: &Document, grid: &Grid, seeds: &[u64]) -> Result<Self, ConfigError> {
        let size = grid.size();
        if size > CELLS_MAX {
            let problem = format!("{size} combinations; at most {CELLS_MAX}");
            return Err(ConfigError::file("--over", problem));
        }
        let cell = |values: Vec<String>| {
            let mut document = document.clone();
            for ((key, _), value) in grid.axes.iter().zip(&values) {
                document.set(&format!("{key}={value}"))?;
            }
            let identity = format!(
                "# mesh {} scenario {:016x} seeds {seeds:?}",
                env!("CARGO_PKG_VERSION"),
                document.fingerprint()
            );
            Ok(Cell { scenario: Scenario::read(&document)?, values, identity })
        };
        let cells = grid.combinations().into_iter().map(cell).collect::<Result<_, _>>()?;
        let names = grid.axes.iter().map(|(key, _)| key.clone()).collect();
        Ok(Self { names, cells, seeds: seeds.to_vec() })
    }

    /// How many combinations there are.
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// Never true: without axes there is one combination.
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// Runs every cell and writes `summary.csv`. Each cell leaves a file under `cells/`; a sweep that
    /// was stopped goes on where it was. The files tell the scenario, its settings and the seeds, not
    /// the contents of other files that the scenario names, nor changes of the program: remove the
    /// directory after such.
    pub fn run(&self, directory: &Path) -> Result<Progress, SweepError> {
        let cells = directory.join("cells");
        fs::create_dir_all(&cells).map_err(at(&cells))?;
        let done: Vec<Result<(String, bool), SweepError>> = self
            .cells
            .par_iter()
            .enumerate()
            .map(|(n, cell)| self.run_cell(cell, &cells.join(format!("{n:05}.csv"))))
            .collect();
        let mut summary = String::new();
        let mut progress = Progress { run: 0, found: 0 };
        for cell in done {
            let (rows, is_found) = cell?;
            *(if is_found { &mut progress.found } else { &mut progress.run }) += 1;
            // Every cell has the header; one is enough.
            let skip = if summary.is_empty() { 0 } else { rows.find('\n').map_or(0, |at| at + 1) };
            summary.push_str(&rows[skip..]);
        }
        write_whole(&directory.join("summary.csv"), &summary)?;
        Ok(progress)
    }

    /// The rows of a cell, and whether they were there.
    fn run_cell(&self, cell: &Cell, path: &Path) -> Result<(String, bool), SweepError> {
        let head = format!("{}\n", cell.identity);
        match fs::read_to_string(path) {
            Ok(text) if text.starts_with(&head) => {
                return Ok((text[head.len()..].to_owned(), true));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(at(path)(error)),
        }
        let summaries = run_seeds(&cell.scenario, &self.seeds).map_err(|source| {
            let settings = self.names.iter().zip(&cell.values);
            let settings: Vec<_> = settings.map(|(key, value)| format!("{key}={value}")).collect();
            SweepError::Simulation { cell: settings.join(" "), source }
        })?;
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let rows = summaries.iter().map(|(seed, s)| (cell.values.as_slice(), *seed, s));
        let mut text = Vec::new();
        write_summaries(&mut text, &names, rows).map_err(|e| at(path)(io::Error::other(e)))?;
        let text = String::from_utf8_lossy(&text).into_owned();
        write_whole(path, &format!("{head}{text}"))?;
        Ok((text, false))
    }
}

/// Replaces a file at once, so that an interrupted sweep leaves no half of one.
fn write_whole(path: &Path, text: &str) -> Result<(), SweepError> {
    let part = path.with_extension("part");
    fs::write(&part, text).map_err(at(&part))?;
    fs::rename(&part, path).map_err(at(path))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> SweepError {
    let path = path.to_owned();
    move |source| SweepError::Io { path, source }
}
