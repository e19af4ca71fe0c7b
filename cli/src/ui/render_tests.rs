//! The words, with a time that the tests make.

use std::sync::Arc;

use mesh_node::driver::Progress;
use mesh_protocol::name::ThunkName;
use mesh_protocol::sched::force::{Event, Failure, FailureClass};
use mesh_protocol::thunk::Thunk;

use super::*;

fn name(number: u32) -> ThunkName {
    ThunkName::of(&number.to_le_bytes())
}

fn started(number: u32) -> Progress {
    let json = r#"{"function": {"executable": "/f", "arguments": ["f"]}, "outputs": {"o": "/o"}}"#;
    Progress::Started(name(number), Arc::new(Thunk::from_json(json).unwrap()))
}

fn event(event: Event) -> Progress {
    Progress::Event(event)
}

/// 352 planned, 12 reused, 108 run, the second and third (of the rest) running.
fn half_done() -> (State, Instant) {
    let begin = Instant::now();
    let mut state = State::new(begin);
    (0..352).for_each(|number| state.planned(name(number), &format!("cc src/{number}.c")));
    (0..12).for_each(|number| state.reused(Instant::now(), name(number)));
    (12..120).for_each(|number| {
        state.take(begin, &started(number));
        state.take(begin, &Progress::Ended(name(number), Err("not of interest".to_owned())));
        state.take(begin, &event(Event::Executed(name(number))));
    });
    state.take(begin + Duration::from_millis(44_540), &started(121));
    state.take(begin + Duration::from_millis(56_340), &started(122));
    (state, begin + Duration::from_millis(56_840))
}

#[test]
fn a_block_in_the_middle_of_a_build() {
    let (state, now) = half_done();
    let expected = "\
[120/352] 34%  1.9/s  ETA 0:02:02  12 reused  0 local
  12.3s cc src/121.c
   0.5s cc src/122.c
";
    assert_eq!(render(&state, now, 80, false), expected);
    assert_eq!(line(&state), "mesh: [120/352] 34 %, 2 running, 12 reused, 0 local\n");
}

#[test]
fn nothing_is_shown_before_there_is_something_to_tell() {
    let now = Instant::now();
    let mut state = State::new(now);
    assert_eq!(render(&state, now, 80, true), "");
    state.planned(name(1), "cc a.c");
    assert_eq!(render(&state, now, 80, false), "[0/1] 0%  0 reused  0 local\n");
}

#[test]
fn eight_of_many_steps_are_shown_the_oldest_first() {
    let begin = Instant::now();
    let mut state = State::new(begin);
    (0..20).for_each(|number| {
        state.planned(name(number), &format!("step {number}"));
        state.take(begin + Duration::from_secs(number.into()), &started(number));
    });
    let block = render(&state, begin + Duration::from_secs(100), 80, false);
    let lines: Vec<&str> = block.lines().collect();
    assert_eq!(lines.len(), 9);
    assert_eq!((lines[1], lines[8]), (" 100.0s step 0", "  93.0s step 7"));
}

#[test]
fn lines_stay_narrower_than_the_terminal() {
    let begin = Instant::now();
    let mut state = State::new(begin);
    state.planned(name(1), &"wide 漢字é ".repeat(20));
    state.take(begin, &started(1));
    for width in 0..200 {
        for line in render(&state, begin, width, false).lines() {
            assert!(columns(line) <= width.saturating_sub(1), "{width}: {line}");
        }
    }
    let block = render(&state, begin, 19, false);
    assert_eq!(block, "[0/1] 0%  0 reused\n   0.0s wide 漢字\n");
}

#[test]
fn colour_adds_escapes_that_end_and_changes_no_words() {
    let (mut state, now) = half_done();
    let strip =
        |text: &str| [BOLD, RED, DIM, PLAIN].iter().fold(text.to_owned(), |t, e| t.replace(e, ""));
    for width in [5, 20, 80] {
        let coloured = render(&state, now, width, true);
        assert_eq!(strip(&coloured), render(&state, now, width, false));
        assert_eq!(coloured.matches('\x1b').count(), 2 * coloured.lines().count());
    }
    let failure = Failure { class: FailureClass::Program, reason: "it broke".into() };
    state.take(now, &event(Event::Failed(name(121), failure)));
    let block = render(&state, now, 80, true);
    assert!(block.starts_with("\x1b[1;31m[121/352]\x1b[0m 34%"), "{block:?}");
    assert!(block.contains("  12 reused  1 failed  0 local\n"), "{block:?}");
    assert!(line(&state).contains("12 reused, 1 failed, 0 local"), "{}", line(&state));
}

#[test]
fn hours_have_two_more_digits() {
    assert_eq!(clock(Duration::from_secs(59)), "0:00:59");
    assert_eq!(clock(Duration::from_secs(100 * 3600 + 61)), "100:01:01");
}
