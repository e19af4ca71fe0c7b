//! Force: reduce what is demanded until it is values, and nothing else.
//!
//! Goals: a thunk runs only if its result is needed and no memo has it; at most once at a time;
//! equal thunks, and thunks that become equal when their dependencies are values, run once
//! (early cut-off); the cost is linear in the graph; every demand is answered, also when waiting
//! goes in a circle. Non-goals: who runs a thunk, and how long anything takes.
//!
//! ```text
//!          Demand            miss              dependencies          values only
//!  Idle ------------> Recalling --> (Fetching) ----------> Waiting -------------> Substituted
//!                       | hit          \  no dependencies                              |
//!                       v               `-------------> Ready --> Running              |
//!                     Done <------------------------------------------ + <-------------'
//! ```
//!
//! From any of these but Idle, [`Input::Learned`] leads to Done.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::graph::{Cause, Failed, Graph, Node, NodeId, Outputs, Progress, Resolution, Waiter};
use crate::limits;
use crate::name::{OutputRef, ThunkName};
use crate::sched::kinds::Estimates;
use crate::sched::level::{Level, Levels};
use crate::thunk::{OutputObject, Thunk};

/// The right to run one thunk once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RunId(pub u64);

/// What a driver that runs everything itself calls it: there, the right to run a thunk is the run.
pub use self::RunId as LeaseId;

/// Somebody's wish for one output, by a number of theirs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DemandId(pub u64);

/// What the machine is told.
#[derive(Debug)]
pub enum Input {
    /// A thunk's content (asked for or not).
    Thunk(ThunkName, Arc<Thunk>),
    /// The content that was asked for cannot be had.
    Missing(ThunkName),
    /// The memo's answer.
    Recalled(ThunkName, Option<Outputs>),
    /// Somebody else knows what a thunk reduces to, and its outputs are here. May come at any time,
    /// asked for or not.
    Learned(ThunkName, Outputs),
    /// Reduce this output and tell me.
    Demand(DemandId, OutputRef),
    /// So many cores may be kept busy from now on. Who has a lease machine says
    /// [`limits::LEASE_POOL_CORES`]: then every ready thunk goes to it.
    Slots(u32),
    /// A leased thunk ended.
    Ended(RunId, Result<Outputs, Failure>),
    /// A run of that thunk took so many microseconds, as whoever ran it says. It comes before
    /// [`Input::Ended`], if at all.
    Took(ThunkName, u64),
    /// Whoever ran thunks is gone, through no fault of theirs: what was running is ready again.
    TakeBack,
    /// Start nothing more and fail what is not done; what runs is stopped.
    Cancel(Arc<str>),
}

/// What the machine wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask the memo; answer with [`Input::Recalled`].
    Recall(ThunkName),
    /// Find the content; answer with [`Input::Thunk`] or [`Input::Missing`].
    Fetch(ThunkName),
    /// Run it; answer with [`Input::Ended`].
    Start {
        /// Names this run in the answer.
        lease: RunId,
        /// Its name.
        name: ThunkName,
        /// Its content: all sources are values.
        thunk: Arc<Thunk>,
        /// 1 for the first run, then 2 …
        attempt: u32,
        /// How far it is from here to a demand, as far as is known.
        level: Level,
    },
    /// More is known of the levels of these runs: [`limits::LEVELS_TOLD`] at
    /// most.
    Levels(Vec<(RunId, Level)>),
    /// Stop that run; no answer is awaited.
    Stop(RunId),
    /// `thunk` reduces to what `same_as` reduced to: worth remembering.
    Alias {
        /// The thunk as it was written.
        thunk: ThunkName,
        /// The one that names values only.
        same_as: ThunkName,
    },
    /// A demand is answered.
    Answer(DemandId, Result<OutputObject, ForceError>),
    /// Something a person may want to see.
    Event(Event),
}

