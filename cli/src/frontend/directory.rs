//! Whole directories as inputs: each becomes one tree.

use std::fs;
use std::path::{Path, PathBuf};

use mesh_protocol::limits;
use mesh_protocol::thunk::Source;

use super::closure::is_loadable;
use super::context::Context;
use super::layout::Leaf;
use super::reason::{LocalReason, Step, Stop};
use super::view::{View, is_below};

/// Why a directory is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whole {
    /// It was named: everything in it, links as links.
    Named,
    /// It is an interpreter's standard library: without what the interpreter only caches there, and
    /// without packages that were installed into it; files that links lead out to are shown too.
    Runtime,
}

/// Directories in a standard library that are no part of it.
const NOT_RUNTIME: &[&str] = &["__pycache__", "site-packages", "dist-packages"];

/// What is in a directory, before it becomes a tree.
struct Walk<'c, 'a> {
    context: &'c Context<'a>,
    root: String,
    what: Whole,
    leaves: Vec<(String, Found)>,
    loads: Vec<PathBuf>,
}

enum Found {
    File(super::plan::FileSource),
    Link(String),
    Directory,
}

/// Shows a directory of the command line with all that is in it, and what the programs and
/// libraries in it load.
pub(crate) fn show(context: &mut Context<'_>, text: &str, what: Whole) -> Step<()> {
    let found = context.view.directory(context.cwd, text);
    let (_, place) = found.ok_or_else(|| LocalReason::Missing(text.to_owned()))?;
    let root = place.real.clone();
    context.view.add_way(&place);
    let is_part = what == Whole::Runtime && context.view.is_in_tree(&root);
    if is_part || context.view.trees.contains_key(&root) {
        return Ok(());
    }
    let mut walk =
        Walk { context, root: root.to_string(), what, leaves: Vec::new(), loads: Vec::new() };
    walk.directory("", 0)?;
    let Walk { leaves, loads, .. } = walk;
    let name = put(context, &leaves)?;
    context.view.trees.insert(root.clone(), name);
    context.loads.extend(loads);
    if what == Whole::Runtime {
        show_what_links_lead_to(context, &root, &leaves)?;
    }
    Ok(())
}

impl Walk<'_, '_> {
    fn directory(&mut self, below: &str, depth: usize) -> Step<()> {
        let path = self.path(below);
        if depth > limits::TREE_DEPTH {
            return Err(failed(&path, "directories are nested too deeply"));
        }
        for entry in fs::read_dir(&path).map_err(|error| failed(&path, error))? {
            let entry = entry.map_err(|error| failed(&path, error))?;
            let Ok(name) = entry.file_name().into_string() else {
                return Err(LocalReason::Path(entry.path()).into());
            };
            let separator = if below.is_empty() { "" } else { "/" };
            let kind = entry.file_type().map_err(|error| failed(&path, error))?;
            self.entry(format!("{below}{separator}{name}"), &name, kind, depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, below: String, name: &str, kind: fs::FileType, depth: usize) -> Step<()> {
        let path = self.path(&below);
        if kind.is_dir() {
            if self.what == Whole::Runtime && NOT_RUNTIME.contains(&name) {
                return Ok(());
            }
            self.leaves.push((below.clone(), Found::Directory));
            return self.directory(&below, depth + 1);
        }
        if kind.is_symlink() {
            let target = fs::read_link(&path).map_err(|error| failed(&path, error))?;
            let target = target.into_os_string().into_string();
            let target = target.map_err(|target| LocalReason::Path(target.into()))?;
            self.leaves.push((below, Found::Link(target)));
            return Ok(());
        }
        if !kind.is_file() {
            return Err(failed(&path, "no tree can hold a socket, pipe or device"));
        }
        let file = self.context.view.source(&path)?;
        if (file.executable || name.contains(".so")) && is_loadable(&path) {
            self.loads.push(PathBuf::from(&path));
        }
        self.leaves.push((below, Found::File(file)));
        Ok(())
    }

    fn path(&self, below: &str) -> String {
        if below.is_empty() { self.root.clone() } else { format!("{}/{below}", self.root) }
    }
}

fn put(context: &Context<'_>, found: &[(String, Found)]) -> Step<mesh_protocol::name::ValueName> {
    let mut leaves = Vec::with_capacity(found.len());
    for (path, found) in found {
        let leaf = match found {
            Found::File(file) => {
                let Source::Value(name) = file.source else {
                    return Err(Stop::NeedReal(vec![Path::new(path).to_owned()]));
                };
                Leaf::File { name, executable: file.executable }
            }
            Found::Link(target) => Leaf::Link(target),
            Found::Directory => Leaf::Directory,
        };
        leaves.push((path.as_str(), leaf));
    }
    context.caches.trees.put(context.view.files, &leaves)
}

fn show_what_links_lead_to(
    context: &mut Context<'_>,
    root: &str,
    found: &[(String, Found)],
) -> Step<()> {
    for (path, found) in found {
        let Found::Link(_) = found else { continue };
        let Some(place) = context.view.resolve(View::ROOT, &format!("{root}/{path}")) else {
            continue;
        };
        if !place.is_directory && !is_below(&place.real, root) {
            context.view.add(&place, false)?;
        }
    }
    Ok(())
}

fn failed(path: &str, problem: impl std::fmt::Display) -> Stop {
    LocalReason::Failed(format!("{path}: {problem}")).into()
}
