//! From what stands where to how it gets there: layers, copies and mounts.

use std::collections::{BTreeMap, BTreeSet};

use mesh_protocol::limits;
use mesh_protocol::name::ValueName;
use mesh_protocol::path::AbsPath;
use mesh_protocol::thunk::{InputMode, ThunkSpec};
use mesh_protocol::tree::TreeEntry;

use super::resolve::{View, relative, value};
use super::{
    COPY_FILE_BYTES, COPY_TREE_ENTRIES, COPY_TWICE_BYTES, Entry, Layer, Lower, Mount, MountKind,
    PlanError,
};

/// Whatever the thunk wants, these exist.
const DIRECTORIES: [(&str, Entry); 3] =
    [("/dev", Entry::Directory), ("/proc", Entry::Directory), ("/tmp", Entry::Temporary)];

/// Places where a thunk may name nothing: a job must not meet a false `/proc`.
const RESERVED: [&str; 3] = ["/dev", "/proc", "/sys"];

struct Laying<'a> {
    view: &'a View<'a>,
    /// Everything that is made by hand, at its real place.
    entries: BTreeMap<AbsPath, Entry>,
    /// Files that are mounted on stubs.
    mounts: BTreeMap<AbsPath, MountKind>,
    /// Where files that are not part of a tree stand first.
    first: BTreeMap<(ValueName, bool), AbsPath>,
    /// Length of the files that are copied because they stand somewhere else already.
    twice_bytes: u64,
    writable: BTreeSet<AbsPath>,
    /// Trees that are copied, entry by entry.
    copied: BTreeSet<AbsPath>,
}

pub(super) fn lay(
    spec: &ThunkSpec,
    view: &View<'_>,
) -> Result<(Vec<Layer>, Vec<Mount>), PlanError> {
    let mut laying = Laying {
        view,
        entries: BTreeMap::new(),
        mounts: BTreeMap::new(),
        first: BTreeMap::new(),
        twice_bytes: 0,
        writable: BTreeSet::new(),
        copied: BTreeSet::new(),
    };
    laying.outputs(spec)?;
    laying.inputs(spec)?;
    for (path, target) in &spec.symlinks {
        laying.claim(view.entry(path)?, Entry::Symlink(target.clone()))?;
    }
    let directories = spec.directories.iter().chain([&spec.function.working_directory]);
    for path in directories {
        laying.directory(view.directory(path)?, Entry::Directory)?;
    }
    laying.own_directories()?;
    laying.copy_trees()?;
    laying.finish()
}

