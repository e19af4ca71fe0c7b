//! What this process is making of objects: whoever wants the same meanwhile waits for it.
//!
//! Several jobs that begin at once lay out the same programs and trees. Made by each of them, all but
//! one would be thrown away.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::blob::Key;

#[derive(Debug, Default)]
pub(crate) struct Making {
    under_way: Mutex<HashSet<Key>>,
    ended: Condvar,
}

/// The right to make one thing, until it is dropped.
pub(crate) struct Maker<'a> {
    making: &'a Making,
    key: Key,
}

impl Making {
    /// Waits until nobody else makes this. They may have made it: look again.
    ///
    /// Whoever makes a tree makes programs meanwhile, and never the other way round, so nobody
    /// waits in a circle.
    pub(crate) fn begin(&self, key: Key) -> Maker<'_> {
        let mut under_way = self.lock();
        while !under_way.insert(key) {
            under_way = self.ended.wait(under_way).unwrap_or_else(PoisonError::into_inner);
        }
        Maker { making: self, key }
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Key>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Maker<'_> {
    fn drop(&mut self) {
        self.making.lock().remove(&self.key);
        self.making.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use mesh_protocol::name::Digest;

    use super::*;
    use crate::blob::Place;

    #[test]
    fn one_makes_it_and_the_others_wait() {
        let (making, made) = (Making::default(), AtomicUsize::new(0));
        let key = |place| (place, Digest::of(b"x"));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let _maker = making.begin(key(Place::Tree));
                    let before = made.load(Ordering::SeqCst);
                    // A tree's programs are made meanwhile.
                    drop(making.begin(key(Place::Executable)));
                    thread::yield_now();
                    made.store(before + 1, Ordering::SeqCst);
                });
            }
        });
        assert_eq!(made.into_inner(), 8, "no two at once");
    }
}
