//! Real tools under the list of system calls that the sandbox lets through.

use std::path::{Path, PathBuf};
use std::process::Command;

use mesh_tests::{Finished, Mesh, is_installed, skip};

/// A directory with sources, in which `mesh run` runs.
struct Place {
    mesh: Mesh,
    directory: tempfile::TempDir,
}

impl Place {
    /// None, and that is said, if one of these tools is not installed.
    fn with(tools: &[&str]) -> Option<Self> {
        for tool in tools {
            if !is_installed(tool) {
                skip::unable(format_args!("{tool} is not installed"));
                return None;
            }
        }
        Some(Self { mesh: Mesh::new(), directory: tempfile::tempdir().unwrap() })
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.directory.path().join(name), text).unwrap();
    }

    /// Runs a command with these inputs, which must work; what it says. An output is what it may leave, not must.
    fn run(&self, inputs: &[PathBuf], command: &[&str]) -> String {
        let mut run = self.mesh.command(["run", "--local", "--quiet"]);
        run.current_dir(self.directory.path()).args(["-o", "out/"]);
        for input in inputs {
            run.arg("-i").arg(input);
        }
        let output = run.arg("--").args(command).output().unwrap();
        let finished: Finished = mesh_tests::finished(output);
        assert_eq!(finished.code, Some(0), "{command:?}: {finished:#?}");
        finished.stdout
    }
}

fn said(command: &str, arguments: &[&str]) -> String {
    let output = Command::new(command).args(arguments).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

const C: &str = "#include <pthread.h>\n#include <stdio.h>\nstatic void *f(void *p) { return p; }\n\
    int main(void) { pthread_t t; pthread_create(&t, 0, f, 0); pthread_join(t, 0); puts(\"c\"); }\n";

#[test]
fn compilers_of_c_and_what_they_make() {
    for compiler in ["gcc", "clang"] {
        let Some(place) = Place::with(&[compiler]) else { continue };
        place.write("a.c", C);
        place.run(&[], &[compiler, "-O2", "-pthread", "a.c", "-o", "a"]);
        assert_eq!(place.run(&["a".into()], &["./a"]), "c\n", "{compiler}");
    }
}

#[test]
fn sanitizers() {
    let Some(place) = Place::with(&["gcc"]) else { return };
    place.write("a.c", C);
    let compiled = Command::new("gcc")
        .args(["-fsanitize=address,undefined", "-pthread", "a.c", "-o", "a"])
        .current_dir(place.directory.path())
        .status();
    if !compiled.unwrap().success() {
        skip::unable("gcc has no sanitizers here");
        return;
    }
    // Looking for leaks, it traces its own threads.
    assert_eq!(place.run(&["a".into()], &["./a"]), "c\n");
}

#[test]
fn python() {
    let Some(place) = Place::with(&["python3"]) else { return };
    let script = "import socket, subprocess, sys, tempfile, threading, multiprocessing.shared_memory as m\n\
        t = threading.Thread(target=print, args=('thread',)); t.start(); t.join()\n\
        a, b = socket.socketpair(); a.send(b'x'); assert b.recv(1) == b'x'\n\
        s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()\n\
        c = socket.create_connection(s.getsockname()); s.accept()\n\
        tempfile.TemporaryFile().write(b'x')\n\
        assert subprocess.run([sys.executable, '-c', 'raise SystemExit(3)']).returncode == 3\n";
    assert_eq!(place.run(&[], &["python3", "-c", script]), "thread\n");
}

#[test]
fn perl() {
    let Some(place) = Place::with(&["perl"]) else { return };
    let script = "my $p = fork(); exit 3 unless $p; waitpid($p, 0); print $? >> 8; \
        pipe(my $r, my $w); syswrite($w, 'x'); sysread($r, my $b, 1); print $b";
    assert_eq!(place.run(&[], &["perl", "-e", script]), "3x");
}

#[test]
fn javascript() {
    let Some(place) = Place::with(&["node"]) else { return };
    let script = "const { Worker } = require('worker_threads'); require('fs').writeFileSync('/tmp/a', 'x'); \
        new Worker('require(\"worker_threads\").parentPort.postMessage(7)', { eval: true }) \
        .on('message', m => console.log(m))";
    assert_eq!(place.run(&[], &["node", "-e", script]), "7\n");
}

#[test]
fn java() {
    let Some(place) = Place::with(&["java", "javac"]) else { return };
    place.write(
        "A.java",
        "public class A { public static void main(String[] a) throws Exception { \
         Thread t = new Thread(() -> System.out.println(7)); t.start(); t.join(); System.gc(); } }",
    );
    let compiled = Command::new("javac").arg("A.java").current_dir(place.directory.path()).status();
    assert!(compiled.unwrap().success());
    let java = std::fs::canonicalize(said("sh", &["-c", "command -v java"])).unwrap();
    let home = java.ancestors().nth(2).unwrap();
    let mut inputs: Vec<PathBuf> = vec!["A.class".into()];
    for part in [
        "lib/modules",
        "lib/jvm.cfg",
        "lib/server",
        "conf/security",
        "lib/tzdb.dat",
        "lib/security/default.policy",
    ] {
        inputs.extend(Some(home.join(part)).filter(|path| path.exists()));
    }
    for library in std::fs::read_dir(home.join("lib")).unwrap().flatten() {
        inputs.extend(
            Some(library.path()).filter(|path| path.extension().is_some_and(|e| e == "so")),
        );
    }
    let said = place.run(&inputs, &[java.to_str().unwrap(), "-Xshare:off", "-cp", ".", "A"]);
    assert_eq!(said, "7\n");
}

#[test]
fn video() {
    let Some(place) = Place::with(&["ffmpeg"]) else { return };
    let source = "testsrc=duration=1:size=64x64:rate=5";
    place.run(&[], &["ffmpeg", "-v", "error", "-f", "lavfi", "-i", source, "-f", "null", "-"]);
}

#[test]
fn rust() {
    let Some(place) = Place::with(&["rustc"]) else { return };
    let root = PathBuf::from(said("rustc", &["--print", "sysroot"]));
    let rustc = root.join("bin/rustc");
    let mut inputs: Vec<PathBuf> = vec!["l.rs".into()];
    inputs.extend(libraries(&root.join("lib")));
    let target = said("rustc", &["--print", "host-tuple"]);
    let target = root.join("lib/rustlib").join(target).join("lib");
    if !rustc.exists() || !target.exists() {
        skip::unable("rustc is not where it says");
        return;
    }
    inputs.push(target);
    place.write("l.rs", "pub fn f(v: Vec<u32>) -> u32 { v.iter().sum() }");
    let out = ["--crate-type", "lib", "--emit", "obj", "-o", "out/l.o", "l.rs"];
    place.run(&inputs, &[&[rustc.to_str().unwrap()], &out[..]].concat());
    assert!(place.directory.path().join("out/l.o").exists());
}

fn libraries(directory: &Path) -> Vec<PathBuf> {
    let found = std::fs::read_dir(directory).unwrap().flatten().map(|entry| entry.path());
    found.filter(|path| path.to_string_lossy().contains(".so")).collect()
}
