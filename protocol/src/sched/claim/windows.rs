//! How a worker divides its slots: what starts next, and how much it asks of whom.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::job::{JobState, Stage, Stream};
use super::{Claims, Effect, Job};
use crate::limits;
use crate::name::ThunkName;
use crate::peer::{PeerId, StreamId};
use crate::thunk::Thunk;
use crate::time::Time;
use crate::wire::claim::{FromWorker, Open, Window};

impl Claims {
    /// Starts what is fetched, while there are slots.
    pub(super) fn start_queued(&mut self, now: Time, effects: &mut Vec<Effect>) {
        while let Some((job, name, thunk)) = self.next_queued() {
            // A thunk that wants more cores than there are gets them all, alone.
            let cores = u32::from(thunk.spec().limits.cpus).min(self.slots);
            if cores == 0 || self.running_cores + cores > self.slots {
                return;
            }
            let Some(state) = self.jobs.get_mut(&job) else { return };
            state.stage = Stage::Running { since: now, cores };
            self.running_cores += cores;
            if let Some(stream) = self.streams.get_mut(&job.stream) {
                stream.running_cores += cores;
            }
            self.tell(now, job.stream, FromWorker::Started(job.lease), effects);
            effects.push(Effect::Run { job, name, thunk, cores });
        }
    }

    /// Has what waits for long made ready, the oldest first: as much as can start at once.
    pub(super) fn prepare_queued(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let due = |state: &JobState| state.prepare_at().is_some_and(|at| at <= now);
        while self.prepared() < self.slots as usize {
            let waiting = self.jobs.iter_mut().filter(|(_, state)| due(state));
            let Some((job, state)) = waiting.min_by_key(|(_, state)| state.order) else { return };
            let Stage::Queued { thunk, is_prepared } = &mut state.stage else { return };
            *is_prepared = true;
            effects.push(Effect::Prepare(*job, state.name, Arc::clone(thunk)));
        }
    }

    /// When the next is to be made ready.
    pub(super) fn next_prepare(&self) -> Option<Time> {
        let has_room = self.prepared() < self.slots as usize;
        self.jobs.values().filter(|_| has_room).filter_map(JobState::prepare_at).min()
    }

    fn prepared(&self) -> usize {
        let is_prepared =
            |state: &&JobState| matches!(state.stage, Stage::Queued { is_prepared: true, .. });
        self.jobs.values().filter(is_prepared).count()
    }

    /// The oldest of the requester that has fewest cores busy.
    fn next_queued(&self) -> Option<(Job, ThunkName, Arc<Thunk>)> {
        let queued = self.jobs.iter().filter_map(|(job, state)| match &state.stage {
            Stage::Queued { thunk, .. } => {
                let busy = self.streams.get(&job.stream).map_or(0, |stream| stream.running_cores);
                Some(((busy, state.order), (*job, state.name, thunk)))
            }
            _ => None,
        });
        let (_, (job, name, thunk)) = queued.min_by_key(|(rank, _)| *rank)?;
        Some((job, name, thunk.clone()))
    }

    /// Tells every requester how much it may lease here, where that has changed.
    pub(super) fn say_windows(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let changed: Vec<(StreamId, Window)> = self
            .streams
            .iter()
            .map(|(id, stream)| (*id, self.window(Some(stream))))
            .filter(|(id, window)| self.streams[id].window != *window)
            .collect();
        for (id, window) in changed {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.window = window;
                stream.widest = stream.widest.max(window.cores());
            }
            self.tell(now, id, FromWorker::Window(window), effects);
        }
    }

    /// An even share of the slots, among those who have work; and a little more than that, so that
    /// what comes next is fetched when a slot is free. None is one more requester.
    fn window(&self, stream: Option<&Stream>) -> Window {
        let leaving = stream.is_some_and(|stream| stream.leaving.is_some());
        let full = self.jobs.len() >= limits::CLAIM_LEASES;
        if self.slots == 0 || self.drain.is_some() || leaving || full {
            return Window::default();
        }
        let active = self.streams.values().filter(|stream| stream.is_active()).count();
        let others = active - usize::from(stream.is_some_and(Stream::is_active));
        let sharers = u32::try_from(others + 1).unwrap_or(u32::MAX);
        let slots = self.slots.div_ceil(sharers).max(1);
        Window { slots, prefetch: slots / 4 + 1 }
    }

    /// Plans to look for another requester, if there is room for one.
    pub(super) fn plan_claim(&mut self, now: Time) {
        let idle = self.has_idle();
        let soon = if idle { now + self.spread_us } else { now + limits::CLAIM_SHARE_US };
        let planned = self.next_claim.is_some_and(|claim| now < claim && claim <= soon);
        if planned || !self.could_claim() {
            return;
        }
        let share = self.last_claim.map_or(now, |last| last + limits::CLAIM_SHARE_US);
        let at = if idle { now } else { share.max(now) };
        let spread = at + self.random.below(self.spread_us);
        let attached = self.attached();
        let choice =
            self.board.choose(now, &self.me, &self.holds, &attached, &mut self.random.clone());
        self.next_claim = match choice {
            Some(_) => Some(spread),
            None => self.board.next_chance(now),
        };
    }

    fn could_claim(&self) -> bool {
        let few = self.streams.len() < limits::CLAIM_STREAMS.min(self.slots as usize);
        few && self.drain.is_none()
    }

    /// Would slots idle if all leases ran?
    fn has_idle(&self) -> bool {
        (self.jobs.len() as u64) < u64::from(self.slots)
    }

    fn attached(&self) -> BTreeSet<PeerId> {
        self.streams.values().map(|stream| stream.peer).collect()
    }

    /// Opens a claim to the best requester that is not served yet.
    pub(super) fn claim(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if !self.could_claim() {
            return;
        }
        let attached = self.attached();
        let chosen = self.board.choose(now, &self.me, &self.holds, &attached, &mut self.random);
        let Some(peer) = chosen else { return };
        let id = StreamId(self.next_stream);
        self.next_stream += 1;
        self.last_claim = Some(now);
        let window = self.window(None);
        let holds = self.board.held_of(&peer, &self.holds);
        self.streams.insert(id, Stream::new(now, peer, window));
        effects.push(Effect::Open(id, peer, Open { capabilities: self.me, window, holds }));
    }
}
