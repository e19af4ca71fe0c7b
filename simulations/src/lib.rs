//! The simulator.

pub mod kernel;
pub mod limits;
