//! One file per command.

mod bring;
pub(crate) mod build;
pub(crate) mod cat;
pub(crate) mod completions;
pub(crate) mod config;
mod detach;
pub(crate) mod doctor;
pub(crate) mod find;
pub(crate) mod force;
pub(crate) mod gc;
pub(crate) mod get;
pub(crate) mod graph;
pub(crate) mod init;
pub(crate) mod invite;
pub(crate) mod join;
pub(crate) mod leave;
pub(crate) mod log;
pub(crate) mod ls;
pub(crate) mod pause;
pub(crate) mod peers;
pub(crate) mod put;
pub(crate) mod revoke;
pub(crate) mod run;
pub(crate) mod service;
pub(crate) mod sim;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod store;
pub(crate) mod thunk;
pub(crate) mod tickets;

use std::fmt::Display;
use std::io::{self, Write};

use mesh_node::api::{NodeStatus, Reply, Request, ask};
use mesh_protocol::peer::PeerId;

use mesh_protocol::wire::records::RecordKey;

use crate::error::CliError;
use crate::{exit, home};

/// Asks the node of this home; an error if none runs, or if it says no.
pub(crate) fn ask_node(request: &Request) -> Result<Reply, CliError> {
    try_node(request)?.ok_or_else(nobody)
}

/// There is nobody to be asked.
pub(crate) fn nobody() -> CliError {
    CliError::new(exit::UNAVAILABLE, "no node of this home runs").hint("start it by mesh join")
}

/// Asks the node of this home; `None` if none runs.
pub(crate) fn try_node(request: &Request) -> Result<Option<Reply>, CliError> {
    match ask(&home::directory()?, request)? {
        Some(Reply::Failed(reason)) => Err(CliError::new(exit::FOUND_WRONG, reason)),
        reply => Ok(reply),
    }
}

/// How the node of this home stands; `None` if none runs.
pub(crate) fn node_status() -> Result<Option<NodeStatus>, CliError> {
    match try_node(&Request::Status)? {
        Some(Reply::Status(status)) => Ok(Some(*status)),
        Some(_) => Err(CliError::new(exit::INTERNAL, "unexpected answer")),
        None => Ok(None),
    }
}

/// As much of a peer's id as people compare.
pub(crate) fn short(peer: PeerId) -> String {
    peer.to_string().chars().take(16).collect()
}

/// Has the node of this home bring something; false if none runs.
pub(crate) fn bring_by_node(key: RecordKey) -> Result<bool, CliError> {
    match ask(&home::directory()?, &Request::Bring(key))? {
        Some(Reply::Failed(reason)) => Err(CliError::new(exit::NOT_FOUND, reason)),
        reply => Ok(reply.is_some()),
    }
}

/// Prints one line of data.
pub(crate) fn print_line(line: impl Display) -> Result<(), CliError> {
    print_bytes(format!("{line}\n").as_bytes())
}

/// Writes data to standard output.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    // What stays in the buffer is written at the end of the process, where no error shows.
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
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
