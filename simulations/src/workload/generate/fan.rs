//! Fan-out and fan-in: stages of parallel tasks with a barrier between them.

use super::{bytes, or};
use crate::config::{ConfigError, Section, Unit};
use crate::kernel::{Distribution, Draws};
use crate::workload::{Builder, Spec};

/// `kind = "fan"`: a split, `width` tasks, a join, and this `stages` times, each split taking what
/// the join before it made.
#[derive(Debug)]
pub(in crate::workload) struct Fan {
    stages: u32,
    width: u32,
    work: Distribution,
    split: Distribution,
    join: Distribution,
    object: Distribution,
}

impl Fan {
    pub(in crate::workload) fn read(section: &Section<'_>) -> Result<Self, ConfigError> {
        let width = section.integer("width", 1..=1_000_000)?;
        let work = section.distribution("work", Unit::Seconds)?;
        Ok(Self {
            stages: section.integer("stages", 1..=10_000)?.unwrap_or(1) as u32,
            width: section.need("width", width, "how many tasks side by side")? as u32,
            work: section.need("work", work, "seconds of each task, or a distribution")?,
            split: or(section, "split", Unit::Seconds, 0.0)?,
            join: or(section, "join", Unit::Seconds, 0.0)?,
            object: or(section, "object", Unit::Bytes, 0.0)?,
        })
    }

    pub(in crate::workload) fn generate(&self, builder: &mut Builder, draws: &mut Draws) {
        let mut before = builder.source(bytes(&self.object, draws));
        for _ in 0..self.stages {
            if builder.is_full() {
                return;
            }
            let pieces: Vec<u64> = (0..self.width).map(|_| bytes(&self.object, draws)).collect();
            let spec = |class, work| Spec { class, work, memory: 0 };
            let split = builder.task(spec("split", self.split.sample(draws)), &[before], &pieces);
            let first = builder.output(split).0;
            let parts: Vec<_> = (0..self.width)
                .map(|n| {
                    let piece = crate::workload::ObjectId(first + n);
                    let work = self.work.sample(draws);
                    let part = bytes(&self.object, draws);
                    let task = builder.task(spec("work", work), &[piece], &[part]);
                    builder.output(task)
                })
                .collect();
            let whole = bytes(&self.object, draws);
            let join = builder.task(spec("join", self.join.sample(draws)), &parts, &[whole]);
            before = builder.output(join);
        }
    }
}
