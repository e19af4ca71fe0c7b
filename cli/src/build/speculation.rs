//! Running ahead of steps that may fail, as a transaction.
//!
//! A call that is answered before its tool has run is *pending*. As long as one is, all that the
//! build changes is saved ([`super::undo`]) and what it prints is held back ([`super::words`]).
//!
//! ```text
//!          a call is answered early          all have finished
//!   open ───────────────────────▶ pending ─────────────────────▶ open
//!    │                              │  │
//!    │ something that nobody can    │  └── one fails ──▶ failed: back to the start, then eagerly
//!    │ undo, or too much to lose    │
//!    ▼                              ▼
//!   closed, nothing pending ◀──── closed: no call is answered early any more
//!   = committed: nothing is saved any more
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::step::Step;
use super::undo::journal::StepNumber;
use super::undo::{CannotUndo, UndoLog};

/// Why a build does not run ahead any more whose command has ended.
pub(crate) const COMMAND_ENDED: &str = "the build command has ended";

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Speculation {
    pub(crate) undo: UndoLog,
    state: Mutex<State>,
    phase: watch::Sender<Phase>,
}

#[derive(Debug, Default)]
struct State {
    pending: BTreeMap<StepNumber, Arc<Step>>,
    /// Why no call is answered early any more.
    closed: Option<String>,
    failed: bool,
}

/// How far a pass has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// Calls may be answered early.
    Running,
    /// Nothing that is done from now on has to be undone.
    Committed,
    /// A pending step has failed.
    Failed,
}

impl Speculation {
    /// Nothing is pending yet.
    pub(crate) fn new(undo: UndoLog) -> Self {
        Self { undo, state: Mutex::default(), phase: watch::Sender::new(Phase::Running) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers a step early, if that is still allowed. `open`: see [`UndoLog::savepoint`].
    pub(crate) fn begin(
        &self,
        step: &Arc<Step>,
        open: impl FnOnce(StepNumber) -> BTreeSet<StepNumber>,
    ) -> Option<StepNumber> {
        let mut state = self.state();
        if state.closed.is_some() || state.failed {
            return None;
        }
        let number = self.undo.savepoint(open).ok()?;
        state.pending.insert(number, Arc::clone(step));
        Some(number)
    }

    /// A step that was answered early has finished, and its files are there.
    pub(crate) fn finished(&self, number: StepNumber) {
        // Without this record a killed build only goes back further than it has to.
        let _ = self.undo.finished(number);
        let mut state = self.state();
        state.pending.remove(&number);
        self.commit_if_done(&state);
    }

    /// A step that was answered early failed, or could not be answered early after all.
    pub(crate) fn failed(&self) {
        self.state().failed = true;
        self.phase.send_replace(Phase::Failed);
    }

    /// Answers no call early from now on.
    pub(crate) fn close(&self, reason: &str) {
        let mut state = self.state();
        state.closed.get_or_insert_with(|| reason.to_owned());
        self.commit_if_done(&state);
    }

    fn commit_if_done(&self, state: &State) {
        if state.closed.is_some() && state.pending.is_empty() && !state.failed {
            // What cannot be removed is removed by the next build.
            let _ = self.undo.commit();
            self.phase.send_if_modified(|phase| {
                std::mem::replace(phase, Phase::Committed) != Phase::Committed
            });
        }
    }

    /// Closes, and waits until nothing is pending. After a failure it waits for ever: what asked
    /// for it will be ended.
    pub(crate) async fn settle(&self, reason: &str) {
        self.close(reason);
        self.reached(Phase::Committed).await;
    }

    /// Waits for a phase.
    pub(crate) async fn reached(&self, wanted: Phase) {
        let mut phase = self.phase.subscribe();
        if phase.wait_for(|phase| *phase == wanted).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Must changes be saved? Also after a failure, as long as there are processes of the build.
    pub(crate) fn is_saving(&self) -> bool {
        *self.phase.borrow() != Phase::Committed
    }

    /// Has a pending step failed?
    pub(crate) fn has_failed(&self) -> bool {
        self.state().failed
    }

    /// Is any step pending?
    pub(crate) fn is_pending(&self) -> bool {
        !self.state().pending.is_empty()
    }

    /// Why the build did not run ahead any more before its command had ended.
    pub(crate) fn closed(&self) -> Option<String> {
        self.state().closed.clone().filter(|reason| reason != COMMAND_ENDED)
    }

    /// Saves what `change` says; gives why that is not possible.
    pub(crate) fn save(
        &self,
        change: impl FnOnce(&UndoLog) -> Result<(), CannotUndo>,
    ) -> Option<String> {
        if !self.is_saving() {
            return None;
        }
        change(&self.undo).err().map(|CannotUndo(reason)| reason)
    }
}
