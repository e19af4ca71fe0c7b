//! End to end: the `mesh` binary as its users start it.
#![allow(clippy::unwrap_used, missing_docs)] // a failed step fails the test

mod force;
mod run;
mod store;
mod terminal;
