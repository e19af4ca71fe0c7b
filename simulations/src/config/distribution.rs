//! Distributions in scenario files: a number, or a table that names one.

use super::error::ConfigError;
use super::section::{Section, Unit};
use crate::kernel::Distribution;

const ANY: std::ops::RangeInclusive<f64> = 0.0..=f64::MAX;
const POSITIVE: std::ops::RangeInclusive<f64> = f64::MIN_POSITIVE..=f64::MAX;

#[derive(Clone, Copy)]
enum Kind {
    Uniform,
    Exponential,
    LogNormal,
    Pareto,
    Weibull,
    Bimodal,
}

const KINDS: [(&str, Kind); 6] = [
    ("uniform", Kind::Uniform),
    ("exponential", Kind::Exponential),
    ("lognormal", Kind::LogNormal),
    ("pareto", Kind::Pareto),
    ("weibull", Kind::Weibull),
    ("bimodal", Kind::Bimodal),
];

impl Section<'_> {
    /// A number, or a table `{ distribution = "…", … }`.
    pub fn distribution(
        &self,
        key: &'static str,
        unit: Unit,
    ) -> Result<Option<Distribution>, ConfigError> {
        if !self.is_table(key) {
            return Ok(self.number(key, unit, ANY)?.map(Distribution::Constant));
        }
        let Some(section) = self.section(key)? else { return Ok(None) };
        let kind = section.choice("distribution", &KINDS)?;
        let names = KINDS.map(|(name, _)| name).join(", ");
        let kind = section.need("distribution", kind, &names)?;
        let distribution = section.parameters(kind, unit)?;
        section.finish()?;
        Ok(Some(distribution))
    }

    fn parameters(&self, kind: Kind, unit: Unit) -> Result<Distribution, ConfigError> {
        let value = |key| self.parameter(key, unit, &ANY);
        let positive = |key| self.parameter(key, unit, &POSITIVE);
        let plain = |key| self.parameter(key, Unit::Plain, &POSITIVE);
        Ok(match kind {
            Kind::Uniform => {
                let (min, max) = (value("min")?, value("max")?);
                if min > max {
                    return Err(self.wrong("max", format!("{max} is below min"), "min or more"));
                }
                Distribution::Uniform { min, max }
            }
            Kind::Exponential => Distribution::Exponential { mean: positive("mean")? },
            Kind::LogNormal => {
                let cv = self.parameter("cv", Unit::Plain, &ANY)?;
                Distribution::LogNormal { mean: positive("mean")?, cv }
            }
            Kind::Pareto => self.pareto(unit)?,
            Kind::Weibull => {
                Distribution::Weibull { shape: plain("shape")?, scale: positive("scale")? }
            }
            Kind::Bimodal => Distribution::Bimodal {
                low: value("low")?,
                high: value("high")?,
                share: self.parameter("share", Unit::Plain, &(0.0..=1.0))?,
            },
        })
    }

    fn pareto(&self, unit: Unit) -> Result<Distribution, ConfigError> {
        let shape = self.parameter("shape", Unit::Plain, &POSITIVE)?;
        let min = self.parameter("min", unit, &POSITIVE)?;
        let max = self.number("max", unit, POSITIVE)?;
        match max {
            None if shape <= 1.0 => {
                Err(self.wrong("max", "missing, and the mean is infinite", "a value above min"))
            }
            Some(max) if max < min => {
                Err(self.wrong("max", format!("{max} is below min"), "a value above min"))
            }
            _ => Ok(Distribution::Pareto { shape, min, max: max.unwrap_or(f64::INFINITY) }),
        }
    }

    fn parameter(
        &self,
        key: &'static str,
        unit: Unit,
        range: &std::ops::RangeInclusive<f64>,
    ) -> Result<f64, ConfigError> {
        let number = self.number(key, unit, range.clone())?;
        self.need(key, number, "a number")
    }
}
