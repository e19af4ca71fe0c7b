//! Publication and look-up in a simulated network: time is a number, chance comes from a seed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::lookup::{self, Lookups, QuestionId};
use super::publish::{self, Publisher};
use super::*;
use crate::name::{Digest, ThunkName};
use crate::random::Random;
use crate::time::Time;

const SECOND: u64 = 1_000_000;
const DAY: u64 = 24 * 60 * 60 * SECOND;

fn peer(number: u64) -> PeerId {
    PeerId(Digest::of(&number.to_le_bytes()).sha256)
}

fn key(number: u64) -> RecordKey {
    let digest = Digest::of(&[&b"key"[..], &number.to_le_bytes()].concat());
    if number.is_multiple_of(3) {
        RecordKey::Reduction(ThunkName(digest))
    } else {
        RecordKey::Provider(digest)
    }
}

fn by_distance(peers: &BTreeSet<PeerId>, target: Target, count: usize) -> Vec<PeerId> {
    let at = Position::of_target(target);
    let mut near: Vec<PeerId> = peers.iter().copied().collect();
    near.sort_by_cached_key(|peer| Position::of_peer(*peer).distance(&at));
    near.truncate(count);
    near
}

enum Happens {
    Publish(publish::Input),
    Look(lookup::Input<PeerId>),
    Arrives(PeerId, Vec<RecordKey>),
    Leaves(PeerId),
    Returns(PeerId),
}

/// One node that publishes and asks; all others keep and answer, as long as they are there.
struct World {
    publisher: Publisher,
    lookups: Lookups<PeerId>,
    queue: BTreeMap<(Time, u64), Happens>,
    next: u64,
    random: Random,
    now: Time,
    alive: BTreeSet<PeerId>,
    kept: BTreeMap<RecordKey, BTreeMap<PeerId, Time>>,
    /// Do walks see everybody?
    small: bool,
    found: BTreeMap<RecordKey, (Time, Vec<PeerId>)>,
    questions: u64,
    sent: Vec<(Time, Vec<RecordKey>)>,
    log: String,
}

impl World {
    fn new(seed: u64, peers: u64, small: bool) -> Self {
        Self {
            publisher: Publisher::new(seed),
            lookups: Lookups::default(),
            queue: BTreeMap::new(),
            next: 0,
            random: Random::new(seed),
            now: Time::ZERO,
            alive: (0..peers).map(peer).collect(),
            kept: BTreeMap::new(),
            small,
            found: BTreeMap::new(),
            questions: 0,
            sent: Vec::new(),
            log: String::new(),
        }
    }

    fn after(&mut self, us: u64, happens: Happens) {
        self.queue.insert((self.now + us, self.next), happens);
        self.next += 1;
    }

    fn publish(&mut self, keys: impl Iterator<Item = u64>) {
        for number in keys {
            self.after(0, Happens::Publish(publish::Input::New(key(number))));
        }
    }

    fn look(&mut self, keys: impl Iterator<Item = u64>) {
        for number in keys {
            self.after(0, Happens::Look(lookup::Input::Look(key(number))));
        }
    }

    fn run_until(&mut self, until: Time) {
        loop {
            let timers = [self.publisher.next_deadline(), self.lookups.next_deadline()];
            let timer = timers.into_iter().flatten().min().map(|due| due.max(self.now));
            let event = self.queue.keys().next().copied();
            let (mut publish, mut look) = (Vec::new(), Vec::new());
            match (event, timer) {
                (Some((at, number)), timer) if timer.is_none_or(|due| at <= due) && at <= until => {
                    self.now = at;
                    let happens = self.queue.remove(&(at, number)).unwrap();
                    self.happen(happens, &mut publish, &mut look);
                }
                (_, Some(due)) if due <= until => {
                    self.now = due;
                    self.publisher.handle_timeout(due, &mut publish);
                    self.lookups.handle_timeout(due, &mut look);
                }
                _ => break,
            }
            publish.into_iter().for_each(|effect| self.perform_publish(effect));
            look.into_iter().for_each(|effect| self.perform_look(effect));
        }
        self.now = until;
    }

