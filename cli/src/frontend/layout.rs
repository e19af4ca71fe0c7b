//! From a view to the inputs of a thunk.
//!
//! The toolchain is one tree at `/`. Headers are grouped: one tree for all that lie below a
//! system include directory, one for all of the project, so that a thunk stays small and equal
//! sets of headers share their bytes. Everything else is named one by one, *always*: a file that
//! is a placeholder today and a value tomorrow must give the same thunk.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};

use mesh_protocol::name::ValueName;
use mesh_protocol::path::AbsPath;
use mesh_protocol::thunk::{Input, InputMode, Source};
use mesh_protocol::tree::{Tree, TreeEntry};

use super::closure::Closure;
use super::plan::{FileSource, Files};
use super::reason::{LocalReason, Step};
use super::view::{View, is_below};

/// Fewer headers than this are named one by one: a tree would be another object to move.
const GROUP_MIN: usize = 8;

/// Something in a tree, by its path below the tree's root.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Leaf<'a> {
    File { name: ValueName, executable: bool },
    Link(&'a str),
    Directory,
}

/// Remembers which trees were put.
#[derive(Debug, Default)]
pub(crate) struct TreeStore {
    put: Mutex<HashSet<ValueName>>,
}

#[derive(Default)]
struct Node<'a> {
    leaves: BTreeMap<&'a str, Leaf<'a>>,
    directories: BTreeMap<&'a str, Node<'a>>,
}

