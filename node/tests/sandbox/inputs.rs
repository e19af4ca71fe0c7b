//! Inputs stand where the thunk says, hold what it says, and stay as they are.

use mesh_protocol::thunk::{Input, InputMode, Output};
use mesh_protocol::tree::TreeEntry;

use super::Case;
use super::world::{World, path, tag, value};
use mesh_node::exec::{EngineError, Exit};

pub(crate) const CASES: &[Case] = &[
    ("inputs::files_small_and_large", files_small_and_large),
    ("inputs::have_one_time_and_owner", one_time_and_owner),
    ("inputs::one_large_file_at_two_paths", large_twice),
    ("inputs::cannot_be_changed", cannot_be_changed),
    ("inputs::trees_copied_mounted_and_laid_over", trees),
    ("inputs::links_in_trees_stay_inside", links_in_trees_stay_inside),
    ("inputs::programs_from_a_tree", programs_from_a_tree),
    ("inputs::an_output_may_be_changed_in_place", changed_in_place),
    ("inputs::a_tree_may_be_changed_in_place", tree_changed_in_place),
    ("inputs::standard_input", standard_input),
    ("inputs::a_missing_blob_is_the_machines_fault", missing_blob),
    ("inputs::places_of_the_sandbox_are_refused", reserved),
    ("inputs::read_only_where_no_output_is", read_only),
];

fn large(world: &World, seed: u8) -> mesh_protocol::name::ValueName {
    world.put(vec![seed; 300_000])
}

fn files_small_and_large() {
    let world = World::new();
    let mut spec = world.script("cat /data/small; cksum < /data/large; cat /l/small", &["cat"]);
    world.add_program(&mut spec, "/usr/bin/cksum");
    spec.function.environment.insert("PATH".to_owned(), "/bin:/usr/bin".to_owned());
    spec.inputs.insert(path("/data/small"), Input::file(world.put("small\n")));
    spec.inputs.insert(path("/data/large"), Input::file(large(&world, b'x')));
    spec.symlinks.insert(path("/l"), "data".to_owned());
    let text = world.stdout_of(spec);
    assert!(text.starts_with("small\n") && text.contains(" 300000\n"), "{text}");
    assert!(text.ends_with("small\n"), "{text}");
}

/// Root's store belongs to another user than the one that jobs run as: Linux can map that since 5.19.
fn can_map_owners() -> bool {
    let name = rustix::system::uname();
    let release = name.release().to_str().unwrap().to_owned();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse::<u32>().unwrap_or(0));
    let version = (numbers.next(), numbers.next());
    let can = !rustix::process::geteuid().is_root() || version >= (Some(5), Some(19));
    if !can {
        eprintln!("owners are not checked: root's store cannot be mapped by Linux {release}");
    }
    can
}

fn one_time_and_owner() {
    let world = World::new();
    let file = |name, executable| TreeEntry::File { name, executable };
    let (small, big) = (world.put("small"), large(&world, b'x'));
    let entries = [
        ("big", file(big, false)),
        ("link", TreeEntry::Symlink("big".to_owned())),
        ("small", file(small, false)),
        ("sub", TreeEntry::Directory(world.tree(&[("tool", file(big, true))]))),
    ];
    let mounted = world.tree(&entries);
    let copied =
        world.tree(&[("link", TreeEntry::Symlink("a".to_owned())), ("a", file(small, true))]);
    // A tree with an input laid over it is an overlay; where there is a tree at the root, all is.
    for root in [None, Some(world.tree(&[("root", file(big, false))]))] {
        let script = "cd /in && find . -printf '%p %T@ %U:%G %m\\n' && find /out /out/changed /tmp / /dev /dev/fd /dev/shm -maxdepth 0 -printf '%p %T@ %U:%G %m\\n'";
        let mut spec = world.script(script, &[]);
        world.add_program(&mut spec, "/usr/bin/find");
        spec.function.environment.insert("PATH".to_owned(), "/usr/bin".to_owned());
        spec.inputs.insert(path("/in/small"), Input::file(small));
        spec.inputs.insert(path("/in/big"), Input::file(large(&world, b'y')));
        spec.inputs.insert(path("/in/tool"), Input::executable(large(&world, b'z')));
        spec.inputs.insert(path("/in/mounted"), Input::tree(mounted));
        spec.inputs.insert(path("/in/copied"), Input::tree(copied));
        spec.inputs.insert(path("/in/overlay"), Input::tree(mounted));
        spec.inputs.insert(path("/in/overlay/more"), Input::file(small));
        spec.inputs.extend(root.map(|root| (path("/"), Input::tree(root))));
        spec.symlinks.insert(path("/in/link"), "small".to_owned());
        spec.directories.insert(path("/in/empty"));
        spec.inputs.insert(path("/out/changed"), Input::file(small));
        spec.outputs.insert(tag("changed"), Output::optional(path("/out/changed")));
        let text = world.stdout_of(spec);
        assert_eq!(text.lines().count(), 29, "{text}");
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(words[1], format!("{}.0000000000", mesh_store::OBJECT_MTIME_S), "{text}");
            if can_map_owners() {
                assert_eq!(words[2], "1000:1000", "{text}");
            }
        }
        for line in [
            "./big 444",
            "./tool 555",
            "./mounted/big 444",
            "./mounted/sub/tool 555",
            "./mounted/sub 755",
            "./copied/a 555",
            "./overlay/more 444",
            "/out/changed 644",
        ] {
            let (name, mode) = line.split_once(' ').unwrap();
            let has =
                |l: &str| l.starts_with(&format!("{name} ")) && l.ends_with(&format!(" {mode}"));
            assert!(text.lines().any(has), "{line}: {text}");
        }
    }
}

