//! How runs ended that failed: the memo keeps only those that succeeded.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesh_node::driver::Progress;
use mesh_node::exec::Outcome;
use mesh_protocol::name::ThunkName;
use mesh_protocol::sched::force::{Event, ForceError};

use crate::ended::Ran;

/// The failed runs of one `mesh force`, by thunk; clones share them.
#[derive(Clone, Default)]
pub(super) struct Ends(Arc<Mutex<Books>>);

#[derive(Default)]
struct Books {
    failed: BTreeMap<ThunkName, Ran>,
    /// The thunk of values that stands for one that named outputs of others.
    stands_for: BTreeMap<ThunkName, ThunkName>,
}

impl Ends {
    fn lock(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records what the driver tells.
    pub(super) fn take(&self, progress: &Progress) {
        match progress {
            Progress::Event(Event::Substituted(thunk, by)) => {
                self.lock().stands_for.insert(*thunk, *by);
            }
            Progress::Ended(name, Ok(outcome)) if !outcome.is_success() => {
                self.lock().failed.insert(*name, ran(outcome));
            }
            _ => {}
        }
    }

    /// Returns how the last failed run of a thunk ended.
    pub(super) fn of(&self, name: ThunkName) -> Option<Ran> {
        let books = self.lock();
        let by = books.stands_for.get(&name).copied().unwrap_or(name);
        books.failed.get(&by).copied()
    }

    /// Returns the thunk that is to blame for an error, and how its run ended, if it ran.
    pub(super) fn to_blame(&self, error: &ForceError) -> Option<(ThunkName, Ran)> {
        let blamed = *error.path.last()?;
        Some((blamed, self.of(blamed)?))
    }
}

fn ran(outcome: &Outcome) -> Ran {
    let Outcome { exit, stdout, stderr, usage, .. } = *outcome;
    Ran { exit, stdout, stderr, usage }
}
