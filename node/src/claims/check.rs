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

/// Are a receipt's outputs here, and what was found if they were checked?
pub(super) type Settled = Result<Option<Checked>, String>;

/// What a check found.
pub(super) struct Checked {
    pub(super) peer: PeerId,
    pub(super) name: ThunkName,
    pub(super) verdict: Verdict,
}

/// What a check needs.
pub(super) struct Check {
    /// Who says that it ran it.
    pub(super) peer: PeerId,
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
    pub(super) async fn run(self) -> Option<Checked> {
        let _turn = self.turns.acquire().await.ok()?;
        let verdict = self.verdict().await?;
        Some(Checked { peer: self.peer, name: self.name, verdict })
    }

    async fn verdict(&self) -> Option<Verdict> {
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
        let (_, reduced) = self.workshop.execute(self.name, Arc::clone(&self.thunk), None).await;
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
