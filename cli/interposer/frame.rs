//! How a call and its answer are written: what the interposer and the supervisor agree on.
//!
//! ```text
//!  request   MAGIC  6 x u32: bytes of the arguments, of the environment, of the directory and of
//!                   the file; how many arguments; umask     and these four, one after the other
//!  answer    kind u8  status u8  0 0  two lengths u32                and these two, likewise
//! ```
//!
//! Arguments and variables lie as the kernel lays them for a new process, each with its zero byte.
//! All numbers are little-endian. With a request come three descriptors: standard input, output and
//! error.

/// The first bytes of a request.
pub(crate) const MAGIC: [u8; 8] = *b"\x89MCALL\0\x03";

/// Bytes before the words of a request.
pub(crate) const REQUEST_HEAD: usize = 32;

/// Bytes before the words of an answer.
pub(crate) const ANSWER_HEAD: usize = 12;

/// Write both, to standard output and to standard error, and end with the status.
pub(crate) const DONE: u8 = 1;

/// Become the tool: the first is its file, what to call it (if nothing, as we are called) and, for
/// [`SCRUBBED`], the variable `PATH`, each with a zero byte. The second is nothing.
pub(crate) const TOOL: u8 = 2;

/// The same, but run it, and send the status in one byte.
pub(crate) const WATCHED_TOOL: u8 = 3;

/// A tool's status byte, or else zero: what it starts itself is not interposed. It gets the `PATH` of
/// the answer, if there is one, and no [`SOCKET_VARIABLE`].
pub(crate) const SCRUBBED: u8 = 1;

/// A variable with the path of the supervisor's socket.
pub(crate) const SOCKET_VARIABLE: &str = "MESH_BUILD_SOCKET";

/// What stands before the path of the directory that stands for `/` and has the tools themselves.
/// As many bytes of room follow; it is filled in when the program is written to its file.
pub(crate) const ROOM_MAGIC: [u8; 16] = *b"\x89mesh-real-room:";

/// Bytes of that room. Linux takes no longer path.
pub(crate) const ROOM: usize = 4096;
