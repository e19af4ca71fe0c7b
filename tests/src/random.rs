//! Choices that can be made again.

use std::time::{SystemTime, UNIX_EPOCH};

/// Set this to the seed of a failed test to have the same choices.
const SEED_VARIABLE: &str = "MESH_TESTS_SEED";

/// A sequence of numbers that depends on its seed alone (splitmix64, Steele et al., OOPSLA 2014).
#[derive(Debug)]
pub struct Random {
    seed: u64,
    state: u64,
}

impl Random {
    /// A new seed each time, or the one that `MESH_TESTS_SEED` gives; printed in any case.
    pub fn new() -> Self {
        let seed = match std::env::var(SEED_VARIABLE) {
            Ok(seed) => seed.parse().expect("MESH_TESTS_SEED is a number"),
            Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs()),
        };
        Self::of(seed)
    }

    /// The sequence of this seed, which is printed.
    pub fn of(seed: u64) -> Self {
        eprintln!("{SEED_VARIABLE}={seed}");
        Self { seed, state: seed }
    }

    /// What it began with.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// One of these, of which there must be some.
    pub fn choose<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

impl Default for Random {
    fn default() -> Self {
        Self::new()
    }
}
