//! A 4-ary min-heap of keys whose removed root stays open until the next operation.
//!
//! The typical event schedules its successor. Filling the open root with it costs one sift down,
//! where a removal followed by an insertion costs two passes.

/// The heap.
#[derive(Debug, Default)]
pub(super) struct MinHeap {
    keys: Vec<u128>,
    /// `keys[0]` was handed out and may be overwritten.
    open: bool,
}

const ARITY: usize = 4;

impl MinHeap {
    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.keys.len() - usize::from(self.open)
    }

    /// Adds a key.
    pub(super) fn push(&mut self, key: u128) {
        if self.open {
            self.open = false;
            self.sift_down(0, key);
        } else {
            self.keys.push(key);
            self.sift_up(self.keys.len() - 1, key);
        }
    }

    /// Takes the smallest key.
    pub(super) fn pop(&mut self) -> Option<u128> {
        let least = self.peek()?;
        self.open = true;
        Some(least)
    }

    /// The smallest key.
    pub(super) fn peek(&mut self) -> Option<u128> {
        self.close();
        self.keys.first().copied()
    }

    /// Keeps the keys that `wanted` accepts.
    pub(super) fn retain(&mut self, wanted: impl FnMut(&u128) -> bool) {
        self.close();
        self.keys.retain(wanted);
        // From the last parent up.
        for at in (0..self.keys.len().div_ceil(ARITY)).rev() {
            self.sift_down(at, self.keys[at]);
        }
    }

    /// Fills an open root with the last key.
    fn close(&mut self) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        if let Some(last) = self.keys.pop()
            && !self.keys.is_empty()
        {
            self.sift_down(0, last);
        }
    }

    fn sift_up(&mut self, mut at: usize, key: u128) {
        while at > 0 {
            let parent = (at - 1) / ARITY;
            if self.keys[parent] <= key {
                break;
            }
            self.keys[at] = self.keys[parent];
            at = parent;
        }
        self.keys[at] = key;
    }

    /// Writes `key` at `at` or below.
    fn sift_down(&mut self, mut at: usize, key: u128) {
        let keys = self.keys.as_mut_slice();
        loop {
            let first = at * ARITY + 1;
            let (child, least) = if let Some(four) = keys.get(first..first + ARITY) {
                // A tournament, which compiles to conditional moves.
                let left = if four[1] < four[0] { (1, four[1]) } else { (0, four[0]) };
                let right = if four[3] < four[2] { (3, four[3]) } else { (2, four[2]) };
                let best = if right.1 < left.1 { right } else { left };
                (first + best.0, best.1)
            } else {
                let Some(rest) = keys.get(first..) else { break };
                let Some((offset, least)) = rest.iter().enumerate().min_by_key(|(_, key)| **key)
                else {
                    break;
                };
                (first + offset, *least)
            };
            if key <= least {
                break;
            }
            keys[at] = least;
            at = child;
        }
        keys[at] = key;
    }
}
