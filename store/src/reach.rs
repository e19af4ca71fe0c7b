//! What an object leads to: the entries of a tree, the inputs of a thunk, the values of its
//! reduction, and so on.

use std::collections::HashSet;
use std::fs;
use std::io::{ErrorKind, Read};
use std::time::SystemTime;

use mesh_protocol::limits;
use mesh_protocol::name::{Digest, ThunkName, ValueName};
use mesh_protocol::thunk::{OutputObject, Reduction, THUNK_FORMAT, Thunk};
use mesh_protocol::tree::{TREE_FORMAT, Tree, TreeEntry};

use crate::Store;
use crate::error::{Context, StoreError};
use crate::files;

/// What bytes look like by their beginning.
#[derive(PartialEq, Eq)]
enum Looks {
    Tree,
    Thunk,
    Plain,
}

impl Store {
    /// Everything that `roots` lead to, themselves included, as far as it is here. What only
    /// looks like a tree or thunk leads to too much rather than too little.
    pub(crate) fn reachable(&self, roots: Vec<Digest>) -> Result<HashSet<Digest>, StoreError> {
        let mut reached = HashSet::new();
        let mut queue = roots;
        while let Some(digest) = queue.pop() {
            if !reached.insert(digest) {
                continue;
            }
            match self.looks_of(digest)? {
                Looks::Tree => queue.extend(self.entries_of(digest)),
                Looks::Thunk => queue.extend(self.inputs_of(digest)),
                Looks::Plain => {}
            }
            if let Some(reduction) = self.shared().memo.reduction(ThunkName(digest))? {
                queue.extend(reduction.values().map(Digest::from));
            }
        }
        Ok(reached)
    }

    /// Looks without marking as used.
    fn looks_of(&self, digest: Digest) -> Result<Looks, StoreError> {
        let path = self.shared().layout.blob(digest);
        let file = match files::open(&path, fs::OpenOptions::new().read(true)) {
            Ok(file) => file,
            // Not there, or something else is: then it leads to nothing.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidInput) => {
                return Ok(Looks::Plain);
            }
            Err(error) => return Err(StoreError::io("open", &path, error)),
        };
        let mut magic = Vec::new();
        file.take(8).read_to_end(&mut magic).at("read", &path)?;
        Ok(if magic == TREE_FORMAT.magic {
            Looks::Tree
        } else if magic == THUNK_FORMAT.magic {
            Looks::Thunk
        } else {
            Looks::Plain
        })
    }

    fn entries_of(&self, digest: Digest) -> Vec<Digest> {
        let bytes = self.shared().blobs.read(digest, limits::TREE_BYTES).unwrap_or_default();
        let Ok(tree) = Tree::decode(&bytes) else { return Vec::new() };
        tree.entries().filter_map(|(_, entry)| value_of(entry)).map(Digest::from).collect()
    }

    fn inputs_of(&self, digest: Digest) -> Vec<Digest> {
        let bytes = self.shared().blobs.read(digest, limits::THUNK_BYTES).unwrap_or_default();
        let Ok(thunk) = Thunk::decode(&bytes) else { return Vec::new() };
        let dependencies = thunk.dependencies().into_iter().map(|output| output.thunk.digest());
        let values = thunk.values().into_iter().map(Digest::from);
        dependencies.chain(values).collect()
    }

    /// Is everything here that makes the reduction worth something? Marks it all as used.
    pub(crate) fn is_complete(&self, reduction: &Reduction) -> bool {
        if !reduction.values().all(|value| self.contains(value.digest())) {
            return false;
        }
        reduction.outputs.values().all(|output| match output {
            OutputObject::Tree(name) => self.is_complete_tree(*name, 0),
            OutputObject::File { .. } | OutputObject::Thunk(_) => true,
        })
    }

    pub(crate) fn is_complete_tree(&self, name: ValueName, depth: usize) -> bool {
        let shared = self.shared();
        let quarantine = shared.layout.path("quarantine");
        // Objects that a session has marked as used leave the store in one way only, and this
        // shows it.
        let seal = fs::metadata(&quarantine).and_then(|metadata| metadata.modified()).ok();
        // Those marks hold for an era.
        let seal = (seal, shared.blobs.era().number);
        if shared.complete_trees.has(name, seal) {
            return true;
        }
        let Ok(tree) = self.read_tree(name) else { return false };
        let complete = depth <= limits::TREE_DEPTH
            && tree.entries().all(|(_, entry)| match entry {
                TreeEntry::File { name, .. } => self.contains(name.digest()),
                TreeEntry::Directory(name) => self.is_complete_tree(*name, depth + 1),
                TreeEntry::Symlink(_) => true,
            });
        if complete {
            shared.complete_trees.add(name, seal);
        }
        complete
    }
}

fn value_of(entry: &TreeEntry) -> Option<ValueName> {
    match entry {
        TreeEntry::File { name, .. } | TreeEntry::Directory(name) => Some(*name),
        TreeEntry::Symlink(_) => None,
    }
}

/// Trees that were found complete, as long as nothing went to quarantine since, and in the same era.
#[derive(Default, Debug)]
pub(crate) struct CompleteTrees(std::sync::Mutex<(Seal, HashSet<ValueName>)>);

/// When something went to quarantine last, and which era it is.
type Seal = (Option<SystemTime>, u64);

impl CompleteTrees {
    fn has(&self, name: ValueName, seal: Seal) -> bool {
        let known = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        seal.0.is_some() && known.0 == seal && known.1.contains(&name)
    }

    fn add(&self, name: ValueName, seal: Seal) {
        let mut known = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if known.0 != seal {
            *known = (seal, HashSet::new());
        }
        known.1.insert(name);
    }
}
