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

pub use mesh_protocol::sched::named::PolicyNames;

use crate::run::{Outcome, RunError, Setup};

/// How many others a host passes a gossip message on to (gossipsub's degree D).
pub const GOSSIP_DEGREE: u64 = 6;

/// Runs it. Of the setup, `network`, `data`, `estimates` and `ahead` are not used: the machines have
/// their own ways.
pub fn run(setup: Setup<'_>, policies: PolicyNames) -> Result<Outcome, RunError> {
    world::World::new(setup, policies)?.play()
}
