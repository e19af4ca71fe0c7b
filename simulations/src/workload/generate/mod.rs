//! Workloads made from a few numbers.

mod bag;
mod fan;
mod fibonacci;
mod make;
mod video;

pub(super) use bag::Bag;
pub(super) use fan::Fan;
pub(super) use fibonacci::Fibonacci;
pub(super) use make::Make;
pub(super) use video::Video;

use crate::config::{ConfigError, Section, Unit};
use crate::kernel::{Distribution, Draws};

/// A distribution with a default.
pub(super) fn or(
    section: &Section<'_>,
    key: &'static str,
    unit: Unit,
    default: f64,
) -> Result<Distribution, ConfigError> {
    Ok(section.distribution(key, unit)?.unwrap_or(Distribution::Constant(default)))
}

/// Draws a number of bytes.
pub(super) fn bytes(distribution: &Distribution, draws: &mut Draws) -> u64 {
    distribution.sample(draws) as u64
}
