//! The driver: carries out what the force machine wants, with one store, and with one engine or
//! with the node's mesh.
//!
//! One task owns the machine. Its loop only picks what happened - a request, the end of a run - and
//! hands it to the machine; the effects that come back are carried out one by one. Nothing here
//! decides what runs when.

mod remote;
mod runner;

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_protocol::graph::Cause;
use mesh_protocol::limits;
use mesh_protocol::name::{OutputRef, ThunkName};
use mesh_protocol::peer::PeerId;
use mesh_protocol::sched::force::{
    DemandId, Effect, Event, Force, ForceError, ForcePolicy, Input, RunId,
};
use mesh_protocol::thunk::{OutputObject, Reduction, Thunk};
use mesh_store::{Store, StoreError};
use tokio::sync::{mpsc, oneshot, watch};

use self::remote::Beside;
use self::runner::{Happened, Runner};
use crate::api::Session;
use crate::claims::{Mesh, News};
use crate::exec::{Engine, EngineError, Outcome};
use crate::in_place::in_place;
use crate::verdict;

/// Requests that may wait for the loop before their senders do.
const REQUESTS_MAX: usize = 1024;

/// What the driver tells whoever watches.
#[derive(Debug)]
pub enum Progress {
    /// Something happened to a thunk.
    Event(Event),
    /// A run began.
    Started(ThunkName, Arc<Thunk>),
    /// A run ended; its outcome, or the machine's failure.
    Ended(ThunkName, Result<Outcome, String>),
    /// What became of a thunk in the mesh.
    News(News),
    /// Another member knew what comes of a thunk; who ran it. If that was needed, an
    /// [`Event::Reused`] follows.
    Learned(ThunkName, Option<PeerId>),
    /// The mesh came to nothing with it, for this reason, and it runs here.
    FellBack(ThunkName, Arc<str>),
    /// The node is gone: what is left runs here.
    Alone,
}

/// Takes what the driver tells; called from its loop, so it must be quick.
pub type Watcher = Box<dyn FnMut(Progress) + Send>;

type Answer = Result<OutputObject, ForceError>;

/// How many cores thunks keep busy, and could.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Load {
    /// Runs under way.
    pub running: u32,
    /// Thunks that are ready and wait for a slot.
    pub wanted: u32,
}

/// How much of a build is for others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Elsewhere {
    /// What this machine has no slot for.
    Rest,
    /// Everything that they can run.
    All,
}

enum Request {
    Add(ThunkName, Arc<Thunk>),
    Demand(OutputRef, oneshot::Sender<Answer>),
    Slots(u32),
    Cancel(Arc<str>),
}

/// A handle on the driver. When the last one is dropped, its runs are stopped.
#[derive(Clone)]
pub struct Driver {
    requests: mpsc::Sender<Request>,
    load: watch::Receiver<Load>,
}

impl Driver {
    /// Starts the driver's loop on the current tokio runtime.
    pub fn start(
        store: Store,
        engine: Arc<dyn Engine>,
        policy: ForcePolicy,
        slots: u32,
        watcher: Watcher,
    ) -> Self {
        let mut shell = Shell::new(store, policy, Runner::of_engine(engine), watcher);
        shell.set_slots(slots);
        shell.spawn()
    }

    /// As [`Driver::start`], but the thunks run wherever the mesh of this node leases them to; its
    /// own slots are one of the places, and `slots` says how many of those this driver's thunks may
    /// take. The load that the driver tells is that of this machine.
    pub fn start_in_mesh(
        store: Store,
        mesh: &Mesh,
        policy: ForcePolicy,
        slots: u32,
        watcher: Watcher,
    ) -> Self {
        let runner = Runner::of_mesh(mesh.client(), None);
        Self::of_mesh(Shell::new(store, policy, runner, watcher), slots)
    }

    /// The same by way of the node of this home, another process that has the same store. What
    /// fails there for reasons of its machines, or what nobody comes for, runs on `engine`; and
    /// everything does when that node ends.
    pub fn start_in_session(
        store: Store,
        session: Session,
        engine: Arc<dyn Engine>,
        elsewhere: Elsewhere,
        policy: ForcePolicy,
        slots: u32,
        watcher: Watcher,
    ) -> Self {
        let beside = Beside { engine, elsewhere: elsewhere == Elsewhere::All };
        let runner = Runner::of_mesh(session.client, Some(beside));
        Self::of_mesh(Shell::new(store, policy, runner, watcher), slots)
    }