/// What happened to a thunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It is needed; it counts from now on.
    Needed(ThunkName),
    /// The memo had it, or somebody else's ([`Input::Learned`]).
    Reused(ThunkName),
    /// Its dependencies are values: the second, which names them, stands for it from now on. What
    /// then happens is told of the second alone. (It may have happened already, for another thunk.)
    Substituted(ThunkName, ThunkName),
    /// It ran and left its outputs.
    Executed(ThunkName),
    /// It failed and will be tried again.
    Retried(ThunkName, Failure),
    /// It failed for good, of its own.
    Failed(ThunkName, Failure),
}

/// Why a run did not end with outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Whose fault it is: decides whether another try can help.
    pub class: FailureClass,
    /// One line for people.
    pub reason: Arc<str>,
}

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FailureClass {
    /// The program's: it would fail again.
    Program,
    /// The machine's: another run, or another machine, may succeed.
    Machine,
}

/// Why a demand is not met.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}{}", path_text(path))]
pub struct ForceError {
    /// What happened at the end of the path.
    pub reason: Arc<str>,
    /// From the thunk that was demanded to the one that is to blame.
    pub path: Vec<ThunkName>,
    /// What kind of trouble it is.
    pub cause: Cause,
}

impl ForceError {
    /// Returns true if the thunk that was demanded succeeded, and just did not leave that output.
    pub fn is_absence(&self) -> bool {
        self.cause == Cause::NoOutput && self.path.len() == 1
    }
}

fn path_text(path: &[ThunkName]) -> String {
    const SHOWN: usize = 8;
    let names: Vec<String> = path.iter().take(SHOWN).map(|name| format!("{name:?}")).collect();
    let more = if path.len() > SHOWN { " -> …" } else { "" };
    if path.len() < 2 { String::new() } else { format!(" (by {}{more})", names.join(" -> ")) }
}

/// How often a thunk is tried.
#[derive(Debug, Clone, Copy)]
pub struct ForcePolicy {
    /// Runs of one thunk that end in [`FailureClass::Machine`] before it counts as failed.
    pub machine_attempts: u32,
    /// The same for [`FailureClass::Program`].
    pub program_attempts: u32,
    /// Go on with what does not depend on a failure?
    pub keep_going: bool,
}

impl Default for ForcePolicy {
    fn default() -> Self {
        Self { machine_attempts: 3, program_attempts: 1, keep_going: false }
    }
}

struct Run {
    node: NodeId,
    cores: u32,
    /// What was told of it.
    level: Level,
}

/// The machine. One per requester.
pub struct Force {
    policy: ForcePolicy,
    graph: Graph,
    demands: BTreeMap<DemandId, OutputRef>,
    ready: VecDeque<NodeId>,
    runs: BTreeMap<RunId, Run>,
    /// The same, by what they run.
    running: BTreeMap<NodeId, RunId>,
    attempts: BTreeMap<NodeId, u32>,
    levels: Levels,
    estimates: Estimates,
    next_lease: u64,
    slots: u32,
    busy: u32,
    /// Answers that are still to come from memo and store.
    asked: u64,
    ended: VecDeque<Waiter>,
    stopped: Option<Arc<str>>,
}

impl Force {
    /// A machine that has been asked for nothing and has no slots.
    pub fn new(policy: ForcePolicy) -> Self {
        Self {
            policy,
            graph: Graph::default(),
            demands: BTreeMap::new(),
            ready: VecDeque::new(),
            runs: BTreeMap::new(),
            running: BTreeMap::new(),
            attempts: BTreeMap::new(),
            levels: Levels::default(),
            estimates: Estimates::default(),
            next_lease: 0,
            slots: 0,
            busy: 0,
            asked: 0,
            ended: VecDeque::new(),
            stopped: None,
        }
    }

    /// Is every demand answered and nothing running?
    pub fn is_idle(&self) -> bool {
        self.demands.is_empty() && self.runs.is_empty()
    }

    /// Runs under way.
    pub fn running(&self) -> usize {
        self.runs.len()
    }

    /// Cores that ready thunks could use now, beyond those in use.
    pub fn wanted_slots(&self) -> usize {
        if self.stopped.is_some() { 0 } else { self.ready.len() }
    }

