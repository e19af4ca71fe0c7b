//! What every model needs while it plans one call.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use mesh_protocol::name::{Tag, ValueName};
use mesh_protocol::path::AbsPath;
use mesh_protocol::thunk::{Function, Limits, Output, Platform, Source, Thunk, ThunkSpec};

use super::askers::{self, Uses};
use super::closure::{Closure, Closures, Roots};
use super::dirs::{DirectoryCache, Kind};
use super::layout::{self, TreeStore, abs};
use super::lex::{self, Directives, Text};
use super::macros::{self, Macros};
use super::plan::{Call, FileSource, Files, PlannedOutput, PlannedThunk};
use super::probe::{Answers, Prober};
use super::reason::{LocalReason, Step};
use super::tool::is_program;
use super::view::{self, DirId, Place, View, is_below};
use super::writing::{self, Writing};
use super::{Settings, Statistics, environment};

/// Where a thunk's tools look for each other.
const SANDBOX_PATH: &[&str] = &["/usr/bin", "/bin"];

/// The one output of a thunk that leaves no file: it is never there.
const NO_OUTPUT: &str = "/tmp/.mesh-no-output";
const NO_OUTPUT_TAG: &str = "none";

type ByContent<T> = RwLock<HashMap<(ValueName, Text), Arc<T>>>;

/// Everything that outlives a plan.
#[derive(Debug, Default)]
pub(crate) struct Caches {
    pub(crate) directories: DirectoryCache,
    pub(crate) answers: Answers,
    pub(crate) closures: Closures,
    pub(crate) trees: TreeStore,
    directives: ByContent<Directives>,
    macros: ByContent<Macros>,
    uses: ByContent<Uses>,
    pub(crate) dependency_runs: AtomicU64,
    files_scanned: AtomicU64,
}

impl Caches {
    pub(crate) fn statistics(&self) -> Statistics {
        Statistics {
            dependency_runs: self.dependency_runs.load(Ordering::Relaxed),
            probes: self.answers.asked.load(Ordering::Relaxed),
            files_scanned: self.files_scanned.load(Ordering::Relaxed),
        }
    }
}

/// One call on its way to a plan.
pub(crate) struct Context<'a> {
    pub(crate) caches: &'a Caches,
    pub(crate) call: &'a Call,
    /// The program that will run: the call's, or the compiler that it stands before.
    pub(crate) program: PathBuf,
    pub(crate) view: View<'a>,
    /// The working directory, real.
    pub(crate) cwd: DirId,
    /// `PATH` without the interposer.
    pub(crate) path: String,
    /// Programs and files whose closure is needed.
    pub(crate) roots: BTreeSet<PathBuf>,
    /// Programs and libraries that are shown otherwise, but need to be loaded.
    pub(crate) loads: BTreeSet<PathBuf>,
    /// Directories of an `LD_LIBRARY_PATH` that reaches the program.
    pub(crate) library_directories: Vec<String>,
    /// Real paths of system include directories.
    pub(crate) anchors: Vec<Rc<str>>,
    /// Interpreters whose standard library is shown.
    pub(crate) runtimes: BTreeSet<PathBuf>,
    outputs: BTreeMap<Tag, (Output, PlannedOutput)>,
    /// Outputs that are directories from the start.
    output_directories: BTreeSet<AbsPath>,
    /// Directories of `PATH` outside [`SANDBOX_PATH`] where a tool was found.
    extra_path: Vec<String>,
}

/// What a model decides in the end.
pub(crate) struct Draft {
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) strip_colour_unless_tty: bool,
    pub(crate) description: String,
}

