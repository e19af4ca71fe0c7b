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
//! | `peft` | mean of the optimistic cost table, planned like `heft` (Arabnejad and Barbosa, 2014) | as planned |
//! | `min-min`, `max-min`, `sufferage` | see [`batch`] (Maheswaran et al., 1999) | earliest estimated completion |
//! | `locality` | as they became ready | the free one that has most of the input bytes |
//! | `delay` | jobs as they arrived; one that has nothing local waits (Zaharia et al., 2010) | one that has the input bytes; after `wait` the fastest with an idle core |
//! | `stealing` | the last of one's own, the first of a victim's (Blumofe and Leiserson, 1999) | where `push` says, or whoever idles and steals it |
//! | `power-of-two` | reservations as they were drawn (Sparrow: Ousterhout et al., 2013) | of `probes` random ones the first with an idle core |
//!
//! [`external`] asks a program of yours, in whatever language.
//!
//! With `ahead` a host takes leases beyond its cores: all policies give idle cores theirs first;
//! `stealing` and `power-of-two` leave it at that.
//!
//! A policy of your own implements [`Policy`]; `examples/policy.rs` is one in under 60 lines.

pub mod batch;
mod delay;
mod estimate;
pub mod external;
mod list;
mod name;
mod oct;
mod plan;
mod rank;
mod sparrow;
mod stealing;

pub use estimate::Estimates;
pub(crate) use name::PROBES_MAX;
pub use name::{PolicyChoice, PolicyName};
pub use stealing::Push;

use crate::kernel::SimTime;
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

    /// This host went, which is noticed now. It may be back already.
    fn gone(&mut self, _view: &View<'_>, _host: HostId) {}

    /// This task was told as ready, was not placed, and may not be placed any more.
    fn unready(&mut self, _view: &View<'_>, _task: TaskId) {}

    /// This task may be placed. It may cease to be ready, when an input is lost
    /// ([`View::is_ready`]), and be ready again, when its host went: then it is told again.
    fn ready(&mut self, view: &View<'_>, task: TaskId);

    /// The next placement; `None` to wait for the next change. Asked only while a host has room.
    fn place(&mut self, view: &View<'_>) -> Option<Placement>;

    /// The instant is over: no host has room, or nothing more was placed. An error, which is one
    /// sentence for a person, ends the run.
    fn end(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// When to ask again even if nothing happens until then.
    fn wake(&mut self, _view: &View<'_>) -> Option<SimTime> {
        None
    }
}
