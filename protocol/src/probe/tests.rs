//! Nodes that are all connected to all, in time that is counted.

use super::*;

const SECOND: u64 = 1_000_000;
const MINUTE: u64 = 60 * SECOND;

/// A link in use is found dead after this long at most.
const FOUND: u64 = limits::LINK_QUIET_US + limits::LINK_PATIENCE_US;

/// Gossip is passed on to so many.
const GOSSIP_DEGREE: u64 = 6;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Word {
    Ask,
    Answer,
}

struct Node {
    probes: Probes<usize>,
    /// Those with whom it has something to do.
    uses: BTreeSet<usize>,
    is_silent: bool,
    sent: u64,
    /// Asked by it, answered to it, by peer.
    asked: BTreeMap<usize, u64>,
    answered: BTreeMap<usize, u64>,
    dead: BTreeMap<usize, Time>,
}

struct World {
    now: Time,
    nodes: Vec<Node>,
    /// What is on its way: when it comes, in which order it was said, from whom, to whom.
    under_way: BTreeSet<(Time, u64, usize, usize, Word)>,
    said: u64,
    /// When which node is to be woken, and the same by node.
    wakes: BTreeSet<(Time, usize)>,
    woken: Vec<Option<Time>>,
    random: Random,
}

impl World {
    /// So many nodes; all links come up at once, which is the worst for them.
    fn new(count: usize, seed: u64) -> Self {
        let node = |number| Node {
            probes: Probes::new(seed.wrapping_mul(1_000).wrapping_add(number)),
            uses: BTreeSet::new(),
            is_silent: false,
            sent: 0,
            asked: BTreeMap::new(),
            answered: BTreeMap::new(),
            dead: BTreeMap::new(),
        };
        let mut world = Self {
            now: Time::ZERO,
            nodes: (0..count as u64).map(node).collect(),
            under_way: BTreeSet::new(),
            said: 0,
            wakes: BTreeSet::new(),
            woken: vec![None; count],
            random: Random::new(seed),
        };
        for one in 0..count {
            for other in (0..count).filter(|other| *other != one) {
                world.tell(one, Input::Up(other));
            }
        }
        world
    }

    fn tell(&mut self, node: usize, input: Input<usize>) {
        let mut effects = Vec::new();
        self.nodes[node].probes.handle(self.now, input, &mut effects);
        self.perform(node, effects);
    }

    fn perform(&mut self, node: usize, effects: Vec<Effect<usize>>) {
        for effect in effects {
            match effect {
                Effect::Ask(peer) => {
                    *self.nodes[node].asked.entry(peer).or_default() += 1;
                    self.say(node, peer, Word::Ask);
                }
                Effect::Dead(peer) => {
                    assert_eq!(self.nodes[node].dead.insert(peer, self.now), None);
                }
            }
        }
        let deadline = self.nodes[node].probes.next_deadline();
        if let Some(old) = std::mem::replace(&mut self.woken[node], deadline) {
            self.wakes.remove(&(old, node));
        }
        self.wakes.extend(deadline.map(|deadline| (deadline, node)));
    }

    fn say(&mut self, from: usize, to: usize, word: Word) {
        self.nodes[from].sent += 1;
        self.said += 1;
        let comes = self.now + 1_000 + self.random.below(50_000);
        self.under_way.insert((comes, self.said, from, to, word));
    }

    fn hear(&mut self, from: usize, to: usize, word: Word) {
        if self.nodes[from].is_silent || self.nodes[to].is_silent {
            return;
        }
        match word {
            Word::Ask => {
                self.tell(to, Input::Asked(from));
                self.say(to, from, Word::Answer);
            }
            Word::Answer => {
                *self.nodes[to].answered.entry(from).or_default() += 1;
                self.tell(to, Input::Answered(from));
            }
        }
    }

    /// What a node is told before its time is up, as the node's loop does.
    fn wake(&mut self, node: usize) {
        for peer in self.nodes[node].uses.clone() {
            self.tell(node, Input::Used(peer));
        }
        let mut effects = Vec::new();
        self.nodes[node].probes.handle_timeout(self.now, &mut effects);
        self.perform(node, effects);
    }

