//! The trees of large objects that were asked for: each is made once, of the object's bytes.

use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use hashlink::LruCache;
use mesh_protocol::limits;
use mesh_protocol::name::Digest;
use mesh_protocol::outboard::{self, Outboard};
use mesh_store::Store;

/// Empty until somebody has made it; nothing in it if the object cannot be read.
type Slot = Arc<OnceLock<Option<Outboard>>>;

pub(super) struct Outboards(Mutex<LruCache<Digest, Slot>>);

impl Outboards {
    pub(super) fn new() -> Self {
        // It is the hashes that are bounded, not the objects.
        Self(Mutex::new(LruCache::new_unbounded()))
    }

    /// What shows that the piece of an object that begins there is one. Reads the whole object, if nobody has,
    /// and waits for whoever does so. None if it cannot be read.
    pub(super) fn proof(
        &self,
        store: &Store,
        digest: Digest,
        start: u64,
    ) -> Option<Vec<outboard::Node>> {
        let slot = {
            let mut kept = self.lock();
            Arc::clone(kept.entry(digest).or_insert_with(Slot::default))
        };
        let mut is_new = false;
        let outboard = slot.get_or_init(|| {
            is_new = true;
            read(store, digest)
        });
        match outboard {
            Some(_) if is_new => self.trim(),
            Some(_) => {}
            // It may come, or come back.
            None => drop(self.lock().remove(&digest)),
        }
        outboard.as_ref().map(|outboard| outboard.proof(start))
    }

    /// Takes the tree of an object that has just come.
    pub(super) fn keep(&self, digest: Digest, outboard: Outboard) {
        self.lock().insert(digest, Arc::new(OnceLock::from(Some(outboard))));
        self.trim();
    }

    /// Drops those that were not asked for the longest.
    fn trim(&self) {
        let mut kept = self.lock();
        let len = |slot: &Slot| slot.get().and_then(Option::as_ref).map_or(0, Outboard::len);
        let mut hashes: usize = kept.iter().map(|(_, slot)| len(slot)).sum();
        while hashes > limits::TRANSFER_OUTBOARD_HASHES && kept.len() > 1 {
            let Some((_, slot)) = kept.remove_lru() else { break };
            hashes -= len(&slot);
        }
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<Digest, Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(store: &Store, digest: Digest) -> Option<Outboard> {
    let file = store.open_blob(digest).ok()?;
    let mut buffer = vec![0; limits::TRANSFER_PIECE_BYTES as usize];
    let mut pieces = Vec::new();
    let mut start = 0;
    while start < digest.length {
        let left = usize::try_from(digest.length - start).unwrap_or(usize::MAX);
        buffer.truncate(left);
        file.read_exact_at(&mut buffer, start).ok()?;
        pieces.push(outboard::piece(start, &buffer));
        start += buffer.len() as u64;
    }
    Some(Outboard::new(pieces))
}

#[cfg(test)]
mod tests {
    use mesh_store::StoreOptions;

    use super::*;

    #[test]
    fn a_tree_is_made_of_what_is_here_and_only_so_many_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(StoreOptions::new(directory.path())).unwrap();
        let piece = u64::from(limits::TRANSFER_PIECE_BYTES);
        let bytes = vec![7; 2 * limits::TRANSFER_PIECE_BYTES as usize + 1];
        let digest = Digest::of(&bytes);
        let outboards = Outboards::new();
        assert_eq!(outboards.proof(&store, digest, 0), None);
        store.put_bytes(&bytes).unwrap();
        let mut roots =
            bytes.chunks(limits::TRANSFER_PIECE_BYTES as usize).zip(0..).map(|(bytes, place)| {
                let start = place * piece;
                let proof = outboards.proof(&store, digest, start)?;
                outboard::root(digest.length, start, outboard::piece(start, bytes), &proof)
            });
        let first = roots.next().unwrap();
        assert!(first.is_some() && roots.all(|root| root == first));

        let large = |number: u8| {
            let pieces = vec![[number; 32]; limits::TRANSFER_OUTBOARD_HASHES / 2];
            outboards.keep(Digest::of(&[number]), Outboard::new(pieces));
        };
        large(1);
        large(2);
        let kept = || outboards.lock().iter().map(|(digest, _)| *digest).collect::<Vec<_>>();
        assert_eq!(kept(), [Digest::of(&[2])], "the last one only");
    }
}
