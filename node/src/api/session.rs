//! A build and the node of its home, over the node's socket, as long as the build lasts.
//!
//! Goals: the build's own force machine and store stay where they are, and only what a driver and a
//! mesh say to each other goes over the socket; a build that is suspended, or killed, holds up
//! neither the node nor other builds; a build learns at once that its node is gone. Non-goals:
//! objects (both have the same store on the same disk), and going on with a build after either end died.
//!
//! ```text
//!   build                                   node
//!     | Request::Build                 -->   |
//!     | <--                     Reply::Done  |
//!     | Ready …, Stop, Slots           -->   |
//!     | <--   Started, Tried, Ended, News …  |
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mesh_protocol::codec::{self, CodecError, Format};
use mesh_protocol::limits;
use mesh_protocol::name::{Tag, ThunkName};
use mesh_protocol::peer::PeerId;
use mesh_protocol::sched::force::{Failure, FailureClass, RunId};
use mesh_protocol::sched::level::Level;
use mesh_protocol::thunk::{OutputObject, Thunk};
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};

use super::{AskError, PATIENCE, REPLY, REQUEST, Reply, Request, format};
use crate::claims::client::{Client, FromMesh, Line, ToMesh};
use crate::claims::{Mesh, News};
use crate::driver::Load;
use crate::exec::Outcome;
use crate::frame;

/// What builds say: a thunk, and little else.
pub(super) const TO_NODE: Format = format(*b"\x89MBUILD", limits::THUNK_BYTES + 4096);

/// What nodes say: the outputs of one thunk, or why there are none.
pub(super) const TO_BUILD: Format = format(*b"\x89MPROGR", 2 * limits::REDUCTION_BYTES);

/// Either end may be silent for as long as it likes: the socket says when it is gone.
const FOR_EVER: Duration = Duration::MAX;

