//! The tasks of a node's mesh. Each ends in exactly one [`Done`], unless it is stopped - also one
//! that panics: a bug must not keep a slot, or a build, for ever.

use std::collections::HashMap;
use std::future::Future;

use tokio::task::{AbortHandle, Id, JoinSet};

use super::worker::Done;

#[derive(Default)]
pub(super) struct Tasks {
    running: JoinSet<Done>,
    /// What it is if a task panics.
    fallbacks: HashMap<Id, Done>,
}

impl Tasks {
    pub(super) fn spawn(
        &mut self,
        if_it_panics: Done,
        work: impl Future<Output = Done> + Send + 'static,
    ) -> AbortHandle {
        let task = self.running.spawn(work);
        self.fallbacks.insert(task.id(), if_it_panics);
        task
    }

    pub(super) fn spawn_blocking(
        &mut self,
        if_it_panics: Done,
        work: impl FnOnce() -> Done + Send + 'static,
    ) {
        let task = self.running.spawn_blocking(work);
        self.fallbacks.insert(task.id(), if_it_panics);
    }

    /// What the next one came to; never, if there is none. Cancel-safe.
    pub(super) async fn next(&mut self) -> Done {
        loop {
            match self.running.join_next_with_id().await {
                Some(Ok((id, done))) => {
                    self.fallbacks.remove(&id);
                    return done;
                }
                Some(Err(error)) => {
                    let fallback = self.fallbacks.remove(&error.id());
                    if let (true, Some(done)) = (error.is_panic(), fallback) {
                        return done;
                    }
                }
                None => std::future::pending().await,
            }
        }
    }
}
