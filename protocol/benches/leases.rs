//! What a requester's scheduling costs: from a thunk that is ready to its lease and its receipt, with
//! no network and no codec. Run with `cargo bench -p mesh-protocol`.

mod measure;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use measure::measure;
use mesh_protocol::name::{ThunkName, ValueName};
use mesh_protocol::path::AbsPath;
use mesh_protocol::peer::{PeerId, StreamId};
use mesh_protocol::sched::force::RunId;
use mesh_protocol::sched::lease::{Effect, Input, LeasePolicy, Leases};
use mesh_protocol::sched::level::Level;
use mesh_protocol::thunk::{
    Function, Input as ThunkInput, Limits, Output, OutputObject, Platform, Reduction, Thunk,
    ThunkSpec, Usage,
};
use mesh_protocol::time::Time;
use mesh_protocol::wire::claim::{
    Capabilities, FromWorker, LeaseId, Open, Receipt, SignedReduction, Timeline, Window,
};

const THUNKS: usize = 20_000;

fn main() {
    if !measure::is_asked_for() {
        return;
    }
    let thunks: Vec<(ThunkName, Arc<Thunk>)> = (0..THUNKS).map(thunk).collect();
    for workers in [1, 32, 256] {
        let label = format!("lease {THUNKS} thunks to {workers} workers of 4 slots");
        measure(&label, THUNKS, || lease_all(&thunks, workers));
    }
}

fn path(text: &str) -> AbsPath {
    text.parse().expect("a path")
}

/// 20 inputs, two of them trees.
fn thunk(number: usize) -> (ThunkName, Arc<Thunk>) {
    let input = |i: usize| {
        let value = ValueName::of(&(i + number % 7).to_le_bytes());
        let input = if i < 2 { ThunkInput::tree(value) } else { ThunkInput::file(value) };
        (path(&format!("/usr/include/{i}")), input)
    };
    let output = Output::required(path("/o"));
    let spec = ThunkSpec {
        function: Function {
            executable: path("/usr/bin/cc"),
            arguments: vec![number.to_string()],
            environment: BTreeMap::new(),
            working_directory: AbsPath::root(),
        },
        inputs: (0..20).map(input).collect(),
        symlinks: BTreeMap::new(),
        directories: BTreeSet::new(),
        outputs: BTreeMap::from([("out".parse().expect("a tag"), output)]),
        stdin: None,
        limits: Limits::for_platform(Platform::X86_64Linux),
    };
    let thunk = Thunk::try_from(spec).expect("a valid thunk");
    (thunk.encode().expect("within bounds").0, Arc::new(thunk))
}

fn receipt(lease: LeaseId, thunk: ThunkName) -> FromWorker {
    let name = ValueName(thunk.digest());
    let object = OutputObject::File { name, executable: false };
    let reduction = Reduction {
        thunk,
        outputs: BTreeMap::from([("out".parse().expect("a tag"), object)]),
        stdout: name,
        stderr: name,
        usage: Usage::default(),
        executor: String::new(),
        finished_at_s: 0,
    };
    let end = Ok(SignedReduction { reduction, signature: [[0; 32]; 2], remembered: false });
    FromWorker::Receipt(Box::new(Receipt {
        lease,
        end,
        objects: Vec::new(),
        timeline: Timeline::default(),
    }))
}

fn lease_all(thunks: &[(ThunkName, Arc<Thunk>)], workers: u64) {
    let capabilities = Capabilities {
        platform: Platform::X86_64Linux,
        cores: 4,
        memory_mib: 8192,
        speed_permille: 1000,
    };
    let window = Window { slots: 4, prefetch: 2 };
    let mut leases = Leases::new(LeasePolicy::default(), capabilities);
    let mut effects = Vec::new();
    for worker in 0..workers {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&worker.to_le_bytes());
        let open = Open { capabilities, window, holds: BTreeSet::new() };
        leases.handle(Time::ZERO, Input::Opened(StreamId(worker), PeerId(key), open), &mut effects);
    }
    for (run, (name, thunk)) in (0..).map(RunId).zip(thunks) {
        let (name, thunk) = (*name, thunk.clone());
        leases.handle(
            Time::ZERO,
            Input::Ready { run, name, thunk, level: Level { thunks: 1, us: 1 } },
            &mut effects,
        );
    }
    let (mut now, mut ended, mut held) = (Time::ZERO, 0, VecDeque::new());
    loop {
        for effect in effects.drain(..) {
            match effect {
                Effect::Lease { stream, lease, name, .. } => held.push_back((stream, lease, name)),
                Effect::Ended(_, end) => ended += usize::from(end.is_ok()),
                _ => {}
            }
        }
        let Some((stream, lease, name)) = held.pop_front() else { break };
        now = now + 10;
        let started = Input::Received(stream, FromWorker::Started(lease));
        leases.handle(now, started, &mut effects);
        leases.handle(now, Input::Received(stream, receipt(lease, name)), &mut effects);
    }
    assert_eq!(ended, thunks.len(), "every thunk is answered");
}
