//! What simulator and program say: version 1. Each message and each answer is one line.
//!
//! Times are seconds since the start of the run, sizes bytes; tasks, objects, jobs and hosts are
//! numbers from 0. Later versions may add fields to messages, which programs should ignore; an answer
//! with a field that this version does not know is refused.

use serde::{Deserialize, Serialize};

/// From the simulator.
#[derive(Serialize, Debug)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Message<'a> {
    /// The first one; the answer is [`Hello`].
    Start {
        /// [`super::VERSION`].
        version: u32,
        /// Of everything drawn in this run.
        seed: u64,
        /// Leases that a host takes beyond its cores.
        ahead: u32,
        /// All hosts, by number.
        hosts: Vec<Host<'a>>,
    },
    /// All others; the answer is [`Answer`].
    Instant(&'a Instant),
}

/// A host.
#[derive(Serialize, Debug)]
pub struct Host<'a> {
    /// Its number.
    pub host: u32,
    /// The name of its group.
    pub group: &'a str,
    /// Cores.
    pub cores: u32,
    /// Work a second of one core.
    pub speed: f64,
    /// Bytes of memory.
    pub memory: u64,
}

/// What happened since the last message, in the order of the fields, and who has room.
#[derive(Serialize, Default, Debug)]
pub struct Instant {
    /// When it is.
    pub now: f64,
    /// Tasks that came into being, in topological order.
    pub known: Vec<Known>,
    /// Tasks that are done, and where they ran.
    pub done: Vec<Put>,
    /// Hosts whose absence was noticed. They may be back.
    pub gone: Vec<u32>,
    /// Tasks that were ready and are so no more, because an input was lost.
    pub unready: Vec<u32>,
    /// Tasks that may be placed now; among them those that must run again.
    pub ready: Vec<u32>,
    /// All hosts with room: those with an idle core, fastest first; then those that take a first lease
    /// in advance, fastest first; and so on.
    pub free: Vec<FreeHost>,
}

/// A task.
#[derive(Serialize, Debug)]
pub struct Known {
    /// Its number.
    pub task: u32,
    /// Its job.
    pub job: u32,
    /// What kind of task it is.
    pub class: String,
    /// Seconds on a core of speed 1, as `estimates` has it.
    pub work: f64,
    /// Bytes of memory that it needs.
    pub memory: u64,
    /// The host of its user.
    pub home: u32,
    /// What it reads.
    pub inputs: Vec<Object>,
    /// What it makes.
    pub outputs: Vec<Object>,
}

/// An object.
#[derive(Serialize, Debug)]
pub struct Object {
    /// Its number.
    pub object: u32,
    /// Its size.
    pub bytes: u64,
}

/// A host with room.
#[derive(Serialize, Debug)]
pub struct FreeHost {
    /// Its number.
    pub host: u32,
    /// Cores for which there is no lease.
    pub idle: u32,
    /// Leases that it takes: those, and what `ahead` allows beyond.
    pub room: u32,
    /// Bytes of memory that no lease has.
    pub memory: u64,
}

/// A task and a host.
#[derive(Serialize, Deserialize, Clone, Copy, Debug)]
#[serde(deny_unknown_fields)]
pub struct Put {
    /// The task.
    pub task: u32,
    /// The host.
    pub host: u32,
}

/// The answer to [`Message::Start`].
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// The version that the program speaks.
    pub version: u32,
}

/// The answer to [`Message::Instant`].
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Placements, in this order. Each task is ready, and its host has room and memory for it.
    pub place: Vec<Put>,
    /// When to ask again even if nothing happens until then.
    #[serde(default)]
    pub wake: Option<f64>,
}