    fn of_mesh(mut shell: Shell, slots: u32) -> Self {
        shell.apply(Input::Slots(limits::LEASE_POOL_CORES));
        shell.set_slots(slots);
        shell.spawn()
    }

    /// Tells at each change how busy thunks keep the slots.
    pub fn load(&self) -> watch::Receiver<Load> {
        self.load.clone()
    }

    /// Makes a thunk known that the store does not hold.
    pub async fn add(&self, name: ThunkName, thunk: Arc<Thunk>) {
        self.send(Request::Add(name, thunk)).await;
    }

    /// Reduces an output to a value.
    pub async fn demand(&self, output: OutputRef) -> Answer {
        let thunk = output.thunk;
        let (sender, answer) = oneshot::channel();
        self.send(Request::Demand(output, sender)).await;
        let gone = |_| ForceError {
            reason: "the driver has ended".into(),
            path: vec![thunk],
            cause: Cause::Stopped,
        };
        answer.await.map_err(gone)?
    }

    /// From now on, so many cores may be kept busy.
    pub async fn set_slots(&self, slots: u32) {
        self.send(Request::Slots(slots)).await;
    }

    /// Stops everything; what is not done fails for this reason.
    pub async fn cancel(&self, reason: &str) {
        self.send(Request::Cancel(reason.into())).await;
    }

    async fn send(&self, request: Request) {
        // A loop that has ended answers by having dropped the reply's sender.
        let _ = self.requests.send(request).await;
    }
}

struct Shell {
    store: Store,
    force: Force,
    demands: BTreeMap<DemandId, oneshot::Sender<Answer>>,
    next_demand: u64,
    runner: Runner,
    watcher: Watcher,
    /// What was last said about them.
    slots: u32,
    load: watch::Sender<Load>,
}

impl Shell {
    fn new(store: Store, policy: ForcePolicy, runner: Runner, watcher: Watcher) -> Self {
        let (force, load) = (Force::new(policy), watch::Sender::new(Load::default()));
        let demands = BTreeMap::new();
        Self { store, force, demands, next_demand: 0, runner, watcher, slots: 0, load }
    }

    fn spawn(self) -> Driver {
        let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
        let load = self.load.subscribe();
        tokio::spawn(self.serve(inbox));
        Driver { requests, load }
    }

    async fn serve(mut self, mut inbox: mpsc::Receiver<Request>) {
        loop {
            tokio::select! {
                request = inbox.recv() => match request {
                    Some(request) => self.on_request(request),
                    None => return,
                },
                happened = self.runner.next() => match happened {
                    Happened::Gone if !self.go_on_alone() => break,
                    happened => self.on_happened(happened),
                }
            }
        }
        // Nothing runs any more: all that is asked for is answered, now and later.
        self.apply(Input::Cancel("this node has left the mesh".into()));
        while let Some(request) = inbox.recv().await {
            self.on_request(request);
        }
    }

    /// The mesh is gone; can what is left run here?
    fn go_on_alone(&mut self) -> bool {
        let Some(own) = self.runner.take_own() else { return false };
        self.runner = Runner::Engine(own);
        (self.watcher)(Progress::Alone);
        self.apply(Input::Slots(self.slots));
        self.apply(Input::TakeBack);
        true
    }

    fn on_happened(&mut self, happened: Happened) {
        match happened {
            Happened::Ran(run, name, end) => self.on_ran(run, name, end),
            Happened::Started(name, thunk) => (self.watcher)(Progress::Started(name, thunk)),
            Happened::Tried(name, end) => (self.watcher)(Progress::Ended(name, end)),
            Happened::Ended(run, end) => self.apply(Input::Ended(run, end)),
            Happened::Learned(name, outputs, by) => {
                (self.watcher)(Progress::Learned(name, by));
                self.apply(Input::Learned(name, outputs));
            }
            Happened::News(news) => {
                if let News::Ran { thunk, busy_us, .. } = &news {
                    self.apply(Input::Took(*thunk, *busy_us));
                }
                (self.watcher)(Progress::News(news));
            }
            Happened::FellBack(name, why) => (self.watcher)(Progress::FellBack(name, why)),
            Happened::Load(load) => self.tell_load(load),
            Happened::Gone => {}
        }
    }