fn large_twice() {
    let world = World::new();
    let big = large(&world, b'x');
    // In a tree of the same store the file has a second name.
    let tree = world.tree(&[("big", TreeEntry::File { name: big, executable: false })]);
    world.store.tree_directory(tree).unwrap();
    let mut spec =
        world.script("[ /in/a -ef /in/b ] && echo the same; cat /in/a /in/b | cksum", &["cat"]);
    world.add_program(&mut spec, "/usr/bin/cksum");
    spec.function.environment.insert("PATH".to_owned(), "/bin:/usr/bin".to_owned());
    spec.inputs.insert(path("/in/a"), Input::file(big));
    spec.inputs.insert(path("/in/b"), Input::file(big));
    let text = world.stdout_of(spec);
    assert!(!text.contains("the same") && text.contains(" 600000\n"), "{text}");
}

fn cannot_be_changed() {
    let world = World::new();
    let (small, big) = (world.put("small"), large(&world, b'x'));
    let tree = world.tree(&[
        ("big", TreeEntry::File { name: big, executable: false }),
        ("d", TreeEntry::Directory(world.tree(&[]))),
    ]);
    let script = "for f in /in/small /in/big /tree/big /tree/new /tree/d/new /bin/sh; do \
                  (echo x >> $f) 2> /dev/null && echo changed $f; done; \
                  chmod 777 /in/big /tree/big /bin/sh 2> /dev/null && echo mode; \
                  rm -f /in/small /in/big /tree/big 2> /dev/null && echo gone; true";
    let mut spec = world.script(script, &["chmod", "rm"]);
    spec.inputs.insert(path("/in/small"), Input::file(small));
    spec.inputs.insert(path("/in/big"), Input::file(big));
    spec.inputs.insert(path("/tree"), Input::tree(tree));
    assert_eq!(world.stdout_of(spec), "");
    assert_eq!(world.bytes(big), vec![b'x'; 300_000]);
}

fn trees() {
    let world = World::new();
    let file = |text: &str| TreeEntry::File { name: world.put(text), executable: false };
    let large = TreeEntry::File { name: large(&world, b'x'), executable: false };
    let inner = world.tree(&[("a", file("outer a\n")), ("b", file("outer b\n"))]);
    let outer = world.tree(&[
        ("large", large.clone()),
        ("sub", TreeEntry::Directory(inner)),
        ("usr", TreeEntry::Directory(world.tree(&[("x", file("usr x\n"))]))),
        ("lib", TreeEntry::Symlink("usr".to_owned())),
    ]);
    let small = world.tree(&[("a", file("small a\n")), ("c", file("small c\n"))]);
    let mounted = world.tree(&[("large", large), ("m", file("m\n"))]);
    // The same below a directory, where the outer tree is an overlay in the root, and at `/`, where
    // it is the root itself.
    for root in ["/t", "/"] {
        let below = |name: &str| path(root).join(name).unwrap();
        let script = format!("cd {root}; cat sub/a sub/b sub/c sub/d usr/x lib/y usr/y mounted/m");
        let mut spec = world.script(&script, &["cat"]);
        spec.inputs.insert(path(root), Input::tree(outer));
        spec.inputs.insert(below("sub"), Input::tree(small));
        spec.inputs.insert(below("mounted"), Input::tree(mounted));
        spec.inputs.insert(below("sub/d"), Input::file(world.put("explicit d\n")));
        spec.inputs.insert(below("lib/y"), Input::file(world.put("through a link\n")));
        let wanted = "small a\nouter b\nsmall c\nexplicit d\nusr x\nthrough a link\n\
                      through a link\nm\n";
        assert_eq!(world.stdout_of(spec), wanted);
    }
}

/// A tree whose links point out of the root: what is laid over it through them stays inside.
fn links_in_trees_stay_inside() {
    let world = World::new();
    let target = world.directory.path().join("host");
    std::fs::create_dir(&target).unwrap();
    let text = target.to_str().unwrap().to_owned();
    let big = TreeEntry::File { name: large(&world, b'x'), executable: false };
    let tree = world.tree(&[
        ("big", big),
        ("up", TreeEntry::Symlink("../../../../../../..".to_owned() + &text)),
        ("abs", TreeEntry::Symlink(text.clone())),
    ]);
    let mut spec = world.script(&format!("cat {text}/a {text}/b; echo o > /t/abs/out"), &["cat"]);
    spec.inputs.insert(path("/t"), Input::tree(tree));
    spec.inputs.insert(path("/t/up/a"), Input::file(world.put("a\n")));
    spec.inputs.insert(path("/t/abs/b"), Input::file(world.put("b\n")));
    spec.outputs.insert(tag("out"), Output::required(path("/t/abs/out")));
    let outcome = world.run(spec);
    assert_eq!(world.text(outcome.stdout), "a\nb\n", "{}", world.text(outcome.stderr));
    assert_eq!(world.file(&outcome, "out").0, b"o\n");
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0);
}

