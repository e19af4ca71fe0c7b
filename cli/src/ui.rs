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
            Progress::Event(Event::Needed(_) | Event::Substituted(..)) | Progress::Started(..) => {}
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
