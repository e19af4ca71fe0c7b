//! What is made of objects to serve them, kept while it is asked for: made once, however many ask at
//! the same moment.

use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use hashlink::LruCache;

/// Empty until somebody has made it.
type Slot<V> = Arc<OnceLock<V>>;

/// Things by what they were made of. Those that were not asked for the longest go first.
pub(super) struct Kept<K, V> {
    weight_max: usize,
    weigh: fn(&V) -> usize,
    slots: Mutex<LruCache<K, Slot<V>>>,
}

impl<K: Copy + Eq + Hash, V: Clone> Kept<K, V> {
    /// Keeps things of so much weight together, and the last one whatever its weight.
    pub(super) fn new(weight_max: usize, weigh: fn(&V) -> usize) -> Self {
        // It is the weight that is bounded, not the number.
        Self { weight_max, weigh, slots: Mutex::new(LruCache::new_unbounded()) }
    }

    /// Makes it, if nobody has, or waits for whoever does so. Blocks.
    pub(super) fn get_or_make(&self, key: K, make: impl FnOnce() -> V) -> V {
        let slot = Arc::clone(self.lock().entry(key).or_insert_with(Slot::default));
        let mut is_new = false;
        let made = slot.get_or_init(|| {
            is_new = true;
            make()
        });
        if is_new {
            self.trim();
        }
        made.clone()
    }

    /// What somebody has made.
    pub(super) fn get(&self, key: K) -> Option<V> {
        self.lock().get(&key).and_then(|slot| slot.get().cloned())
    }

    /// Takes what was made elsewhere.
    pub(super) fn put(&self, key: K, made: V) {
        self.lock().insert(key, Arc::new(OnceLock::from(made)));
        self.trim();
    }

    /// It is to be made anew.
    pub(super) fn forget(&self, key: K) {
        self.lock().remove(&key);
    }

    fn trim(&self) {
        let mut slots = self.lock();
        let weight = |slot: &Slot<V>| slot.get().map_or(0, self.weigh);
        let mut sum: usize = slots.iter().map(|(_, slot)| weight(slot)).sum();
        while sum > self.weight_max && slots.len() > 1 {
            let Some((_, slot)) = slots.remove_lru() else { break };
            sum -= weight(&slot);
        }
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<K, Slot<V>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_thing_is_made_once_and_the_oldest_go_when_it_is_too_much() {
        let kept = Kept::new(10, |made: &usize| *made);
        let times = AtomicUsize::new(0);
        let make = |key: u8, made: usize| {
            kept.get_or_make(key, || {
                times.fetch_add(1, Ordering::SeqCst);
                made
            })
        };
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| assert_eq!(make(1, 4), 4));
            }
        });
        assert_eq!((times.load(Ordering::SeqCst), kept.get(1), kept.get(2)), (1, Some(4), None));
        kept.put(2, 5);
        kept.get(1);
        assert_eq!(make(3, 3), 3);
        assert_eq!([1, 2, 3].map(|key| kept.get(key)), [Some(4), None, Some(3)]);
        kept.put(4, 99);
        assert_eq!([1, 3, 4].map(|key| kept.get(key)), [None, None, Some(99)], "at least the last");
        kept.forget(4);
        assert_eq!(make(4, 1), 1);
    }
}
