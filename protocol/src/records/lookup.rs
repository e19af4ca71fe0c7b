//! Look-up: who knows what came of a thunk, or who has an object.
//!
//! Goals: names that are wanted at about the same time are asked for in one question to each peer, and
//! the more they are the longer that time is; all peers closest to a name are asked at once, and the
//! first that knows a reduction ends the search; every search ends, at a deadline if nobody answers.
//! Non-goals: judging answers (the driver passes on only what it believes), and remembering them.

use std::collections::{BTreeMap, BTreeSet};

use super::{Closest, Target, Unplaced, unplaced};
use crate::limits;
use crate::peer::PeerId;
use crate::time::Time;
use crate::wire::records::RecordKey;

/// One question to one peer, by a number that is never given again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct QuestionId(pub u64);

/// What the machine is told. `T` is whatever is found.
#[derive(Debug)]
pub enum Input<T> {
    /// Search for this.
    Look(RecordKey),
    /// The answer to [`Effect::FindClosest`]; of no peers if none could be found.
    Closest(Closest),
    /// The answer to [`Effect::Ask`]; nothing, if the peer knows nothing or cannot be asked.
    Answered(QuestionId, Vec<(RecordKey, T)>),
}

/// What the machine wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect<T> {
    /// Find out who is closest.
    FindClosest(Target),
    /// Ask that peer.
    Ask(QuestionId, PeerId, BTreeSet<RecordKey>),
    /// The search is over; what was found, in the order in which it came.
    Done(RecordKey, Vec<T>),
}

#[derive(Debug)]
struct Search<T> {
    deadline: Time,
    /// Questions that are not answered; none while it is not placed.
    open: Option<usize>,
    /// The first of them: answers to earlier ones belong to a search that is over.
    first: QuestionId,
    found: Vec<T>,
}

/// The machine. One per node.
#[derive(Debug)]
pub struct Lookups<T> {
    searches: BTreeMap<RecordKey, Search<T>>,
    deadlines: BTreeSet<(Time, RecordKey)>,
    unplaced: Unplaced,
    /// When those are to be placed.
    gathered: Option<Time>,
    /// Until when what comes is gathered, and how many were placed since nothing was left to place.
    pause: Time,
    placed: u64,
    asked: Option<Target>,
    questions: BTreeMap<QuestionId, BTreeSet<RecordKey>>,
    next_question: u64,
}

impl<T> Default for Lookups<T> {
    fn default() -> Self {
        Self {
            searches: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            unplaced: Unplaced::new(),
            gathered: None,
            pause: Time::ZERO,
            placed: 0,
            asked: None,
            questions: BTreeMap::new(),
            next_question: 0,
        }
    }
}

impl<T> Lookups<T> {
    /// Searches under way.
    pub fn len(&self) -> usize {
        self.searches.len()
    }

    /// Is nothing searched for?
    pub fn is_empty(&self) -> bool {
        self.searches.is_empty()
    }

