//! What is made of objects to serve them, kept while it is asked for: made once, however many ask at
//! the same moment.

use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use hashlink::LruCache;

/// Things by what they were made of. Those that were not asked for the longest go first.
pub(super) struct Kept<K, V> {
    weight_max: usize,
    weigh: fn(&V) -> usize,
    shelf: Mutex<Shelf<K, V>>,
}

struct Shelf<K, V> {
    slots: LruCache<K, Slot<V>>,
    /// That of all slots.
    weight: usize,
}

struct Slot<V> {
    /// Empty until somebody has made it.
    made: Arc<OnceLock<V>>,
    /// 0 until it was weighed.
    weight: usize,
}

impl<K: Copy + Eq + Hash, V: Clone> Kept<K, V> {
    /// Keeps things of so much weight together, and the last one whatever its weight.
    pub(super) fn new(weight_max: usize, weigh: fn(&V) -> usize) -> Self {
        // It is the weight that is bounded, not the number.
        let shelf = Shelf { slots: LruCache::new_unbounded(), weight: 0 };
        Self { weight_max, weigh, shelf: Mutex::new(shelf) }
    }

    /// Makes it, if nobody has, or waits for whoever does so. Blocks.
    pub(super) fn get_or_make(&self, key: K, make: impl FnOnce() -> V) -> V {
        let fresh = || Slot { made: Arc::default(), weight: 0 };
        let slot = Arc::clone(&self.lock().slots.entry(key).or_insert_with(fresh).made);
        let mut is_new = false;
        let made = slot.get_or_init(|| {
            is_new = true;
            make()
        });
        if is_new {
            self.count(key, &slot);
        }
        made.clone()
    }

    /// What somebody has made.
    pub(super) fn get(&self, key: K) -> Option<V> {
        self.lock().slots.get(&key).and_then(|slot| slot.made.get().cloned())
    }

    /// Takes what was made elsewhere.
    pub(super) fn put(&self, key: K, made: V) {
        let made = Arc::new(OnceLock::from(made));
        {
            let shelf = &mut *self.lock();
            let slot = Slot { made: Arc::clone(&made), weight: 0 };
            shelf.weight -= shelf.slots.insert(key, slot).map_or(0, |old| old.weight);
        }
        self.count(key, &made);
    }

    /// It is to be made anew.
    pub(super) fn forget(&self, key: K) {
        let shelf = &mut *self.lock();
        shelf.weight -= shelf.slots.remove(&key).map_or(0, |slot| slot.weight);
    }

    /// Counts what has just been made, unless it was dropped meanwhile, and drops what is too much.
    fn count(&self, key: K, made: &Arc<OnceLock<V>>) {
        let shelf = &mut *self.lock();
        if let Some(slot) = shelf.slots.get_mut(&key).filter(|slot| Arc::ptr_eq(&slot.made, made)) {
            let weight = made.get().map_or(0, self.weigh);
            shelf.weight = shelf.weight - slot.weight + weight;
            slot.weight = weight;
        }
        while shelf.weight > self.weight_max && shelf.slots.len() > 1 {
            let Some((_, slot)) = shelf.slots.remove_lru() else { break };
            shelf.weight -= slot.weight;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shelf<K, V>> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
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
