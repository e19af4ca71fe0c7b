//! The thunks that are ready and leased to nobody, sorted by the placement policy.

use std::collections::{BTreeMap, BTreeSet};

use crate::limits;
use crate::name::ValueName;
use crate::sched::force::RunId;
use crate::thunk::{InputMode, Source, Thunk};
use crate::wire::claim::Capabilities;
use crate::wire::offer::ResourceClass;

/// Where a thunk stands in the queue of its class.
pub(super) type Place = (u64, u64, RunId);

/// Queues by resource class.
#[derive(Debug, Default)]
pub(super) struct Pool {
    queues: BTreeMap<ResourceClass, BTreeSet<Place>>,
    len: usize,
}

impl Pool {
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn contains(&self, class: ResourceClass, place: Place) -> bool {
        self.queues.get(&class).is_some_and(|queue| queue.contains(&place))
    }

    pub(super) fn insert(&mut self, class: ResourceClass, place: Place) {
        self.len += usize::from(self.queues.entry(class).or_default().insert(place));
    }

    pub(super) fn remove(&mut self, class: ResourceClass, place: Place) {
        let Some(queue) = self.queues.get_mut(&class) else { return };
        self.len -= usize::from(queue.remove(&place));
        if queue.is_empty() {
            self.queues.remove(&class);
        }
    }

    /// How many of each class, the first [`limits::OFFER_CLASSES`] classes.
    pub(super) fn counts(&self) -> BTreeMap<ResourceClass, u32> {
        let count = |queue: &BTreeSet<Place>| u32::try_from(queue.len()).unwrap_or(u32::MAX);
        let counts = self.queues.iter().map(|(class, queue)| (*class, count(queue)));
        counts.take(limits::OFFER_CLASSES).collect()
    }

    /// The first of each class, in the order of the classes.
    pub(super) fn heads(&self) -> impl Iterator<Item = RunId> {
        self.queues.values().filter_map(|queue| queue.first()).map(|(_, _, run)| *run)
    }

    /// The first [`limits::LEASE_CHOICE`] that such a machine could run and that `wanted` takes, in
    /// the order of the policy.
    pub(super) fn first_for(
        &self,
        machine: &Capabilities,
        wanted: impl Fn(ResourceClass, RunId) -> bool,
    ) -> Vec<Place> {
        let mut found: Vec<Place> = Vec::new();
        for (class, queue) in &self.queues {
            if class.fits(machine.platform, machine.memory_mib) {
                // What is not wanted is rare (it failed there before); still, do not look at all.
                let seen = queue.iter().take(4 * limits::LEASE_CHOICE);
                let wanted = seen.filter(|(_, _, run)| wanted(*class, *run));
                found.extend(wanted.take(limits::LEASE_CHOICE));
            }
        }
        found.sort_unstable();
        found.truncate(limits::LEASE_CHOICE);
        found
    }
}

/// Heavy inputs of thunks that are not done, and which of them more than one needed at once.
#[derive(Debug, Default)]
pub(super) struct Shared(BTreeMap<ValueName, Need>);

#[derive(Debug, Default)]
struct Need {
    thunks: u32,
    is_shared: bool,
}

impl Shared {
    pub(super) fn need(&mut self, heavy: &[ValueName]) {
        for name in heavy {
            let need = self.0.entry(*name).or_default();
            need.thunks += 1;
            need.is_shared |= need.thunks > 1;
        }
    }

    pub(super) fn release(&mut self, heavy: &[ValueName]) {
        for name in heavy {
            let Some(need) = self.0.get_mut(name) else { continue };
            need.thunks -= 1;
            if need.thunks == 0 {
                self.0.remove(name);
            }
        }
    }

    pub(super) fn has(&self, name: &ValueName) -> bool {
        self.0.get(name).is_some_and(|need| need.is_shared)
    }
}

/// Bytes of the files that a thunk reads.
pub(super) fn input_bytes(thunk: &Thunk) -> u64 {
    let bytes = thunk.spec().inputs.values().map(|input| match (&input.source, input.mode) {
        (Source::Output(_), _) | (_, InputMode::Tree) => 0,
        (Source::Value(name), _) => name.digest().length,
    });
    bytes.fold(0, u64::saturating_add)
}

/// The inputs that count for where a thunk runs: its trees, and its largest files.
pub(super) fn heavy_inputs(thunk: &Thunk) -> Vec<ValueName> {
    let spec = thunk.spec();
    let values = spec.inputs.values().filter_map(|input| match &input.source {
        Source::Value(name) => Some((input.mode == InputMode::Tree, name.digest().length, *name)),
        Source::Output(_) => None,
    });
    let mut heavy: Vec<(bool, u64, ValueName)> =
        values.filter(|(tree, length, _)| *tree || *length >= limits::LOCALITY_BYTES_MIN).collect();
    heavy.sort_unstable_by(|a, b| b.cmp(a));
    heavy.dedup();
    heavy.truncate(limits::LOCALITY_INPUTS);
    heavy.into_iter().map(|(_, _, name)| name).collect()
}

/// The trees among a thunk's inputs.
pub(super) fn trees(thunk: &Thunk) -> impl Iterator<Item = ValueName> {
    thunk.spec().inputs.values().filter_map(|input| match (&input.source, input.mode) {
        (Source::Value(name), InputMode::Tree) => Some(*name),
        _ => None,
    })
}