/// Messages that are written at once.
const BURST: usize = 64;

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToNode {
    Ready { run: u64, name: ThunkName, thunk: Vec<u8>, level: Level },
    Levels(Vec<(u64, Level)>),
    Stop(u64),
    Slots(u32),
    Recall(ThunkName),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToBuild {
    Started(ThunkName),
    Tried(ThunkName, Result<Outcome, String>),
    Ended(u64, Result<BTreeMap<Tag, OutputObject>, (FailureClass, String)>),
    News(News),
    /// Runs of own builds here, and thunks that wait.
    Load(u32, u32),
    Learned(ThunkName, BTreeMap<Tag, OutputObject>, Option<PeerId>),
}

/// A build's end of it. The node forgets the build when this, or the driver that has it, is gone.
pub struct Session {
    pub(crate) client: Client,
}

impl Session {
    /// Begins one with the node of that home; `None` if none runs. Must be called on a tokio runtime.
    pub async fn open(home: &Path) -> Result<Option<Self>, AskError> {
        let mut stream = match UnixStream::connect(super::socket(home)).await {
            Ok(stream) => stream,
            Err(error) if super::is_nobody(&error) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let request = codec::encode(REQUEST, &Request::Build).map_err(io::Error::other)?;
        let mut buffer = Vec::new();
        frame::append(&mut buffer, &request);
        frame::write(&mut stream, &buffer, PATIENCE).await?;
        let reply = frame::read(&mut stream, REPLY.bytes_max, PATIENCE).await?;
        match codec::decode(REPLY, &reply.ok_or(AskError::Silent)?)? {
            Reply::Done => Ok(Some(Self::over(stream))),
            Reply::Failed(reason) => Err(io::Error::other(reason).into()),
            _ => Err(io::Error::other("it gave another answer").into()),
        }
    }

    fn over(stream: UnixStream) -> Self {
        let (read, write) = stream.into_split();
        let (tell, told) = mpsc::channel(BURST);
        let (say, said) = mpsc::channel(BURST);
        let (tell_load, load) = watch::channel(Load::default());
        tokio::spawn(async move {
            if let Err(error) = hear_node(read, tell, tell_load).await {
                tracing::warn!(%error, "the node's answers cannot be read");
            }
        });
        tokio::spawn(speak_to_node(write, said));
        Self { client: Client { told, line: Line::Away(say), load } }
    }
}

/// Ends, and with it what the driver hears, when the node is gone.
async fn hear_node(
    mut read: OwnedReadHalf,
    tell: mpsc::Sender<FromMesh>,
    load: watch::Sender<Load>,
) -> io::Result<()> {
    while let Some(bytes) = frame::read(&mut read, TO_BUILD.bytes_max, FOR_EVER).await? {
        let message = match super::parse(TO_BUILD, &bytes)? {
            ToBuild::Load(running, wanted) => {
                load.send_replace(Load { running, wanted });
                continue;
            }
            ToBuild::Started(name) => FromMesh::Started(name),
            ToBuild::Tried(name, end) => FromMesh::Tried(name, end),
            ToBuild::Ended(run, end) => FromMesh::Ended(
                RunId(run),
                end.map(Arc::new)
                    .map_err(|(class, reason)| Failure { class, reason: reason.into() }),
            ),
            ToBuild::News(news) => FromMesh::News(news),
            ToBuild::Learned(name, outputs, by) => FromMesh::Learned(name, Arc::new(outputs), by),
        };
        if tell.send(message).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Ends when the driver is gone, or the node.
async fn speak_to_node(mut write: OwnedWriteHalf, mut said: mpsc::Receiver<ToMesh>) {
    let mut messages = Vec::new();
    while said.recv_many(&mut messages, BURST).await > 0 {
        let mut buffer = Vec::new();
        for message in messages.drain(..) {
            match encode_for_node(message) {
                Ok(bytes) => frame::append(&mut buffer, &bytes),
                // The node never hears of it; closing is the one way to say so.
                Err(error) => return tracing::warn!(%error, "a thunk cannot be told to the node"),
            }
        }
        if frame::write(&mut write, &buffer, FOR_EVER).await.is_err() {
            return;
        }
    }
}

fn encode_for_node(message: ToMesh) -> Result<Vec<u8>, CodecError> {
    let message = match message {
        ToMesh::Ready { run, name, thunk, level } => {
            let (_, thunk) =
                thunk.encode().map_err(|error| CodecError::Malformed(error.to_string()))?;
            ToNode::Ready { run: run.0, name, thunk, level }
        }
        ToMesh::Levels(levels) => {
            ToNode::Levels(levels.into_iter().map(|(run, level)| (run.0, level)).collect())
        }
        ToMesh::Stop(run) => ToNode::Stop(run.0),
        ToMesh::Slots(slots) => ToNode::Slots(slots),
        ToMesh::Recall(name) => ToNode::Recall(name),
        // Closing the socket says that.
        ToMesh::Leave => ToNode::Slots(0),
    };
    codec::encode(TO_NODE, &message)
}

/// The node's end: as long as the build lasts.
pub(super) async fn serve(stream: UnixStream, mesh: &Mesh) -> io::Result<()> {
    let Client { told, line, load } = mesh.client();
    let (read, write) = stream.into_split();
    tokio::select! {
        ended = hear_build(read, line) => ended,
        ended = speak_to_build(write, told, load) => ended,
    }
}

async fn hear_build(mut read: OwnedReadHalf, mut line: Line) -> io::Result<()> {
    while let Some(bytes) = frame::read(&mut read, TO_NODE.bytes_max, FOR_EVER).await? {
        let message = match super::parse(TO_NODE, &bytes)? {
            ToNode::Ready { run, name, thunk, level } => {
                if ThunkName::of(&thunk) != name {
                    return Err(io::Error::other("a thunk is not the one that it is named"));
                }
                let thunk = Arc::new(Thunk::decode(&thunk).map_err(io::Error::other)?);
                ToMesh::Ready { run: RunId(run), name, thunk, level }
            }
            ToNode::Levels(levels) => {
                ToMesh::Levels(levels.into_iter().map(|(run, level)| (RunId(run), level)).collect())
            }
            ToNode::Stop(run) => ToMesh::Stop(RunId(run)),
            ToNode::Slots(slots) => ToMesh::Slots(slots),
            ToNode::Recall(name) => ToMesh::Recall(name),
        };
        let Some(room) = line.room().await else { return Ok(()) };
        room.send(message);
    }
    Ok(())
}

/// Takes from the mesh whatever it tells, also while the build does not read: nobody else is to wait.
async fn speak_to_build(
    mut write: OwnedWriteHalf,
    mut told: mpsc::Receiver<FromMesh>,
    mut load: watch::Receiver<Load>,
) -> io::Result<()> {
    let mut queue: VecDeque<FromMesh> = VecDeque::new();
    let mut news = Some(*load.borrow_and_update());
    let (mut buffer, mut written) = (Vec::new(), 0);
    loop {
        if written == buffer.len() {
            (buffer, written) = (next_burst(&mut queue, news.take())?, 0);
        }
        tokio::select! {
            message = told.recv() => match message {
                Some(message) if queue.len() < limits::SESSION_QUEUE => queue.push_back(message),
                Some(_) => return Err(io::Error::other("the build does not read")),
                None => return Ok(()),
            },
            changed = load.changed() => match changed {
                Ok(()) => news = Some(*load.borrow_and_update()),
                Err(_) => return Ok(()),
            },
            sent = send_some(&mut write, &buffer[written..]), if written < buffer.len() => {
                written += sent?;
            }
        }
    }
}

fn next_burst(queue: &mut VecDeque<FromMesh>, load: Option<Load>) -> io::Result<Vec<u8>> {
    let mut buffer = Vec::new();
    let load = load.map(|load| ToBuild::Load(load.running, load.wanted));
    let burst = queue.len().min(BURST);
    for message in queue.drain(..burst).map(ToBuild::from).chain(load) {
        frame::append(&mut buffer, &codec::encode(TO_BUILD, &message).map_err(io::Error::other)?);
    }
    Ok(buffer)
}

/// Cancel-safe.
async fn send_some(write: &mut OwnedWriteHalf, bytes: &[u8]) -> io::Result<usize> {
    use tokio::io::AsyncWriteExt;
    match write.write(bytes).await? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        sent => Ok(sent),
    }
}

impl From<FromMesh> for ToBuild {
    fn from(message: FromMesh) -> Self {
        match message {
            FromMesh::Started(name) => Self::Started(name),
            FromMesh::Tried(name, end) => Self::Tried(name, end),
            FromMesh::Ended(run, end) => Self::Ended(
                run.0,
                end.map(|outputs| (*outputs).clone())
                    .map_err(|Failure { class, reason }| (class, reason.to_string())),
            ),
            FromMesh::News(news) => Self::News(news),
            FromMesh::Learned(name, outputs, by) => Self::Learned(name, (*outputs).clone(), by),
        }
    }
}