    fn set_slots(&mut self, slots: u32) {
        self.slots = slots;
        match &mut self.runner {
            Runner::Engine(_) => self.apply(Input::Slots(slots)),
            Runner::Mesh(remote) => remote.set_slots(slots),
        }
    }

    fn tell_load(&self, load: Load) {
        self.load.send_if_modified(|known| std::mem::replace(known, load) != load);
    }

    fn on_request(&mut self, request: Request) {
        match request {
            Request::Add(name, thunk) => self.apply(Input::Thunk(name, thunk)),
            Request::Slots(slots) => self.set_slots(slots),
            Request::Cancel(reason) => self.apply(Input::Cancel(reason)),
            Request::Demand(output, sender) => {
                let demand = DemandId(self.next_demand);
                self.next_demand += 1;
                self.demands.insert(demand, sender);
                self.apply(Input::Demand(demand, output));
            }
        }
    }

    fn on_ran(&mut self, run: RunId, name: ThunkName, end: Result<Outcome, EngineError>) {
        let recorded = in_place(|| {
            let reduction = match &end {
                Ok(outcome) => verdict::judge(&self.store, name, outcome, "local")?,
                Err(error) => return Err(verdict::machine(error)),
            };
            match self.store.record(&reduction) {
                Ok(()) => Ok(Arc::new(reduction.outputs)),
                Err(error) => Err(verdict::machine(&error)),
            }
        });
        (self.watcher)(Progress::Ended(name, end.map_err(|error| verdict::chain(&error))));
        self.apply(Input::Ended(run, recorded));
    }

    /// Gives the machine one input, and carries out all that comes of it.
    fn apply(&mut self, input: Input) {
        let mut inputs = vec![input];
        let mut effects = Vec::new();
        while let Some(input) = inputs.pop() {
            self.force.handle(input, &mut effects);
            inputs.extend(effects.drain(..).filter_map(|effect| self.perform(effect)));
        }
        if matches!(self.runner, Runner::Mesh(_)) {
            return;
        }
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let load =
            Load { running: count(self.force.running()), wanted: count(self.force.wanted_slots()) };
        self.tell_load(load);
    }

    fn perform(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Recall(name) => {
                let known = self.recall(name);
                if known.is_none() {
                    // Beside everything else: it goes on as if nobody knew.
                    self.runner.recall(name);
                }
                return Some(Input::Recalled(name, known));
            }
            Effect::Fetch(name) => {
                return Some(match self.fetch(name) {
                    Some(thunk) => Input::Thunk(name, Arc::new(thunk)),
                    None => Input::Missing(name),
                });
            }
            Effect::Start { lease: run, name, thunk, level, .. } => {
                if matches!(self.runner, Runner::Engine(_)) {
                    (self.watcher)(Progress::Started(name, thunk.clone()));
                }
                self.runner.start(run, name, thunk, level);
            }
            Effect::Levels(levels) => self.runner.levels(levels),
            Effect::Stop(run) => self.runner.stop(run),
            Effect::Alias { thunk, same_as } => {
                if let Err(error) = self.alias(thunk, same_as) {
                    tracing::warn!(%thunk, %error, "a result could not be remembered");
                }
            }
            Effect::Answer(demand, answer) => {
                if let Some(sender) = self.demands.remove(&demand) {
                    // Whoever asked may have gone.
                    let _ = sender.send(answer);
                }
            }
            Effect::Event(event) => (self.watcher)(Progress::Event(event)),
        }
        None
    }

    fn recall(&self, name: ThunkName) -> Option<mesh_protocol::graph::Outputs> {
        match in_place(|| self.store.recall(name)) {
            Ok(found) => found.map(|reduction| Arc::new(reduction.outputs.clone())),
            Err(error) => {
                // Not knowing costs a run, not the build.
                tracing::warn!(%name, %error, "the memo could not be read");
                None
            }
        }
    }

    fn fetch(&self, name: ThunkName) -> Option<Thunk> {
        let read = || self.store.read(name.digest(), limits::THUNK_BYTES);
        let bytes = in_place(read).ok()?;
        Thunk::decode(&bytes).ok()
    }

    fn alias(&self, thunk: ThunkName, same_as: ThunkName) -> Result<(), StoreError> {
        in_place(|| match self.store.recall(same_as)? {
            Some(known) => self.store.record(&Reduction { thunk, ..(*known).clone() }),
            None => Ok(()),
        })
    }
}
