//! The words of progress, as pure functions of what is known and of the time.

use std::fmt::Write;
use std::time::{Duration, Instant};

use super::state::{Running, State};

/// Running steps that are shown.
pub(super) const STEPS_SHOWN: usize = 8;

pub(super) const BOLD: &str = "\x1b[1m";
pub(super) const RED: &str = "\x1b[1;31m";
pub(super) const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// The live block, lines that end in `\n` and take less than `width` columns; empty as long as
/// there is nothing to tell.
///
/// ```text
/// [120/352] 34%  1.9/s  ETA 0:02:01  12 reused  0 local
///   12.3s cc src/foo.c
/// ```
pub(super) fn render(state: &State, now: Instant, width: usize, colour: bool) -> String {
    let mut block = String::new();
    if state.total() == 0 && state.counts().local == 0 {
        return block;
    }
    let style = if state.counts().failed > 0 { RED } else { BOLD };
    push_line(&mut block, &fraction(state), &status(state, now), width, colour.then_some(style));
    for Running { since, description, .. } in state.running().iter().take(STEPS_SHOWN) {
        let age = format!("{:>6.1}s", now.saturating_duration_since(*since).as_secs_f64());
        let rest = format!(" {description}");
        push_line(&mut block, &age, &rest, width, colour.then_some(DIM));
    }
    block
}

/// Progress as one plain line: `mesh: [120/352] 34 %, 2 running, 12 reused, 0 local`
pub(super) fn line(state: &State) -> String {
    let counts = state.counts();
    let mut line = format!("mesh: {} {} %, ", fraction(state), percent(state));
    let _ = write!(line, "{} running, {} reused, ", state.running().len(), counts.reused);
    if counts.failed > 0 {
        let _ = write!(line, "{} failed, ", counts.failed);
    }
    let _ = writeln!(line, "{} local", counts.local);
    line
}

fn fraction(state: &State) -> String {
    format!("[{}/{}]", state.counts().thunks, state.total())
}

fn percent(state: &State) -> u64 {
    (state.counts().thunks * 100).checked_div(state.total()).unwrap_or(0)
}

fn status(state: &State, now: Instant) -> String {
    let counts = state.counts();
    let mut text = format!(" {}%", percent(state));
    if let Some(rate) = state.rate(now) {
        let rest = state.total().saturating_sub(counts.thunks);
        let seconds = (rest as f64 / rate).round() as u64;
        let _ = write!(text, "  {rate:.1}/s  ETA {}", clock(Duration::from_secs(seconds)));
    }
    let _ = write!(text, "  {} reused", counts.reused);
    if counts.failed > 0 {
        let _ = write!(text, "  {} failed", counts.failed);
    }
    let _ = write!(text, "  {} local", counts.local);
    text
}

/// `0:02:01`
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Adds `head` (which may have a style) and `rest`, cut to fit.
pub(super) fn push_line(
    block: &mut String,
    head: &str,
    rest: &str,
    width: usize,
    style: Option<&str>,
) {
    // Some terminals wrap when the last column is written: it stays empty.
    let room = width.saturating_sub(1);
    let shown = cut(head, room);
    match style {
        Some(style) => block.extend([style, shown, PLAIN]),
        None => block.push_str(shown),
    }
    block.push_str(cut(rest, room - columns(shown)));
    block.push('\n');
}

/// As much of the text as surely fits.
fn cut(text: &str, room: usize) -> &str {
    let mut used = 0;
    let end = text.char_indices().find(|(_, c)| {
        used += columns_of(*c);
        used > room
    });
    &text[..end.map_or(text.len(), |(at, _)| at)]
}

fn columns(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

/// The most columns a character takes: a line that is cut too short does no harm, one that wraps
/// spoils the block.
fn columns_of(c: char) -> usize {
    if c.is_ascii() { 1 } else { 2 }
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
