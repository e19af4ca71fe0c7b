//! What all passes of a build share: store, engine, frontends, counts.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh_cli::frontend::{Frontends, Settings, tool_names_in};
use mesh_node::exec::Engine;
use mesh_protocol::name::{Digest, ValueName};
use mesh_protocol::thunk::Thunk;
use mesh_store::Store;

use super::binding::{Binding, real_directory};
use super::interposer::Interposer;
use super::step::CallKey;
use crate::error::CliError;
use crate::ui::Console;

/// Letters of a name for a set of tools.
const SHORT_NAME: usize = 16;

/// See the module's description.
pub(crate) struct Site {
    pub(crate) store: Store,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) frontends: Frontends,
    pub(crate) console: Console,
    /// The directory of links to the interposer, first in the build's `PATH` if it is needed.
    pub(crate) links: Option<PathBuf>,
    /// Where the interposer is bound over tools.
    pub(crate) binding: Option<Binding>,
    /// What stands in the tools' places.
    pub(crate) interposer: Interposer,
    /// Calls whose sandbox failed in an earlier pass, with the reason: they run here.
    marked: Mutex<BTreeMap<CallKey, String>>,
    /// Values that were given to thunks.
    inputs: Mutex<BTreeSet<ValueName>>,
    /// The trouble that was told already.
    told: Mutex<BTreeSet<u8>>,
    infer_us: AtomicU64,
    bytes_out: AtomicU64,
}

impl Site {
    /// A site for one build. `home` is this user's state; with `bind`, tools called by their paths
    /// are interposed where that is possible.
    pub(crate) fn new(
        store: Store,
        engine: Arc<dyn Engine>,
        console: Console,
        home: &Path,
        bind: bool,
    ) -> Result<Self, CliError> {
        let directories = path_directories(home);
        let real = bind.then(|| real_directory(home).ok()).flatten();
        let interposer = Interposer::install(home, real.as_deref()).map_err(CliError::io(home))?;
        let binding = real.and_then(|real| Binding::new(&directories, interposer.path(), real));
        let links = match &binding {
            Some(binding) => Links::of(home, binding.uncovered(&directories)),
            None => Links::all(home, &directories),
        };
        links.make(interposer.path()).map_err(CliError::io(&links.directory))?;
        let settings = Settings { hidden_directories: vec![links.directory.clone()] };
        Ok(Self {
            store,
            engine,
            frontends: Frontends::new(settings),
            console,
            links: (!links.names.is_empty()).then_some(links.directory),
            binding,
            interposer,
            marked: Mutex::default(),
            inputs: Mutex::default(),
            told: Mutex::default(),
            infer_us: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
        })
    }

    fn marks(&self) -> MutexGuard<'_, BTreeMap<CallKey, String>> {
        self.marked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on this call runs here.
    pub(crate) fn mark(&self, call: CallKey, reason: String) {
        self.marks().insert(call, reason);
    }

    /// Why this call has to run here.
    pub(crate) fn mark_of(&self, call: &CallKey) -> Option<String> {
        self.marks().get(call).cloned()
    }

    /// The tool's own path, if this one is its way around the interposer.
    pub(crate) fn original_of(&self, path: &Path) -> (PathBuf, bool) {
        let original = self.binding.as_ref().and_then(|binding| binding.original(path));
        let is_original = original.is_some();
        (original.unwrap_or_else(|| path.to_owned()), is_original)
    }

    /// Tells people once of each kind of trouble that makes calls run here.
    pub(crate) fn trouble(&self, error: &CliError) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.insert(error.code()) {
            self.console
                .note(format_args!("{error}; what it concerns runs as if mesh were absent"));
        }
    }

    /// Counts the time that planning took.
    pub(crate) fn planned(&self, thunk: &Thunk, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.infer_us.fetch_add(micros, Ordering::Relaxed);
        let mut inputs = self.inputs.lock().unwrap_or_else(PoisonError::into_inner);
        inputs.extend(thunk.values());
    }

    /// Counts bytes that came back as files.
    pub(crate) fn brought(&self, bytes: u64) {
        self.bytes_out.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The time that planning took in all.
    pub(crate) fn infer(&self) -> Duration {
        Duration::from_micros(self.infer_us.load(Ordering::Relaxed))
    }

    /// Bytes of the distinct values that thunks named, trees by their own listing; and bytes of
    /// the files that were written.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        let inputs = self.inputs.lock().unwrap_or_else(PoisonError::into_inner);
        let given = inputs.iter().map(|name| name.digest().length).sum();
        (given, self.bytes_out.load(Ordering::Relaxed))
    }
}

/// The directories of `PATH`, those of our links aside.
fn path_directories(home: &Path) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_ours = |directory: &PathBuf| {
        directory.starts_with(home.join(LINKS)) || directory.starts_with(home.join(LINKS_OF_SOME))
    };
    std::env::split_paths(&path).filter(|directory| !is_ours(directory)).collect()
}

/// Links to the interposer under tools' names. Their directory stays: a build that wrote a tool's
/// path down, as configure scripts do, finds the real tool through it later.
struct Links {
    directory: PathBuf,
    names: Vec<String>,
}

/// The directory of links for every tool.
const LINKS: &str = "tools";

/// Directories of links for the tools that cannot be bound, one for each set of names.
const LINKS_OF_SOME: &str = "tools-by-name";

impl Links {
    fn all(home: &Path, directories: &[PathBuf]) -> Self {
        Self { directory: home.join(LINKS), names: tool_names_in(directories) }
    }

    fn of(home: &Path, names: Vec<String>) -> Self {
        let mut name = Digest::of(names.join("/").as_bytes()).hex();
        name.truncate(SHORT_NAME);
        Self { directory: home.join(LINKS_OF_SOME).join(name), names }
    }

    fn make(&self, interposer: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.directory)?;
        for name in &self.names {
            let link = self.directory.join(name);
            if std::fs::read_link(&link).is_ok_and(|target| target == interposer) {
                continue;
            }
            // Another build may be making the same link.
            let fresh = self.directory.join(format!(".{name}.{}", std::process::id()));
            symlink(interposer, &fresh)?;
            std::fs::rename(&fresh, &link)?;
        }
        Ok(())
    }
}