    fn happen(
        &mut self,
        happens: Happens,
        publish: &mut Vec<publish::Effect>,
        look: &mut Vec<lookup::Effect<PeerId>>,
    ) {
        match happens {
            Happens::Publish(input) => self.publisher.handle(self.now, input, publish),
            Happens::Look(input) => self.lookups.handle(self.now, input, look),
            Happens::Leaves(peer) => drop(self.alive.remove(&peer)),
            Happens::Returns(peer) => {
                self.alive.insert(peer);
                let joined = publish::Input::Joined(self.alive.len());
                self.publisher.handle(self.now, joined, publish);
            }
            Happens::Arrives(peer, keys) => {
                let kept = self.alive.contains(&peer).then_some(keys.len() as u32);
                for key in keys.iter().filter(|_| kept.is_some()) {
                    let ends = self.now + limits::RECORD_LIFE_S * SECOND;
                    self.kept.entry(*key).or_default().insert(peer, ends);
                }
                let back = 1 + self.random.below(50_000);
                self.after(back, Happens::Publish(publish::Input::Sent(peer, kept)));
            }
        }
    }

    fn closest(&mut self, target: Target) -> Closest {
        let count = if self.small { usize::MAX } else { limits::CLOSEST };
        let peers = by_distance(&self.alive, target, count);
        Closest { target, peers, are_all: self.small }
    }

    fn perform_publish(&mut self, effect: publish::Effect) {
        writeln!(self.log, "{:?} {effect:?}", self.now).unwrap();
        let delay = 1 + self.random.below(100_000);
        match effect {
            publish::Effect::FindClosest(target) => {
                let closest = self.closest(target);
                self.after(delay, Happens::Publish(publish::Input::Closest(closest)));
            }
            publish::Effect::Send(peer, keys) => {
                self.sent.push((self.now, keys.clone()));
                self.after(delay, Happens::Arrives(peer, keys));
            }
        }
    }

    fn perform_look(&mut self, effect: lookup::Effect<PeerId>) {
        writeln!(self.log, "{:?} {effect:?}", self.now).unwrap();
        let delay = 1 + self.random.below(100_000);
        match effect {
            lookup::Effect::FindClosest(target) => {
                let closest = self.closest(target);
                self.after(delay, Happens::Look(lookup::Input::Closest(closest)));
            }
            lookup::Effect::Ask(question, peer, keys) => {
                self.questions += 1;
                // Who is not there does not answer at all, as if it hung.
                if self.alive.contains(&peer) {
                    let keeps = |key: &RecordKey| {
                        self.kept.get(key).is_some_and(|kept| kept.contains_key(&peer))
                    };
                    let found: Vec<_> =
                        keys.into_iter().filter(keeps).map(|key| (key, peer)).collect();
                    self.after(delay, Happens::Look(lookup::Input::Answered(question, found)));
                }
            }
            lookup::Effect::Done(key, found) => {
                assert!(self.found.insert(key, (self.now, found)).is_none(), "answered once");
            }
        }
    }

    fn keepers(&self, number: u64) -> BTreeSet<PeerId> {
        let kept = self.kept.get(&key(number));
        let live = kept.into_iter().flatten().filter(|(_, ends)| **ends > self.now);
        live.map(|(peer, _)| *peer).collect()
    }
}

#[test]
fn what_is_published_lies_with_those_closest_to_it() {
    for (peers, small) in [(300, false), (12, true), (2, true)] {
        let mut world = World::new(peers, peers, small);
        world.publish(0..2_000);
        world.run_until(Time::from_us(60 * SECOND));
        for number in 0..2_000 {
            let target = Target::of(&key(number));
            let closest = by_distance(&world.alive, target, limits::RECORD_REPLICAS);
            assert_eq!(world.keepers(number), closest.into_iter().collect(), "key {number}");
        }
        let counts = world.publisher.counts();
        assert_eq!((counts.records, counts.sent), (2_000, 2_000 * 3.min(peers)));
        // Two sweeps of at most 1,024: neighbourhoods, not keys, are what is walked to.
        let walks = if small { 2 } else { 2 * 64 };
        assert!(counts.walks <= walks, "{counts:?}");
        assert!(counts.messages <= 2 * peers.max(2 * 1024 * 3 / 256), "{counts:?}");
    }
}

#[test]
fn reductions_go_first_and_no_faster_than_is_allowed() {
    let mut world = World::new(1, 4, true);
    world.publish(0..3_000);
    world.run_until(Time::from_us(60 * SECOND));
    let mut records = 0;
    for (at, keys) in &world.sent {
        let allowed = (*at - Time::ZERO) * limits::RECORDS_PER_S / SECOND;
        assert!(records <= allowed + 1, "{records} records before {at:?}");
        records += keys.len() as u64;
        assert!(keys.is_sorted() && keys.len() <= limits::RECORDS_BATCH);
    }
    let kind = |key: &RecordKey| matches!(key, RecordKey::Reduction(_));
    let first: Vec<bool> = world.sent.iter().flat_map(|(_, keys)| keys).map(kind).collect();
    let (head, tail) = first.split_at(1024 * 3);
    assert_eq!(
        head.iter().filter(|kind| **kind).count(),
        3 * 1_000,
        "the first sweep has them all"
    );
    assert!(tail.iter().all(|kind| !kind));
}

