//! Machines on which several hosts run, as when a whole mesh is tried on one.

use crate::kernel::Span;

/// Cores that all hosts on it share, for what nodes do beside running programs.
///
/// Programs take what their task says, however many of them run: what is shared is the time of the
/// nodes. A program that computes would need cores of its own.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// How many cores.
    pub cores: u32,
    /// What nodes do with them.
    pub costs: Costs,
}

/// CPU time of nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Costs {
    /// Of a user's command for each task: half before it is ready, half when its result is there.
    pub submit: Span,
    /// Of a requester's node for each task: half when it is leased, half when its receipt comes.
    pub lease: Span,
    /// Of a host for each task that it runs: half to make the sandbox, half to take it down and store
    /// what was left.
    pub sandbox: Span,
    /// Of a node for each message that it says or hears, gossip included.
    pub message: Span,
}
