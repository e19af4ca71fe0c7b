//! `mesh` inside of a build: what it runs for itself must be the tools, not their stand-ins.

use std::path::{Path, PathBuf};

use mesh_cli::frontend::{Frontends, Inode};

use super::binding::{REAL_VARIABLE, below};
use super::mounts::Mounts;

/// Lets this process, which has one thread, see the tools: a `mesh run` or `mesh make` inside a
/// build plans with them, and gives them to sandboxes.
pub(crate) fn see_tools() {
    let Some(real) = std::env::var_os(REAL_VARIABLE).map(PathBuf::from) else { return };
    let hidden = mount_points().into_iter().filter(|point| is_tool(point));
    let hidden = hidden.map(|tool| (below(&real, &tool), tool));
    let hidden: Vec<(PathBuf, PathBuf)> =
        hidden.filter(|(original, tool)| are_different(original, tool)).collect();
    let binds: Vec<(&Path, &Path)> =
        hidden.iter().map(|(original, tool)| (original.as_path(), tool.as_path())).collect();
    if !binds.is_empty() {
        // Where this fails the command meets interposers, which work outside of sandboxes.
        let _ = Mounts::new(&binds).and_then(|mounts| mounts.enter());
    }
}

/// Where something is mounted, in the order in which it was (proc_pid_mountinfo(5)). Paths with
/// blanks are written otherwise there; no tools are in such directories.
fn mount_points() -> Vec<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from).collect()
}

fn is_tool(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(Frontends::is_modelled)
}

/// Are both there, and two files?
fn are_different(one: &Path, other: &Path) -> bool {
    let inode = |path: &Path| std::fs::metadata(path).ok().map(|found| Inode::of(&found));
    inode(one).zip(inode(other)).is_some_and(|(one, other)| one != other)
}
