//! What a worker knows of one requester, and of one lease.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::limits;
use crate::name::ThunkName;
use crate::peer::PeerId;
use crate::thunk::Thunk;
use crate::time::Time;
use crate::wire::claim::{LeaseId, Timeline, Window};

/// One claim.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) peer: PeerId,
    /// What was said last.
    pub(super) window: Window,
    /// The cores of the widest window that it was ever told.
    pub(super) widest: u32,
    pub(super) leases: BTreeSet<LeaseId>,
    pub(super) running_cores: u32,
    pub(super) heard: Time,
    /// Has it ever said anything?
    pub(super) is_answered: bool,
    /// When it was last told all leases.
    pub(super) told: Time,
    /// Since when it has had nothing to give.
    pub(super) dry_since: Option<Time>,
    /// Since when it has been asked for nothing more.
    pub(super) leaving: Option<Time>,
}

impl Stream {
    pub(super) fn new(now: Time, peer: PeerId, window: Window) -> Self {
        Self {
            peer,
            window,
            widest: window.cores(),
            leases: BTreeSet::new(),
            running_cores: 0,
            heard: now,
            is_answered: false,
            told: now,
            dry_since: None,
            leaving: None,
        }
    }

    /// Has it work for us, as far as we know?
    pub(super) fn is_active(&self) -> bool {
        self.dry_since.is_none() || !self.leases.is_empty()
    }

    pub(super) fn lingers_until(&self) -> Option<Time> {
        let dry = self.dry_since.filter(|_| self.leases.is_empty())?;
        Some(self.leaving.map_or(dry + limits::CLAIM_LINGER_US, |at| at + limits::HEARTBEAT_US))
    }

    pub(super) fn deadline(&self) -> Time {
        let due = (self.heard + limits::SILENCE_US).min(self.told + limits::HEARTBEAT_US);
        self.lingers_until().map_or(due, |until| due.min(until))
    }
}

/// One lease.
#[derive(Debug)]
pub(super) struct JobState {
    pub(super) name: ThunkName,
    /// When it came, as a number that grows.
    pub(super) order: u64,
    pub(super) came: Time,
    /// When all that it reads was there.
    pub(super) fetched: Option<Time>,
    pub(super) stage: Stage,
}

impl JobState {
    /// When it is to be prepared, unless it starts before.
    pub(super) fn prepare_at(&self) -> Option<Time> {
        match self.stage {
            Stage::Queued { is_prepared: false, .. } => {
                self.fetched.map(|fetched| fetched + limits::PREPARE_AFTER_US)
            }
            _ => None,
        }
    }

    /// How far it has come until now, when it ends.
    pub(super) fn timeline(&self, now: Time) -> Timeline {
        let started = match self.stage {
            Stage::Running { since, .. } => Some(since),
            Stage::Fetching | Stage::Queued { .. } => None,
        };
        let after = |at: Option<Time>| at.map_or(0, |at| at - self.came);
        Timeline {
            came_us: self.came.us(),
            fetched_us: after(self.fetched),
            started_us: after(started),
            ended_us: after(started.map(|_| now)),
        }
    }
}

/// How far a lease is.
#[derive(Debug)]
pub(super) enum Stage {
    Fetching,
    Queued { thunk: Arc<Thunk>, is_prepared: bool },
    Running { since: Time, cores: u32 },
}
