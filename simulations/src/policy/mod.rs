//! Policies: which ready task goes where, and when.
//!
//! The ones here are *global*: they see everything that is true now ([`View`]) and pay nothing for
//! it. They are the baselines of the literature, and the bound for policies that see only what gossip
//! told them.
//!
//! | name | order of tasks | choice of the host |
//! |---|---|---|
//! | `fifo`, `lifo`, `random` | as they became ready, the reverse, at random | the fastest with an idle core |
//! | `critical-path` | longest remaining chain of estimated work | the fastest with an idle core |
//! | `b-level` | HEFT's upward rank, transfers included, online | earliest estimated completion |
//! | `heft` | upward rank, planned at arrival with insertion (Topcuoglu et al., 2002) | as planned |
//! | `min-min`, `max-min`, `sufferage` | see [`batch`] (Maheswaran et al., 1999) | earliest estimated completion |
//! | `locality` | as they became ready | the free one that has most of the input bytes |
//!
//! With `ahead` a host takes leases beyond its cores: all policies give idle cores theirs first.
//!
//! A policy of your own implements [`Policy`]; `examples/policy.rs` is one in under 60 lines.

pub mod batch;
mod estimate;
mod heft;
mod list;
mod rank;

pub use estimate::Estimates;

use crate::platform::HostId;
use crate::run::View;
use crate::workload::TaskId;

/// A task for a host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placement {
    /// The task, which is ready.
    pub task: TaskId,
    /// The host, which has room and memory for it.
    pub host: HostId,
}

/// A scheduling policy.
///
/// At the end of every instant at which something happened it is told what, in this order; then it is
/// asked for placements until it has none. It may draw from [`crate::kernel::Draws`] with
/// [`crate::kernel::Purpose::Policy`]; it must not read clocks or hash maps in their order.
pub trait Policy {
    /// What errors call it.
    fn name(&self) -> &'static str;

    /// These tasks came into being, in topological order.
    fn known(&mut self, _view: &View<'_>, _tasks: &[TaskId]) {}

    /// This task is done, and ran on this host.
    fn done(&mut self, _view: &View<'_>, _task: TaskId, _host: HostId) {}

    /// This task may be placed. It may cease to be ready, when an input is lost
    /// ([`View::is_ready`]), and be ready again, when its host went: then it is told again.
    fn ready(&mut self, view: &View<'_>, task: TaskId);

    /// The next placement; `None` to wait for the next change. Asked only while a host has room.
    fn place(&mut self, view: &View<'_>) -> Option<Placement>;
}

/// The policies that have names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PolicyName {
    /// First in, first out.
    Fifo,
    /// Last in, first out.
    Lifo,
    /// Any order.
    Random,
    /// Longest remaining chain first.
    CriticalPath,
    /// Upward rank, online.
    BLevel,
    /// Upward rank, planned.
    Heft,
    /// Shortest completion first.
    MinMin,
    /// Longest completion first.
    MaxMin,
    /// First what would suffer most.
    Sufferage,
    /// Where the bytes are.
    Locality,
}

impl PolicyName {
    /// All of them, with the names that scenarios use.
    pub const ALL: [(&'static str, Self); 10] = [
        ("fifo", Self::Fifo),
        ("lifo", Self::Lifo),
        ("random", Self::Random),
        ("critical-path", Self::CriticalPath),
        ("b-level", Self::BLevel),
        ("heft", Self::Heft),
        ("min-min", Self::MinMin),
        ("max-min", Self::MaxMin),
        ("sufferage", Self::Sufferage),
        ("locality", Self::Locality),
    ];

    /// A fresh policy of this name.
    pub fn make(self) -> Box<dyn Policy> {
        use batch::{Batch, Rule};
        use list::{Choice, List, Order};
        match self {
            Self::Fifo => Box::new(List::new("fifo", Order::Fifo, Choice::Fastest)),
            Self::Lifo => Box::new(List::new("lifo", Order::Lifo, Choice::Fastest)),
            Self::Random => Box::new(List::new("random", Order::Random, Choice::Fastest)),
            Self::CriticalPath => {
                Box::new(List::new("critical-path", Order::Work, Choice::Fastest))
            }
            Self::BLevel => Box::new(List::new("b-level", Order::Upward, Choice::Earliest)),
            Self::Locality => Box::new(List::new("locality", Order::Fifo, Choice::Bytes)),
            Self::Heft => Box::new(heft::Heft::default()),
            Self::MinMin => Box::new(Batch::new("min-min", Rule::MinMin)),
            Self::MaxMin => Box::new(Batch::new("max-min", Rule::MaxMin)),
            Self::Sufferage => Box::new(Batch::new("sufferage", Rule::Sufferage)),
        }
    }
}
