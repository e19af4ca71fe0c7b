//! What is known of a running build, counted by tool calls.
//!
//! A tool call is one thunk to the person who waits for it, but the force machine may know it by
//! two names: as it was written, and, once its dependencies are values, as the thunk that stands
//! for it. Each name therefore carries *shares*: how many tool calls will be done when it is. A
//! substitution moves them to the other name. When that ends, one share ends as it did, and the
//! others, which wanted the same and ran nothing, were reused.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_node::claims::{News, Trip};
use mesh_node::driver::Progress;
use mesh_protocol::name::ThunkName;
use mesh_protocol::peer::PeerId;
use mesh_protocol::sched::force::Event;
use mesh_protocol::thunk::Thunk;

use super::summary::{LocalCall, Retry, Summary};
use super::trace::Trace;

/// Local calls that are kept with their words; all are counted.
const CALLS_KEPT: usize = 10_000;
/// Bytes of their words that are kept: link lines can be very long.
const CALLS_KEPT_BYTES: usize = 16 * 1024 * 1024;
/// Reasons of retries that are kept; all retries are counted.
const RETRIES_KEPT: usize = 20;
/// Characters of a description: more than a terminal is wide.
const DESCRIPTION_CHARS: usize = 400;
/// How often progress is said where it cannot be shown.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// How a thunk ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Executed,
    Reused,
    Failed,
}

/// What is known under one name.
#[derive(Default)]
struct Entry {
    /// Tool calls that are done when this is.
    shares: u64,
    /// Somebody asked for it by this name, and was counted.
    asked: bool,
    end: Option<End>,
    description: Option<Arc<str>>,
}

/// A run under way.
pub(super) struct Running {
    name: ThunkName,
    pub(super) since: Instant,
    pub(super) description: Arc<str>,
}

/// A build as far as it is known.
pub(super) struct State {
    started: Instant,
    finished: Option<Instant>,
    /// When progress was last said.
    said: Instant,
    /// When the first run began: before, there is no rate.
    first_run: Option<Instant>,
    entries: HashMap<ThunkName, Entry>,
    running: Vec<Running>,
    /// What other members knew, and who ran it.
    learned: HashMap<ThunkName, Option<PeerId>>,
    total: u64,
    summary: Summary,
    calls_bytes: usize,
    trace: Option<Trace>,
    news: Vec<String>,
}

