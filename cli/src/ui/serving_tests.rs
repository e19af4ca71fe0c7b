//! What is shown of a node, with a time that the tests make.

use std::sync::Arc;
use std::time::Duration;

use mesh_protocol::thunk::Thunk;

use super::*;

const DESK: PeerId = PeerId([1; 32]);
const LAB: PeerId = PeerId([2; 32]);

fn name(number: u32) -> ThunkName {
    ThunkName::of(&number.to_le_bytes())
}

fn started(peer: PeerId, number: u32) -> Heard {
    let json = r#"{"function": {"executable": "/cc", "arguments": ["cc", "-c", "a\u001b[2J.c"]},
        "outputs": {"o": "/o"}}"#;
    let thunk = Arc::new(Thunk::from_json(json).unwrap());
    let whose = if peer == DESK { "desk" } else { "lab" };
    Heard::Job(whose.to_owned(), JobEvent::Started { peer, name: name(number), thunk })
}

fn ended(peer: PeerId, number: u32, failure: Option<&str>) -> Heard {
    let failure = failure.map(Arc::from);
    Heard::Job("desk".to_owned(), JobEvent::Ended { peer, name: name(number), failure })
}

fn seen(serving: &Serving, now: Instant, width: usize) -> String {
    render(serving, now, width, false)
}

#[test]
fn the_oldest_come_first_with_whose_they_are() {
    let (mut serving, begin) = (Serving::default(), Instant::now());
    let at = |ms| begin + Duration::from_millis(ms);
    serving.take(at(0), &Heard::Node(NodeEvent::Connected(DESK, "desk".to_owned())));
    serving.take(at(0), &Heard::Node(NodeEvent::Connected(LAB, "lab".to_owned())));
    serving.take(at(0), &Heard::Node(NodeEvent::Disconnected(LAB)));
    serving.take(at(2000), &started(LAB, 1));
    serving.take(at(500), &started(DESK, 1));
    serving.take(at(500), &started(DESK, 2));
    serving.take(at(900), &ended(DESK, 2, None));
    let expected = "2 running for others  1 done  1 member here\n\
                    \u{20} 12.0s desk: cc -c a [2J.c\n\
                    \u{20} 10.5s lab: cc -c a [2J.c\n";
    assert_eq!(seen(&serving, at(12_500), 80), expected);
    serving.take(at(13_000), &ended(DESK, 1, Some("it ran out of time")));
    serving.take(at(13_000), &ended(LAB, 1, None));
    serving.take(at(13_000), &Heard::Held(Some(Reason::InUse)));
    let rest = "  gives nothing: in use by its owner  2 done  1 came to nothing  1 member here\n";
    assert_eq!(seen(&serving, at(13_000), 99), format!("0 running for others{rest}"));
    assert_eq!(seen(&serving, at(13_000), 11), "0 running \n");
    let coloured = render(&serving, at(13_000), 11, true);
    assert_eq!(coloured, "\x1b[1;31m0 running\x1b[0m \n");
}

#[test]
fn many_are_counted_and_some_are_shown() {
    let (mut serving, now) = (Serving::default(), Instant::now());
    (0..100).for_each(|number| serving.take(now, &started(DESK, number)));
    let block = seen(&serving, now, 80);
    assert!(block.starts_with("100 running for others  0 done"), "{block}");
    assert_eq!(block.lines().count(), 1 + STEPS_SHOWN);
}

#[test]
fn a_terminal_that_takes_nothing_costs_bounded_memory() {
    let mut serving = Serving::default();
    (0..NEWS_MAX + 5).for_each(|number| serving.say(number.to_string()));
    let news = serving.take_news();
    assert_eq!((news.len(), news[0].as_str()), (NEWS_MAX, "5"));
}
