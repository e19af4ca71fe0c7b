//! What an interposer stands in for, and where the tools themselves are.

use std::ffi::OsString;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mesh_cli::frontend::{Frontends, is_executable};

use super::binding::{REAL_NAME, REAL_VARIABLE, below};
use super::mounts::Mounts;

/// This process, as the program that its caller thinks it is.
#[derive(Debug)]
pub(crate) struct StandIn {
    /// `argv[0]`.
    pub(crate) called: OsString,
    /// This program's file.
    own: Metadata,
    /// The tool's file, if we are bound over it: its path, the same for the build.
    bound: Option<PathBuf>,
    /// The directory that stands for `/` and has the tools themselves.
    real: Option<PathBuf>,
}

impl StandIn {
    /// `None` if this process was called by its own name.
    pub(crate) fn here() -> Option<Self> {
        let called = std::env::args_os().next()?;
        let file = std::env::current_exe().ok()?;
        // Somebody may have called it anything, through a link of theirs.
        let is_bound = is_tool(&file);
        if !is_bound && !is_tool(Path::new(&called)) {
            return None;
        }
        let own = std::fs::metadata("/proc/self/exe").ok()?;
        let variable = std::env::var_os(REAL_VARIABLE).map(PathBuf::from);
        // An environment may have been cleared.
        let real = variable.or_else(|| is_bound.then(|| mounted_real(&file)).flatten());
        Some(Self { called, own, bound: is_bound.then_some(file), real })
    }

    /// The file that we are bound over.
    pub(crate) fn bound(&self) -> Option<&Path> {
        self.bound.as_deref()
    }

    /// The tool itself, where no supervisor can say.
    pub(crate) fn behind(&self) -> Option<PathBuf> {
        if let Some(bound) = &self.bound {
            return self.original(bound);
        }
        let name = Path::new(&self.called).file_name()?;
        let path = std::env::var_os("PATH")?;
        let found = std::env::split_paths(&path).map(|directory| directory.join(name));
        found.into_iter().find_map(|candidate| self.program_at(&candidate))
    }

    /// Where the program called `path` can be executed, past all interposers.
    pub(crate) fn program_at(&self, path: &Path) -> Option<PathBuf> {
        let found = std::fs::metadata(path).ok()?;
        match is_same(&found, &self.own) {
            false => is_executable(&found).then(|| path.to_owned()),
            true => self.original(&path.canonicalize().ok()?),
        }
    }

    /// The tool over whose file an interposer is bound.
    fn original(&self, file: &Path) -> Option<PathBuf> {
        let original = below(self.real.as_ref()?, file);
        let is_other = std::fs::metadata(&original).is_ok_and(|found| !is_same(&found, &self.own));
        is_other.then_some(original)
    }

    /// `argv[0]` for the program at `path`.
    ///
    /// A compiler finds its parts by it. Our links are not where the compiler is; any other path,
    /// and a bare name, lead to it.
    pub(crate) fn name_for<'a>(&'a self, path: &'a Path) -> &'a Path {
        let called = Path::new(&self.called);
        let is_bare = !called.as_os_str().as_encoded_bytes().contains(&b'/');
        if is_bare || self.bound.is_some() { called } else { path }
    }

    /// `PATH` without the directory of links that led here.
    pub(crate) fn path_without_links(&self) -> Option<OsString> {
        let path = std::env::var_os("PATH")?;
        if self.bound.is_some() {
            return Some(path);
        }
        let name = Path::new(&self.called).file_name()?;
        let file = std::env::current_exe().ok()?;
        // A tool that we are bound over is reached in its own directory, which stays.
        let is_link = |directory: &PathBuf| {
            directory.join(name).canonicalize().is_ok_and(|found| found == file)
        };
        let own = std::env::split_paths(&path).find(is_link);
        let others = std::env::split_paths(&path).filter(|place| Some(place) != own.as_ref());
        // What was split can be joined.
        std::env::join_paths(others).ok()
    }
}

fn is_tool(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(Frontends::is_modelled)
}

/// The directory that stands for `/`, found by what is mounted in it.
fn mounted_real(tool: &Path) -> Option<PathBuf> {
    let directory = below(Path::new(REAL_NAME), tool.parent()?);
    let depth = directory.components().count() - 1;
    let found = mount_points().into_iter().rev().find(|point| point.ends_with(&directory))?;
    found.ancestors().nth(depth).map(Path::to_owned)
}

/// Where something is mounted, in the order in which it was (proc_pid_mountinfo(5)). Paths with
/// blanks are written otherwise there; no tools are in such directories.
fn mount_points() -> Vec<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from).collect()
}

/// Lets this process, which has one thread and is no interposer, see the tools: a `mesh run` or
/// `mesh make` inside a build plans with them, and gives them to sandboxes.
pub(crate) fn see_tools() {
    let Some(real) = std::env::var_os(REAL_VARIABLE).map(PathBuf::from) else { return };
    let hidden = mount_points().into_iter().filter(|point| is_tool(point));
    let hidden = hidden.map(|tool| (below(&real, &tool), tool));
    let hidden: Vec<(PathBuf, PathBuf)> = hidden
        .filter(|(original, tool)| match (std::fs::metadata(original), std::fs::metadata(tool)) {
            (Ok(original), Ok(tool)) => !is_same(&original, &tool),
            _ => false,
        })
        .collect();
    let binds: Vec<(&Path, &Path)> =
        hidden.iter().map(|(original, tool)| (original.as_path(), tool.as_path())).collect();
    if !binds.is_empty() {
        // Where this fails the command meets interposers, which work outside of sandboxes.
        let _ = Mounts::new(&binds).and_then(|mounts| mounts.enter());
    }
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}
