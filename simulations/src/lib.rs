//! The simulator.

pub mod config;
pub mod kernel;
pub mod limits;
pub mod network;
pub mod platform;
pub mod workload;