/// Nodes that run thunks for hours have something new each moment.
#[test]
fn what_comes_bit_by_bit_goes_in_few_messages() {
    let mut world = World::new(5, 4, true);
    let (each, all) = (SECOND / 10, 600);
    for number in 0..all {
        world.after(number * each, Happens::Publish(publish::Input::New(key(number))));
    }
    let latest = limits::RECORDS_GATHER_US + limits::RECORDS_ROUND_US + SECOND;
    for number in 0..all {
        world.run_until(Time::from_us(number * each + latest));
        assert_eq!(world.keepers(number).len(), limits::RECORD_REPLICAS, "key {number}");
    }
    let rounds = all * each / limits::RECORDS_ROUND_US + 2;
    assert!(world.publisher.counts().messages <= rounds * 4, "{:?}", world.publisher.counts());
}

#[test]
fn every_record_lives_on_while_peers_come_and_go() {
    let mut world = World::new(7, 200, false);
    world.publish(0..300);
    // Each hour two leave and two that had left return.
    for hour in 1..72 {
        for which in 0..2 {
            let (leaves, returns) = (hour * 2 + which, hour * 2 + which - 2);
            world.after(hour * DAY / 24, Happens::Leaves(peer(leaves)));
            world.after(hour * DAY / 24 + 1, Happens::Returns(peer(returns)));
        }
    }
    for hour in 1..72 {
        world.run_until(Time::from_us(hour * DAY / 24 + 60 * SECOND));
        for number in 0..300 {
            let live = world.keepers(number).intersection(&world.alive).count();
            assert!(live >= 1, "key {number} in hour {hour}");
        }
    }
    let rounds = world.publisher.counts().sent as f64 / (300.0 * 3.0);
    assert!((4.0..8.0).contains(&rounds), "{rounds} rounds in three days");
}

#[test]
fn nobody_to_tell_is_tried_again_and_whoever_comes_is_told_at_once() {
    let mut world = World::new(3, 0, true);
    world.publish(0..10);
    world.run_until(Time::from_us(600 * SECOND));
    let walks = world.publisher.counts().walks;
    assert!((6..=10 * 7).contains(&walks), "less and less often: {walks}");
    for (number, expected) in [(1, 1), (2, 2), (3, 3), (4, 3)] {
        world.after(0, Happens::Returns(peer(number)));
        world.run_until(world.now + 5 * SECOND);
        assert!((0..10).all(|key| world.keepers(key).len() == expected), "with {number} peers");
    }
    let sent = world.publisher.counts().sent;
    world.after(0, Happens::Leaves(peer(4)));
    world.after(1, Happens::Returns(peer(4)));
    world.run_until(world.now + 5 * SECOND);
    assert_eq!(world.publisher.counts().sent, sent, "whoever comes again knows already");
}

#[test]
fn what_is_gone_is_not_published_again() {
    let mut world = World::new(3, 5, true);
    world.publish(0..10);
    world.run_until(Time::from_us(10 * SECOND));
    for number in 0..5 {
        world.after(0, Happens::Publish(publish::Input::Gone(key(number))));
    }
    world.run_until(Time::from_us(DAY + 60 * SECOND));
    let counts = world.publisher.counts();
    assert_eq!((counts.records, counts.sent), (5, 3 * (10 + 5)));
    assert!((0..10).all(|number| world.keepers(number).is_empty() == (number < 5)));
}

#[test]
fn no_more_is_published_than_there_is_room_for() {
    let mut publisher = Publisher::new(1);
    for number in 0..limits::RECORDS_PUBLISHED as u64 + 5 {
        publisher.handle(Time::ZERO, publish::Input::New(key(number)), &mut Vec::new());
    }
    let counts = publisher.counts();
    assert_eq!((counts.records, counts.refused), (limits::RECORDS_PUBLISHED, 5));
}

#[test]
fn a_batch_of_names_is_one_question_to_each_peer() {
    for small in [true, false] {
        let mut world = World::new(5, 40, small);
        world.publish(0..600);
        world.run_until(Time::from_us(60 * SECOND));
        let since = world.now;
        world.look(0..1_000);
        world.run_until(since + 10 * SECOND);
        for number in 0..1_000 {
            let (at, found) = &world.found[&key(number)];
            assert_eq!(found.is_empty(), number >= 600, "key {number}");
            assert!(*at - since <= limits::LOOKUP_US);
            if let RecordKey::Provider(_) = key(number) {
                assert!(found.is_empty() || found.len() == 3, "all that there are");
            }
        }
        assert!(world.lookups.is_empty());
        let walks = if small { 40 } else { 40 * 16 };
        assert!(world.questions <= walks, "{} questions", world.questions);
    }
}

