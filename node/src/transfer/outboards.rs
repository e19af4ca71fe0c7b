//! The trees of large objects that were asked for: each is made once, of the object's bytes.

use std::fs::File;
use std::num::NonZero;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::thread;

use mesh_protocol::limits;
use mesh_protocol::name::Digest;
use mesh_protocol::outboard::{self, Outboard};
use mesh_store::Store;

use super::kept::Kept;

const PIECE: u64 = limits::TRANSFER_PIECE_BYTES as u64;

/// What a thread hashes at least: three milliseconds are worth starting one.
const SHARE_BYTES_MIN: u64 = 8 * 1024 * 1024;

/// Nothing if the object cannot be read.
type Made = Option<Arc<Outboard>>;

pub(super) struct Outboards(Kept<Digest, Made>);

impl Outboards {
    pub(super) fn new() -> Self {
        let weigh = |made: &Made| made.as_ref().map_or(0, |outboard| outboard.len());
        Self(Kept::new(limits::TRANSFER_OUTBOARD_HASHES, weigh))
    }

    /// What shows that the piece of an object that begins there is one. Reads the whole object, if nobody has,
    /// and waits for whoever does so. None if it cannot be read.
    pub(super) fn proof(
        &self,
        store: &Store,
        digest: Digest,
        start: u64,
    ) -> Option<Vec<outboard::Node>> {
        let made = self.0.get_or_make(digest, || read(store, digest).map(Arc::new));
        if made.is_none() {
            // It may come, or come back.
            self.0.forget(digest);
        }
        made.map(|outboard| outboard.proof(start))
    }

    /// Takes the tree of an object that has just come.
    pub(super) fn keep(&self, digest: Digest, outboard: Outboard) {
        self.0.put(digest, Some(Arc::new(outboard)));
    }
}

/// Somebody waits for it, so all cores hash if it is worth it.
fn read(store: &Store, digest: Digest) -> Option<Outboard> {
    let file = store.open_blob(digest).ok()?;
    let cores = thread::available_parallelism().map_or(1, NonZero::get) as u64;
    let share = digest.length.div_ceil(cores).max(SHARE_BYTES_MIN).next_multiple_of(PIECE);
    let pieces = thread::scope(|scope| {
        let starts = (0..digest.length).step_by(usize::try_from(share).ok()?);
        let hash = |start| hash(&file, start, digest.length.min(start + share));
        let spawn = |start| thread::Builder::new().spawn_scoped(scope, move || hash(start));
        let shares: Vec<_> = starts.map(|start| (start, spawn(start))).collect();
        let hashed = shares.into_iter().map(|(start, thread)| match thread {
            Ok(thread) => thread.join().ok()?,
            // No more threads for us.
            Err(_) => hash(start),
        });
        Some(hashed.collect::<Option<Vec<_>>>()?.concat())
    });
    pieces.map(Outboard::new)
}

fn hash(file: &File, mut start: u64, end: u64) -> Option<Vec<outboard::Node>> {
    let mut buffer = vec![0; limits::TRANSFER_PIECE_BYTES as usize];
    let mut pieces = Vec::new();
    while start < end {
        buffer.truncate(usize::try_from(end - start).unwrap_or(usize::MAX));
        file.read_exact_at(&mut buffer, start).ok()?;
        pieces.push(outboard::piece(start, &buffer));
        start += buffer.len() as u64;
    }
    Some(pieces)
}

#[cfg(test)]
mod tests {
    use mesh_store::StoreOptions;

    use super::*;

    #[test]
    fn a_tree_is_made_of_what_is_here() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(StoreOptions::new(directory.path())).unwrap();
        // Enough for several threads.
        let bytes = vec![7; 3 * SHARE_BYTES_MIN as usize + 1];
        let digest = Digest::of(&bytes);
        let outboards = Outboards::new();
        assert_eq!(outboards.proof(&store, digest, 0), None);
        store.put_bytes(&bytes).unwrap();
        let pieces = bytes.chunks(limits::TRANSFER_PIECE_BYTES as usize).zip(0..);
        let mut roots = pieces.map(|(bytes, place)| {
            let start = place * PIECE;
            let proof = outboards.proof(&store, digest, start)?;
            outboard::root(digest.length, start, outboard::piece(start, bytes), &proof)
        });
        let first = roots.next().unwrap();
        assert!(first.is_some() && roots.all(|root| root == first));
    }
}
