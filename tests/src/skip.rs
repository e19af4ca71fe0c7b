//! Tests that cannot do their work here: said, and counted.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write;

/// The file that `tests/run` counts and prints in the end, one line for each skipped test.
const LIST_VARIABLE: &str = "MESH_TESTS_SKIPPED";

/// Says that the running test is skipped because this machine cannot do what it needs.
pub fn unable(reason: impl Display) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let line = format!("skipped: {test}: {reason}\n");
    eprint!("{line}");
    let Some(list) = std::env::var_os(LIST_VARIABLE) else { return };
    let mut list = OpenOptions::new().append(true).create(true).open(list).expect("a list opens");
    list.write_all(line.as_bytes()).expect("a line is appended");
}

/// Says that the running test is skipped because something is not installed or not fetched.
///
/// # Panics
/// In CI (`CI=true`), where everything has to be there.
#[track_caller]
pub fn missing(reason: impl Display) {
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "missing in CI: {reason}");
    unable(reason);
}
