//! The console as its users see it, without a terminal.

use super::screen::tests::Writes;
use super::*;

const PLAIN: Mode =
    Mode { verbosity: Verbosity::Normal, live: false, colour: false, stdout: false };

fn console(mode: Mode) -> (Console, Writes) {
    let writes = Writes::default();
    (Console::with(mode, Box::new(writes.clone())), writes)
}

fn name(number: u32) -> ThunkName {
    ThunkName::of(&number.to_le_bytes())
}

#[test]
fn what_a_stream_can_show() {
    let of = |verbosity, no_color: Option<&str>, term: Option<&str>| {
        let mode = Mode::of(verbosity, no_color.map(OsStr::new), term.map(OsStr::new));
        (mode.live, mode.colour)
    };
    let normal = Verbosity::Normal;
    assert_eq!(of(normal, None, Some("xterm")), (true, true));
    assert_eq!(of(normal, Some(""), Some("xterm")), (true, true));
    assert_eq!(of(normal, Some("0"), Some("xterm")), (true, false));
    assert_eq!(of(normal, None, Some("dumb")), (false, false));
    assert_eq!(of(normal, None, None), (false, false));
    assert_eq!(of(Verbosity::Quiet, None, Some("xterm")), (false, true));
}

#[test]
fn quiet_keeps_the_words_of_programs_only() {
    let (console, writes) = console(Mode { verbosity: Verbosity::Quiet, ..PLAIN });
    console.planned(name(1), "cc a.c");
    console.note("not to be seen");
    console.print(b"a.c:1: error\n");
    console.finish();
    assert_eq!(writes.take(), ["a.c:1: error\n"]);
}

#[test]
fn many_threads_count_and_print_without_mixing() {
    let (console, writes) = console(PLAIN);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let console = console.clone();
            scope.spawn(move || {
                for number in 0..100 {
                    console.planned(name(thread * 100 + number), "cc a.c");
                    console.reused(name(thread * 100 + number));
                    console.print(format!("{thread} {number}\n").as_bytes());
                }
            });
        }
    });
    console.local(&["sed".to_owned()], "no model");
    let summary = console.finish();
    assert_eq!((summary.thunks, summary.reused, summary.local), (400, 400, 1));
    assert_eq!(summary.calls.len(), 1);
    let lines = writes.take();
    assert_eq!(lines.len(), 400);
    assert!(lines.iter().all(|line| line.ends_with('\n') && line.matches('\n').count() == 1));
}

#[test]
fn a_block_fits_the_terminal_it_finds_each_time() {
    let (console, writes) = console(Mode { live: true, ..PLAIN });
    let now = Instant::now();
    console.planned(name(1), "cc a.c");
    console.0.draw(now, (80, 24));
    console.0.draw(now, (10, 24));
    console.0.draw(now, (80, 1));
    let up = "\r\x1b[1A\x1b[J";
    let whole = "[0/1] 0%  0 reused  0 local\n".to_owned();
    assert_eq!(writes.take(), [whole, format!("{up}[0/1] 0% \n"), up.to_owned()]);
}

#[test]
fn there_is_no_block_while_another_program_writes_to_the_terminal() {
    let (console, writes) = console(Mode { live: true, ..PLAIN });
    let draw = || console.0.draw(Instant::now(), (80, 24));
    console.planned(name(1), "cc a.c");
    draw();
    let block = "[0/1] 0%  0 reused  0 local\n";
    let (one, two) = (console.share(), console.share());
    draw();
    drop(one);
    draw();
    assert_eq!(writes.take(), [block, "\r\x1b[1A\x1b[J"]);
    console.print(b"warning\n");
    drop(two);
    draw();
    assert_eq!(writes.take(), ["warning\n", block]);
}

#[test]
fn the_block_is_taken_away_by_the_last_owner_or_by_finish() {
    let (console, writes) = console(Mode { live: true, ..PLAIN });
    console.planned(name(1), "cc a.c");
    console.0.draw(Instant::now(), (80, 24));
    writes.take();
    drop(console.clone());
    assert!(writes.take().is_empty());
    drop(console);
    assert_eq!(writes.take(), ["\r\x1b[1A\x1b[J"]);
}

#[test]
fn the_drawing_thread_ends_with_the_console() {
    let (console, _) = console(Mode { live: true, ..PLAIN });
    console.start_ticker();
    console.finish();
    assert!(lock(&console.0.ticker).is_none());
    assert_eq!(Arc::weak_count(&console.0), 0, "the thread has let go");
}
