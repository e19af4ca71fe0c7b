//! From a thunk's name to a reduction that a build may use.

use std::collections::BTreeSet;
use std::sync::Arc;

use mesh_protocol::name::{Digest, ThunkName, ValueName};
use mesh_protocol::peer::PeerId;
use mesh_protocol::thunk::Reduction;
use mesh_protocol::wire::records::Fact;

use super::Records;
use crate::claims::{peer_of, results};
use crate::transfer::{FetchError, Sources};

/// What another member knew.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Learned {
    /// What came of the thunk; it is in the memo now, and its outputs are in the store.
    pub reduction: Arc<Reduction>,
    /// Who vouches for it. Who ran it is in the reduction.
    pub publisher: PeerId,
}

impl Records {
    /// Looks a thunk up, brings its outputs, and writes the reduction into the memo. None if
    /// nobody knows it, or the outputs cannot be had. `from`: who must have run it and vouch for it, if
    /// not anybody may.
    pub async fn learn(
        &self,
        thunk: ThunkName,
        from: Option<&BTreeSet<PeerId>>,
    ) -> Option<Learned> {
        let record = self.reduction(thunk).await?;
        let publisher = record.statement.publisher;
        let Fact::Reduced(reduction) = record.statement.fact else { return None };
        let is_of = |peer: &PeerId| from.is_none_or(|peers| peers.contains(peer));
        if !is_of(&publisher) || !peer_of(&reduction.executor).is_none_or(|peer| is_of(&peer)) {
            return None;
        }
        if let Err(error) = self.bring(publisher, &reduction).await {
            tracing::debug!(%thunk, %publisher, %error, "a reduction's outputs cannot be had");
            return None;
        }
        let store = self.shared.store.clone();
        let written = tokio::task::spawn_blocking(move || match store.recall(thunk)? {
            // Found out here meanwhile.
            Some(own) => Ok(own),
            None => store.record(&reduction).map(|()| Arc::new(*reduction)),
        });
        match written.await.ok()? {
            Ok(reduction) => {
                // One more who has it.
                self.publish_reduction(&reduction);
                Some(Learned { reduction, publisher })
            }
            Err(error) => {
                tracing::warn!(%thunk, %error, "a result could not be remembered");
                None
            }
        }
    }

    /// Whoever vouches has the outputs, or else whoever ran it; or others say that they do.
    async fn bring(&self, publisher: PeerId, reduction: &Reduction) -> Result<(), FetchError> {
        let (files, trees) = results(reduction);
        let hints = peer_of(&reduction.executor).filter(|peer| self.may_ask(*peer, publisher));
        let sources = Sources { origin: Some(publisher), hints: hints.into_iter().collect() };
        let first = self.bring_from(&files, &trees, &sources).await;
        let Err(FetchError::Nowhere { name, .. }) = first else { return first };
        let hints = self.providers(name.digest()).await;
        let hints = hints.into_iter().filter(|peer| self.may_ask(*peer, publisher)).collect();
        self.bring_from(&files, &trees, &Sources { origin: None, hints }).await
    }

    fn may_ask(&self, peer: PeerId, publisher: PeerId) -> bool {
        let shared = &self.shared;
        peer != publisher && peer != shared.own && shared.notary.roles(peer).is_some()
    }

    async fn bring_from(
        &self,
        files: &BTreeSet<ValueName>,
        trees: &BTreeSet<ValueName>,
        sources: &Sources,
    ) -> Result<(), FetchError> {
        let transfers = &self.shared.transfers;
        let files = transfers.fetch(files.clone(), sources);
        let trees = transfers.fetch_trees(trees.clone(), sources);
        tokio::try_join!(files, trees)?;
        Ok(())
    }

    /// Brings one object here from whoever has it; where it came from is in their names. With `is_tree`
    /// all that it reaches comes too.
    pub async fn fetch(&self, object: Digest, is_tree: bool) -> Result<Vec<PeerId>, FetchError> {
        let providers = self.providers(object).await;
        let hints: Vec<PeerId> =
            providers.into_iter().filter(|peer| *peer != self.shared.own).collect();
        let sources = Sources { origin: None, hints: hints.clone() };
        let names = BTreeSet::from([ValueName(object)]);
        let transfers = &self.shared.transfers;
        match is_tree {
            true => transfers.fetch_trees(names, &sources).await?,
            false => transfers.fetch(names, &sources).await?,
        }
        Ok(hints)
    }
}
