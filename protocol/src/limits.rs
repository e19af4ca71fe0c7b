//! Every bound, in one place, each with its reason.
//!
//! Whatever comes from outside (a file, a peer, a program's output) is measured against these
//! before memory is given to it.

/// A tag is a short label; 64 bytes fit any file-name-like one.
pub const TAG_BYTES: usize = 64;

/// `PATH_MAX` of Linux, less the terminating zero.
pub const PATH_BYTES: usize = 4095;

/// `NAME_MAX` of Linux: one component of a path.
pub const PATH_COMPONENT_BYTES: usize = 255;

/// `MAX_ARG_STRLEN` of Linux: one argument or environment entry.
pub const ARGUMENT_BYTES: usize = 128 * 1024 - 1;

/// Arguments and environment together: a quarter of the default 8 MiB stack, where Linux puts them.
pub const ARGUMENTS_TOTAL_BYTES: usize = 2 * 1024 * 1024;

/// Inputs, symlinks and directories of one thunk: the largest link lines known (Chromium) name
/// about 30,000 objects.
pub const THUNK_ENTRIES: usize = 100_000;

/// Outputs of one thunk.
pub const THUNK_OUTPUTS: usize = 4_096;

/// The encoding of one thunk; 100,000 entries of ordinary length fit.
pub const THUNK_BYTES: u64 = 32 * 1024 * 1024;

/// The encoding of one tree (one directory, not what is below it).
pub const TREE_BYTES: u64 = 32 * 1024 * 1024;

/// The encoding of one reduction: `THUNK_OUTPUTS` outputs of some 120 bytes.
pub const REDUCTION_BYTES: u64 = 1024 * 1024;

/// How deep directories nest in a tree.
pub const TREE_DEPTH: usize = 128;

/// What is kept of a job's standard output or error, each; the rest is cut with a notice.
pub const STREAM_BYTES: u64 = 16 * 1024 * 1024;

/// Standard error of a failed job that is read for the last line; a longer one is not.
pub const REASON_STDERR_BYTES: u64 = 64 * 1024;

/// How much of that line goes into the reason of a failure.
pub const REASON_LINE_CHARS: usize = 200;

/// How long a chain "this output is that thunk's output" may grow before it counts as endless.
pub const REDUCTION_CHAIN: usize = 1_000_000;

/// A job that says nothing about time gets this much wall time: a day.
pub const TIMEOUT_MS_DEFAULT: u64 = 24 * 60 * 60 * 1000;

/// No job gets more wall time than this: thirty days.
pub const TIMEOUT_MS_MAX: u64 = 30 * 24 * 60 * 60 * 1000;

/// One message between an execution engine and its processes: a few numbers, or an error's text.
pub const SANDBOX_MESSAGE_BYTES: usize = 16 * 1024;

/// What the first process of a sandbox is told to build: the entries of a thunk, each with its
/// path in the sandbox and in the store.
pub const SANDBOX_ORDER_BYTES: u64 = 48 * 1024 * 1024;

/// Small files that an engine keeps in memory, so that headers read by every compile are opened once.
pub const SMALL_FILES_BYTES: usize = 64 * 1024 * 1024;

/// Decoded directories that an engine keeps in memory.
pub const TREES_KEPT: usize = 16 * 1024;

/// Files up to this size are read into memory when they are stored, so that one that is known
/// already costs no write; larger ones are copied piece by piece.
pub const STORE_HELD_BYTES: u64 = 1024 * 1024;

/// One record of the store's log: a reduction or a note, and its header.
pub const LOG_RECORD_BYTES: u64 = REDUCTION_BYTES + 4096;

/// Why something is pinned: a sentence.
pub const PIN_NOTE_BYTES: usize = 1024;
