//! One file per command.

mod bring;
pub(crate) mod build;
pub(crate) mod cat;
pub(crate) mod completions;
pub(crate) mod doctor;
pub(crate) mod force;
pub(crate) mod gc;
pub(crate) mod get;
pub(crate) mod graph;
pub(crate) mod log;
pub(crate) mod ls;
pub(crate) mod put;
pub(crate) mod run;
pub(crate) mod sim;
pub(crate) mod store;
pub(crate) mod thunk;

use std::fmt::Display;
use std::io::{self, Write};

use crate::error::CliError;

/// Prints one line of data.
pub(crate) fn print_line(line: impl Display) -> Result<(), CliError> {
    print_bytes(format!("{line}\n").as_bytes())
}

/// Writes data to standard output.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<(), CliError> {
    match io::stdout().lock().write_all(bytes) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(CliError::reader_gone()),
        other => other.map_err(CliError::io("standard output")),
    }
}

/// `1.5 GiB` and the like.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut amount = bytes as f64;
    let mut unit = 0;
    while amount >= 1024.0 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{amount:.1} {}", UNITS[unit]) }
}
