//! Names, by way of the mesh.

use mesh_protocol::limits;
use mesh_protocol::name::Digest;
use mesh_protocol::peer::PeerId;
use mesh_protocol::tree::TREE_FORMAT;
use mesh_protocol::wire::records::{Fact, Record, RecordKey};

use super::Whereabouts;
use crate::in_place::in_place;
use crate::node::Node;
use crate::verdict;

/// Who has it, and what came of it.
pub(super) async fn find(node: &Node, key: RecordKey) -> Whereabouts {
    let digest = key.digest();
    let reduction = async {
        match key {
            RecordKey::Reduction(thunk) => node.records().reduction(thunk).await,
            RecordKey::Provider(_) => None,
        }
    };
    let (providers, reduction) = tokio::join!(node.records().providers(digest), reduction);
    let own = node.swarm().own();
    let named = |peer: PeerId| (peer, node.swarm().name_of(peer).unwrap_or_default());
    Whereabouts {
        is_here: in_place(|| node.store().contains(digest)),
        providers: providers.into_iter().filter(|peer| *peer != own).map(named).collect(),
        reduction: reduction.and_then(known),
    }
}

fn known(record: Record) -> Option<(Box<mesh_protocol::thunk::Reduction>, PeerId)> {
    match record.statement.fact {
        Fact::Reduced(reduction) => Some((reduction, record.statement.publisher)),
        Fact::Provides(_) => None,
    }
}

/// Brings it into the store; a tree with all that is in it.
pub(super) async fn bring(node: &Node, key: RecordKey) -> Result<(), String> {
    if let RecordKey::Reduction(thunk) = key {
        let learned = node.records().learn(thunk, None).await;
        return match learned {
            Some(_) => Ok(()),
            None => Err(format!("no member that can be reached knows what came of {thunk}")),
        };
    }
    let digest = key.digest();
    fetch(node, digest, false).await?;
    match is_tree(node, digest).await {
        true => fetch(node, digest, true).await,
        false => Ok(()),
    }
}

async fn fetch(node: &Node, digest: Digest, is_tree: bool) -> Result<(), String> {
    let fetched = node.records().fetch(digest, is_tree).await;
    fetched.map(drop).map_err(|error| verdict::chain(&error))
}

async fn is_tree(node: &Node, digest: Digest) -> bool {
    if digest.length > limits::TREE_BYTES {
        return false;
    }
    let store = node.store().clone();
    let first = tokio::task::spawn_blocking(move || {
        let mut first = [0; 8];
        let mut file = store.open_blob(digest).ok()?;
        std::io::Read::read_exact(&mut file, &mut first).ok()?;
        Some(first)
    });
    first.await.ok().flatten() == Some(TREE_FORMAT.magic)
}
