//! The store: every object a node holds, and every result it remembers, on one machine's disk.
//!
//! Goals: what the store gives out is what was put in, bit for bit, or an error; a killed process or
//! a power cut costs time, never truth; any number of `mesh` processes share one store.
//! Non-goals: talking to other machines; keeping what nobody has used for long (see [`gc`]).
//!
//! ```text
//! root/
//!   blobs/ab/cdef…-123     the bytes, mode 0444, named by their digest           truth
//!   log                    reductions, pins: appended, checksummed               truth
//!   exec/ab/cdef…-123      the same bytes, mode 0555                             made from blobs
//!   trees/<digest>/        directories laid out from tree values                 made from blobs
//!   index/                 sled: places of reductions in the log, stat cache     made from the log
//!   tmp/  quarantine/  sessions/
//! ```
//!
//! **Who owns what.** Blobs belong to nobody: they are written beside and renamed into place, and two
//! writers of one name write the same bytes. The log is appended to under its file lock, by any
//! process, and read by all. sled takes one process at a time: the one that holds `index/lock`; the
//! others keep the same index in memory, fed from the log. Whoever finds that the last owner of sled
//! did not end well throws sled's files away and starts from the log.
//!
//! **What is synced when.** Putting a blob and recording a reduction do not wait for the disk;
//! [`Store::flush`] does, for everything before it. After a power cut the log may therefore name
//! blobs that never reached the disk: they are missing, or shorter than their name says, and
//! [`Store::recall`] answers that it knows nothing. What was written since the last flush under
//! another boot of the machine is hashed before it is given out for the first time.

mod blob;
mod error;
pub mod gc;
mod index;
mod layout;
mod log;
mod memo;
mod session;
mod stat_cache;
mod store;
mod tree;
pub mod verify;

pub use blob::ExportOptions;
pub use error::StoreError;
pub use stat_cache::NamedFile;
pub use store::{Store, StoreOptions, StoreStats};
