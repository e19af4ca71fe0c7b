//! Time as the machines see it: a number that somebody else counts.

use std::fmt;
use std::ops::{Add, Sub};

/// Microseconds since a start that the driver chose.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(u64);

impl Time {
    /// The start.
    pub const ZERO: Self = Self(0);

    /// Never.
    pub const MAX: Self = Self(u64::MAX);

    /// So many microseconds after the start.
    pub fn from_us(us: u64) -> Self {
        Self(us)
    }

    /// Microseconds since the start.
    pub fn us(self) -> u64 {
        self.0
    }
}

impl Add<u64> for Time {
    type Output = Self;

    fn add(self, us: u64) -> Self {
        Self(self.0.saturating_add(us))
    }
}

impl Sub for Time {
    type Output = u64;

    fn sub(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}us", self.0)
    }
}
