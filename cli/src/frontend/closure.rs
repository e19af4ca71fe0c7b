//! The toolchain closure: programs with everything that is loaded to run them.
//!
//! Given the paths of a few programs and plugins, it follows symbolic links, the ELF interpreter
//! and DT_NEEDED (as the loader searches: RPATH or RUNPATH, then its default directories), and
//! makes one tree for `/` of it all. A closure is made once and holds as long as every file and
//! link in it is the same; its tree depends on those files alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use mesh_protocol::name::ValueName;
use mesh_protocol::thunk::Source;

use super::dirs::DirectoryCache;
use super::elf::{self, Needs};
use super::identity::Stamp;
use super::layout::{Leaf, TreeStore};
use super::plan::Files;
use super::reason::{LocalReason, Step};
use super::view::View;

/// Where the loader looks without being told, machine by machine.
const LOADER_DIRECTORIES: &[(object::elf::Machine, &[&str])] = &[
    (object::elf::EM_X86_64, &["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu"]),
    (object::elf::EM_AARCH64, &["/lib/aarch64-linux-gnu", "/usr/lib/aarch64-linux-gnu"]),
    (object::elf::EM_386, &["/lib/i386-linux-gnu", "/usr/lib/i386-linux-gnu"]),
];
const LOADER_DIRECTORIES_ALL: &[&str] = &["/lib64", "/usr/lib64", "/lib", "/usr/lib"];

/// One toolchain tree.
#[derive(Debug)]
pub(crate) struct Closure {
    /// The tree for `/`.
    pub(crate) tree: ValueName,
    /// Every file and link in it, by path.
    entries: BTreeMap<String, Option<String>>,
    /// How the files looked.
    stamps: Vec<(String, Stamp)>,
    /// Directories outside the loader's defaults that hold some of the libraries.
    pub(crate) library_path: Vec<String>,
    /// The names of all libraries: what `LD_LIBRARY_PATH` could replace.
    pub(crate) library_names: BTreeSet<String>,
}

impl Closure {
    /// Is this file or link in the tree?
    pub(crate) fn contains(&self, path: &str) -> bool {
        self.entries.contains_key(path)
    }

    /// Does the tree make this directory exist?
    pub(crate) fn contains_directory(&self, path: &str) -> bool {
        let below = if path == "/" { path.to_owned() } else { format!("{path}/") };
        self.entries.range(below.clone()..).next().is_some_and(|(p, _)| p.starts_with(&below))
    }

    fn still_holds(&self) -> bool {
        let links_hold = self.entries.iter().all(|(path, target)| match target {
            Some(target) => std::fs::read_link(path).is_ok_and(|t| t == Path::new(target)),
            None => true,
        });
        links_hold && self.stamps.iter().all(|(path, stamp)| Stamp::at(path) == Some(*stamp))
    }
}

/// What a closure is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Roots<'r> {
    /// Programs and plugins: they and all that they load.
    pub(crate) files: &'r BTreeSet<PathBuf>,
    /// Real paths of programs and libraries of which only what they load is wanted. A library that
    /// is not found stays away: its absence shows when it is loaded, as it would here.
    pub(crate) loads: &'r BTreeSet<PathBuf>,
    /// Directories of `LD_LIBRARY_PATH`. What is found in them is taken as well as what is found
    /// without them: which of the two is loaded is the loader's business.
    pub(crate) preferred: &'r [String],
}

/// [`Roots`] as they are remembered.
type Key = (Vec<PathBuf>, Vec<PathBuf>, Vec<String>);

/// Subdirectories with libraries for newer processors, which the loader looks into first.
const HARDWARE: &[&str] =
    &["", "/glibc-hwcaps/x86-64-v2", "/glibc-hwcaps/x86-64-v3", "/glibc-hwcaps/x86-64-v4", "/tls"];

/// The closures made so far, by what they were asked for.
#[derive(Debug, Default)]
pub(crate) struct Closures {
    known: Mutex<HashMap<Key, Arc<Closure>>>,
}

