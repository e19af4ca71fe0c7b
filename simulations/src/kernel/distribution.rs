//! Distributions of times, sizes and speeds.

use super::random::Draws;

/// A distribution of non-negative numbers, in whatever unit its user gives it.
///
/// One sample takes a fixed number of draws for each kind.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Distribution {
    /// Always the same.
    Constant(f64),
    /// Between two bounds.
    Uniform {
        /// The lower bound.
        min: f64,
        /// The upper bound.
        max: f64,
    },
    /// Exponential.
    Exponential {
        /// Its mean.
        mean: f64,
    },
    /// Log-normal, given by its own mean and coefficient of variation rather than the logarithm's.
    LogNormal {
        /// Its mean.
        mean: f64,
        /// Standard deviation over mean.
        cv: f64,
    },
    /// Pareto of the first kind, cut at `max`: what lies above becomes `max`.
    Pareto {
        /// The tail index; at 1 or below the uncut mean is infinite.
        shape: f64,
        /// The smallest value.
        min: f64,
        /// The largest value.
        max: f64,
    },
    /// Weibull; a shape below 1 means that what has lasted will last.
    Weibull {
        /// The shape.
        shape: f64,
        /// The scale, in the unit of the samples.
        scale: f64,
    },
    /// One of two values.
    Bimodal {
        /// The frequent value.
        low: f64,
        /// The rare value.
        high: f64,
        /// The probability of `high`.
        share: f64,
    },
}

impl Distribution {
    /// Draws a number.
    pub fn sample(&self, draws: &mut Draws) -> f64 {
        match *self {
            Self::Constant(value) => value,
            Self::Uniform { min, max } => min + (max - min) * draws.unit(),
            Self::Exponential { mean } => -mean * libm::log(draws.unit_positive()),
            Self::LogNormal { mean, cv } => {
                let variance = libm::log1p(cv * cv);
                mean * libm::exp(libm::sqrt(variance) * draws.normal() - variance / 2.0)
            }
            Self::Pareto { shape, min, max } => {
                (min * libm::pow(draws.unit_positive(), -1.0 / shape)).min(max)
            }
            Self::Weibull { shape, scale } => {
                scale * libm::pow(-libm::log(draws.unit_positive()), 1.0 / shape)
            }
            Self::Bimodal { low, high, share } => {
                if draws.unit() < share {
                    high
                } else {
                    low
                }
            }
        }
    }

    /// Its mean.
    pub fn mean(&self) -> f64 {
        match *self {
            Self::Constant(value) => value,
            Self::Uniform { min, max } => f64::midpoint(min, max),
            Self::Exponential { mean } | Self::LogNormal { mean, .. } => mean,
            Self::Pareto { shape, min, max } => pareto_mean(shape, min, max),
            Self::Weibull { shape, scale } => scale * libm::tgamma(1.0 + 1.0 / shape),
            Self::Bimodal { low, high, share } => low + (high - low) * share,
        }
    }
}

/// The mean of min(X, max): the integral of the survival function.
fn pareto_mean(shape: f64, min: f64, max: f64) -> f64 {
    if shape == 1.0 {
        return min * (1.0 + libm::log(max / min));
    }
    min + min / (shape - 1.0) * (1.0 - libm::pow(max / min, 1.0 - shape))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Purpose;

    #[test]
    fn samples_have_the_stated_mean() {
        let all = [
            Distribution::Constant(3.0),
            Distribution::Uniform { min: 1.0, max: 4.0 },
            Distribution::Exponential { mean: 2.0 },
            Distribution::LogNormal { mean: 5.0, cv: 0.8 },
            Distribution::Pareto { shape: 1.5, min: 1.0, max: 100.0 },
            Distribution::Pareto { shape: 1.0, min: 1.0, max: 100.0 },
            Distribution::Weibull { shape: 0.6, scale: 9.0 },
            Distribution::Bimodal { low: 1.0, high: 50.0, share: 0.1 },
        ];
        for distribution in all {
            let mut draws = Draws::new(3, Purpose::Workload, 1);
            let n = 400_000;
            let mean = (0..n).map(|_| distribution.sample(&mut draws)).sum::<f64>() / f64::from(n);
            let expected = distribution.mean();
            assert!((mean / expected - 1.0).abs() < 0.02, "{distribution:?}: {mean} {expected}");
        }
    }
}
