//! What `mesh` is about, without the machine it runs on: names, trees, thunks, their graph and its
//! reduction, and the machines that schedule them.
//!
//! Nothing here reads a clock, a file or a socket, starts a thread or draws a random number. What
//! decides is a pure state machine; what waits lives in the node that drives it, or in the
//! simulator that drives the very same code.
//!
//! The way of the data: a frontend makes a [`thunk::Thunk`] of a command; thunks that name each
//! other's outputs form a [`graph`]; [`sched::force`] reduces it, thunk by thunk, to values.
//!
//! Read [`name`] and [`thunk`] first.

pub mod codec;
pub mod graph;
pub mod limits;
pub mod name;
pub mod outboard;
pub mod owner;
pub mod path;
pub mod peer;
pub mod probe;
pub mod random;
pub mod records;
pub mod sched;
pub mod thunk;
pub mod time;
pub mod tree;
pub mod wire;
