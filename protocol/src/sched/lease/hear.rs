//! What claimants say, and what becomes of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::*;

impl Leases {
    pub(super) fn on_opened(
        &mut self,
        now: Time,
        stream: StreamId,
        peer: PeerId,
        open: Open,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(seat) = self.seats.of_peer(peer) {
            // It knows best whether its older stream is alive.
            self.evict(now, seat, "it opened another stream", effects);
        }
        let wait_us = match self.scores.trust(now, Some(peer)) {
            Trust::Nothing(until) => until - now,
            _ if self.seats.len() > limits::CLAIMANTS => limits::OFFER_LIFE_US,
            _ => {
                let mut claimant = Claimant::new(now, Some(peer), open.capabilities, open.window);
                open.holds.into_iter().for_each(|name| claimant.holds.insert(name));
                self.seats.insert(stream, claimant);
                return;
            }
        };
        let wait_ms = u32::try_from(wait_us.div_ceil(1000)).unwrap_or(u32::MAX);
        effects.push(Effect::Send(stream, FromRequester::Refuse(wait_ms)));
        effects.push(Effect::Close(stream));
    }

    pub(super) fn on_received(
        &mut self,
        now: Time,
        stream: StreamId,
        message: FromWorker,
        effects: &mut Vec<Effect>,
    ) {
        let seat = Seat::Stream(stream);
        let Some(claimant) = self.seats.get_mut(&seat) else { return };
        claimant.heard = now;
        match message {
            FromWorker::Open(_) => self.misbehaved(now, seat, "it opened a stream twice", effects),
            FromWorker::Window(window) => {
                claimant.told_dry = false;
                claimant.window = window;
            }
            FromWorker::Started(lease) => {
                if let Some(granted) = self.granted.get_mut(&lease)
                    && granted.seat == seat
                {
                    granted.started.get_or_insert(now);
                    granted.named = now;
                }
            }
            FromWorker::Heartbeat(leases) => self.on_heartbeat(now, seat, &leases, effects),
            FromWorker::Receipt(receipt) => self.on_receipt(now, seat, *receipt, effects),
            FromWorker::HandBack(leases) => self.on_hand_back(now, seat, &leases, effects),
        }
    }

    fn on_hand_back(
        &mut self,
        now: Time,
        seat: Seat,
        leases: &BTreeSet<LeaseId>,
        effects: &mut Vec<Effect>,
    ) {
        let is_settling = |claimant: &Claimant| {
            leases.iter().any(|lease| claimant.leases.contains(lease) && self.is_settling(*lease))
        };
        if self.seats.get(&seat).is_some_and(is_settling) {
            return self.misbehaved(now, seat, "it handed back what it had answered", effects);
        }
        let Some(claimant) = self.seats.get_mut(&seat) else { return };
        // Several may come for one window: what was on its way is handed back one by one.
        let had_asked = std::mem::take(&mut claimant.window) != Window::default();
        let peer = claimant.peer;
        let taken: Vec<Granted> =
            leases.iter().filter_map(|lease| self.take(seat, *lease)).collect();
        if had_asked && !taken.is_empty() {
            self.scores.handed_back(now, peer);
        }
        for granted in taken {
            self.put_back(granted.run, peer, "it was handed back", effects);
        }
    }

    /// What a claimant has not named for too long, it does not hold.
    pub(super) fn on_heartbeat(
        &mut self,
        now: Time,
        seat: Seat,
        named: &BTreeSet<LeaseId>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(claimant) = self.seats.get(&seat) else { return };
        let (peer, mut expired) = (claimant.peer, BTreeSet::new());
        for lease in &claimant.leases {
            let Some(granted) = self.granted.get_mut(lease) else { continue };
            // Of what settles it has done its part.
            if named.contains(lease) || granted.settling.is_some() {
                granted.named = now;
            } else if granted.named + limits::SILENCE_US <= now {
                expired.insert(*lease);
            }
        }
        if expired.is_empty() {
            return;
        }
        self.tell(now, seat, FromRequester::Cancel(expired.clone()), effects);
        for lease in expired {
            if let Some(granted) = self.take(seat, lease) {
                self.lost(now, granted.run, peer, "its lease expired", effects);
            }
        }
    }

    pub(super) fn on_receipt(
        &mut self,
        now: Time,
        seat: Seat,
        receipt: Receipt,
        effects: &mut Vec<Effect>,
    ) {
        let lease = receipt.lease;
        if self.granted.get(&lease).is_none_or(|granted| granted.seat != seat) {
            return self.stray(lease, effects);
        }
        if self.is_settling(lease) {
            return self.misbehaved(now, seat, "it answered a lease twice", effects);
        }
        match receipt.end {
            Ok(signed) => self.settle(now, lease, signed, receipt.timeline, effects),
            Err(failure) => {
                let peer = self.seats.get(&seat).and_then(|claimant| claimant.peer);
                self.fail(now, peer, lease, failure, effects);
            }
        }
    }

    pub(super) fn is_settling(&self, lease: LeaseId) -> bool {
        self.granted.get(&lease).is_some_and(|granted| granted.settling.is_some())
    }

