//! What a seed stands for: machines, graphs and faults.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_protocol::name::{OutputRef, Tag, ThunkName, ValueName};
use mesh_protocol::path::AbsPath;
use mesh_protocol::random::Random;
use mesh_protocol::thunk::{
    Function, Input, InputMode, Limits, Output, OutputObject, Platform, Source, Thunk, ThunkSpec,
};

/// Faults stop here; from then on everything must come to an end.
pub(crate) const QUIET_US: u64 = 40_000_000;

pub(crate) struct Plan {
    pub(crate) machines: Vec<Machine>,
    pub(crate) faults: Vec<(u64, Fault)>,
    pub(crate) gossip_loss_permille: u64,
    pub(crate) gossip_repeat_permille: u64,
    pub(crate) gossip_delay_us_max: u64,
    pub(crate) delay_us_max: u64,
}

pub(crate) struct Machine {
    pub(crate) slots: u32,
    pub(crate) memory_mib: u64,
    /// Run times are multiplied by this, over 1000.
    pub(crate) slowness_permille: u64,
    /// So many of a thousand runs fail at once, by the machine's fault.
    pub(crate) broken_permille: u64,
    /// So many of a thousand answers take long to settle, or do not.
    pub(crate) unsettled_permille: u64,
    pub(crate) graph: Option<Work>,
}

/// What a requester wants.
pub(crate) struct Work {
    pub(crate) thunks: BTreeMap<ThunkName, (Arc<Thunk>, Vec<u8>)>,
    /// What is demanded, and what it must come to.
    pub(crate) demands: Vec<(ThunkName, Option<OutputObject>)>,
}

#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The process dies; its peers are told at once, or find out. Restarts after so long, if at all.
    Crash { node: usize, told: bool, restart_us: Option<u64> },
    /// Stopped for so long, as by SIGSTOP.
    Freeze { node: usize, for_us: u64 },
    /// Nodes of the two sides (by bit) do not hear each other for so long.
    Partition { side: u64, for_us: u64 },
    /// All streams of a node break.
    BreakStreams { node: usize },
    /// Its owner leaves that many slots.
    Slots { node: usize, slots: u32 },
    /// It finishes what it has and takes no more.
    Drain { node: usize },
}

pub(crate) fn out() -> Tag {
    "out".parse().expect("a tag")
}

fn path(text: &str) -> AbsPath {
    text.parse().expect("a path")
}

fn thunk(label: &str, took_us: u64, kind: &str, cpus: u16, tree: u64, reads: &[Source]) -> Thunk {
    let mut inputs: BTreeMap<AbsPath, Input> = reads
        .iter()
        .enumerate()
        .map(|(i, source)| {
            (path(&format!("/in{i}")), Input { source: source.clone(), mode: InputMode::File })
        })
        .collect();
    inputs.insert(path("/tree"), Input::tree(ValueName::of(&tree.to_le_bytes())));
    let spec = ThunkSpec {
        function: Function {
            executable: path("/bin/step"),
            arguments: vec![label.to_owned(), took_us.to_string(), kind.to_owned()],
            environment: BTreeMap::new(),
            working_directory: AbsPath::root(),
        },
        inputs,
        symlinks: BTreeMap::new(),
        directories: BTreeSet::new(),
        outputs: BTreeMap::from([(out(), Output::required(path("/out")))]),
        stdin: None,
        limits: Limits { cpus, ..Limits::for_platform(Platform::X86_64Linux) },
    };
    Thunk::try_from(spec).expect("a valid thunk")
}

/// What a thunk that reads values alone comes to.
pub(crate) fn evaluate(thunk: &Thunk) -> Option<OutputObject> {
    let arguments = &thunk.spec().function.arguments;
    let text = format!("{} {:?}", arguments[0], thunk.values());
    let object = OutputObject::File { name: ValueName::of(text.as_bytes()), executable: false };
    (arguments[2] != "fails").then_some(object)
}

pub(crate) fn took_us(thunk: &Thunk) -> u64 {
    thunk.spec().function.arguments[1].parse().expect("a duration")
}

