//! What this node can vouch for: made of its store when it is needed.

use mesh_protocol::limits;
use mesh_protocol::name::Digest;
use mesh_protocol::thunk::Reduction;
use mesh_protocol::wire::records::{Fact, Record, RecordKey, Statement};
use mesh_store::{Store, StoreError};

use super::Shared;
use crate::net::membership::now_s;

/// What a reduction gives to publish: itself, its thunk and its outputs.
pub(super) fn keys(store: &Store, reduction: &Reduction) -> Vec<RecordKey> {
    let thunk = reduction.thunk.digest();
    let thunk = Some(thunk).filter(|thunk| has(store, *thunk));
    let objects = reduction.values().map(|name| name.digest()).chain(thunk);
    std::iter::once(RecordKey::Reduction(reduction.thunk)).chain(providers(objects)).collect()
}

/// Everybody has the empty one.
pub(super) fn providers(names: impl Iterator<Item = Digest>) -> impl Iterator<Item = RecordKey> {
    names.filter(|digest| digest.length > 0).map(RecordKey::Provider)
}

/// All that is worth to be published, as far as there is room: what people put here first, then what the
/// memo knows. Inputs of builds are neither: whoever wants them gets told who has them.
pub(super) fn all_keys(store: &Store) -> Result<Vec<RecordKey>, StoreError> {
    let put = store.puts()?.into_iter().chain(store.pins()?.into_keys());
    let mut all: Vec<RecordKey> = providers(put.filter(|digest| has(store, *digest))).collect();
    for thunk in store.reduced()? {
        if all.len() >= limits::RECORDS_PUBLISHED {
            break;
        }
        if let Some(reduction) = store.recall(thunk)? {
            all.extend(keys(store, &reduction));
        }
    }
    Ok(all)
}

/// Is the object here? Unlike [`Store::contains`] it does not count as a use: that others ask is no
/// reason to keep it.
pub(super) fn has(store: &Store, digest: Digest) -> bool {
    let path = store.root().join(Store::relative_blob_path(digest));
    std::fs::metadata(path).is_ok_and(|metadata| metadata.len() == digest.length)
}

impl Shared {
    /// A record of what is here, signed; none if it is not, does not fit, or would not be believed.
    pub(super) fn own_record(&self, key: RecordKey) -> Option<Record> {
        self.notary.may_say(self.own, &key).ok()?;
        let fact = match key {
            RecordKey::Reduction(thunk) => {
                let mut reduction = (*self.store.recall(thunk).ok()??).clone();
                if reduction.executor == "local" {
                    // Before this node was a member, or beside it.
                    reduction.executor = self.own.to_string();
                }
                Fact::Reduced(Box::new(reduction))
            }
            RecordKey::Provider(digest) => Fact::Provides(digest),
        };
        if matches!(fact, Fact::Provides(digest) if !has(&self.store, digest)) {
            return None;
        }
        let made_s = now_s();
        let expires_s = made_s + limits::RECORD_LIFE_S;
        let statement = Statement { publisher: self.own, made_s, expires_s, fact };
        let record = statement.signed(|bytes| self.signer.sign(bytes)).ok()?;
        // With its signature it may be too long.
        record.encode().is_ok().then_some(record)
    }
}