impl Laying<'_> {
    /// Where outputs appear, the job may write.
    fn outputs(&mut self, spec: &ThunkSpec) -> Result<(), PlanError> {
        for output in spec.outputs.values() {
            let place = self.view.entry(&output.path)?;
            let parent = place.parent().unwrap_or_else(AbsPath::root);
            check_reserved(&place)?;
            self.directory(parent.clone(), Entry::Directory)?;
            self.writable.insert(parent);
            if self.view.at.contains_key(&place) || spec.directories.contains(&output.path) {
                self.copied.insert(place.clone());
                self.writable.insert(place);
            }
        }
        Ok(())
    }

    fn inputs(&mut self, spec: &ThunkSpec) -> Result<(), PlanError> {
        let mut outputs = BTreeSet::new();
        for output in spec.outputs.values() {
            outputs.insert(self.view.entry(&output.path)?);
        }
        for (path, input) in &spec.inputs {
            if input.mode == InputMode::Tree {
                continue;
            }
            let (place, name) = (self.view.entry(path)?, value(&input.source)?);
            let executable = input.mode == InputMode::Executable;
            let writable = outputs.contains(&place);
            self.file(place, name, executable, writable)?;
        }
        Ok(())
    }

    /// Puts a file at a place: nothing to do where a tree has the same, a copy if it is small or
    /// will be changed, a mount otherwise.
    fn file(
        &mut self,
        place: AbsPath,
        name: ValueName,
        executable: bool,
        writable: bool,
    ) -> Result<(), PlanError> {
        let same = TreeEntry::File { name, executable };
        if !writable && self.covered(&place)?.is_some_and(|(_, entry)| entry == same) {
            return check_reserved(&place);
        }
        // Mounted twice it would be one file with two names, which archivers see.
        let is_elsewhere = self.is_elsewhere(&place, name, executable);
        if writable || is_elsewhere || name.digest().length <= COPY_FILE_BYTES {
            let entry = Entry::File { value: name.digest(), executable, writable };
            return self.claim(place, entry);
        }
        let what = MountKind::File { value: name.digest(), executable };
        self.claim(place.clone(), Entry::Stub)?;
        match self.mounts.insert(place.clone(), what.clone()) {
            Some(other) if other != what => Err(PlanError::Conflict(place)),
            _ => Ok(()),
        }
    }

    /// Does a large file stand somewhere else already? Mounted twice, it would be one file with two names,
    /// which archivers see. Where that costs too much memory, it is.
    fn is_elsewhere(&mut self, place: &AbsPath, name: ValueName, executable: bool) -> bool {
        let length = name.digest().length;
        if length <= COPY_FILE_BYTES {
            return false;
        }
        let first = self.first.entry((name, executable)).or_insert_with(|| place.clone());
        if first == place || self.twice_bytes + length > COPY_TWICE_BYTES {
            return false;
        }
        self.twice_bytes += length;
        true
    }

    /// What the trees that will be mounted (not copied) say about a place, and which says it.
    fn covered(&self, place: &AbsPath) -> Result<Option<(AbsPath, TreeEntry)>, PlanError> {
        let mut root = Some(place.clone()).filter(|_| !self.view.at.is_empty());
        while let Some(at) = root {
            self.view.look(place)?;
            if let Some(&name) = self.view.at.get(&at)
                && !self.copied.contains(&at)
                && let Some(entry) = self.view.lookup_in(name, &at, place)?
            {
                return Ok(Some((at, entry)));
            }
            root = at.parent();
        }
        Ok(None)
    }

    fn claim(&mut self, place: AbsPath, entry: Entry) -> Result<(), PlanError> {
        check_reserved(&place)?;
        match self.entries.get(&place) {
            Some(other) if *other != entry => Err(PlanError::Conflict(place)),
            _ => {
                self.entries.insert(place, entry);
                Ok(())
            }
        }
    }

    fn directory(&mut self, place: AbsPath, entry: Entry) -> Result<(), PlanError> {
        check_reserved(&place)?;
        if place.is_root() || matches!(self.entries.get(&place), Some(Entry::Temporary)) {
            return Ok(());
        }
        match self.entries.insert(place.clone(), entry) {
            None | Some(Entry::Directory | Entry::Temporary) => Ok(()),
            Some(_) => Err(PlanError::NotADirectory(place)),
        }
    }

    fn own_directories(&mut self) -> Result<(), PlanError> {
        for (path, entry) in DIRECTORIES {
            let place: AbsPath = path.parse().map_err(|_| PlanError::Links(AbsPath::root()))?;
            match self.entries.insert(place.clone(), entry) {
                None | Some(Entry::Directory | Entry::Temporary) => {}
                Some(_) => return Err(PlanError::Reserved(place)),
            }
            if path == "/tmp" {
                self.writable.insert(place);
            }
        }
        Ok(())
    }

    /// Copies the trees that are small, and those that the job changes, inner ones first.
    fn copy_trees(&mut self) -> Result<(), PlanError> {
        let trees: Vec<_> = self.view.at.iter().map(|(at, name)| (at.clone(), *name)).collect();
        // One tree may stand at many places: all copies together are bounded, the others are mounted.
        let mut left = limits::THUNK_ENTRIES;
        for (at, name) in &trees {
            if at.is_root() || self.copied.contains(at) {
                continue;
            }
            if let Some(entries) = self.entries_if_small(*name)?
                && let Some(rest) = left.checked_sub(entries)
            {
                left = rest;
                self.copied.insert(at.clone());
            }
        }
        // Those that the job changes have to be copied.
        let mut left = 2 * limits::THUNK_ENTRIES;
        for (at, name) in trees.iter().rev() {
            if self.copied.contains(at) {
                let writable = self.writable.contains(at);
                self.copy_tree(at.clone(), *name, writable, at, &mut left)?;
            }
        }
        Ok(())
    }

    /// How many entries a tree has, if these are few and small.
    fn entries_if_small(&self, root: ValueName) -> Result<Option<usize>, PlanError> {
        let (mut todo, mut entries) = (vec![root], 0);
        while let Some(name) = todo.pop() {
            let tree = self.view.tree(name)?;
            entries += 1 + tree.entries().len();
            if entries > COPY_TREE_ENTRIES {
                return Ok(None);
            }
            for (_, entry) in tree.entries() {
                match entry {
                    TreeEntry::File { name, .. } if name.digest().length > COPY_FILE_BYTES => {
                        return Ok(None);
                    }
                    TreeEntry::Directory(name) => todo.push(*name),
                    _ => {}
                }
            }
        }
        Ok(Some(entries))
    }

    fn copy_tree(
        &mut self,
        place: AbsPath,
        name: ValueName,
        writable: bool,
        root: &AbsPath,
        left: &mut usize,
    ) -> Result<(), PlanError> {
        if matches!(self.entries.get(&place), Some(entry) if !is_directory(entry)) {
            return Ok(());
        }
        self.entries.entry(place.clone()).or_insert(Entry::Directory);
        let tree = self.view.tree(name)?;
        for (component, entry) in tree.entries() {
            *left = left.checked_sub(1).ok_or_else(|| PlanError::TooLarge(root.clone()))?;
            let at = place.join(component).map_err(|_| PlanError::Links(place.clone()))?;
            if let TreeEntry::Directory(name) = entry {
                self.copy_tree(at, *name, writable, root, left)?;
                continue;
            }
            // A tree further in has its own say.
            let inner = self.covered(&at)?.is_some_and(|(tree, _)| tree.is_below(root));
            if inner || self.entries.contains_key(&at) {
                continue;
            }
            let made = match entry {
                TreeEntry::Symlink(target) => Entry::Symlink(target.clone()),
                TreeEntry::File { name, executable } => {
                    Entry::File { value: name.digest(), executable: *executable, writable }
                }
                TreeEntry::Directory(_) => continue,
            };
            self.entries.insert(at, made);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(Vec<Layer>, Vec<Mount>), PlanError> {
        self.drop_what_trees_have()?;
        let mut layers = vec![self.layer(AbsPath::root())?];
        let files = std::mem::take(&mut self.mounts).into_iter();
        let mut mounts: Vec<Mount> = files.map(|(at, what)| Mount { at, what }).collect();
        for (at, name) in &self.view.at {
            if at.is_root() || self.copied.contains(at) {
                continue;
            }
            let layer = self.layer(at.clone())?;
            let needed = layer.lower.len() > 1 || self.something_below(at);
            let what = if needed {
                layers.push(layer);
                MountKind::Overlay(layers.len() - 1)
            } else {
                MountKind::Tree(*name)
            };
            mounts.push(Mount { at: at.clone(), what });
            self.entries.entry(at.clone()).or_insert(Entry::Directory);
        }
        if !layers[0].lower.is_empty() {
            mounts.push(Mount { at: AbsPath::root(), what: MountKind::Overlay(0) });
        }
        self.fill(&mut layers);
        let layered: BTreeSet<&AbsPath> = layers.iter().map(|layer| &layer.at).collect();
        for at in &self.writable {
            if !layered.contains(at) {
                mounts.push(Mount { at: at.clone(), what: MountKind::Writable });
            }
        }
        for (path, what) in [("/dev", MountKind::Devices), ("/proc", MountKind::Processes)] {
            let at = path.parse().map_err(|_| PlanError::Links(AbsPath::root()))?;
            mounts.push(Mount { at, what });
        }
        if mounts.len() > limits::SANDBOX_MOUNTS {
            return Err(PlanError::Mounts(limits::SANDBOX_MOUNTS));
        }
        mounts.sort_by(|a, b| a.at.components().cmp(b.at.components()));
        Ok((layers, mounts))
    }

    /// Directories and links that a mounted tree has anyway need not be made again. A writable
    /// directory must: only one that the job owns can be written.
    fn drop_what_trees_have(&mut self) -> Result<(), PlanError> {
        let mut kept = BTreeMap::new();
        for (place, entry) in &self.entries {
            let same = match (entry, self.covered(place)?) {
                (Entry::Directory, Some((_, TreeEntry::Directory(_)))) => {
                    !self.writable.contains(place)
                }
                (Entry::Symlink(wanted), Some((_, TreeEntry::Symlink(target)))) => {
                    *wanted == target
                }
                _ => false,
            };
            if !same {
                kept.insert(place.clone(), entry.clone());
            }
        }
        self.entries = kept;
        Ok(())
    }

    fn something_below(&self, at: &AbsPath) -> bool {
        // The first text that can be below: where that is too long, nothing is.
        let Ok(first) = at.join("\u{1}") else { return self.writable.contains(at) };
        let is_below = |place: Option<&AbsPath>| place.is_some_and(|place| place.is_below(at));
        self.writable.contains(at)
            || is_below(self.writable.range(&first..).next())
            || is_below(self.entries.range(&first..).next().map(|(place, _)| place))
            || is_below(self.view.at.range(&first..).next().map(|(place, _)| place))
    }

    /// The layer over the mounted trees that say something about `at`, inner ones first.
    fn layer(&self, at: AbsPath) -> Result<Layer, PlanError> {
        let mut lower = Vec::new();
        let mut root = Some(at.clone());
        while let Some(outer) = root {
            if let Some(&tree) = self.view.at.get(&outer)
                && !self.copied.contains(&outer)
                && let Some(TreeEntry::Directory(_)) = self.view.lookup_in(tree, &outer, &at)?
            {
                lower.push(Lower { tree, below: relative(&at, &outer).to_owned() });
            }
            root = outer.parent();
        }
        let writable = self.writable.contains(&at);
        Ok(Layer { at, lower, entries: BTreeMap::new(), writable })
    }

    /// Gives every entry to the innermost layer around it.
    fn fill(&self, layers: &mut [Layer]) {
        let places = layers.iter().enumerate().map(|(index, layer)| (layer.at.clone(), index));
        let places: BTreeMap<AbsPath, usize> = places.collect();
        for (place, entry) in &self.entries {
            let mut around = place.parent();
            while let Some(at) = around {
                if let Some(&index) = places.get(&at) {
                    let path = relative(place, &at).to_owned();
                    layers[index].entries.insert(path, entry.clone());
                    break;
                }
                around = at.parent();
            }
        }
    }
}

fn is_directory(entry: &Entry) -> bool {
    matches!(entry, Entry::Directory | Entry::Temporary)
}

fn check_reserved(place: &AbsPath) -> Result<(), PlanError> {
    let inside = |reserved: &&str| place.components().next() == Some(&reserved[1..]);
    if RESERVED.iter().any(inside) {
        return Err(PlanError::Reserved(place.clone()));
    }
    Ok(())
}
