//! Things with numbers that are used again.

use std::marker::PhantomData;

/// A number in a [`Slab`] of `T`.
pub(super) struct Key<T>(u32, PhantomData<T>);

impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Key<T> {}

impl<T> PartialEq for Key<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T> Eq for Key<T> {}

impl<T> std::fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A vector with holes.
#[derive(Debug)]
pub(super) struct Slab<T> {
    items: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { items: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub(super) fn insert(&mut self, item: T) -> Key<T> {
        match self.free.pop() {
            Some(at) => {
                self.items[at as usize] = Some(item);
                Key(at, PhantomData)
            }
            None => {
                self.items.push(Some(item));
                Key(self.items.len() as u32 - 1, PhantomData)
            }
        }
    }

    pub(super) fn get(&self, key: Key<T>) -> Option<&T> {
        self.items.get(key.0 as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, key: Key<T>) -> Option<&mut T> {
        self.items.get_mut(key.0 as usize)?.as_mut()
    }

    pub(super) fn remove(&mut self, key: Key<T>) -> Option<T> {
        let item = self.items.get_mut(key.0 as usize)?.take()?;
        self.free.push(key.0);
        Some(item)
    }
}
