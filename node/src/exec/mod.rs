//! Running thunks: from a thunk whose inputs are all values to the objects it leaves.
//!
//! An [`Engine`] runs one job at a time or many; who decides what runs when is somebody else. The
//! way of a job: [`plan::ExecPlan`] (pure) → built and run by an engine → [`collect`] puts what it
//! left into the store → [`Outcome`].
//!
//! What the program does wrong is part of the outcome. An [`EngineError`] is the machine's fault,
//! and the job may be tried elsewhere - except [`EngineError::Refused`]: no engine can run that.

pub mod collect;
pub mod engine;
pub mod plan;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use mesh_protocol::name::{Tag, ThunkName, ValueName};
use mesh_protocol::thunk::{OutputObject, Thunk, Usage};
use mesh_store::StoreError;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::oneshot;

pub use engine::sandbox::{SandboxEngine, SandboxOptions, run_launcher_if_asked};

/// Something that runs thunks.
pub trait Engine: Send + Sync {
    /// Runs one job to its end. Dropping the future kills the job and everything it started.
    fn run(&self, job: Job) -> RunFuture<'_>;

    /// The same, but its program starts only when its turn has come. What leads up to that may be done
    /// already; the future does not end before.
    fn run_in_turn(&self, job: Job, turn: Turn) -> RunFuture<'_> {
        Box::pin(async move {
            turn.come().await;
            self.run(job).await
        })
    }
}

/// When a job may start.
#[derive(Debug)]
pub struct Turn(oneshot::Receiver<()>);

impl Turn {
    /// A turn, and what makes it come.
    pub fn new() -> (oneshot::Sender<()>, Self) {
        let (sender, receiver) = oneshot::channel();
        (sender, Self(receiver))
    }

    /// Comes to an end when the turn comes.
    pub async fn come(self) {
        if self.0.await.is_err() {
            // Whoever gives it up stops the job.
            std::future::pending::<()>().await;
        }
    }
}

/// What [`Engine::run`] gives: boxed, because which engine it is shows at run time.
pub type RunFuture<'a> = Pin<Box<dyn Future<Output = Result<Outcome, EngineError>> + Send + 'a>>;

/// One thunk to run.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its name: for messages only.
    pub name: ThunkName,
    /// The thunk; every source in it is a value that the store holds.
    pub thunk: Arc<Thunk>,
}

/// How a job went. The job is a success if [`Outcome::is_success`] says so.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// How the program ended.
    pub exit: Exit,
    /// What it left, by tag; these objects are in the store.
    pub outputs: BTreeMap<Tag, OutputObject>,
    /// Required outputs that it did not leave.
    pub missing: Vec<Tag>,
    /// What it wrote on standard output, cut with a notice if it was too long.
    pub stdout: ValueName,
    /// What it wrote on standard error, cut likewise.
    pub stderr: ValueName,
    /// What it took.
    pub usage: Usage,
}

impl Outcome {
    /// Did it end with status 0 and leave everything that is required?
    pub fn is_success(&self) -> bool {
        self.exit == Exit::Code(0) && self.missing.is_empty()
    }
}

/// How a program ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Exit {
    /// By itself, with this status. 127: it was not there; 126: it cannot be executed.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// By us: its time was up.
    TimedOut,
    /// By the kernel or us: it held more memory than it may.
    OutOfMemory,
    /// By itself, but what it left is too large to be kept.
    TooLarge(Excess),
}

/// What outputs have too much of, all together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Excess {
    /// Lengths of files, in bytes, holes included: at least this many.
    Bytes {
        /// What there is.
        bytes: u64,
        /// What may be.
        bytes_max: u64,
    },
    /// Files and directories.
    Files {
        /// What may be.
        files_max: u64,
    },
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes { bytes, bytes_max } => {
                write!(f, "its outputs have {bytes} bytes or more, where {bytes_max} are allowed")
            }
            Self::Files { files_max } => {
                write!(f, "its outputs are more than the {files_max} files that are allowed")
            }
        }
    }
}

/// Why a machine could not run a job.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The engine does not start here.
    #[error(
        "sandboxes do not work on this machine: cannot {0}; `mesh doctor` says what is missing"
    )]
    Start(#[source] Failure),
    /// One sandbox could not be built.
    #[error("a sandbox could not be built: cannot {0}")]
    Build(#[source] Failure),
    /// The launcher, or the first process of the sandbox, is gone.
    #[error("the sandbox's own processes ended too early")]
    Died,
    /// The store has not what the job needs, or cannot take what it left.
    #[error("the store: {0}")]
    Store(#[source] Failure),
    /// A system call on the way failed.
    #[error("running a job: {0}")]
    System(#[from] std::io::Error),
    /// The job was ended for want of memory, below the bound that its thunk has, if any.
    #[error("it needs more memory than is left of the {0} bytes that this node gives its jobs")]
    Memory(u64),
    /// No machine can run this thunk.
    #[error("the thunk cannot be run: {0}")]
    Refused(#[source] plan::PlanError),
}

impl From<plan::PlanError> for EngineError {
    /// A tree that is not what the thunk says it is cannot be run anywhere; one that cannot be had
    /// is this machine's trouble.
    fn from(error: plan::PlanError) -> Self {
        match error {
            plan::PlanError::Tree { source, .. } if is_trouble(&*source) => Self::Store(source),
            other => Self::Refused(other),
        }
    }
}

fn is_trouble(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    let about_the_tree =
        |error: &StoreError| matches!(error, StoreError::Form { .. } | StoreError::TooLarge { .. });
    !error.downcast_ref().is_some_and(about_the_tree)
}

/// A cause whose type is the business of whoever has it.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
