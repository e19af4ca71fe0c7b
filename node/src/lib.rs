//! A node: the part of `mesh` that has a machine under it.
//!
//! What is here so far runs thunks on this machine: [`exec`] has the engines, [`doctor`] says what
//! this machine allows them to do.

pub mod doctor;
pub mod exec;
