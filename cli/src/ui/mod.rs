//! What a person sees of a running build, and of a node ([`NodeConsole`]).
//!
//! [`Console`] owns standard error while a build runs. On a terminal it keeps a block of lines at
//! the end that tells what goes on; elsewhere it says a line of progress now and then. What is
//! known is counted in `state`, put into words by `render` as pure functions, and put on the
//! terminal by `screen`.

mod node_console;
mod render;
pub(crate) mod report;
mod screen;
mod serving;
mod state;
mod summary;
mod ticker;
pub(crate) mod trace;
mod trips;

use std::ffi::OsStr;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use mesh_node::driver::Progress;
use mesh_protocol::name::ThunkName;
use mesh_store::Store;

pub(crate) use node_console::NodeConsole;
use screen::Screen;
use state::State;
pub(crate) use state::describe;
pub(crate) use summary::Summary;
use ticker::Ticker;
use trace::Trace;

/// How much a person wants to hear.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verbosity {
    /// What programs write, and errors.
    Quiet,
    /// Progress and notes as well.
    Normal,
}

/// The owner of standard error during a run; clones share it.
#[derive(Clone)]
pub(crate) struct Console(Arc<Shared>);

/// What the stream can show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Mode {
    verbosity: Verbosity,
    /// Keep a block at the end?
    live: bool,
    colour: bool,
    /// Does standard output show on a terminal too?
    stdout: bool,
}

impl Mode {
    /// What the environment says that the stream can.
    fn of_environment(verbosity: Verbosity) -> Self {
        let variable = |name| std::env::var_os(name);
        Self::of(verbosity, variable("NO_COLOR").as_deref(), variable("TERM").as_deref())
    }

    fn of(verbosity: Verbosity, no_color: Option<&OsStr>, term: Option<&OsStr>) -> Self {
        let able = term.is_some_and(|term| !term.is_empty() && term != "dumb");
        Self {
            verbosity,
            live: able && verbosity == Verbosity::Normal,
            colour: able && no_color.is_none_or(OsStr::is_empty),
            stdout: false,
        }
    }
}

/// The state has a lock of its own, so that whoever tells what happened never waits for a terminal.
struct Shared {
    mode: Mode,
    state: Mutex<State>,
    screen: Mutex<Screen>,
    /// Programs that write to the terminal themselves; meanwhile there is no block.
    sharers: AtomicUsize,
    ticker: Mutex<Option<Ticker>>,
}

impl Console {
    pub(crate) fn new(verbosity: Verbosity) -> Self {
        let mode = Mode::of_environment(verbosity);
        let live = mode.live && io::stderr().is_terminal();
        let mode = Mode { live, stdout: io::stdout().is_terminal(), ..mode };
        let console = Self::with(mode, Box::new(io::stderr()));
        if live {
            console.start_ticker();
        }
        console
    }

    fn with(mode: Mode, out: Box<dyn Write + Send>) -> Self {
        Self(Arc::new(Shared {
            mode,
            state: Mutex::new(State::new(Instant::now())),
            screen: Mutex::new(Screen::new(out)),
            sharers: AtomicUsize::new(0),
            ticker: Mutex::new(None),
        }))
    }

    /// From now on, what runs is recorded, on so many cores of this machine.
    pub(crate) fn record(&self, slots: u32) {
        self.0.state().record(slots);
    }

    /// What was recorded, with what the store has of the trees in it.
    pub(crate) fn take_trace(&self, store: Option<&Store>) -> Option<Trace> {
        let mut trace = self.0.state().take_trace()?;
        if let Some(store) = store {
            trace.look_into_trees(store);
        }
        Some(trace)
    }

    /// Is there a live block on the terminal?
    pub(crate) fn is_live(&self) -> bool {
        self.0.mode.live
    }

    /// This thunk will be needed; the text is what people know it by, such as `cc src/a.c`.
    pub(crate) fn planned(&self, thunk: ThunkName, description: &str) {
        self.tell(|state, _| state.planned(thunk, description));
    }

    /// The memo had this thunk, and the driver was not asked.
    pub(crate) fn reused(&self, thunk: ThunkName) {
        self.tell(|state, now| state.reused(now, thunk));
    }

