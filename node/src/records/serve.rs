//! Keeps and answers what others say and ask.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use mesh_protocol::limits;
use mesh_protocol::name::Hasher;
use mesh_protocol::peer::PeerId;
use mesh_protocol::wire::records::{Fact, FromAsker, FromHolder, Record, RecordKey};
use mesh_store::records::{Kept, Key};

use super::Shared;
use crate::frame;
use crate::net::BoxStream;
use crate::net::membership::now_s;

const IDLE: Duration = Duration::from_micros(limits::RECORDS_IDLE_US);

/// What stands around the records of an answer.
const ENVELOPE_BYTES: usize = 64;

/// Streams that are served, by peer.
#[derive(Default)]
pub(super) struct Server(Arc<Mutex<BTreeMap<PeerId, usize>>>);

/// One of the streams that a peer may have open.
struct Place(Arc<Mutex<BTreeMap<PeerId, usize>>>, PeerId);

impl Server {
    fn place(&self, peer: PeerId) -> Option<Place> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = counts.values().sum();
        let its = counts.entry(peer).or_default();
        if *its >= limits::RECORDS_SERVED_PER_PEER || all >= limits::RECORDS_SERVED {
            return None;
        }
        *its += 1;
        Some(Place(Arc::clone(&self.0), peer))
    }
}

#[cfg(test)]
impl Server {
    pub(super) fn open(&self, peer: PeerId) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&peer).copied().unwrap_or(0)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.get_mut(&self.1) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(&self.1)),
        }
    }
}

pub(super) fn accept(shared: &Arc<Shared>, peer: PeerId, stream: BoxStream) {
    let Some(place) = shared.server.place(peer) else {
        return tracing::debug!(%peer, "it has too many streams open for records");
    };
    // Who serves does not keep the node.
    let shared = Arc::downgrade(shared);
    tokio::spawn(async move {
        let _place = place;
        if let Err(error) = serve(shared, peer, stream).await {
            tracing::debug!(%peer, %error, "a stream for records ended");
        }
    });
}

async fn serve(shared: Weak<Shared>, peer: PeerId, mut stream: BoxStream) -> io::Result<()> {
    while let Some(bytes) = frame::read(&mut stream, limits::RECORDS_MESSAGE_BYTES, IDLE).await? {
        let Some(shared) = shared.upgrade() else { return Ok(()) };
        // Decoding, keeping and signing take a processor or a disk for a while.
        let answer = tokio::task::spawn_blocking(move || shared.answer(peer, &bytes)).await;
        let answer = answer.map_err(io::Error::other)??;
        let mut buffer = Vec::with_capacity(answer.len() + 4);
        frame::append(&mut buffer, &answer);
        frame::write(&mut stream, &buffer, IDLE).await?;
    }
    Ok(())
}

/// Where a record is kept: by what it is found by, its kind included.
pub(super) fn place_of(key: &RecordKey) -> Key {
    let mut hasher = Hasher::new();
    hasher.update(match key {
        RecordKey::Reduction(_) => b"reduction",
        RecordKey::Provider(_) => b"provider!",
    });
    let digest = key.digest();
    hasher.update(&digest.sha256);
    hasher.update(&digest.length.to_le_bytes());
    hasher.finish().sha256
}

impl Shared {
    fn answer(&self, peer: PeerId, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let answer = match FromAsker::decode(bytes).map_err(io::Error::other)? {
            FromAsker::Publish(records) => FromHolder::Kept(self.keep(peer, &records)?),
            FromAsker::Ask(keys) => FromHolder::Found(self.find(&keys)),
        };
        answer.encode().map_err(io::Error::other)
    }

    /// How many of these are kept; nobody publishes for others, so the first that is not the peer's own
    /// ends the stream.
    fn keep(&self, peer: PeerId, records: &[Record]) -> io::Result<u32> {
        let now_s = now_s();
        let mut kept = 0;
        for record in records {
            let statement = &record.statement;
            if statement.publisher != peer || !statement.holds(now_s) {
                return Err(io::Error::other("a record that is not the peer's, or does not hold"));
            }
            let bytes = record.encode().map_err(io::Error::other)?;
            let place = place_of(&statement.key());
            let put = self.kept().put(now_s, place, peer.0, statement.expires_s, &bytes);
            if put.map_err(io::Error::other)? != Kept::Yes {
                break;
            }
            kept += 1;
        }
        Ok(kept)
    }

    /// As much as fits into an answer.
    fn find(&self, keys: &BTreeSet<RecordKey>) -> Vec<Record> {
        let mut room = limits::RECORDS_MESSAGE_BYTES as usize - ENVELOPE_BYTES;
        let mut found = Vec::new();
        for key in keys {
            for record in self.find_one(*key) {
                let length = record.encode().map_or(usize::MAX, |bytes| bytes.len());
                let Some(left) = room.checked_sub(length) else { return found };
                room = left;
                found.push(record);
            }
        }
        found
    }

    fn find_one(&self, key: RecordKey) -> Vec<Record> {
        let own = self.own_record(key);
        // One word for what came of a thunk is enough; the more have an object, the better.
        if own.is_some() && matches!(key, RecordKey::Reduction(_)) {
            return own.into_iter().collect();
        }
        let kept = self.kept().get(now_s(), place_of(&key)).unwrap_or_else(|error| {
            tracing::warn!(%error, "kept records cannot be read");
            Vec::new()
        });
        let kept = kept.iter().filter_map(|(_, bytes)| Record::decode(bytes).ok());
        let kept = kept.filter(|record| record.statement.key() == key && self.is_worth(record));
        own.into_iter().chain(kept).take(limits::PROVIDERS).collect()
    }

    /// Who is no member vouches for nothing, who went gives nothing.
    fn is_worth(&self, record: &Record) -> bool {
        let publisher = record.statement.publisher;
        let is_here = match record.statement.fact {
            Fact::Reduced(_) => true,
            Fact::Provides(_) => !self.is_away(publisher),
        };
        is_here && self.notary.may_say(publisher, &record.statement.key()).is_ok()
    }
}
