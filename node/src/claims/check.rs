//! Checks: what somebody said came of a thunk, held against a run on this machine.

use std::sync::Arc;

use mesh_protocol::graph::Outputs;
use mesh_protocol::name::ThunkName;
use mesh_protocol::peer::PeerId;
use mesh_protocol::sched::audit::{Verdict, compare};
use mesh_protocol::sched::force::FailureClass;
use mesh_protocol::thunk::Thunk;
use tokio::sync::Semaphore;

use super::job::Workshop;
use super::sign;
use crate::exec::Job;
use crate::verdict;

/// Are a receipt's outputs here, and if they were checked: whose they are, and what was found.
pub(super) type Settled = Result<Option<(PeerId, Verdict)>, String>;

/// What a check needs.
pub(super) struct Check {
    pub(super) name: ThunkName,
    pub(super) thunk: Arc<Thunk>,
    /// What somebody said.
    pub(super) told: Outputs,
    pub(super) workshop: Workshop,
    /// As many checks run at once as this machine has slots.
    pub(super) turns: Arc<Semaphore>,
}

impl Check {
    /// None: this machine cannot tell.
    pub(super) async fn run(self) -> Option<Verdict> {
        let _turn = self.turns.acquire().await.ok()?;
        let first = self.outputs().await?;
        if let Some(verdict) = compare(&self.told, first.as_ref(), None) {
            return Some(verdict);
        }
        let second = self.outputs().await?;
        compare(&self.told, first.as_ref(), Some(second.as_ref()))
    }

    /// What comes of it here; none within if it fails. Nothing is written into the memo: whoever ran
    /// it first is who ran it.
    async fn outputs(&self) -> Option<Option<Outputs>> {
        let job = Job { name: self.name, thunk: Arc::clone(&self.thunk) };
        let Workshop { store, engine, own, .. } = &self.workshop;
        let ended = engine.run(job).await;
        let reduced = match &ended {
            Ok(outcome) => verdict::judge(store, self.name, outcome, &sign::executor(*own)),
            Err(error) => Err(verdict::machine(error)),
        };
        match reduced {
            Ok(reduction) => Some(Some(Arc::new(reduction.outputs))),
            Err(failure) if failure.class == FailureClass::Program => Some(None),
            Err(failure) => {
                tracing::info!(name = %self.name, reason = %failure.reason, "it cannot be checked here");
                None
            }
        }
    }
}
