//! Runs that a mesh places, and what is left of them for this process to run itself.
//!
//! What fails on another machine is tried once more here, whoever is to blame: a build that worked
//! without a mesh works with one, and of what fails after all everything that it said is known. What
//! nobody comes for runs here too.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use mesh_protocol::limits;
use mesh_protocol::name::ThunkName;
use mesh_protocol::sched::force::{FailureClass, RunId};
use mesh_protocol::sched::level::Level;
use mesh_protocol::thunk::Thunk;
use tokio::time::Instant;

use super::Load;
use super::runner::{Happened, Own};
use crate::claims::client::{Client, FromMesh, ToMesh};
use crate::deadline::sleep_until;
use crate::exec::Engine;

/// How long ready thunks wait for somebody to come for one.
const PATIENCE: Duration = Duration::from_micros(limits::NOBODY_COMES_US);

/// What a driver has beside the mesh.
pub(super) struct Beside {
    pub(super) engine: Arc<dyn Engine>,
    /// Nothing runs on this machine as long as others can.
    pub(super) elsewhere: bool,
}

pub(super) struct Remote {
    client: Client,
    /// What the mesh is told waits here until it has room: it may wait for us, so we must not
    /// wait for it.
    outbox: VecDeque<ToMesh>,
    runs: BTreeMap<RunId, (ThunkName, Arc<Thunk>)>,
    thunks: BTreeMap<ThunkName, Arc<Thunk>>,
    /// Those that somebody runs.
    begun: BTreeSet<ThunkName>,
    /// Those that ended, with an outcome, on this machine's node.
    ended_here: BTreeSet<ThunkName>,
    slots: u32,
    /// When something was last begun, or there was nothing to begin.
    moved: Instant,
    here: Option<Here>,
}

/// What this process runs itself, as far as it has slots; one at a time if it has none.
struct Here {
    own: Own,
    elsewhere: bool,
    waiting: VecDeque<RunId>,
    running: BTreeSet<RunId>,
}

/// What may happen next.
enum Next {
    Told(Option<FromMesh>),
    Load(Load),
    Ran(Happened),
    Nobody,
    Sent(bool),
}

impl Remote {
    pub(super) fn new(client: Client, beside: Option<Beside>) -> Self {
        let here = beside.map(|Beside { engine, elsewhere }| Here {
            own: Own::new(engine),
            elsewhere,
            waiting: VecDeque::new(),
            running: BTreeSet::new(),
        });
        Self {
            client,
            outbox: VecDeque::new(),
            runs: BTreeMap::new(),
            thunks: BTreeMap::new(),
            begun: BTreeSet::new(),
            ended_here: BTreeSet::new(),
            slots: 0,
            moved: Instant::now(),
            here,
        }
    }

    pub(super) fn start(&mut self, run: RunId, name: ThunkName, thunk: Arc<Thunk>, level: Level) {
        if self.runs.is_empty() {
            self.moved = Instant::now();
        }
        self.runs.insert(run, (name, Arc::clone(&thunk)));
        self.thunks.insert(name, Arc::clone(&thunk));
        self.outbox.push_back(ToMesh::Ready { run, name, thunk, level });
    }

    pub(super) fn levels(&mut self, levels: Vec<(RunId, Level)>) {
        self.outbox.push_back(ToMesh::Levels(levels));
    }

    pub(super) fn recall(&mut self, name: ThunkName) {
        self.outbox.push_back(ToMesh::Recall(name));
    }

    pub(super) fn stop(&mut self, run: RunId) {
        let is_here = self.here.as_mut().is_some_and(|here| here.stop(run));
        self.forget(run);
        if !is_here {
            self.outbox.push_back(ToMesh::Stop(run));
        }
    }

    pub(super) fn set_slots(&mut self, slots: u32) {
        self.slots = slots;
        let elsewhere = self.here.as_ref().is_some_and(|here| here.elsewhere);
        self.outbox.push_back(ToMesh::Slots(if elsewhere { 0 } else { slots }));
    }

    /// The engine that is left when the mesh is gone; nothing runs on it.
    pub(super) fn take_own(&mut self) -> Option<Own> {
        let mut here = self.here.take()?;
        here.running.iter().for_each(|run| here.own.stop(*run));
        Some(here.own)
    }

    /// Cancel-safe: what has not been given is given the next time.
    pub(super) async fn next(&mut self) -> Happened {
        loop {
            let next = self.select().await;
            if let Some(happened) = self.on_next(next) {
                return happened;
            }
        }
    }

    async fn select(&mut self) -> Next {
        let nobody = self.nobody_comes();
        let Client { told, line, load } = &mut self.client;
        let (outbox, here) = (&mut self.outbox, &mut self.here);
        tokio::select! {
            told = told.recv() => Next::Told(told),
            load = changed(load) => Next::Load(load),
            room = line.room(), if !outbox.is_empty() => {
                let has_room = room.is_some();
                if let (Some(room), Some(message)) = (room, outbox.pop_front()) {
                    room.send(message);
                }
                Next::Sent(has_room)
            }
            ran = ran(here) => Next::Ran(ran),
            () = nobody => Next::Nobody,
        }
    }

