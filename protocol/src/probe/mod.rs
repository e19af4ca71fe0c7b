//! Which connections still lead to somebody: whom a node asks, and when.
//!
//! Goals: a link on which something depends is found dead within [`limits::LINK_QUIET_US`] and
//! [`limits::LINK_PATIENCE_US`]; what a node that has nothing to do says does not grow with the number
//! of its links; both ends of a link come to know its round trip. Non-goals: knowing at once that a link is
//! dead on which nothing depends, and telling a dead peer from a dead line.
//!
//! ```text
//!            Up                    quiet for long, and in use or its turn
//!   (none) ──────▶ asked ◀────────────────────────────────────────────── heard
//!                  │   │ Answered                                       ▲  │ ▲
//!                  │   └────────────────────────────────────────────────┘  └─┘ Asked
//!                  └─▶ Dead: not answered in time
//! ```
//!
//! **In use or in turn.** A link in use is asked whenever it has been quiet. All others share one turn
//! every [`limits::LINK_TURN_US`], and the one that has been quiet for longest gets it, so each has its turn
//! after as many as there are links. This is the constant load of SWIM (Das, Gupta and Motivala, DSN 2002), in
//! a fixed round as its authors propose it.
//!
//! **One side asks.** Who is asked hears that the other is there, and need not ask. It waits less long than the
//! asker, so that next time it is the one.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::limits;
use crate::random::Random;
use crate::time::Time;

/// What the machine is told. `L` names a link; of several to one peer, each is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Input<L> {
    /// It is there.
    Up(L),
    /// It is gone.
    Down(L),
    /// Something depends on it now, and for a while. To be said again as long as that is so, before
    /// each [`Probes::handle_timeout`].
    Used(L),
    /// The other end asked us.
    Asked(L),
    /// The answer to [`Effect::Ask`].
    Answered(L),
}

/// What the machine wants done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect<L> {
    /// Ask the other end whether it is there. Is not wanted again before there is an answer.
    Ask(L),
    /// Nobody is there: close it. The machine has forgotten it.
    Dead(L),
}

#[derive(Clone, Copy, Debug)]
struct Link {
    /// It counts as used until then.
    used_until: Time,
    place: Place,
}

/// Where a link is looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// It is to answer by then.
    Asked(Time),
    /// In use; quiet for long by then.
    Used(Time),
    /// The same, but waiting for its turn from then on.
    Idle(Time),
}

/// The machine. One per node.
#[derive(Debug)]
pub struct Probes<L> {
    links: BTreeMap<L, Link>,
    /// Those that are asked or used, by when something is due.
    due: BTreeSet<(Time, L)>,
    /// The others, by since when they may have a turn.
    idle: BTreeSet<(Time, L)>,
    next_turn: Time,
    random: Random,
}

impl<L: Copy + Ord> Probes<L> {
    /// Of no links yet. The seed spreads what would else happen in many nodes at once.
    pub fn new(seed: u64) -> Self {
        Self {
            links: BTreeMap::new(),
            due: BTreeSet::new(),
            idle: BTreeSet::new(),
            next_turn: Time::ZERO,
            random: Random::new(seed),
        }
    }

    /// Takes one input and appends what is to be done about it.
    pub fn handle(&mut self, now: Time, input: Input<L>, effects: &mut Vec<Effect<L>>) {
        match input {
            Input::Up(link) => self.on_up(now, link, effects),
            Input::Down(link) => self.forget(link),
            Input::Used(link) => self.on_used(now, link),
            Input::Asked(link) => self.on_asked(now, link),
            Input::Answered(link) => self.on_answered(now, link),
        }
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub fn next_deadline(&self) -> Option<Time> {
        let due = self.due.first().map(|(due, _)| *due);
        let turn = self.idle.first().map(|(since, _)| (*since).max(self.next_turn));
        due.into_iter().chain(turn).min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Time, effects: &mut Vec<Effect<L>>) {
        while let Some((due, link)) = self.due.first().copied()
            && due <= now
        {
            self.on_due(now, link, effects);
        }
        if let Some((since, link)) = self.idle.first().copied()
            && since.max(self.next_turn) <= now
        {
            self.ask(now, link, effects);
            let turn = limits::LINK_TURN_US;
            self.next_turn = now + turn * 7 / 8 + self.random.below(turn / 4);
        }
    }

    fn on_up(&mut self, now: Time, link: L, effects: &mut Vec<Effect<L>>) {
        self.forget(link);
        let deadline = now + limits::LINK_PATIENCE_US;
        self.links.insert(link, Link { used_until: Time::ZERO, place: Place::Asked(deadline) });
        self.due.insert((deadline, link));
        effects.push(Effect::Ask(link));
    }

    fn on_used(&mut self, now: Time, link: L) {
        let Some(state) = self.links.get_mut(&link) else { return };
        state.used_until = now + limits::LINK_USED_US;
        if let Place::Idle(since) = state.place {
            self.move_to(link, Place::Used(since));
        }
    }

    fn on_asked(&mut self, now: Time, link: L) {
        let Some(state) = self.links.get(&link) else { return };
        // That it asks does not say that it hears us: a question of ours stays open.
        if !matches!(state.place, Place::Asked(_)) {
            self.wait(now, link, limits::LINK_QUIET_US * 3 / 4);
        }
    }

    fn on_answered(&mut self, now: Time, link: L) {
        let Some(state) = self.links.get(&link) else { return };
        if matches!(state.place, Place::Asked(_)) {
            self.wait(now, link, limits::LINK_QUIET_US * 7 / 8);
        }
    }

    /// It was heard; it may be quiet for so long, and an eighth more at most.
    fn wait(&mut self, now: Time, link: L, quiet_us: u64) {
        let due = now + quiet_us + self.random.below(limits::LINK_QUIET_US / 8);
        let is_used = self.links.get(&link).is_some_and(|state| now < state.used_until);
        self.move_to(link, if is_used { Place::Used(due) } else { Place::Idle(due) });
    }

    fn on_due(&mut self, now: Time, link: L, effects: &mut Vec<Effect<L>>) {
        let Some(state) = self.links.get(&link) else { return };
        match state.place {
            Place::Asked(_) => {
                self.forget(link);
                effects.push(Effect::Dead(link));
            }
            Place::Used(_) if now < state.used_until => self.ask(now, link, effects),
            Place::Used(since) | Place::Idle(since) => self.move_to(link, Place::Idle(since)),
        }
    }

    fn ask(&mut self, now: Time, link: L, effects: &mut Vec<Effect<L>>) {
        self.move_to(link, Place::Asked(now + limits::LINK_PATIENCE_US));
        effects.push(Effect::Ask(link));
    }

    fn move_to(&mut self, link: L, place: Place) {
        let Some(state) = self.links.get_mut(&link) else { return };
        let old = std::mem::replace(&mut state.place, place);
        self.remove_from(link, old);
        match place {
            Place::Asked(due) | Place::Used(due) => self.due.insert((due, link)),
            Place::Idle(since) => self.idle.insert((since, link)),
        };
    }

    fn remove_from(&mut self, link: L, place: Place) {
        match place {
            Place::Asked(due) | Place::Used(due) => self.due.remove(&(due, link)),
            Place::Idle(since) => self.idle.remove(&(since, link)),
        };
    }

    fn forget(&mut self, link: L) {
        if let Some(state) = self.links.remove(&link) {
            self.remove_from(link, state.place);
        }
    }
}