    fn run(&mut self, us: u64) -> &mut Self {
        let end = self.now + us;
        loop {
            let comes = self.under_way.first().map(|(comes, ..)| *comes);
            let wakes = self.wakes.first().copied();
            let wakes = wakes.filter(|(at, _)| comes.is_none_or(|comes| *at < comes));
            match (wakes, comes) {
                (Some((at, node)), _) if at <= end => {
                    self.now = self.now.max(at);
                    self.wake(node);
                }
                (None, Some(comes)) if comes <= end => {
                    let (_, _, from, to, word) = self.under_way.pop_first().unwrap();
                    self.now = comes;
                    self.hear(from, to, word);
                }
                _ => break,
            }
        }
        self.now = end;
        self
    }

    /// The most that one node says in a minute, from now on.
    fn sent_in_a_minute(&mut self) -> u64 {
        self.nodes.iter_mut().for_each(|node| node.sent = 0);
        self.run(MINUTE);
        self.nodes.iter().map(|node| node.sent).max().unwrap()
    }

    fn uses(&mut self, one: usize, other: usize) {
        self.nodes[one].uses.insert(other);
        self.tell(one, Input::Used(other));
    }
}

#[test]
fn idle_nodes_do_not_say_more_where_there_are_more_of_them() {
    let sent = |count| World::new(count, 7).run(30 * SECOND).sent_in_a_minute();
    let of_two = sent(2);
    assert!((10..=20).contains(&of_two), "{of_two}");
    let mut before = of_two;
    for count in [16, 64, 256] {
        let of_many = sent(count);
        assert!(of_many <= GOSSIP_DEGREE * of_two, "{count} nodes: {of_many}, 2 nodes: {of_two}");
        // Once there are more links than turns, it does not grow at all, but for who is asked by chance.
        assert!(count == 16 || of_many <= before * 3 / 2, "{count} nodes: {of_many}, {before}");
        before = of_many;
    }
}

#[test]
fn the_most_that_are_asked_in_a_minute_are_as_many_as_there_are_turns() {
    for count in [16, 64, 256] {
        let mut world = World::new(count, 3);
        world.run(30 * SECOND).nodes.iter_mut().for_each(|node| node.asked.clear());
        world.run(MINUTE);
        for node in &world.nodes {
            let asked: u64 = node.asked.values().sum();
            assert!(asked <= MINUTE / (limits::LINK_TURN_US * 7 / 8) + 1, "{count}: {asked}");
        }
    }
}

#[test]
fn each_link_has_its_turn_and_a_dead_one_is_found() {
    for count in [2, 3, 16, 64] {
        let mut world = World::new(count, 11);
        world.run(2 * MINUTE).nodes[0].is_silent = true;
        let silent = world.now;
        let round = (count as u64 - 1) * limits::LINK_TURN_US * 9 / 8;
        world.run(round + FOUND);
        for (number, node) in world.nodes.iter().enumerate().skip(1) {
            let found: Vec<usize> = node.dead.keys().copied().collect();
            assert_eq!(found, [0], "node {number} of {count}, silent since {silent:?}");
        }
        assert_eq!(world.nodes[0].dead.len(), count - 1, "nor does it hear the others");
    }
}

#[test]
fn a_link_in_use_is_found_dead_as_fast_among_many_as_alone() {
    for count in [2, 64] {
        for seed in 0..20 {
            let mut world = World::new(count, seed);
            world.run(MINUTE).uses(1, 0);
            // Wherever in its round the node is then.
            world.run(10 * SECOND + seed * SECOND / 2).nodes[0].is_silent = true;
            let silent = world.now;
            world.run(FOUND);
            let found = world.nodes[1].dead.get(&0).copied();
            let found = found.expect("not found dead");
            assert!(found - silent >= limits::LINK_PATIENCE_US - SECOND, "{found:?} {silent:?}");
        }
    }
}

