//! The recipes of `make` and `ninja` that run: the commands of one belong together.
//!
//! A recipe that compiles, and moves a list of dependencies to its place then, has made nothing until
//! it has done both; what is left of the first alone looks made. Who is interrupted takes it back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid as ProcessId, test_kill_process};

use super::caller::shell_of_recipe;
use super::slots::Pid;
use super::undo::journal::StepNumber;

/// By the shell that runs it: the last step of each recipe.
#[derive(Debug, Default)]
pub(super) struct Recipes(Mutex<BTreeMap<Pid, StepNumber>>);

impl Recipes {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Pid, StepNumber>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A step of this caller will be answered. Gives the last steps of all recipes that may go on.
    pub(super) fn step(&self, caller: Pid, step: StepNumber) -> BTreeSet<StepNumber> {
        let shell = shell_of_recipe(caller);
        let mut running = self.lock();
        running.extend(shell.map(|shell| (shell, step)));
        running.retain(|shell, _| is_alive(*shell));
        running.values().copied().collect()
    }

    /// The last steps of all recipes that may go on.
    pub(super) fn running(&self) -> BTreeSet<StepNumber> {
        let running = self.lock();
        let alive = running.iter().filter(|(shell, _)| is_alive(**shell));
        alive.map(|(_, step)| *step).collect()
    }
}

/// Or has `make` not heard yet that it has ended?
fn is_alive(pid: Pid) -> bool {
    let pid = i32::try_from(pid).ok().and_then(ProcessId::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid).is_ok())
}
