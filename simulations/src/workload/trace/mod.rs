//! A build as `mesh build --trace` recorded it (`docs/trace.md`): real times, sizes and dependencies.
//!
//! A task is a run of the recording. It takes what the run took, reads and leaves the objects that
//! the run did, and waits for those runs that left what it read and had ended when it started: so
//! the graph has no circles, whatever the file says. What a tree holds counts, once for all trees
//! that hold it.
//!
//! Left out: runs that the machine could not do (no run time is known), runs of other members
//! (what they read is not recorded), calls outside of thunks, the time of planning, and that a
//! thunk may take several cores. [`Recorded`] says how many of each there were.

mod events;
mod objects;
mod read;

use std::path::Path;

use super::{Builder, ObjectId, Spec};
use crate::config::{ConfigError, Section};

use objects::Shared;

/// `kind = "trace"`.
#[derive(Debug)]
pub struct Trace {
    runs: Vec<Run>,
    /// What is there before anything runs, in groups that the same runs read.
    shared: Vec<Shared>,
    recorded: Recorded,
    time: Time,
}

/// Which of the measured times a task takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Time {
    /// From start to end.
    Wall,
    /// User and system time: on a machine that was busy with other work, the better one.
    Cpu,
}

/// A run that becomes a task.
#[derive(Debug)]
struct Run {
    class: String,
    wall_s: f64,
    cpu_s: f64,
    memory: u64,
    /// Positions in `shared`.
    reads: Vec<u32>,
    /// Outputs of earlier runs: which run, which of its outputs.
    takes: Vec<(u32, u32)>,
    /// Bytes of each output.
    leaves: Vec<u64>,
}

/// What a recording says about the build itself.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Recorded {
    /// Cores of the machine that thunks could keep busy.
    pub slots: u32,
    /// Runs that became tasks.
    pub runs: u64,
    /// Seconds from when the first of them was ready until the last ended.
    pub makespan_s: f64,
    /// Mean seconds between the ends of two runs, one after the other.
    pub spacing_s: f64,
    /// Seconds of the run that took least.
    pub shortest_s: f64,
    /// Seconds that a run's sandbox and the storing of its outputs took, the median.
    pub start_s: f64,
    /// Runs of programs that did not succeed; they are tasks as well.
    pub failed: u64,
    /// Runs that the machine could not do.
    pub aborted: u64,
    /// Runs of other members.
    pub elsewhere: u64,
    /// Thunks whose result was known.
    pub reused: u64,
    /// Calls that ran outside of thunks.
    pub local: u64,
    /// Tasks that were given more than one core, and get one here.
    pub wide: u64,
    /// Whether the recording says what is in trees: if not, they count as small as their lists.
    pub has_trees: bool,
}

impl Trace {
    pub(super) fn read(section: &Section<'_>) -> Result<Self, ConfigError> {
        let allowed = "the path of a file that mesh build --trace wrote";
        let path = section.need("file", section.file("file")?, allowed)?;
        let times = [("wall", Time::Wall), ("cpu", Time::Cpu)];
        let time = section.choice("time", &times)?.unwrap_or(Time::Wall);
        let trace = Self::open(&path).map_err(|problem| {
            section.wrong("file", format!("{}: {problem}", path.display()), allowed)
        })?;
        Ok(Self { time, ..trace })
    }

    /// Reads a file.
    pub fn open(path: &Path) -> Result<Self, String> {
        read::open(path)
    }

    /// Reads a text.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        read::parse(text)
    }

    /// What it says about the build.
    pub fn recorded(&self) -> Recorded {
        self.recorded
    }

    pub(super) fn generate(&self, builder: &mut Builder) {
        let sources: Vec<ObjectId> = self
            .shared
            .iter()
            .enumerate()
            .map(|(at, shared)| {
                if shared.is_common {
                    builder.common(&format!("trace {at}"), shared.bytes)
                } else {
                    builder.source(shared.bytes)
                }
            })
            .collect();
        // The first output of each run; the others follow it.
        let mut first = Vec::with_capacity(self.runs.len());
        for run in &self.runs {
            let reads = run.reads.iter().map(|at| sources[*at as usize]);
            let takes = run.takes.iter().map(|(run, output)| {
                let ObjectId(object) = first[*run as usize];
                ObjectId(object + output)
            });
            let inputs: Vec<ObjectId> = reads.chain(takes).collect();
            let work = match self.time {
                Time::Wall => run.wall_s,
                Time::Cpu => run.cpu_s,
            };
            let spec = Spec { class: &run.class, work, memory: run.memory };
            let task = builder.task(spec, &inputs, &run.leaves);
            first.push(builder.output(task));
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