impl TreeStore {
    /// Puts the tree of these leaves, sub-trees first.
    pub(crate) fn put(&self, files: &dyn Files, leaves: &[(&str, Leaf<'_>)]) -> Step<ValueName> {
        let mut root = Node::default();
        for (path, leaf) in leaves {
            let mut node = &mut root;
            let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
            for component in directory.split('/').filter(|c| !c.is_empty()) {
                node = node.directories.entry(component).or_default();
            }
            match leaf {
                Leaf::Directory if name.is_empty() => {}
                Leaf::Directory => {
                    node.directories.entry(name).or_default();
                }
                leaf => {
                    node.leaves.insert(name, *leaf);
                }
            }
        }
        self.put_node(files, &root)
    }

    fn put_node(&self, files: &dyn Files, node: &Node<'_>) -> Step<ValueName> {
        let mut entries = BTreeMap::new();
        for (name, child) in &node.directories {
            entries.insert((*name).to_owned(), TreeEntry::Directory(self.put_node(files, child)?));
        }
        for (name, leaf) in &node.leaves {
            let entry = match leaf {
                Leaf::File { name, executable } => {
                    TreeEntry::File { name: *name, executable: *executable }
                }
                Leaf::Link(target) => TreeEntry::Symlink((*target).to_owned()),
                Leaf::Directory => continue,
            };
            entries.insert((*name).to_owned(), entry);
        }
        let tree = Tree::new(entries).map_err(|error| LocalReason::Failed(error.to_string()))?;
        let bytes = tree.encode().map_err(|error| LocalReason::Failed(error.to_string()))?;
        let name = ValueName::of(&bytes);
        if self.lock().contains(&name) {
            return Ok(name);
        }
        let put = files.put(&bytes);
        put.map_err(|error| LocalReason::Failed(format!("keeping a tree: {error}")))?;
        self.lock().insert(name);
        Ok(name)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<ValueName>> {
        self.put.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The inputs, links and directories of a thunk.
#[derive(Debug, Default)]
pub(crate) struct Placed {
    pub(crate) inputs: BTreeMap<AbsPath, Input>,
    pub(crate) symlinks: BTreeMap<AbsPath, String>,
    pub(crate) directories: BTreeSet<AbsPath>,
}

/// Places a view over a toolchain. `anchors` are the real paths of system include directories.
pub(crate) fn place(
    view: &View<'_>,
    closure: &Closure,
    anchors: &[Rc<str>],
    trees: &TreeStore,
) -> Step<Placed> {
    let mut placed = Placed::default();
    placed.inputs.insert(AbsPath::root(), Input::tree(closure.tree));
    for (path, name) in &view.trees {
        placed.inputs.insert(abs(path)?, Input::tree(*name));
    }
    let groups = groups(view, closure, anchors);
    for (anchor, members) in &groups {
        let name = put_group(view, anchor, members, trees)?;
        placed.inputs.insert(abs(anchor)?, Input::tree(name));
    }
    let is_grouped = |path: &str| groups.values().any(|members| members.contains(path));
    for (path, shown) in &view.shown {
        let in_tree = shown.groupable && (is_grouped(path) || view.is_in_tree(path));
        if !closure.contains(path) && !in_tree {
            placed.inputs.insert(abs(path)?, input(&shown.file));
        }
    }
    for (path, target) in &view.links {
        let in_tree = groups.keys().any(|anchor| is_below(path, anchor));
        if !closure.contains(path) && !in_tree {
            placed.symlinks.insert(abs(path)?, target.to_string());
        }
    }
    for path in &view.directories {
        let is_made = is_implied(view, path) || closure.contains_directory(path);
        if !is_made && !view.trees.contains_key(path) && path.len() > 1 {
            placed.directories.insert(abs(path)?);
        }
    }
    Ok(placed)
}

type Groups<'v> = BTreeMap<String, BTreeSet<&'v str>>;

fn groups<'v>(view: &'v View<'_>, closure: &Closure, anchors: &[Rc<str>]) -> Groups<'v> {
    let mut groups = Groups::new();
    let mut others: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (path, shown) in &view.shown {
        let is_value = matches!(shown.file.source, Source::Value(_));
        if !shown.groupable || !is_value || closure.contains(path) || view.is_in_tree(path) {
            continue;
        }
        match anchors.iter().filter(|a| is_below(path, a)).min_by_key(|a| a.len()) {
            Some(anchor) => {
                groups.entry(anchor.to_string()).or_default().insert(path);
            }
            None => others.entry(top_of(path)).or_default().push(path),
        }
    }
    for members in others.into_values() {
        if let Some(anchor) = common_directory(&members) {
            // Inside a system group already: lay it over as part of that one.
            groups.entry(anchor).or_default().extend(members);
        }
    }
    groups.retain(|_, members| members.len() >= GROUP_MIN);
    groups
}

/// `/home` of `/home/u/p/a.h`.
fn top_of(path: &str) -> &str {
    path[1..].find('/').map_or(path, |at| &path[..=at])
}

/// The deepest directory that holds them all; none if that is the root.
fn common_directory(paths: &[&str]) -> Option<String> {
    let mut directories = paths.iter().map(|path| path.rsplit_once('/').map_or("", |(d, _)| d));
    let mut common: Vec<&str> = directories.next()?.split('/').collect();
    for directory in directories {
        let shared = common.iter().zip(directory.split('/')).take_while(|(a, b)| *a == b).count();
        common.truncate(shared);
    }
    (common.len() > 1).then(|| common.join("/"))
}

fn put_group(
    view: &View<'_>,
    anchor: &str,
    members: &BTreeSet<&str>,
    trees: &TreeStore,
) -> Step<ValueName> {
    let below = |path: &str| path[anchor.len() + 1..].to_owned();
    let mut paths: Vec<(String, Leaf<'_>)> = Vec::new();
    for path in members {
        if let Some(shown) = view.shown.get(*path)
            && let Source::Value(name) = shown.file.source
        {
            paths.push((below(path), Leaf::File { name, executable: shown.file.executable }));
        }
    }
    let links = view.links.iter().filter(|(path, _)| is_below(path, anchor));
    paths.extend(links.map(|(path, target)| (below(path), Leaf::Link(target))));
    let leaves: Vec<(&str, Leaf<'_>)> = paths.iter().map(|(p, leaf)| (p.as_str(), *leaf)).collect();
    trees.put(view.files, &leaves)
}

/// Does a shown file or link make this directory exist?
fn is_implied(view: &View<'_>, directory: &str) -> bool {
    let below = format!("{directory}/");
    let first = |next: Option<&Rc<str>>| next.is_some_and(|path| path.starts_with(&below));
    let range = (std::ops::Bound::Excluded(below.as_str()), std::ops::Bound::Unbounded);
    first(view.shown.range::<str, _>(range).next().map(|(path, _)| path))
        || first(view.links.range::<str, _>(range).next().map(|(path, _)| path))
}

fn input(file: &FileSource) -> Input {
    let mode = match (&file.source, file.executable) {
        (Source::Value(_), true) => InputMode::Executable,
        // What an output turns out to be is known when it is reduced.
        _ => InputMode::File,
    };
    Input { source: file.source.clone(), mode }
}

/// A real path as a thunk names it.
pub(crate) fn abs(path: &str) -> Step<AbsPath> {
    path.parse().map_err(|_| LocalReason::Path(path.into()).into())
}
