//! Gives members what they ask for.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mesh_protocol::limits;
use mesh_protocol::outboard;
use mesh_protocol::peer::PeerId;
use mesh_protocol::wire::transfer::{Answer, Encoding, Want, WantedRange};
use mesh_store::Store;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::outboards::Outboards;
use super::traffic::Ledger;
use crate::frame;
use crate::net::BoxStream;

const SILENCE: Duration = Duration::from_micros(limits::TRANSFER_SILENCE_US);
const IDLE: Duration = Duration::from_micros(limits::TRANSFER_IDLE_US);

pub(super) struct Server {
    store: Store,
    outboards: Arc<Outboards>,
    traffic: Arc<Ledger>,
    open: Arc<Mutex<BTreeMap<PeerId, usize>>>,
    /// Those who serve end when this is gone.
    alive: watch::Sender<()>,
}

impl Server {
    pub(super) fn new(store: Store, outboards: Arc<Outboards>, traffic: Arc<Ledger>) -> Self {
        Self { store, outboards, traffic, open: Arc::default(), alive: watch::channel(()).0 }
    }

    pub(super) fn accept(&self, peer: PeerId, stream: BoxStream) {
        let Some(place) = Place::take(&self.open, peer) else {
            return tracing::debug!(%peer, "it has too many streams open to ask on");
        };
        let mut alive = self.alive.subscribe();
        let (store, outboards) = (self.store.clone(), Arc::clone(&self.outboards));
        let (traffic, pace) = (Arc::clone(&self.traffic), Pace::default());
        let mut serving = Serving { peer, stream, store, outboards, traffic, pace };
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
    store: Store,
    outboards: Arc<Outboards>,
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
        let (store, outboards) = (self.store.clone(), Arc::clone(&self.outboards));
        let mut reader = Reader { store, outboards, places: Places::new(want) };
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
        let level = self.pace.level();
        let plain: u64 = pieces.iter().map(Piece::length).sum();
        let joined = match level {
            Some(_) => tokio::task::spawn_blocking(move || join(pieces, level)).await,
            None => Ok(join(pieces, None)),
        };
        let buffer = joined.map_err(io::Error::other)??;
        let start = Instant::now();
        frame::write(&mut self.stream, &buffer, SILENCE).await?;
        self.pace.note(buffer.len(), start.elapsed());
        self.traffic.sent(self.peer, plain, buffer.len() as u64);
        Ok(())
    }
}

/// How fast the stream carries what is written.
#[derive(Default)]
struct Pace {
    bytes_per_s: Option<f64>,
}

impl Pace {
    fn note(&mut self, bytes: usize, took: Duration) {
        // Less may lie in a buffer on the way, and says nothing.
        if bytes >= limits::TRANSFER_PIECE_BYTES as usize / 4 {
            self.bytes_per_s = Some(bytes as f64 / took.as_secs_f64().max(1e-9));
        }
    }

    /// The level of Zstandard that pays: none at first, and where the stream is faster than that of a
    /// gigabit. Measured with a compiler's program in pieces: level 1 packs 398 MB/s to 1/2.45, level 3
    /// 211 MB/s to 1/2.65, level 9 60 MB/s to 1/2.81; packing and sending take turns.
    fn level(&self) -> Option<i32> {
        match self.bytes_per_s? {
            slow if slow < 2e6 => Some(9),
            slow if slow < 14e6 => Some(3),
            slow if slow < 120e6 => Some(1),
            _ => None,
        }
    }
}

/// The next bytes of an item; none: it is missing.
struct Piece {
    item: u32,
    found: Option<Found>,
}

struct Found {
    bytes: Vec<u8>,
    proof: Vec<outboard::Node>,
}

impl Piece {
    fn length(&self) -> u64 {
        self.found.as_ref().map_or(0, |found| found.bytes.len() as u64)
    }
}

/// Pieces as they go on the wire, packed if a level is given.
fn join(pieces: Vec<Piece>, level: Option<i32>) -> io::Result<Vec<u8>> {
    let mut buffer = Vec::new();
    let mut packer = level.map(zstd::bulk::Compressor::new).transpose()?;
    for Piece { item, found } in pieces {
        let Some(Found { bytes, proof }) = found else {
            let missing = Answer::Missing { item }.encode().map_err(io::Error::other)?;
            frame::append(&mut buffer, &missing);
            continue;
        };
        let packed = packer.as_mut().map(|packer| packer.compress(&bytes)).transpose()?;
        // A tenth less at least, or unpacking costs more than it brings.
        let packed = packed.filter(|packed| packed.len() < bytes.len() - bytes.len() / 10);
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
    store: Store,
    outboards: Arc<Outboards>,
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
        let file = self.store.open_blob(digest).ok()?;
        let proof = match wanted.is_proven() {
            true => self.outboards.proof(&self.store, digest, start)?,
            false => Vec::new(),
        };
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        file.read_exact_at(&mut bytes, start).ok()?;
        Some(Found { bytes, proof })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slower_a_stream_the_more_it_is_packed() {
        let mut pace = Pace::default();
        let mut level = |kib: usize, millis| {
            pace.note(kib * 1024, Duration::from_millis(millis));
            pace.level()
        };
        assert_eq!(level(1, 1), None, "a few bytes say nothing");
        assert_eq!(level(256, 10), Some(1));
        assert_eq!(level(1, 0), Some(1));
        assert_eq!(level(256, 50), Some(3));
        assert_eq!(level(256, 500), Some(9));
        assert_eq!(level(256, 1), None);
        assert_eq!(level(256, 0), None);
    }

    #[test]
    fn only_what_gets_shorter_is_packed() {
        let text = b"all work and no play ".repeat(1000);
        let piece = |bytes: &[u8]| {
            let found = Found { bytes: bytes.to_vec(), proof: vec![[7; 32]] };
            vec![Piece { item: 7, found: Some(found) }]
        };
        let packed = join(piece(&text), Some(1)).unwrap();
        assert!(packed.len() < text.len() / 10);
        let plain = join(piece(b"no"), Some(1)).unwrap();
        assert_eq!(plain, join(piece(b"no"), None).unwrap());
    }
}
