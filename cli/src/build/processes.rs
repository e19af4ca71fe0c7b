//! All processes of a build, also those whose parents have ended.
//!
//! This process becomes the parent of what its descendants leave behind (a *subreaper*, prctl(2)),
//! so that nothing of a build escapes when it has to end. What this process starts for itself
//! meanwhile is told from the build by the filter that the build's processes are watched with.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use mesh_store::SYNC_NAME;
use rustix::process::{
    Pid as ProcessId, Signal, WaitOptions, getpgid, getpgrp, kill_process, waitpid,
};

use super::caller::status_of;
use super::slots::Pid;

/// How long killed processes may take to be gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often it is looked for what is left. Processes that are killed cannot be waited for: most
/// are not our children.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// How often all processes are read before one reading is taken as it is.
const READINGS_MAX: usize = 100;

/// The processes that come from this one, apart from those that it had before a build.
#[derive(Debug)]
pub(crate) struct Processes {
    own: BTreeSet<Pid>,
    /// Processes of the build have a filter.
    are_watched: bool,
}

impl Processes {
    /// To be called before a build command is started.
    pub(crate) fn before_build(are_watched: bool) -> Self {
        // Where that is not allowed, what has lost its parent is not found.
        let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
        let this = std::process::id();
        let own = parents().into_iter().filter(|(_, parent)| *parent == this);
        Self { own: own.map(|(pid, _)| pid).collect(), are_watched }
    }

    /// Those of the build that are alive.
    fn alive(&self) -> Vec<Pid> {
        let (this, own_filters) = (std::process::id(), filters("self"));
        let parents = parents();
        let mut children: BTreeMap<Pid, Vec<Pid>> = BTreeMap::new();
        for (pid, parent) in &parents {
            children.entry(*parent).or_default().push(*pid);
        }
        let mut found = Vec::new();
        let mut next = vec![this];
        while let Some(parent) = next.pop() {
            for pid in children.get(&parent).into_iter().flatten() {
                let is_plain = || self.are_watched && filters(&pid.to_string()) <= own_filters;
                let is_ours =
                    parent == this && (self.own.contains(pid) || is_plain() || is_of_store(*pid));
                if !is_ours {
                    found.push(*pid);
                    next.push(*pid);
                }
            }
        }
        found
    }

    /// Is none left?
    pub(crate) fn is_empty(&self) -> bool {
        self.alive().into_iter().all(is_zombie)
    }

    /// Sends a signal to those that a terminal would send it to: those of our process group.
    pub(crate) fn signal(&self, signal: Signal) {
        let group = getpgrp();
        for pid in self.alive().into_iter().filter_map(process) {
            if getpgid(Some(pid)) == Ok(group) {
                let _ = kill_process(pid, signal);
            }
        }
    }

    /// Does this process belong to the build?
    pub(crate) fn contains(&self, pid: Pid) -> bool {
        self.alive().contains(&pid)
    }

    /// Ends them all at once, and waits until they are gone, but for the build command `command`,
    /// for which somebody else waits.
    pub(crate) fn kill(&self, command: Pid) {
        let begin = Instant::now();
        loop {
            let alive = self.alive();
            if alive.is_empty() || begin.elapsed() > PATIENCE {
                return;
            }
            for number in alive {
                let Some(pid) = process(number) else { continue };
                // It may have ended already; and it may be somebody's zombie, or our own.
                let _ = kill_process(pid, Signal::KILL);
                if number != command {
                    let _ = waitpid(Some(pid), WaitOptions::NOHANG);
                }
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// Does it bring the store to the disk?
fn is_of_store(pid: Pid) -> bool {
    status_of(&pid.to_string(), "Name").is_some_and(|name| name.as_bytes() == SYNC_NAME.to_bytes())
}

/// How many system call filters a process has (proc_pid_status(5), Linux 5.9).
fn filters(pid: &str) -> u32 {
    status_of(pid, "Seccomp_filters").and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// Has it ended, and nobody asked for its status?
fn is_zombie(pid: Pid) -> bool {
    status_of(&pid.to_string(), "State").is_none_or(|state| state.contains('Z'))
}

fn process(pid: Pid) -> Option<ProcessId> {
    i32::try_from(pid).ok().and_then(ProcessId::from_raw)
}

/// All processes with their parents.
///
/// They are read one by one. One whose parent ended meanwhile has another parent by now, and would
/// seem to come from nowhere: then all are read again.
fn parents() -> BTreeMap<Pid, Pid> {
    let mut parents = read_parents();
    for _ in 0..READINGS_MAX {
        let is_whole = |parent: &Pid| *parent == 0 || parents.contains_key(parent);
        if parents.values().all(is_whole) {
            break;
        }
        parents = read_parents();
    }
    parents
}

fn read_parents() -> BTreeMap<Pid, Pid> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<Pid>().ok());
    pids.filter_map(|pid| Some((pid, super::caller::parent_of(pid)?))).collect()
}
