//! The thread that draws a block again and again.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

/// Time from one drawing of the block to the next.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// It draws as long as this lives, and as long as there is what it draws.
pub(super) struct Ticker {
    stop: mpsc::SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Ticker {
    /// `None`: a machine that has no thread left can do without the block.
    pub(super) fn start<T: Send + Sync + 'static>(drawn: &Arc<T>, draw: fn(&T)) -> Option<Self> {
        let (stop, stopped) = mpsc::sync_channel::<()>(0);
        let drawn = Arc::downgrade(drawn);
        let thread = std::thread::Builder::new().name("console".to_owned()).spawn(move || {
            while stopped.recv_timeout(DRAW_EVERY) == Err(RecvTimeoutError::Timeout) {
                let Some(drawn) = Weak::upgrade(&drawn) else { return };
                draw(&drawn);
            }
        });
        thread.ok().map(|thread| Self { stop, thread })
    }

    /// Comes back when nothing is drawn any more.
    pub(super) fn end(self) {
        drop(self.stop);
        // A panic of the drawing thread has been shown, and spoils nothing else.
        let _ = self.thread.join();
    }
}
