//! What a person sees of a running build: a tally, and one closing line.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mesh_node::driver::{Progress, Watcher};
use mesh_protocol::limits;
use mesh_protocol::sched::force::Event;
use mesh_store::Store;
use std::io::Write;

/// Counts of one build.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) executed: u64,
    pub(crate) reused: u64,
    pub(crate) failed: u64,
    pub(crate) retried: u64,
    pub(crate) local: u64,
    pub(crate) cpu_us: u64,
}

/// Counts what a driver does; clones share the counts.
#[derive(Clone)]
pub(crate) struct Tally {
    counts: Arc<Mutex<Counts>>,
    started: Instant,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self { counts: Arc::default(), started: Instant::now() }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The counts as they are now.
    pub(crate) fn counts(&self) -> Counts {
        self.lock().clone()
    }

    /// A watcher that counts, and writes what failed steps wrote on standard error.
    pub(crate) fn watcher(&self, store: Store) -> Watcher {
        let tally = self.clone();
        Box::new(move |progress| tally.take(&store, progress))
    }

    fn take(&self, store: &Store, progress: Progress) {
        match progress {
            Progress::Event(Event::Reused(_)) => self.lock().reused += 1,
            Progress::Event(Event::Executed(_)) => self.lock().executed += 1,
            Progress::Event(Event::Retried(..)) => self.lock().retried += 1,
            Progress::Event(Event::Failed(name, failure)) => {
                self.lock().failed += 1;
                eprintln!("mesh: {name:?} failed: {}", failure.reason);
            }
            Progress::Event(Event::Needed(_)) | Progress::Started(..) => {}
            Progress::Ended(_, Ok(outcome)) => {
                self.lock().cpu_us += outcome.usage.cpu_us;
                let stderr = store.read(outcome.stderr.digest(), limits::STREAM_BYTES);
                // One write, so that the words of several steps never mix. Nobody to tell if it
                // fails: it is standard error itself.
                let _ = std::io::stderr().lock().write_all(&stderr.unwrap_or_default());
            }
            Progress::Ended(name, Err(reason)) => eprintln!("mesh: {name:?}: {reason}"),
        }
    }

    /// Time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// `352 thunks, 340 run, 12 reused, 0 local, 38.2 s`
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.counts();
        let done = counts.executed + counts.reused + counts.failed;
        let seconds = self.elapsed().as_secs_f64();
        let plural = if done == 1 { "" } else { "s" };
        write!(f, "{done} thunk{plural}, {} run, {} reused, ", counts.executed, counts.reused)?;
        if counts.failed > 0 {
            write!(f, "{} failed, ", counts.failed)?;
        }
        if counts.retried > 0 {
            write!(f, "{} retried, ", counts.retried)?;
        }
        write!(f, "{} local, {seconds:.1} s", counts.local)
    }
}

// ---- temporary
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verbosity {
    Quiet,
    Normal,
}
#[derive(Clone)]
pub(crate) struct Console {
    tally: Tally,
    local: Arc<Mutex<Vec<(Vec<String>, String)>>>,
}
#[derive(Debug)]
pub(crate) struct Summary {
    text: String,
    counts: Counts,
    local: Vec<(Vec<String>, String)>,
    elapsed: Duration,
}
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
impl Console {
    pub(crate) fn new(_: Verbosity) -> Self {
        Self { tally: Tally::new(), local: Arc::default() }
    }
    pub(crate) fn planned(&self, _: mesh_protocol::name::ThunkName, _: &str) {}
    pub(crate) fn reused(&self, _: mesh_protocol::name::ThunkName) {
        self.tally.lock().reused += 1;
    }
    pub(crate) fn local(&self, argv: &[String], reason: &str) {
        self.tally.lock().local += 1;
        self.local
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((argv.to_vec(), reason.to_owned()));
    }
    pub(crate) fn print(&self, bytes: &[u8]) {
        let _ = std::io::stderr().lock().write_all(bytes);
    }
    pub(crate) fn note(&self, text: impl fmt::Display) {
        eprintln!("mesh: {text}");
    }
    pub(crate) fn take(&self, progress: &Progress) {
        match progress {
            Progress::Event(Event::Reused(_)) => self.tally.lock().reused += 1,
            Progress::Event(Event::Executed(_)) => self.tally.lock().executed += 1,
            Progress::Event(Event::Retried(..)) => self.tally.lock().retried += 1,
            Progress::Event(Event::Failed(..)) => self.tally.lock().failed += 1,
            Progress::Ended(_, Ok(outcome)) => self.tally.lock().cpu_us += outcome.usage.cpu_us,
            _ => {}
        }
    }
    pub(crate) fn finish(&self) -> Summary {
        Summary {
            text: self.tally.to_string(),
            counts: self.tally.counts(),
            local: self.local.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            elapsed: self.tally.elapsed(),
        }
    }
}
pub(crate) struct Report(serde_json::Value);
impl Report {
    pub(crate) fn new(s: &Summary, infer: Duration, i: u64, o: u64) -> Self {
        let local: Vec<_> =
            s.local.iter().map(|(a, r)| serde_json::json!({"argv": a, "reason": r})).collect();
        Self(
            serde_json::json!({"thunks": s.counts.executed + s.counts.reused + s.counts.failed, "executed": s.counts.executed, "reused": s.counts.reused, "failed": s.counts.failed, "local": local, "wall_ms": s.elapsed.as_millis() as u64, "cpu_ms": s.counts.cpu_us / 1000, "infer_ms": infer.as_millis() as u64, "bytes_in": i, "bytes_out": o}),
        )
    }
    pub(crate) fn write(&self, path: &std::path::Path) -> Result<(), crate::error::CliError> {
        std::fs::write(path, self.0.to_string()).map_err(crate::error::CliError::io(path))
    }
}
