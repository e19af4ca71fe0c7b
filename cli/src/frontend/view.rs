//! The part of the file system that one call may see, as it is being collected.
//!
//! A path in a command line or an `#include` is text; the kernel walks it component by component,
//! through symbolic links and real parents. [`View::resolve`] walks the same way, and
//! [`View::add`] keeps what it crossed: the links as links, each file at its real path. In the
//! sandbox the same text then leads to the same file.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use mesh_protocol::name::ValueName;
use mesh_protocol::thunk::Source;

use super::dirs::{DirectoryCache, Kind, Listing};
use super::plan::{FileSource, Files, ReadError};
use super::reason::{LocalReason, Step, Stop};

/// Linux follows this many symbolic links in one path.
const LINKS_MAX: usize = 40;

/// A real directory, interned for one plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct DirId(u32);

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The directory in which the last component of the *text* stands, links before it followed.
    pub(crate) includer: DirId,
    /// The real path.
    pub(crate) real: Rc<str>,
    /// What is there.
    pub(crate) is_directory: bool,
    crossed: Crossed,
}

/// What a walk went through besides real parents of its end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Crossed {
    links: Vec<(Rc<str>, Rc<str>)>,
    /// Directories left again by `..`.
    directories: Vec<DirId>,
}

/// How a file is shown to the tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) file: FileSource,
    /// One of many that were reached by scanning: it may be grouped into a tree.
    pub(crate) groupable: bool,
}

struct Directory {
    path: Rc<str>,
    listing: Option<Arc<Listing>>,
    /// Names asked one by one where there is no listing.
    asked: HashMap<Box<str>, Option<Kind>>,
    children: HashMap<Box<str>, DirId>,
}

#[derive(Default)]
struct Interned {
    directories: Vec<Directory>,
    by_path: HashMap<Rc<str>, DirId>,
    links: HashMap<Rc<str>, Option<Rc<str>>>,
}

/// See the module's description. One per plan; not shared between threads.
pub(crate) struct View<'a> {
    pub(crate) files: &'a dyn Files,
    cache: &'a DirectoryCache,
    interned: RefCell<Interned>,
    /// Files by real path.
    pub(crate) shown: BTreeMap<Rc<str>, Shown>,
    /// Links by real path of where they stand.
    pub(crate) links: BTreeMap<Rc<str>, Rc<str>>,
    /// Directories that exist even if nothing in them is shown.
    pub(crate) directories: BTreeSet<Rc<str>>,
    /// Whole directories by real path.
    pub(crate) trees: BTreeMap<Rc<str>, ValueName>,
}

impl<'a> View<'a> {
    pub(crate) fn new(files: &'a dyn Files, cache: &'a DirectoryCache) -> Self {
        let view = Self {
            files,
            cache,
            interned: RefCell::default(),
            shown: BTreeMap::new(),
            links: BTreeMap::new(),
            directories: BTreeSet::new(),
            trees: BTreeMap::new(),
        };
        view.intern("/".into());
        view
    }

    pub(crate) const ROOT: DirId = DirId(0);

    /// The real path of a directory.
    pub(crate) fn path_of(&self, id: DirId) -> Rc<str> {
        Rc::clone(&self.interned.borrow().directories[id.0 as usize].path)
    }

    fn intern(&self, path: Rc<str>) -> DirId {
        if let Some(id) = self.interned.borrow().by_path.get(&path) {
            return *id;
        }
        let listing = self.cache.listing(Path::new(&*path));
        let mut interned = self.interned.borrow_mut();
        let id = DirId(interned.directories.len() as u32);
        interned.directories.push(Directory {
            path: Rc::clone(&path),
            listing,
            asked: HashMap::new(),
            children: HashMap::new(),
        });
        interned.by_path.insert(path, id);
        id
    }

    fn child(&self, parent: DirId, name: &str) -> DirId {
        let known = {
            let interned = self.interned.borrow();
            interned.directories[parent.0 as usize].children.get(name).copied()
        };
        known.unwrap_or_else(|| {
            let id = self.intern(join(&self.path_of(parent), name));
            let mut interned = self.interned.borrow_mut();
            interned.directories[parent.0 as usize].children.insert(name.into(), id);
            id
        })
    }

    fn parent(&self, id: DirId) -> DirId {
        let path = self.path_of(id);
        match path.rfind('/') {
            Some(0) | None => Self::ROOT,
            Some(at) => self.intern(path[..at].into()),
        }
    }

