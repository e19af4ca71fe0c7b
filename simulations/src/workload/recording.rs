//! Recorded builds: real times and memory of every tool call, with assumed edges and sizes.
//!
//! A recording says when each call started, what it cost and what it made, not what it read. So:
//!
//! - a compile (or anything unknown) takes the toolchain, its source, and the headers of its source's
//!   directory as one object; it depends on no other call;
//! - calls of `ar` that follow each other without a compile between them share the objects that are
//!   in no archive yet evenly, in the recorded order;
//! - `ranlib` takes the latest archive that has no index, `strip` the link before it;
//! - a link takes all archives and all objects in none that were made before it: more bytes than in
//!   reality where a build makes several programs.

use std::path::Path;

use serde::Deserialize;

use super::generate::{bytes, or};
use super::{Builder, ObjectId, Spec};
use crate::config::{ConfigError, Section, Unit};
use crate::kernel::{Distribution, Draws};
use crate::limits::INPUT_BYTES_MAX;

/// `kind = "recording"`.
#[derive(Debug)]
pub struct Recording {
    calls: Vec<Call>,
    toolchain: u64,
    source: Distribution,
    headers: Distribution,
    object: Distribution,
}

#[derive(Debug, Deserialize)]
struct Call {
    kind: String,
    source: String,
    output: String,
    cpu_s: f64,
    max_rss_kib: u64,
}

/// The recordings that come with the crate.
const BUILTIN: [(&str, &str); 3] = [
    ("redis", include_str!("../../data/build-traces/redis.csv")),
    ("ninja", include_str!("../../data/build-traces/ninja.csv")),
    ("ffmpeg", include_str!("../../data/build-traces/ffmpeg.csv")),
];

/// What FFmpeg's 1,729 objects are like: median 88 KB, 213 MB in all.
const OBJECTS: Distribution = Distribution::LogNormal { mean: 123e3, cv: 0.98 };

impl Recording {
    pub(super) fn read(section: &Section<'_>) -> Result<Self, ConfigError> {
        let calls = match section.file("file")? {
            Some(path) => Self::open(&path).map_err(|problem| {
                let form = "a CSV file with the columns kind, source, output, cpu_s, max_rss_kib";
                section.wrong("file", format!("{}: {problem}", path.display()), form)
            })?,
            None => {
                let text = section.choice("build", &BUILTIN)?;
                let names = BUILTIN.map(|(name, _)| name).join(", ");
                let text = section.need("build", text, &format!("{names}; or the key file"))?;
                parse(text.as_bytes()).map_err(|problem| section.wrong("build", problem, ""))?
            }
        };
        let toolchain = section.number("toolchain", Unit::Bytes, 0.0..=f64::MAX)?;
        Ok(Self {
            calls,
            toolchain: toolchain.unwrap_or(90.7e6) as u64,
            source: or(section, "source", Unit::Bytes, 20e3)?,
            headers: or(section, "headers", Unit::Bytes, 600e3)?,
            object: section.distribution("object", Unit::Bytes)?.unwrap_or(OBJECTS),
        })
    }

    fn open(path: &Path) -> Result<Vec<Call>, String> {
        let size = std::fs::metadata(path).map_err(|e| e.to_string())?.len();
        if size > INPUT_BYTES_MAX {
            return Err("larger than 1 GiB".to_owned());
        }
        parse(std::fs::File::open(path).map_err(|e| e.to_string())?)
    }

