//! What a build does to the world outside of it, and what it leaves running.

use std::fs;
use std::process::{Child, Command, Stdio};

use mesh_tests::{Mesh, Mode, Project, With, skip, wait_until};

/// A failure that comes late: the assembler's, after the compiler has taken its time.
fn slow_failure() -> String {
    let function = |n: u32| {
        format!(
            "int f{n}(int *a, int n) {{ int s = {n}; while (n--) s += a[n] * {n}; return s; }}\n"
        )
    };
    (0..200).map(function).collect::<String>() + "__asm__(\"no_such_instruction\");\n"
}

/// A process of ours that is none of the build's.
struct Outsider(Child);

impl Outsider {
    fn start() -> Self {
        let child = Command::new("tail").args(["-f", "/dev/null"]).stdin(Stdio::null()).spawn();
        Self(child.unwrap())
    }

    /// What others may have done to it, if it lives: nice value (proc_pid_stat(5)), whether it is
    /// stopped, how likely it is killed when memory is short, and its limits.
    fn state(&mut self) -> Option<(String, bool, String, String)> {
        if self.0.try_wait().unwrap().is_some() {
            return None;
        }
        let read = |name| fs::read_to_string(format!("/proc/{}/{name}", self.0.id())).unwrap();
        let stat = read("stat");
        let (_, rest) = stat.rsplit_once(')').unwrap();
        let fields: Vec<&str> = rest.split_whitespace().collect();
        Some((fields[16].to_owned(), fields[0] == "T", read("oom_score_adj"), read("limits")))
    }
}

impl Drop for Outsider {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Calls a function of libc, as no command does.
fn call(function: &str) -> String {
    format!("python3 -c 'import ctypes; ctypes.CDLL(None).{function}'")
}

/// After a compile that turns out to have failed, nothing has reached others.
#[test]
fn nothing_reaches_others_before_a_compile_has_succeeded() {
    let reaches = [
        "renice -n 5 -p $(PID)".to_owned(),
        "prlimit --nofile=50 -p $(PID)".to_owned(),
        "echo 500 > /proc/$(PID)/oom_score_adj".to_owned(),
        // PTRACE_ATTACH, which stops it.
        call("ptrace(16, $(PID), 0, 0)"),
        call("tgkill($(PID), $(PID), 15)"),
        "kill -TERM $(PID)".to_owned(),
    ];
    for reach in reaches {
        let recipe = format!("all: bad.o\n\t{reach}\nbad.o: bad.c\n\tgcc -O2 -c bad.c\n");
        for fails in [true, false] {
            let source = if fails { slow_failure() } else { "int good;\n".to_owned() };
            let files = [("Makefile", recipe.clone()), ("bad.c", source)];
            let (project, mesh) = (Project::made(files), Mesh::new());
            let mut outsider = Outsider::start();
            let before = outsider.state();
            let line = format!("make PID={}", outsider.0.id());
            let built = project.build(With::Lazy(&mesh), &line);
            assert_eq!(built.finished.code == Some(2), fails, "{reach}: {:#?}", built.finished);
            assert_eq!(outsider.state() == before, fails, "{reach}: {before:?}");
        }
    }
}

/// Flags that only `chattr` sets are put back as well.
#[test]
fn flags_of_files_are_put_back() {
    let recipe = "all: bad.o\n\tchattr +d keep\nbad.o: bad.c\n\tgcc -O2 -c bad.c\n";
    let files = [("Makefile", recipe.to_owned()), ("bad.c", slow_failure())];
    let (project, mesh) = (Project::made(files), Mesh::new());
    project.edit("echo kept > keep");
    let flags = || {
        let listed = project.command("lsattr").arg("keep").output().unwrap();
        listed.status.success().then(|| String::from_utf8(listed.stdout).unwrap())
    };
    let Some(before) = flags() else { return skip::unable("this file system has no flags") };
    let built = project.build(With::Lazy(&mesh), "make");
    assert_eq!(built.finished.code, Some(2), "{:#?}", built.finished);
    assert_eq!(flags(), Some(before));
}

/// The kernel refuses watched calls that nobody answers: somebody has to, when mesh has ended.
#[test]
fn what_a_build_leaves_running_goes_on() {
    let recipe = "all: ok.o\n\
        \t(while ! test -e go; do sleep 0.05; done; echo late > late; cat late; ls late > end) > log 2>&1 &\n\
        ok.o: ok.c\n\
        \tgcc -c ok.c\n";
    for mode in [Mode::Lazy, Mode::Eager] {
        let files = [("Makefile", recipe), ("ok.c", "int ok;\n")];
        let (project, mesh) = (Project::made(files), Mesh::new());
        project.build(mode.with(&mesh), "make").ok();
        let read = |name: &str| fs::read_to_string(project.directory().join(name));
        fs::write(project.directory().join("go"), "").unwrap();
        wait_until("what runs on has ended", || read("end").is_ok_and(|end| end == "late\n"));
        assert_eq!(read("late").unwrap(), "late\n");
        assert_eq!(read("log").unwrap(), "late\n", "{mode:?}");
    }
}