#[test]
fn a_stream_of_names_is_asked_for_in_few_questions_and_one_after_the_other_at_once() {
    let mut world = World::new(5, 31, true);
    for number in 0..1_000 {
        world.after(number * 100, Happens::Look(lookup::Input::Look(key(number))));
    }
    world.run_until(Time::from_us(SECOND));
    assert_eq!(world.found.len(), 1_000);
    assert!(world.questions <= 31 * 5, "{} questions", world.questions);
    let latest = world.found.values().map(|(at, _)| *at).max().unwrap();
    // Gathered, placed and asked.
    let most = 100_000 + limits::LOOKUP_PAUSE_US_MAX + 2 * 100_000;
    assert!(latest - Time::ZERO <= most, "{latest:?}");

    for number in 1_000..1_010 {
        let since = world.now;
        assert_eq!(world.lookups.next_deadline(), None);
        world.look(number..number + 1);
        world.run_until(since);
        assert_eq!(world.lookups.next_deadline(), Some(since + limits::LOOKUP_GATHER_US));
        world.run_until(since + SECOND);
    }
}

#[test]
fn the_first_who_knows_ends_it_and_silence_does_not_keep_it() {
    let mut world = World::new(6, 3, true);
    world.publish(0..6);
    world.run_until(Time::from_us(20 * SECOND));
    // They stay in the answers of walks, but hang.
    let hung = by_distance(&world.alive, Target::of(&key(0)), 2);
    let since = world.now;
    let ask = |lookups: &mut Lookups<PeerId>, now, input| {
        let mut effects = Vec::new();
        lookups.handle(now, input, &mut effects);
        effects
    };
    let mut lookups = Lookups::default();
    ask(&mut lookups, since, lookup::Input::Look(key(0)));
    ask(&mut lookups, since, lookup::Input::Look(key(1)));
    let mut effects = Vec::new();
    lookups.handle_timeout(since + limits::LOOKUP_GATHER_US, &mut effects);
    let [lookup::Effect::FindClosest(target)] = effects[..] else { panic!("{effects:?}") };
    let closest = world.closest(target);
    let asked = ask(&mut lookups, since, lookup::Input::Closest(closest));
    assert_eq!(asked.len(), 3, "one question to each");
    let speaks = asked.iter().find_map(|effect| match effect {
        lookup::Effect::Ask(id, peer, _) if !hung.contains(peer) => Some((*id, *peer)),
        _ => None,
    });
    let (id, who) = speaks.unwrap();
    let stranger = (key(2), who);
    let found = vec![stranger, (key(0), who), (key(1), who)];
    let done = ask(&mut lookups, since, lookup::Input::Answered(id, found));
    assert_eq!(done, [lookup::Effect::Done(key(0), vec![who])], "a reduction is enough");
    assert_eq!(lookups.next_deadline(), Some(since + limits::LOOKUP_US));
    let mut effects = Vec::new();
    lookups.handle_timeout(since + limits::LOOKUP_US, &mut effects);
    assert_eq!(effects, [lookup::Effect::Done(key(1), vec![who])], "providers: what has come");
    // An answer to an old question is none to a new search.
    ask(&mut lookups, since, lookup::Input::Look(key(0)));
    let stale = ask(&mut lookups, since, lookup::Input::Answered(QuestionId(0), vec![]));
    let other = ask(&mut lookups, since, lookup::Input::Answered(QuestionId(1), vec![]));
    assert!(stale.is_empty() && other.is_empty() && lookups.len() == 1);
}

#[test]
fn too_many_names_are_not_looked_up() {
    let mut lookups: Lookups<PeerId> = Lookups::default();
    let mut effects = Vec::new();
    for number in 0..limits::LOOKUPS as u64 + 2 {
        lookups.handle(Time::ZERO, lookup::Input::Look(key(number)), &mut effects);
    }
    assert_eq!((lookups.len(), effects.len()), (limits::LOOKUPS, 2));
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let log = |seed| {
        let mut world = World::new(seed, 100, false);
        world.publish(0..500);
        world.after(SECOND, Happens::Leaves(peer(3)));
        world.run_until(Time::from_us(30 * SECOND));
        world.look(0..100);
        world.run_until(Time::from_us(DAY));
        world.log
    };
    assert_eq!(log(1), log(1));
    assert_ne!(log(1), log(2));
}
