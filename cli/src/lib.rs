//! The parts of the `mesh` command.

pub mod frontend;
