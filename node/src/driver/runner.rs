//! Where a driver's thunks run: in its own engine, or wherever its node's mesh leases them to.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_protocol::graph::Outputs;
use mesh_protocol::name::ThunkName;
use mesh_protocol::peer::PeerId;
use mesh_protocol::sched::force::{Failure, RunId};
use mesh_protocol::sched::level::Level;
use mesh_protocol::thunk::Thunk;
use tokio::task::{AbortHandle, JoinSet};

use super::Load;
use super::remote::{Beside, Remote};
use crate::claims::News;
use crate::claims::client::Client;
use crate::exec::{Engine, EngineError, Job, Outcome};

/// What happened to a run.
pub(super) enum Happened {
    /// Of the own engine: it ended, and is to be judged.
    Ran(RunId, ThunkName, Result<Outcome, EngineError>),
    /// Somewhere in the mesh, it began.
    Started(ThunkName, Arc<Thunk>),
    /// Somewhere in the mesh, a try ended; its outcome, or why there is none.
    Tried(ThunkName, Result<Outcome, String>),
    /// The mesh has an answer: what is recorded already, or a failure.
    Ended(RunId, Result<Outputs, Failure>),
    /// For the books.
    News(News),
    /// Another member knew what comes of it, and it is in the store now; who ran it.
    Learned(ThunkName, Outputs, Option<PeerId>),
    /// The mesh came to nothing with it, for this reason, and it runs here.
    FellBack(ThunkName, Arc<str>),
    /// This machine is that busy now.
    Load(Load),
    /// The mesh is no more.
    Gone,
}

pub(super) enum Runner {
    Engine(Own),
    Mesh(Box<Remote>),
}

/// Runs of one engine.
pub(super) struct Own {
    engine: Arc<dyn Engine>,
    runs: JoinSet<(RunId, ThunkName, Result<Outcome, EngineError>)>,
    handles: BTreeMap<RunId, AbortHandle>,
}

impl Runner {
    pub(super) fn of_engine(engine: Arc<dyn Engine>) -> Self {
        Self::Engine(Own::new(engine))
    }

    pub(super) fn of_mesh(client: Client, beside: Option<Beside>) -> Self {
        Self::Mesh(Box::new(Remote::new(client, beside)))
    }

    pub(super) fn start(&mut self, run: RunId, name: ThunkName, thunk: Arc<Thunk>, level: Level) {
        match self {
            Self::Engine(own) => own.start(run, name, thunk),
            Self::Mesh(remote) => remote.start(run, name, thunk, level),
        }
    }

    /// More is known of these.
    pub(super) fn levels(&mut self, levels: Vec<(RunId, Level)>) {
        if let Self::Mesh(remote) = self {
            remote.levels(levels);
        }
    }

    /// Asks others what comes of it, if there are any.
    pub(super) fn recall(&mut self, name: ThunkName) {
        if let Self::Mesh(remote) = self {
            remote.recall(name);
        }
    }

    pub(super) fn stop(&mut self, run: RunId) {
        match self {
            Self::Engine(own) => own.stop(run),
            Self::Mesh(remote) => remote.stop(run),
        }
    }

    /// The engine beside a mesh that is gone, if there is one.
    pub(super) fn take_own(&mut self) -> Option<Own> {
        match self {
            Self::Engine(_) => None,
            Self::Mesh(remote) => remote.take_own(),
        }
    }

    /// Cancel-safe: what has not been given is given the next time.
    pub(super) async fn next(&mut self) -> Happened {
        match self {
            Self::Engine(own) => own.next().await,
            Self::Mesh(remote) => remote.next().await,
        }
    }
}

impl Own {
    pub(super) fn new(engine: Arc<dyn Engine>) -> Self {
        Self { engine, runs: JoinSet::new(), handles: BTreeMap::new() }
    }

    pub(super) fn stop(&mut self, run: RunId) {
        if let Some(handle) = self.handles.remove(&run) {
            handle.abort();
        }
    }

    pub(super) fn start(&mut self, run: RunId, name: ThunkName, thunk: Arc<Thunk>) {
        let engine = self.engine.clone();
        let handle = self.runs.spawn(async move {
            let end = engine.run(Job { name, thunk }).await;
            (run, name, end)
        });
        self.handles.insert(run, handle);
    }

    pub(super) async fn next(&mut self) -> Happened {
        loop {
            match self.runs.join_next().await {
                Some(Ok((run, name, end))) => {
                    self.handles.remove(&run);
                    return Happened::Ran(run, name, end);
                }
                // A run that was stopped, or that panicked, has no answer; a panic is a bug and
                // shows as such.
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }
}
