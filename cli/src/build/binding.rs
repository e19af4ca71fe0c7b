//! Tools called by their absolute paths: the interposer is bound over the tools' own files.
//!
//! A link in `PATH` is passed by whoever calls a tool by its path, as CMake does, and configure
//! scripts write links down in place of tools. So where the system allows it the build gets a
//! mount namespace of its own ([`super::mounts`]) in which a tool's file *is* the interposer, and
//! `PATH` stays as it is.
//!
//! ```text
//!  /usr/bin/cc ─▶ gcc ─▶ x86_64-linux-gnu-gcc-12     the interposer
//!  REAL/usr/bin/x86_64-linux-gnu-gcc-12              the tool: REAL/usr/bin is /usr/bin
//! ```
//!
//! Only the build sees that; this process and the thunks that it makes see the tools.
//!
//! Non-goals: tools that are found out by where their file is (clang looks for its headers from
//! `/proc/self/exe`), scripts, and launchers that are called like compilers (ccache): they keep
//! their links in `PATH`. So do tools that the user could replace while the build runs: a file
//! that something is bound over can be neither removed nor renamed.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mesh_cli::frontend::{Inode, Tool, is_executable, tool_names_in};
use rustix::fs::Access;

use super::mounts::Mounts;

/// Where the tools themselves are, for the build: a directory that stands for `/`.
pub(crate) const REAL_VARIABLE: &str = "MESH_BUILD_REAL";

/// The name of that directory.
const REAL_NAME: &str = "mesh-real";

/// Where tools are called by their paths, whatever `PATH` says.
const USUAL: &[&str] = &["/usr/bin", "/usr/local/bin", "/bin"];

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Binding {
    real: PathBuf,
    /// By their own paths, without symbolic links.
    tools: BTreeSet<PathBuf>,
    inodes: BTreeSet<Inode>,
    mounts: Arc<Mounts>,
}

/// Does the system let this user bind anything?
pub(crate) fn is_possible() -> bool {
    Mounts::new(&[]).map(Arc::new).is_ok_and(|mounts| mounts.are_possible())
}

impl Binding {
    /// A binding of `interposer` over the tools in these directories and in the usual ones;
    /// `None` if there are none or the system does not allow it. `real`: [`real_directory`].
    pub(crate) fn new(directories: &[PathBuf], interposer: &Path, real: PathBuf) -> Option<Self> {
        let tools = tools_in(directories);
        if tools.is_empty() {
            return None;
        }
        Self::of(tools, interposer, real).ok().filter(|binding| binding.mounts.are_possible())
    }

    fn of(tools: BTreeSet<PathBuf>, interposer: &Path, real: PathBuf) -> io::Result<Self> {
        let places: BTreeSet<&Path> = tools.iter().filter_map(|tool| tool.parent()).collect();
        let originals: Vec<(&Path, PathBuf)> =
            places.into_iter().map(|place| (place, below(&real, place))).collect();
        for (_, original) in &originals {
            make_public(&real, original)?;
        }
        let inodes = tools.iter().map(|tool| Ok(Inode::of(&std::fs::metadata(tool)?)));
        let inodes = inodes.collect::<io::Result<_>>()?;
        // The directories first: there the files are still the tools.
        let originals = originals.iter().map(|(place, original)| (*place, original.as_path()));
        let stand_ins = tools.iter().map(|tool| (interposer, tool.as_path()));
        let mounts = Mounts::new(&originals.chain(stand_ins).collect::<Vec<_>>())?;
        Ok(Self { real, tools, inodes, mounts: Arc::new(mounts) })
    }

    /// For the build command.
    pub(crate) fn mounts(&self) -> &Arc<Mounts> {
        &self.mounts
    }

    /// The value of [`REAL_VARIABLE`].
    pub(crate) fn real(&self) -> &Path {
        &self.real
    }

    /// Does the build see the interposer in this file's place?
    pub(crate) fn covers(&self, file: &Metadata) -> bool {
        self.inodes.contains(&Inode::of(file))
    }

    /// Where a tool is that the build reaches at `path`, if that is its way around the interposer.
    pub(crate) fn original(&self, path: &Path) -> Option<PathBuf> {
        path.strip_prefix(&self.real).ok().map(|rest| Path::new("/").join(rest))
    }

    /// The tools' names in `PATH` whose first program there is none of the bound ones.
    pub(crate) fn uncovered(&self, directories: &[PathBuf]) -> Vec<String> {
        let is_covered = |name: &String| {
            let found = directories.iter().map(|directory| directory.join(name));
            let first = found
                .into_iter()
                .find(|path| std::fs::metadata(path).is_ok_and(|file| is_executable(&file)));
            let first = first.and_then(|path| path.canonicalize().ok());
            first.is_some_and(|path| self.tools.contains(&path))
        };
        let names = tool_names_in(directories).into_iter();
        names.filter(|name| !is_covered(name)).collect()
    }
}

/// `path`, which is absolute, in a directory that stands for `/`.
pub(crate) fn below(real: &Path, path: &Path) -> PathBuf {
    real.join(path.strip_prefix("/").unwrap_or(path))
}

