//! Watching the processes that a command has started.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};

/// A process and when it started, in clock ticks since boot: numbers are used again, these are not.
type Process = (u32, u64);

#[derive(Clone, Debug)]
struct Known {
    name: String,
    parent: u32,
    state: char,
    started: u64,
}

/// Counts the processes of certain names that descend from one command.
#[derive(Debug)]
pub struct Watch {
    root: u32,
    names: &'static [&'static str],
    before: BTreeSet<Process>,
    /// Every name that was seen.
    seen: BTreeSet<String>,
}

impl Watch {
    /// Watches what descends from `command`.
    pub fn new(command: &Child, names: &'static [&'static str]) -> Self {
        Self { root: command.id(), names, before: BTreeSet::new(), seen: BTreeSet::new() }
    }

    /// Looks once: how many of them have certainly run at one moment since the last look.
    ///
    /// A single look is not enough: while the list is read, one may end and the next begin. Those
    /// in two lists one after the other were all there in between.
    pub fn look(&mut self) -> usize {
        let all = all();
        let mut now = BTreeSet::new();
        for pid in descendants(&all, self.root) {
            let known = &all[&pid];
            let runs = !matches!(known.state, 'Z' | 'X');
            if runs && self.names.contains(&known.name.as_str()) {
                self.seen.insert(known.name.clone());
                now.insert((pid, known.started));
            }
        }
        let at_once = self.before.intersection(&now).count();
        self.before = now;
        at_once
    }

    /// Looks until the command ends: the most that ran at once.
    ///
    /// # Panics
    /// If one of the names was never seen: then the watch is worth nothing.
    pub fn until_end(mut self, command: &mut Child) -> usize {
        let mut most = 0;
        while command.try_wait().expect("a child can be waited for").is_none() {
            most = most.max(self.look());
        }
        let seen: Vec<&str> = self.seen.iter().map(String::as_str).collect();
        assert_eq!(seen.len(), self.names.len(), "saw only {seen:?} of {:?}", self.names);
        most
    }
}

/// All that descend from a process, itself among them, as they are now.
#[derive(Debug)]
pub struct Family(BTreeSet<Process>);

impl Family {
    /// The family of a running command.
    pub fn of(command: &Child) -> Self {
        Self::of_process(command.id())
    }

    /// The same, by its number.
    pub fn of_process(root: u32) -> Self {
        let all = all();
        let pids = descendants(&all, root);
        Self(pids.into_iter().map(|pid| (pid, all[&pid].started)).collect())
    }

    /// How many they are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Kills those that are left.
    pub fn kill(&self) {
        let all = all();
        for (pid, started) in &self.0 {
            if all.get(pid).is_some_and(|known| known.started == *started)
                && let Some(pid) = Pid::from_raw(*pid as i32)
            {
                // It may end at any moment.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }

    /// Waits until none of them is left. One that stays makes the test run into its time limit.
    pub fn wait_until_gone(&self) {
        let left = || {
            let all = all();
            self.0.iter().any(|(pid, started)| {
                all.get(pid).is_some_and(|known| known.started == *started && known.state != 'Z')
            })
        };
        while left() {
            std::thread::yield_now();
        }
    }
}

/// Waits until no process is left that was started with this in its environment, as `NAME=value`:
/// also those that began after one has looked for them. Only root sees those of others.
pub fn wait_until_none_has(variable: &str) {
    while !names_of_those_that_have(variable).is_empty() {
        std::thread::yield_now();
    }
}

/// The first words of the processes that were started with this in their environment.
pub fn names_of_those_that_have(variable: &str) -> Vec<String> {
    let strings = |pid: u32, file: &str| {
        let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let strings = bytes.split(|byte| *byte == 0);
        strings.map(|one| String::from_utf8_lossy(one).into_owned()).collect::<Vec<_>>()
    };
    let have = |pid: &u32| strings(*pid, "environ").iter().any(|one| one == variable);
    let name = |pid: u32| strings(pid, "cmdline").into_iter().next().unwrap_or_default();
    all().into_keys().filter(have).map(name).collect()
}

/// How many processes of that name descend from a process.
pub fn descendants_named(root: u32, name: &str) -> usize {
    let all = all();
    let is_named = |pid: &u32| all[pid].name == name && !matches!(all[pid].state, 'Z' | 'X');
    descendants(&all, root).iter().filter(|pid| is_named(pid)).count()
}

/// What a process has used since it started, or what it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usage {
    /// CPU time, user and system, in clock ticks: usually 100 a second.
    pub ticks: u64,
    /// Memory that is resident, in bytes.
    pub resident_bytes: u64,
    /// The most that was.
    pub resident_bytes_max: u64,
}

/// What a process has used; none if it is gone.
pub fn usage(pid: u32) -> Option<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let bytes = |key: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse().ok().map(|kibibytes: u64| kibibytes * 1024)
    };
    let (resident_bytes, resident_bytes_max) = (bytes("VmRSS:")?, bytes("VmHWM:")?);
    Some(Usage { ticks: user + system, resident_bytes, resident_bytes_max })
}

fn descendants(all: &BTreeMap<u32, Known>, root: u32) -> BTreeSet<u32> {
    let descends = |pid: u32| {
        let mut at = pid;
        // As deep as a tree of processes can be.
        for _ in 0..all.len() {
            match all.get(&at) {
                _ if at == root => return true,
                Some(known) => at = known.parent,
                None => return false,
            }
        }
        false
    };
    all.keys().copied().filter(|pid| descends(*pid)).collect()
}

fn all() -> BTreeMap<u32, Known> {
    let entries = fs::read_dir("/proc").expect("/proc is there").filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: u32| Some((pid, known(pid)?))).collect()
}

/// See proc_pid_stat(5). The name is in parentheses and may hold some itself.
fn known(pid: u32) -> Option<Known> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&text);
    let (from, to) = (text.find('(')?, text.rfind(')')?);
    let mut fields = text[to + 1..].split_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let started = fields.nth(17)?.parse().ok()?;
    Some(Known { name: text[from + 1..to].to_owned(), parent, state, started })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn what_runs_at_once_is_counted() {
        // Two programs that wait for the end of their input. A shell gives none to commands in the
        // background, so it comes through another descriptor.
        let script = "exec 3<&0; cat <&3 & cat <&3 & exec 3<&- 0<&-; wait";
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut shell = shell.spawn().unwrap();
        let mut watch = Watch::new(&shell, &["cat"]);
        while watch.look() != 2 {}
        let family = Family::of(&shell);
        assert!(family.0.len() >= 3);
        drop(shell.stdin.take());
        shell.wait().unwrap();
        family.wait_until_gone();
        assert_eq!((watch.look(), watch.look()), (0, 0));
    }
}
