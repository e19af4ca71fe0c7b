//! A driver and its mesh, of which the tests play the mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use mesh_protocol::name::{OutputRef, ThunkName, ValueName};
use mesh_protocol::path::AbsPath;
use mesh_protocol::sched::force::{Failure, FailureClass, ForcePolicy, RunId};
use mesh_protocol::thunk::{
    Function, Limits, Output, OutputObject, Platform, Reduction, Thunk, ThunkSpec, Usage,
};
use mesh_store::{Store, StoreOptions};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::*;
use crate::api::Session;
use crate::claims::client::Line;
use crate::driver::{Driver, Elsewhere, Progress};
use crate::exec::{Engine, Exit, Job, Outcome, RunFuture};

/// Counts what it runs; every thunk comes to the same file.
struct Counting {
    store: Store,
    runs: Mutex<Vec<ThunkName>>,
}

impl Engine for Counting {
    fn run(&self, job: Job) -> RunFuture<'_> {
        self.runs.lock().unwrap().push(job.name);
        let outcome = outcome(&self.store, 0);
        Box::pin(async move { Ok(outcome) })
    }
}

fn outcome(store: &Store, code: i32) -> Outcome {
    let [name, empty] = [&b"made"[..], b""].map(|bytes| ValueName(store.put_bytes(bytes).unwrap()));
    let object = OutputObject::File { name, executable: false };
    Outcome {
        exit: Exit::Code(code),
        outputs: BTreeMap::from([("out".parse().unwrap(), object)]),
        missing: Vec::new(),
        stdout: empty,
        stderr: empty,
        usage: Usage::default(),
    }
}

/// The mesh's end, and what the driver tells people.
struct World {
    _directory: tempfile::TempDir,
    store: Store,
    engine: Arc<Counting>,
    driver: Driver,
    tell: mpsc::Sender<FromMesh>,
    told: mpsc::Receiver<ToMesh>,
    load: watch::Sender<Load>,
    progress: Arc<Mutex<Vec<String>>>,
}

impl World {
    fn new(elsewhere: Elsewhere) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(StoreOptions::new(directory.path())).unwrap();
        let engine = Arc::new(Counting { store: store.clone(), runs: Mutex::default() });
        let (tell, from_mesh) = mpsc::channel(16);
        let (line, told) = mpsc::channel(16);
        let (load, load_seen) = watch::channel(Load::default());
        let client = Client { told: from_mesh, line: Line::Away(line), load: load_seen };
        let progress = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&progress);
        let watcher = Box::new(move |progress| {
            let line = match progress {
                Progress::FellBack(_, reason) => reason.to_string(),
                Progress::Alone => "alone".to_owned(),
                _ => return,
            };
            seen.lock().unwrap().push(line);
        });
        let driver = Driver::start_in_session(
            store.clone(),
            Session { client },
            Arc::clone(&engine) as Arc<dyn Engine>,
            elsewhere,
            ForcePolicy::default(),
            2,
            watcher,
        );
        Self { _directory: directory, store, engine, driver, tell, told, load, progress }
    }

    /// Demands a thunk; its name, and the demand's end.
    async fn demand(&self, label: &str) -> (ThunkName, JoinHandle<bool>) {
        let thunk = thunk(label);
        let (name, _) = thunk.encode().unwrap();
        self.driver.add(name, Arc::new(thunk)).await;
        let driver = self.driver.clone();
        let output = OutputRef { thunk: name, tag: "out".parse().unwrap() };
        (name, tokio::spawn(async move { driver.demand(output).await.is_ok() }))
    }

    /// The next run that the driver wants.
    async fn ready(&mut self) -> RunId {
        loop {
            if let ToMesh::Ready { run, .. } = self.told.recv().await.unwrap() {
                return run;
            }
        }
    }

    async fn fail(&self, run: RunId, class: FailureClass) {
        let failure = Failure { class, reason: "it broke".into() };
        self.tell.send(FromMesh::Ended(run, Err(failure))).await.unwrap();
    }

    fn runs_here(&self) -> usize {
        self.engine.runs.lock().unwrap().len()
    }

    fn said(&self) -> Vec<String> {
        self.progress.lock().unwrap().clone()
    }
}

