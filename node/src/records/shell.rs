//! The one task: picks what happened, tells a machine, carries out what it wants.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use mesh_protocol::limits;
use mesh_protocol::peer::PeerId;
use mesh_protocol::records::lookup::{self, Lookups, QuestionId};
use mesh_protocol::records::publish::{self, Publisher};
use mesh_protocol::records::{Closest, Target};
use mesh_protocol::time::Time;
use mesh_protocol::wire::records::{FromAsker, FromHolder, Record, RecordKey};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Neighbours, Request, Shared};
use crate::deadline::sleep_until;
use crate::net::membership::now_s;

/// How long a peer may take to keep a batch.
const PUBLISH: Duration = Duration::from_secs(30);
const LOOKUP: Duration = Duration::from_micros(limits::LOOKUP_US);

pub(super) struct Shell {
    shared: Arc<Shared>,
    neighbours: Arc<dyn Neighbours>,
    start: Instant,
    publisher: Publisher,
    lookups: Lookups<Record>,
    waiting: BTreeMap<RecordKey, Vec<oneshot::Sender<Vec<Record>>>>,
    tasks: JoinSet<Done>,
}

/// What a task came to.
enum Done {
    PublishTo(Closest),
    AskOf(Closest),
    /// Which keys there is nothing of any more, and what became of the others.
    Sent(PeerId, Vec<RecordKey>, Option<u32>),
    Answered(QuestionId, Vec<(RecordKey, Record)>),
}