    /// This call ran locally.
    pub(crate) fn local(&self, argv: &[String], reason: &str) {
        self.tell(|state, now| state.local(now, argv, reason));
    }

    /// Counts what a driver tells. It waits for no terminal, and prints no words of programs.
    pub(crate) fn take(&self, progress: &Progress) {
        self.tell(|state, now| state.take(now, progress));
    }

    /// Writes to standard error what a program wrote, in one piece.
    pub(crate) fn print(&self, bytes: &[u8]) {
        self.0.screen().print(bytes);
    }

    /// Writes `mesh: …` on a line of its own.
    pub(crate) fn note(&self, text: impl Display) {
        if self.0.mode.verbosity == Verbosity::Normal {
            self.0.screen().print_line(&format!("mesh: {text}\n"));
        }
    }

    /// Lets `work` write whole lines to standard output without running into the block.
    pub(crate) fn aside<T>(&self, work: impl FnOnce() -> T) -> T {
        if self.0.mode.stdout { self.0.screen().aside(work) } else { work() }
    }

    /// Takes the block away as long as the result lives: another program may write to the same
    /// terminal at any time, and a block drawn again would erase its words. Progress is said in
    /// lines meanwhile.
    pub(crate) fn share(&self) -> Sharing {
        self.0.sharers.fetch_add(1, Ordering::SeqCst);
        self.0.screen().draw(String::new());
        Sharing(self.clone())
    }

    /// Takes the block away and says what the build came to.
    pub(crate) fn finish(&self) -> Summary {
        let ticker = lock(&self.0.ticker).take();
        ticker.into_iter().for_each(Ticker::end);
        self.0.say_news();
        self.0.screen().close();
        self.0.state().finish(Instant::now())
    }

    fn tell(&self, what: impl FnOnce(&mut State, Instant)) {
        let now = Instant::now();
        let shown = self.0.mode.live && !self.0.is_shared();
        let plain = !shown && self.0.mode.verbosity == Verbosity::Normal;
        let due: Vec<String> = {
            let mut state = self.0.state();
            what(&mut state, now);
            if plain {
                let news = state.take_news();
                news.into_iter().chain(state.line_due(now)).collect()
            } else {
                Vec::new()
            }
        };
        due.iter().for_each(|line| self.0.screen().print_line(line));
    }

    fn start_ticker(&self) {
        let draw = |shared: &Shared| shared.draw(Instant::now(), size());
        *lock(&self.0.ticker) = Ticker::start(&self.0, draw);
    }
}

/// The terminal is another program's too.
#[must_use]
pub(crate) struct Sharing(Console);

impl Drop for Sharing {
    fn drop(&mut self) {
        self.0.0.sharers.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Shared {
    fn is_shared(&self) -> bool {
        self.sharers.load(Ordering::SeqCst) > 0
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn screen(&self) -> MutexGuard<'_, Screen> {
        lock(&self.screen)
    }

    /// What came up since the block was last drawn goes above it.
    fn say_news(&self) {
        let news = self.state().take_news();
        if self.mode.verbosity == Verbosity::Normal {
            news.iter().for_each(|line| self.screen().print_line(line));
        }
    }

    fn draw(&self, now: Instant, (columns, rows): (usize, usize)) {
        self.say_news();
        let block = render::render(&self.state(), now, columns, self.mode.colour);
        let block = fitting(&block, rows);
        let mut screen = self.screen();
        // Asked only now: whoever shares the terminal takes away what was drawn before.
        if !self.is_shared() {
            screen.draw(block);
        }
    }
}

/// Whoever forgot to finish, or could not, still leaves the terminal in order.
impl Drop for Shared {
    fn drop(&mut self) {
        self.screen().close();
    }
}

/// A thread that panicked left counts that are at worst one behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What has left the screen at the top cannot be erased; the cursor's line needs room too.
fn fitting(block: &str, rows: usize) -> String {
    block.split_inclusive('\n').take(rows.saturating_sub(1)).collect()
}

/// Columns and rows of the terminal, which may change at any time.
fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(io::stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => (80, 24),
    }
}

#[cfg(test)]
mod tests;