    /// The graph as it stands.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Takes one input and appends what is to be done about it.
    pub fn handle(&mut self, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Thunk(name, thunk) => self.on_thunk(name, thunk, effects),
            Input::Missing(name) => self.on_missing(name),
            Input::Recalled(name, outputs) => self.on_recalled(name, outputs, effects),
            Input::Learned(name, outputs) => self.on_learned(name, outputs, effects),
            Input::Demand(demand, output) => self.on_demand(demand, output, effects),
            Input::Slots(slots) => self.slots = slots,
            Input::Ended(lease, end) => self.on_ended(lease, end, effects),
            Input::Took(name, us) => return self.on_took(name, us, effects),
            Input::TakeBack => self.take_back(),
            Input::Cancel(reason) => self.on_cancel(reason, effects),
        }
        self.settle(effects);
        self.start_ready(effects);
        self.break_stall(effects);
        self.check_books();
    }

    /// What holds after each event; in builds with assertions, and while the graph is small enough to be gone
    /// through each time.
    fn check_books(&self) {
        const CHECKED_MAX: usize = 64;
        if !cfg!(debug_assertions) || self.graph.len() > CHECKED_MAX {
            return;
        }
        let count = |is: fn(&Progress) -> bool| {
            self.graph.nodes().filter(|(_, node)| is(&node.progress)).count()
        };
        let asked = count(|it| matches!(it, Progress::Recalling | Progress::Fetching));
        debug_assert_eq!(asked as u64, self.asked, "each answer is still to come");
        let running = count(|it| matches!(it, Progress::Running));
        debug_assert_eq!((running, running), (self.runs.len(), self.running.len()));
        let is_known = |(lease, run): (&RunId, &Run)| self.running.get(&run.node) == Some(lease);
        debug_assert!(self.runs.iter().all(is_known));
        debug_assert_eq!(self.runs.values().map(|run| run.cores).sum::<u32>(), self.busy);
        let waits = |(id, node): (NodeId, &Node)| {
            !matches!(node.progress, Progress::Ready) || self.ready.contains(&id)
        };
        debug_assert!(self.graph.nodes().all(waits), "what is ready is not forgotten");
        let is_stuck = self.runs.is_empty() && self.asked == 0 && self.ready.is_empty();
        debug_assert!(self.demands.is_empty() || !is_stuck, "somebody works on what is demanded");
    }

    fn on_thunk(&mut self, name: ThunkName, thunk: Arc<Thunk>, effects: &mut Vec<Effect>) {
        let id = self.graph.node(name);
        let node = self.graph.get_mut(id);
        match node.progress {
            Progress::Done(_) | Progress::Failed(_) => return,
            _ => node.thunk = Some(thunk),
        }
        if matches!(node.progress, Progress::Fetching) {
            self.asked -= 1;
            self.expand(id, effects);
        }
    }

    fn on_missing(&mut self, name: ThunkName) {
        let id = self.graph.node(name);
        if matches!(self.graph.get(id).progress, Progress::Fetching) {
            self.asked -= 1;
            let reason = format!("{name} is needed but cannot be found").into();
            self.fail(id, Failed { reason, because_of: None, cause: Cause::NotFound });
        }
    }

    fn on_recalled(
        &mut self,
        name: ThunkName,
        outputs: Option<Outputs>,
        effects: &mut Vec<Effect>,
    ) {
        let id = self.graph.node(name);
        if !matches!(self.graph.get(id).progress, Progress::Recalling) {
            return;
        }
        self.asked -= 1;
        match outputs {
            Some(outputs) => {
                effects.push(Effect::Event(Event::Reused(name)));
                self.finish(id, Ok(outputs));
            }
            None if self.graph.get(id).thunk.is_some() => self.expand(id, effects),
            None => {
                self.graph.get_mut(id).progress = Progress::Fetching;
                self.asked += 1;
                effects.push(Effect::Fetch(name));
            }
        }
    }

    /// What is not needed is not counted, and what is done stays as it is. A run under way is
    /// stopped: its result is here.
    fn on_learned(&mut self, name: ThunkName, outputs: Outputs, effects: &mut Vec<Effect>) {
        let Some(id) = self.graph.find(&name) else { return };
        match self.graph.get(id).progress {
            Progress::Idle | Progress::Done(_) | Progress::Failed(_) => return,
            Progress::Recalling | Progress::Fetching => self.asked -= 1,
            Progress::Running => self.stop_run(id, effects),
            Progress::Ready => self.ready.retain(|ready| *ready != id),
            Progress::Waiting(_) | Progress::Substituted(_) => {}
        }
        effects.push(Effect::Event(Event::Reused(name)));
        self.finish(id, Ok(outputs));
    }

    fn stop_run(&mut self, id: NodeId, effects: &mut Vec<Effect>) {
        let lease = self.running.remove(&id);
        if let Some((lease, run)) = lease.and_then(|lease| self.runs.remove_entry(&lease)) {
            self.busy -= run.cores;
            effects.push(Effect::Stop(lease));
        }
    }

    fn on_demand(&mut self, demand: DemandId, output: OutputRef, effects: &mut Vec<Effect>) {
        self.demands.insert(demand, output);
        self.pursue_demand(demand, effects);
    }

    fn on_ended(&mut self, lease: RunId, end: Result<Outputs, Failure>, effects: &mut Vec<Effect>) {
        let Some(run) = self.runs.remove(&lease) else { return };
        self.busy -= run.cores;
        let id = run.node;
        self.running.remove(&id);
        let name = self.graph.get(id).name;
        if !matches!(self.graph.get(id).progress, Progress::Running) {
            return;
        }
        match end {
            Ok(outputs) => {
                effects.push(Effect::Event(Event::Executed(name)));
                self.finish(id, Ok(outputs));
            }
            Err(failure) => self.on_failure(id, failure, effects),
        }
    }

    fn on_took(&mut self, name: ThunkName, us: u64, effects: &mut Vec<Effect>) {
        let node = self.graph.find(&name).map(|id| self.graph.get(id));
        let Some(thunk) = node.and_then(|node| node.thunk.as_ref()) else { return };
        if !self.estimates.record(&thunk.spec().function.executable, us) {
            return;
        }
        self.estimates.renew();
        self.levels.sweep(&self.graph, &self.estimates);
        let mut news = Vec::new();
        for (lease, run) in &mut self.runs {
            let level = self.levels.of(&self.graph, &self.estimates, run.node);
            if std::mem::replace(&mut run.level, level) != level {
                news.push((*lease, level));
            }
        }
        effects.extend(news.chunks(limits::LEVELS_TOLD).map(|some| Effect::Levels(some.to_vec())));
    }

    fn on_failure(&mut self, id: NodeId, failure: Failure, effects: &mut Vec<Effect>) {
        let name = self.graph.get(id).name;
        let allowed = match failure.class {
            FailureClass::Program => self.policy.program_attempts,
            FailureClass::Machine => self.policy.machine_attempts,
        };
        let tried = self.attempts.get(&id).copied().unwrap_or(0);
        if tried < allowed && self.stopped.is_none() {
            effects.push(Effect::Event(Event::Retried(name, failure)));
            self.graph.get_mut(id).progress = Progress::Ready;
            self.ready.push_back(id);
            return;
        }
        let cause = match failure.class {
            FailureClass::Program => Cause::Program,
            FailureClass::Machine => Cause::Machine,
        };
        let failed = Failed { reason: failure.reason.clone(), because_of: None, cause };
        effects.push(Effect::Event(Event::Failed(name, failure)));
        self.fail(id, failed);
        if !self.policy.keep_going && self.stopped.is_none() {
            self.stopped = Some("not tried: another step failed".into());
        }
    }

    fn on_cancel(&mut self, reason: Arc<str>, effects: &mut Vec<Effect>) {
        self.stopped.get_or_insert(reason);
        effects.extend(self.runs.keys().map(|lease| Effect::Stop(*lease)));
        self.take_back();
    }

    /// The oldest first, before what has not been tried.
    fn take_back(&mut self) {
        self.running.clear();
        for (_, run) in std::mem::take(&mut self.runs).into_iter().rev() {
            self.busy -= run.cores;
            self.graph.get_mut(run.node).progress = Progress::Ready;
            self.ready.push_front(run.node);
            if let Some(attempts) = self.attempts.get_mut(&run.node) {
                *attempts = attempts.saturating_sub(1);
            }
        }
    }

    /// Makes sure that somebody works on `id`.
    fn pursue(&mut self, id: NodeId, effects: &mut Vec<Effect>) {
        let node = self.graph.get_mut(id);
        if matches!(node.progress, Progress::Idle) {
            node.progress = Progress::Recalling;
            self.asked += 1;
            effects.push(Effect::Event(Event::Needed(node.name)));
            effects.push(Effect::Recall(node.name));
        }
    }

    fn pursue_demand(&mut self, demand: DemandId, effects: &mut Vec<Effect>) {
        let Some(output) = self.demands.get(&demand).cloned() else { return };
        let answer = match self.graph.resolve(&output) {
            Resolution::Value(object) => Ok(object),
            Resolution::Failed(failed) => Err(self.error(&output, failed)),
            Resolution::Unfinished(id) => {
                self.graph.wait(id, Waiter::Demand(demand.0));
                return self.pursue(id, effects);
            }
        };
        self.demands.remove(&demand);
        effects.push(Effect::Answer(demand, answer));
    }

    fn error(&self, output: &OutputRef, failed: Failed) -> ForceError {
        let mut path = failed.because_of.map(|cause| self.graph.blame(cause)).unwrap_or_default();
        if path.first() != Some(&output.thunk) {
            path.insert(0, output.thunk);
        }
        ForceError { reason: failed.reason, path, cause: failed.cause }
    }

    /// The memo does not know it and its content is at hand: wait for dependencies, or be ready.
    fn expand(&mut self, id: NodeId, effects: &mut Vec<Effect>) {
        let Some(thunk) = self.graph.get(id).thunk.clone() else { return };
        let mut waiting = 0;
        let mut reduced = BTreeMap::new();
        for output in thunk.dependencies() {
            match self.graph.resolve(output) {
                Resolution::Value(object) => {
                    reduced.insert(output.clone(), object);
                }
                Resolution::Failed(failed) => return self.fail(id, failed),
                Resolution::Unfinished(other) => {
                    waiting += 1;
                    self.graph.wait(other, Waiter::Node(id));
                    self.pursue(other, effects);
                }
            }
        }
        match waiting {
            0 if reduced.is_empty() => {
                self.graph.get_mut(id).progress = Progress::Ready;
                self.ready.push_back(id);
            }
            0 => self.substitute(id, &thunk, &reduced, effects),
            _ => self.graph.get_mut(id).progress = Progress::Waiting(waiting),
        }
    }

    fn substitute(
        &mut self,
        id: NodeId,
        thunk: &Thunk,
        reduced: &BTreeMap<OutputRef, OutputObject>,
        effects: &mut Vec<Effect>,
    ) {
        let substituted = thunk.substitute(reduced).map_err(|error| error.to_string());
        let encoded = substituted.and_then(|thunk| match thunk.encode() {
            Ok((name, _)) => Ok((name, thunk)),
            Err(error) => Err(error.to_string()),
        });
        let (name, thunk) = match encoded {
            Ok(encoded) => encoded,
            Err(reason) => {
                let (reason, cause) = (reason.into(), Cause::Graph);
                return self.fail(id, Failed { reason, because_of: None, cause });
            }
        };
        let other = self.graph.node(name);
        let node = self.graph.get_mut(id);
        node.progress = Progress::Substituted(other);
        effects.push(Effect::Event(Event::Substituted(node.name, name)));
        match &self.graph.get(other).progress {
            Progress::Done(_) | Progress::Failed(_) => self.ended.push_back(Waiter::Node(id)),
            _ => {
                self.graph.get_mut(other).thunk.get_or_insert(Arc::new(thunk));
                self.graph.wait(other, Waiter::Node(id));
                self.pursue(other, effects);
            }
        }
    }

    fn finish(&mut self, id: NodeId, end: Result<Outputs, Failed>) {
        self.attempts.remove(&id);
        self.ended.extend(self.graph.finish(id, end));
    }

    fn fail(&mut self, id: NodeId, failed: Failed) {
        self.finish(id, Err(failed));
    }

    /// Tells everybody who waited for something that ended, until nobody is left to tell.
    fn settle(&mut self, effects: &mut Vec<Effect>) {
        while let Some(waiter) = self.ended.pop_front() {
            match waiter {
                Waiter::Demand(demand) => self.pursue_demand(DemandId(demand), effects),
                Waiter::Node(id) => self.wake(id, effects),
            }
        }
    }

    fn wake(&mut self, id: NodeId, effects: &mut Vec<Effect>) {
        match self.graph.get(id).progress {
            Progress::Substituted(other) => {
                let end = match &self.graph.get(other).progress {
                    Progress::Done(outputs) => Ok(outputs.clone()),
                    Progress::Failed(failed) => Err(failed.clone()),
                    _ => return,
                };
                if end.is_ok() {
                    let (thunk, same_as) = (self.graph.get(id).name, self.graph.get(other).name);
                    effects.push(Effect::Alias { thunk, same_as });
                }
                self.finish(id, end);
            }
            Progress::Waiting(1) => self.expand(id, effects),
            Progress::Waiting(more) => {
                self.graph.get_mut(id).progress = Progress::Waiting(more - 1);
            }
            _ => {}
        }
    }

    fn start_ready(&mut self, effects: &mut Vec<Effect>) {
        while self.stopped.is_none() && self.busy < self.slots {
            let Some(id) = self.ready.pop_front() else { return };
            let node = self.graph.get_mut(id);
            let (Progress::Ready, Some(thunk)) = (&node.progress, node.thunk.clone()) else {
                continue;
            };
            // A thunk that wants more cores than there are gets them all, alone.
            let cores = u32::from(thunk.spec().limits.cpus).min(self.slots);
            if self.busy + cores > self.slots {
                return self.ready.push_front(id);
            }
            node.progress = Progress::Running;
            let name = node.name;
            let attempt = self.attempts.entry(id).or_insert(0);
            *attempt += 1;
            let lease = RunId(self.next_lease);
            self.next_lease += 1;
            self.busy += cores;
            let attempt = *attempt;
            let level = self.levels.of(&self.graph, &self.estimates, id);
            self.runs.insert(lease, Run { node: id, cores, level });
            self.running.insert(id, lease);
            effects.push(Effect::Start { lease, name, thunk, attempt, level });
        }
    }

    /// When nothing can move any more, answers what is left: it was stopped, or it waits in a
    /// circle.
    fn break_stall(&mut self, effects: &mut Vec<Effect>) {
        while !self.demands.is_empty() && self.runs.is_empty() && self.asked == 0 {
            if self.stopped.is_none() && !self.ready.is_empty() {
                return;
            }
            let Some((demand, output)) = self.demands.pop_first() else { return };
            let error = match self.stopped.clone() {
                Some(reason) => {
                    ForceError { reason, path: vec![output.thunk], cause: Cause::Stopped }
                }
                None => ForceError {
                    reason: "thunks wait for each other in a circle".into(),
                    path: self.cycle_of(&output).unwrap_or_else(|| vec![output.thunk]),
                    cause: Cause::Graph,
                },
            };
            effects.push(Effect::Answer(demand, Err(error)));
        }
    }

    fn cycle_of(&mut self, output: &OutputRef) -> Option<Vec<ThunkName>> {
        let Resolution::Unfinished(id) = self.graph.resolve(output) else { return None };
        let cycle = self.graph.find_cycle(id)?;
        Some(cycle.into_iter().map(|id| self.graph.get(id).name).collect())
    }
}
