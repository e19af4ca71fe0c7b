//! Where a driver's thunks run: in its own engine, or wherever its node's mesh leases them to.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use mesh_protocol::graph::Outputs;
use mesh_protocol::name::ThunkName;
use mesh_protocol::sched::force::{Failure, RunId};
use mesh_protocol::thunk::Thunk;
use tokio::task::{AbortHandle, JoinSet};

use crate::claims::client::{Client, FromMesh, ToMesh};
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
    /// The mesh is no more.
    Gone,
}

pub(super) enum Runner {
    Engine(Own),
    Mesh(Remote),
}

/// Runs of one engine.
pub(super) struct Own {
    engine: Arc<dyn Engine>,
    runs: JoinSet<(RunId, ThunkName, Result<Outcome, EngineError>)>,
    handles: BTreeMap<RunId, AbortHandle>,
}

/// Runs that a mesh places. What it is told waits here until it has room: the mesh may wait for
/// us, so we must not wait for it.
pub(super) struct Remote {
    client: Client,
    outbox: VecDeque<ToMesh>,
}

impl Runner {
    pub(super) fn of_engine(engine: Arc<dyn Engine>) -> Self {
        Self::Engine(Own { engine, runs: JoinSet::new(), handles: BTreeMap::new() })
    }

    pub(super) fn of_mesh(client: Client) -> Self {
        Self::Mesh(Remote { client, outbox: VecDeque::new() })
    }

    pub(super) fn start(&mut self, run: RunId, name: ThunkName, thunk: Arc<Thunk>, level: u32) {
        match self {
            Self::Engine(own) => own.start(run, name, thunk),
            Self::Mesh(remote) => remote.tell(ToMesh::Ready { run, name, thunk, level }),
        }
    }

    pub(super) fn stop(&mut self, run: RunId) {
        match self {
            Self::Engine(own) => {
                if let Some(handle) = own.handles.remove(&run) {
                    handle.abort();
                }
            }
            Self::Mesh(remote) => remote.tell(ToMesh::Stop(run)),
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
    fn start(&mut self, run: RunId, name: ThunkName, thunk: Arc<Thunk>) {
        let engine = self.engine.clone();
        let handle = self.runs.spawn(async move {
            let end = engine.run(Job { name, thunk }).await;
            (run, name, end)
        });
        self.handles.insert(run, handle);
    }

    async fn next(&mut self) -> Happened {
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

impl Remote {
    pub(super) fn tell(&mut self, message: ToMesh) {
        self.outbox.push_back(message);
    }

    async fn next(&mut self) -> Happened {
        loop {
            let told = tokio::select! {
                told = self.client.told.recv() => told,
                room = self.client.line.room(), if !self.outbox.is_empty() => {
                    let Some(room) = room else { return Happened::Gone };
                    if let Some(message) = self.outbox.pop_front() {
                        room.send(message);
                    }
                    continue;
                }
            };
            return match told {
                Some(FromMesh::Started(name, thunk)) => Happened::Started(name, thunk),
                Some(FromMesh::Tried(name, end)) => Happened::Tried(name, end),
                Some(FromMesh::Ended(run, end)) => Happened::Ended(run, end),
                None => Happened::Gone,
            };
        }
    }
}
