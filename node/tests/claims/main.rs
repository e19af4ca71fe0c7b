//! Requesters and workers of one process, over a network in memory, with real stores and engines
//! that only pretend. Time is virtual: what waits for seconds passes at once.
#![allow(missing_docs, clippy::unwrap_used)]

mod faults;
mod hostile;
mod memo;
mod shares;
mod world;
