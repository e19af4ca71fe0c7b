//! The hosts of one run: a platform with the speeds that a seed gives it.

use super::{Group, Platform};
use crate::kernel::{Draws, Purpose};

/// A host, counted over all groups in the order of the file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HostId(pub u32);

impl HostId {
    /// As an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// The hosts of one run.
#[derive(Debug)]
pub struct Hosts {
    speed: Vec<f64>,
    group: Vec<u16>,
    /// All hosts, fastest first, hosts of one speed by number; and each host's place in that order.
    by_speed: Vec<HostId>,
    rank: Vec<u32>,
}

/// Slower than this is a host that does not move.
const SPEED_MIN: f64 = 1e-3;

impl Hosts {
    /// Draws the speeds.
    pub fn new(platform: &Platform, seed: u64) -> Self {
        let mut speed = Vec::new();
        let mut group = Vec::new();
        for (index, kind) in platform.groups.iter().enumerate() {
            for _ in 0..kind.count {
                let mut draws = Draws::new(seed, Purpose::Speed, speed.len() as u64);
                speed.push(kind.speed.sample(&mut draws).max(SPEED_MIN));
                group.push(index as u16);
            }
        }
        let mut by_speed: Vec<HostId> = (0..speed.len() as u32).map(HostId).collect();
        by_speed
            .sort_by(|a, b| speed[b.index()].total_cmp(&speed[a.index()]).then_with(|| a.cmp(b)));
        let mut rank = vec![0; speed.len()];
        for (place, host) in by_speed.iter().enumerate() {
            rank[host.index()] = place as u32;
        }
        Self { speed, group, by_speed, rank }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.speed.len()
    }

    /// Never true: a platform without hosts is refused.
    pub fn is_empty(&self) -> bool {
        self.speed.is_empty()
    }

    /// Work a second of one core.
    pub fn speed(&self, host: HostId) -> f64 {
        self.speed[host.index()]
    }

    /// The position of the host's group.
    pub fn group_index(&self, host: HostId) -> usize {
        usize::from(self.group[host.index()])
    }

    /// The host's group.
    pub fn group<'a>(&self, platform: &'a Platform, host: HostId) -> &'a Group {
        &platform.groups[self.group_index(host)]
    }

    /// The host at this place in the order of speed, 0 the fastest.
    pub fn at_rank(&self, rank: u32) -> HostId {
        self.by_speed[rank as usize]
    }

    /// The host's place in the order of speed.
    pub fn rank(&self, host: HostId) -> u32 {
        self.rank[host.index()]
    }
}
