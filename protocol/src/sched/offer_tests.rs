//! Offers: how often they are said, and whom a worker chooses.

use super::*;
use crate::thunk::Platform;

fn class() -> ResourceClass {
    ResourceClass { platform: Platform::X86_64Linux, cores: 1, memory_mib_log2: None }
}

fn unplaced(count: u32) -> Input {
    let ready = (count > 0).then_some((class(), count));
    Input::Unplaced(ready.into_iter().collect(), BTreeSet::new())
}

const MACHINE: Capabilities = Capabilities {
    platform: Platform::X86_64Linux,
    cores: 4,
    memory_mib: 1024,
    speed_permille: 1000,
};

/// Drives an offerer through `inputs` and on for a while; what it publishes, and when.
fn published(inputs: &[(u64, u32)], end_us: u64) -> Vec<(u64, u32)> {
    let mut offerer = Offerer::new(100);
    let mut log = Vec::new();
    let mut inputs = inputs.iter().peekable();
    loop {
        let due = offerer.next_deadline().map(Time::us);
        let at = [due, inputs.peek().map(|(at, _)| *at)].into_iter().flatten().min();
        let Some(at) = at.filter(|at| *at <= end_us) else { return log };
        let mut effects = Vec::new();
        match inputs.next_if(|(next, _)| *next == at) {
            Some((_, count)) => {
                offerer.handle(Time::from_us(at), unplaced(*count), &mut effects);
            }
            None => offerer.handle_timeout(Time::from_us(at), &mut effects),
        }
        for Effect::Publish(offer) in effects {
            assert_eq!(offer.number, 101 + log.len() as u64);
            log.push((at, offer.ready.values().sum()));
        }
    }
}

#[test]
fn a_burst_is_one_message_and_ten_thousand_changes_are_four_a_second() {
    let burst: Vec<(u64, u32)> = (1..=100).map(|i| (u64::from(i) * 10, i)).collect();
    assert_eq!(published(&burst, 200_000), [(10_010, 100)]);
    let churn: Vec<(u64, u32)> =
        (0..10_000_u64).map(|i| (i * 100, if i % 2 == 0 { 1 } else { 1000 })).collect();
    let messages = published(&churn, 999_000);
    assert!((2..=4).contains(&messages.len()), "{messages:?}");
}

#[test]
fn it_is_said_again_while_it_holds_and_withdrawn_once() {
    let messages = published(&[(0, 5), (7_000_000, 0)], 60_000_000);
    let refreshes: Vec<u32> = messages.iter().map(|(_, count)| *count).collect();
    assert_eq!(refreshes, [5, 5, 5, 0]);
    // What is gone before it was said is not said at all … except the withdrawal of nothing.
    assert_eq!(published(&[(0, 5), (1, 0)], 60_000_000), []);
}

#[test]
fn who_joins_hears_it_soon() {
    let mut offerer = Offerer::new(0);
    let mut effects = Vec::new();
    offerer.handle(Time::ZERO, unplaced(5), &mut effects);
    offerer.handle_timeout(offerer.next_deadline().unwrap(), &mut effects);
    offerer.handle(Time::from_us(500_000), Input::Joined, &mut effects);
    offerer.handle_timeout(offerer.next_deadline().unwrap(), &mut effects);
    assert_eq!(effects.len(), 2);
    assert!(offerer.next_deadline().unwrap() <= Time::from_us(500_000 + 3_010_000));
}

fn offer(number: u64, trees: &[&str]) -> Offer {
    let trees = trees.iter().map(|tree| ValueName::of(tree.as_bytes())).collect();
    Offer { number, ready: BTreeMap::from([(class(), 1)]), trees }
}

fn choose(board: &Board, now: u64, holds: &[&str], seed: u64) -> Option<PeerId> {
    let holds = holds.iter().map(|tree| ValueName::of(tree.as_bytes())).collect();
    board.choose(Time::from_us(now), &MACHINE, &holds, &BTreeSet::new(), &mut Random::new(seed))
}

const A: PeerId = PeerId([1; 32]);
const B: PeerId = PeerId([2; 32]);

#[test]
fn trees_come_first_until_fair_share_outweighs_them() {
    let mut board = Board::default();
    board.insert(Time::ZERO, A, offer(1, &["gcc", "sys"]));
    board.insert(Time::ZERO, B, offer(1, &["clang"]));
    assert!((0..20).all(|seed| choose(&board, 1, &["gcc"], seed) == Some(A)));
    let drawn: BTreeSet<_> = (0..20).map(|seed| choose(&board, 1, &[], seed)).collect();
    assert_eq!(drawn.len(), 2, "equals are drawn");
    board.serve(A, limits::FAIR_SHARE_US);
    assert_eq!(choose(&board, 1, &["gcc"], 0), Some(A));
    board.serve(A, 1);
    assert_eq!(choose(&board, 1, &["gcc"], 0), Some(B));
}

#[test]
fn old_repeated_and_withdrawn_offers_attract_nobody() {
    let mut board = Board::default();
    assert!(board.insert(Time::ZERO, A, offer(5, &[])));
    assert!(!board.insert(Time::ZERO, A, offer(5, &[])));
    assert!(board.insert(Time::ZERO, A, Offer { number: 6, ..Offer::default() }));
    assert!(!board.insert(Time::ZERO, A, offer(4, &[])), "older than the withdrawal");
    assert_eq!(choose(&board, 1, &[], 0), None);
    assert!(board.insert(Time::ZERO, A, offer(7, &[])));
    assert_eq!(choose(&board, limits::OFFER_LIFE_US - 1, &[], 0), Some(A));
    assert_eq!(choose(&board, limits::OFFER_LIFE_US, &[], 0), None, "not said again in time");
}

#[test]
fn who_refuses_or_fails_is_left_alone_for_a_while() {
    let mut board = Board::default();
    board.insert(Time::ZERO, A, offer(1, &[]));
    board.refused(Time::ZERO, A, 2_000_000);
    assert_eq!(choose(&board, 1_999_999, &[], 0), None);
    assert_eq!(board.next_chance(Time::from_us(1)), Some(Time::from_us(2_000_000)));
    assert_eq!(choose(&board, 2_000_000, &[], 0), Some(A));
    board.failed(Time::ZERO, A);
    board.failed(Time::ZERO, A);
    assert_eq!(choose(&board, 1_999_999, &[], 0), None);
    board.worked(&A);
    assert_eq!(choose(&board, 1, &[], 0), Some(A));
}

#[test]
fn a_thousand_strangers_cost_a_bounded_board() {
    let mut board = Board::default();
    for i in 0..3 * limits::OFFERS_KEPT as u64 {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&i.to_be_bytes());
        board.insert(Time::ZERO, PeerId(key), offer(1, &[]));
        board.failed(Time::ZERO, PeerId(key));
    }
    assert_eq!(board.offers.len(), limits::OFFERS_KEPT);
    assert!(board.served.len() <= 3 * limits::OFFERS_KEPT);
    assert!(board.alone.len() <= limits::SCORES_KEPT);
}

#[test]
fn whoever_may_be_told_at_once_is() {
    let mut offerer = Offerer::new(0).with_pace(Pace { settle_us: 0, interval_us: 0 });
    let mut said: Vec<u32> = Vec::new();
    for count in [1, 100, 0] {
        let mut effects = Vec::new();
        offerer.handle(Time::from_us(5), unplaced(count), &mut effects);
        for Effect::Publish(offer) in effects {
            said.push(offer.ready.values().sum());
        }
    }
    assert_eq!(said, [1, 100, 0]);
}
