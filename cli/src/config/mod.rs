//! This machine's settings: a file, the environment and flags, each over what comes before it.
//!
//! ```text
//!   config.toml ──▶ Config (checked, with lines) ─┐
//!   environment ──────────────────────────────────┼──▶ JoinSettings, BuildSettings, …
//!   flags ────────────────────────────────────────┘    each with its origin
//! ```
//!
//! Non-goals: settings that belong to one call (a ticket, a target), and secrets.

mod effective;
mod file;
mod setting;

pub(crate) use effective::{BuildFlags, BuildSettings, JoinSettings, log_filter, name, quota};
pub(crate) use file::Config;
pub(crate) use setting::{Origin, Row, Setting};
