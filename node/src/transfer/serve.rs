//! Gives members what they ask for.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mesh_protocol::limits;
use mesh_protocol::name::Digest;
use mesh_protocol::outboard::{self, Outboard};
use mesh_protocol::peer::PeerId;
use mesh_protocol::wire::transfer::{Answer, Encoding, Want, WantedRange};
use mesh_store::Store;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::outboards::Outboards;
use super::packing::{Pace, Packer, Packing};
use super::traffic::Ledger;
use crate::frame;
use crate::net::BoxStream;

const SILENCE: Duration = Duration::from_micros(limits::TRANSFER_SILENCE_US);
const IDLE: Duration = Duration::from_micros(limits::TRANSFER_IDLE_US);

pub(super) struct Server {
    shelf: Arc<Shelf>,
    traffic: Arc<Ledger>,
    open: Arc<Mutex<BTreeMap<PeerId, usize>>>,
    /// Those who serve end when this is gone.
    alive: watch::Sender<()>,
}

impl Server {
    pub(super) fn new(store: Store, traffic: Arc<Ledger>) -> Self {
        let (outboards, packer) = (Outboards::new(), Packer::new());
        let shelf = Arc::new(Shelf { store, outboards, packer });
        Self { shelf, traffic, open: Arc::default(), alive: watch::channel(()).0 }
    }

    /// Takes the tree of an object that has just come: others will want it next.
    pub(super) fn keep(&self, digest: Digest, outboard: Outboard) {
        self.shelf.outboards.keep(digest, outboard);
    }

    pub(super) fn accept(&self, peer: PeerId, stream: BoxStream) {
        let Some(place) = Place::take(&self.open, peer) else {
            return tracing::debug!(%peer, "it has too many streams open to ask on");
        };
        let mut alive = self.alive.subscribe();
        let (shelf, traffic) = (Arc::clone(&self.shelf), Arc::clone(&self.traffic));
        let mut serving = Serving { peer, stream, shelf, traffic, pace: Pace::default() };
        tokio::spawn(async move {
            let _place = place;
            tokio::select! {
                _ = alive.changed() => {}
                end = serving.serve() => if let Err(error) = end {
                    tracing::debug!(%peer, %error, "a stream for objects ended");
                },
            }
        });
    }
}

/// What is served, and what was made of it for that.
struct Shelf {
    store: Store,
    outboards: Outboards,
    packer: Packer,
}

/// One of the streams that a peer may have open.
struct Place {
    open: Arc<Mutex<BTreeMap<PeerId, usize>>>,
    peer: PeerId,
}

impl Place {
    fn take(open: &Arc<Mutex<BTreeMap<PeerId, usize>>>, peer: PeerId) -> Option<Self> {
        let mut counts = open.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = counts.values().sum();
        let own = counts.get(&peer).copied().unwrap_or(0);
        if own >= limits::TRANSFER_SERVED_PER_PEER || all >= limits::TRANSFER_SERVED {
            return None;
        }
        counts.insert(peer, own + 1);
        Some(Self { open: Arc::clone(open), peer })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.get_mut(&self.peer) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(&self.peer)),
        }
    }
}

struct Serving {
    peer: PeerId,
    stream: BoxStream,
    shelf: Arc<Shelf>,
    traffic: Arc<Ledger>,
    pace: Pace,
}

impl Serving {
    async fn serve(&mut self) -> io::Result<()> {
        while let Some(want) =
            frame::read(&mut self.stream, limits::TRANSFER_WANT_BYTES, IDLE).await?
        {
            let want = Want::decode(&want).map_err(io::Error::other)?;
            self.answer(want).await?;
        }
        Ok(())
    }

    /// Reads the next pieces while the last ones are written.
    async fn answer(&mut self, want: Want) -> io::Result<()> {
        let mut reader = Reader { shelf: Arc::clone(&self.shelf), places: Places::new(want) };
        let mut reading = read_next(reader);
        loop {
            let pieces;
            (reader, pieces) = reading.await.map_err(io::Error::other)?;
            if pieces.is_empty() {
                return Ok(());
            }
            reading = read_next(reader);
            self.write(pieces).await?;
        }
    }

