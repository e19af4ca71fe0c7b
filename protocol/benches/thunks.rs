//! What thunks cost before any of them runs: encoding, decoding, and reducing 100,000 of them
//! from a memo that knows every result. Run with `cargo bench -p mesh-protocol`.
//!
//! Each line is the median of several rounds, in CPU time of this thread, so that other work on
//! the machine disturbs it little; the figure in brackets is per thunk.

mod measure;

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::sync::Arc;

use mesh_protocol::graph::Outputs;
use mesh_protocol::name::{OutputRef, Tag, ThunkName, ValueName};
use mesh_protocol::path::AbsPath;
use mesh_protocol::sched::force::{DemandId, Effect, Force, ForcePolicy, Input};
use mesh_protocol::thunk::{
    Function, Input as ThunkInput, Limits, Output, OutputObject, Platform, Source, Thunk, ThunkSpec,
};

use measure::measure;

const THUNKS: usize = 100_000;

fn main() {
    if !measure::is_asked_for() {
        return;
    }
    for inputs in [20, 200] {
        codec(inputs);
    }
    let shapes = [
        Shape { label: "one thunk reads all others", level: THUNKS - 1, reads: Reads::All },
        Shape { label: "1,000 levels of 100, each reads two", level: 100, reads: Reads::Two },
        Shape { label: "one chain", level: 1, reads: Reads::Two },
    ];
    for shape in &shapes {
        let graph = Built::of(shape);
        reduce(&graph, Known::AsWritten, shape.label);
        reduce(&graph, Known::Substituted, shape.label);
    }
}

fn path(text: &str) -> AbsPath {
    text.parse().expect("a normal path")
}

fn out() -> Tag {
    "out".parse().expect("a tag")
}

/// Looks like a compile: a program, a source and headers deep below a project's directory.
fn thunk(label: &str, sources: impl Iterator<Item = Source>) -> Thunk {
    let input = |(i, source): (usize, Source)| {
        let place = format!("/home/user/src/project/include/module{}/header{i}.h", i % 7);
        (path(&place), ThunkInput { source, ..ThunkInput::file(ValueName::of(b"")) })
    };
    let arguments = ["cc", "-O2", "-c", label, "-o", "object.o"];
    let spec = ThunkSpec {
        function: Function {
            executable: path("/usr/bin/cc"),
            arguments: arguments.map(str::to_owned).to_vec(),
            environment: BTreeMap::from([("LANG".to_owned(), "C".to_owned())]),
            working_directory: path("/home/user/src/project"),
        },
        inputs: sources.enumerate().map(input).collect(),
        symlinks: BTreeMap::new(),
        directories: BTreeSet::new(),
        outputs: BTreeMap::from([(out(), Output::required(path("/home/user/src/project/o.o")))]),
        stdin: None,
        limits: Limits::for_platform(Platform::X86_64Linux),
    };
    Thunk::try_from(spec).expect("a valid thunk")
}

fn codec(inputs: usize) {
    let count = 800_000 / inputs;
    let sources = || (0..inputs).map(|i| Source::Value(ValueName::of(&i.to_le_bytes())));
    let thunks: Vec<Thunk> = (0..count).map(|i| thunk(&i.to_string(), sources())).collect();
    measure(&format!("encode and name {count} thunks of {inputs} inputs"), count, || {
        for thunk in &thunks {
            black_box(thunk.encode().expect("within bounds"));
        }
    });
    let encodings: Vec<Vec<u8>> =
        thunks.iter().map(|thunk| thunk.encode().expect("within bounds").1).collect();
    measure(&format!("decode {count} thunks of {inputs} inputs"), count, || {
        for bytes in &encodings {
            black_box(Thunk::decode(bytes).expect("canonical"));
        }
    });
}

enum Reads {
    /// Every thunk of the level before.
    All,
    /// Two of the level before (or the one that is there).
    Two,
}

struct Shape {
    label: &'static str,
    level: usize,
    reads: Reads,
}

