//! `--report FILE`: what a build came to, for programs.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use mesh_protocol::peer::PeerId;
use serde::Serialize;

use super::Summary;
use super::summary::{LocalCall, Retry};
use crate::commands;
use crate::error::CliError;
use crate::exit;

/// One build in numbers.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Executed, reused and failed together.
    thunks: u64,
    executed: u64,
    reused: u64,
    failed: u64,
    /// Of those reused, what this machine did not know and another member did, by who ran it.
    learned: Vec<Origin>,
    /// Runs that failed and were tried again; `retries` holds the first of their reasons.
    retried: u64,
    retries: Vec<Retry>,
    /// Runs of which a second copy was begun because they were late.
    speculated: u64,
    /// Results of others that were computed once more here.
    checked: u64,
    /// How long copies ran in vain.
    wasted_ms: u64,
    /// How far the build ran ahead of its steps.
    ahead: Ahead,
    /// What ran in the mesh; empty without one.
    peers: Vec<Peer>,
    /// All local calls; `local` holds the first of them.
    local_count: u64,
    local: Vec<LocalCall>,
    wall_ms: u64,
    /// User and system time of the thunks that ran.
    cpu_ms: u64,
    /// Time spent on planning.
    infer_ms: u64,
    /// Bytes of the inputs that thunks named.
    bytes_in: u64,
    /// Bytes of the outputs that were written.
    bytes_out: u64,
}

/// Calls that were answered before their tools had run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Ahead {
    /// One of them failed: the build was taken back to its start, and ran again eagerly.
    pub(crate) taken_back: bool,
    /// Why later calls had to wait for their tools.
    pub(crate) ended_because: Option<String>,
}

/// Thunks of a build that a member had run before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Origin {
    /// Its id; null if the result does not say.
    peer: Option<String>,
    count: u64,
}

impl Origin {
    fn new((peer, count): (&Option<PeerId>, &u64)) -> Self {
        Self { peer: peer.map(|peer| peer.to_string()), count: *count }
    }
}

/// What one member ran of a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Peer {
    /// Its id; null is this machine's own node.
    pub(crate) peer: Option<String>,
    /// What people call it.
    pub(crate) name: Option<String>,
    pub(crate) executed: u64,
    /// From start to end of each run, together.
    pub(crate) busy_ms: u64,
    /// Objects' bytes that this machine sent it while the build ran.
    pub(crate) bytes_in: u64,
    /// Objects' bytes that came from it meanwhile.
    pub(crate) bytes_out: u64,
}

impl Report {
    pub(crate) fn new(
        summary: &Summary,
        peers: Vec<Peer>,
        infer: Duration,
        (bytes_in, bytes_out): (u64, u64),
        ahead: Ahead,
    ) -> Self {
        Self {
            thunks: summary.thunks,
            executed: summary.executed,
            reused: summary.reused,
            failed: summary.failed,
            learned: summary.learned.iter().map(Origin::new).collect(),
            retried: summary.retried,
            retries: summary.retries.clone(),
            speculated: summary.speculated,
            checked: summary.checked,
            wasted_ms: summary.wasted_us / 1000,
            ahead,
            peers,
            local_count: summary.local,
            local: summary.calls.clone(),
            wall_ms: milliseconds(summary.elapsed),
            cpu_ms: summary.cpu_us / 1000,
            infer_ms: milliseconds(infer),
            bytes_in,
            bytes_out,
        }
    }

    /// Writes it as one line of JSON; `-` is standard output.
    pub(crate) fn write(&self, path: &Path) -> Result<(), CliError> {
        let json = serde_json::to_vec(self);
        write_file(path, json.map_err(|error| CliError::new(exit::INTERNAL, error))?)
    }
}

/// Writes a line; `-` is standard output. Whoever reads the file sees the old one or the new one,
/// never a part.
pub(super) fn write_file(path: &Path, mut json: Vec<u8>) -> Result<(), CliError> {
    json.push(b'\n');
    if path == Path::new("-") {
        return commands::print_bytes(&json);
    }
    // A link stays, and what it leads to is replaced.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    // A pipe or a device must be written to, not replaced.
    let special = fs::metadata(&target).is_ok_and(|found| !found.is_file());
    let written = if special { fs::write(&target, &json) } else { replace(&target, &json) };
    written.map_err(CliError::io(path))
}

fn replace(target: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", std::process::id()));
    let beside = target.with_file_name(name);
    let written = fs::File::create(&beside)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| fs::rename(&beside, target));
    if written.is_err() {
        // It may not have been made at all; the first error is the one to tell.
        let _ = fs::remove_file(&beside);
    }
    written
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
