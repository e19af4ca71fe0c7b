//! The machines that schedule: pure, driven alike by the node and by the simulator.
//!
//! Each has the same shape: `handle(now, input, &mut Vec<Effect>)`, `next_deadline()` and
//! `handle_timeout(now, &mut Vec<Effect>)`. An effect is a wish as data; the driver carries it out and
//! answers with another input. A machine that has no deadlines takes no time; none reads a clock.
//!
//! ```text
//!             requester                                             worker
//!  force --Start--> lease --unplaced--> offer  ~~ gossip ~~>  claim (its board of offers)
//!    ^                | ^ <------- Open, Started, Receipt ------- | ^
//!    `---- Ended -----' `-------- Lease, Cancel, Dry -----------> ' `- run, fetch
//! ```
//!
//! A node is both ends at once: [`member`] is the machine of which it consists, and splits its cores between
//! its own work and others'.

pub mod audit;
pub mod claim;
pub mod force;
pub mod kinds;
pub mod lease;
pub mod level;
pub mod member;
pub mod named;
pub mod offer;
pub mod policy;
pub mod score;
pub mod speculation;

#[cfg(test)]
mod force_tests;