    /// Resolves when ready thunks have waited for too long.
    fn nobody_comes(&self) -> impl Future<Output = ()> + use<> {
        let waits = self.runs.len() > self.here.as_ref().map_or(0, Here::count);
        let bound = self.slots.max(1) as usize;
        let has_room = self.here.as_ref().is_some_and(|here| here.count() < bound);
        let due = (waits && has_room && self.begun.is_empty()).then(|| self.moved + PATIENCE);
        sleep_until(due)
    }

    fn on_next(&mut self, next: Next) -> Option<Happened> {
        match next {
            Next::Told(None) | Next::Sent(false) => Some(Happened::Gone),
            Next::Told(Some(told)) => self.on_told(told),
            Next::Load(load) => Some(Happened::Load(self.load(load))),
            Next::Sent(true) => None,
            Next::Ran(Happened::Ran(run, name, end)) => {
                self.forget(run);
                if let Some(here) = &mut self.here {
                    here.running.remove(&run);
                }
                self.start_here();
                Some(Happened::Ran(run, name, end))
            }
            Next::Ran(other) => Some(other),
            Next::Nobody => self.on_nobody(),
        }
    }

    fn on_told(&mut self, told: FromMesh) -> Option<Happened> {
        match told {
            FromMesh::Started(name) => {
                self.begun.insert(name);
                self.moved = Instant::now();
                self.thunks.get(&name).map(|thunk| Happened::Started(name, Arc::clone(thunk)))
            }
            FromMesh::Tried(name, end) => {
                self.begun.remove(&name);
                self.moved = Instant::now();
                if end.is_ok() && self.thunks.contains_key(&name) {
                    self.ended_here.insert(name);
                }
                Some(Happened::Tried(name, end))
            }
            FromMesh::Ended(run, Err(failure)) if self.goes_on_here(run, failure.class) => {
                self.bring_here(run, &failure.reason)
            }
            FromMesh::Ended(run, end) => {
                self.forget(run);
                Some(Happened::Ended(run, end))
            }
            FromMesh::News(news) => Some(Happened::News(news)),
            FromMesh::Learned(name, outputs, by) => Some(Happened::Learned(name, outputs, by)),
        }
    }

    /// What failed here says already all that there is to say.
    fn goes_on_here(&self, run: RunId, class: FailureClass) -> bool {
        let Some((name, _)) = self.runs.get(&run) else { return false };
        let was_here = class == FailureClass::Program && self.ended_here.contains(name);
        self.here.is_some() && !was_here
    }

    /// Takes back the one that has waited longest.
    fn on_nobody(&mut self) -> Option<Happened> {
        let here = self.here.as_ref()?;
        let run = self.runs.keys().find(|run| !here.has(**run)).copied()?;
        self.outbox.push_back(ToMesh::Stop(run));
        self.bring_here(run, "no other member came for it")
    }

    fn bring_here(&mut self, run: RunId, reason: &str) -> Option<Happened> {
        let (name, _) = self.runs.get(&run)?;
        let happened = Happened::FellBack(*name, reason.into());
        self.here.as_mut()?.waiting.push_back(run);
        self.start_here();
        Some(happened)
    }

    fn start_here(&mut self) {
        let bound = self.slots.max(1) as usize;
        let Some(here) = &mut self.here else { return };
        while here.running.len() < bound
            && let Some(run) = here.waiting.pop_front()
        {
            if let Some((name, thunk)) = self.runs.get(&run) {
                here.running.insert(run);
                here.own.start(run, *name, Arc::clone(thunk));
            }
        }
    }

    fn forget(&mut self, run: RunId) {
        if let Some((name, _)) = self.runs.remove(&run) {
            self.thunks.remove(&name);
            self.begun.remove(&name);
            self.ended_here.remove(&name);
        }
    }

    fn load(&self, load: Load) -> Load {
        let here = self.here.as_ref();
        let running = here.map_or(0, |here| u32::try_from(here.running.len()).unwrap_or(u32::MAX));
        match here.is_some_and(|here| here.elsewhere) {
            // They take no slot here, and want none.
            true => Load { running, wanted: 0 },
            false => Load { running: load.running.saturating_add(running), ..load },
        }
    }
}

impl Here {
    fn count(&self) -> usize {
        self.waiting.len() + self.running.len()
    }

    fn has(&self, run: RunId) -> bool {
        self.running.contains(&run) || self.waiting.contains(&run)
    }

    fn stop(&mut self, run: RunId) -> bool {
        let was_here = self.has(run);
        self.waiting.retain(|waiting| *waiting != run);
        if self.running.remove(&run) {
            self.own.stop(run);
        }
        was_here
    }
}

/// The next load; never, if there is none.
async fn changed(load: &mut tokio::sync::watch::Receiver<Load>) -> Load {
    match load.changed().await {
        Ok(()) => *load.borrow_and_update(),
        // That the mesh is gone shows elsewhere.
        Err(_) => std::future::pending().await,
    }
}

async fn ran(here: &mut Option<Here>) -> Happened {
    match here {
        Some(here) => here.own.next().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "remote_tests.rs"]
mod tests;
