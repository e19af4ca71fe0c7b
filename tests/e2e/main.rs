//! End to end: the `mesh` binary as its users start it.
#![allow(clippy::unwrap_used, missing_docs)] // a failed step fails the test

mod absolute;
mod bench;
mod clock;
mod corner;
mod crash;
mod disk;
mod examples;
mod force;
mod generators;
mod infer;
mod membership;
mod parallel;
mod real;
mod run;
mod sharing;
mod sim;
mod store;
mod terminal;