impl Closures {
    /// The closure of these programs and files.
    pub(crate) fn of(
        &self,
        roots: Roots<'_>,
        files: &dyn Files,
        directories: &DirectoryCache,
        trees: &TreeStore,
    ) -> Step<Arc<Closure>> {
        let list = |paths: &BTreeSet<PathBuf>| paths.iter().cloned().collect::<Vec<_>>();
        let key = (list(roots.files), list(roots.loads), roots.preferred.to_vec());
        let known = self.lock().get(&key).cloned();
        if let Some(closure) = known.filter(|closure| closure.still_holds()) {
            return Ok(closure);
        }
        let closure = Arc::new(Builder::new(files, directories).build(roots, trees)?);
        self.lock().insert(key, Arc::clone(&closure));
        Ok(closure)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Arc<Closure>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Builder<'a> {
    view: View<'a>,
    preferred: Vec<String>,
    stamps: Vec<(String, Stamp)>,
    library_path: Vec<String>,
    library_names: BTreeSet<String>,
    waiting: Vec<Waiting>,
}

struct Waiting {
    path: String,
    /// RPATHs of those that load it.
    search: Vec<String>,
    /// Does it do if a library is missing?
    lenient: bool,
}

impl Waiting {
    fn lenient(path: &str) -> Self {
        Self { path: path.to_owned(), search: Vec::new(), lenient: true }
    }
}

impl<'a> Builder<'a> {
    fn new(files: &'a dyn Files, directories: &'a DirectoryCache) -> Self {
        Self {
            view: View::new(files, directories),
            preferred: Vec::new(),
            stamps: Vec::new(),
            library_path: Vec::new(),
            library_names: BTreeSet::new(),
            waiting: Vec::new(),
        }
    }

    fn build(mut self, roots: Roots<'_>, trees: &TreeStore) -> Step<Closure> {
        self.preferred = roots.preferred.to_vec();
        for root in roots.files {
            let path = text(root)?.to_owned();
            self.waiting.push(Waiting { path, search: Vec::new(), lenient: false });
        }
        for path in roots.loads {
            let real: Rc<str> = text(path)?.into();
            if let (Some(needs), Some(stamp)) = (elf::needs(path), Stamp::at(path)) {
                self.stamps.push((real.to_string(), stamp));
                self.add_needs(&real, &needs, &Waiting::lenient(&real))?;
            }
        }
        while let Some(next) = self.waiting.pop() {
            self.add(&next)?;
        }
        self.finish(trees)
    }

    fn add(&mut self, wanted: &Waiting) -> Step<()> {
        let missing = || LocalReason::Toolchain(format!("{} is missing", wanted.path));
        let Some(place) = self.view.resolve(View::ROOT, &wanted.path) else {
            return if wanted.lenient { Ok(()) } else { Err(missing().into()) };
        };
        let is_new = !self.view.shown.contains_key(&place.real);
        self.view.add(&place, false)?;
        if !is_new {
            return Ok(());
        }
        self.stamps.push((place.real.to_string(), Stamp::at(&*place.real).ok_or_else(missing)?));
        if let Some(needs) = elf::needs(Path::new(&*place.real)) {
            return self.add_needs(&place.real, &needs, wanted);
        }
        if is_script(&place.real) {
            return Err(LocalReason::Script(wanted.path.clone()).into());
        }
        Ok(())
    }

    fn add_needs(&mut self, real: &Rc<str>, needs: &Needs, loader: &Waiting) -> Step<()> {
        let lenient = loader.lenient;
        if let Some(path) = needs.interpreter.clone() {
            self.waiting.push(Waiting { path, search: Vec::new(), lenient });
        }
        let origin = real.rsplit_once('/').map_or("", |(directory, _)| directory);
        let mut search: Vec<String> = needs
            .search
            .iter()
            .map(|path| path.replace("${ORIGIN}", origin).replace("$ORIGIN", origin))
            .collect();
        search.extend(loader.search.iter().cloned());
        for library in &needs.libraries {
            let preferred = self.preferred_libraries(library, needs);
            let is_preferred = !preferred.is_empty();
            for path in preferred {
                self.library_names.insert(library.clone());
                self.waiting.push(Waiting { path, search: search.clone(), lenient });
            }
            let Some(path) = self.find_library(library, needs, &search) else {
                if lenient || is_preferred {
                    continue;
                }
                let reason = format!("library {library} not found");
                return Err(LocalReason::Toolchain(reason).into());
            };
            self.library_names.insert(library.clone());
            self.waiting.push(Waiting { path, search: search.clone(), lenient });
        }
        Ok(())
    }