    async fn write(&mut self, pieces: Vec<Piece>) -> io::Result<()> {
        let (shelf, packing) = (Arc::clone(&self.shelf), self.pace.packing());
        let plain: u64 = pieces.iter().map(Piece::length).sum();
        let join = move || join(pieces, &shelf.packer, packing);
        let joined = match packing {
            Packing::Level(_) => tokio::task::spawn_blocking(join).await,
            Packing::Never | Packing::IfDone => Ok(join()),
        };
        let buffer = joined.map_err(io::Error::other)??;
        let start = Instant::now();
        frame::write(&mut self.stream, &buffer, SILENCE).await?;
        self.pace.note(buffer.len(), start.elapsed());
        self.traffic.sent(self.peer, plain, buffer.len() as u64);
        Ok(())
    }
}

/// The next bytes of an item; none: it is missing.
struct Piece {
    item: u32,
    found: Option<Found>,
}

struct Found {
    /// Its object, and where in it.
    place: (Digest, u64),
    bytes: Vec<u8>,
    proof: Vec<outboard::Node>,
}

impl Piece {
    fn length(&self) -> u64 {
        self.found.as_ref().map_or(0, |found| found.bytes.len() as u64)
    }
}

/// Pieces as they go on the wire. Blocks if they are to be packed.
fn join(pieces: Vec<Piece>, packer: &Packer, packing: Packing) -> io::Result<Vec<u8>> {
    let mut buffer = Vec::new();
    for Piece { item, found } in pieces {
        let Some(Found { place, bytes, proof }) = found else {
            let missing = Answer::Missing { item }.encode().map_err(io::Error::other)?;
            frame::append(&mut buffer, &missing);
            continue;
        };
        let packed = packer.pack(place, &bytes, packing);
        let size = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(io::Error::other);
        let encoding = match &packed {
            Some(packed) => Encoding::Zstd(size(packed)?),
            None => Encoding::Plain,
        };
        let header = Answer::Piece { item, length: size(&bytes)?, encoding, proof };
        frame::append(&mut buffer, &header.encode().map_err(io::Error::other)?);
        frame::append(&mut buffer, packed.as_deref().unwrap_or(&bytes));
    }
    Ok(buffer)
}

/// How far a question has been answered.
struct Places {
    items: Vec<WantedRange>,
    item: usize,
    done: u64,
}

impl Places {
    fn new(want: Want) -> Self {
        Self { items: want.items, item: 0, done: 0 }
    }
}

struct Reader {
    shelf: Arc<Shelf>,
    places: Places,
}

fn read_next(mut reader: Reader) -> JoinHandle<(Reader, Vec<Piece>)> {
    tokio::task::spawn_blocking(move || {
        let pieces = reader.next();
        (reader, pieces)
    })
}

impl Reader {
    /// The next pieces, together about as long as one may be; nothing at the end.
    fn next(&mut self) -> Vec<Piece> {
        let (mut pieces, mut bytes) = (Vec::new(), 0);
        while bytes < u64::from(limits::TRANSFER_PIECE_BYTES)
            && let Some(wanted) = self.places.items.get(self.places.item).copied()
        {
            let start = wanted.start + self.places.done;
            let left = wanted.length - self.places.done;
            let length = left.min(limits::TRANSFER_PIECE_BYTES.into());
            let item = self.places.item as u32;
            let found = self.read(wanted, start, length);
            bytes += length;
            if found.is_none() || length == left {
                (self.places.item, self.places.done) = (self.places.item + 1, 0);
            } else {
                self.places.done += length;
            }
            pieces.push(Piece { item, found });
        }
        pieces
    }

    fn read(&self, wanted: WantedRange, start: u64, length: u64) -> Option<Found> {
        let digest = wanted.name.digest();
        let file = self.shelf.store.open_blob(digest).ok()?;
        let proof = match wanted.is_proven() {
            true => self.shelf.outboards.proof(&self.shelf.store, digest, start)?,
            false => Vec::new(),
        };
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        file.read_exact_at(&mut bytes, start).ok()?;
        Some(Found { place: (digest, start), bytes, proof })
    }
}
