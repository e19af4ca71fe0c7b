//! How long transfers take.
//!
//! A transfer from host to host crosses: the access link of its source, outwards; if the groups
//! differ, the source group's uplink, outwards; the backbone; the other group's uplink, inwards; the
//! access link of its destination, inwards. It waits for the sum of the latencies and then moves its
//! bytes:
//!
//! - [`Model::Constant`]: at the smallest bandwidth on the way, whatever else is under way. Costs one
//!   event per transfer. Leaves out every contention: a star of a thousand workers that fetch from
//!   one host appears a thousand times as fast as it is.
//! - [`Model::Fair`]: links are shared by max-min fairness ([`FairShare`]), which is what long TCP
//!   flows of equal round-trip times tend to. Leaves out slow start, loss, the bias of TCP against
//!   long round trips, and the protocol's own overhead.
//!
//! Neither models several sources for one object, or ranges of it.

mod fair;

pub use fair::{FairShare, FlowId};

use crate::platform::{HostId, Hosts, Platform};

/// Which model.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Model {
    /// Every transfer as if it were alone.
    Constant,
    /// Max-min fair sharing.
    Fair,
}

/// The links that a transfer crosses and that have a bandwidth, as numbers of [`Topology`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Path {
    links: [u32; 5],
    length: u8,
}

impl Path {
    /// The links.
    pub fn links(&self) -> &[u32] {
        &self.links[..usize::from(self.length)]
    }

    /// Adds a link, if there is room: no path is longer than five.
    pub fn push(&mut self, link: u32) {
        if let Some(place) = self.links.get_mut(usize::from(self.length)) {
            *place = link;
            self.length += 1;
        }
    }
}

/// The links of a platform. Numbers: two per host (out, in), two per group (out, in), the backbone.
#[derive(Debug)]
pub struct Topology {
    bandwidth: Vec<f64>,
    latency: Vec<f64>,
    groups_at: usize,
}

impl Topology {
    /// The links of these hosts.
    pub fn new(platform: &Platform, hosts: &Hosts) -> Self {
        let accesses = (0..hosts.len() as u32).map(|h| hosts.group(platform, HostId(h)).access);
        let uplinks = platform.groups.iter().map(|group| group.uplink);
        let both_ways = accesses.chain(uplinks).flat_map(|link| [link, link]);
        let (bandwidth, latency) = both_ways
            .chain([platform.backbone])
            .map(|link| link.map_or((f64::INFINITY, 0.0), |link| (link.bandwidth, link.latency)))
            .unzip();
        Self { bandwidth, latency, groups_at: 2 * hosts.len() }
    }

    /// Bytes a second of every link.
    pub fn bandwidths(&self) -> &[f64] {
        &self.bandwidth
    }

    /// What a transfer crosses, and the sum of its latencies in seconds.
    pub fn path(&self, hosts: &Hosts, from: HostId, to: HostId) -> (Path, f64) {
        let mut path = Path::default();
        let mut latency = 0.0;
        let mut cross = |link: usize| {
            latency += self.latency[link];
            if self.bandwidth[link].is_finite() {
                path.push(link as u32);
            }
        };
        if from != to {
            let (source, target) = (hosts.group_index(from), hosts.group_index(to));
            cross(2 * from.index());
            if source != target {
                cross(self.groups_at + 2 * source);
            }
            cross(self.bandwidth.len() - 1);
            if source != target {
                cross(self.groups_at + 2 * target + 1);
            }
            cross(2 * to.index() + 1);
        }
        (path, latency)
    }

    /// The smallest bandwidth on the way.
    pub fn bottleneck(&self, path: &Path) -> f64 {
        path.links().iter().map(|&link| self.bandwidth[link as usize]).fold(f64::INFINITY, f64::min)
    }

    /// Seconds that a transfer takes if it is alone.
    pub fn alone(&self, hosts: &Hosts, from: HostId, to: HostId, bytes: u64) -> f64 {
        let (path, latency) = self.path(hosts, from, to);
        latency + bytes as f64 / self.bottleneck(&path)
    }
}
