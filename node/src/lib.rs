//! A node: the part of `mesh` that has a machine under it.
//!
//! What is here so far runs thunks on this machine: [`driver`] carries out what the force machine
//! wants, [`exec`] has the engines that run thunks, [`doctor`] says what this machine allows them;
//! [`net`] connects it with the other members of its mesh, [`api`] answers its owner.

pub mod api;
pub mod doctor;
pub mod driver;
pub mod exec;
pub mod net;
