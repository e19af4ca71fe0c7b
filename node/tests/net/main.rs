//! Real networks over loopback: who joins, who talks, and who is sent away.

#![allow(clippy::unwrap_used)]

mod refuse;
mod routing;
mod talk;
mod world;