    /// What is called `name` in a directory; its links are not followed.
    pub(crate) fn kind(&self, id: DirId, name: &str) -> Option<Kind> {
        let mut interned = self.interned.borrow_mut();
        let directory = &mut interned.directories[id.0 as usize];
        if let Some(listing) = &directory.listing {
            return listing.get(name);
        }
        if let Some(kind) = directory.asked.get(name) {
            return *kind;
        }
        let kind = Kind::at(Path::new(&*join(&directory.path, name)));
        directory.asked.insert(name.into(), kind);
        kind
    }

    /// Might a precompiled header stand in this directory under this name?
    pub(crate) fn has_gch(&self, id: DirId, name: &str) -> bool {
        let listed = {
            let interned = self.interned.borrow();
            interned.directories[id.0 as usize].listing.as_ref().map(|l| l.has_gch)
        };
        listed.unwrap_or(true) && self.kind(id, &format!("{name}.gch")).is_some()
    }

    fn link_target(&self, path: &Rc<str>) -> Option<Rc<str>> {
        if let Some(known) = self.interned.borrow().links.get(path) {
            return known.clone();
        }
        let target = std::fs::read_link(&**path).ok();
        let target = target.and_then(|t| t.into_os_string().into_string().ok()).map(Rc::from);
        self.interned.borrow_mut().links.insert(Rc::clone(path), target.clone());
        target
    }

    /// Where `text` leads, taken from `base` unless it is absolute. None if nowhere.
    pub(crate) fn resolve(&self, base: DirId, text: &str) -> Option<Place> {
        Walk::new(self, base, text).run()
    }

    /// The directory that `text` leads to.
    pub(crate) fn directory(&self, base: DirId, text: &str) -> Option<(DirId, Place)> {
        let place = self.resolve(base, text)?;
        place.is_directory.then(|| (self.intern(Rc::clone(&place.real)), place))
    }

    /// Shows the links and directories on the way to a place, and the place itself if it is a
    /// directory.
    pub(crate) fn add_way(&mut self, place: &Place) {
        for (path, target) in &place.crossed.links {
            self.links.insert(Rc::clone(path), Rc::clone(target));
        }
        for id in &place.crossed.directories {
            let path = self.path_of(*id);
            self.directories.insert(path);
        }
        if place.is_directory {
            self.directories.insert(Rc::clone(&place.real));
        }
    }

    /// Shows the file at a place. The answer says what it is.
    pub(crate) fn add(&mut self, place: &Place, groupable: bool) -> Step<FileSource> {
        self.add_way(place);
        if let Some(known) = self.shown.get_mut(&place.real) {
            known.groupable &= groupable;
            return Ok(known.file.clone());
        }
        let file = self.source(&place.real)?;
        let shown = Shown { file: file.clone(), groupable };
        self.shown.insert(Rc::clone(&place.real), shown);
        Ok(file)
    }

    /// What a file is, without showing it.
    pub(crate) fn source(&self, real: &str) -> Step<FileSource> {
        match self.files.source(Path::new(real)) {
            Ok(Some(file)) => Ok(file),
            Ok(None) => Err(LocalReason::Missing(real.to_owned()).into()),
            Err(error) => Err(LocalReason::Failed(format!("{real}: {error}")).into()),
        }
    }

    /// The bytes of a file; a placeholder stops the plan until it is real.
    pub(crate) fn read(&self, real: &str) -> Step<Arc<[u8]>> {
        self.files.read(Path::new(real)).map_err(|error| match error {
            ReadError::Placeholder => Stop::NeedReal(vec![real.into()]),
            ReadError::Missing => LocalReason::Missing(real.to_owned()).into(),
            ReadError::Io(error) => LocalReason::Failed(format!("{real}: {error}")).into(),
        })
    }

    /// Is this path in a directory that is shown as a whole?
    pub(crate) fn is_in_tree(&self, path: &str) -> bool {
        self.trees.keys().any(|tree| is_below(path, tree))
    }

    /// Is there something at this real path, or below it?
    pub(crate) fn shows(&self, path: &str) -> bool {
        let mut shown = self.shown.keys().chain(&self.directories).chain(self.trees.keys());
        path.len() == 1
            || self.is_in_tree(path)
            || shown.any(|known| &**known == path || is_below(known, path))
    }

    /// Is it a placeholder?
    pub(crate) fn is_placeholder(file: &FileSource) -> bool {
        matches!(file.source, Source::Output(_))
    }
}

/// Is `path` strictly inside `directory`? Not for the root.
pub(crate) fn is_below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}

pub(crate) fn join(directory: &str, name: &str) -> Rc<str> {
    if directory.len() == 1 {
        format!("/{name}").into()
    } else {
        format!("{directory}/{name}").into()
    }
}

