//! A build: many compiles, some archives, one link.

use super::{bytes, or};
use crate::config::{ConfigError, Section, Unit};
use crate::kernel::{Distribution, Draws};
use crate::workload::{Builder, Spec};

/// `kind = "make"`: `units` compiles, each of a source file and its headers with the common
/// toolchain; an archive per library; a link of the archives.
///
/// Headers come in one object per library, which all its compiles share: fewer and larger fetches
/// than single files would make, of about the same bytes.
#[derive(Debug)]
pub(in crate::workload) struct Make {
    units: u32,
    libraries: u32,
    compile: Distribution,
    archive: Distribution,
    link: Distribution,
    memory: Distribution,
    source: Distribution,
    headers: Distribution,
    object: Distribution,
    toolchain: u64,
}

impl Make {
    pub(in crate::workload) fn read(section: &Section<'_>) -> Result<Self, ConfigError> {
        let units = section.integer("units", 1..=1_000_000)?;
        let compile = section.distribution("compile", Unit::Seconds)?;
        let toolchain = section.number("toolchain", Unit::Bytes, 0.0..=f64::MAX)?;
        Ok(Self {
            units: section.need("units", units, "how many compiles")? as u32,
            libraries: section.integer("libraries", 1..=10_000)?.unwrap_or(1) as u32,
            compile: section.need("compile", compile, "seconds, or a distribution")?,
            archive: or(section, "archive", Unit::Seconds, 0.05)?,
            link: or(section, "link", Unit::Seconds, 1.0)?,
            memory: or(section, "memory", Unit::Bytes, 100e6)?,
            source: or(section, "source", Unit::Bytes, 20e3)?,
            headers: or(section, "headers", Unit::Bytes, 600e3)?,
            object: or(section, "object", Unit::Bytes, 88e3)?,
            toolchain: toolchain.unwrap_or(90.7e6) as u64,
        })
    }

    pub(in crate::workload) fn generate(&self, builder: &mut Builder, draws: &mut Draws) {
        let toolchain = builder.common("toolchain", self.toolchain);
        let mut archives = vec![toolchain];
        for library in 0..self.libraries {
            // The units that are left over go to the first libraries.
            let units =
                self.units / self.libraries + u32::from(library < self.units % self.libraries);
            let headers = builder.source(bytes(&self.headers, draws));
            let mut objects = vec![toolchain];
            let mut size = 0;
            for _ in 0..units {
                let work = self.compile.sample(draws);
                let memory = bytes(&self.memory, draws);
                let source = builder.source(bytes(&self.source, draws));
                let object = bytes(&self.object, draws);
                size += object;
                let spec = Spec { class: "compile", work, memory };
                let task = builder.task(spec, &[toolchain, headers, source], &[object]);
                objects.push(builder.output(task));
            }
            let spec = Spec { class: "archive", work: self.archive.sample(draws), memory: 0 };
            let task = builder.task(spec, &objects, &[size]);
            archives.push(builder.output(task));
        }
        let memory = bytes(&self.memory, draws);
        let spec = Spec { class: "link", work: self.link.sample(draws), memory };
        let program = bytes(&self.object, draws) * u64::from(self.units) / 2;
        builder.task(spec, &archives, &[program]);
    }
}
