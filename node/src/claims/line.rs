//! Claim streams: one task for each, which reads, checks and writes; the mesh's task holds the
//! queue of what is to be written.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use mesh_protocol::codec::CodecError;
use mesh_protocol::limits;
use mesh_protocol::name::ValueName;
use mesh_protocol::peer::{PeerId, StreamId};
use mesh_protocol::sched::force::FailureClass;
use mesh_protocol::wire::claim::{FromRequester, FromWorker, InlineObject, LeaseFailure, Open};
use mesh_store::Store;
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use super::compose::{Composer, LeaseDraft};
use super::{Message, Verifier, sign};
use crate::frame;
use crate::net::{BoxStream, Network, Service};
use crate::transfer::Transfers;

const SILENCE: Duration = Duration::from_micros(limits::SILENCE_US);

/// Messages that may wait to be written: every lease given and cancelled at once, and some. Each
/// is small here: a lease gets its bytes when it is written.
pub(super) const QUEUE_MAX: usize = 2 * limits::CLAIM_LEASES + 64;

/// What a worker says at once is written together, up to about so many bytes.
const TOGETHER_BYTES: usize = 64 << 10;

/// The mesh's end of a stream to a worker. Dropping it closes the stream when all is written.
pub(super) type ToWorker = mpsc::Sender<Outgoing>;

/// The mesh's end of a stream to a requester, likewise.
pub(super) type ToRequester = mpsc::Sender<FromWorker>;

/// What goes to a worker.
pub(super) enum Outgoing {
    Say(FromRequester),
    Lease(LeaseDraft),
}

/// What the tasks of streams need.
#[derive(Clone)]
pub(super) struct Lines {
    pub(super) store: Store,
    pub(super) network: Arc<dyn Network>,
    pub(super) verifier: Arc<dyn Verifier>,
    /// Counts what comes along.
    pub(super) transfers: Transfers,
    pub(super) inbox: mpsc::WeakSender<Message>,
}

impl Lines {
    /// Serves a stream that a worker opened.
    pub(super) fn serve(&self, id: StreamId, peer: PeerId, stream: BoxStream) -> ToWorker {
        let (sender, queue) = mpsc::channel(QUEUE_MAX);
        let lines = self.clone();
        tokio::spawn(async move {
            let (read, write) = tokio::io::split(stream);
            let ended = tokio::select! {
                ended = lines.read_worker(id, peer, read) => ended,
                ended = lines.write_worker(peer, queue, write) => ended,
            };
            if let Err(error) = ended {
                tracing::debug!(%peer, %error, "a worker's stream ended");
            }
            lines.tell(Message::ServedClosed(id)).await;
        });
        sender
    }

    /// Opens a stream to a requester.
    pub(super) fn claim(&self, id: StreamId, peer: PeerId, open: Open) -> ToRequester {
        let (sender, queue) = mpsc::channel(QUEUE_MAX);
        let lines = self.clone();
        tokio::spawn(async move {
            if let Err(error) = lines.claim_stream(id, peer, open, queue).await {
                tracing::debug!(%peer, %error, "a claim ended");
            }
            lines.tell(Message::ClaimClosed(id)).await;
        });
        sender
    }

    async fn claim_stream(
        &self,
        id: StreamId,
        peer: PeerId,
        open: Open,
        queue: mpsc::Receiver<FromWorker>,
    ) -> io::Result<()> {
        let opening = tokio::time::timeout(SILENCE, self.network.open(peer, Service::Claim));
        let stream = opening.await?.map_err(io::Error::other)?;
        let (read, mut write) = tokio::io::split(stream);
        send(&mut write, FromWorker::Open(open).encode()).await?;
        tokio::select! {
            ended = self.read_requester(id, peer, read) => ended,
            ended = self.write_requester(peer, queue, write) => ended,
        }
    }

    async fn read_worker(
        &self,
        id: StreamId,
        peer: PeerId,
        mut read: ReadHalf<BoxStream>,
    ) -> io::Result<()> {
        let first = frame::read(&mut read, limits::CLAIM_BYTES, SILENCE);
        let Some(first) = tokio::time::timeout(SILENCE, first).await?? else { return Ok(()) };
        let FromWorker::Open(open) = FromWorker::decode(&first).map_err(io::Error::other)? else {
            return Err(io::Error::other("it began with something else than who it is"));
        };
        self.tell(Message::Opened(id, peer, open)).await;
        // The lease machine notices silence first.
        while let Some(bytes) = frame::read(&mut read, limits::CLAIM_BYTES, 2 * SILENCE).await? {
            let mut message = FromWorker::decode(&bytes).map_err(io::Error::other)?;
            drop(bytes);
            if let FromWorker::Receipt(receipt) = &mut message {
                let objects = std::mem::take(&mut receipt.objects);
                self.transfers.note(peer, bytes_of(&objects), 0);
                let checked = match &receipt.end {
                    Ok(signed) if sign::is_of(&*self.verifier, peer, signed) => {
                        self.keep_objects(objects, Some(signed.reduction.values().collect())).await
                    }
                    Ok(_) => Err("its signature is false".to_owned()),
                    Err(_) => Ok(()),
                };
                if let Err(reason) = checked {
                    self.transfers.lied(peer, reason.clone());
                    let class = FailureClass::Machine;
                    receipt.end = Err(LeaseFailure { class, reason });
                }
            }
            self.tell(Message::FromWorker(id, message)).await;
        }
        Ok(())
    }