    /// Nothing counts before it is here.
    fn settle(
        &mut self,
        now: Time,
        lease: LeaseId,
        signed: SignedReduction,
        timeline: Timeline,
        effects: &mut Vec<Effect>,
    ) {
        let Some(granted) = self.granted.get_mut(&lease) else { return };
        let Some(work) = self.works.get(&granted.run) else { return };
        let claimant = self.seats.get(&granted.seat);
        let Some(peer) = claimant.and_then(|claimant| claimant.peer) else { return };
        if !is_answer(work, &signed) {
            let what = "its receipt is for another thunk";
            effects.push(Effect::Event(Event::Misbehaved(peer, what)));
            let reason = "its receipt does not fit the thunk".to_owned();
            let failure = LeaseFailure { class: FailureClass::Machine, reason };
            return self.fail(now, Some(peer), lease, failure, effects);
        }
        let (thunk, reduction) = (Arc::clone(&work.thunk), signed.reduction.clone());
        let settle = Settle { lease, peer, thunk, reduction, granted: granted.at, timeline };
        granted.settling = Some((peer, signed));
        effects.push(Effect::Settle(Box::new(settle)));
    }

    /// A lease that is not wanted any more may settle still; nothing comes of it.
    pub(super) fn on_settled(
        &mut self,
        now: Time,
        lease: LeaseId,
        settled: Result<(), String>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(granted) = self.granted.get_mut(&lease) else { return };
        let Some((peer, signed)) = granted.settling.take() else { return };
        let seat = granted.seat;
        match settled {
            Ok(()) => {
                let Some(granted) = self.take(seat, lease) else { return };
                self.on_reduced(now, peer, (lease, granted), signed, effects);
            }
            Err(reason) => {
                let failure = LeaseFailure { class: FailureClass::Machine, reason };
                self.fail(now, Some(peer), lease, failure, effects);
            }
        }
    }

    /// Takes a lease off the books that came to nothing.
    pub(super) fn fail(
        &mut self,
        now: Time,
        peer: Option<PeerId>,
        lease: LeaseId,
        failure: LeaseFailure,
        effects: &mut Vec<Effect>,
    ) {
        let seat = self.granted.get(&lease).map(|granted| granted.seat);
        if let Some(granted) = seat.and_then(|seat| self.take(seat, lease)) {
            self.on_failed(now, peer, granted, failure, effects);
        }
    }

    pub(super) fn on_reduced(
        &mut self,
        now: Time,
        peer: PeerId,
        (lease, granted): (LeaseId, Granted),
        signed: SignedReduction,
        effects: &mut Vec<Effect>,
    ) {
        let Some(work) = self.works.get(&granted.run) else { return };
        let kind = &work.thunk.spec().function.executable;
        if signed.remembered {
            // It says nothing of how long such thunks take.
            self.scores.succeeded(now, Some(peer), 0, 0);
        } else {
            let took = now - granted.started.unwrap_or(granted.at);
            self.scores.succeeded(now, Some(peer), took, self.kinds.get(kind).mean_us);
            self.kinds.record(kind, took);
        }
        self.blame(now, work.name, Some(peer));
        if let Some(claimant) = self.seats.get_mut(&granted.seat) {
            signed.reduction.values().for_each(|name| claimant.holds.insert(name));
        }
        let outputs = Arc::new(signed.reduction.outputs.clone());
        effects.push(Effect::Record(lease, signed));
        self.finish(now, granted.run, Ok(outputs), effects);
    }

    /// It succeeded there. Where it failed, it was that machine after all.
    pub(super) fn blame(&mut self, now: Time, name: ThunkName, succeeded_at: Option<PeerId>) {
        let failed_at = self.avoid.remove(&name).unwrap_or_default();
        for peer in failed_at.into_iter().filter(|peer| *peer != succeeded_at) {
            self.scores.failed(now, peer);
        }
    }

    /// `peer` is none for this machine.
    pub(super) fn on_failed(
        &mut self,
        now: Time,
        peer: Option<PeerId>,
        granted: Granted,
        failure: LeaseFailure,
        effects: &mut Vec<Effect>,
    ) {
        let Some(work) = self.works.get_mut(&granted.run) else { return };
        let peers = self.avoid.entry(work.name).or_default();
        if peers.len() < limits::LEASE_SOURCES {
            peers.insert(peer);
        }
        if self.avoid.len() > limits::LEASE_AVOIDED {
            self.avoid.pop_first();
        }
        let LeaseFailure { class, reason } = failure;
        if class == FailureClass::Machine {
            work.failures += 1;
            let has_copy = !work.leases.is_empty();
            let again = work.failures < limits::LEASE_MACHINE_FAILURES;
            // Where there is nobody else, force decides at once whether to try again here.
            let elsewhere = self.has_others || self.seats.len() > 1;
            if elsewhere {
                self.scores.failed(now, peer);
            }
            if has_copy || (again && elsewhere) {
                return self.put_back(granted.run, peer, &reason, effects);
            }
        }
        let failure = Failure { class, reason: reason.into() };
        self.finish(now, granted.run, Err(failure), effects);
    }
}

/// Is this about that thunk, with all outputs that it must leave and none that it does not declare?
fn is_answer(work: &Work, signed: &SignedReduction) -> bool {
    let (declared, reduction) = (&work.thunk.spec().outputs, &signed.reduction);
    let left = reduction.outputs.iter().all(|(tag, object)| {
        let dynamic = declared.get(tag).map(|output| output.dynamic);
        dynamic.is_some_and(|dynamic| dynamic || !matches!(object, OutputObject::Thunk(_)))
    });
    let required = declared.iter().filter(|(_, output)| output.required);
    reduction.thunk == work.name
        && left
        && required.into_iter().all(|(tag, _)| reduction.outputs.contains_key(tag))
}
