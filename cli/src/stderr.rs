//! Standard error, whose reader may be gone (`2>&1 | head`).
//!
//! The macros of the standard library panic then. What is written here is for people: without a
//! reader it is lost, and the command goes on and ends as it would have.

use std::fmt::Display;
use std::io::{self, Write};

use crate::error::CliError;

/// Writes one line, at once, so that lines of others do not come in between.
pub(crate) fn write_line(line: impl Display) {
    write(format!("{line}\n"));
}

/// Writes text as it is.
pub(crate) fn write(text: impl Display) {
    let _ = io::stderr().write_all(text.to_string().as_bytes());
}

/// Writes what a program wrote. It is no error if nobody reads it.
pub(crate) fn write_bytes(bytes: &[u8]) -> Result<(), CliError> {
    match io::stderr().write_all(bytes) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CliError::io("standard error")(error))
        }
        _ => Ok(()),
    }
}