fn work(random: &mut Random, node: usize, fails: bool) -> Work {
    let count = 5 + random.below(60) as usize;
    let (longest, shared) =
        ([50_000, 1_000_000, 8_000_000][random.below(3) as usize], random.permille(300));
    let bad = if fails { random.below(count as u64) as usize } else { count };
    let mut thunks = BTreeMap::new();
    let mut made: Vec<(ThunkName, Option<OutputObject>)> = Vec::new();
    for i in 0..count {
        let reads = if i == 0 { 0 } else { random.below(3).min(i as u64) };
        let picked: BTreeSet<usize> = (0..reads).map(|_| random.below(i as u64) as usize).collect();
        let refs = picked.iter().map(|&j| OutputRef { thunk: made[j].0, tag: out() });
        let sources: Vec<Source> = refs.map(Source::Output).collect();
        // Some graphs are the same for every requester: one's leases are never another's.
        let label = if shared { format!("{i}") } else { format!("{node}.{i}") };
        let kind = if i == bad { "fails" } else { "works" };
        // Now and then, one takes far longer than its kind.
        let took = 1_000 + random.below(longest) * if random.permille(30) { 5 } else { 1 };
        let cpus = 1 + random.below(3) as u16 * u16::from(random.permille(200));
        let thunk = thunk(&label, took, kind, cpus, random.below(3), &sources);
        let by_hand =
            |j: &usize| Some((OutputRef { thunk: made[*j].0, tag: out() }, made[*j].1.clone()?));
        let reduced: Option<BTreeMap<OutputRef, OutputObject>> =
            picked.iter().map(by_hand).collect();
        let value =
            reduced.and_then(|reduced| evaluate(&thunk.substitute(&reduced).expect("values")));
        let (name, bytes) = thunk.encode().expect("within bounds");
        thunks.insert(name, (Arc::new(thunk), bytes));
        made.push((name, value));
    }
    let demands = (0..count).filter(|i| *i == count - 1 || random.permille(200));
    let demands = demands.map(|i| made[i].clone()).collect();
    Work { thunks, demands }
}

fn fault(random: &mut Random, nodes: usize) -> Fault {
    let node = random.below(nodes as u64) as usize;
    let for_us = [200_000, 3_000_000, 25_000_000][random.below(3) as usize];
    let for_us = for_us / 2 + random.below(for_us / 2);
    match random.below(7) {
        0 | 1 => {
            let restart_us = random.permille(800).then_some(for_us);
            Fault::Crash { node, told: random.permille(700), restart_us }
        }
        2 => Fault::Freeze { node, for_us },
        3 => Fault::Partition { side: random.bits(), for_us },
        4 => Fault::BreakStreams { node },
        5 => Fault::Slots { node, slots: random.below(4) as u32 },
        _ => Fault::Drain { node },
    }
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let requesters = 1 + random.below(3) as usize;
        let nodes = requesters + 1 + random.below(5) as usize;
        let fails = random.permille(120);
        let mut machines: Vec<Machine> = (0..nodes)
            .map(|node| Machine {
                // Half of the requesters have no slots of their own.
                slots: match node < requesters && random.permille(500) {
                    true => 0,
                    false => random.below(5) as u32,
                },
                memory_mib: 1024,
                slowness_permille: if random.permille(150) {
                    4000
                } else {
                    700 + random.below(600)
                },
                broken_permille: if random.permille(100) { 200 + random.below(801) } else { 0 },
                unsettled_permille: [0, 10, 100][random.below(3) as usize],
                graph: (node < requesters).then(|| work(&mut random, node, fails)),
            })
            .collect();
        // The last one is never touched: one worker lives.
        let last = &mut machines[nodes - 1];
        (last.slots, last.slowness_permille, last.broken_permille) = (1 + last.slots, 1000, 0);
        let count = if random.permille(200) { 0 } else { random.below(25) };
        let spread = [3_000_000, 10_000_000, QUIET_US / 2][random.below(3) as usize];
        let mut faults: Vec<(u64, Fault)> =
            (0..count).map(|_| (random.below(spread), fault(&mut random, nodes - 1))).collect();
        faults.sort_by_key(|(at, _)| *at);
        let lossy = random.permille(600);
        Self {
            machines,
            faults,
            gossip_loss_permille: if lossy { random.below(500) } else { 0 },
            gossip_repeat_permille: if lossy { random.below(300) } else { 0 },
            gossip_delay_us_max: 300_000,
            delay_us_max: [200, 5_000, 100_000][random.below(3) as usize],
        }
    }
}

impl Plan {
    /// No faults: one requester without slots, equal workers, and equal thunks for all of them.
    pub(crate) fn uniform(workers: usize, slots: u32, thunks: usize, took_us: u64) -> Self {
        let mut made = BTreeMap::new();
        let mut demands = Vec::new();
        for i in 0..thunks {
            let thunk = thunk(&i.to_string(), took_us, "works", 1, 0, &[]);
            let (name, bytes) = thunk.encode().expect("within bounds");
            demands.push((name, evaluate(&thunk)));
            made.insert(name, (Arc::new(thunk), bytes));
        }
        let machine = |slots, graph| Machine {
            slots,
            memory_mib: 1024,
            slowness_permille: 1000,
            broken_permille: 0,
            unsettled_permille: 0,
            graph,
        };
        let requester = machine(0, Some(Work { thunks: made, demands }));
        let workers = (0..workers).map(|_| machine(slots, None));
        Self {
            machines: std::iter::once(requester).chain(workers).collect(),
            faults: Vec::new(),
            gossip_loss_permille: 0,
            gossip_repeat_permille: 0,
            gossip_delay_us_max: 20_000,
            delay_us_max: 1_000,
        }
    }
}