    async fn read_requester(
        &self,
        id: StreamId,
        peer: PeerId,
        mut read: ReadHalf<BoxStream>,
    ) -> io::Result<()> {
        while let Some(bytes) = frame::read(&mut read, limits::CLAIM_BYTES, 2 * SILENCE).await? {
            let mut message = FromRequester::decode(&bytes).map_err(io::Error::other)?;
            drop(bytes);
            if let FromRequester::Lease(lease) = &mut message {
                // Before the lease is known: a later one may count on them.
                let objects = std::mem::take(&mut lease.objects);
                self.transfers.note(peer, bytes_of(&objects), 0);
                self.keep_objects(objects, None).await.map_err(io::Error::other)?;
            }
            self.tell(Message::FromRequester(id, message)).await;
        }
        Ok(())
    }

    /// Puts objects that came along into the store: those that are what they are named, and named
    /// by what they came with. What the disk does not take is fetched later, or fails then.
    async fn keep_objects(
        &self,
        objects: Vec<InlineObject>,
        named: Option<BTreeSet<ValueName>>,
    ) -> Result<(), String> {
        if objects.is_empty() {
            return Ok(());
        }
        let store = self.store.clone();
        let keep = move || {
            for InlineObject { name, bytes } in objects {
                if named.as_ref().is_some_and(|named| !named.contains(&name)) {
                    continue;
                }
                if ValueName::of(&bytes) != name {
                    return Err(format!("the bytes it sent as {name} are others"));
                }
                if let Err(error) = store.put_bytes(&bytes) {
                    tracing::warn!(%name, %error, "an object that came along was not stored");
                }
            }
            Ok(())
        };
        // The node is being shut down otherwise, which is no fault of the sender's.
        tokio::task::spawn_blocking(keep).await.unwrap_or(Ok(()))
    }

    async fn write_worker(
        &self,
        peer: PeerId,
        mut queue: mpsc::Receiver<Outgoing>,
        mut write: WriteHalf<BoxStream>,
    ) -> io::Result<()> {
        let mut composer = Composer::new(self.store.clone());
        while let Some(outgoing) = queue.recv().await {
            let message = match outgoing {
                Outgoing::Say(message) => message,
                Outgoing::Lease(draft) => {
                    let composed;
                    (composer, composed) =
                        composer.compose(draft).await.map_err(io::Error::other)?;
                    self.transfers.note(peer, 0, bytes_of(&composed.objects));
                    FromRequester::Lease(composed)
                }
            };
            send(&mut write, message.encode()).await?;
        }
        close(write).await
    }

    async fn write_requester(
        &self,
        peer: PeerId,
        mut queue: mpsc::Receiver<FromWorker>,
        mut write: WriteHalf<BoxStream>,
    ) -> io::Result<()> {
        while let Some(first) = queue.recv().await {
            let (mut next, mut together) = (Some(first), Vec::new());
            while let Some(message) = next {
                if let FromWorker::Receipt(receipt) = &message {
                    self.transfers.note(peer, 0, bytes_of(&receipt.objects));
                }
                append(&mut together, message.encode())?;
                next = if together.len() < TOGETHER_BYTES { queue.try_recv().ok() } else { None };
            }
            frame::write(&mut write, &together, SILENCE).await?;
        }
        close(write).await
    }

    async fn tell(&self, message: Message) {
        if let Some(inbox) = self.inbox.upgrade() {
            let _ = inbox.send(message).await;
        }
    }
}

fn bytes_of(objects: &[InlineObject]) -> u64 {
    objects.iter().map(|object| object.bytes.len() as u64).sum()
}

async fn close(mut write: WriteHalf<BoxStream>) -> io::Result<()> {
    tokio::time::timeout(SILENCE, write.shutdown()).await?
}

async fn send(
    write: &mut WriteHalf<BoxStream>,
    message: Result<Vec<u8>, CodecError>,
) -> io::Result<()> {
    let mut alone = Vec::new();
    append(&mut alone, message)?;
    frame::write(write, &alone, SILENCE).await
}

fn append(together: &mut Vec<u8>, message: Result<Vec<u8>, CodecError>) -> io::Result<()> {
    frame::append(together, &message.map_err(io::Error::other)?);
    Ok(())
}
