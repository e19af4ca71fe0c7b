//! What a person sees of a node that runs in the foreground.
//!
//! On a terminal, a block at its end tells what runs for whom, and lines go above it. Whoever tells
//! what happened never waits for the terminal: the thread that draws does. Elsewhere there are lines alone.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use mesh_node::api::Heard;

use super::screen::Screen;
use super::serving::{Serving, render};
use super::ticker::Ticker;
use super::{Mode, Verbosity, fitting, lock, size};

/// The owner of standard error while a node runs; clones share it.
#[derive(Clone)]
pub(crate) struct NodeConsole(Arc<Shared>);

struct Shared {
    live: bool,
    colour: bool,
    serving: Mutex<Serving>,
    screen: Mutex<Screen>,
    ticker: Mutex<Option<Ticker>>,
}

impl NodeConsole {
    pub(crate) fn new() -> Self {
        let mode = Mode::of_environment(Verbosity::Normal);
        let mode = Mode { live: mode.live && io::stderr().is_terminal(), ..mode };
        let console = Self::with(mode, Box::new(io::stderr()));
        if mode.live {
            *lock(&console.0.ticker) = Ticker::start(&console.0, Shared::draw_now);
        }
        console
    }

    /// Lines alone, to this.
    pub(crate) fn of_lines(out: Box<dyn Write + Send>) -> Self {
        let mode = Mode::of_environment(Verbosity::Normal);
        Self::with(Mode { live: false, ..mode }, out)
    }

    fn with(mode: Mode, out: Box<dyn Write + Send>) -> Self {
        Self(Arc::new(Shared {
            live: mode.live,
            colour: mode.colour,
            serving: Mutex::default(),
            screen: Mutex::new(Screen::new(out)),
            ticker: Mutex::new(None),
        }))
    }

    /// Is what runs shown in a block, so that it needs no lines?
    pub(crate) fn is_live(&self) -> bool {
        self.0.live
    }

    /// Counts what happened.
    pub(crate) fn take(&self, heard: &Heard) {
        if self.0.live {
            lock(&self.0.serving).take(Instant::now(), heard);
        }
    }

    /// Writes a line. Whoever read it may have gone; the node goes on.
    pub(crate) fn say(&self, line: &str) {
        let line = format!("{line}\n");
        match self.0.live {
            true => lock(&self.0.serving).say(line),
            false => lock(&self.0.screen).print_line(&line),
        }
    }

    /// Takes the block away for good; what is said later is written at once.
    pub(crate) fn finish(&self) {
        let ticker = lock(&self.0.ticker).take();
        ticker.into_iter().for_each(Ticker::end);
        self.0.say_news();
        lock(&self.0.screen).close();
    }
}

impl Shared {
    fn draw_now(&self) {
        self.draw(Instant::now(), size());
    }

    fn draw(&self, now: Instant, (columns, rows): (usize, usize)) {
        self.say_news();
        let block = render(&lock(&self.serving), now, columns, self.colour);
        lock(&self.screen).draw(fitting(&block, rows));
    }

    fn say_news(&self) {
        let news = lock(&self.serving).take_news();
        news.iter().for_each(|line| lock(&self.screen).print_line(line));
    }
}

/// Also who forgot to finish leaves the terminal in order.
impl Drop for Shared {
    fn drop(&mut self) {
        self.say_news();
        lock(&self.screen).close();
    }
}

#[cfg(test)]
mod tests {
    use super::super::screen::tests::Writes;
    use super::*;
    use mesh_protocol::owner::Reason;

    const PLAIN: Mode =
        Mode { verbosity: Verbosity::Normal, live: false, colour: false, stdout: false };

    fn console(live: bool) -> (NodeConsole, Writes) {
        let writes = Writes::default();
        (NodeConsole::with(Mode { live, ..PLAIN }, Box::new(writes.clone())), writes)
    }

    #[test]
    fn lines_wait_for_the_next_drawing_and_go_above_the_block() {
        let (console, writes) = console(true);
        console.0.draw(Instant::now(), (100, 24));
        let block = "0 running for others  0 done  0 members here\n";
        assert_eq!(writes.take(), [block]);
        console.say("mesh: lab is there");
        console.take(&Heard::Held(Some(Reason::Paused)));
        assert!(writes.take().is_empty(), "nobody waited for the terminal");
        console.0.draw(Instant::now(), (100, 24));
        let up = "\r\x1b[1A\x1b[J";
        let held = block.replace("  0 done", "  gives nothing: paused by its owner  0 done");
        let expected = [format!("{up}mesh: lab is there\n{block}"), format!("{up}{held}")];
        assert_eq!(writes.take(), expected);
        console.say("mesh: ending");
        console.finish();
        assert_eq!(writes.take(), [format!("{up}mesh: ending\n{held}"), up.to_owned()]);
    }

    #[test]
    fn without_a_terminal_there_are_lines_alone() {
        let (console, writes) = console(false);
        console.take(&Heard::Held(Some(Reason::Paused)));
        console.say("mesh: lab is there");
        assert_eq!(writes.take(), ["mesh: lab is there\n"]);
        console.finish();
        assert!(writes.take().is_empty());
    }
}