/// A walk along one path, as the kernel does it.
struct Walk<'v, 'a> {
    view: &'v View<'a>,
    /// What is still to be walked, the next last; true for components of the text itself.
    rest: Vec<(Box<str>, bool)>,
    at: DirId,
    includer: DirId,
    links: usize,
    crossed: Crossed,
}

impl<'v, 'a> Walk<'v, 'a> {
    fn new(view: &'v View<'a>, base: DirId, text: &str) -> Self {
        let at = if text.starts_with('/') { View::ROOT } else { base };
        let mut rest = Vec::new();
        push_components(&mut rest, text, true);
        Self { view, rest, at, includer: at, links: 0, crossed: Crossed::default() }
    }

    fn run(mut self) -> Option<Place> {
        while let Some((name, of_text)) = self.rest.pop() {
            if of_text {
                self.includer = self.at;
            }
            match &*name {
                "." => {}
                ".." => {
                    self.crossed.directories.push(self.at);
                    self.at = self.view.parent(self.at);
                }
                name => match self.view.kind(self.at, name)? {
                    Kind::Directory => self.at = self.view.child(self.at, name),
                    Kind::Link => self.follow(name)?,
                    Kind::File if self.rest.is_empty() => {
                        let real = join(&self.view.path_of(self.at), name);
                        return Some(self.end(real, false));
                    }
                    Kind::File | Kind::Other => return None,
                },
            }
        }
        let real = self.view.path_of(self.at);
        Some(self.end(real, true))
    }

    fn follow(&mut self, name: &str) -> Option<()> {
        self.links += 1;
        if self.links > LINKS_MAX {
            return None;
        }
        let path = join(&self.view.path_of(self.at), name);
        let target = self.view.link_target(&path)?;
        if target.starts_with('/') {
            self.at = View::ROOT;
        }
        push_components(&mut self.rest, &target, false);
        self.crossed.links.push((path, target));
        Some(())
    }

    fn end(self, real: Rc<str>, is_directory: bool) -> Place {
        Place { includer: self.includer, real, is_directory, crossed: self.crossed }
    }
}

fn push_components(rest: &mut Vec<(Box<str>, bool)>, text: &str, of_text: bool) {
    // A trailing slash asks for a directory: an extra `.` does the same.
    if text.ends_with('/') {
        rest.push((".".into(), of_text));
    }
    let components = text.split('/').rev().filter(|component| !component.is_empty());
    rest.extend(components.map(|component| (component.into(), of_text)));
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::super::stored::StoreFiles;
    use super::*;

    fn files(place: &Path) -> StoreFiles {
        let options = mesh_store::StoreOptions::new(place.join("store"));
        StoreFiles::new(mesh_store::Store::open(options).unwrap())
    }

    #[test]
    fn links_and_parents_are_walked_as_the_kernel_does() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("real/deep")).unwrap();
        fs::create_dir_all(root.join("a")).unwrap();
        fs::write(root.join("real/x.h"), "x").unwrap();
        fs::write(root.join("a/y.h"), "y").unwrap();
        symlink("../real/deep", root.join("a/link")).unwrap();
        symlink("../real/x.h", root.join("a/x.h")).unwrap();
        let (files, cache) = (files(dir.path()), DirectoryCache::default());
        let mut view = View::new(&files, &cache);
        let base = view.directory(View::ROOT, root.to_str().unwrap()).unwrap().0;
        let text = |path: &str| root.join(path).to_str().unwrap().to_owned();

        // `..` behind a link is the real parent, not the textual one.
        let place = view.resolve(base, "a/link/../x.h").unwrap();
        assert_eq!(*place.real, text("real/x.h"));
        assert!(view.resolve(base, "a/link/../y.h").is_none());
        view.add(&place, false).unwrap();
        assert_eq!(view.links[text("a/link").as_str()], "../real/deep".into());
        assert!(view.directories.contains(text("real/deep").as_str()));

        // The includer of a linked file is where the link stands.
        let place = view.resolve(base, "a/x.h").unwrap();
        assert_eq!(*place.real, text("real/x.h"));
        assert_eq!(*view.path_of(place.includer), text("a"));

        assert!(view.resolve(base, "a/y.h/").is_none());
        assert!(view.resolve(base, "a/y.h/z").is_none());
        assert!(view.resolve(base, "./a//").unwrap().is_directory);
        assert!(view.resolve(base, "nothing/../a/y.h").is_none());
    }

    #[test]
    fn endless_links_lead_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        let (files, cache) = (files(dir.path()), DirectoryCache::default());
        let view = View::new(&files, &cache);
        let text = dir.path().join("loop");
        assert!(view.resolve(View::ROOT, text.to_str().unwrap()).is_none());
    }
}
