//! A bag of tasks that do not depend on each other.

use super::{bytes, or};
use crate::config::{ConfigError, Section, Unit};
use crate::kernel::{Distribution, Draws};
use crate::workload::{Builder, Spec};

/// `kind = "bag"`.
#[derive(Debug)]
pub(in crate::workload) struct Bag {
    tasks: u32,
    work: Distribution,
    memory: Distribution,
    input: Distribution,
    output: Distribution,
    common: u64,
}

impl Bag {
    pub(in crate::workload) fn read(section: &Section<'_>) -> Result<Self, ConfigError> {
        let work = section.distribution("work", Unit::Seconds)?;
        Ok(Self {
            tasks: section.integer("tasks", 1..=16_000_000)?.unwrap_or(1) as u32,
            work: section.need("work", work, "seconds of each task, or a distribution")?,
            memory: or(section, "memory", Unit::Bytes, 0.0)?,
            input: or(section, "input", Unit::Bytes, 0.0)?,
            output: or(section, "output", Unit::Bytes, 0.0)?,
            common: section.number("common", Unit::Bytes, 0.0..=f64::MAX)?.unwrap_or(0.0) as u64,
        })
    }

    pub(in crate::workload) fn generate(&self, builder: &mut Builder, draws: &mut Draws) {
        let common = (self.common > 0).then(|| builder.common("common", self.common));
        for _ in 0..self.tasks {
            let work = self.work.sample(draws);
            let memory = bytes(&self.memory, draws);
            let input = bytes(&self.input, draws);
            let output = bytes(&self.output, draws);
            let own = (input > 0).then(|| builder.source(input));
            let inputs: Vec<_> = common.into_iter().chain(own).collect();
            let outputs: &[u64] = if output > 0 { &[output] } else { &[] };
            builder.task(Spec { class: "task", work, memory }, &inputs, outputs);
        }
    }
}
