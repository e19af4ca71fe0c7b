//! What nodes tell each other: one file per protocol, each with its goals and its limits.
//!
//! Everything is bounded by its format before it is decoded, decoded by [`crate::codec`] (which
//! takes only what an encoder writes) and checked against its own rules before anybody sees it.

pub mod admission;
pub mod claim;
pub mod offer;
pub mod records;
pub mod roster;
pub mod transfer;

#[cfg(test)]
mod fuzz_tests;
#[cfg(test)]
mod tests;
