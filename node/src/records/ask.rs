//! Streams on which this node asks others about records.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mesh_protocol::limits;
use mesh_protocol::peer::PeerId;
use mesh_protocol::wire::records::{FromAsker, FromHolder};
use tokio::sync::Semaphore;

use crate::frame;
use crate::net::{BoxStream, Network, Service};

/// Streams to one peer: half of what it serves, as it may restart and not know of the old ones.
const STREAMS: usize = limits::RECORDS_SERVED_PER_PEER / 2;

pub(super) struct Asker {
    network: Arc<dyn Network>,
    lines: Mutex<BTreeMap<PeerId, Arc<Line>>>,
}

/// What there is with one peer.
struct Line {
    streams: Semaphore,
    idle: Mutex<Vec<BoxStream>>,
}

impl Line {
    fn take(&self) -> Option<BoxStream> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn keep(&self, stream: BoxStream) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
    }
}

impl Asker {
    pub(super) fn new(network: Arc<dyn Network>) -> Self {
        Self { network, lines: Mutex::default() }
    }

    pub(super) fn forget(&self, peer: PeerId) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).remove(&peer);
    }

    fn line(&self, peer: PeerId) -> Arc<Line> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let line = lines.entry(peer).or_insert_with(|| {
            Arc::new(Line { streams: Semaphore::new(STREAMS), idle: Mutex::default() })
        });
        Arc::clone(line)
    }

    /// One question, one answer; both within `patience`.
    pub(super) async fn ask(
        &self,
        peer: PeerId,
        question: &FromAsker,
        patience: Duration,
    ) -> io::Result<FromHolder> {
        let bytes = question.encode().map_err(io::Error::other)?;
        let mut buffer = Vec::with_capacity(bytes.len() + 4);
        frame::append(&mut buffer, &bytes);
        let asked = self.ask_bytes(peer, &buffer, patience);
        let answer = tokio::time::timeout(patience, asked).await;
        answer.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
    }

    async fn ask_bytes(
        &self,
        peer: PeerId,
        bytes: &[u8],
        patience: Duration,
    ) -> io::Result<FromHolder> {
        let line = self.line(peer);
        let _place = line.streams.acquire().await.map_err(io::Error::other)?;
        // The other end closes what is idle for long; a new stream says whether it is there.
        while let Some(mut stream) = line.take() {
            if let Ok(answer) = converse(&mut stream, bytes, patience).await {
                line.keep(stream);
                return Ok(answer);
            }
        }
        let mut stream =
            self.network.open(peer, Service::Records).await.map_err(io::Error::other)?;
        let answer = converse(&mut stream, bytes, patience).await?;
        line.keep(stream);
        Ok(answer)
    }
}

async fn converse(
    stream: &mut BoxStream,
    bytes: &[u8],
    patience: Duration,
) -> io::Result<FromHolder> {
    frame::write(stream, bytes, patience).await?;
    let answer = frame::read(stream, limits::RECORDS_MESSAGE_BYTES, patience).await?;
    let answer = answer.ok_or(io::ErrorKind::UnexpectedEof)?;
    FromHolder::decode(&answer).map_err(io::Error::other)
}
