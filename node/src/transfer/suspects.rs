//! Whom to ask last, and whom not at all.
//!
//! Who cannot be reached or falls silent goes to the end of the list for a while, twice as long each
//! time: often nobody else has an object. Who sent false bytes is not asked.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh_protocol::limits;
use mesh_protocol::peer::PeerId;
use tokio::time::Instant;

/// What there is against a peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Suspicion {
    /// It could not be reached, broke off or fell silent, so many times in a row.
    Failing(u32),
    /// It broke the rules: what it did.
    Lied(String),
}

#[derive(Default)]
pub(super) struct Suspects(Mutex<BTreeMap<PeerId, Suspect>>);

struct Suspect {
    suspicion: Suspicion,
    until: Instant,
}

impl Suspects {
    /// Those who may be asked, each once: first those against whom there is nothing.
    pub(super) fn order(&self, peers: impl IntoIterator<Item = PeerId>) -> Vec<PeerId> {
        let now = Instant::now();
        let suspects = self.lock();
        let (mut good, mut doubtful) = (Vec::new(), Vec::new());
        for peer in peers {
            let list = match suspects.get(&peer).filter(|suspect| suspect.until > now) {
                Some(Suspect { suspicion: Suspicion::Lied(_), .. }) => continue,
                Some(_) => &mut doubtful,
                None => &mut good,
            };
            if !list.contains(&peer) {
                list.push(peer);
            }
        }
        good.extend(doubtful);
        good
    }

    pub(super) fn failed(&self, peer: PeerId) {
        let mut suspects = self.lock();
        let before = match suspects.get(&peer).map(|suspect| &suspect.suspicion) {
            Some(Suspicion::Lied(_)) => return,
            Some(Suspicion::Failing(times)) => *times,
            None => 0,
        };
        let wait_us = (limits::BACKOFF_US_MIN << before.min(20)).min(limits::BACKOFF_US_MAX);
        note(&mut suspects, peer, Suspicion::Failing(before + 1), wait_us);
    }

    pub(super) fn lied(&self, peer: PeerId, what: String) {
        tracing::warn!(%peer, %what, "a peer sent what it should not have sent");
        note(&mut self.lock(), peer, Suspicion::Lied(what), limits::TRANSFER_LIAR_US);
    }

    /// It gave what was asked for. A liar stays one.
    pub(super) fn worked(&self, peer: PeerId) {
        let mut suspects = self.lock();
        if let Some(Suspect { suspicion: Suspicion::Failing(_), .. }) = suspects.get(&peer) {
            suspects.remove(&peer);
        }
    }

    pub(super) fn list(&self) -> Vec<(PeerId, Suspicion)> {
        let now = Instant::now();
        let suspects = self.lock();
        let current = suspects.iter().filter(|(_, suspect)| suspect.until > now);
        current.map(|(peer, suspect)| (*peer, suspect.suspicion.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PeerId, Suspect>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn note(
    suspects: &mut BTreeMap<PeerId, Suspect>,
    peer: PeerId,
    suspicion: Suspicion,
    wait_us: u64,
) {
    let until = Instant::now() + Duration::from_micros(wait_us);
    if suspects.len() >= limits::SCORES_KEPT && !suspects.contains_key(&peer) {
        let soonest = suspects.iter().min_by_key(|(_, suspect)| suspect.until);
        if let Some(soonest) = soonest.map(|(peer, _)| *peer) {
            suspects.remove(&soonest);
        }
    }
    suspects.insert(peer, Suspect { suspicion, until });
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: PeerId = PeerId([1; 32]);
    const B: PeerId = PeerId([2; 32]);

    #[tokio::test(start_paused = true)]
    async fn who_fails_comes_last_for_a_while_and_who_lies_not_at_all() {
        let suspects = Suspects::default();
        let pass = |us| tokio::time::advance(Duration::from_micros(us));
        suspects.failed(A);
        assert_eq!(suspects.order([A, B, A]), [B, A]);
        pass(limits::BACKOFF_US_MIN).await;
        assert_eq!(suspects.order([A, B]), [A, B]);
        suspects.failed(A);
        pass(limits::BACKOFF_US_MIN).await;
        assert_eq!(suspects.order([A, B]), [B, A], "twice as long");
        suspects.worked(A);
        assert_eq!(suspects.order([A, B]), [A, B]);
        suspects.lied(B, "false bytes".to_owned());
        suspects.worked(B);
        suspects.failed(B);
        assert_eq!(suspects.order([A, B]), [A]);
        assert_eq!(suspects.list(), [(B, Suspicion::Lied("false bytes".to_owned()))]);
        pass(limits::TRANSFER_LIAR_US).await;
        assert_eq!(suspects.order([A, B]), [A, B]);
    }
}
