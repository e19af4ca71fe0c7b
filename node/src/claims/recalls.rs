//! What other members know of thunks that builds want: asked for beside everything else.
//!
//! Goals: a build that wants very many at once gets an answer for each, a bounded number at a time and in
//! order; what a build asked goes when it does. Non-goals: waiting for an answer (nobody does).

use std::collections::VecDeque;
use std::sync::Arc;

use mesh_protocol::limits;
use mesh_protocol::name::ThunkName;
use mesh_protocol::thunk::Reduction;

use super::client::{ClientId, FromMesh};
use super::shell::Shell;
use super::sign;
use super::worker::Done;

/// How the questions of builds to other members stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RecallCounts {
    /// That wait for their turn.
    pub waiting: u64,
    /// For which there was no room, since the node began.
    pub dropped: u64,
}

/// Questions under way, and those that wait.
#[derive(Default)]
pub(super) struct Recalls {
    asked: usize,
    waiting: VecDeque<(ClientId, ThunkName)>,
    dropped: u64,
}

impl Recalls {
    fn push(&mut self, client: ClientId, name: ThunkName) {
        match self.waiting.len() < limits::RECALLS_WAITING {
            true => self.waiting.push_back((client, name)),
            false => self.dropped += 1,
        }
    }

    /// The next one that may be asked: [`Self::answered`] is to follow.
    fn next(&mut self) -> Option<(ClientId, ThunkName)> {
        if self.asked >= limits::RECALLS {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.asked += 1;
        Some(next)
    }

    fn answered(&mut self) {
        self.asked -= 1;
    }

    /// What is under way comes to its end.
    pub(super) fn leave(&mut self, client: ClientId) {
        self.waiting.retain(|(of, _)| *of != client);
    }

    pub(super) fn counts(&self) -> RecallCounts {
        RecallCounts { waiting: self.waiting.len() as u64, dropped: self.dropped }
    }
}

impl Shell {
    pub(super) fn recall(&mut self, client: ClientId, name: ThunkName) {
        if self.has_others() {
            self.recalls.push(client, name);
            self.ask_next();
        }
    }

    fn ask_next(&mut self) {
        let Some(records) = self.workshop.records.clone() else { return };
        while let Some((client, name)) = self.recalls.next() {
            let records = records.clone();
            // What one checks of runs one does not take from hearsay.
            let from = self.audits.is_on().then(|| self.audits.proven());
            self.tasks.spawn(Done::Recalled(client, name, None), async move {
                let known = records.learn(name, from.as_ref()).await;
                Done::Recalled(client, name, known.map(|known| known.reduction))
            });
        }
    }

    pub(super) fn on_recalled(
        &mut self,
        client: ClientId,
        name: ThunkName,
        known: Option<Arc<Reduction>>,
    ) {
        self.recalls.answered();
        if let Some(reduction) = known {
            let by = sign::peer_of(&reduction.executor);
            let outputs = Arc::new(reduction.outputs.clone());
            self.requester.runs.tell(client, FromMesh::Learned(name, outputs, by));
        }
        self.ask_next();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> ThunkName {
        ThunkName::of(&number.to_le_bytes())
    }

    #[test]
    fn what_is_too_much_at_once_waits_its_turn() {
        let mut recalls = Recalls::default();
        let all = limits::RECALLS + limits::RECALLS_WAITING;
        let mut asked: Vec<_> = (0..all + 3)
            .filter_map(|number| {
                recalls.push(ClientId(1), name(number));
                recalls.next()
            })
            .collect();
        assert_eq!(asked.len(), limits::RECALLS);
        let waiting = limits::RECALLS_WAITING as u64;
        assert_eq!(recalls.counts(), RecallCounts { waiting, dropped: 3 });
        while asked.len() < all {
            recalls.answered();
            asked.extend(recalls.next());
            assert_eq!(recalls.next(), None, "one for each that was answered");
        }
        let in_order = (0..all).map(|number| (ClientId(1), name(number)));
        assert!(asked.into_iter().eq(in_order));
        assert_eq!(recalls.counts(), RecallCounts { waiting: 0, dropped: 3 });
    }

    #[test]
    fn who_leaves_takes_along_what_it_asked() {
        let mut recalls = Recalls { asked: limits::RECALLS, ..Recalls::default() };
        for number in 0..6 {
            recalls.push(ClientId(number % 2), name(number as usize));
        }
        recalls.leave(ClientId(0));
        assert_eq!(recalls.counts().waiting, 3);
        recalls.answered();
        assert_eq!(recalls.next(), Some((ClientId(1), name(1))));
    }
}
