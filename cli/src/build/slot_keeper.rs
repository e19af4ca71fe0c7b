//! Carries out what [`super::slots`] decides: tokens, the driver's slots, held commands.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mesh_node::driver::{Driver, Load};
use tokio::sync::{mpsc, oneshot, watch};

use super::jobserver::{Jobserver, Slot};
use super::slots::{Pid, Slots};

/// Events that may wait for the keeper before their senders do.
const EVENTS_MAX: usize = 1024;

#[derive(Debug)]
enum Event {
    Command(Pid, oneshot::Sender<()>),
    Gone(Pid),
    Waits(Pid),
    Waited(Pid),
    Ended,
}

/// A handle on the keeper of one build's slots.
#[derive(Clone, Debug)]
pub(crate) struct SlotKeeper {
    events: mpsc::Sender<Event>,
    busy: Arc<Mutex<Busy>>,
}

/// For how long commands have run that no model knows.
#[derive(Debug, Default)]
struct Busy {
    before: Duration,
    since: Option<Instant>,
}

impl Busy {
    fn total(&self) -> Duration {
        self.before + self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn update(&mut self, is_busy: bool) {
        if is_busy != self.since.is_some() {
            self.before = self.total();
            self.since = is_busy.then(Instant::now);
        }
    }
}

impl SlotKeeper {
    /// Starts the keeper on the current tokio runtime; it ends with its last handle.
    pub(crate) fn start(
        driver: Driver,
        jobserver: Jobserver,
        total: u32,
        has_clients: bool,
    ) -> Self {
        let (events, inbox) = mpsc::channel(EVENTS_MAX);
        let keeper = Keeper {
            load: driver.load(),
            driver,
            pipe: jobserver,
            tokens: Vec::new(),
            slots: Slots::new(total, has_clients),
            held: BTreeMap::new(),
            given: None,
            busy: Arc::default(),
        };
        let busy = Arc::clone(&keeper.busy);
        tokio::spawn(keeper.serve(inbox));
        Self { events, busy }
    }

    /// Time during which commands ran that no model knows, and did not wait for a thunk.
    pub(crate) fn busy(&self) -> Duration {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).total()
    }

    /// An unmodelled command is about to start: it is counted from now on, until
    /// [`SlotKeeper::gone`], and may start when the answer comes, or can come no more.
    pub(crate) async fn command(&self, pid: Pid) -> oneshot::Receiver<()> {
        let (go, may_go) = oneshot::channel();
        let _ = self.events.send(Event::Command(pid, go)).await;
        may_go
    }

    /// That process ended, or became a program that is not counted.
    pub(crate) async fn gone(&self, pid: Pid) {
        let _ = self.events.send(Event::Gone(pid)).await;
    }

    /// The same from a thread that may block.
    pub(crate) fn gone_blocking(&self, pid: Pid) {
        let _ = self.events.blocking_send(Event::Gone(pid));
    }

    /// That process begins to wait for a thunk.
    pub(crate) async fn waits(&self, pid: Pid) {
        let _ = self.events.send(Event::Waits(pid)).await;
    }

    /// It waits no more.
    pub(crate) async fn waited(&self, pid: Pid) {
        let _ = self.events.send(Event::Waited(pid)).await;
    }

    /// The build command has ended: thunks may use everything.
    pub(crate) async fn ended(&self) {
        let _ = self.events.send(Event::Ended).await;
    }
}

struct Keeper {
    driver: Driver,
    load: watch::Receiver<Load>,
    pipe: Jobserver,
    tokens: Vec<Slot>,
    slots: Slots,
    held: BTreeMap<Pid, oneshot::Sender<()>>,
    /// What the driver was told last.
    given: Option<u32>,
    busy: Arc<Mutex<Busy>>,
}

impl Keeper {
    async fn serve(mut self, mut inbox: mpsc::Receiver<Event>) {
        loop {
            self.settle().await;
            let wants_token = self.slots.tokens_wanted() > self.count();
            tokio::select! {
                event = inbox.recv() => match event {
                    Some(event) => self.on_event(event),
                    None => return,
                },
                changed = self.load.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                ready = self.pipe.readable(), if wants_token => {
                    match ready.and_then(|()| self.pipe.try_take()) {
                        Ok(token) => self.tokens.extend(token),
                        Err(_) => return,
                    }
                }
            }
        }
    }

    fn count(&self) -> u32 {
        u32::try_from(self.tokens.len()).unwrap_or(u32::MAX)
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Command(pid, go) => {
                self.held.insert(pid, go);
                self.slots.command(pid);
            }
            Event::Gone(pid) => {
                self.held.remove(&pid);
                self.slots.gone(pid);
            }
            Event::Waits(pid) => self.slots.waits(pid),
            Event::Waited(pid) => self.slots.waited(pid),
            Event::Ended => self.slots.end(),
        }
    }

    /// Gives back what is too much, and tells everybody what they may do.
    async fn settle(&mut self) {
        let load = *self.load.borrow_and_update();
        self.slots.load(load.running, load.wanted);
        self.tokens.truncate(self.slots.tokens_wanted() as usize);
        self.slots.tokens(self.count(), self.pipe.free());
        let slots = self.slots.for_thunks();
        if self.given != Some(slots) {
            self.given = Some(slots);
            self.driver.set_slots(slots).await;
        }
        while let Some(pid) = self.slots.release() {
            if let Some(go) = self.held.remove(&pid) {
                // Whoever waited may have been killed.
                let _ = go.send(());
            }
        }
        let is_busy = self.slots.is_busy();
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).update(is_busy);
    }
}
