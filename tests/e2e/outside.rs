//! What a build does to the world outside of it, and what it leaves running.

use std::fs;
use std::process::{Child, Command, Stdio};

use mesh_tests::{Mesh, Mode, Project, With, wait_until};

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

    /// Its nice value (proc_pid_stat(5)).
    fn nice(&self) -> String {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        let (_, rest) = stat.rsplit_once(')').unwrap();
        rest.split_whitespace().nth(16).unwrap().to_owned()
    }

    fn adjustment(&self) -> String {
        fs::read_to_string(format!("/proc/{}/oom_score_adj", self.0.id())).unwrap()
    }
}

impl Drop for Outsider {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// After a compile that turns out to have failed, nothing has reached others.
#[test]
fn nothing_reaches_others_before_a_compile_has_succeeded() {
    let recipe = "all: bad.o\n\
        \trenice -n 5 -p $(PID)\n\
        \tprlimit --nofile=50 -p $(PID)\n\
        \techo 500 > /proc/$(PID)/oom_score_adj\n\
        \tkill -TERM $(PID)\n\
        bad.o: bad.c\n\
        \tgcc -O2 -c bad.c\n";
    let files = [("Makefile", recipe.to_owned()), ("bad.c", slow_failure())];
    let (project, mesh) = (Project::made(files), Mesh::new());
    for _ in ["cold", "warm"] {
        let mut outsider = Outsider::start();
        let before = (outsider.nice(), outsider.adjustment());
        let line = format!("make PID={}", outsider.0.id());
        let built = project.build(With::Lazy(&mesh), &line);
        assert_eq!(built.finished.code, Some(2), "{:#?}", built.finished);
        assert!(outsider.0.try_wait().unwrap().is_none(), "it has got a signal");
        assert_eq!((outsider.nice(), outsider.adjustment()), before);
    }
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
