//! A set of small numbers whose least is found at once.

/// A bitset with summaries: 64 numbers a word, 64 words a word above.
#[derive(Debug)]
pub(super) struct RankSet {
    /// The lowest level holds the numbers; a bit of a level says that a word below is not zero.
    levels: Vec<Vec<u64>>,
}

impl RankSet {
    /// An empty set of numbers below `size`.
    pub(super) fn new(size: usize) -> Self {
        let mut levels = Vec::new();
        let mut words = size.div_ceil(64).max(1);
        loop {
            levels.push(vec![0; words]);
            if words == 1 {
                return Self { levels };
            }
            words = words.div_ceil(64);
        }
    }

    pub(super) fn insert(&mut self, number: u32) {
        let mut at = number as usize;
        for level in &mut self.levels {
            level[at / 64] |= 1 << (at % 64);
            at /= 64;
        }
    }

    pub(super) fn remove(&mut self, number: u32) {
        let mut at = number as usize;
        for level in &mut self.levels {
            let word = &mut level[at / 64];
            *word &= !(1 << (at % 64));
            if *word != 0 {
                break;
            }
            at /= 64;
        }
    }

    /// The least number.
    pub(super) fn first(&self) -> Option<u32> {
        self.at_least(0)
    }

    /// The least number from `from` on.
    pub(super) fn at_least(&self, from: u32) -> Option<u32> {
        let mut at = from as usize;
        let mut height = 0;
        // Up, until a word has a bit at or after `at`; then down along the least bits.
        loop {
            let level = self.levels.get(height)?;
            let rest = level.get(at / 64).map_or(0, |word| word & (u64::MAX << (at % 64)));
            if rest != 0 {
                at = at / 64 * 64 + rest.trailing_zeros() as usize;
                break;
            }
            at = at / 64 + 1;
            height += 1;
        }
        for level in self.levels[..height].iter().rev() {
            at = at * 64 + level[at].trailing_zeros() as usize;
        }
        Some(at as u32)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_as_a_sorted_set(
            size in 1_usize..20_000,
            actions in prop::collection::vec((any::<bool>(), any::<u32>(), any::<u32>()), 0..300),
        ) {
            let mut set = RankSet::new(size);
            let mut model = BTreeSet::new();
            for (insert, number, from) in actions {
                let number = number % size as u32;
                if insert {
                    set.insert(number);
                    model.insert(number);
                } else {
                    set.remove(number);
                    model.remove(&number);
                }
                let from = from % (size as u32 + 70);
                prop_assert_eq!(set.at_least(from), model.range(from..).next().copied());
                prop_assert_eq!(set.first(), model.first().copied());
            }
        }
    }
}