    pub(super) fn generate(&self, builder: &mut Builder, draws: &mut Draws) {
        let mut made = Made::default();
        for (at, call) in self.calls.iter().enumerate() {
            let toolchain = builder.common("toolchain", self.toolchain);
            let (mut inputs, size) = match call.kind.as_str() {
                "ar" => {
                    let taken = made.take_loose(sharers(&self.calls[at..]));
                    let size = taken.iter().map(|(_, bytes)| bytes).sum();
                    (taken.into_iter().map(|(object, _)| object).collect(), size)
                }
                "ranlib" => {
                    made.take_plain_archive().map_or((Vec::new(), 0), |(a, size)| (vec![a], size))
                }
                "link" | "compile-link" => {
                    let all = made.indexed.iter().chain(&made.plain).chain(&made.loose);
                    let size: u64 = all.clone().map(|(_, bytes)| bytes).sum();
                    (all.map(|(object, _)| *object).collect(), size / 2)
                }
                "strip" => made.linked.map_or((Vec::new(), 0), |(l, size)| (vec![l], size / 4)),
                _ => self.leaf(call, &mut made, builder, draws),
            };
            inputs.push(toolchain);
            let memory = call.max_rss_kib.saturating_mul(1024);
            let spec = Spec { class: &call.kind, work: call.cpu_s, memory };
            let outputs = [size];
            let task = builder.task(spec, &inputs, if size > 0 { &outputs } else { &[] });
            if size > 0 {
                made.add(&call.kind, builder.output(task), size);
            }
        }
    }

    /// The inputs of a call that depends on no other, and the size of what it makes.
    fn leaf(
        &self,
        call: &Call,
        made: &mut Made,
        builder: &mut Builder,
        draws: &mut Draws,
    ) -> (Vec<ObjectId>, u64) {
        let directory = call.source.rsplit_once('/').map_or("", |(directory, _)| directory);
        let known = made.headers.iter().find(|(name, _)| name == directory);
        let headers = match known {
            Some(&(_, object)) => object,
            None => {
                let object = builder.source(bytes(&self.headers, draws));
                made.headers.push((directory.to_owned(), object));
                object
            }
        };
        let source = builder.source(bytes(&self.source, draws));
        let size = if call.output.is_empty() { 0 } else { bytes(&self.object, draws).max(1) };
        (vec![headers, source], size)
    }
}

/// What the calls so far have made, with sizes.
#[derive(Default)]
struct Made {
    loose: Vec<(ObjectId, u64)>,
    /// Archives, before and after `ranlib`.
    plain: Vec<(ObjectId, u64)>,
    indexed: Vec<(ObjectId, u64)>,
    linked: Option<(ObjectId, u64)>,
    /// By directory; there are few.
    headers: Vec<(String, ObjectId)>,
}

impl Made {
    fn take_loose(&mut self, sharers: usize) -> Vec<(ObjectId, u64)> {
        let share = self.loose.len().div_ceil(sharers.max(1));
        self.loose.drain(..share).collect()
    }

    /// The latest archive that has no index; where there is none, an indexed one again.
    fn take_plain_archive(&mut self) -> Option<(ObjectId, u64)> {
        self.plain.pop().or_else(|| self.indexed.pop())
    }

    fn add(&mut self, kind: &str, object: ObjectId, bytes: u64) {
        match kind {
            "ar" => self.plain.push((object, bytes)),
            "ranlib" => self.indexed.push((object, bytes)),
            "link" | "compile-link" => self.linked = Some((object, bytes)),
            "strip" => {}
            _ => self.loose.push((object, bytes)),
        }
    }
}

/// How many `ar` calls there are up to the next compile.
fn sharers(calls: &[Call]) -> usize {
    let steps = ["ar", "ranlib", "link", "compile-link", "strip"];
    let run = calls.iter().take_while(|call| steps.contains(&call.kind.as_str()));
    run.filter(|call| call.kind == "ar").count()
}

fn parse(text: impl std::io::Read) -> Result<Vec<Call>, String> {
    let mut reader = csv::Reader::from_reader(text);
    let calls =
        reader.deserialize().collect::<Result<Vec<Call>, _>>().map_err(|e| e.to_string())?;
    if let Some(call) = calls.iter().find(|call| !(0.0..=1e9).contains(&call.cpu_s)) {
        return Err(format!("{}: {} CPU seconds", call.source, call.cpu_s));
    }
    if calls.is_empty() {
        return Err("no calls".to_owned());
    }
    Ok(calls)
}
