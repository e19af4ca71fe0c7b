//! The discrete-event kernel: virtual time, the queue of events, randomness.
//!
//! Everything here is a function of its inputs: no clock, no thread, no global state, and the
//! logarithms and powers of `libm` rather than the machine's, so that a seed gives the same bytes
//! everywhere.

mod distribution;
mod heap;
mod processors;
mod queue;
mod random;
mod time;

pub use distribution::Distribution;
pub use processors::Processors;
pub use queue::{EventId, EventQueue};
pub use random::{Draws, Purpose};
pub use time::{SimTime, Span};
