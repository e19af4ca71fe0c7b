//! What the store did on its own and a person may want to know.

use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use mesh_protocol::name::Digest;

/// Something that happened beside what was asked for. `Display` gives one line for a terminal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// The index was dropped and is rebuilt from the log; nothing was lost but a stat cache.
    IndexRebuilt(RebuildReason),
    /// The log ended in the middle of a record, as after a power cut; the end was cut off.
    TornTail {
        /// Where the log was cut, in bytes.
        at: u64,
        /// How many bytes went.
        bytes: u64,
    },
    /// A part of the log could not be read and was skipped.
    CorruptLog {
        /// Where the part begins, in bytes.
        at: u64,
        /// How many bytes were skipped.
        bytes: u64,
    },
    /// The machine went down while objects were being written: so many were checked, so many were
    /// bad.
    Recovered {
        /// Objects that were hashed again.
        checked: u64,
        /// Those that were moved to quarantine.
        quarantined: u64,
    },
    /// A damaged object was moved to quarantine.
    Quarantined(Digest),
    /// Results could not be written down durably; they are kept for this process.
    CommitFailed(String),
    /// The access time of an object could not be set, so garbage collection may take it early.
    TouchFailed(PathBuf),
}

/// Why the index was dropped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RebuildReason {
    /// The process that owned it last did not close it.
    UncleanShutdown,
    /// The machine was started anew since; the index is not safe against that.
    Rebooted,
    /// It could not be opened or used.
    Failed(String),
}

impl Notice {
    /// Does it point at a fault, rather than at the ordinary course of things?
    pub fn is_warning(&self) -> bool {
        !matches!(
            self,
            Self::IndexRebuilt(RebuildReason::Rebooted) | Self::Recovered { quarantined: 0, .. }
        )
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IndexRebuilt(RebuildReason::UncleanShutdown) => {
                write!(f, "the store's index was not closed properly; rebuilt it from the log")
            }
            Self::IndexRebuilt(RebuildReason::Rebooted) => {
                write!(f, "first use since the machine was started; rebuilt the store's index")
            }
            Self::IndexRebuilt(RebuildReason::Failed(why)) => {
                write!(f, "the store's index failed ({why}); rebuilt it from the log")
            }
            Self::TornTail { at, bytes } => {
                write!(f, "the log of results ended in half a record; cut {bytes} bytes at {at}")
            }
            Self::CorruptLog { at, bytes } => {
                write!(f, "the log of results is damaged at {at}; skipped {bytes} bytes")
            }
            Self::Recovered { checked, quarantined } => write!(
                f,
                "the machine went down during a write; checked {checked} objects, {quarantined} bad"
            ),
            Self::Quarantined(digest) => {
                write!(f, "{digest} was damaged on disk; moved it to quarantine")
            }
            Self::CommitFailed(why) => write!(f, "results are not safe on disk yet: {why}"),
            Self::TouchFailed(path) => {
                write!(f, "cannot set the access time of {}", path.display())
            }
        }
    }
}

/// Notices that nobody has taken yet.
#[derive(Default, Debug)]
pub(crate) struct Notices(Mutex<VecDeque<Notice>>);

/// Older notices make way: a damaged disk may produce one per object.
const NOTICES_MAX: usize = 256;

impl Notices {
    pub(crate) fn push(&self, notice: Notice) {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if list.contains(&notice) {
            return;
        }
        if list.len() == NOTICES_MAX {
            list.pop_front();
        }
        list.push_back(notice);
    }

    pub(crate) fn take(&self) -> Vec<Notice> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }
}
