//! The machines that schedule: pure, driven alike by the node and by the simulator.
//!
//! Each has the same shape: `handle(input, &mut Vec<Effect>)`. An effect is a wish as data; the
//! driver carries it out and answers with another input. A machine that has deadlines takes the time
//! as an argument; none reads a clock.

pub mod force;

#[cfg(test)]
mod force_tests;
