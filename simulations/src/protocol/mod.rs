//! The protocol of the real mesh in simulated time: the very machines of [`mesh_protocol::sched`] that
//! nodes run, on simulated hosts.
//!
//! Each host has the machines of a worker, and each user's host those of a requester as well. What they
//! want said travels: offers by gossip, everything else on claim streams, in order and without loss. A
//! worker fetches what it lacks from the requester, over the network as if it were alone, waits for a
//! core, and executes; a receipt counts when its outputs have come to the requester.
//!
//! Hosts may lie, and are found out as far as the node finds them out (`liars`).
//!
//! Left out: admission, records, transfer between workers (a lease names no other sources), results
//! that are checked twice, and time that the machines themselves take. Fetches of one worker do not
//! share its link ([`crate::network::Model::Constant`]).
//!
//! Gossip: a message is at every host after one to `log(hosts) / log(GOSSIP_DEGREE)` hops, each as
//! long as `control` and a little more; it costs each host as many messages as its degree.

mod books;
mod liars;
mod node;
mod world;

use mesh_protocol::sched::policy::{CriticalPath, Fifo, Lifo, Placement, Shuffled};
pub use mesh_protocol::sched::speculation::SpeculationName;

use crate::kernel::{Draws, Purpose};
use crate::run::{Outcome, RunError, Setup};

/// How many others a host passes a gossip message on to (gossipsub's degree D).
pub const GOSSIP_DEGREE: u64 = 6;

/// Which of its ready tasks a requester leases next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LocalPolicy {
    /// In the order in which they became ready.
    Fifo,
    /// The last one first.
    Lifo,
    /// Any order.
    Random,
    /// What holds up most first, then what the worker has most of: the node's default.
    CriticalPath,
}

impl LocalPolicy {
    /// The node's own.
    pub fn make(self, seed: u64) -> Box<dyn Placement> {
        match self {
            Self::Fifo => Box::new(Fifo),
            Self::Lifo => Box::new(Lifo),
            Self::Random => {
                Box::new(Shuffled::new(Draws::new(seed, Purpose::Policy, 0).next_u64()))
            }
            Self::CriticalPath => Box::new(CriticalPath),
        }
    }
}

/// The policies of all requesters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policies {
    /// What is leased next.
    pub placement: LocalPolicy,
    /// What is leased twice.
    pub speculation: SpeculationName,
}

/// Runs it. Of the setup, `network`, `data`, `estimates` and `ahead` are not used: the machines have
/// their own ways.
pub fn run(setup: Setup<'_>, policies: Policies) -> Result<Outcome, RunError> {
    world::World::new(setup, policies)?.play()
}
