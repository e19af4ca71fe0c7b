//! The books: which lease is whose, and how one is taken off them.

use std::collections::BTreeSet;

use super::*;

impl Leases {
    /// What holds after each event; in builds with assertions, and while the books are short enough to be
    /// gone through each time.
    pub(super) fn check_books(&self) {
        const CHECKED_MAX: usize = 64;
        if cfg!(debug_assertions) && self.works.len() <= CHECKED_MAX {
            self.check_leases();
            self.check_works();
        }
    }

    /// Each lease stands with its claimant, if it does not outlive it, and with its work; those have no
    /// others.
    fn check_leases(&self) {
        for (lease, granted) in &self.granted {
            let holds = |claimant: &Claimant| claimant.leases.contains(lease);
            let outlives = granted.settling.is_some();
            debug_assert!(self.seats.get(&granted.seat).map_or(outlives, holds));
            let work = self.works.get(&granted.run);
            debug_assert!(work.is_some_and(|work| work.leases.contains(lease)));
        }
        for claimant in self.seats.values() {
            let granted = claimant.leases.iter().map(|lease| self.granted.get(lease));
            let cores = granted.map(|granted| granted.map_or(u32::MAX, |granted| granted.cores));
            debug_assert_eq!(cores.fold(0, u32::saturating_add), claimant.cores);
        }
    }

    /// A thunk waits in the pool, or is leased: once, or twice if it is late.
    fn check_works(&self) {
        for work in self.works.values() {
            let is_waiting = self.pool.contains(work.class, work.place);
            debug_assert_eq!(is_waiting, work.leases.is_empty());
            debug_assert!(work.leases.len() <= 2);
            debug_assert!(work.leases.iter().all(|lease| self.granted.contains_key(lease)));
        }
        let waiting = self.works.values().filter(|work| work.leases.is_empty()).count();
        debug_assert_eq!(waiting, self.pool.len());
    }

    /// Ends a run: its other copies are in vain.
    pub(super) fn finish(
        &mut self,
        now: Time,
        run: RunId,
        end: Result<Outputs, Failure>,
        effects: &mut Vec<Effect>,
    ) {
        self.cancel_copies(now, run, effects);
        if let Some(work) = self.works.remove(&run) {
            self.shared.release(&work.heavy);
            self.job.empty = now;
            effects.push(Effect::Ended(run, end));
        }
    }

    pub(super) fn cancel_copies(&mut self, now: Time, run: RunId, effects: &mut Vec<Effect>) {
        let Some(work) = self.works.get(&run) else { return };
        let name = work.name;
        for lease in work.leases.clone() {
            if let Some(wasted) = self.revoke(now, lease, effects) {
                self.counts.wasted_us += wasted;
                effects.push(Effect::Event(Event::Wasted(name, wasted)));
            }
        }
    }

    /// Takes a lease back, and tells its holder. How long it had it.
    pub(super) fn revoke(
        &mut self,
        now: Time,
        lease: LeaseId,
        effects: &mut Vec<Effect>,
    ) -> Option<u64> {
        let seat = self.granted.get(&lease)?.seat;
        let granted = self.take(seat, lease)?;
        match seat {
            Seat::Stream(_) if granted.settling.is_some() => {}
            Seat::Own => effects.push(Effect::StopOwn(lease)),
            Seat::Stream(_) => {
                let cancel = FromRequester::Cancel(BTreeSet::from([lease]));
                self.tell(now, seat, cancel, effects);
            }
        }
        Some(now - granted.started.unwrap_or(now))
    }

    /// Takes a lease off the books, if it is that claimant's.
    pub(super) fn take(&mut self, seat: Seat, lease: LeaseId) -> Option<Granted> {
        if self.granted.get(&lease)?.seat != seat {
            return None;
        }
        let granted = self.granted.remove(&lease)?;
        if let Some(claimant) = self.seats.get_mut(&seat) {
            claimant.leases.remove(&lease);
            claimant.cores -= granted.cores;
        }
        if let Some(work) = self.works.get_mut(&granted.run) {
            work.leases.retain(|other| *other != lease);
        }
        Some(granted)
    }