/// A graph, and what each of its thunks reduces to.
struct Built {
    encodings: Vec<Vec<u8>>,
    names: Vec<ThunkName>,
    top: ThunkName,
    results: BTreeMap<ThunkName, Outputs>,
    substituted: BTreeMap<ThunkName, Outputs>,
}

impl Built {
    fn of(shape: &Shape) -> Self {
        let mut built = Self {
            encodings: Vec::new(),
            names: Vec::new(),
            top: ThunkName::of(b""),
            results: BTreeMap::new(),
            substituted: BTreeMap::new(),
        };
        let mut level: Vec<ThunkName> = Vec::new();
        while built.names.len() < THUNKS {
            let width = shape.level.min(THUNKS - built.names.len());
            let below = std::mem::take(&mut level);
            for i in 0..width {
                let picked: Vec<ThunkName> = match shape.reads {
                    Reads::All => below.clone(),
                    Reads::Two if below.is_empty() => Vec::new(),
                    Reads::Two => vec![below[i % below.len()], below[(i * 7 + 1) % below.len()]],
                };
                level.push(built.add(&picked));
            }
        }
        built.top = *built.names.last().expect("there are thunks");
        built
    }

    fn add(&mut self, reads: &[ThunkName]) -> ThunkName {
        let label = self.names.len().to_string();
        let output = |&thunk: &ThunkName| OutputRef { thunk, tag: out() };
        let thunk = thunk(&label, reads.iter().map(|name| Source::Output(output(name))));
        let (name, bytes) = thunk.encode().expect("within bounds");
        let object = OutputObject::File { name: ValueName::of(&bytes), executable: false };
        let outputs = Arc::new(BTreeMap::from([(out(), object)]));
        let reduced =
            reads.iter().map(|name| (output(name), self.results[name][&out()].clone())).collect();
        let substituted = thunk.substitute(&reduced).expect("all is reduced");
        self.substituted.insert(substituted.encode().expect("within bounds").0, outputs.clone());
        self.results.insert(name, outputs);
        self.names.push(name);
        self.encodings.push(bytes);
        name
    }
}

/// Which names the memo knows.
#[derive(Clone, Copy)]
enum Known {
    /// Every thunk as its frontend wrote it: a rebuild in which nothing changed.
    AsWritten,
    /// Only thunks that name values: the first build of a member whose results others have.
    Substituted,
}

fn reduce(graph: &Built, known: Known, shape: &str) {
    let (memo, how) = match known {
        Known::AsWritten => (&graph.results, "as written"),
        Known::Substituted => (&graph.substituted, "substituted"),
    };
    measure(&format!("load and reduce {THUNKS}, {how}: {shape}"), THUNKS, || {
        let mut force = Force::new(ForcePolicy::default());
        let mut inputs: Vec<Input> = graph.load().collect();
        inputs.extend(graph.demands());
        inputs.reverse();
        let mut effects = Vec::new();
        let mut answers = 0;
        while let Some(input) = inputs.pop() {
            force.handle(input, &mut effects);
            for effect in effects.drain(..) {
                match effect {
                    Effect::Recall(name) => {
                        inputs.push(Input::Recalled(name, memo.get(&name).cloned()));
                    }
                    Effect::Answer(_, answer) => answers += usize::from(answer.is_ok()),
                    Effect::Alias { .. } | Effect::Event(_) => {}
                    other => panic!("nothing runs, nothing is missing: {other:?}"),
                }
            }
        }
        assert_eq!(answers, THUNKS, "every demand is answered with a value");
    });
}

impl Built {
    fn load(&self) -> impl Iterator<Item = Input> {
        self.names.iter().zip(&self.encodings).map(|(name, bytes)| {
            Input::Thunk(*name, Arc::new(Thunk::decode(bytes).expect("canonical")))
        })
    }

    /// Every thunk is demanded, the last one first: as deep a descent as the shape has.
    fn demands(&self) -> impl Iterator<Item = Input> {
        let names = std::iter::once(&self.top).chain(&self.names[..self.names.len() - 1]);
        names.enumerate().map(|(i, thunk)| {
            Input::Demand(DemandId(i as u64), OutputRef { thunk: *thunk, tag: out() })
        })
    }
}
