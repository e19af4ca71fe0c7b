//! One planned step of a build: a tool's call that was turned into a thunk.

use std::sync::{Mutex, OnceLock, PoisonError};

use mesh_cli::frontend::{Inode, PlannedOutput};
use mesh_protocol::name::{OutputRef, Tag, ThunkName};
use tokio::sync::watch;

use super::streams::{Destination, Manner};
use super::undo::journal::StepNumber;

/// How a step ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// Its placeholders are files.
    Done,
    /// They will never be.
    Failed,
}

/// Which call it was, in whatever pass of the build: its words and its directory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct CallKey {
    pub(crate) arguments: Vec<String>,
    pub(crate) working_directory: String,
}

/// A step that was planned in this pass.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) name: ThunkName,
    pub(crate) call: CallKey,
    pub(crate) description: String,
    pub(crate) outputs: Vec<PlannedOutput>,
    /// What to ask for if there are none.
    pub(crate) printer: Option<OutputRef>,
    /// How its words are handed on.
    pub(crate) manner: Manner,
    /// Where its words go.
    pub(crate) words: Destination,
    /// Its number, once it was answered early.
    pub(crate) number: OnceLock<StepNumber>,
    placeholders: Mutex<Vec<(Tag, Inode)>>,
    started: watch::Sender<bool>,
    end: watch::Sender<Option<End>>,
}

impl Step {
    pub(crate) fn new(
        name: ThunkName,
        call: CallKey,
        description: String,
        outputs: Vec<PlannedOutput>,
        manner: Manner,
        words: Destination,
    ) -> Self {
        Self {
            name,
            call,
            description,
            outputs,
            printer: None,
            manner,
            words,
            number: OnceLock::new(),
            placeholders: Mutex::default(),
            started: watch::Sender::new(false),
            end: watch::Sender::new(None),
        }
    }

    /// One of its outputs.
    pub(crate) fn output(&self, tag: &Tag) -> OutputRef {
        OutputRef { thunk: self.name, tag: tag.clone() }
    }

    /// A placeholder of its own.
    pub(crate) fn add_placeholder(&self, tag: Tag, inode: Inode) {
        let mut placeholders = self.placeholders.lock().unwrap_or_else(PoisonError::into_inner);
        placeholders.push((tag, inode));
    }

    /// The placeholders that stand for the output with this tag.
    pub(crate) fn placeholders(&self, tag: &Tag) -> Vec<Inode> {
        let placeholders = self.placeholders.lock().unwrap_or_else(PoisonError::into_inner);
        placeholders.iter().filter(|(own, _)| own == tag).map(|(_, inode)| *inode).collect()
    }

    /// True for the first who asks: that one has to run it.
    pub(crate) fn begin(&self) -> bool {
        self.started.send_if_modified(|started| !std::mem::replace(started, true))
    }

    /// It ended; everybody who waits learns it.
    pub(crate) fn finish(&self, end: End) {
        self.end.send_replace(Some(end));
    }

    /// Waits for its end.
    pub(crate) async fn ended(&self) -> End {
        let mut end = self.end.subscribe();
        match end.wait_for(Option::is_some).await {
            Ok(end) => end.unwrap_or(End::Failed),
            Err(_) => End::Failed,
        }
    }
}