fn thunk(label: &str) -> Thunk {
    let path = |text: &str| text.parse::<AbsPath>().unwrap();
    Thunk::try_from(ThunkSpec {
        function: Function {
            executable: path("/f"),
            arguments: vec![label.to_owned()],
            environment: BTreeMap::new(),
            working_directory: AbsPath::root(),
        },
        inputs: BTreeMap::new(),
        symlinks: BTreeMap::new(),
        directories: BTreeSet::new(),
        outputs: BTreeMap::from([("out".parse().unwrap(), Output::required(path("/out")))]),
        stdin: None,
        limits: Limits::for_platform(Platform::X86_64Linux),
    })
    .unwrap()
}

#[tokio::test]
async fn what_the_mesh_has_run_does_not_run_here() {
    let mut world = World::new(Elsewhere::Rest);
    let (name, demand) = world.demand("a").await;
    let run = world.ready().await;
    let made = outcome(&world.store, 0);
    let reduction = Reduction {
        thunk: name,
        outputs: made.outputs.clone(),
        stdout: made.stdout,
        stderr: made.stderr,
        usage: made.usage,
        executor: "somebody".to_owned(),
        finished_at_s: 0,
    };
    world.store.record(&reduction).unwrap();
    world.tell.send(FromMesh::Ended(run, Ok(Arc::new(made.outputs)))).await.unwrap();
    assert!(demand.await.unwrap());
    assert_eq!((world.runs_here(), world.said()), (0, vec![]));
}

#[tokio::test]
async fn what_fails_elsewhere_is_tried_here_whoever_is_to_blame() {
    for class in [FailureClass::Program, FailureClass::Machine] {
        let mut world = World::new(Elsewhere::Rest);
        let (_, demand) = world.demand("a").await;
        let run = world.ready().await;
        world.fail(run, class).await;
        assert!(demand.await.unwrap());
        assert_eq!((world.runs_here(), world.said()), (1, vec!["it broke".to_owned()]));
    }
}

#[tokio::test]
async fn what_failed_on_this_machines_node_has_said_all() {
    let mut world = World::new(Elsewhere::Rest);
    let (name, demand) = world.demand("a").await;
    let run = world.ready().await;
    world.tell.send(FromMesh::Started(name)).await.unwrap();
    let failed = FromMesh::Tried(name, Ok(outcome(&world.store, 1)));
    world.tell.send(failed).await.unwrap();
    world.fail(run, FailureClass::Program).await;
    assert!(!demand.await.unwrap());
    assert_eq!((world.runs_here(), world.said()), (0, vec![]));
}

#[tokio::test]
async fn without_its_node_a_build_goes_on() {
    let mut world = World::new(Elsewhere::All);
    let mut demands = Vec::new();
    for label in ["a", "b", "c", "d"] {
        demands.push(world.demand(label).await.1);
        world.ready().await;
    }
    // One of them runs here already.
    world.fail(RunId(0), FailureClass::Machine).await;
    let World { driver, tell, told, load, engine, progress, .. } = world;
    drop((tell, told, load));
    for demand in demands {
        assert!(demand.await.unwrap());
    }
    let ran: BTreeSet<ThunkName> = engine.runs.lock().unwrap().iter().copied().collect();
    assert_eq!(ran.len(), 4);
    assert_eq!(progress.lock().unwrap().last().map(String::as_str), Some("alone"));
    drop(driver);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_comes_for_runs_here() {
    let mut world = World::new(Elsewhere::All);
    let before = tokio::time::Instant::now();
    let (_, demand) = world.demand("a").await;
    let run = world.ready().await;
    assert!(demand.await.unwrap());
    assert!(before.elapsed() >= PATIENCE);
    assert_eq!((world.runs_here(), world.said().len()), (1, 1));
    let stopped = world.told.recv().await;
    assert!(matches!(stopped, Some(ToMesh::Stop(stopped)) if stopped == run));
}

#[tokio::test]
async fn a_build_for_others_wants_no_slot_here() {
    for (elsewhere, slots, load) in [
        (Elsewhere::All, 0, Load { running: 0, wanted: 0 }),
        (Elsewhere::Rest, 2, Load { running: 1, wanted: 7 }),
    ] {
        let mut world = World::new(elsewhere);
        let told = world.told.recv().await;
        assert!(matches!(told, Some(ToMesh::Slots(told)) if told == slots));
        let mut seen = world.driver.load();
        world.load.send_replace(Load { running: 1, wanted: 7 });
        let reached = seen.wait_for(|seen| *seen == load).await;
        assert!(reached.is_ok());
    }
}
