//! Plans as people would draw them, and what cannot be planned.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use mesh_protocol::limits;
use mesh_protocol::name::{Tag, ValueName};
use mesh_protocol::path::AbsPath;
use mesh_protocol::thunk::{Function, Input, Limits, Output, Platform, Thunk, ThunkSpec};
use mesh_protocol::tree::{Tree, TreeEntry};

use super::resolve::View;
use super::{COPY_TREE_ENTRIES, Entry, ExecPlan, MountKind, PlanError, Trees};

#[derive(Default)]
struct World {
    trees: BTreeMap<ValueName, Arc<Tree>>,
    names: BTreeMap<ValueName, &'static str>,
}

impl Trees for World {
    fn tree(&self, name: ValueName) -> Result<Arc<Tree>, Box<dyn std::error::Error + Send + Sync>> {
        self.trees.get(&name).cloned().ok_or_else(|| "no such tree".into())
    }
}

impl World {
    fn file(&mut self, name: &'static str, length: usize) -> ValueName {
        let value = ValueName::of(&name.bytes().cycle().take(length).collect::<Vec<_>>());
        self.names.insert(value, name);
        value
    }

    fn add_tree(&mut self, name: &'static str, entries: &[(&str, TreeEntry)]) -> ValueName {
        let entries = entries.iter().map(|(name, entry)| ((*name).to_owned(), entry.clone()));
        let tree = Tree::new(entries.collect()).unwrap();
        let value = ValueName::of(&tree.encode().unwrap());
        self.trees.insert(value, Arc::new(tree));
        self.names.insert(value, name);
        value
    }

    fn show(&self, spec: ThunkSpec) -> String {
        let plan = ExecPlan::new(&Thunk::try_from(spec).unwrap(), self).unwrap();
        let mut text = String::new();
        for layer in &plan.layers {
            let writable = if layer.writable { " writable" } else { "" };
            write!(text, "layer {}{writable}", layer.at).unwrap();
            for lower in &layer.lower {
                write!(text, " over {}/{}", self.names[&lower.tree], lower.below).unwrap();
            }
            text.push('\n');
            for (path, entry) in &layer.entries {
                writeln!(text, "  {path}: {}", self.entry(entry)).unwrap();
            }
        }
        for mount in &plan.mounts {
            writeln!(text, "mount {}: {}", mount.at, self.mount(&mount.what)).unwrap();
        }
        text
    }

    fn entry(&self, entry: &Entry) -> String {
        match entry {
            Entry::File { value, executable, writable } => {
                let flag = |set, text| if set { text } else { "" };
                let name = self.names[&ValueName(*value)];
                format!("{name}{}{}", flag(*executable, " x"), flag(*writable, " w"))
            }
            other => format!("{other:?}"),
        }
    }

    fn mount(&self, what: &MountKind) -> String {
        match what {
            MountKind::Tree(name) => format!("tree {}", self.names[name]),
            MountKind::File { value, .. } => format!("file {}", self.names[&ValueName(*value)]),
            other => format!("{other:?}"),
        }
    }
}

