//! A video encode with a serial rebase chain, the shape of ExCamera (Fouladi et al., NSDI 2017,
//! figure 4).

use super::{bytes, or};
use crate::config::{ConfigError, Section, Unit};
use crate::kernel::{Distribution, Draws};
use crate::workload::{Builder, ObjectId, Spec};

/// `kind = "video"`: every chunk is encoded by itself; its last state is decoded; the next chunk is
/// encoded again given that state; and within a batch each chunk is rebased on the one before it.
#[derive(Debug)]
pub(in crate::workload) struct Video {
    chunks: u32,
    batch: u32,
    encode: Distribution,
    decode: Distribution,
    given: Distribution,
    rebase: Distribution,
    raw: Distribution,
    coded: Distribution,
    state: Distribution,
    tools: u64,
}

impl Video {
    pub(in crate::workload) fn read(section: &Section<'_>) -> Result<Self, ConfigError> {
        let chunks = section.integer("chunks", 1..=1_000_000)?;
        let tools = section.number("tools", Unit::Bytes, 0.0..=f64::MAX)?;
        Ok(Self {
            chunks: section.need("chunks", chunks, "how many chunks")? as u32,
            batch: section.integer("batch", 1..=1_000_000)?.unwrap_or(16) as u32,
            encode: or(section, "encode", Unit::Seconds, 10.0)?,
            decode: or(section, "decode", Unit::Seconds, 0.3)?,
            given: or(section, "given", Unit::Seconds, 2.0)?,
            rebase: or(section, "rebase", Unit::Seconds, 1.0)?,
            raw: or(section, "raw", Unit::Bytes, 8e6)?,
            coded: or(section, "coded", Unit::Bytes, 200e3)?,
            state: or(section, "state", Unit::Bytes, 1.4e6)?,
            tools: tools.unwrap_or(8.3e6) as u64,
        })
    }

    pub(in crate::workload) fn generate(&self, builder: &mut Builder, draws: &mut Draws) {
        let tools = builder.common("encoder", self.tools);
        let mut chunks = Vec::with_capacity(self.chunks as usize);
        // What the chunk before left, in the open batch: state as encoded alone, state as rebased.
        let mut before: Option<(ObjectId, ObjectId)> = None;
        for n in 0..self.chunks {
            if n % self.batch == 0 {
                before = None;
            }
            let (coded, states) = self.chunk(tools, before, builder, draws);
            chunks.push(coded);
            before = Some(states);
        }
        let spec = Spec { class: "concat", work: 0.1, memory: 0 };
        let whole = (self.coded.mean() * f64::from(self.chunks)) as u64;
        builder.task(spec, &chunks, &[whole]);
    }

    /// Returns the coded chunk and its states.
    fn chunk(
        &self,
        tools: ObjectId,
        before: Option<(ObjectId, ObjectId)>,
        builder: &mut Builder,
        draws: &mut Draws,
    ) -> (ObjectId, (ObjectId, ObjectId)) {
        let raw = builder.source(bytes(&self.raw, draws));
        let coded = bytes(&self.coded, draws);
        let state = bytes(&self.state, draws);
        let spec = |class, work| Spec { class, work, memory: 0 };
        let encode = spec("encode", self.encode.sample(draws));
        let alone = builder.task(encode, &[tools, raw], &[coded]);
        let alone = builder.output(alone);
        let decode = spec("decode", self.decode.sample(draws));
        let decoded = builder.task(decode, &[tools, alone], &[state]);
        let decoded = builder.output(decoded);
        let (given, rebase) = (self.given.sample(draws), self.rebase.sample(draws));
        let Some((alone_before, rebased_before)) = before else {
            return (alone, (decoded, decoded));
        };
        let inputs = [tools, raw, alone_before];
        let given = builder.task(spec("encode-given", given), &inputs, &[coded]);
        let inputs = [tools, raw, builder.output(given), rebased_before];
        let rebased = builder.task(spec("rebase", rebase), &inputs, &[coded, state]);
        let rebased = builder.output(rebased);
        (rebased, (decoded, ObjectId(rebased.0 + 1)))
    }
}
