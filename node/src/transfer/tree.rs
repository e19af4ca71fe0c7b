//! Trees with all that they reach, level by level, and of it only what is missing.

use std::collections::BTreeSet;

use mesh_protocol::limits;
use mesh_protocol::name::ValueName;
use mesh_protocol::tree::TreeEntry;

use super::{FetchError, Shared, Sources, blocking};

/// What trees of one level name.
#[derive(Default)]
struct Named {
    directories: BTreeSet<ValueName>,
    files: BTreeSet<ValueName>,
}

impl Shared {
    pub(super) async fn fetch_trees(
        &self,
        roots: BTreeSet<ValueName>,
        sources: &Sources,
    ) -> Result<(), FetchError> {
        let mut level = self.incomplete(roots).await?;
        let mut seen = level.clone();
        let mut objects = 0;
        // The files of one level come together with the directories of the next.
        let mut wanted = level.clone();
        for _ in 0..=limits::TREE_DEPTH {
            let Some(first) = wanted.first().copied() else { return Ok(()) };
            objects += wanted.len();
            if objects > limits::TRANSFER_TREE_OBJECTS {
                return Err(FetchError::TooMuch(first, "in a tree of too many objects"));
            }
            if let Some(tree) = level.iter().find(|tree| tree.digest().length > limits::TREE_BYTES)
            {
                return Err(FetchError::TooMuch(*tree, "too long for a tree"));
            }
            self.fetch(wanted, sources).await?;
            let Named { directories, files } = self.named_by(level).await?;
            level = self.incomplete(directories).await?;
            level.retain(|tree| seen.insert(*tree));
            wanted = &files | &level;
        }
        match level.first() {
            Some(tree) => Err(FetchError::TooMuch(*tree, "nested too deeply for a tree")),
            None => self.fetch(wanted, sources).await,
        }
    }

    async fn incomplete(
        &self,
        trees: BTreeSet<ValueName>,
    ) -> Result<BTreeSet<ValueName>, FetchError> {
        if trees.is_empty() {
            return Ok(trees);
        }
        let store = self.store.clone();
        blocking(move || trees.into_iter().filter(|tree| !store.contains_tree(*tree)).collect())
            .await
    }

    async fn named_by(&self, level: BTreeSet<ValueName>) -> Result<Named, FetchError> {
        if level.is_empty() {
            return Ok(Named::default());
        }
        let store = self.store.clone();
        let look = move || {
            let mut named = Named::default();
            for tree in level {
                for (_, entry) in store.read_tree(tree)?.entries() {
                    match entry {
                        TreeEntry::File { name, .. } => named.files.insert(*name),
                        TreeEntry::Directory(name) => named.directories.insert(*name),
                        TreeEntry::Symlink(_) => continue,
                    };
                }
            }
            Ok(named)
        };
        blocking(look).await?
    }
}