#[test]
fn a_link_that_is_needed_after_a_long_time_is_asked_at_once() {
    let mut world = World::new(256, 5);
    world.run(MINUTE).nodes[0].is_silent = true;
    world.run(limits::LINK_QUIET_US).uses(1, 0);
    world.run(limits::LINK_PATIENCE_US);
    assert_eq!(world.nodes[1].dead.keys().copied().collect::<Vec<_>>(), [0]);
}

#[test]
fn what_was_in_use_comes_back_to_its_turn() {
    let mut world = World::new(256, 5);
    world.run(MINUTE).uses(1, 0);
    let asked = |world: &World| {
        let by = |one: usize, other| world.nodes[one].asked.get(&other).copied().unwrap_or(0);
        by(1, 0) + by(0, 1)
    };
    let before = asked(&world);
    let in_use = asked(world.run(MINUTE)) - before;
    assert!((11..=17).contains(&in_use), "{in_use} in a minute of use");
    world.nodes[1].uses.clear();
    let before = asked(world.run(limits::LINK_USED_US));
    let after = asked(world.run(MINUTE)) - before;
    assert!(after <= 1, "{after} in a minute after it");
}

#[test]
fn both_ends_of_a_link_know_its_round_trip_but_ask_in_turn() {
    let mut world = World::new(2, 1);
    world.run(10 * MINUTE);
    let answered = [world.nodes[0].answered[&1], world.nodes[1].answered[&0]];
    let all: u64 = answered.iter().sum();
    // If each asked by itself, there would be twice as many.
    assert!(all <= 10 * MINUTE / (limits::LINK_QUIET_US * 3 / 4) + 2, "{answered:?}");
    assert!(answered.iter().all(|one| *one >= all * 2 / 5), "{answered:?}");
    // In many, an end may be asked more often than it asks, but all were asked once.
    let mut world = World::new(64, 1);
    world.run(SECOND);
    assert!(world.nodes.iter().all(|node| node.answered.len() == 63));
}

#[test]
fn a_question_is_open_until_it_is_answered_whatever_else_is_heard() {
    let mut probes = Probes::new(1);
    let mut effects = Vec::new();
    probes.handle(Time::ZERO, Input::Up(1), &mut effects);
    assert_eq!(std::mem::take(&mut effects), [Effect::Ask(1)]);
    let later = Time::ZERO + limits::LINK_PATIENCE_US / 2;
    probes.handle(later, Input::Asked(1), &mut effects);
    probes.handle(later, Input::Used(1), &mut effects);
    let deadline = Time::ZERO + limits::LINK_PATIENCE_US;
    assert_eq!(probes.next_deadline(), Some(deadline));
    probes.handle_timeout(deadline, &mut effects);
    assert_eq!(std::mem::take(&mut effects), [Effect::Dead(1)]);
    assert_eq!(probes.next_deadline(), None);
    // It is forgotten: nothing about it counts any more.
    for input in [Input::Answered(1), Input::Asked(1), Input::Used(1), Input::Down(1)] {
        probes.handle(deadline, input, &mut effects);
    }
    assert_eq!((effects.len(), probes.next_deadline()), (0, None));
}

#[test]
fn an_answer_that_was_not_asked_for_counts_for_nothing() {
    let mut probes = Probes::new(1);
    let mut effects = Vec::new();
    probes.handle(Time::ZERO, Input::Up(1), &mut effects);
    probes.handle(Time::ZERO, Input::Answered(1), &mut effects);
    let due = probes.next_deadline().unwrap();
    probes.handle(due, Input::Answered(1), &mut effects);
    assert_eq!(probes.next_deadline(), Some(due));
    probes.handle_timeout(due, &mut effects);
    assert_eq!(effects, [Effect::Ask(1), Effect::Ask(1)]);
}

#[test]
fn a_link_that_went_down_is_not_missed() {
    let mut probes = Probes::new(1);
    let mut effects = Vec::new();
    for link in [1, 2] {
        probes.handle(Time::ZERO, Input::Up(link), &mut effects);
    }
    probes.handle(Time::ZERO, Input::Answered(2), &mut effects);
    probes.handle(Time::ZERO, Input::Down(1), &mut effects);
    probes.handle(Time::ZERO, Input::Down(2), &mut effects);
    assert_eq!(probes.next_deadline(), None);
}
