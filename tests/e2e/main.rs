//! End to end: the `mesh` binary as its users start it.
#![allow(clippy::unwrap_used, missing_docs)] // a failed step fails the test

mod absolute;
mod alike;
mod bench;
mod chaos;
mod clock;
mod config;
mod corner;
mod crash;
mod disk;
mod examples;
mod faults;
mod force;
mod generators;
mod hostile;
mod infer;
mod interrupted;
mod leasing;
mod logging;
mod membership;
mod memo;
mod metrics;
mod network;
mod parallel;
mod pipes;
mod random_builds;
mod real;
mod requester;
mod run;
mod service;
mod sharing;
mod sim;
mod store;
mod terminal;
mod trace;
mod versions;