/// The files of the modelled tools here that something may be bound over.
fn tools_in(directories: &[PathBuf]) -> BTreeSet<PathBuf> {
    let usual = USUAL.iter().map(PathBuf::from);
    let directories: Vec<PathBuf> = directories.iter().cloned().chain(usual).collect();
    let mut tools = BTreeSet::new();
    for name in tool_names_in(&directories) {
        for directory in &directories {
            if let Ok(file) = directory.join(&name).canonicalize()
                && is_tool_itself(&file)
                && !is_in_reach(&file)
            {
                tools.insert(file);
            }
        }
    }
    tools
}

/// Is it a tool, not something that only goes by a tool's name, and one that works from elsewhere?
fn is_tool_itself(file: &Path) -> bool {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    Tool::of(name).is_some() && !name.contains("clang") && is_program(file)
}

fn is_program(file: &Path) -> bool {
    let mut head = [0; 4];
    let read = std::fs::File::open(file).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && head == *b"\x7fELF"
}

/// May a build of this user replace the file? Root may do it anywhere, and seldom does where the
/// system's own programs are.
fn is_in_reach(file: &Path) -> bool {
    let Some(directory) = file.parent() else { return true };
    if rustix::process::geteuid().is_root() {
        let is_own = |path: &Path| std::fs::metadata(path).is_ok_and(|found| found.uid() == 0);
        let here = std::env::current_dir().unwrap_or_default();
        let is_here = here.parent().is_some() && file.starts_with(&here);
        return !is_own(file) || !is_own(directory) || is_here;
    }
    rustix::fs::access(directory, Access::WRITE_OK).is_ok()
}

/// The directory that stands for `/`. It stays, empty, so that what outlives a build keeps its
/// tools, and everybody may pass, as other users whom a build of root becomes.
/// `home`: this user's state.
pub(crate) fn real_directory(home: &Path) -> io::Result<PathBuf> {
    let home = home.canonicalize()?;
    let is_open =
        |path: &Path| std::fs::metadata(path).is_ok_and(|found| found.mode() & 0o001 != 0);
    let is_root = rustix::process::geteuid().is_root();
    let parent = match is_root && !home.ancestors().all(is_open) {
        true => Path::new("/run"),
        false => &home,
    };
    let real = parent.join(REAL_NAME);
    make_public(parent, &real)?;
    Ok(real)
}

/// Makes a directory below `base`, with those on the way, whatever the umask.
fn make_public(base: &Path, directory: &Path) -> io::Result<()> {
    let missing = directory.ancestors().take_while(|ancestor| *ancestor != base);
    for directory in missing.collect::<Vec<_>>().into_iter().rev() {
        match std::fs::create_dir(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Err(_) => {}
            Ok(()) => {
                let mode = std::fs::Permissions::from_mode(0o755);
                std::fs::set_permissions(directory, mode)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn program(path: &Path, content: &str) {
        std::fs::write(path, content).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn only_programs_that_are_tools_themselves_may_be_hidden() {
        let place = tempfile::tempdir().unwrap();
        for (name, content, bindable) in [
            ("gcc-12", "\x7fELF", true),
            ("ld.bfd", "\x7fELF", true),
            ("ar", "#!/bin/sh", false),
            ("as", "", false),
            ("clang-14", "\x7fELF", false),
            ("ccache", "\x7fELF", false),
        ] {
            let file = place.path().join(name);
            program(&file, content);
            assert_eq!(is_tool_itself(&file), bindable, "{name}");
        }
    }

    #[test]
    fn names_that_lead_elsewhere_keep_their_links() {
        let place = tempfile::tempdir().unwrap();
        let base = place.path().canonicalize().unwrap();
        let (first, second) = (base.join("first"), base.join("second"));
        for directory in [&first, &second, &base.join("real")] {
            std::fs::create_dir(directory).unwrap();
        }
        program(&second.join("gcc-12"), "\x7fELF");
        for name in ["gcc", "cc", "g++"] {
            symlink("gcc-12", second.join(name)).unwrap();
        }
        program(&second.join("ccache"), "\x7fELF");
        symlink(second.join("ccache"), first.join("cc")).unwrap();
        // Not a program: those that look for one pass it.
        std::fs::write(first.join("g++"), "").unwrap();
        program(&second.join("clang"), "\x7fELF");
        let tools = BTreeSet::from([second.join("gcc-12")]);
        let binding = Binding::of(tools, &second.join("ccache"), base.join("real")).unwrap();
        assert_eq!(binding.uncovered(&[first, second.clone()]), ["cc", "clang"]);
        let around = below(&base.join("real"), &second.join("gcc-12"));
        assert_eq!(binding.original(&around), Some(second.join("gcc-12")));
        assert_eq!(binding.original(&second.join("gcc-12")), None);
        assert!(around.parent().unwrap().is_dir(), "there is something to mount on");
    }

    #[test]
    fn what_this_user_may_replace_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("gcc");
        program(&file, "\x7fELF");
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&file, Some(1), Some(1)).unwrap();
        }
        assert!(is_in_reach(&file));
    }
}
