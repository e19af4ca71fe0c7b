//! Between a driver and the mesh of its node.

use std::sync::Arc;

use mesh_protocol::graph::Outputs;
use mesh_protocol::name::ThunkName;
use mesh_protocol::peer::PeerId;
use mesh_protocol::sched::force::{Failure, RunId};
use mesh_protocol::sched::level::Level;
use mesh_protocol::thunk::Thunk;
use mesh_protocol::time::Time;
use mesh_protocol::wire::claim::Timeline;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use super::Message;
use crate::driver::Load;
use crate::exec::Outcome;

/// What may wait for a driver. It always listens, so this is for bursts.
const TOLD_MAX: usize = 1024;

/// One driver, to the mesh.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct ClientId(pub(super) u64);

/// What a driver tells; the runs are numbered by itself.
pub(crate) enum ToMesh {
    /// Run this.
    Ready { run: RunId, name: ThunkName, thunk: Arc<Thunk>, level: Level },
    /// More is known of the levels of these.
    Levels(Vec<(RunId, Level)>),
    /// It is not wanted any more; no answer is awaited.
    Stop(RunId),
    /// Its thunks may keep so many cores of this machine busy.
    Slots(u32),
    /// Does somebody else know what comes of this? Answered only if so.
    Recall(ThunkName),
    /// It has ended.
    Leave,
}

/// What a driver is told.
pub(crate) enum FromMesh {
    /// A try began.
    Started(ThunkName),
    /// A try ended.
    Tried(ThunkName, Result<Outcome, String>),
    /// The one answer to [`ToMesh::Ready`].
    Ended(RunId, Result<Outputs, Failure>),
    /// For the books.
    News(News),
    /// Another member knew what comes of a thunk, and it is in the store now; who ran it.
    Learned(ThunkName, Outputs, Option<PeerId>),
}

/// What became of a build's thunks on their way through the mesh.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum News {
    /// It ran there (none: on this machine) with success.
    Ran {
        /// The thunk.
        thunk: ThunkName,
        /// Where.
        at: Option<PeerId>,
        /// For how long, in microseconds.
        busy_us: u64,
        /// What else it took, if it was not this machine.
        trip: Option<Trip>,
    },
    /// It came to nothing there (none: on this machine), and goes to somebody else.
    PutBack {
        /// The thunk.
        thunk: ThunkName,
        /// Where.
        at: Option<PeerId>,
        /// Why.
        reason: String,
    },
    /// It was late, and a second copy of it was begun.
    Speculated(ThunkName),
    /// A copy of it was in vain, after so many microseconds.
    Wasted(ThunkName, u64),
    /// What somebody said came of it was held against a run on this machine.
    Checked(ThunkName),
}

/// Where the time went of a lease that another member ran, in microseconds since this node began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Trip {
    /// It was given.
    pub given_us: u64,
    /// Its receipt came.
    pub received_us: u64,
    /// Its outputs were here.
    pub settled_us: u64,
    /// What passed at the worker, by its own word and clock.
    pub timeline: Timeline,
}

impl Trip {
    /// A worker may say anything: what cannot be is made what can.
    pub(super) fn new([given, received, settled]: [Time; 3], told: Timeline) -> Self {
        let ended_us = told.ended_us.min(received - given);
        let started_us = told.started_us.min(ended_us);
        let fetched_us = told.fetched_us.min(started_us);
        let timeline = Timeline { fetched_us, started_us, ended_us, ..told };
        Self {
            given_us: given.us(),
            received_us: received.us(),
            settled_us: settled.us(),
            timeline,
        }
    }
}

/// A driver's end.
pub(crate) struct Client {
    pub(crate) told: mpsc::Receiver<FromMesh>,
    pub(crate) line: Line,
    /// How busy own builds keep this machine.
    pub(crate) load: watch::Receiver<Load>,
}

/// How a driver tells.
pub(crate) enum Line {
    /// The mesh of this process.
    Here(Introduced),
    /// Another process's, by way of whoever has the other end.
    Away(mpsc::Sender<ToMesh>),
}

/// A line to the task of a mesh.
pub(crate) struct Introduced {
    id: ClientId,
    inbox: mpsc::Sender<Message>,
    /// The mesh's end of `told`, until it has been introduced.
    introduction: Option<mpsc::Sender<FromMesh>>,
}

/// Room for one message.
pub(crate) enum Room<'a> {
    Here(ClientId, mpsc::Permit<'a, Message>),
    Away(mpsc::Permit<'a, ToMesh>),
}

impl Client {
    pub(super) fn new(
        id: ClientId,
        inbox: mpsc::Sender<Message>,
        load: watch::Receiver<Load>,
    ) -> Self {
        let (sender, told) = mpsc::channel(TOLD_MAX);
        let line = Line::Here(Introduced { id, inbox, introduction: Some(sender) });
        Self { told, line, load }
    }
}

impl Line {
    /// Waits for room. None: the mesh has ended. Cancel-safe.
    pub(crate) async fn room(&mut self) -> Option<Room<'_>> {
        match self {
            Self::Here(line) => line.room().await,
            Self::Away(line) => line.reserve().await.ok().map(Room::Away),
        }
    }
}

impl Introduced {
    async fn room(&mut self) -> Option<Room<'_>> {
        if self.introduction.is_some() {
            let room = self.inbox.reserve().await.ok()?;
            if let Some(sender) = self.introduction.take() {
                room.send(Message::Join(self.id, sender));
            }
        }
        let room = self.inbox.reserve().await.ok()?;
        Some(Room::Here(self.id, room))
    }
}

impl Room<'_> {
    pub(crate) fn send(self, message: ToMesh) {
        match self {
            Self::Here(id, room) => room.send(Message::Client(id, message)),
            Self::Away(room) => room.send(message),
        }
    }
}

impl Drop for Introduced {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_cannot_have_had_a_lease_for_longer_than_it_was_away() {
        let told = |fetched_us, started_us, ended_us| Timeline {
            came_us: 7,
            fetched_us,
            started_us,
            ended_us,
        };
        for (said, believed) in [
            (told(1, 2, 3), told(1, 2, 3)),
            (told(0, 0, 0), told(0, 0, 0)),
            (told(7, 6, 5), told(5, 5, 5)),
            (told(u64::MAX, 40, u64::MAX), told(40, 40, 100)),
        ] {
            let times = [200, 300, 309].map(Time::from_us);
            assert_eq!(Trip::new(times, said).timeline, believed);
        }
    }
}
