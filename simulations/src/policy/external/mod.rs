//! A policy that is a program of yours, in whatever language: JSON lines over its standard input and
//! output, as batsim asks its schedulers (Dutot, Mercier, Poquet, Richard: "Batsim: a realistic
//! language-independent resources and jobs management systems simulator", JSSPP 2016).
//!
//! ```text
//!   simulator                                              program
//!     | {"type":"start","version":1,"seed":7,"ahead":0,"hosts":[…]}  ->
//!     |                                            <- {"version":1}
//!     | {"type":"instant","now":0,"known":[…],"ready":[0,1],"free":[…],…}  ->
//!     |                                            <- {"place":[{"task":0,"host":3}],"wake":null}
//!     |   …                                          once per instant at which something
//!     | end of input  ->                             happened and a host has room
//!     |                                              it ends
//! ```
//!
//! [`message`] has every field. An answer is one line, and the simulator waits for it: virtual time
//! stands still meanwhile. A program that ends, says nothing for [`Invocation::timeout`], says what is no
//! answer or places what cannot be placed ends the run with an error that names the instant. Its
//! standard error goes where the simulator's goes. However the run ends, the program is waited for; it
//! has [`GRACE`] to end by itself.
//!
//! A run is a function of its scenario and its seed only as far as the program's answers are a
//! function of the messages. Each run starts the program anew, and runs of several seeds go on at once.

pub mod message;
mod program;

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use self::message::{Answer, FreeHost, Hello, Host, Instant, Known, Message, Object, Put};
use self::program::Program;
use super::{Placement, Policy};
use crate::kernel::{SimTime, Span};
use crate::platform::HostId;
use crate::run::View;
use crate::workload::TaskId;

/// The version of the messages.
pub const VERSION: u32 = 1;
/// How long a program may take to end once its input has.
pub const GRACE: Duration = Duration::from_secs(5);

/// How the program is started.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Invocation {
    /// The program, looked up in `PATH` unless it has a slash, and its arguments; not empty.
    pub command: Vec<String>,
    /// Where it runs: the directory of the scenario.
    pub directory: PathBuf,
    /// How long it may neither read nor write when that is its turn.
    pub timeout: Duration,
}

/// The policy.
#[derive(Debug)]
pub struct External {
    invocation: Invocation,
    program: Option<Program>,
    /// What the program has not been told.
    news: Instant,
    /// Tasks that may be placed, as it will know.
    open: BTreeSet<TaskId>,
    /// The rest of its answer.
    plan: VecDeque<Put>,
    wake: Option<SimTime>,
    /// Whether it has been asked at this instant.
    asked: bool,
    /// Why it cannot go on.
    fault: Option<String>,
}

impl External {
    /// The policy; the program is started when it is asked first.
    pub fn new(invocation: Invocation) -> Self {
        Self {
            invocation,
            program: None,
            news: Instant::default(),
            open: BTreeSet::new(),
            plan: VecDeque::new(),
            wake: None,
            asked: false,
            fault: None,
        }
    }

    fn ask(&mut self, view: &View<'_>) -> Result<(), String> {
        let program = match &mut self.program {
            Some(program) => program,
            none => none.insert(start(&self.invocation, view)?),
        };
        self.news.now = view.now();
        self.news.free = view.free_hosts().map(|host| free_host(view, host)).collect();
        let answer: Answer = program.ask(&Message::Instant(&self.news))?;
        self.news = Instant::default();
        self.plan = answer.place.into();
        self.wake = answer.wake.map(|at| wake(view, at)).transpose()?;
        Ok(())
    }
}

/// Starts the program and tells it of the hosts.
fn start(invocation: &Invocation, view: &View<'_>) -> Result<Program, String> {
    let mut program = Program::start(invocation)?;
    let hosts = (0..view.hosts() as u32).map(HostId).map(|host| Host {
        host: host.0,
        group: view.group(host),
        cores: view.cores(host),
        speed: view.speed(host),
        memory: view.memory(host),
    });
    let (seed, ahead) = (view.seed(), view.ahead());
    let start = Message::Start { version: VERSION, seed, ahead, hosts: hosts.collect() };
    let hello: Hello = program.ask(&start)?;
    if hello.version != VERSION {
        let theirs = hello.version;
        return Err(format!("{program} speaks version {theirs} of the messages, not {VERSION}"));
    }
    Ok(program)
}

fn wake(view: &View<'_>, at: f64) -> Result<SimTime, String> {
    let time = SimTime::ZERO + Span::from_seconds(at);
    if !at.is_finite() || time <= view.time() {
        return Err(format!("it wants to be asked again at {at} s, which is not later than now"));
    }
    Ok(time)
}

fn free_host(view: &View<'_>, host: HostId) -> FreeHost {
    let room = view.room(host);
    let idle = room.saturating_sub(view.ahead());
    FreeHost { host: host.0, idle, room, memory: view.memory_free(host) }
}

fn known(view: &View<'_>, task: TaskId) -> Known {
    let graph = view.graph();
    let what = graph.task(task);
    let object =
        |id: crate::workload::ObjectId| Object { object: id.0, bytes: graph.object(id).bytes };
    Known {
        task: task.0,
        job: what.job.0,
        class: graph.classes()[usize::from(what.class)].clone(),
        work: view.estimate(task),
        memory: what.memory,
        home: view.home(task).0,
        inputs: graph.inputs(task).iter().copied().map(object).collect(),
        outputs: graph.outputs(task).map(object).collect(),
    }
}

impl Policy for External {
    fn name(&self) -> &'static str {
        "external"
    }

    fn known(&mut self, view: &View<'_>, tasks: &[TaskId]) {
        self.news.known.extend(tasks.iter().map(|&task| known(view, task)));
    }

    fn done(&mut self, _view: &View<'_>, task: TaskId, host: HostId) {
        self.news.done.push(Put { task: task.0, host: host.0 });
    }

    fn gone(&mut self, _view: &View<'_>, host: HostId) {
        self.news.gone.push(host.0);
    }

    fn unready(&mut self, _view: &View<'_>, task: TaskId) {
        if !self.open.remove(&task) {
            return;
        }
        // Either it has been told of the task, or neither is worth telling.
        match self.news.ready.iter().position(|&ready| ready == task.0) {
            Some(at) => drop(self.news.ready.remove(at)),
            None => self.news.unready.push(task.0),
        }
    }

    fn ready(&mut self, _view: &View<'_>, task: TaskId) {
        if self.open.insert(task) {
            self.news.ready.push(task.0);
        }
    }

    fn place(&mut self, view: &View<'_>) -> Option<Placement> {
        if !std::mem::replace(&mut self.asked, true)
            && let Err(fault) = self.ask(view)
        {
            self.fault = Some(fault);
        }
        let Put { task, host } = self.plan.pop_front()?;
        let placement = Placement { task: TaskId(task), host: HostId(host) };
        self.open.remove(&placement.task);
        Some(placement)
    }

    fn end(&mut self) -> Result<(), String> {
        self.asked = false;
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        match self.plan.front() {
            Some(Put { task, host }) => {
                Err(format!("it placed task {task} on host {host} when no host had room any more"))
            }
            None => Ok(()),
        }
    }

    fn wake(&mut self, view: &View<'_>) -> Option<SimTime> {
        self.wake.filter(|&at| at > view.time())
    }
}
