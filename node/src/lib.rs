//! A node: the part of `mesh` that has a machine under it.
//!
//! What is here so far runs thunks on this machine: [`driver`] carries out what the force machine
//! wants, [`exec`] has the engines that run thunks, [`doctor`] says what this machine allows them.

pub mod doctor;
pub mod driver;
pub mod exec;
mod frame;
pub mod net;
pub mod transfer;
