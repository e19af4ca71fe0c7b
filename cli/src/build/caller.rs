//! Who made a call: the processes above it.

use super::slots::Pid;

/// Programs that run recipes, and take what a recipe leaves for made if it is new. They look at files'
/// times alone, and at a great many: a placeholder's time is right.
pub(super) const RUN_RECIPES: &[&str] = &["make", "gmake", "ninja", "samu"];

/// The processes that one comes from with their programs, its parent first.
fn ancestors(pid: Pid) -> impl Iterator<Item = (Pid, String)> {
    const DEPTH_MAX: usize = 16;
    let mut pid = pid;
    std::iter::from_fn(move || {
        pid = parent_of(pid).filter(|parent| *parent > 1)?;
        let program = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        Some((pid, program.file_name()?.to_string_lossy().into_owned()))
    })
    .take(DEPTH_MAX)
}

/// The shell that runs this caller's recipe, if there is one between it and `make`.
pub(super) fn shell_of_recipe(caller: Pid) -> Option<Pid> {
    let mut shell = None;
    for (pid, program) in ancestors(caller) {
        if RUN_RECIPES.contains(&program.as_str()) {
            return shell;
        }
        shell = Some(pid);
    }
    None
}

/// See proc(5), `stat`.
pub(super) fn parent_of(pid: Pid) -> Option<Pid> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may hold any character.
    let (_, rest) = status.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// A field of a process's or thread's status (proc_pid_status(5)).
pub(super) fn status_of(pid: &str, field: &str) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(value.trim().to_owned())
}

/// The compiler cache or the like that made this call.
pub(super) fn launcher_above(pid: Pid) -> Option<String> {
    let (_, parent) = ancestors(pid).next()?;
    matches!(parent.as_str(), "ccache" | "sccache" | "distcc" | "icecc").then_some(parent)
}
