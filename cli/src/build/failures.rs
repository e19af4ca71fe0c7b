//! Which thunks failed themselves, rather than for the sake of others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesh_protocol::name::ThunkName;
use mesh_protocol::sched::force::Event;

/// Thunks that the driver reported as failed.
#[derive(Clone, Default)]
pub(crate) struct FailedRuns(Arc<Mutex<Failures>>);

#[derive(Default)]
struct Failures {
    failed: BTreeSet<ThunkName>,
    /// By a thunk of values: those that turned out to be the same step.
    stands_for: BTreeMap<ThunkName, Vec<ThunkName>>,
}

impl FailedRuns {
    fn lock(&self) -> MutexGuard<'_, Failures> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take(&self, event: &Event) {
        let mut known = self.lock();
        match event {
            Event::Substituted(thunk, by) => {
                known.stands_for.entry(*by).or_default().push(*thunk);
                if known.failed.contains(by) {
                    known.failed.insert(*thunk);
                }
            }
            Event::Failed(name, _) => {
                let same = known.stands_for.remove(name).unwrap_or_default();
                known.failed.extend(same.into_iter().chain([*name]));
            }
            _ => {}
        }
    }

    pub(super) fn contains(&self, name: &ThunkName) -> bool {
        self.lock().failed.contains(name)
    }
}