    /// A lease ended with its holder.
    pub(super) fn lost(
        &mut self,
        now: Time,
        run: RunId,
        peer: Option<PeerId>,
        reason: &str,
        effects: &mut Vec<Effect>,
    ) {
        let Some(work) = self.works.get_mut(&run) else { return };
        work.losses += 1;
        if work.losses < limits::LEASE_LOSSES || !work.leases.is_empty() {
            return self.put_back(run, peer, reason, effects);
        }
        let reason =
            format!("{} machines were lost with it, the last one because {reason}", work.losses);
        let failure = Failure { class: FailureClass::Machine, reason: reason.into() };
        self.finish(now, run, Err(failure), effects);
    }

    pub(super) fn put_back(
        &mut self,
        run: RunId,
        peer: Option<PeerId>,
        reason: &str,
        effects: &mut Vec<Effect>,
    ) {
        let Some(work) = self.works.get(&run) else { return };
        if work.leases.is_empty() {
            self.pool.insert(work.class, work.place);
        }
        self.counts.put_back += 1;
        effects.push(Effect::Event(Event::PutBack(work.name, peer, reason.into())));
    }

    /// A claimant is gone, and what it held goes to others. What it has answered settles without it.
    pub(super) fn lose(&mut self, now: Time, seat: Seat, reason: &str, effects: &mut Vec<Effect>) {
        let Some(claimant) = self.seats.get(&seat) else { return };
        let (peer, leases) = (claimant.peer, claimant.leases.iter());
        let leases: Vec<LeaseId> =
            leases.copied().filter(|lease| !self.is_settling(*lease)).collect();
        if !leases.is_empty() {
            self.scores.failed(now, peer);
        }
        for lease in leases {
            if let Some(granted) = self.take(seat, lease) {
                self.lost(now, granted.run, peer, reason, effects);
            }
        }
        self.seats.remove(seat);
    }

    pub(super) fn evict(&mut self, now: Time, seat: Seat, reason: &str, effects: &mut Vec<Effect>) {
        self.lose(now, seat, reason, effects);
        if let Seat::Stream(stream) = seat {
            effects.push(Effect::Close(stream));
        }
    }

    pub(super) fn misbehaved(
        &mut self,
        now: Time,
        seat: Seat,
        what: &'static str,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(peer) = self.seats.get(&seat).and_then(|claimant| claimant.peer) {
            self.scores.failed(now, Some(peer));
            effects.push(Effect::Event(Event::Misbehaved(peer, what)));
        }
        self.evict(now, seat, what, effects);
    }

    /// What it holds goes to others, and it is never served again.
    pub(super) fn on_liar(&mut self, now: Time, peer: PeerId, effects: &mut Vec<Effect>) {
        self.scores.bar(now, peer);
        let what = "other outputs come of its thunks here";
        effects.push(Effect::Event(Event::Misbehaved(peer, what)));
        let reason = "it gave false results";
        let is_theirs = |granted: &Granted| {
            granted.settling.as_ref().is_some_and(|(answered_by, _)| *answered_by == peer)
        };
        let answered: Vec<(LeaseId, Seat)> = self
            .granted
            .iter()
            .filter(|(_, granted)| is_theirs(granted))
            .map(|(lease, granted)| (*lease, granted.seat))
            .collect();
        for (lease, seat) in answered {
            if let Some(granted) = self.take(seat, lease) {
                self.lost(now, granted.run, Some(peer), reason, effects);
            }
        }
        if let Some(seat) = self.seats.of_peer(peer) {
            self.evict(now, seat, reason, effects);
        }
    }

    pub(super) fn stray(&mut self, lease: LeaseId, effects: &mut Vec<Effect>) {
        self.counts.stray += 1;
        effects.push(Effect::Event(Event::Stray(lease)));
    }

    pub(super) fn tell(
        &mut self,
        now: Time,
        seat: Seat,
        message: FromRequester,
        effects: &mut Vec<Effect>,
    ) {
        if let (Seat::Stream(stream), Some(claimant)) = (seat, self.seats.get_mut(&seat)) {
            claimant.told = now;
            effects.push(Effect::Send(stream, message));
        }
    }
}
