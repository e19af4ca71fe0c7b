//! A node: the part of `mesh` that has a machine under it.
//!
//! [`driver`] carries out what a build's force machine wants, with an engine of [`exec`] or with the
//! node's [`claims`], which lease to other members and run for them. [`transfer`] moves objects
//! between members, [`records`] says who has them and what came of which thunk, [`net`] connects
//! them, [`node`] puts all that together, [`api`] answers the machine's owner, [`metrics`] monitors,
//! [`doctor`] says what this machine allows, [`owner`] what its owner does with it. [`colour`] takes colours out of what programs wrote.

mod accept;
pub mod api;
pub mod claims;
pub mod colour;
mod deadline;
pub mod doctor;
pub mod driver;
pub mod exec;
mod frame;
mod in_place;
pub mod metrics;
pub mod net;
pub mod node;
pub mod owner;
pub mod records;
mod renewal;
pub mod transfer;
mod verdict;
