//! The engines: ways to run a thunk.

pub mod sandbox;
