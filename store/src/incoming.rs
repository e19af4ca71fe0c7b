//! Objects that arrive piece by piece, in any order, from whoever has them.
//!
//! The name is known before the bytes: nothing becomes an object that does not hash to it. The hash
//! follows the bytes as they come, as far as they are complete from the beginning.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use mesh_protocol::name::{Digest, Hasher};

use crate::Store;
use crate::error::{Context, StoreError};
use crate::sys::{self, Temporary};

/// An object on its way into the store. Gone with all its bytes when dropped.
#[derive(Debug)]
pub struct Incoming {
    store: Store,
    digest: Digest,
    temporary: Temporary,
    arrived: Mutex<Arrived>,
}

struct Arrived {
    hasher: Hasher,
    /// The hasher has seen so many bytes.
    hashed: u64,
    /// Pieces beyond those, by where they begin: their lengths.
    ahead: BTreeMap<u64, u64>,
}

impl std::fmt::Debug for Arrived {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes and {} pieces", self.hashed, self.ahead.len())
    }
}

/// What came of an object when its last byte had arrived.
#[derive(Debug)]
pub enum Arrival {
    /// It is in the store.
    Stored,
    /// The bytes are not those that the name stands for. They are kept for comparison.
    Refused(Box<Incoming>),
}

impl Store {
    /// Begins to receive an object.
    pub fn receive(&self, digest: Digest) -> Result<Incoming, StoreError> {
        let temporary = Temporary::file(&self.shared().layout.tmp())?;
        let arrived = Arrived { hasher: Hasher::new(), hashed: 0, ahead: BTreeMap::new() };
        Ok(Incoming { store: self.clone(), digest, temporary, arrived: Mutex::new(arrived) })
    }

    /// Is the tree here, with everything that it reaches? Marks it all as used.
    pub fn contains_tree(&self, name: mesh_protocol::name::ValueName) -> bool {
        self.is_complete_tree(name, 0)
    }
}

impl Incoming {
    /// Takes a piece. Every byte must come, and none twice.
    pub fn write_at(&self, start: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let file = self.temporary.file_handle();
        file.write_all_at(bytes, start).at("write", self.temporary.path())?;
        let mut arrived = self.lock();
        if arrived.hashed != start {
            arrived.ahead.insert(start, bytes.len() as u64);
            return Ok(());
        }
        arrived.take(bytes);
        // What waited for this piece.
        let mut buffer = Vec::new();
        while let Some(length) = arrived.next_ahead() {
            buffer.resize(usize::try_from(length).unwrap_or(usize::MAX), 0);
            file.read_exact_at(&mut buffer, arrived.hashed).at("read", self.temporary.path())?;
            arrived.take(&buffer);
        }
        Ok(())
    }

    /// Checks the whole and makes it an object.
    pub fn finish(self) -> Result<Arrival, StoreError> {
        let hasher = std::mem::replace(&mut self.lock().hasher, Hasher::new());
        if hasher.finish() != self.digest {
            return Ok(Arrival::Refused(Box::new(self)));
        }
        let Self { store, digest, temporary, .. } = self;
        if !store.contains(digest) {
            store.shared().blobs.adopt(temporary, digest)?;
        }
        Ok(Arrival::Stored)
    }

    /// Do so many bytes from `start` on differ from those of the object, which is in the store now?
    pub fn differs(&self, start: u64, length: u64) -> Result<bool, StoreError> {
        let good = self.store.open_blob(self.digest)?;
        let (mut ours, mut theirs) = (vec![0; sys::BUFFER_BYTES], vec![0; sys::BUFFER_BYTES]);
        let end = start.saturating_add(length).min(self.digest.length);
        let mut at = start;
        while at < end {
            let piece = usize::try_from(end - at).unwrap_or(usize::MAX).min(sys::BUFFER_BYTES);
            let path = self.temporary.path();
            self.temporary.file_handle().read_exact_at(&mut ours[..piece], at).at("read", path)?;
            good.read_exact_at(&mut theirs[..piece], at).at("read", path)?;
            if ours[..piece] != theirs[..piece] {
                return Ok(true);
            }
            at += piece as u64;
        }
        Ok(false)
    }

    fn lock(&self) -> MutexGuard<'_, Arrived> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Arrived {
    fn take(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.hashed += bytes.len() as u64;
    }

    fn next_ahead(&mut self) -> Option<u64> {
        self.ahead.remove(&self.hashed)
    }
}