fn path(text: &str) -> AbsPath {
    text.parse().unwrap()
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

fn spec(inputs: &[(&str, Input)], output: &str) -> ThunkSpec {
    ThunkSpec {
        function: Function {
            executable: path("/bin/tool"),
            arguments: vec!["tool".to_owned()],
            environment: BTreeMap::new(),
            working_directory: path("/home/src"),
        },
        inputs: inputs.iter().map(|(at, input)| (path(at), input.clone())).collect(),
        symlinks: BTreeMap::new(),
        directories: BTreeSet::new(),
        outputs: BTreeMap::from([(tag("out"), Output::required(path(output)))]),
        stdin: None,
        limits: Limits::for_platform(Platform::X86_64Linux),
    }
}

fn file(name: ValueName) -> TreeEntry {
    TreeEntry::File { name, executable: false }
}

/// A compile: the toolchain as a tree at `/`, headers through one of its links, a source.
#[test]
fn headers_over_a_toolchain() {
    let mut world = World::default();
    let (cc1, header) = (world.file("cc1", 900_000), world.file("header", 100));
    let source = world.file("source", 70_000);
    let library = world.add_tree("library", &[("cc1", file(cc1)), ("same.h", file(header))]);
    let user = world.add_tree("user", &[("lib", TreeEntry::Directory(library))]);
    let root = world.add_tree(
        "toolchain",
        &[("usr", TreeEntry::Directory(user)), ("lib", TreeEntry::Symlink("usr/lib".to_owned()))],
    );
    let inputs = [
        ("/", Input::tree(root)),
        ("/lib/own.h", Input::file(header)),
        ("/usr/lib/same.h", Input::file(header)),
        ("/home/src/a.c", Input::file(source)),
    ];
    insta::assert_snapshot!(world.show(spec(&inputs, "/home/build/a.o")));
}

#[test]
fn trees_in_trees() {
    let mut world = World::default();
    let (large, small) = (world.file("large", 900_000), world.file("small", 10));
    let inner = world.add_tree("inner", &[("large", file(large)), ("a", file(small))]);
    let directory = world.add_tree("directory", &[("b", file(small))]);
    let outer =
        world.add_tree("outer", &[("large", file(large)), ("d", TreeEntry::Directory(directory))]);
    let little = world.add_tree("little", &[("a", file(small))]);
    let inputs = [
        ("/alone", Input::tree(outer)),
        ("/t", Input::tree(outer)),
        ("/t/d", Input::tree(inner)),
        ("/t/little", Input::tree(little)),
    ];
    insta::assert_snapshot!(world.show(spec(&inputs, "/home/out")));
}

#[test]
fn changed_in_place() {
    let mut world = World::default();
    let (large, small) = (world.file("large", 900_000), world.file("small", 10));
    let tree = world.add_tree("tree", &[("large", file(large)), ("small", file(small))]);
    let inputs = [("/home/prog", Input::executable(large)), ("/home/t", Input::tree(tree))];
    let mut spec = spec(&inputs, "/home/prog");
    spec.outputs.insert(tag("tree"), Output::required(path("/home/t")));
    insta::assert_snapshot!(world.show(spec));
}

#[test]
fn links_do_not_lead_above_the_root() {
    let mut world = World::default();
    let (large, small) = (world.file("large", 900_000), world.file("small", 10));
    let up = TreeEntry::Symlink("../../../../etc".to_owned());
    let tree = world.add_tree("tree", &[("large", file(large)), ("up", up)]);
    let inputs = [("/t", Input::tree(tree)), ("/t/up/passwd", Input::file(small))];
    insta::assert_snapshot!(world.show(spec(&inputs, "/home/out")));
}

#[test]
fn what_cannot_be_planned() {
    let mut world = World::default();
    let (small, other) = (world.file("small", 10), world.file("other", 11));
    let endless = TreeEntry::Symlink("loop".to_owned());
    let tree =
        world.add_tree("tree", &[("loop", endless), ("l", TreeEntry::Symlink("d".to_owned()))]);
    let plan = |inputs: &[(&str, Input)]| {
        ExecPlan::new(&Thunk::try_from(spec(inputs, "/home/out")).unwrap(), &world).unwrap_err()
    };
    let tree = ("/t", Input::tree(tree));
    let endless = plan(&[tree.clone(), ("/t/loop/x", Input::file(small))]);
    assert!(matches!(endless, PlanError::Links(_)), "{endless}");
    let twice = [("/t/d/x", Input::file(small)), ("/t/l/x", Input::file(other))];
    let twice = plan(&[&[tree], &twice[..]].concat());
    assert!(matches!(twice, PlanError::Conflict(_)), "{twice}");
    let missing = plan(&[("/t", Input::tree(small))]);
    assert!(matches!(missing, PlanError::Tree { .. }), "{missing}");
    for reserved in ["/proc/x", "/dev/null", "/sys/x"] {
        let refused = plan(&[(reserved, Input::file(small))]);
        assert!(matches!(refused, PlanError::Reserved(_)), "{refused}");
    }
}

#[test]
fn two_large_files_cannot_stand_at_one_place() {
    let mut world = World::default();
    let (one, other) = (world.file("one", 900_000), world.file("other", 900_001));
    let tree = world.add_tree("tree", &[("l", TreeEntry::Symlink("d".to_owned()))]);
    let inputs =
        [("/t", Input::tree(tree)), ("/t/d/x", Input::file(one)), ("/t/l/x", Input::file(other))];
    let thunk = Thunk::try_from(spec(&inputs, "/home/out")).unwrap();
    let conflict = ExecPlan::new(&thunk, &world).unwrap_err();
    assert!(matches!(conflict, PlanError::Conflict(_)), "{conflict}");
}

/// A small tree is cheaper to copy than to mount, a thousand of them are not.
#[test]
fn copies_of_trees_are_bounded_all_together() {
    let mut world = World::default();
    let small = world.file("small", 10);
    let names: Vec<String> = (0..COPY_TREE_ENTRIES - 1).map(|n| n.to_string()).collect();
    let entries: Vec<_> = names.iter().map(|name| (name.as_str(), file(small))).collect();
    let tree = world.add_tree("tree", &entries);
    let mut spec = spec(&[], "/home/out");
    let places = 2 * limits::THUNK_ENTRIES / COPY_TREE_ENTRIES;
    for number in 0..places {
        spec.inputs.insert(path(&format!("/t/{number}")), Input::tree(tree));
    }
    let plan = ExecPlan::new(&Thunk::try_from(spec).unwrap(), &world).unwrap();
    let copied = plan.layers[0].entries.len();
    assert!(
        (limits::THUNK_ENTRIES / 2..=limits::THUNK_ENTRIES + places).contains(&copied),
        "{copied}"
    );
    let is_tree = |mount: &&super::Mount| matches!(mount.what, MountKind::Tree(_));
    assert!(plan.mounts.iter().filter(is_tree).count() >= places / 3);
}

#[test]
fn looking_up_ends() {
    let mut world = World::default();
    let tree = world.add_tree("tree", &[]);
    let spec = spec(&[("/t", Input::tree(tree))], "/home/out");
    let view = View::new(&spec, &world).unwrap();
    view.looks.set(100);
    let deep = path(&"/d".repeat(1_000));
    let error = view.directory(&deep).unwrap_err();
    assert!(matches!(&error, PlanError::Depth(_)), "{error}");
}
