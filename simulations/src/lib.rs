//! The simulator.

pub mod config;
pub mod experiment;
pub mod kernel;
pub mod limits;
pub mod network;
pub mod platform;
pub mod policy;
pub mod run;
pub mod workload;
