//! Frontends: from one call of a tool to one thunk.
//!
//! A frontend makes a thunk of a command line without running the tool: it reads the arguments,
//! follows the includes, adds the toolchain's own files, and says which files the tool will
//! leave. What it does not understand runs locally, with a reason; it never guesses.
//!
//! The way of a call: [`Frontends::plan`] finds the model of the tool ([`model`]), which parses
//! the arguments ([`options`], [`ldargs`]), collects the files that the tool may read in a
//! [`view::View`] (headers by [`scan`], the toolchain by [`closure`]), and lets [`layout`] turn
//! that into a thunk.
//!
//! A command that has no model is planned by [`Frontends::plan_command`] ([`command`]): its inputs
//! and outputs are given, and what it takes to start it is found ([`program`], [`runtime`]).
//!
//! Participants: the caller brings [`Files`] (names of contents, placeholders, a place for
//! trees); the file system itself is asked here for directories and links only. Every cache lives
//! in [`Frontends`], is shared by threads, and is checked against the file system at each use.
//!
//! Non-goal: finding out which of the reached headers the preprocessor would really read. The
//! scan takes both sides of every `#if`; what is missing can only make the tool fail in its
//! sandbox, after which the caller runs it locally.

mod askers;
mod closure;
mod command;
mod context;
mod directory;
mod dirs;
mod elf;
mod environment;
mod identity;
mod layout;
mod ldargs;
mod ldscript;
mod lex;
mod libraries;
mod locale;
mod macros;
mod model;
mod native;
mod options;
mod outputs;
mod passed;
mod plan;
mod probe;
mod program;
mod reason;
mod response;
mod runtime;
mod scan;
mod search;
mod stored;
mod table;
mod tool;
mod view;
mod writing;

pub use command::{CommandError, CommandLine, PlannedCommand};
pub use identity::Inode;
pub use passed::Unseen;
pub use plan::{Call, FileSource, Files, Plan, PlannedOutput, PlannedThunk, ReadError};
pub use reason::LocalReason;
pub use stored::{StoreFiles, regular_file};
pub use tool::{Tool, is_executable, tool_names_in};
pub use writing::{Writing, has_default_acl};

use std::path::PathBuf;

use context::Caches;
use context::Context;
use reason::Stop;

/// What the frontends are told once.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Directories of `PATH` that hold the interposer: look-ups pass over them.
    pub hidden_directories: Vec<PathBuf>,
}

/// All frontends with their caches. Share one between all threads of a build.
#[derive(Default)]
pub struct Frontends {
    settings: Settings,
    caches: Caches,
}

/// How often the frontends had to ask the compiler instead of knowing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Runs of the compiler's own `-M`, for computed includes.
    pub dependency_runs: u64,
    /// Runs that asked a tool about itself; their answers are cached.
    pub probes: u64,
    /// Files whose directives were read.
    pub files_scanned: u64,
}

impl Frontends {
    /// Frontends with empty caches.
    pub fn new(settings: Settings) -> Self {
        Self { settings, caches: Caches::default() }
    }

    /// Is there a model for a tool of this name?
    pub fn is_modelled(name: &str) -> bool {
        Tool::of(name).is_some()
    }

    /// What was asked of tools so far.
    pub fn statistics(&self) -> Statistics {
        self.caches.statistics()
    }

    /// Makes a thunk of the call, or says why not.
    pub fn plan(&self, call: &Call, files: &dyn Files) -> Plan {
        let Some(tool) = call.program.file_name().and_then(|n| n.to_str()).and_then(Tool::of)
        else {
            return Plan::Local(LocalReason::Unclear("not a modelled tool"));
        };
        let planned = Context::new(&self.settings, &self.caches, call, files)
            .and_then(|context| model::plan(tool, context));
        match planned {
            Ok(thunk) => Plan::Thunk(Box::new(thunk)),
            Err(Stop::Local(reason)) => Plan::Local(reason),
            Err(Stop::NeedReal(paths)) => Plan::NeedReal(paths),
        }
    }
}
