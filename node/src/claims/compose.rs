//! Makes a lease of a draft when it is about to be written: its thunk's bytes and small inputs, those
//! that have not gone down this stream already.

use std::collections::BTreeSet;
use std::sync::Arc;

use mesh_protocol::limits;
use mesh_protocol::name::{ThunkName, ValueName};
use mesh_protocol::peer::PeerId;
use mesh_protocol::thunk::{InputMode, OutputObject, Reduction, Source, Thunk};
use mesh_protocol::wire::claim::{InlineObject, Lease, LeaseId};
use mesh_store::Store;

/// A lease without its bytes.
pub(super) struct LeaseDraft {
    pub(super) lease: LeaseId,
    pub(super) name: ThunkName,
    pub(super) thunk: Arc<Thunk>,
    pub(super) sources: Vec<PeerId>,
}

/// What one stream has carried.
pub(super) struct Composer {
    store: Store,
    sent: BTreeSet<ValueName>,
}

impl Composer {
    pub(super) fn new(store: Store) -> Self {
        Self { store, sent: BTreeSet::new() }
    }

    /// The lease. An error: the thunk cannot be encoded, or the node is being shut down.
    pub(super) async fn compose(mut self, draft: LeaseDraft) -> Result<(Self, Lease), String> {
        let work = tokio::task::spawn_blocking(move || {
            let lease = self.fill(draft)?;
            Ok((self, lease))
        });
        work.await.map_err(|_| "the node is being shut down".to_owned())?
    }

    fn fill(&mut self, draft: LeaseDraft) -> Result<Lease, String> {
        let LeaseDraft { lease, name, thunk, sources } = draft;
        let (_, encoded) = thunk.encode().map_err(|error| error.to_string())?;
        let bytes = if encoded.len() <= limits::CLAIM_INLINE_BYTES {
            Some(encoded)
        } else {
            // Too long to come along: it is fetched as an object.
            self.store.put_bytes(&encoded).map_err(|error| error.to_string())?;
            None
        };
        if self.sent.len() > limits::CLAIMANT_HOLDS {
            self.sent.clear();
        }
        let small = files(&thunk).into_iter().filter(|name| !self.sent.contains(name));
        let objects = inline(&self.store, small, limits::LEASE_INLINE_BYTES);
        self.sent.extend(objects.iter().map(|object| object.name));
        Ok(Lease { lease, thunk: name, bytes, sources, objects })
    }
}

/// The inputs of a thunk that are files, and those that are trees.
pub(super) fn values(thunk: &Thunk) -> (BTreeSet<ValueName>, BTreeSet<ValueName>) {
    let (mut files, mut trees) = (BTreeSet::new(), BTreeSet::new());
    for input in thunk.spec().inputs.values() {
        if let Source::Value(name) = &input.source {
            match input.mode {
                InputMode::Tree => trees.insert(*name),
                InputMode::File | InputMode::Executable => files.insert(*name),
            };
        }
    }
    if let Some(Source::Value(name)) = &thunk.spec().stdin {
        files.insert(*name);
    }
    (files, trees)
}

fn files(thunk: &Thunk) -> BTreeSet<ValueName> {
    values(thunk).0
}

/// What a reduction names that is bytes alone, and its trees.
pub(crate) fn results(reduction: &Reduction) -> (BTreeSet<ValueName>, BTreeSet<ValueName>) {
    let trees: BTreeSet<ValueName> = reduction
        .outputs
        .values()
        .filter_map(|output| match output {
            OutputObject::Tree(name) => Some(*name),
            OutputObject::File { .. } | OutputObject::Thunk(_) => None,
        })
        .collect();
    let files = reduction.values().filter(|name| !trees.contains(name)).collect();
    (files, trees)
}

/// As many of these as may come along, none longer than `each`, the shortest first. What cannot be
/// read here has to be fetched, and then fails with a reason.
pub(super) fn inline(
    store: &Store,
    names: impl IntoIterator<Item = ValueName>,
    each: u64,
) -> Vec<InlineObject> {
    let mut short: Vec<ValueName> =
        names.into_iter().filter(|name| name.digest().length <= each).collect();
    short.sort_unstable_by_key(|name| (name.digest().length, *name));
    let (mut objects, mut left) = (Vec::new(), limits::CLAIM_INLINE_BYTES as u64);
    for name in short.into_iter().take(limits::CLAIM_INLINE_OBJECTS) {
        let length = name.digest().length;
        if length > left {
            break;
        }
        if let Ok(bytes) = store.read(name.digest(), each) {
            left -= length;
            objects.push(InlineObject { name, bytes });
        }
    }
    objects
}
