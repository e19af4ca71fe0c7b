//! Exit codes: one table for all commands, after sysexits(3).
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | something was found wrong (a corrupt object, a failed step, a refused ticket) |
//! | 64 | the command line was wrong |
//! | 65 | the data given were wrong: no name, no thunk, no tree; or the config file is |
//! | 66 | an object or file that is needed cannot be found |
//! | 69 | this machine cannot run thunks (no user namespaces, for example), or no node runs |
//! | 70 | a bug in mesh |
//! | 73 | the disk is full |
//! | 74 | the file system reported an error |
//!
//! A command that mesh runs for the user keeps its own status. Where it has none of its own, mesh
//! ends as a shell and timeout(1) do:
//!
//! | code | meaning |
//! |---|---|
//! | 124 | the command had no more time |
//! | 126 | it cannot be executed |
//! | 127 | there is no such command |
//! | 128 + N | signal N ended it; 137 also if it had no more memory |
//!
//! docs/cli.md shows these tables to users.

/// Done.
pub(crate) const SUCCESS: u8 = 0;
/// Something was found wrong.
pub(crate) const FOUND_WRONG: u8 = 1;
/// The command line was wrong.
pub(crate) const USAGE: u8 = 64;
/// The data given were wrong.
pub(crate) const DATA: u8 = 65;
/// Something that is needed cannot be found.
pub(crate) const NOT_FOUND: u8 = 66;
/// This machine cannot do it.
pub(crate) const UNAVAILABLE: u8 = 69;
/// A bug of ours.
pub(crate) const INTERNAL: u8 = 70;
/// The disk is full.
pub(crate) const FULL: u8 = 73;
/// The file system reported an error.
pub(crate) const IO: u8 = 74;

/// A command had no more time: what timeout(1) ends with.
pub(crate) const TIMED_OUT: u8 = 124;
/// A command cannot be executed.
pub(crate) const NOT_EXECUTABLE: u8 = 126;
/// There is no such command.
pub(crate) const NO_COMMAND: u8 = 127;
/// A shell adds this to the number of the signal that ended a command.
pub(crate) const SIGNALLED: u8 = 128;