    /// The libraries of that name in directories of `LD_LIBRARY_PATH`.
    fn preferred_libraries(&self, name: &str, needs: &Needs) -> Vec<String> {
        if name.contains('/') {
            return Vec::new();
        }
        let directories = self.preferred.iter().flat_map(|directory| {
            HARDWARE.iter().map(move |below| format!("{directory}{below}/{name}"))
        });
        let fits = |path: &String| {
            elf::needs(Path::new(path)).is_some_and(|found| found.machine == needs.machine)
        };
        directories.filter(fits).collect()
    }

    fn find_library(&mut self, name: &str, needs: &Needs, search: &[String]) -> Option<String> {
        if name.contains('/') {
            return Some(name.to_owned());
        }
        let fits = |path: &str| {
            elf::needs(Path::new(path)).is_some_and(|found| found.machine == needs.machine)
        };
        let mine = LOADER_DIRECTORIES.iter().find(|(machine, _)| *machine == needs.machine.0);
        let defaults = mine.map_or(&[][..], |(_, list)| list).iter().chain(LOADER_DIRECTORIES_ALL);
        let own = search.iter().map(String::as_str).chain(defaults.copied());
        for directory in own {
            let path = format!("{directory}/{name}");
            if fits(&path) {
                return Some(path);
            }
        }
        for directory in configured_directories() {
            let path = format!("{directory}/{name}");
            if fits(&path) {
                if !self.library_path.contains(&directory) {
                    self.library_path.push(directory);
                }
                return Some(path);
            }
        }
        None
    }

    fn finish(self, trees: &TreeStore) -> Step<Closure> {
        let mut leaves = Vec::new();
        let mut entries = BTreeMap::new();
        for (path, shown) in &self.view.shown {
            let Source::Value(name) = shown.file.source else {
                return Err(LocalReason::Toolchain(format!("{path} is being built")).into());
            };
            leaves.push((&path[1..], Leaf::File { name, executable: shown.file.executable }));
            entries.insert(path.to_string(), None);
        }
        for (path, target) in &self.view.links {
            leaves.push((&path[1..], Leaf::Link(target)));
            entries.insert(path.to_string(), Some(target.to_string()));
        }
        // Directories that are left by `..` on the way, such as `lib/../lib64`.
        leaves.extend(self.view.directories.iter().map(|path| (&path[1..], Leaf::Directory)));
        Ok(Closure {
            tree: trees.put(self.view.files, &leaves)?,
            entries,
            stamps: self.stamps,
            library_path: self.library_path,
            library_names: self.library_names,
        })
    }
}

fn text(path: &Path) -> Step<&str> {
    path.to_str().ok_or_else(|| LocalReason::Path(path.to_owned()).into())
}

/// The loader's own directories for programs of this machine.
pub(crate) fn loader_directories() -> impl Iterator<Item = &'static str> {
    let machine = match std::env::consts::ARCH {
        "aarch64" => object::elf::EM_AARCH64,
        _ => object::elf::EM_X86_64,
    };
    let own = LOADER_DIRECTORIES.iter().find(|(known, _)| *known == machine);
    own.map_or(&[][..], |(_, list)| list).iter().chain(LOADER_DIRECTORIES_ALL).copied()
}

/// The directories of `/etc/ld.so.conf` and what it includes.
pub(crate) fn configured_directories() -> Vec<String> {
    let mut directories = Vec::new();
    let mut files = vec![PathBuf::from("/etc/ld.so.conf")];
    if let Ok(entries) = std::fs::read_dir("/etc/ld.so.conf.d") {
        let mut more: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        more.sort();
        files.extend(more.into_iter().filter(|path| path.extension().is_some_and(|e| e == "conf")));
    }
    for file in files {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or("").trim());
        directories.extend(lines.filter(|line| line.starts_with('/')).map(str::to_owned));
    }
    directories
}

/// Is it an ELF file that a machine of this kind can load?
pub(crate) fn is_loadable(path: &str) -> bool {
    elf::needs(Path::new(path)).is_some()
}

/// Does the file begin with `#!`?
pub(crate) fn is_script(path: &str) -> bool {
    use std::io::Read as _;
    let mut head = [0; 2];
    std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut head)).is_ok()
        && head == *b"#!"
}