impl Shell {
    pub(super) fn new(shared: Arc<Shared>, neighbours: Arc<dyn Neighbours>, seed: u64) -> Self {
        Self {
            shared,
            neighbours,
            start: Instant::now(),
            publisher: Publisher::new(seed),
            lookups: Lookups::default(),
            waiting: BTreeMap::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Ends when nobody is left who could ask.
    pub(super) async fn serve(mut self, mut asked: mpsc::Receiver<Request>) {
        loop {
            let due = sleep_until(self.next_deadline());
            tokio::select! {
                request = asked.recv() => match request {
                    Some(request) => self.on_request(request),
                    None => return,
                },
                // Nothing in a task panics; what one that did was to answer ends at a deadline.
                Some(done) = self.tasks.join_next() => if let Ok(done) = done {
                    self.on_done(done);
                },
                () = due => self.on_due(),
            }
        }
    }

    fn now(&self) -> Time {
        Time::from_us(u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn next_deadline(&self) -> Option<Instant> {
        let deadlines = [self.publisher.next_deadline(), self.lookups.next_deadline()];
        let next = deadlines.into_iter().flatten().min()?;
        Some(self.start + Duration::from_micros(next.us()))
    }

    fn on_due(&mut self) {
        let now = self.now();
        let (mut publish, mut look) = (Vec::new(), Vec::new());
        self.publisher.handle_timeout(now, &mut publish);
        self.lookups.handle_timeout(now, &mut look);
        self.perform_publish(publish);
        self.perform_look(look);
    }

    fn on_request(&mut self, request: Request) {
        match request {
            Request::Publish(keys) => {
                keys.into_iter().for_each(|key| self.publish(publish::Input::New(key)));
            }
            Request::Joined(others) => self.publish(publish::Input::Joined(others)),
            Request::Look(key, sender) => {
                let waiting = self.waiting.entry(key).or_default();
                waiting.retain(|sender| !sender.is_closed());
                waiting.push(sender);
                self.look(lookup::Input::Look(key));
            }
            Request::Counts(sender) => {
                // Whoever asked may have gone.
                let _ = sender.send(self.publisher.counts());
            }
        }
    }

    fn on_done(&mut self, done: Done) {
        match done {
            Done::PublishTo(closest) => self.publish(publish::Input::Closest(closest)),
            Done::AskOf(closest) => self.look(lookup::Input::Closest(closest)),
            Done::Answered(question, found) => {
                self.look(lookup::Input::Answered(question, found));
            }
            Done::Sent(peer, gone, kept) => {
                gone.into_iter().for_each(|key| self.publish(publish::Input::Gone(key)));
                self.publish(publish::Input::Sent(peer, kept));
            }
        }
    }

    fn publish(&mut self, input: publish::Input) {
        let mut effects = Vec::new();
        self.publisher.handle(self.now(), input, &mut effects);
        self.perform_publish(effects);
    }

    fn look(&mut self, input: lookup::Input<Record>) {
        let mut effects = Vec::new();
        self.lookups.handle(self.now(), input, &mut effects);
        self.perform_look(effects);
    }

    fn perform_publish(&mut self, effects: Vec<publish::Effect>) {
        for effect in effects {
            match effect {
                publish::Effect::FindClosest(target) => self.closest(target, Done::PublishTo),
                publish::Effect::Send(peer, keys) => {
                    let shared = Arc::clone(&self.shared);
                    self.tasks.spawn(send(shared, peer, keys));
                }
            }
        }
    }

    fn perform_look(&mut self, effects: Vec<lookup::Effect<Record>>) {
        for effect in effects {
            match effect {
                lookup::Effect::FindClosest(target) => self.closest(target, Done::AskOf),
                lookup::Effect::Ask(question, peer, keys) => {
                    let shared = Arc::clone(&self.shared);
                    self.tasks.spawn(async move {
                        Done::Answered(question, ask(&shared, peer, keys).await)
                    });
                }
                lookup::Effect::Done(key, found) => {
                    for sender in self.waiting.remove(&key).unwrap_or_default() {
                        let _ = sender.send(found.clone());
                    }
                }
            }
        }
    }

    fn closest(&mut self, target: Target, done: fn(Closest) -> Done) {
        let neighbours = Arc::clone(&self.neighbours);
        self.tasks.spawn(async move { done(neighbours.closest(target).await) });
    }
}

/// Makes the records, and has the peer keep them.
async fn send(shared: Arc<Shared>, peer: PeerId, keys: Vec<RecordKey>) -> Done {
    let makes = Arc::clone(&shared);
    let made = tokio::task::spawn_blocking(move || {
        let made = |key: RecordKey| (key, makes.own_record(key));
        keys.into_iter().map(made).collect::<Vec<(RecordKey, Option<Record>)>>()
    });
    let Ok(made) = made.await else { return Done::Sent(peer, Vec::new(), None) };
    let gone = made.iter().filter(|(_, record)| record.is_none()).map(|(key, _)| *key).collect();
    let places: Vec<usize> = (0..made.len())
        .filter(|at| made.get(*at).is_some_and(|(_, made)| made.is_some()))
        .collect();
    let all = made.len();
    let records: Vec<Record> = made.into_iter().filter_map(|(_, record)| record).collect();
    if records.is_empty() {
        return Done::Sent(peer, gone, Some(u32::try_from(all).unwrap_or(0)));
    }
    let answer = shared.asker.ask(peer, &FromAsker::Publish(records), PUBLISH).await;
    let kept = match answer {
        Ok(FromHolder::Kept(kept)) => Some(kept as usize),
        Ok(FromHolder::Found(_)) => None,
        Err(error) => {
            tracing::debug!(%peer, %error, "records could not be published");
            None
        }
    };
    // Up to the first that is not kept, those in between that are gone included.
    let kept = kept.map(|kept| places.get(kept).copied().unwrap_or(all));
    Done::Sent(peer, gone, kept.and_then(|kept| u32::try_from(kept).ok()))
}

/// What a peer knows, as far as it can be believed.
async fn ask(
    shared: &Arc<Shared>,
    peer: PeerId,
    keys: BTreeSet<RecordKey>,
) -> Vec<(RecordKey, Record)> {
    let answer = shared.asker.ask(peer, &FromAsker::Ask(keys.clone()), LOOKUP).await;
    let records = match answer {
        Ok(FromHolder::Found(records)) => records,
        Ok(FromHolder::Kept(_)) => return Vec::new(),
        Err(error) => {
            tracing::debug!(%peer, %error, "a question about records has no answer");
            return Vec::new();
        }
    };
    let notary = Arc::clone(&shared.notary);
    let checked = tokio::task::spawn_blocking(move || {
        let now_s = now_s();
        let believed = records.into_iter().filter(|record| {
            let doubt = record.check(now_s, &*notary).err();
            if let Some(doubt) = doubt {
                tracing::debug!(%peer, %doubt, "a record is not believed");
            }
            doubt.is_none() && keys.contains(&record.statement.key())
        });
        believed.map(|record| (record.statement.key(), record)).collect()
    });
    checked.await.unwrap_or_default()
}
