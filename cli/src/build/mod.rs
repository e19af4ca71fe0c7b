//! The build supervisor: a user's own build command, with its tools' calls turned into thunks.
//!
//! [`supervisor`] starts the command with [`interposer`]s bound over its tools ([`binding`]) or in
//! its `PATH`, and a filter that reports opens and executions ([`notify`]). A [`pass`] answers the
//! interposers' calls and makes [`step`]s of them; what they leave is [`placeholder`]s until it is
//! there ([`materialise`]), and a program that opens one waits ([`force_on_use`]). [`slots`] shares
//! the cores.

mod answer;
mod binding;
mod caller;
mod child;
mod exits;
mod failures;
mod files;
mod force_on_use;
pub(crate) mod guardian;
pub(crate) mod inside;
pub(crate) mod interposer;
mod jobserver;
mod journal;
mod make;
mod materialise;
mod mounts;
mod notify;
mod pass;
pub(crate) mod placeholder;
mod real_tool;
mod renew;
mod site;
mod slot_keeper;
mod slots;
mod step;
mod streams;
mod supervisor;
mod terminal;
mod wire;

pub(crate) use binding::is_possible as can_bind;
pub(crate) use notify::can_listen as can_watch_opens;
pub(crate) use pass::Mode;
pub(crate) use supervisor::{BuildOptions, run, run_plain};
