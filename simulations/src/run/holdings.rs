//! Which host holds which object.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::slab::Key;
use super::transfer::Transfer;
use crate::platform::HostId;
use crate::workload::ObjectId;

/// Copies that runs have made. What users have and what caches hold at the start is not in here.
#[derive(Debug)]
pub(super) struct Holdings {
    /// For each object the hosts that are up and hold it.
    holders: Vec<Vec<HostId>>,
    /// For each host what it holds, up or not.
    held: Vec<Vec<ObjectId>>,
    /// Only looked up, never walked through: the order of a hash map must not decide anything.
    places: HashMap<u64, Place, BuildHasherDefault<Mixer>>,
}

/// What a host has of an object.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// All of it; where the host stands among the holders, if it is up.
    Held(u32),
    /// It is on its way.
    Coming(Key<Transfer>),
}

impl Holdings {
    pub(super) fn new(objects: usize, hosts: usize) -> Self {
        Self {
            holders: vec![Vec::new(); objects],
            held: vec![Vec::new(); hosts],
            places: HashMap::default(),
        }
    }

    pub(super) fn place(&self, host: HostId, object: ObjectId) -> Option<Place> {
        self.places.get(&key(host, object)).copied()
    }

    pub(super) fn holders(&self, object: ObjectId) -> &[HostId] {
        &self.holders[object.index()]
    }

    /// The object is on its way to the host.
    pub(super) fn expect(&mut self, host: HostId, object: ObjectId, transfer: Key<Transfer>) {
        self.places.insert(key(host, object), Place::Coming(transfer));
    }

    /// It will not come.
    pub(super) fn forget(&mut self, host: HostId, object: ObjectId) {
        if let Some(Place::Coming(_)) = self.place(host, object) {
            self.places.remove(&key(host, object));
        }
    }

    /// The host, which is up, has it.
    pub(super) fn add(&mut self, host: HostId, object: ObjectId) {
        if let Some(Place::Held(_)) = self.place(host, object) {
            return;
        }
        self.held[host.index()].push(object);
        self.list(host, object);
    }

    fn list(&mut self, host: HostId, object: ObjectId) {
        let holders = &mut self.holders[object.index()];
        self.places.insert(key(host, object), Place::Held(holders.len() as u32));
        holders.push(host);
    }

    /// Nobody can fetch from the host any more.
    pub(super) fn hide(&mut self, host: HostId) {
        for &object in &self.held[host.index()] {
            let Some(Place::Held(at)) = self.places.get(&key(host, object)).copied() else {
                continue;
            };
            let holders = &mut self.holders[object.index()];
            holders.swap_remove(at as usize);
            if let Some(&moved) = holders.get(at as usize) {
                self.places.insert(key(moved, object), Place::Held(at));
            }
        }
    }

    /// The host is back with its disk.
    pub(super) fn show(&mut self, host: HostId) {
        for at in 0..self.held[host.index()].len() {
            let object = self.held[host.index()][at];
            self.list(host, object);
        }
    }
}

fn key(host: HostId, object: ObjectId) -> u64 {
    (u64::from(host.0) << 32) | u64::from(object.0)
}

/// Fibonacci hashing: keys are ours, nobody can choose them to collide.
#[derive(Default)]
pub(super) struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(self.0 ^ u64::from(byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        let product = u128::from(number) * u128::from(0x9E37_79B9_7F4A_7C15_u64);
        self.0 = (product >> 64) as u64 ^ product as u64;
    }
}
