//! The protocol of the real mesh in simulated time: the very machines of [`mesh_protocol::sched`] that
//! nodes run, on simulated hosts.
//!
//! Each host has the machines of a worker, and each user's host those of a requester as well. What they
//! want said travels: offers by gossip, everything else on claim streams, in order and without loss. A
//! worker fetches what it lacks from the requester, over the network as if it were alone, waits for a
//! core, and executes; a receipt counts when its outputs have come to the requester.
//!
//! Hosts may lie, and are found out as far as the node finds them out (`liars`, `checks`).
//!
//! Left out: admission, records, transfer between workers (a lease names no other sources), and time that
//! the machines themselves take, unless hosts share a computer whose time it is (`machines`). Fetches of one
//! worker do not share its link ([`crate::network::Model::Constant`]).
//!
//! How offers travel, and to whom, is an axis ([`ClaimProtocol`]); what comes of them is up to the machines.
//!
//! Gossip: a message is at every host after one to `log(hosts) / log(GOSSIP_DEGREE)` hops, each as
//! long as `control` and a little more; it costs each host as many messages as its degree.

mod books;
mod checks;
mod liars;
mod machines;
mod node;
mod offers;
mod runs;
mod streams;
mod world;

use mesh_protocol::sched::named::PolicyNames;

pub use self::offers::{ClaimProtocol, GOSSIP_DEGREE};

use crate::run::{Outcome, RunError, Setup};

/// What all requesters and workers go by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policies {
    /// What is leased next, and what is leased twice.
    pub names: PolicyNames,
    /// How work and slots find each other.
    pub claims: ClaimProtocol,
    /// Of results of proven workers, how many in a thousand a requester runs again; 0: it checks nothing.
    pub check_permille: u32,
}

/// Runs it. Of the setup, `network`, `data`, `estimates` and `ahead` are not used: the machines have
/// their own ways.
pub fn run(setup: Setup<'_>, policies: Policies) -> Result<Outcome, RunError> {
    world::World::new(setup, policies)?.play()
}
