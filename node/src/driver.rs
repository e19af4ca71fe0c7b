//! The driver: carries out what the force machine wants, with one store and one engine.
//!
//! One task owns the machine. Its loop only picks what happened - a request, the end of a run - and
//! hands it to the machine; the effects that come back are carried out one by one. Nothing here
//! decides what runs when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use mesh_protocol::limits;
use mesh_protocol::name::{OutputRef, ThunkName};
use mesh_protocol::sched::force::{
    DemandId, Effect, Event, Failure, FailureClass, Force, ForceError, ForcePolicy, Input, LeaseId,
};
use mesh_protocol::thunk::{OutputObject, Reduction, Thunk};
use mesh_store::{Store, StoreError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::exec::{Engine, EngineError, Exit, Job, Outcome};

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
        let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
        let (tell_load, load) = watch::channel(Load::default());
        let mut shell = Shell {
            store,
            engine,
            force: Force::new(policy),
            demands: BTreeMap::new(),
            next_demand: 0,
            runs: JoinSet::new(),
            leases: BTreeMap::new(),
            watcher,
            load: tell_load,
        };
        shell.apply(Input::Slots(slots));
        tokio::spawn(shell.serve(inbox));
        Self { requests, load }
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
        let gone = |_| ForceError { reason: "the driver has ended".into(), path: vec![thunk] };
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

type RunEnd = (LeaseId, ThunkName, Result<Outcome, EngineError>);

struct Shell {
    store: Store,
    engine: Arc<dyn Engine>,
    force: Force,
    demands: BTreeMap<DemandId, oneshot::Sender<Answer>>,
    next_demand: u64,
    runs: JoinSet<RunEnd>,
    leases: BTreeMap<LeaseId, AbortHandle>,
    watcher: Watcher,
    load: watch::Sender<Load>,
}

impl Shell {
    async fn serve(mut self, mut inbox: mpsc::Receiver<Request>) {
        loop {
            tokio::select! {
                request = inbox.recv() => match request {
                    Some(request) => self.on_request(request),
                    None => return,
                },
                Some(end) = self.runs.join_next() => {
                    // A run that was stopped, or that panicked, has no answer; a panic is a bug
                    // and shows as such.
                    if let Ok((lease, name, end)) = end {
                        self.on_end(lease, name, end);
                    }
                }
            }
        }
    }

    fn on_request(&mut self, request: Request) {
        match request {
            Request::Add(name, thunk) => self.apply(Input::Thunk(name, thunk)),
            Request::Slots(slots) => self.apply(Input::Slots(slots)),
            Request::Cancel(reason) => self.apply(Input::Cancel(reason)),
            Request::Demand(output, sender) => {
                let demand = DemandId(self.next_demand);
                self.next_demand += 1;
                self.demands.insert(demand, sender);
                self.apply(Input::Demand(demand, output));
            }
        }
    }

    fn on_end(&mut self, lease: LeaseId, name: ThunkName, end: Result<Outcome, EngineError>) {
        self.leases.remove(&lease);
        let verdict = match &end {
            Ok(outcome) => self.judge(name, outcome),
            Err(error) => Err(machine(error)),
        };
        (self.watcher)(Progress::Ended(name, end.map_err(|error| chain(&error))));
        self.apply(Input::Ended(lease, verdict));
    }

    /// Records a success; puts a failure into words.
    fn judge(
        &mut self,
        name: ThunkName,
        outcome: &Outcome,
    ) -> Result<mesh_protocol::graph::Outputs, Failure> {
        if !outcome.is_success() {
            let mut reason = reason(outcome);
            if let Some(line) = self.telling_line(outcome) {
                reason = format!("{reason}: {line}");
            }
            return Err(Failure { class: FailureClass::Program, reason: reason.into() });
        }
        let reduction = Reduction {
            thunk: name,
            outputs: outcome.outputs.clone(),
            stdout: outcome.stdout,
            stderr: outcome.stderr,
            usage: outcome.usage,
            executor: "local".to_owned(),
            finished_at_s: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs()),
        };
        self.store.record(&reduction).map_err(|error| machine(&error))?;
        Ok(Arc::new(reduction.outputs))
    }

    /// The most telling line of what a failed program said, without control characters.
    fn telling_line(&self, outcome: &Outcome) -> Option<String> {
        let bytes = self.store.read(outcome.stderr.digest(), limits::REASON_STDERR_BYTES).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        let telling = lines.clone().find(|line| line.contains("error") || line.contains("Error"));
        let line = telling.or_else(|| lines.next_back())?;
        let mut in_escape = false;
        let plain = line.chars().filter(|character| match character {
            // Colours: `ESC [ 1 ; 31 m`, `ESC [ K`.
            '\x1b' => {
                in_escape = true;
                false
            }
            _ if in_escape => {
                in_escape = !character.is_ascii_alphabetic();
                false
            }
            other => !other.is_control(),
        });
        Some(plain.take(limits::REASON_LINE_CHARS).collect())
    }

    /// Gives the machine one input, and carries out all that comes of it.
    fn apply(&mut self, input: Input) {
        let mut inputs = vec![input];
        let mut effects = Vec::new();
        while let Some(input) = inputs.pop() {
            self.force.handle(input, &mut effects);
            inputs.extend(effects.drain(..).filter_map(|effect| self.perform(effect)));
        }
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let load =
            Load { running: count(self.force.running()), wanted: count(self.force.wanted_slots()) };
        self.load.send_if_modified(|known| std::mem::replace(known, load) != load);
    }

    fn perform(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Recall(name) => return Some(Input::Recalled(name, self.recall(name))),
            Effect::Fetch(name) => {
                return Some(match self.fetch(name) {
                    Some(thunk) => Input::Thunk(name, Arc::new(thunk)),
                    None => Input::Missing(name),
                });
            }
            Effect::Start { lease, name, thunk, .. } => self.start(lease, name, thunk),
            Effect::Stop(lease) => {
                if let Some(run) = self.leases.remove(&lease) {
                    run.abort();
                }
            }
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
        match self.store.recall(name) {
            Ok(found) => found.map(|reduction| Arc::new(reduction.outputs.clone())),
            Err(error) => {
                // Not knowing costs a run, not the build.
                tracing::warn!(%name, %error, "the memo could not be read");
                None
            }
        }
    }

    fn fetch(&self, name: ThunkName) -> Option<Thunk> {
        let bytes = self.store.read(name.digest(), limits::THUNK_BYTES).ok()?;
        Thunk::decode(&bytes).ok()
    }

    fn alias(&self, thunk: ThunkName, same_as: ThunkName) -> Result<(), StoreError> {
        match self.store.recall(same_as)? {
            Some(known) => self.store.record(&Reduction { thunk, ..(*known).clone() }),
            None => Ok(()),
        }
    }

    fn start(&mut self, lease: LeaseId, name: ThunkName, thunk: Arc<Thunk>) {
        (self.watcher)(Progress::Started(name, thunk.clone()));
        let engine = self.engine.clone();
        let run = self.runs.spawn(async move {
            let end = engine.run(Job { name, thunk }).await;
            (lease, name, end)
        });
        self.leases.insert(lease, run);
    }
}

fn machine(error: &(dyn std::error::Error + 'static)) -> Failure {
    let refused = error.downcast_ref().is_some_and(|e| matches!(e, EngineError::Refused(_)));
    let class = if refused { FailureClass::Program } else { FailureClass::Machine };
    Failure { class, reason: chain(error).into() }
}

/// An error with all its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

fn reason(outcome: &Outcome) -> String {
    match outcome.exit {
        Exit::Code(0) => {
            let tags: Vec<&str> = outcome.missing.iter().map(|tag| tag.as_str()).collect();
            format!("it left no output #{}", tags.join(" #"))
        }
        Exit::Code(code) => format!("exit status {code}"),
        Exit::Signal(signal) => format!("ended by signal {signal}"),
        Exit::TimedOut => "it ran out of time".to_owned(),
        Exit::OutOfMemory => "it ran out of memory".to_owned(),
    }
}
