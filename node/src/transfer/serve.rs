//! Gives members what they ask for.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mesh_protocol::limits;
use mesh_protocol::peer::PeerId;
use mesh_protocol::wire::transfer::{Answer, Encoding, Want, WantedRange};
use mesh_store::Store;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::traffic::Ledger;
use crate::frame;
use crate::net::BoxStream;

const SILENCE: Duration = Duration::from_micros(limits::TRANSFER_SILENCE_US);
const IDLE: Duration = Duration::from_micros(limits::TRANSFER_IDLE_US);

/// A stream that carries less than this is worth some of our processor: LZ4 packs more than three
/// times as fast (a compiler's program in pieces: 344 MB/s, to 1/1.83).
const SLOW_BYTES_PER_S: f64 = 100e6;

pub(super) struct Server {
    store: Store,
    traffic: Arc<Ledger>,
    open: Arc<Mutex<BTreeMap<PeerId, usize>>>,
    /// Those who serve end when this is gone.
    alive: watch::Sender<()>,
}

impl Server {
    pub(super) fn new(store: Store, traffic: Arc<Ledger>) -> Self {
        Self { store, traffic, open: Arc::default(), alive: watch::channel(()).0 }
    }

    pub(super) fn accept(&self, peer: PeerId, stream: BoxStream) {
        let Some(place) = Place::take(&self.open, peer) else {
            return tracing::debug!(%peer, "it has too many streams open to ask on");
        };
        let mut alive = self.alive.subscribe();
        let (store, traffic) = (self.store.clone(), Arc::clone(&self.traffic));
        let mut serving = Serving { peer, stream, store, traffic, pace: Pace::default() };
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
        let mut reader = Reader { store: self.store.clone(), places: Places::new(want) };
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
        let packs = self.pace.is_slow;
        let plain: u64 = pieces.iter().map(Piece::length).sum();
        let joined = match packs {
            true => tokio::task::spawn_blocking(move || join(pieces, true)).await,
            false => Ok(join(pieces, false)),
        };
        let buffer = joined.map_err(io::Error::other)??;
        let start = Instant::now();
        frame::write(&mut self.stream, &buffer, SILENCE).await?;
        self.pace.note(buffer.len(), start.elapsed());
        self.traffic.sent(self.peer, plain, buffer.len() as u64);
        Ok(())
    }
}

/// Is the stream slow enough for packing to pay?
#[derive(Default)]
struct Pace {
    is_slow: bool,
}

impl Pace {
    fn note(&mut self, bytes: usize, took: Duration) {
        // Less may lie in a buffer on the way, and says nothing.
        if bytes >= limits::TRANSFER_PIECE_BYTES as usize / 4 {
            self.is_slow = (bytes as f64) < SLOW_BYTES_PER_S * took.as_secs_f64();
        }
    }
}

/// The next bytes of an item; none: it is missing.
struct Piece {
    item: u32,
    bytes: Option<Vec<u8>>,
}

impl Piece {
    fn length(&self) -> u64 {
        self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)
    }
}

/// Pieces as they go on the wire.
fn join(pieces: Vec<Piece>, packs: bool) -> io::Result<Vec<u8>> {
    let mut buffer = Vec::new();
    for Piece { item, bytes } in pieces {
        let Some(bytes) = bytes else {
            let missing = Answer::Missing { item }.encode().map_err(io::Error::other)?;
            frame::append(&mut buffer, &missing);
            continue;
        };
        let packed = packs.then(|| lz4_flex::block::compress(&bytes));
        // A tenth less at least, or unpacking costs more than it brings.
        let packed = packed.filter(|packed| packed.len() < bytes.len() - bytes.len() / 10);
        let size = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(io::Error::other);
        let encoding = match &packed {
            Some(packed) => Encoding::Lz4(size(packed)?),
            None => Encoding::Plain,
        };
        let header = Answer::Piece { item, length: size(&bytes)?, encoding };
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
            let read = self.read(wanted, start, length);
            bytes += length;
            if read.is_none() || length == left {
                (self.places.item, self.places.done) = (self.places.item + 1, 0);
            } else {
                self.places.done += length;
            }
            pieces.push(Piece { item, bytes: read });
        }
        pieces
    }

    fn read(&self, wanted: WantedRange, start: u64, length: u64) -> Option<Vec<u8>> {
        let file = self.store.open_blob(wanted.name.digest()).ok()?;
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        file.read_exact_at(&mut bytes, start).ok()?;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_stream_is_worth_packing_and_a_fast_one_is_not() {
        let mut pace = Pace::default();
        pace.note(256 * 1024, Duration::from_millis(20));
        assert!(pace.is_slow);
        pace.note(1000, Duration::ZERO);
        assert!(pace.is_slow, "a few bytes say nothing");
        pace.note(256 * 1024, Duration::from_millis(1));
        assert!(!pace.is_slow);
    }

    #[test]
    fn only_what_gets_shorter_is_packed() {
        let text = b"all work and no play ".repeat(1000);
        let piece = |bytes: &[u8]| vec![Piece { item: 7, bytes: Some(bytes.to_vec()) }];
        let packed = join(piece(&text), true).unwrap();
        assert!(packed.len() < text.len() / 10);
        let plain = join(piece(b"no"), true).unwrap();
        assert_eq!(plain, join(piece(b"no"), false).unwrap());
    }
}