    /// Takes one input and appends what is to be done about it.
    pub fn handle(&mut self, now: Time, input: Input<T>, effects: &mut Vec<Effect<T>>) {
        match input {
            Input::Look(key) => self.on_look(now, key, effects),
            Input::Closest(closest) => self.on_closest(now, &closest, effects),
            Input::Answered(question, found) => self.on_answered(question, found, effects),
        }
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub fn next_deadline(&self) -> Option<Time> {
        let first = self.deadlines.first().map(|(deadline, _)| *deadline);
        [first, self.gathered].into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Time, effects: &mut Vec<Effect<T>>) {
        while let Some((deadline, key)) = self.deadlines.first().copied()
            && deadline <= now
        {
            self.end(key, effects);
        }
        if self.gathered.is_some_and(|gathered| gathered <= now) {
            self.gathered = None;
            self.place_next(effects);
        }
    }

    fn on_look(&mut self, now: Time, key: RecordKey, effects: &mut Vec<Effect<T>>) {
        if self.searches.contains_key(&key) {
            return;
        }
        if self.searches.len() >= limits::LOOKUPS {
            return effects.push(Effect::Done(key, Vec::new()));
        }
        let deadline = now + limits::LOOKUP_US;
        let first = QuestionId(u64::MAX);
        self.searches.insert(key, Search { deadline, open: None, first, found: Vec::new() });
        self.deadlines.insert((deadline, key));
        self.unplaced.insert(unplaced(key));
        if self.asked.is_none() {
            let gathered = self.pause.max(now + limits::LOOKUP_GATHER_US);
            self.gathered.get_or_insert(gathered);
        }
    }

    fn place_next(&mut self, effects: &mut Vec<Effect<T>>) {
        if self.asked.is_some() {
            return;
        }
        if let Some((_, key)) = self.unplaced.first() {
            let target = Target::of(key);
            self.asked = Some(target);
            effects.push(Effect::FindClosest(target));
        }
    }

    fn on_closest(&mut self, now: Time, closest: &Closest, effects: &mut Vec<Effect<T>>) {
        if self.asked != Some(closest.target) {
            return;
        }
        self.asked = None;
        let mut questions: BTreeMap<PeerId, BTreeSet<RecordKey>> = BTreeMap::new();
        let mut placed = closest.place(&mut self.unplaced);
        if closest.peers.is_empty() {
            let rest = std::mem::take(&mut self.unplaced);
            placed.extend(rest.into_iter().map(|(_, key)| (key, Vec::new())));
        }
        self.placed += placed.len() as u64;
        for (key, peers) in placed {
            let Some(search) = self.searches.get_mut(&key) else { continue };
            (search.open, search.first) = (Some(peers.len()), QuestionId(self.next_question));
            if peers.is_empty() {
                self.end(key, effects);
            }
            for peer in peers {
                questions.entry(peer).or_default().insert(key);
            }
        }
        for (peer, keys) in questions {
            self.ask(peer, keys, effects);
        }
        if !self.unplaced.is_empty() {
            self.gathered = Some(now);
            return;
        }
        let pause = std::mem::take(&mut self.placed) * limits::LOOKUP_PAUSE_US;
        self.pause = now + pause.min(limits::LOOKUP_PAUSE_US_MAX);
    }

    fn ask(&mut self, peer: PeerId, mut keys: BTreeSet<RecordKey>, effects: &mut Vec<Effect<T>>) {
        while !keys.is_empty() {
            let rest = match keys.iter().nth(limits::RECORDS_ASKED).copied() {
                Some(next) => keys.split_off(&next),
                None => BTreeSet::new(),
            };
            let id = QuestionId(self.next_question);
            self.next_question += 1;
            self.questions.insert(id, keys.clone());
            effects.push(Effect::Ask(id, peer, keys));
            keys = rest;
        }
    }

    fn on_answered(
        &mut self,
        question: QuestionId,
        found: Vec<(RecordKey, T)>,
        effects: &mut Vec<Effect<T>>,
    ) {
        let Some(keys) = self.questions.remove(&question) else { return };
        for (key, what) in found {
            let asked = keys.contains(&key);
            if let Some(search) = self.searches.get_mut(&key)
                && asked
                && search.first <= question
                && search.found.len() < limits::PROVIDERS
            {
                search.found.push(what);
            }
        }
        for key in keys {
            let search = self.searches.get_mut(&key).filter(|search| search.first <= question);
            let Some(search) = search else { continue };
            search.open = search.open.map(|open| open.saturating_sub(1));
            let is_enough = match key {
                RecordKey::Reduction(_) => !search.found.is_empty(),
                RecordKey::Provider(_) => search.found.len() >= limits::PROVIDERS,
            };
            if is_enough || search.open == Some(0) {
                self.end(key, effects);
            }
        }
    }

    fn end(&mut self, key: RecordKey, effects: &mut Vec<Effect<T>>) {
        if let Some(search) = self.searches.remove(&key) {
            self.deadlines.remove(&(search.deadline, key));
            self.unplaced.remove(&unplaced(key));
            effects.push(Effect::Done(key, search.found));
        }
    }
}
