//! The build supervisor: a user's own build command, with its tools' calls turned into thunks.
//!
//! [`supervisor`] starts the command with [`interposer`]s bound over its tools ([`binding`]) or in
//! its `PATH`, and a filter that reports what its processes do to files ([`watch`]). A [`pass`]
//! answers the interposers' calls and makes [`step`]s of them; what they leave is [`placeholder`]s
//! until it is there ([`materialise`]), and a program that uses one waits ([`watcher`]). As long as
//! a step may still fail, the build is a transaction ([`speculation`]): changes of files can be
//! undone ([`undo`]), and what is printed is held back ([`words`]). [`slots`] shares the cores.

mod answer;
mod binding;
mod caller;
mod child;
mod exits;
mod failures;
mod files;
pub(crate) mod guardian;
mod input;
pub(crate) mod inside;
pub(crate) mod interposer;
mod jobserver;
mod make;
mod materialise;
mod mounts;
mod pass;
pub(crate) mod placeholder;
mod processes;
mod real_tool;
mod recipes;
mod signal;
mod site;
mod slot_keeper;
mod slots;
mod speculation;
mod step;
mod streams;
mod supervisor;
mod undo;
mod watch;
mod watcher;
mod wire;
pub(crate) mod words;

pub(crate) use binding::is_possible as can_bind;
pub(crate) use pass::Mode;
pub(crate) use signal::{end_by, outlive_file_limit};
pub(crate) use supervisor::{BuildOptions, check_limits, run, run_plain};
pub(crate) use watch::can_listen as can_watch_opens;
pub(crate) use watch::usher;
