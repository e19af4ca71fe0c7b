//! Between a driver and the mesh of its node.

use std::sync::Arc;

use mesh_protocol::graph::Outputs;
use mesh_protocol::name::ThunkName;
use mesh_protocol::sched::force::{Failure, RunId};
use mesh_protocol::thunk::Thunk;
use tokio::sync::mpsc;

use super::Message;
use crate::exec::Outcome;

/// What may wait for a driver. It always listens, so this is for bursts.
const TOLD_MAX: usize = 1024;

/// One driver, to the mesh.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct ClientId(pub(super) u64);

/// What a driver tells; the runs are numbered by itself.
pub(crate) enum ToMesh {
    /// Run this.
    Ready { run: RunId, name: ThunkName, thunk: Arc<Thunk>, level: u32 },
    /// It is not wanted any more; no answer is awaited.
    Stop(RunId),
    /// Its thunks may keep so many cores of this machine busy.
    Slots(u32),
    /// It has ended.
    Leave,
}

/// What a driver is told.
pub(crate) enum FromMesh {
    /// A try began.
    Started(ThunkName, Arc<Thunk>),
    /// A try ended.
    Tried(ThunkName, Result<Outcome, String>),
    /// The one answer to [`ToMesh::Ready`].
    Ended(RunId, Result<Outputs, Failure>),
}

/// A driver's end.
pub(crate) struct Client {
    pub(crate) told: mpsc::Receiver<FromMesh>,
    pub(crate) line: Line,
}

/// How a driver tells.
pub(crate) struct Line {
    id: ClientId,
    inbox: mpsc::Sender<Message>,
    /// The mesh's end of `told`, until it has been introduced.
    introduction: Option<mpsc::Sender<FromMesh>>,
}

/// Room for one message.
pub(crate) struct Room<'a>(ClientId, mpsc::Permit<'a, Message>);

impl Client {
    pub(super) fn new(id: ClientId, inbox: mpsc::Sender<Message>) -> Self {
        let (sender, told) = mpsc::channel(TOLD_MAX);
        Self { told, line: Line { id, inbox, introduction: Some(sender) } }
    }
}

impl Line {
    /// Waits for room. None: the mesh has ended. Cancel-safe.
    pub(crate) async fn room(&mut self) -> Option<Room<'_>> {
        if self.introduction.is_some() {
            let room = self.inbox.reserve().await.ok()?;
            if let Some(sender) = self.introduction.take() {
                room.send(Message::Join(self.id, sender));
            }
        }
        let room = self.inbox.reserve().await.ok()?;
        Some(Room(self.id, room))
    }
}

impl Room<'_> {
    pub(crate) fn send(self, message: ToMesh) {
        self.1.send(Message::Client(self.0, message));
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // The mesh notices by itself when it has something to tell; what runs until then should
        // not run in vain.
        let (id, inbox) = (self.id, self.inbox.clone());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _ = inbox.send(Message::Client(id, ToMesh::Leave)).await;
            });
        }
    }
}
