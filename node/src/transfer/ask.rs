//! One question and its answer, on a stream that is kept for the next one.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mesh_protocol::codec::CodecError;
use mesh_protocol::limits;
use mesh_protocol::outboard;
use mesh_protocol::peer::PeerId;
use mesh_protocol::wire::transfer::{Answer, Encoding, Expected, Meaning, Want};
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::packing;
use super::traffic::Ledger;
use crate::frame;
use crate::net::{BoxStream, Network, NetworkError, Service};

const SILENCE: Duration = Duration::from_micros(limits::TRANSFER_SILENCE_US);

/// Why there is no answer.
#[derive(Debug, Error)]
pub(super) enum AskError {
    #[error("{0}")]
    Network(#[from] NetworkError),
    #[error("its stream broke: {0}")]
    Broken(#[from] io::Error),
    #[error("it breaks the rules of transfer: {0}")]
    Rules(#[from] CodecError),
    #[error("its answer took too long")]
    TooSlow,
}

/// Part of an answer.
pub(super) enum Got {
    Bytes { item: usize, start: u64, bytes: Vec<u8>, last: bool, proof: Vec<outboard::Node> },
    Missing,
}

pub(super) struct Asker {
    network: Arc<dyn Network>,
    traffic: Arc<Ledger>,
    kept: Mutex<BTreeMap<PeerId, Vec<(BoxStream, Instant)>>>,
    permits: Semaphore,
    /// For each peer that is being asked.
    of_peers: Mutex<BTreeMap<PeerId, Arc<Semaphore>>>,
}

/// The right to ask one peer.
type Permit<'a> = (OwnedSemaphorePermit, SemaphorePermit<'a>);

/// An answer that is coming.
pub(super) struct Asking<'a> {
    asker: &'a Asker,
    peer: PeerId,
    stream: BoxStream,
    expected: Expected,
    first: Option<Got>,
    deadline: Instant,
    permit: Permit<'a>,
}

impl Asker {
    pub(super) fn new(network: Arc<dyn Network>, traffic: Arc<Ledger>) -> Self {
        let permits = Semaphore::new(limits::TRANSFER_STREAMS);
        Self { network, traffic, kept: Mutex::default(), permits, of_peers: Mutex::default() }
    }

    /// Asks, and waits for the answer to begin.
    pub(super) async fn ask(&self, peer: PeerId, want: Want) -> Result<Asking<'_>, AskError> {
        let permit = self.permit(peer).await?;
        let deadline = Instant::now() + Duration::from_micros(limits::TRANSFER_ANSWER_US);
        let mut question = Vec::new();
        frame::append(&mut question, &want.encode()?);
        let expected = Expected::new(want);
        if let Some(stream) = self.take(peer) {
            let asking = Asking {
                asker: self,
                peer,
                stream,
                expected: expected.clone(),
                first: None,
                deadline,
                permit,
            };
            // The other end may have closed it meanwhile, or the connection is another one now.
            match asking.begin(&question).await {
                Err((AskError::Broken(_), permit)) => {
                    self.fresh(peer, expected, deadline, permit, &question).await
                }
                result => result.map_err(|(error, _)| error),
            }
        } else {
            self.fresh(peer, expected, deadline, permit, &question).await
        }
    }

    /// A peer's few first: whoever waits for a slow one keeps nobody from asking others.
    async fn permit(&self, peer: PeerId) -> Result<Permit<'_>, NetworkError> {
        let of_peer = {
            let mut of_peers = self.of_peers.lock().unwrap_or_else(PoisonError::into_inner);
            of_peers.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
            let fresh = || Arc::new(Semaphore::new(limits::TRANSFER_PER_PEER));
            Arc::clone(of_peers.entry(peer).or_insert_with(fresh))
        };
        // Neither is ever closed.
        let of_peer = of_peer.acquire_owned().await.map_err(|_| NetworkError::Closed)?;
        let of_all = self.permits.acquire().await.map_err(|_| NetworkError::Closed)?;
        Ok((of_peer, of_all))
    }

    async fn fresh<'a>(
        &'a self,
        peer: PeerId,
        expected: Expected,
        deadline: Instant,
        permit: Permit<'a>,
        question: &[u8],
    ) -> Result<Asking<'a>, AskError> {
        let open = self.network.open(peer, Service::Transfer);
        let opened = tokio::time::timeout(SILENCE, open).await;
        let stream = opened.unwrap_or(Err(NetworkError::TimedOut(peer)))?;
        let asking = Asking { asker: self, peer, stream, expected, first: None, deadline, permit };
        asking.begin(question).await.map_err(|(error, _)| error)
    }

    fn take(&self, peer: PeerId) -> Option<BoxStream> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let streams = kept.get_mut(&peer)?;
        let (stream, since) = streams.pop()?;
        // The other end closes it after that long: the older ones are gone too.
        if since.elapsed() < Duration::from_micros(limits::TRANSFER_IDLE_US) / 2 {
            return Some(stream);
        }
        kept.remove(&peer);
        None
    }

    fn keep(&self, peer: PeerId, stream: BoxStream) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= limits::SCORES_KEPT {
            kept.clear();
        }
        let streams = kept.entry(peer).or_default();
        if streams.len() < limits::TRANSFER_KEPT {
            streams.push((stream, Instant::now()));
        }
    }
}

impl<'a> Asking<'a> {
    async fn begin(mut self, question: &[u8]) -> Result<Self, (AskError, Permit<'a>)> {
        let begun = match frame::write(&mut self.stream, question, SILENCE).await {
            Ok(()) => self.read().await,
            Err(error) => Err(error.into()),
        };
        match begun {
            Ok(first) => {
                self.first = Some(first);
                Ok(self)
            }
            Err(error) => Err((error, self.permit)),
        }
    }

    /// The next part of the answer; none when it is complete.
    pub(super) async fn next(&mut self) -> Result<Option<Got>, AskError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        match self.expected.is_complete() {
            true => Ok(None),
            false => self.read().await.map(Some),
        }
    }

    /// The answer is complete: the stream may be asked again.
    pub(super) fn end(self) {
        if self.expected.is_complete() {
            self.asker.keep(self.peer, self.stream);
        }
    }

    async fn read(&mut self) -> Result<Got, AskError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        // Slow is not silent, but there is an end to it.
        let next = tokio::time::timeout(left, self.read_next());
        next.await.unwrap_or(Err(AskError::TooSlow))
    }

    async fn read_next(&mut self) -> Result<Got, AskError> {
        let answer = self.frame(limits::TRANSFER_HEADER_BYTES).await?;
        let answer = Answer::decode(&answer)?;
        let meaning = self.expected.accept(&answer)?;
        let (Meaning::Bytes { item, start, last }, Answer::Piece { length, encoding, proof, .. }) =
            (meaning, answer)
        else {
            return Ok(Got::Missing);
        };
        let malformed = |error: io::Error| CodecError::Malformed(error.to_string());
        let bytes = match encoding {
            Encoding::Plain => self.frame(length.into()).await?,
            Encoding::Zstd(written) => {
                let packed = self.frame(written.into()).await?;
                packing::unpack(&packed, length as usize).map_err(malformed)?
            }
        };
        if bytes.len() != length as usize {
            return Err(malformed(io::Error::other("a piece is not as long as it says")).into());
        }
        self.asker.traffic.received(self.peer, bytes.len() as u64);
        Ok(Got::Bytes { item, start, bytes, last, proof })
    }

    async fn frame(&mut self, max: u64) -> Result<Vec<u8>, AskError> {
        let read = frame::read(&mut self.stream, max, SILENCE).await?;
        Ok(read.ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?)
    }
}
