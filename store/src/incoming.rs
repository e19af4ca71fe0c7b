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
use crate::sys::Temporary;

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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// It is in the store.
    Stored,
    /// The bytes are not those that the name stands for, and are gone.
    Refused,
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
            return Ok(Arrival::Refused);
        }
        let Self { store, digest, temporary, .. } = self;
        if !store.contains(digest) {
            store.shared().blobs.adopt(temporary, digest)?;
            store.grown();
        }
        Ok(Arrival::Stored)
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
