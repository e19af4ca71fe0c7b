//! When hosts go and come, and when their owners use them.

use std::sync::Arc;

use super::{HostId, Hosts, Platform};
use crate::kernel::{Distribution, Draws, EventQueue, Purpose, SimTime, Span};

/// How the hosts of a group go and come. A host that goes loses what it runs and keeps its disk. The
/// hosts from which users submit stay.
#[derive(Clone, Debug)]
pub enum Churn {
    /// Every host is there at the start, for a time drawn from `up`; then away for one from `down`,
    /// and so on. That is not the stationary process: at the start nobody is away.
    Random {
        /// Seconds between coming and going: exponential and Weibull are what the literature fits.
        up: Distribution,
        /// Seconds away.
        down: Distribution,
    },
    /// Recorded absences; host n of the group follows node n modulo the number of recorded nodes.
    Trace(Arc<Outages>),
}

/// Recorded absences, by node.
#[derive(Debug, Default)]
pub struct Outages {
    /// For each node its absences, (gone, back), in order and disjoint.
    pub nodes: Vec<Vec<(SimTime, SimTime)>>,
}

/// The absences of one host, in order.
#[derive(Debug)]
struct Absences<'a> {
    churn: &'a Churn,
    draws: Draws,
    node: usize,
    next: usize,
}

/// What hosts are absent for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Absent {
    /// They are gone: [`Group::churn`](super::Group::churn).
    Gone,
    /// Their owners use them: [`Group::owner`](super::Group::owner).
    InUse,
}

/// The absences of all hosts.
#[derive(Default, Debug)]
pub(crate) struct Presence<'a> {
    gone: Vec<Option<Absences<'a>>>,
    in_use: Vec<Option<Absences<'a>>>,
}

impl<'a> Presence<'a> {
    /// Users' own hosts are never absent.
    pub(crate) fn new(platform: &'a Platform, hosts: &Hosts, seed: u64, is_home: &[bool]) -> Self {
        let of = |absent| {
            let (mut within, mut group_before) = (0, None);
            let of_host = |host: HostId| {
                let group = hosts.group_index(host);
                within = if group_before == Some(group) { within + 1 } else { 0 };
                group_before = Some(group);
                let group = &platform.groups[group];
                let (churn, purpose) = match absent {
                    Absent::Gone => (&group.churn, Purpose::Churn),
                    Absent::InUse => (&group.owner, Purpose::Owner),
                };
                let churn = churn.as_ref().filter(|_| !is_home[host.index()]);
                let draws = Draws::new(seed, purpose, u64::from(host.0));
                churn.map(|churn| Absences::new(churn, draws, within))
            };
            (0..hosts.len() as u32).map(HostId).map(of_host).collect()
        };
        Self { gone: of(Absent::Gone), in_use: of(Absent::InUse) }
    }

    /// Lets that host begin and end its next absence, if there is one.
    pub(crate) fn schedule<E>(
        &mut self,
        absent: Absent,
        host: HostId,
        queue: &mut EventQueue<E>,
        [begin, end]: [E; 2],
    ) {
        let all = match absent {
            Absent::Gone => &mut self.gone,
            Absent::InUse => &mut self.in_use,
        };
        let now = queue.now();
        let absences = all.get_mut(host.index()).and_then(Option::as_mut);
        if let Some((from, to)) = absences.and_then(|absences| absences.next(now)) {
            queue.schedule(from, begin);
            queue.schedule(to, end);
        }
    }
}

impl<'a> Absences<'a> {
    /// Those of a host which is number `within` of its group.
    fn new(churn: &'a Churn, draws: Draws, within: u32) -> Self {
        let node = match churn {
            Churn::Random { .. } => 0,
            Churn::Trace(outages) => within as usize % outages.nodes.len().max(1),
        };
        Self { churn, draws, node, next: 0 }
    }

    /// When a host that is there at `now` goes next and is back again; `None` if it stays.
    fn next(&mut self, now: SimTime) -> Option<(SimTime, SimTime)> {
        match self.churn {
            Churn::Random { up, down } => {
                let gone = now + Span::from_seconds(up.sample(&mut self.draws));
                let back = gone + Span::from_seconds(down.sample(&mut self.draws));
                Some((gone, back))
            }
            Churn::Trace(outages) => {
                let absence = outages.nodes.get(self.node)?.get(self.next).copied();
                self.next += 1;
                absence
            }
        }
    }
}