impl<'a> Context<'a> {
    pub(crate) fn new(
        settings: &'a Settings,
        caches: &'a Caches,
        call: &'a Call,
        files: &'a dyn Files,
    ) -> Step<Self> {
        let mut view = View::new(files, &caches.directories);
        let missing = || LocalReason::Missing(call.working_directory.display().to_string());
        let text = call.working_directory.to_str();
        let text = text.ok_or_else(|| LocalReason::Path(call.working_directory.clone()))?;
        let (cwd, place) = view.directory(View::ROOT, text).ok_or_else(missing)?;
        view.add_way(&place);
        Ok(Self {
            caches,
            call,
            program: call.program.clone(),
            view,
            cwd,
            path: visible_path(settings, call),
            roots: BTreeSet::new(),
            loads: BTreeSet::new(),
            library_directories: Vec::new(),
            anchors: Vec::new(),
            runtimes: BTreeSet::new(),
            outputs: BTreeMap::new(),
            output_directories: BTreeSet::new(),
            extra_path: Vec::new(),
        })
    }

    /// Asks tools about themselves.
    pub(crate) fn prober(&self) -> Prober<'_> {
        Prober {
            answers: &self.caches.answers,
            environment: &self.call.environment,
            path: &self.path,
        }
    }

    /// A variable that is set to something.
    pub(crate) fn variable(&self, name: &str) -> Option<&'a str> {
        self.call.environment.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Where a path of the command line leads.
    pub(crate) fn place(&self, text: &str) -> Step<Place> {
        self.view
            .resolve(self.cwd, text)
            .ok_or_else(|| LocalReason::Missing(text.to_owned()).into())
    }

    /// Shows a file of the command line to the tool.
    pub(crate) fn input(&mut self, text: &str) -> Step<(Place, FileSource)> {
        let place = self.place(text)?;
        if place.is_directory {
            return Err(LocalReason::Missing(text.to_owned()).into());
        }
        let file = self.view.add(&place, false)?;
        Ok((place, file))
    }

    /// Shows a directory of the command line, if it exists.
    pub(crate) fn directory(&mut self, text: &str) -> Option<DirId> {
        let (id, place) = self.view.directory(self.cwd, text)?;
        self.view.add_way(&place);
        Some(id)
    }

    /// Declares a file that the tool leaves.
    pub(crate) fn output(&mut self, tag: &str, text: &str, kind: OutputKind) -> Step<()> {
        let special = || LocalReason::SpecialOutput(text.to_owned());
        let (directory, name) = match text.rsplit_once('/') {
            Some(("", name)) => ("/", name),
            Some((directory, name)) => (directory, name),
            None => (".", text),
        };
        if matches!(name, "" | "." | "..") {
            return Err(special().into());
        }
        let Some(id) = self.directory(directory) else {
            // Its directory will be made if whoever calls has declared it already.
            let place = abs(&self.view.path_of(self.cwd))?.join(text);
            let is_declared = place.is_ok_and(|place| self.is_output(place.as_str()));
            let reason = || LocalReason::NoOutputDirectory(text.to_owned()).into();
            return is_declared.then_some(()).ok_or_else(reason);
        };
        if !matches!(self.view.kind(id, name), None | Some(Kind::File)) {
            return Err(special().into());
        }
        let directory = self.view.path_of(id);
        let path = view::join(&directory, name);
        writing::check(&path, kind)?;
        self.declare(tag, &path, kind)
    }

    /// Declares an output at a real path, unless there is one.
    pub(crate) fn declare(&mut self, tag: &str, path: &str, kind: OutputKind) -> Step<()> {
        let output = Output { path: abs(path)?, required: kind.required, dynamic: false };
        if self.outputs.values().any(|(known, _)| known.path == output.path) {
            return Ok(());
        }
        let tag = self.free_tag(tag)?;
        let planned = PlannedOutput {
            tag: tag.clone(),
            path: path.into(),
            required: kind.required,
            executable: kind.executable,
            writing: kind.writing,
        };
        self.outputs.insert(tag, (output, planned));
        Ok(())
    }

    /// Declares an output that is a directory, there and empty when the tool starts.
    pub(crate) fn declare_directory(&mut self, tag: &str, path: &str) -> Step<()> {
        self.declare(tag, path, OutputKind::file(Writing::Replace))?;
        self.output_directories.insert(abs(path)?);
        Ok(())
    }

    /// Is this real path an output, or in one that is a directory?
    pub(crate) fn is_output(&self, path: &str) -> bool {
        let mut outputs = self.outputs.values().map(|(output, _)| output.path.as_str());
        outputs.any(|output| path == output || is_below(path, output))
    }

    /// `d`, then `d.2`, `d.3`…
    fn free_tag(&self, wanted: &str) -> Step<Tag> {
        let parse = |text: &str| {
            text.parse::<Tag>().map_err(|error| LocalReason::Failed(error.to_string()))
        };
        let mut tag = parse(wanted)?;
        let mut number = 2;
        while self.outputs.contains_key(&tag) {
            tag = parse(&format!("{wanted}.{number}"))?;
            number += 1;
        }
        Ok(tag)
    }

    /// A program that the tool starts by its bare name, as it would find it; it joins the closure.
    pub(crate) fn require_program(&mut self, name: &str) -> Step<PathBuf> {
        let found = self.find_program(name);
        let found = found.ok_or_else(|| LocalReason::Toolchain(format!("{name} not found")))?;
        if let Some(directory) = found.parent()
            && !name.contains('/')
        {
            self.add_to_path(directory);
        }
        self.roots.insert(found.clone());
        Ok(found)
    }

    /// Lets the tool find programs of this directory by their bare names.
    pub(crate) fn add_to_path(&mut self, directory: &Path) {
        if let Some(directory) = directory.to_str()
            && !SANDBOX_PATH.contains(&directory)
            && !self.extra_path.iter().any(|known| known == directory)
        {
            self.extra_path.push(directory.to_owned());
        }
    }

    /// Where a name leads along `PATH`, the interposer aside.
    pub(crate) fn find_program(&self, name: &str) -> Option<PathBuf> {
        if name.contains('/') {
            return Some(PathBuf::from(name)).filter(|path| is_program(path));
        }
        let candidates = self.path.split(':').filter(|d| d.starts_with('/'));
        candidates.map(|directory| Path::new(directory).join(name)).find(|path| is_program(path))
    }

    /// The directives of a file, by its content.
    pub(crate) fn directives(
        &self,
        real: &str,
        file: &FileSource,
        text: Text,
    ) -> Step<Arc<Directives>> {
        let make = |bytes: &[u8]| {
            self.caches.files_scanned.fetch_add(1, Ordering::Relaxed);
            lex::directives(bytes, text)
        };
        self.by_content(&self.caches.directives, real, file, text, make)
    }

    /// The macros that a file defines, by its content.
    pub(crate) fn macros(&self, real: &str, file: &FileSource) -> Step<Arc<Macros>> {
        self.by_content(&self.caches.macros, real, file, Text::C, macros::macros)
    }

    /// What the directives of a file say about macros, by its content.
    pub(crate) fn uses(&self, real: &str, file: &FileSource) -> Step<Arc<Uses>> {
        self.by_content(&self.caches.uses, real, file, Text::C, askers::uses)
    }

    fn by_content<T>(
        &self,
        cache: &ByContent<T>,
        real: &str,
        file: &FileSource,
        text: Text,
        make: impl FnOnce(&[u8]) -> T,
    ) -> Step<Arc<T>> {
        let Source::Value(name) = file.source else {
            return Err(super::reason::Stop::NeedReal(vec![real.into()]));
        };
        let key = (name, text);
        if let Some(known) = cache.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(Arc::clone(known));
        }
        let bytes = self.view.read(real)?;
        let made = Arc::new(make(&bytes));
        // A file that changed since it was named must not be known under the old name.
        if ValueName::of(&bytes) == name {
            let mut cache = cache.write().unwrap_or_else(PoisonError::into_inner);
            cache.insert(key, Arc::clone(&made));
        }
        Ok(made)
    }

    /// The finished thunk of a modelled tool.
    pub(crate) fn finish(mut self, draft: Draft) -> Step<PlannedThunk> {
        self.roots.insert(self.program.clone());
        let closure = self.closure()?;
        environment::check_library_path(&self, &closure)?;
        self.assemble(draft, &closure)
    }

    /// Everything that is loaded to run what was asked for.
    pub(crate) fn closure(&self) -> Step<Arc<Closure>> {
        let caches = self.caches;
        let preferred = &self.library_directories;
        let roots = Roots { files: &self.roots, loads: &self.loads, preferred };
        caches.closures.of(roots, self.view.files, &caches.directories, &caches.trees)
    }

    /// The thunk of all that has been collected.
    pub(crate) fn assemble(self, draft: Draft, closure: &Closure) -> Step<PlannedThunk> {
        let failed = |error: &dyn std::fmt::Display| LocalReason::Failed(error.to_string());
        let mut environment = draft.environment;
        let path = self.extra_path.iter().map(String::as_str).chain(SANDBOX_PATH.iter().copied());
        let path = path.collect::<Vec<_>>().join(":");
        environment.entry("PATH".to_owned()).or_insert(path);
        add_library_path(&mut environment, closure);
        let caches = self.caches;
        let placed = layout::place(&self.view, closure, &self.anchors, &caches.trees)?;
        let program = self.program.to_str();
        let program = program.ok_or_else(|| LocalReason::Path(self.program.clone()))?;
        let platform = Platform::host().ok_or(LocalReason::Unclear("no platform of ours"))?;
        let (outputs, planned): (Vec<_>, Vec<_>) = self.outputs.into_values().unzip();
        let tags = planned.iter().map(|p: &PlannedOutput| p.tag.clone());
        let mut outputs: BTreeMap<Tag, Output> = tags.zip(outputs).collect();
        if outputs.is_empty() {
            // What it prints is all that is wanted; but a thunk has to have an output.
            let output = Output { path: abs(NO_OUTPUT)?, required: false, dynamic: false };
            outputs.insert(NO_OUTPUT_TAG.parse().map_err(|error| failed(&error))?, output);
        }
        let mut directories = placed.directories;
        let trees = |path: &AbsPath| placed.inputs.contains_key(path);
        directories.extend(self.output_directories.into_iter().filter(|path| !trees(path)));
        let spec = ThunkSpec {
            function: Function {
                executable: abs(program)?,
                arguments: draft.arguments,
                environment,
                working_directory: abs(&self.view.path_of(self.cwd))?,
            },
            inputs: placed.inputs,
            symlinks: placed.symlinks,
            directories,
            outputs,
            stdin: None,
            limits: Limits::for_platform(platform),
        };
        Ok(PlannedThunk {
            thunk: Thunk::try_from(spec).map_err(|error| LocalReason::Thunk(error.to_string()))?,
            outputs: planned,
            strip_colour_unless_tty: draft.strip_colour_unless_tty,
            description: draft.description,
        })
    }
}

/// What is known of an output beforehand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OutputKind {
    pub(crate) required: bool,
    pub(crate) executable: bool,
    pub(crate) writing: Writing,
}

impl OutputKind {
    /// A file that the tool leaves whenever it succeeds.
    pub(crate) const fn file(writing: Writing) -> Self {
        Self { required: true, executable: false, writing }
    }
}

/// Libraries outside the loader's own directories come behind those that the caller prefers.
fn add_library_path(environment: &mut BTreeMap<String, String>, closure: &Closure) {
    if closure.library_path.is_empty() {
        return;
    }
    let path = environment.entry("LD_LIBRARY_PATH".to_owned()).or_default();
    if !path.is_empty() {
        path.push(':');
    }
    path.push_str(&closure.library_path.join(":"));
}

fn visible_path(settings: &Settings, call: &Call) -> String {
    let path = call.environment.get("PATH").map_or("/usr/bin:/bin", String::as_str);
    let is_hidden = |directory: &&str| {
        settings.hidden_directories.iter().any(|hidden| hidden == Path::new(directory))
    };
    path.split(':').filter(|directory| !is_hidden(directory)).collect::<Vec<_>>().join(":")
}
