//! One store, one engine, and thunks made from this machine's own programs.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use mesh_node::exec::{Engine, EngineError, Job, Outcome, SandboxEngine, SandboxOptions};
use mesh_protocol::name::{Tag, ValueName};
use mesh_protocol::path::AbsPath;
use mesh_protocol::thunk::{
    Function, Input, Limits, Output, OutputObject, Platform, Source, Thunk, ThunkSpec,
};
use mesh_protocol::tree::{Tree, TreeEntry};
use mesh_store::{Store, StoreOptions};

pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) engine: SandboxEngine,
    pub(crate) directory: tempfile::TempDir,
    pub(crate) runtime: tokio::runtime::Runtime,
}

pub(crate) fn path(text: &str) -> AbsPath {
    text.parse().unwrap()
}

pub(crate) fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(SandboxOptions::default())
    }

    pub(crate) fn with(options: SandboxOptions) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(StoreOptions::new(directory.path().join("store"))).unwrap();
        let engine = SandboxEngine::start(store.clone(), options).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { store, engine, directory, runtime }
    }

    pub(crate) fn put(&self, bytes: impl AsRef<[u8]>) -> ValueName {
        ValueName(self.store.put_bytes(bytes.as_ref()).unwrap())
    }

    pub(crate) fn put_file(&self, path: &Path) -> ValueName {
        ValueName(self.store.put_file(&File::open(path).unwrap()).unwrap())
    }

    pub(crate) fn tree(&self, entries: &[(&str, TreeEntry)]) -> ValueName {
        let entries = entries.iter().map(|(name, entry)| ((*name).to_owned(), entry.clone()));
        self.store.put_tree_value(&Tree::new(entries.collect()).unwrap()).unwrap()
    }

    pub(crate) fn bytes(&self, name: ValueName) -> Vec<u8> {
        self.store.read(name.digest(), u64::MAX).unwrap()
    }

    pub(crate) fn text(&self, name: ValueName) -> String {
        String::from_utf8_lossy(&self.bytes(name)).into_owned()
    }

    /// Names a program of this machine and the libraries it is linked with.
    pub(crate) fn add_program(&self, spec: &mut ThunkSpec, program: &str) {
        let found = Path::new(program);
        let input = Input::executable(self.put_file(found));
        spec.inputs.insert(path(program), input);
        self.add_libraries(spec, found);
    }

    pub(crate) fn add_libraries(&self, spec: &mut ThunkSpec, program: &Path) {
        for library in libraries(program) {
            let input = Input::executable(self.put_file(&library));
            spec.inputs.insert(path(library.to_str().unwrap()), input);
        }
    }

    /// A shell script as a thunk: `/bin/sh` and these programs, one required output `/out/out`.
    pub(crate) fn script(&self, script: &str, programs: &[&str]) -> ThunkSpec {
        let mut spec = ThunkSpec {
            function: Function {
                executable: path("/bin/sh"),
                arguments: ["sh", "-c", script].map(str::to_owned).into(),
                environment: BTreeMap::from([("PATH".to_owned(), "/bin".to_owned())]),
                working_directory: path("/out"),
            },
            inputs: BTreeMap::new(),
            symlinks: BTreeMap::new(),
            directories: Default::default(),
            outputs: BTreeMap::from([(tag("out"), Output::optional(path("/out/out")))]),
            stdin: None,
            limits: Limits {
                timeout_ms: 60_000,
                ..Limits::for_platform(Platform::host().unwrap())
            },
        };
        self.add_program(&mut spec, "/bin/sh");
        for program in programs {
            self.add_program(&mut spec, &format!("/bin/{program}"));
        }
        spec
    }

    pub(crate) fn run(&self, spec: ThunkSpec) -> Outcome {
        self.try_run(spec).unwrap()
    }

    pub(crate) fn try_run(&self, spec: ThunkSpec) -> Result<Outcome, EngineError> {
        self.runtime.block_on(self.engine.run(job(spec)))
    }

    /// Runs a script that must end well, and gives what it printed.
    pub(crate) fn stdout_of(&self, spec: ThunkSpec) -> String {
        let outcome = self.run(spec);
        assert!(outcome.is_success(), "{outcome:?}\n{}", self.text(outcome.stderr));
        self.text(outcome.stdout)
    }

    /// The bytes of an output that is a file, and whether it may be executed.
    pub(crate) fn file(&self, outcome: &Outcome, tag_text: &str) -> (Vec<u8>, bool) {
        match outcome.outputs.get(&tag(tag_text)) {
            Some(OutputObject::File { name, executable }) => (self.bytes(*name), *executable),
            other => panic!("{other:?} is no file\n{}", self.text(outcome.stderr)),
        }
    }
}

pub(crate) fn job(spec: ThunkSpec) -> Job {
    let thunk = Thunk::try_from(spec).unwrap();
    Job { name: thunk.encode().unwrap().0, thunk: Arc::new(thunk) }
}

/// What `ldd` lists; nothing for a static program.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let listed = Command::new("ldd").arg(program).output().unwrap();
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    let words = text.split_whitespace().filter(|word| word.starts_with('/'));
    words.map(PathBuf::from).filter(|path| path.is_file()).collect()
}

pub(crate) fn value(name: ValueName) -> Source {
    Source::Value(name)
}
