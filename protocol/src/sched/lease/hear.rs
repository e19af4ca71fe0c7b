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
            FromWorker::HandBack(leases) => {
                // Several may come for one window: what was on its way is handed back one by one.
                let had_asked = std::mem::take(&mut claimant.window) != Window::default();
                let peer = claimant.peer;
                let taken = leases.into_iter().filter_map(|lease| self.take(seat, lease));
                let taken: Vec<Granted> = taken.collect();
                if had_asked && !taken.is_empty() {
                    self.scores.handed_back(now, peer);
                }
                for granted in taken {
                    self.put_back(granted.run, seat, "it was handed back", effects);
                }
            }
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
        let mut expired = BTreeSet::new();
        for lease in &claimant.leases {
            let Some(granted) = self.granted.get_mut(lease) else { continue };
            if named.contains(lease) {
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
                self.lost(now, granted.run, seat, "its lease expired", effects);
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
        let Some(granted) = self.take(seat, receipt.lease) else {
            return self.stray(receipt.lease, effects);
        };
        let Some(work) = self.works.get(&granted.run) else { return };
        let Some(peer) = self.seats.get(&seat).and_then(|claimant| claimant.peer) else { return };
        match receipt.end {
            Ok(signed) if is_answer(work, &signed) => {
                self.on_reduced(now, peer, (receipt.lease, granted), signed, effects);
            }
            Ok(_) => {
                effects.push(Effect::Event(Event::Misbehaved(
                    peer,
                    "its receipt is for another thunk",
                )));
                let reason = "its receipt does not fit the thunk".to_owned();
                let failure = LeaseFailure { class: FailureClass::Machine, reason };
                self.on_failed(now, Some(peer), granted, failure, effects);
            }
            Err(failure) => self.on_failed(now, Some(peer), granted, failure, effects),
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
                return self.put_back(granted.run, granted.seat, &reason, effects);
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