fn programs_from_a_tree() {
    let world = World::new();
    let script = TreeEntry::File { name: world.put("#!/bin/sh\necho ran\n"), executable: true };
    let plain = TreeEntry::File { name: world.put("#!/bin/sh\necho ran\n"), executable: false };
    let big = TreeEntry::File { name: large(&world, b'x'), executable: false };
    let small = world.tree(&[("script", script.clone()), ("plain", plain.clone())]);
    let mounted = world.tree(&[("script", script), ("plain", plain), ("big", big)]);
    for tree in [small, mounted] {
        let mut spec = world.script("/t/script; /t/plain; echo $?", &[]);
        spec.inputs.insert(path("/t"), Input::tree(tree));
        assert_eq!(world.stdout_of(spec), "ran\n126\n");
    }
}

fn changed_in_place() {
    let world = World::new();
    for bytes in [b"x".repeat(3), b"x".repeat(300_000)] {
        let name = world.put(&bytes);
        let mut spec = world.script("echo y >> /out/out", &[]);
        spec.inputs.insert(path("/out/out"), Input::executable(name));
        let outcome = world.run(spec);
        let (changed, executable) = world.file(&outcome, "out");
        assert_eq!(changed, [bytes.as_slice(), b"y\n"].concat());
        assert!(executable);
        assert_eq!(world.bytes(name), bytes);
    }
}

fn tree_changed_in_place() {
    let world = World::new();
    let file = |text: &str| TreeEntry::File { name: world.put(text), executable: false };
    let big = TreeEntry::File { name: large(&world, b'x'), executable: false };
    let tree = world.tree(&[
        ("a", file("a")),
        ("big", big.clone()),
        ("d", TreeEntry::Directory(world.tree(&[("b", file("b"))]))),
    ]);
    let mut spec = world.script("echo c > t/d/c; rm t/a; echo b > t/d/b", &["rm"]);
    spec.inputs.insert(path("/out/t"), Input::tree(tree));
    spec.outputs.insert(tag("t"), Output::required(path("/out/t")));
    let outcome = world.run(spec);
    let wanted = world.tree(&[
        ("big", big),
        ("d", TreeEntry::Directory(world.tree(&[("b", file("b\n")), ("c", file("c\n"))]))),
    ]);
    let left = &outcome.outputs[&tag("t")];
    assert_eq!(*left, mesh_protocol::thunk::OutputObject::Tree(wanted));
}

fn standard_input() {
    let world = World::new();
    assert_eq!(world.stdout_of(world.script("cat", &["cat"])), "");
    let mut spec = world.script("cat", &["cat"]);
    spec.stdin = Some(value(world.put("read me")));
    assert_eq!(world.stdout_of(spec), "read me");
}

fn missing_blob() {
    let world = World::new();
    for bytes in [b"x".repeat(3), b"y".repeat(300_000)] {
        let name = mesh_protocol::name::ValueName::of(&bytes);
        for mode in [InputMode::File, InputMode::Executable, InputMode::Tree] {
            let mut spec = world.script("true", &[]);
            spec.inputs.insert(path("/in"), Input { source: value(name), mode });
            let error = world.try_run(spec).unwrap_err();
            assert!(matches!(error, EngineError::Store(_)), "{mode:?}: {error:?}");
        }
    }
    // What is there, but is no tree, is no tree anywhere.
    let mut spec = world.script("true", &[]);
    spec.inputs.insert(path("/in"), Input::tree(world.put("no tree")));
    assert!(matches!(world.try_run(spec), Err(EngineError::Refused(_))));
}

fn reserved() {
    let world = World::new();
    for place in ["/dev/x", "/proc/1/x", "/sys/x"] {
        let mut spec = world.script("true", &[]);
        spec.inputs.insert(path(place), Input::file(world.put("x")));
        assert!(matches!(world.try_run(spec), Err(EngineError::Refused(_))));
    }
}

fn read_only() {
    let world = World::new();
    let script = "for d in / /bin /in /out /tmp /w /w/deep /dev /proc; do \
                  (echo x > $d/f) 2> /dev/null && echo $d; done; true";
    let mut spec = world.script(script, &[]);
    spec.inputs.insert(path("/in/x"), Input::file(world.put("x")));
    spec.directories.insert(path("/w/deep"));
    spec.outputs.insert(tag("w"), Output::optional(path("/w/y")));
    assert_eq!(world.stdout_of(spec), "/out\n/tmp\n/w\n/w/deep\n");
    let mut spec = world.script("echo x > /top", &[]);
    spec.outputs.insert(tag("w"), Output::required(path("/top")));
    assert_eq!(world.run(spec).exit, Exit::Code(0));
}
