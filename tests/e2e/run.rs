//! `mesh run`: single commands as thunks.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use mesh_tests::{Mesh, binary};
use serde_json::Value;

const NOBODY: u32 = 65534;

/// A user, and the directory that they work in.
struct Site {
    mesh: Mesh,
    place: tempfile::TempDir,
}

/// What a command left, byte by byte.
#[derive(Debug, PartialEq)]
struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

fn ended(output: Output) -> Ended {
    Ended {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Site {
    fn new() -> Self {
        Self { mesh: Mesh::new(), place: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> &Path {
        self.place.path()
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn script(&self, path: &str, content: &str) {
        self.write(path, content);
        fs::set_permissions(self.path().join(path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[track_caller]
    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path().join(path)).unwrap()
    }

    fn mode(&self, path: &str) -> u32 {
        fs::symlink_metadata(self.path().join(path)).unwrap().permissions().mode() & 0o7777
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.mesh.command(["run"]);
        command.args(arguments).current_dir(self.path()).env("PATH", "/usr/bin:/bin");
        command
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        ended(self.command(arguments).output().unwrap())
    }

    /// Runs it with `--quiet`: what is left is what the command itself says.
    fn quiet(&self, arguments: &[&str]) -> Ended {
        self.run(&[&["-q"], arguments].concat())
    }

    /// The standard output of a quiet run that must succeed and say nothing else.
    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> String {
        let ended = self.quiet(arguments);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{arguments:?}: {ended:?}");
        ended.stdout
    }

    /// The same command without mesh.
    fn plain(&self, words: &[&str]) -> Ended {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).current_dir(self.path()).env("LC_ALL", "C");
        ended(command.output().unwrap())
    }
}

#[test]
fn a_command_runs_once_and_says_the_same_again() {
    let site = Site::new();
    site.write("in", "b\nc\na\n");
    let script = "sort in > out; echo said; echo warned >&2";
    let line = ["-i", "in", "-i", "/usr/bin/sort", "-o", "out", "--", "sh", "-c", script];
    let first = site.run(&line);
    assert_eq!(first.code, 0, "{first:?}");
    assert_eq!(site.read("out"), "a\nb\nc\n");
    assert!(first.stderr.starts_with("warned\nmesh: 1 thunk, 1 run, 0 reused"), "{first:?}");
    fs::remove_file(site.path().join("out")).unwrap();
    let second = site.run(&line);
    assert_eq!(site.read("out"), "a\nb\nc\n");
    assert!(second.stderr.starts_with("warned\nmesh: 1 thunk, 0 run, 1 reused"), "{second:?}");
    assert_eq!((second.stdout.as_str(), first.stdout.as_str()), ("said\n", "said\n"));
    let third = site.run(&[&["--no-memo"], &line[..]].concat());
    assert!(third.stderr.contains(", 1 run, 0 reused"), "{third:?}");
}

#[test]
fn streams_and_status_are_the_commands_own() {
    let site = Site::new();
    for script in ["printf 'no newline'; echo err >&2", "echo some; echo more >&2; exit 42"] {
        let words = ["sh", "-c", script];
        let run = site.quiet(&[&["--"], &words[..]].concat());
        assert_eq!(run, site.plain(&words));
        assert_eq!(site.quiet(&[&["--"], &words[..]].concat()), run, "and again");
    }
    assert_eq!(site.quiet(&["--", "sh", "-c", "kill -9 $$"]).code, 137);
    let late = site.quiet(&["--timeout", "0.1", "--", "sh", "-c", "while :; do :; done"]);
    assert_eq!((late.code, late.stderr.as_str()), (124, "mesh: the command ran out of time\n"));
    let closing = site.run(&["--", "sh", "-c", "exit 42"]).stderr;
    assert!(
        closing.starts_with("mesh: 1 thunk, 0 run, 0 reused, 1 failed, 0 local, "),
        "{closing}"
    );
}

/// What is kept of each stream.
const KEPT: usize = 16 << 20;

#[test]
fn what_is_more_than_is_kept_is_cut_with_a_notice() {
    let site = Site::new();
    let write = |more: usize, then: &str| format!("head -c {} /dev/zero {then}", KEPT + more);
    let run = |script: &str, options: &[&str]| {
        let line = ["-q", "-i", "/usr/bin/head"];
        site.run(&[&line, options, &["--", "sh", "-c", script]].concat())
    };
    let notice = |what: &str| {
        format!(
            "mesh: cut off the last {what}: mesh keeps 16 MiB of each stream\n\
             hint: let the command write to a file, and name that as an output\n"
        )
    };
    // What just fits is whole.
    let whole = run(&write(0, ""), &[]);
    assert_eq!((whole.code, whole.stdout.len(), whole.stderr.as_str()), (0, KEPT, ""));
    // Run, from the memo, and failed: the status is the command's own.
    for (script, code) in [(write(1000, ""), 0), (write(1000, ""), 0), (write(1000, "; exit 5"), 5)]
    {
        let cut = run(&script, &[]);
        let seen = (cut.code, cut.stdout.len(), cut.stderr);
        assert_eq!(seen, (code, KEPT, notice("1000 bytes of standard output")));
        assert!(cut.stdout.bytes().all(|byte| byte == 0));
        let json: Value = serde_json::from_str(&run(&script, &["--json"]).stdout).unwrap();
        assert_eq!(json["stdout_cut_bytes"], 1000, "{json}");
        assert_eq!(json["status"], code, "{json}");
    }
    let both = run(&format!("{}; {}", write(1, ""), write(2, ">&2")), &[]);
    let said = notice("1 bytes of standard output and the last 2 bytes of standard error");
    assert!(both.stderr.ends_with(&said) && both.stderr.len() == KEPT + said.len());
    assert_eq!((both.code, both.stdout.len()), (0, KEPT));
}

#[test]
fn what_cannot_be_started_ends_as_in_a_shell() {
    let site = Site::new();
    site.write("text", "");
    site.script("broken", "#!/no/such/interpreter\n");
    site.script("binary", "\u{1}\0\u{2}");
    for (name, code, problem) in [
        ("no-such-command", 127, "command not found"),
        ("./missing", 127, "no such file or directory"),
        ("./text", 126, "permission denied"),
        ("/tmp", 126, "is a directory"),
        ("./broken", 126, "bad interpreter"),
        ("./binary", 126, "exec format error"),
    ] {
        let run = site.run(&["--", name]);
        assert_eq!((run.code, run.stdout.as_str()), (code, ""), "{run:?}");
        assert!(run.stderr.starts_with("mesh: ") && run.stderr.contains(problem), "{run:?}");
    }
}

#[test]
fn a_compile_gives_the_bytes_of_a_plain_one() {
    let site = Site::new();
    site.write("include/answer.h", "#define ANSWER 42\n");
    site.write("main.c", "#include <stdio.h>\n#include \"answer.h\"\nint main(void) { return printf(\"%d\\n\", ANSWER) < 0; }\n");
    let compile = ["gcc", "-O2", "-g", "-Iinclude", "-MD", "-c", "main.c", "-o", "main.o"];
    assert_eq!(site.plain(&compile).code, 0);
    let plain = fs::read(site.path().join("main.o")).unwrap();
    let dependencies = site.read("main.d");
    fs::remove_file(site.path().join("main.o")).unwrap();
    fs::remove_file(site.path().join("main.d")).unwrap();
    site.ok(&[&["-i", "main.c", "-o", "main.o", "--"], &compile[..]].concat());
    assert!(fs::read(site.path().join("main.o")).unwrap() == plain, "other bytes");
    assert_eq!(site.read("main.d"), dependencies);
    site.ok(&["-o", "bin/main", "--", "gcc", "main.o", "-o", "bin/main"]);
    assert_eq!(site.plain(&["bin/main"]).stdout, "42\n");
    assert_eq!(site.ok(&["--", "bin/main"]), "42\n");
    let missing = site.run(&["--", "gcc", "-c", "absent.c"]);
    assert_eq!((missing.code, missing.stderr.as_str()), (66, "mesh: absent.c does not exist\n"));
    let unmodelled = site.run(&["--", "gcc", "-c", "-save-temps", "main.c"]).stderr;
    assert!(unmodelled.contains("hint: only what -i gives was there"), "{unmodelled}");
    site.write("main.c", "int main(void) { return nothing; }\n");
    let failing = ["gcc", "-c", "main.c"];
    let run = site.command(&[&["-q", "--"], &failing[..]].concat()).env("LC_ALL", "C").output();
    assert_eq!(ended(run.unwrap()), site.plain(&failing));
}

#[test]
fn scripts_bring_their_interpreters() {
    let site = Site::new();
    site.script("hello", "#!/bin/sh\necho \"$0: $*\"\n");
    site.script("outer", "#!./inner -x\n");
    site.script("inner", "#!/bin/sh\necho \"$0: $*\"\n");
    site.script("bare", "echo bare $1\n");
    site.script("sub/snake", "#!/usr/bin/env python3\nimport sys\nprint(sys.argv)\n");
    site.script("pearl", "#!/usr/bin/env -S perl -w\nuse Data::Dumper;\nprint Dumper($0);\n");
    site.script("caller", "#!/bin/sh\n./hello from $0\nsub/snake deep\n");
    for words in
        [&["./hello", "a b", "c"][..], &["./outer", "1"], &["sub/snake", "1"], &["./pearl"]]
    {
        let run = site.ok(&[&["--"], words].concat());
        assert_eq!(run, site.plain(words).stdout, "{words:?}");
    }
    assert_eq!(site.ok(&["--", "./bare", "1"]), "bare 1\n");
    // A script that is given brings its interpreter too.
    let run = site.ok(&["-i", "hello", "-i", "sub/snake", "--", "./caller"]);
    assert_eq!(run, site.plain(&["./caller"]).stdout);
}

#[test]
fn python_brings_its_standard_library() {
    let site = Site::new();
    let program = "import ctypes, hashlib, json, sqlite3, ssl, sys\n\
                   base = sqlite3.connect(':memory:')\n\
                   print(json.dumps(base.execute('select 6 * 7').fetchone()), sys.argv)\n";
    site.write("x.py", program);
    let words = ["python3", "x.py", "1"];
    let line = [&["-i", "x.py", "--"], &words[..]].concat();
    assert_eq!(site.ok(&line), site.plain(&words).stdout);
    // What stands in for python in `PATH`, as pyenv does, is passed.
    site.script("shims/python3", "#!/bin/sh\nexec /usr/bin/python3 \"$@\"\n");
    let path = format!("{}:/usr/bin:/bin", site.path().join("shims").display());
    let run = site.command(&[&["-q"], &line[..]].concat()).env("PATH", path).output().unwrap();
    let run = ended(run);
    assert_eq!((run.code, run.stdout), (0, site.plain(&words).stdout), "{}", run.stderr);
}

#[test]
fn directories_go_in_and_come_out() {
    let site = Site::new();
    site.write("in/a", "1\n");
    site.write("in/deep/b", "2\n");
    site.script("in/tool", "#!/bin/sh\necho tool\n");
    fs::create_dir(site.path().join("in/empty")).unwrap();
    symlink("deep/b", site.path().join("in/link")).unwrap();
    symlink("in", site.path().join("alias")).unwrap();
    site.write("out/kept", "mine\n");
    let copy = ["-i", "alias", "-i", "/bin/cp", "-o", "out", "--", "cp", "-a", "alias/.", "out"];
    site.ok(&copy);
    assert_eq!(site.read("out/deep/b"), "2\n");
    assert_eq!(site.read("out/kept"), "mine\n");
    assert_eq!(fs::read_link(site.path().join("out/link")).unwrap(), Path::new("deep/b"));
    assert!(site.path().join("out/empty").is_dir());
    assert_eq!((site.mode("out/tool") & 0o111, site.mode("out/a") & 0o111), (0o111, 0));
    // A directory that is not there yet; the slash says that it is one.
    let fresh = ["-i", "in", "-i", "/bin/cp", "-o", "new/out/", "--", "cp", "in/a", "new/out/"];
    site.ok(&fresh);
    assert_eq!(site.read("new/out/a"), "1\n");
    assert!(
        site.run(&fresh).stderr.contains(", 0 run, 1 reused"),
        "that it is there now is the same"
    );
    let left: Vec<_> = fs::read_dir(site.path().join("new")).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing half-made stays: {left:?}");
}

#[test]
fn a_directory_is_changed_in_place() {
    let site = Site::new();
    for (path, content) in [("d/changed", "old"), ("d/same", "same"), ("d/sub/gone", "gone")] {
        site.write(path, content);
    }
    let before = fs::metadata(site.path().join("d/same")).unwrap();
    let script = "echo new > d/changed; echo made > d/made; rm -r d/sub";
    site.ok(&["-i", "d", "-o", "d", "-i", "/bin/rm", "--", "sh", "-c", script]);
    assert_eq!((site.read("d/changed"), site.read("d/made")), ("new\n".into(), "made\n".into()));
    assert!(!site.path().join("d/sub").exists());
    let after = fs::metadata(site.path().join("d/same")).unwrap();
    assert_eq!((before.ino(), before.mtime_nsec()), (after.ino(), after.mtime_nsec()));
    // A single file too, and its mode stays.
    site.write("list", "1\n");
    fs::set_permissions(site.path().join("list"), fs::Permissions::from_mode(0o600)).unwrap();
    site.ok(&["-i", "list", "-o", "list", "--", "sh", "-c", "echo 2 >> list"]);
    assert_eq!((site.read("list"), site.mode("list")), ("1\n2\n".to_owned(), 0o600));
}

#[test]
fn outputs_that_are_missing_and_those_of_a_failure() {
    let site = Site::new();
    let run = site.run(&["-o", "out", "-o", "absent", "--", "sh", "-c", "echo 1 > out"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("the command left no ") && run.stderr.contains("/absent\n"));
    let run = site.run(&["-o", "report", "--", "sh", "-c", "echo bad > report; exit 9"]);
    assert_eq!((run.code, site.read("report").as_str()), (9, "bad\n"));
    let run = site.run(&["-o", "/dev/null", "--", "true"]);
    assert_eq!(run.code, 65, "{run:?}");
    // A link leads to the file that is written.
    site.write("target", "old");
    symlink("target", site.path().join("link")).unwrap();
    site.ok(&["-o", "link", "--", "sh", "-c", "echo new > link"]);
    assert_eq!(site.read("target"), "new\n");
    assert!(fs::symlink_metadata(site.path().join("link")).unwrap().is_symlink());
}

#[test]
fn what_is_not_named_cannot_be_seen() {
    let site = Site::new();
    site.write("given", "1\n");
    site.write("secret", "2\n");
    site.write("sub/other", "3\n");
    let script = "echo *; for path in /etc/passwd /usr/bin/env /root /home sub/other; do
                    if [ -e $path ]; then echo sees $path; fi; done; echo ${HOME-homeless}";
    assert_eq!(site.ok(&["-i", "given", "--", "sh", "-c", script]), "given\nhomeless\n");

    let run = site.run(&["-i", "given", "--", "cat", "given", "secret", "sub/other"]);
    assert_eq!((run.code, run.stdout.as_str()), (1, "1\n"));
    let hints: Vec<&str> = run.stderr.lines().filter(|l| l.starts_with("hint: ")).collect();
    let wanted = ["hint: secret was not given with -i", "hint: sub/other was not given with -i"];
    assert_eq!(hints, wanted, "{run:?}");
    let run = site.run(&["--", "ls", "sub", "/", "."]);
    let hints: Vec<&str> = run.stderr.lines().filter(|l| l.starts_with("hint: ")).collect();
    assert_eq!(hints, ["hint: sub was not given with -i"], "{run:?}");
    let run = site.run(&["--", "sort", "--files0-from=secret"]);
    assert!(run.stderr.contains("hint: secret was not given with -i"), "{run:?}");
    let run = site.run(&["--", "sh", "-c", "sort given"]);
    assert!(run.code == 127 && run.stderr.contains("hint: programs that"), "{run:?}");
    assert_eq!(site.run(&["-i", "nothing", "--", "true"]).code, 66);
    assert_eq!(site.run(&["-i", "/dev/null", "--", "true"]).code, 65);
    assert_eq!(site.run(&["-i", "/", "--", "true"]).code, 65);
}

#[test]
fn what_a_build_has_yet_to_make_is_no_input() {
    let site = Site::new();
    site.write("main.c", "int main(void) { return 0; }\n");
    let mut infer = site.mesh.command(["infer", "--", "gcc", "-c", "main.c"]);
    let inferred = infer.current_dir(site.path()).env("PATH", "/usr/bin:/bin").output().unwrap();
    assert!(inferred.status.success(), "{inferred:?}");
    let run = site.run(&["-i", "main.o", "--", "cat", "main.o"]);
    assert_eq!((run.code, run.stdout.as_str()), (74, ""));
    assert!(run.stderr.contains("a placeholder: `mesh force`"), "{run:?}");
}

#[test]
fn environment_and_standard_input_are_what_is_given() {
    let site = Site::new();
    let mut command = site.command(&["-q", "--env", "A", "--env", "B=2", "--env", "NOT_SET"]);
    command.args(["--", "sh", "-c", "echo $A $B ${NOT_SET-unset} ${C-hidden}"]);
    let run = ended(command.env("A", "1").env("C", "3").env_remove("NOT_SET").output().unwrap());
    assert_eq!((run.code, run.stdout.as_str()), (0, "1 2 unset hidden\n"), "{run:?}");
    site.write("in", "from a file\n");
    assert_eq!(site.ok(&["--stdin", "in", "--", "cat"]), "from a file\n");
    assert_eq!(site.ok(&["--", "cat"]), "");
    let piped = site.mesh.run_with(["run", "-q", "--stdin", "-", "--", "cat"], b"piped\n");
    assert_eq!(piped.stdout, "piped\n", "{piped:?}");
}

#[test]
fn json_names_what_the_command_left() {
    let site = Site::new();
    let line = ["--json", "-o", "out", "--", "sh", "-c", "echo said; echo file > out; exit 3"];
    let run = site.quiet(&line);
    let result: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((run.code, &result["status"]), (3, &3.into()));
    assert_eq!(site.mesh.ok(["cat", result["stdout"].as_str().unwrap()]), "said");
    let (path, object) = result["outputs"].as_object().unwrap().iter().next().unwrap();
    assert!(path.starts_with('/') && path.ends_with("/out"));
    assert_eq!(site.mesh.ok(["cat", object["file"]["name"].as_str().unwrap()]), "file");
    let shown = site.mesh.ok(["thunk", "show", result["thunk"].as_str().unwrap()]);
    assert!(shown.contains("/bin/sh") || shown.contains("dash"), "{shown}");
}

/// Jobs of root run as somebody else, who must be able to read the store.
#[test]
fn a_private_umask_keeps_nobody_out_of_their_own_sandbox() {
    let site = Site::new();
    let script = "umask 077; exec \"$0\" run -q -i \"$1\" -o out -- sh -c 'echo 1 | sort > out'";
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(binary()).arg("/usr/bin/sort").current_dir(site.path());
    let run = ended(command.env("MESH_HOME", site.path().join("new/home")).output().unwrap());
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    assert_eq!((site.read("out").as_str(), site.mode("out")), ("1\n", 0o600));
    assert_eq!(site.mode("new/home"), 0o700, "what is not the store's stays private");
}

/// Where the tests run as root: the same for an ordinary user, whose files are their own.
#[test]
fn an_ordinary_user_can_do_the_same() {
    let place = tempfile::tempdir().unwrap();
    let own = |path: &Path| {
        if fs::metadata("/proc/self").unwrap().uid() == 0 {
            std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    };
    let (mesh, work) = (place.path().join("mesh"), place.path().join("work"));
    fs::copy(binary(), &mesh).unwrap();
    fs::create_dir(&work).unwrap();
    fs::write(work.join("in"), "b\na\n").unwrap();
    for path in [place.path(), &mesh, &work, &work.join("in")] {
        own(path);
    }
    let run = |words: &[&str]| {
        let mut command = Command::new(&mesh);
        command.arg("run").args(words).current_dir(&work).env_clear();
        command.env("MESH_HOME", place.path().join("home")).env("PATH", "/usr/bin:/bin");
        if fs::metadata("/proc/self").unwrap().uid() == 0 {
            command.uid(NOBODY).gid(NOBODY);
        }
        ended(command.output().unwrap())
    };
    let line = ["-i", "in", "-o", "out", "--", "sort", "-o", "out", "in"];
    let first = run(&line);
    assert!(first.code == 0 && first.stderr.contains(", 1 run, "), "{first:?}");
    assert_eq!(fs::read_to_string(work.join("out")).unwrap(), "a\nb\n");
    assert_eq!(fs::metadata(work.join("out")).unwrap().uid(), fs::metadata(&work).unwrap().uid());
    assert!(run(&line).stderr.contains(", 0 run, 1 reused"));
    let failed = run(&["-q", "--", "sh", "-c", "echo no >&2; exit 5"]);
    assert_eq!((failed.code, failed.stderr.as_str()), (5, "no\n"));
}

#[test]
fn a_success_without_what_was_meant_is_told() {
    let site = Site::new();
    site.write("data", "b\na\n");
    let piped =
        site.run(&["-i", "data", "-i", "/usr/bin/cat", "--", "sh", "-c", "sort data | cat"]);
    assert_eq!((piped.code, piped.stdout.as_str()), (0, ""), "{piped:?}");
    assert!(piped.stderr.contains("hint: programs that the command starts"), "{piped:?}");
    let script = "cat \"$1\" 2> /dev/null; true";
    let ignored = site.run(&["-i", "/usr/bin/cat", "--", "sh", "-c", script, "sh", "data"]);
    assert_eq!(ignored.code, 0, "{ignored:?}");
    assert!(ignored.stderr.contains("hint: data was not given with -i\n"), "{ignored:?}");
    let given = site.run(&["-i", "data", "-i", "/usr/bin/cat", "--", "cat", "data"]);
    assert!(!given.stderr.contains("hint"), "{given:?}");
}

#[test]
fn what_cannot_be_a_thunk_is_wrong_data() {
    let site = Site::new();
    for outputs in [["-o", "/dev/stdout"].as_slice(), &["-o", "d", "-o", "d/x"]] {
        let run = site.run(&[outputs, &["--", "true"]].concat());
        assert_eq!(run.code, 65, "{run:?}");
    }
}

#[test]
fn input_that_is_left_lying_is_told() {
    let site = Site::new();
    let note = "mesh: standard input was not given to the command; --stdin - does that\n";
    let run = |line: &[&str], bytes: &[u8]| site.mesh.run_with(line.to_vec(), bytes);
    let left = run(&["run", "--", "cat"], b"piped\n");
    assert!(left.stdout.is_empty() && left.stderr.contains(note), "{left:?}");
    for (line, bytes) in [
        (&["run", "-q", "--", "cat"][..], &b"piped\n"[..]),
        (&["run", "--stdin", "-", "--", "cat"], b"piped\n"),
        (&["run", "--", "cat"], b""),
    ] {
        let done = run(line, bytes);
        assert!(!done.stderr.contains("standard input"), "{line:?}: {done:?}");
    }
}

/// What a command sees of its inputs does not depend on the run, on who runs it, or on what else there is.
#[test]
fn inputs_look_the_same_each_time_and_to_everybody() {
    let site = Site::new();
    site.write("in/small", "small");
    site.write("in/sub/large", &"x".repeat(100_000));
    site.write("large", &"y".repeat(100_000));
    site.script("tool", &format!("#!/bin/sh\n# {}", "z".repeat(100_000)));
    symlink("sub/large", site.path().join("in/link")).unwrap();
    let script =
        "tar cf - . | cksum; ls -lnR --time-style=full-iso; find -printf '%p %T@ %U %G %m\\n'";
    let look = |home: &Path, user: Option<u32>| {
        let mut command = Command::new(binary());
        command.args([
            "run",
            "-q",
            "--no-memo",
            "-i",
            "in",
            "-i",
            "large",
            "-i",
            "tool",
            "-o",
            "out/",
        ]);
        for program in ["tar", "ls", "find", "cksum"] {
            command.arg("-i").arg(format!("/usr/bin/{program}"));
        }
        command.args(["--", "sh", "-c", script]).current_dir(site.path());
        command.env("MESH_HOME", home).env("PATH", "/usr/bin:/bin");
        if let Some(user) = user {
            command.uid(user).gid(user);
        }
        let ended = ended(command.output().unwrap());
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
        ended.stdout
    };
    let first = look(site.mesh.home(), None);
    assert!(
        first.contains(" 1000 1000 100000 2001-09-09 01:46:40.000000000 +0000 large"),
        "{first}"
    );
    assert_eq!(look(site.mesh.home(), None), first);
    let home = tempfile::tempdir().unwrap();
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        assert_eq!(look(home.path(), None), first);
        return mesh_tests::skip::unable("only root can become somebody else");
    }
    fs::set_permissions(site.path(), fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::chown(home.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    assert_eq!(look(home.path(), Some(NOBODY)), first);
}
