//! The events of a trace, as they come: runs are kept, the others counted.

use std::fmt;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::Recorded;
use crate::limits::TRACE_RUNS_MAX;

/// Microseconds of 30 years: what is longer is a mistake.
const US_MAX: u64 = 1_000_000_000_000_000;

/// What the events say, all together.
#[derive(Default)]
pub(super) struct Events {
    /// In the order of their starts.
    pub(super) runs: Vec<RunEvent>,
    /// All but what no event says.
    pub(super) recorded: Recorded,
}

/// A run of which a time is known.
pub(super) struct RunEvent {
    pub(super) name: String,
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) run_us: u64,
    pub(super) args: Args,
}

#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    name: String,
    #[serde(default)]
    cat: String,
    #[serde(default)]
    ph: String,
    #[serde(default)]
    ts: u64,
    #[serde(default)]
    dur: u64,
    #[serde(default)]
    args: Args,
}

/// Of a run; what other events have beside is ignored.
#[derive(Deserialize, Default)]
pub(super) struct Args {
    #[serde(default)]
    pub(super) cores: u32,
    #[serde(default)]
    pub(super) inputs: Vec<u32>,
    #[serde(default)]
    pub(super) outputs: Vec<u32>,
    #[serde(default)]
    pub(super) succeeded: bool,
    run_us: Option<u64>,
    #[serde(default)]
    pub(super) cpu_us: u64,
    #[serde(default)]
    pub(super) memory_bytes: u64,
}

/// From the first moment when something was ready, until the last run ended.
struct Extent {
    first: u64,
    last: u64,
}

impl Events {
    fn take(&mut self, event: Event, extent: &mut Extent) -> Result<(), String> {
        let Event { name, cat, ph, ts, dur, args } = event;
        let run_us = args.run_us.unwrap_or(0);
        if [ts, dur, run_us, args.cpu_us].into_iter().any(|us| us > US_MAX) {
            return Err(format!("{name:?}: longer than 30 years"));
        }
        match cat.as_str() {
            "queue" if ph == "b" => extent.first = extent.first.min(ts),
            "memo" => self.recorded.reused += 1,
            "local" => self.recorded.local += 1,
            "elsewhere" => self.recorded.elsewhere += 1,
            "run" if args.run_us.is_none() => self.recorded.aborted += 1,
            "run" => {
                extent.first = extent.first.min(ts);
                extent.last = extent.last.max(ts + dur);
                if self.runs.len() == TRACE_RUNS_MAX {
                    return Err(format!("more than {TRACE_RUNS_MAX} runs"));
                }
                self.runs.push(RunEvent { name, start: ts, end: ts + dur, run_us, args });
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(mut self, extent: &Extent) -> Result<Self, String> {
        let Recorded { reused, elsewhere, .. } = self.recorded;
        if self.runs.is_empty() {
            return Err(format!(
                "nothing ran on the machine that recorded it ({reused} reused, {elsewhere} \
                 elsewhere); record a build from scratch, with --local"
            ));
        }
        self.runs.sort_by_key(|run| run.start);
        let beside = |run: &RunEvent| (run.end - run.start).saturating_sub(run.run_us);
        let mut starts: Vec<u64> = self.runs.iter().map(beside).collect();
        starts.sort_unstable();
        let count = |is: fn(&RunEvent) -> bool| self.runs.iter().filter(|run| is(run)).count();
        let ends = |run: &RunEvent| run.end;
        let first = self.runs.iter().map(ends).min().unwrap_or(0);
        let between = extent.last.saturating_sub(first) as f64;
        let shortest = self.runs.iter().map(|run| run.run_us).min().unwrap_or(0);
        self.recorded = Recorded {
            spacing_s: between / 1e6 / (self.runs.len() - 1).max(1) as f64,
            shortest_s: shortest as f64 / 1e6,
            runs: self.runs.len() as u64,
            makespan_s: (extent.last - extent.first) as f64 / 1e6,
            start_s: starts[starts.len() / 2] as f64 / 1e6,
            failed: count(|run| !run.args.succeeded) as u64,
            wide: count(|run| run.args.cores > 1) as u64,
            ..self.recorded
        };
        Ok(self)
    }
}

/// Event by event: a file of many small ones would take a hundred times its size otherwise.
impl<'de> Deserialize<'de> for Events {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Collect)
    }
}

struct Collect;

impl<'de> Visitor<'de> for Collect {
    type Value = Events;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of trace events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Events, A::Error> {
        let (mut events, mut extent) = (Events::default(), Extent { first: u64::MAX, last: 0 });
        while let Some(event) = all.next_element::<Event>()? {
            events.take(event, &mut extent).map_err(de::Error::custom)?;
        }
        events.finish(&extent).map_err(de::Error::custom)
    }
}
