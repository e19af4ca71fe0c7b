//! What a job leaves, and what it cannot smuggle out.

use std::path::Path;
use std::process::Command;

use mesh_protocol::thunk::{Input, Output, OutputObject, Thunk};
use mesh_protocol::tree::TreeEntry;

use super::Case;
use super::world::{World, path, tag};
use mesh_node::exec::Exit;

pub(crate) const CASES: &[Case] = &[
    ("outputs::files_with_their_execute_bit", files),
    ("outputs::required_and_optional", required_and_optional),
    ("outputs::directories", directories),
    ("outputs::links_lead_nowhere_else", links_lead_nowhere_else),
    ("outputs::unreadable_ones_are_read", unreadable),
    ("outputs::what_no_store_holds_is_missing", special_files),
    ("outputs::more_than_fit_one_message", many),
    ("outputs::thunks", thunks),
    ("outputs::streams", streams),
    ("outputs::streams_are_cut_with_a_notice", streams_are_cut),
    ("outputs::gcc_writes_the_same_bytes", gcc),
];

fn files() {
    let world = World::new();
    let script = "echo a > out; echo b > x; chmod 700 x";
    let mut spec = world.script(script, &["chmod"]);
    spec.outputs.insert(tag("x"), Output::required(path("/out/x")));
    let outcome = world.run(spec);
    assert!(outcome.is_success());
    assert_eq!(world.file(&outcome, "out"), (b"a\n".to_vec(), false));
    assert_eq!(world.file(&outcome, "x"), (b"b\n".to_vec(), true));
}

fn required_and_optional() {
    let world = World::new();
    let mut spec = world.script("exit 3", &[]);
    spec.outputs.insert(tag("must"), Output::required(path("/else/where")));
    let outcome = world.run(spec);
    assert_eq!(outcome.exit, Exit::Code(3));
    assert_eq!(outcome.missing, [tag("must")]);
    assert!(outcome.outputs.is_empty());
}

fn directories() {
    let world = World::new();
    let script = "mkdir -p d/e; echo a > d/a; ln -s ../a d/e/l; echo x > d/e/x; chmod 555 d/e/x";
    let mut spec = world.script(script, &["mkdir", "ln", "chmod"]);
    spec.outputs.insert(tag("d"), Output::required(path("/out/d")));
    let outcome = world.run(spec);
    let file = |text: &str, executable| TreeEntry::File { name: world.put(text), executable };
    let inner =
        world.tree(&[("l", TreeEntry::Symlink("../a".to_owned())), ("x", file("x\n", true))]);
    let wanted = world.tree(&[("a", file("a\n", false)), ("e", TreeEntry::Directory(inner))]);
    assert_eq!(outcome.outputs[&tag("d")], OutputObject::Tree(wanted));
}

/// A job leaves links to everything worth having; only what is its own comes out.
fn links_lead_nowhere_else() {
    let world = World::new();
    let secret = world.directory.path().join("secret");
    std::fs::write(&secret, "host").unwrap();
    let targets = [
        secret.to_str().unwrap(),
        "../../../../../../../../../../etc/passwd",
        "/etc/passwd",
        "/proc/1/environ",
        "/proc/1/root/etc/passwd",
        "/proc/self/exe",
        "/proc/self/cwd/out",
        "/proc/self/fd/0",
        "/dev/zero",
    ];
    let mut script = "echo own > own; ln -s own out; ln -s /nowhere loop; ln -s / root;".to_owned();
    for (number, target) in targets.iter().enumerate() {
        script.push_str(&format!("ln -s {target} l{number};"));
    }
    let mut spec = world.script(&script, &["ln"]);
    for number in 0..targets.len() {
        let at = path(&format!("/out/l{number}"));
        spec.outputs.insert(tag(&format!("l{number}")), Output::required(at));
    }
    let at = path("/out/root");
    spec.inputs.clear();
    world.add_program(&mut spec, "/bin/sh");
    world.add_program(&mut spec, "/bin/ln");
    spec.outputs.insert(tag("passwd"), Output::required(at.join("etc/passwd").unwrap()));
    let mut spec_with_dir = spec.clone();
    // An output's parents are made before the job, so the link has to replace one.
    spec_with_dir.function.arguments[2] =
        "rm -r /out/root; ln -s /proc/1/root /out/root".to_owned();
    world.add_program(&mut spec_with_dir, "/bin/rm");
    spec.outputs.remove(&tag("passwd"));
    let outcome = world.run(spec);
    assert_eq!(world.file(&outcome, "out").0, b"own\n");
    assert_eq!(outcome.outputs.len(), 1, "{:?}", outcome.outputs);
    assert_eq!(outcome.missing.len(), targets.len());
    let outcome = world.run(spec_with_dir);
    assert!(outcome.outputs.is_empty(), "{:?}", outcome.outputs);
}

fn unreadable() {
    let world = World::new();
    let script = "echo a > out; chmod 0 out; mkdir d; echo b > d/b; chmod 0 d/b d";
    let mut spec = world.script(script, &["chmod", "mkdir"]);
    spec.outputs.insert(tag("d"), Output::required(path("/out/d")));
    let outcome = world.run(spec);
    assert_eq!(world.file(&outcome, "out").0, b"a\n");
    let file = TreeEntry::File { name: world.put("b\n"), executable: false };
    assert_eq!(outcome.outputs[&tag("d")], OutputObject::Tree(world.tree(&[("b", file)])));
}

