//! Looking into the trees of a thunk: what stands at a path, and where links lead.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_protocol::name::ValueName;
use mesh_protocol::path::AbsPath;
use mesh_protocol::thunk::{InputMode, Source, ThunkSpec};
use mesh_protocol::tree::{Tree, TreeEntry};

use super::{LINKS_FOLLOWED, PlanError, Trees};

/// The trees of a thunk at the places where they really stand.
pub(super) struct View<'a> {
    trees: &'a dyn Trees,
    /// By path, links followed.
    pub(super) at: BTreeMap<AbsPath, ValueName>,
    links: BTreeMap<AbsPath, String>,
    /// How many places may still be looked at.
    pub(super) looks: Cell<u64>,
}

/// Places that are looked at for one thunk: each directory around each directory on each path. A hundred thousand
/// paths of ten directories come to half of it; it is a second or so.
const LOOKS: u64 = 10_000_000;

impl<'a> View<'a> {
    pub(super) fn new(spec: &ThunkSpec, trees: &'a dyn Trees) -> Result<Self, PlanError> {
        let (at, links) = (BTreeMap::new(), BTreeMap::new());
        let mut view = Self { trees, at, links, looks: Cell::new(LOOKS) };
        // Sorted by path: a tree is placed before those inside it ask what its links say.
        for (path, input) in &spec.inputs {
            if input.mode != InputMode::Tree {
                continue;
            }
            let (name, place) = (value(&input.source)?, view.directory(path)?);
            match view.at.insert(place.clone(), name) {
                Some(other) if other != name => return Err(PlanError::Conflict(place)),
                _ => {}
            }
        }
        for (path, target) in &spec.symlinks {
            let place = view.entry(path)?;
            view.links.insert(place, target.clone());
        }
        Ok(view)
    }

    pub(super) fn tree(&self, name: ValueName) -> Result<Arc<Tree>, PlanError> {
        self.trees.tree(name).map_err(|source| PlanError::Tree { name, source })
    }

    /// Where `path` really is when it is taken for a directory: every link followed.
    pub(super) fn directory(&self, path: &AbsPath) -> Result<AbsPath, PlanError> {
        let mut todo: Vec<String> = reversed(path.as_str());
        let mut here = AbsPath::root();
        let mut links = 0;
        while let Some(component) = todo.pop() {
            if component == ".." {
                here = here.parent().unwrap_or_else(AbsPath::root);
                continue;
            }
            let next = here.join(&component).map_err(|_| PlanError::Links(path.clone()))?;
            let Some(target) = self.link(&next)? else {
                here = next;
                continue;
            };
            links += 1;
            if links > LINKS_FOLLOWED {
                return Err(PlanError::Links(path.clone()));
            }
            if target.starts_with('/') {
                here = AbsPath::root();
            }
            todo.extend(reversed(&target));
        }
        Ok(here)
    }

    /// Where `path` really is when it is taken for an entry of a directory: links are followed up
    /// to its parent.
    pub(super) fn entry(&self, path: &AbsPath) -> Result<AbsPath, PlanError> {
        match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => {
                self.directory(&parent)?.join(name).map_err(|_| PlanError::Links(path.clone()))
            }
            _ => Ok(path.clone()),
        }
    }

    fn link(&self, place: &AbsPath) -> Result<Option<String>, PlanError> {
        if let Some(target) = self.links.get(place) {
            return Ok(Some(target.clone()));
        }
        match self.lookup(place)? {
            Some(TreeEntry::Symlink(target)) => Ok(Some(target)),
            _ => Ok(None),
        }
    }

    /// Counts one look at a place.
    pub(super) fn look(&self, place: &AbsPath) -> Result<(), PlanError> {
        let left = self.looks.get().checked_sub(1);
        self.looks.set(left.ok_or_else(|| PlanError::Depth(place.clone()))?);
        Ok(())
    }

    /// What the trees say stands at a place (links followed already); inner trees first.
    pub(super) fn lookup(&self, place: &AbsPath) -> Result<Option<TreeEntry>, PlanError> {
        let mut root = Some(place.clone()).filter(|_| !self.at.is_empty());
        while let Some(at) = root {
            self.look(place)?;
            if let Some(&name) = self.at.get(&at)
                && let Some(entry) = self.lookup_in(name, &at, place)?
            {
                return Ok(Some(entry));
            }
            root = at.parent();
        }
        Ok(None)
    }

    /// What one tree, standing at `at`, says about a place at or below it.
    pub(super) fn lookup_in(
        &self,
        tree: ValueName,
        at: &AbsPath,
        place: &AbsPath,
    ) -> Result<Option<TreeEntry>, PlanError> {
        let mut entry = TreeEntry::Directory(tree);
        for component in relative(place, at).split('/').filter(|c| !c.is_empty()) {
            let TreeEntry::Directory(name) = entry else { return Ok(None) };
            match self.tree(name)?.get(component) {
                Some(found) => entry = found.clone(),
                None => return Ok(None),
            }
        }
        Ok(Some(entry))
    }
}

/// `place` without the directory `at` that it is in.
pub(super) fn relative<'p>(place: &'p AbsPath, at: &AbsPath) -> &'p str {
    let skip = if at.is_root() { 0 } else { at.as_str().len() };
    place.as_str().get(skip..).unwrap_or_default().trim_start_matches('/')
}

/// The components, last one first.
fn reversed(path: &str) -> Vec<String> {
    let components = path.split('/').filter(|c| !c.is_empty() && *c != ".");
    components.rev().map(str::to_owned).collect()
}

/// The value that a source is, by now.
pub(super) fn value(source: &Source) -> Result<ValueName, PlanError> {
    match source {
        Source::Value(name) => Ok(*name),
        Source::Output(output) => Err(PlanError::NotAValue(output.to_string())),
    }
}