impl State {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            started: now,
            finished: None,
            said: now,
            first_run: None,
            entries: HashMap::new(),
            running: Vec::new(),
            learned: HashMap::new(),
            total: 0,
            summary: Summary::default(),
            calls_bytes: 0,
            trace: None,
            news: Vec::new(),
        }
    }

    /// From now on, what runs is recorded.
    pub(super) fn record(&mut self, slots: u32) {
        self.trace = Some(Trace::new(self.started, slots));
    }

    /// What was recorded; nothing is from now on.
    pub(super) fn take_trace(&mut self) -> Option<Trace> {
        self.trace.take()
    }

    /// Tool calls that were planned or are needed.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// The counts so far; the time only once the build is finished.
    pub(super) fn counts(&self) -> &Summary {
        &self.summary
    }

    /// Runs under way, the oldest first.
    pub(super) fn running(&self) -> &[Running] {
        &self.running
    }

    /// Runs that ended, per second; none before the first.
    pub(super) fn rate(&self, now: Instant) -> Option<f64> {
        let seconds = now.saturating_duration_since(self.first_run?).as_secs_f64();
        let ended = self.summary.executed + self.summary.failed;
        (ended > 0 && seconds > 0.0).then(|| ended as f64 / seconds)
    }

    pub(super) fn planned(&mut self, name: ThunkName, description: &str) {
        self.ask(name);
        let entry = self.entries.entry(name).or_default();
        if entry.end.is_none() {
            entry.description = Some(printable(description).into());
        }
    }

    pub(super) fn reused(&mut self, now: Instant, name: ThunkName) {
        if let Some(trace) = &mut self.trace {
            trace.reused(now, name);
        }
        // One that was begun meanwhile is stopped.
        self.running.retain(|running| running.name != name);
        if let Some(by) = self.learned.remove(&name) {
            *self.summary.learned.entry(by).or_default() += 1;
        }
        self.end(name, End::Reused);
    }

    pub(super) fn local(&mut self, now: Instant, argv: &[String], reason: &str) {
        if let Some(trace) = &mut self.trace {
            trace.local(now, argv, reason);
        }
        self.summary.local += 1;
        let bytes = argv.iter().map(String::len).sum::<usize>() + reason.len();
        let room = self.calls_bytes + bytes <= CALLS_KEPT_BYTES;
        if room && self.summary.calls.len() < CALLS_KEPT {
            self.calls_bytes += bytes;
            let call = LocalCall { argv: argv.to_vec(), reason: reason.to_owned() };
            self.summary.calls.push(call);
        }
    }

    pub(super) fn take(&mut self, now: Instant, progress: &Progress) {
        match progress {
            Progress::Started(name, thunk) => self.start(now, *name, thunk),
            Progress::Ended(name, outcome) => {
                if let Some(at) = self.running.iter().position(|running| running.name == *name) {
                    self.running.remove(at);
                }
                self.summary.cpu_us += outcome.as_ref().map_or(0, |outcome| outcome.usage.cpu_us);
                if let Some(trace) = &mut self.trace {
                    trace.ended(now, *name, outcome.as_ref().map_err(String::as_str));
                }
            }
            Progress::Event(event) => self.event(now, event),
            Progress::News(news) => self.mesh(news),
            Progress::Learned(name, by) => drop(self.learned.insert(*name, *by)),
            Progress::FellBack(_, reason) => self.retry(reason),
            Progress::Alone => {
                self.news.push("mesh: the node of this home is gone; going on alone\n".to_owned());
            }
        }
    }

    fn mesh(&mut self, news: &News) {
        match news {
            News::Ran { thunk, at, busy_us, trip } => {
                self.note_elsewhere(*thunk, *at, *trip);
                let share = self.summary.shares.entry(*at).or_default();
                share.executed += 1;
                share.busy_us += busy_us;
            }
            News::PutBack { thunk, at, reason } => {
                self.note_elsewhere(*thunk, *at, None);
                self.retry(reason);
            }
            News::Speculated(_) => self.summary.speculated += 1,
            News::Checked(_) => self.summary.checked += 1,
            News::Wasted(_, us) => self.summary.wasted_us += us,
        }
    }

    fn note_elsewhere(&mut self, thunk: ThunkName, at: Option<PeerId>, trip: Option<Trip>) {
        if let (Some(trace), Some(at)) = (&mut self.trace, at) {
            trace.elsewhere(thunk, at, trip);
        }
    }

    /// Lines that are to be said, each once.
    pub(super) fn take_news(&mut self) -> Vec<String> {
        std::mem::take(&mut self.news)
    }

    /// The line of progress, if it is time to say it again.
    pub(super) fn line_due(&mut self, now: Instant) -> Option<String> {
        let silent = now.saturating_duration_since(self.said) < LINE_EVERY;
        if silent || self.finished.is_some() {
            return None;
        }
        self.said = now;
        Some(super::render::line(self))
    }

    /// Ends the build's time; the first call decides.
    pub(super) fn finish(&mut self, now: Instant) -> Summary {
        let end = *self.finished.get_or_insert(now);
        self.summary.elapsed = end.saturating_duration_since(self.started);
        self.summary.clone()
    }

    fn event(&mut self, now: Instant, event: &Event) {
        if let (Event::Needed(name) | Event::Substituted(_, name), Some(trace)) =
            (event, &mut self.trace)
        {
            trace.ready(now, *name);
        }
        match event {
            Event::Needed(name) => self.need(*name),
            Event::Substituted(name, by) => self.substitute(*name, *by),
            Event::Reused(name) => self.reused(now, *name),
            Event::Executed(name) => self.end(*name, End::Executed),
            Event::Failed(name, _) => self.end(*name, End::Failed),
            Event::Retried(_, failure) => self.retry(&failure.reason),
        }
    }

    fn retry(&mut self, reason: &str) {
        self.summary.retried += 1;
        let retries = &mut self.summary.retries;
        if let Some(known) = retries.iter_mut().find(|known| known.reason == reason) {
            known.count += 1;
        } else if retries.len() < RETRIES_KEPT {
            retries.push(Retry { reason: reason.to_owned(), count: 1 });
            self.news.push(format!("mesh: {reason}; it is tried again\n"));
        }
    }

    fn start(&mut self, now: Instant, name: ThunkName, thunk: &Thunk) {
        self.need(name);
        self.first_run.get_or_insert(now);
        let known = self.entries.get(&name).and_then(|entry| entry.description.clone());
        let description = known.unwrap_or_else(|| describe(name, thunk).into());
        if let Some(trace) = &mut self.trace {
            trace.started(now, name, thunk, description.clone());
        }
        self.running.push(Running { name, since: now, description });
    }

    /// The machine needs it: somebody asked for it, unless it stands for what somebody asked for.
    fn need(&mut self, name: ThunkName) {
        if !self.entries.contains_key(&name) {
            self.ask(name);
        }
    }

    /// Somebody asked for it by this name: one tool call, however often.
    fn ask(&mut self, name: ThunkName) {
        let entry = self.entries.entry(name).or_default();
        if !entry.asked {
            entry.asked = true;
            self.total += 1;
            self.share(name, 1);
        }
    }

    fn substitute(&mut self, name: ThunkName, by: ThunkName) {
        self.need(name);
        let Some(entry) = self.entries.get_mut(&name) else { return };
        let (shares, description) = (std::mem::take(&mut entry.shares), entry.description.take());
        let other = self.entries.entry(by).or_default();
        if other.end.is_none() && other.description.is_none() {
            other.description = description;
        }
        self.share(by, shares);
    }

    /// So many more tool calls are done when `name` is, or already are.
    fn share(&mut self, name: ThunkName, shares: u64) {
        let entry = self.entries.entry(name).or_default();
        match entry.end {
            None => entry.shares += shares,
            Some(end) => self.count(end, 0, shares),
        }
    }

    fn end(&mut self, name: ThunkName, end: End) {
        self.need(name);
        let Some(entry) = self.entries.get_mut(&name) else { return };
        if entry.end.is_none() {
            entry.end = Some(end);
            entry.description = None;
            let shares = std::mem::take(&mut entry.shares);
            let first = shares.min(1);
            self.count(end, first, shares - first);
        }
    }

    fn count(&mut self, end: End, first: u64, others: u64) {
        let counts = &mut self.summary;
        counts.thunks += first + others;
        match end {
            End::Executed => {
                counts.executed += first;
                counts.reused += others;
            }
            End::Reused => counts.reused += first + others,
            End::Failed => counts.failed += first + others,
        }
    }
}

/// What a thunk does, where nobody said it: its command line.
pub(crate) fn describe(name: ThunkName, thunk: &Thunk) -> String {
    let mut line = String::new();
    for argument in &thunk.spec().function.arguments {
        if line.len() > DESCRIPTION_CHARS {
            break;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(argument.chars().take(DESCRIPTION_CHARS));
    }
    let line = printable(&line);
    if line.trim().is_empty() { format!("{name:?}") } else { line }
}

/// The text on one line, without anything that a terminal would obey.
fn printable(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(DESCRIPTION_CHARS).map(plain).collect()
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
