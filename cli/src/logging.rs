//! The log: what `tracing` tells, on standard error, where a filter asks for it.
//!
//! Whoever logs never waits for the terminal, file or pipe that standard error is: lines go to a
//! thread of their own through a bounded queue, and what does not fit is counted and said later.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::Setting;
use crate::error::CliError;
use crate::exit;

/// Overrides the config file's `log`.
pub(crate) const VARIABLE: &str = "MESH_LOG";

/// What a filter looks like, for people.
pub(crate) const FILTER_FORM: &str = "off, error, warn, info, debug or trace, and TARGET=LEVEL for parts of mesh, with commas between: \
     \"info,mesh_node::net=debug\"";

/// Lines that wait to be written.
const LINES_MAX: usize = 1024;

/// How long the last lines may take to be written when the process ends.
const FLUSH: Duration = Duration::from_secs(1);

/// Reads a filter. A word that is no level would name a target: that is a mistyped level.
pub(crate) fn filter(text: &str) -> Option<Targets> {
    // It takes nothing and numbers as well.
    let is_level = |word: &str| {
        word.parse::<LevelFilter>().is_ok() && word.starts_with(|c: char| c.is_ascii_alphabetic())
    };
    let is_target = |word: &str| {
        !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "_:".contains(c))
    };
    let is_good = |part: &str| match part.split_once('=') {
        Some((target, level)) => is_target(target) && is_level(level),
        None => is_level(part),
    };
    text.split(',').all(is_good).then(|| text.parse().ok()).flatten()
}

/// Reads what is in effect.
pub(crate) fn parse(setting: &Setting<String>) -> Result<Targets, CliError> {
    filter(&setting.value).ok_or_else(|| {
        let text = format!("{}: {:?}; allowed: {FILTER_FORM}", setting.origin, setting.value);
        CliError::new(exit::USAGE, text)
    })
}

/// The log of this process. What waits is written when it is dropped.
pub(crate) struct Log {
    /// None: nothing is logged.
    done: Option<Receiver<()>>,
    queue: Queue,
}

/// Starts it. `write` gets whole lines, on a thread of its own.
pub(crate) fn start(filter: &Targets, write: impl Fn(&str) + Send + 'static) -> Log {
    let (queue, lines) = Queue::new();
    let off = Log { done: None, queue: queue.clone() };
    if filter.iter().next().is_none() && filter.default_level() == Some(LevelFilter::OFF) {
        return off;
    }
    let (tell, done) = sync_channel(1);
    let missed = Arc::clone(&queue.missed);
    let writing = std::thread::Builder::new().name("log".to_owned()).spawn(move || {
        for line in lines {
            let Some(line) = line else { break };
            match missed.swap(0, Ordering::Relaxed) {
                0 => {}
                count => write(&format!("mesh: {count} lines of the log were lost here\n")),
            }
            write(&line);
        }
        let _ = tell.send(());
    });
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(queue.clone());
    let subscriber = tracing_subscriber::registry().with(layer).with(filter.clone());
    match (writing, subscriber.try_init()) {
        (Ok(_), Ok(())) => Log { done: Some(done), queue },
        _ => off,
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Some(done) = &self.done
            && self.queue.lines.try_send(None).is_ok()
        {
            // Nobody may read what we write.
            let _ = done.recv_timeout(FLUSH);
        }
    }
}

/// Where lines wait; `None` ends the thread that writes them.
#[derive(Clone)]
struct Queue {
    lines: SyncSender<Option<String>>,
    missed: Arc<AtomicU64>,
}

impl Queue {
    fn new() -> (Self, Receiver<Option<String>>) {
        let (lines, waiting) = sync_channel(LINES_MAX);
        (Self { lines, missed: Arc::default() }, waiting)
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = &'a Queue;

    fn make_writer(&'a self) -> &'a Queue {
        self
    }
}

/// Each write is one line: the layer formats an event before it writes.
impl Write for &Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.lines.try_send(Some(String::from_utf8_lossy(line).into_owned())).is_err() {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_levels_and_targets() {
        for good in ["off", "info", "WARN", "info,mesh_node=debug", "mesh_node::net::swarm=trace"] {
            assert!(filter(good).is_some(), "{good}");
        }
        for bad in ["", "inof", "info,", "mesh_node", "=debug", "mesh_node=loud", "a b=info"] {
            assert!(filter(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn what_does_not_fit_is_counted_and_nobody_waits() {
        let (queue, waiting) = Queue::new();
        for _ in 0..LINES_MAX + 3 {
            assert_eq!((&queue).write(b"a line\n").unwrap(), 7);
        }
        assert_eq!(queue.missed.load(Ordering::Relaxed), 3);
        assert_eq!(waiting.try_iter().count(), LINES_MAX);
    }
}