fn special_files() {
    let world = World::new();
    let mut spec = world.script("mkfifo out; mkdir d; mkfifo d/f", &["mkdir"]);
    world.add_program(&mut spec, "/usr/bin/mkfifo");
    spec.function.environment.insert("PATH".to_owned(), "/bin:/usr/bin".to_owned());
    spec.outputs.insert(tag("out"), Output::required(path("/out/out")));
    spec.outputs.insert(tag("d"), Output::required(path("/out/d")));
    let outcome = world.run(spec);
    assert_eq!(outcome.exit, Exit::Code(0));
    assert_eq!(outcome.missing, [tag("d"), tag("out")]);
}

fn many() {
    let world = World::new();
    let script = "i=0; while [ $i -lt 300 ]; do echo $i > $i; i=$((i+1)); done";
    let mut spec = world.script(script, &[]);
    for number in 0..300 {
        let at = path(&format!("/out/{number}"));
        spec.outputs.insert(tag(&format!("t{number}")), Output::required(at));
    }
    let outcome = world.run(spec);
    assert!(outcome.is_success());
    for number in 0..300 {
        let (bytes, _) = world.file(&outcome, &format!("t{number}"));
        assert_eq!(bytes, format!("{number}\n").into_bytes());
    }
}

fn thunks() {
    let world = World::new();
    let inner = Thunk::try_from(world.script("echo inner > out", &[])).unwrap();
    let (name, canonical) = inner.encode().unwrap();
    for (form, dynamic) in [
        (canonical.clone(), true),
        (inner.to_json(true).unwrap().into_bytes(), true),
        (canonical.clone(), false),
        (b"{ \"not\": \"a thunk\" }".to_vec(), true),
    ] {
        let mut spec = world.script("cat /form > out", &["cat"]);
        spec.inputs.insert(path("/form"), Input::file(world.put(&form)));
        let output = Output { path: path("/out/out"), required: true, dynamic };
        spec.outputs.insert(tag("out"), output);
        let outcome = world.run(spec);
        let left = &outcome.outputs[&tag("out")];
        if dynamic && !form.ends_with(b"\"a thunk\" }") {
            assert_eq!(*left, OutputObject::Thunk(name));
            assert_eq!(world.store.read(name.digest(), 1 << 20).unwrap(), canonical);
        } else {
            assert_eq!(world.file(&outcome, "out").0, form);
        }
    }
}

fn streams() {
    let world = World::new();
    let outcome = world.run(world.script("echo out; echo err >&2", &[]));
    assert_eq!(world.text(outcome.stdout), "out\n");
    assert_eq!(world.text(outcome.stderr), "err\n");
    assert!(outcome.usage.wall_us > 0 && outcome.usage.memory_peak_bytes > 100_000);
}

fn streams_are_cut() {
    let world = World::new();
    let most = mesh_protocol::limits::STREAM_BYTES as usize;
    let script = format!("head -c {} /dev/zero", most + 1000);
    let mut spec = world.script(&script, &[]);
    world.add_program(&mut spec, "/usr/bin/head");
    spec.function.environment.insert("PATH".to_owned(), "/usr/bin".to_owned());
    let outcome = world.run(spec);
    assert!(outcome.is_success());
    let bytes = world.bytes(outcome.stdout);
    assert!(bytes[..most].iter().all(|byte| *byte == 0));
    let notice = String::from_utf8_lossy(&bytes[most..]).into_owned();
    assert_eq!(notice, "\nmesh: 1000 more bytes were cut off here\n");
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A compile inside gives the bytes of the compile outside, debug information included.
fn gcc() {
    let world = World::new();
    let source = "#include <stdio.h>\nint main(void) { puts(\"hello\"); return 0; }\n";
    let outside = world.directory.path().join("src");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("hello.c"), source).unwrap();
    let arguments = ["gcc", "-g", "-O2", "-c", "hello.c", "-o", "hello.o"];
    let status = Command::new("gcc").args(&arguments[1..]).current_dir(&outside).status().unwrap();
    assert!(status.success());
    let mut spec = world.script("", &[]);
    let driver = std::fs::canonicalize("/usr/bin/gcc").unwrap();
    let driver = driver.to_str().unwrap();
    world.add_program(&mut spec, driver);
    for tool in ["cc1", "as"] {
        let found = said("gcc", &[&format!("-print-prog-name={tool}")]);
        let found =
            if Path::new(&found).is_absolute() { found } else { format!("/usr/bin/{found}") };
        world.add_program(&mut spec, &found);
    }
    let listed = said("gcc", &["-O2", "-M", outside.join("hello.c").to_str().unwrap()]);
    for header in listed.split_whitespace().filter(|word| word.ends_with(".h")) {
        let place = path("/").join(header).unwrap();
        spec.inputs.insert(place, Input::file(world.put_file(Path::new(header))));
    }
    let at = path(outside.to_str().unwrap());
    spec.inputs.insert(at.join("hello.c").unwrap(), Input::file(world.put(source)));
    spec.function.executable = path(driver);
    spec.function.arguments = arguments.map(str::to_owned).into();
    spec.function.arguments[0] = driver.to_owned();
    spec.function.environment.insert("PATH".to_owned(), "/usr/bin".to_owned());
    spec.function.working_directory = at.clone();
    spec.outputs.insert(tag("o"), Output::required(at.join("hello.o").unwrap()));
    let outcome = world.run(spec);
    let inside = world.file(&outcome, "o").0;
    assert!(inside == std::fs::read(outside.join("hello.o")).unwrap());
}
