//! The machines and the network between them, as a scenario states them.
//!
//! Left out: the file system and memory bandwidth of a host (tasks that share a host do not slow each
//! other down, nor do those of hosts that share a [`Machine`]), evictions (a cache keeps what it has), owners
//! who leave some cores free (a host takes something new or it does not: see [`Group::owner`]).

mod churn;
mod hosts;
mod link;
mod machine;
mod read;

pub(crate) use churn::{Absent, Presence};
pub use churn::{Churn, Outages};
pub use hosts::{HostId, Hosts};
pub use link::Link;
pub use machine::{Costs, Machine};

use crate::kernel::{Distribution, Span};

/// What a scenario's `[platform]` says.
#[derive(Clone, Debug)]
pub struct Platform {
    /// The kinds of hosts, in the order of the file.
    pub groups: Vec<Group>,
    /// Machines that hosts of several groups share.
    pub machines: Vec<Machine>,
    /// A link that every transfer between two hosts crosses, in either direction.
    pub backbone: Option<Link>,
    /// How long a lease or a receipt is on its way between requester and worker.
    pub control: Span,
    /// How long it takes until somebody notices that a host went.
    pub detection: Span,
}

/// Hosts of one kind.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// How many hosts.
    pub count: u32,
    /// Cores of each: how many tasks run at once.
    pub cores: u32,
    /// Work a second of one core, relative to the machine on which tasks were measured.
    pub speed: Distribution,
    /// Bytes of memory.
    pub memory: u64,
    /// What the hosts hold at the start.
    pub cache: Cache,
    /// Seconds that a core spends on making a sandbox, before each task; not scaled by speed.
    pub start: Distribution,
    /// The link of each host, with the whole bandwidth in each direction.
    pub access: Option<Link>,
    /// The link that transfers between this group and others cross, shared by the group's hosts,
    /// with the whole bandwidth in each direction.
    pub uplink: Option<Link>,
    /// When hosts go and come.
    pub churn: Option<Churn>,
    /// When owners use their hosts, which then take nothing new and finish what they run: as
    /// `mesh join --only-when-idle`. `up` is between two uses, `down` one of them.
    pub owner: Option<Churn>,
    /// Executions that take longer than they should.
    pub stragglers: Option<Stragglers>,
    /// The machine that all hosts of the group are on, if they share one: its position in
    /// [`Platform::machines`].
    pub machine: Option<usize>,
    /// Hosts that answer without having run anything.
    pub liars: Option<Liars>,
}

/// Hosts of a group that lie.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Liars {
    /// The probability that a host is one, for the whole run.
    pub share: f64,
    /// How they lie.
    pub lie: Lie,
    /// How many tasks each runs honestly before.
    pub after: u32,
}

/// What a liar answers at once, without having run anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lie {
    /// A receipt whose outputs are not the bytes that it names: found out when they are fetched.
    Bytes,
    /// A receipt with outputs that are there and have the names it says, but are not what the program comes
    /// to: only who runs it as well could tell.
    Result,
}

/// What hosts hold at the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cache {
    /// Nothing.
    Cold,
    /// The objects that the workload marks as common, such as a toolchain.
    Common,
    /// Every object that no task makes.
    Warm,
}

/// Slow executions: each is one with some probability, whatever its host.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Stragglers {
    /// The probability.
    pub share: f64,
    /// The factor on the execution time; factors below 1 count as 1.
    pub slowdown: Distribution,
}
