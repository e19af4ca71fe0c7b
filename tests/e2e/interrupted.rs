//! Builds that are interrupted by the signals that end programs, or killed, while one of their
//! compiles is far from its end: they end as plain make does, and no trace of mesh stays.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Output;
use std::time::{Duration, Instant};

use mesh_tests::{
    Mesh, Mode, Project, Random, Snapshot, Timed, With, finished, names_of_those_that_have,
};
use rustix::process::{Signal, kill_process};
use tempfile::TempDir;

/// Interruptions of one test.
const ROUNDS: u64 = 6;

/// Time limit for the end of an interrupted build. It takes less than two seconds; the machine may
/// be busy.
const ENDS_WITHIN: Duration = Duration::from_secs(20);

/// Time after which plain make is interrupted again.
const ONCE_MORE: Duration = Duration::from_secs(2);

/// Time limit for all other events.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a placeholder begins.
const PLACEHOLDER: &[u8] = b"mesh placeholder ";

const MAKEFILE: &str = "
all: said
said: prog
	./prog > said
prog: a.o b.o slow.o c.o
	g++ a.o b.o slow.o c.o -o prog
slow.o: slow.cc common.h
	g++ $(if $(ENDLESS),-DENDLESS -fconstexpr-ops-limit=9223372036854775807) -c slow.cc -o slow.o
%.o: %.c common.h
	gcc -c $< -o $@
";

/// The build that is interrupted. The object would be the same as without this, but never comes.
const ENDLESS: &str = "make ENDLESS=1";

const SLOW: &str = "
#include \"common.h\"
#ifdef ENDLESS
constexpr unsigned long turn(unsigned long x) {
    for (int i = 0; i < 200000; i++) x = x * 6364136223846793005UL + 1;
    return x;
}
constexpr unsigned long all(unsigned long x) {
    for (int i = 0; i < 200000; i++) x = turn(x);
    return x;
}
static_assert(all(1) != 0, \"\");
#endif
extern \"C\" int slow() { return VALUE; }
";

const PRINTS: &str = "
#include <stdio.h>
#include \"common.h\"
int b(void), c(void), slow(void);
int main(void) { return printf(\"%d\\n\", VALUE + b() + c() + slow()) < 0; }
";

/// Files of the build before, whose steps cannot be done when the next one is interrupted.
const PENDING: &[&str] = &["slow.o", "prog"];

/// Files whose steps may be done or not.
const MAYBE_DONE: &[&str] = &["a.o", "b.o", "c.o"];

/// A project that was built, and whose header has changed since.
struct Scene {
    project: Project,
    saved: PathBuf,
    old: Snapshot,
    /// After make has built it all.
    new: Snapshot,
}

/// When a build is interrupted.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// It has printed so many lines.
    Lines(usize),
    /// A file is no longer what it was before.
    Changed(&'static str),
    /// Somebody has looked so often whether it has ended.
    Looks(u64),
}

impl Scene {
    fn new() -> Self {
        let function =
            |name: &str| format!("#include \"common.h\"\nint {name}(void) {{ return VALUE; }}\n");
        let project = Project::made([
            ("Makefile", MAKEFILE),
            ("slow.cc", SLOW),
            ("a.c", PRINTS),
            ("b.c", &function("b")),
            ("c.c", &function("c")),
            ("common.h", "#define VALUE 1\n"),
        ]);
        project.build(With::Plain, "make").ok();
        project.edit("echo '#define VALUE 2' > common.h");
        let saved = project.outside().join("saved");
        let copy =
            project.command("cp").arg("-a").args([project.directory(), saved.clone()]).status();
        assert!(copy.unwrap().success());
        let old = project.snapshot();
        let new = project.build(With::Plain, "make").ok().snapshot;
        for path in PENDING.iter().chain(MAYBE_DONE) {
            assert!(!old.same_file(&new, path), "{path} shows nothing");
        }
        Self { project, saved, old, new }
    }

    /// Back to what was built before the header changed.
    fn restore(&self) {
        fs::remove_dir_all(self.project.directory()).unwrap();
        let mut copy = self.project.command("cp");
        copy.current_dir(&self.saved).arg("-a").args([&self.saved, &self.project.directory()]);
        assert!(copy.status().unwrap().success());
    }

    /// Starts the build and waits for the moment.
    fn start(&self, with: With<'_>, temporary: &TempDir, moment: Moment) -> Timed {
        self.restore();
        let mut command = self.project.ready(with, ENDLESS);
        command.env("TMPDIR", temporary.path());
        let build = Timed::start(command, self.project.outside(), false);
        let mut looks = 0;
        until(&format!("{moment:?}"), || {
            assert!(!build.has_ended(), "it ended before {moment:?}: {}", build.said());
            looks += 1;
            match moment {
                Moment::Lines(count) => build.said().lines().count() >= count,
                Moment::Looks(count) => looks > count,
                Moment::Changed(path) => {
                    let bytes = |directory: &PathBuf| fs::read(directory.join(path)).ok();
                    bytes(&self.saved) != bytes(&self.project.directory())
                }
            }
        });
        build
    }

    /// No placeholder is left, and plain make makes what it makes otherwise.
    fn make_finishes(&self, context: &str) -> Snapshot {
        let left = self.project.snapshot();
        let placeholders = left.files_that(|bytes| bytes.starts_with(PLACEHOLDER));
        assert!(placeholders.is_empty(), "{context}: left as placeholders: {placeholders:?}");
        let made = self.project.build(With::Plain, "make").ok().snapshot;
        self.new.differences(&made, &[]).assert_none(format_args!("{context}: make afterwards"));
        left
    }

    /// What was there before the build is there again.
    fn assert_old_is_back(&self, left: &Snapshot, mode: Mode, pending: &[&str], context: &str) {
        for path in pending {
            assert!(self.old.same_file(left, path), "{context}: {path} is not the old one");
        }
        // An eager step writes in place, as plain make's do.
        for path in MAYBE_DONE.iter().filter(|_| mode == Mode::Lazy) {
            let whole = self.old.same_file(left, path) || self.new.same_file(left, path);
            assert!(whole, "{context}: {path} is neither the old one nor the new one");
        }
    }
}

impl Moment {
    /// One that comes in each mode, also for plain make: three commands begin, two of which end.
    fn draw(random: &mut Random) -> Self {
        match random.below(4) {
            0 => Self::Lines(1 + random.below(3) as usize),
            1 => Self::Changed(random.choose::<&str>(&["a.o", "b.o"])),
            _ => {
                let bits = random.below(18);
                Self::Looks(random.below(1 << bits))
            }
        }
    }
}

#[track_caller]
fn until(what: &str, mut comes: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !comes() {
        assert!(Instant::now() < deadline, "waited for {what}, in vain");
        std::thread::yield_now();
    }
}

fn variable(temporary: &TempDir) -> String {
    format!("TMPDIR={}", temporary.path().display())
}

/// No process of the build lives, and it has left nothing where temporary files are, nor at home.
#[track_caller]
fn assert_no_trace(mesh: &Mesh, temporary: &TempDir, context: &str) {
    let names = |directory: PathBuf| -> Vec<String> {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    let traces = || {
        let mut traces = names_of_those_that_have(&variable(temporary));
        let temporary = names(temporary.path().to_owned()).into_iter();
        traces.extend(temporary.filter(|name| name.starts_with("mesh-")));
        traces.extend(names(mesh.home().join("builds")));
        traces
    };
    let deadline = Instant::now() + PATIENCE;
    while !traces().is_empty() {
        assert!(Instant::now() < deadline, "{context}: left behind: {:?}", traces());
        std::thread::yield_now();
    }
}

/// Interrupts a build and waits for its end.
fn end(build: Timed, mode: Option<Mode>, signal: Signal) -> Result<Output, String> {
    build.signal_group(signal);
    // A compiler that make starts at the moment of the signal has not got it, and make waits for
    // it. Whoever interrupts does it once more then; lazily nobody has to.
    while mode != Some(Mode::Lazy) && !build.ends_within(ONCE_MORE) {
        build.signal_group(signal);
    }
    build.wait_for(ENDS_WITHIN)
}

/// `None`: plain make, which shows that the test asks for what make does.
fn interrupt(mode: Option<Mode>, signal: Signal) {
    let (scene, mesh, mut random) = (Scene::new(), Mesh::new(), Random::new());
    for _ in 0..ROUNDS {
        let (moment, temporary) = (Moment::draw(&mut random), tempfile::tempdir().unwrap());
        let context = format!("{mode:?}, {signal:?}, {moment:?}");
        let with = mode.map_or(With::Plain, |mode| mode.with(&mesh));
        let build = scene.start(with, &temporary, moment);
        let output = end(build, mode, signal);
        let output = output.unwrap_or_else(|hang| panic!("{context}: {hang}"));
        assert_no_trace(&mesh, &temporary, &context);
        assert_died_by(signal, output, &context);
        // Without mesh, an assembler may leave half an object that make does not delete.
        if mode.is_some() {
            scene.make_finishes(&context);
        }
    }
}

/// Make dies by the signal. Sometimes it waits once more for a child that its handler has waited
/// for; then it says so and exits with 2, with and without mesh.
#[track_caller]
fn assert_died_by(signal: Signal, output: Output, context: &str) {
    let (died_by, finished) = (output.status.signal(), finished(output));
    let waited_twice = finished.stderr.contains("make: *** wait: No child processes.");
    if waited_twice && signal != Signal::KILL {
        assert!(finished.code == Some(2) || died_by.is_some(), "{context}: {finished:#?}");
    } else {
        assert_eq!(died_by, Some(signal.as_raw()), "{context}: {finished:#?}");
    }
}

/// Kills mesh, or all of the build.
fn kill(mode: Mode, whole_group: bool) {
    let (scene, mesh, mut random) = (Scene::new(), Mesh::new(), Random::new());
    for _ in 0..ROUNDS {
        let (moment, temporary) = (Moment::draw(&mut random), tempfile::tempdir().unwrap());
        let context = format!("{mode:?}, killed at {moment:?}");
        let build = scene.start(mode.with(&mesh), &temporary, moment);
        if whole_group {
            build.signal_group(Signal::KILL);
        } else {
            kill_process(build.pid(), Signal::KILL).unwrap();
        }
        let variable = variable(&temporary);
        until(&format!("the guardian's end ({context})"), || {
            let names = names_of_those_that_have(&variable);
            build.has_ended() && !names.iter().any(|name| name == "mesh-guardian")
        });
        // What goes on without mesh is no more than a make whose compilers run as they are.
        build.signal_group(Signal::KILL);
        assert_died_by(Signal::KILL, build.wait().unwrap(), &context);
        assert_no_trace(&mesh, &temporary, &context);
        let left = scene.make_finishes(&context);
        scene.assert_old_is_back(&left, mode, PENDING, &context);
        if whole_group {
            scene.assert_old_is_back(&left, mode, &["said"], &context);
        }
    }
}

macro_rules! interruptions {
    ($($name:ident: $signal:expr;)*) => {
        $(mod $name {
            use super::*;

            #[test]
            fn plain() {
                interrupt(None, $signal);
            }

            #[test]
            fn lazy() {
                interrupt(Some(Mode::Lazy), $signal);
            }

            #[test]
            fn eager() {
                interrupt(Some(Mode::Eager), $signal);
            }
        })*
    };
}

interruptions! {
    by_control_c: Signal::INT;
    by_terminate: Signal::TERM;
    by_hang_up: Signal::HUP;
}

#[test]
fn killed_alone_lazy() {
    kill(Mode::Lazy, false);
}

#[test]
fn killed_alone_eager() {
    kill(Mode::Eager, false);
}

#[test]
fn killed_with_its_group_lazy() {
    kill(Mode::Lazy, true);
}

#[test]
fn killed_with_its_group_eager() {
    kill(Mode::Eager, true);
}

/// As automake writes them: a recipe compiles, and moves the list of dependencies to its place then.
/// When the first is done and the second is not, make would take the object for made, and no change
/// of a header would ever make it again.
#[test]
fn a_recipe_is_done_or_not() {
    let makefile = "
all: x.o slow.o
x.o: x.c common.h
	gcc -MD -MF x.Tpo -c x.c -o x.o && { while ! test -e go; do :; done; mv x.Tpo x.Po; }
slow.o: slow.cc common.h
	g++ $(if $(ENDLESS),-DENDLESS -fconstexpr-ops-limit=9223372036854775807) -c slow.cc -o slow.o && touch go
";
    for signal in [Signal::INT, Signal::KILL] {
        let project = Project::made([
            ("Makefile", makefile),
            ("x.c", "#include \"common.h\"\nint x = VALUE;\n"),
            ("slow.cc", SLOW),
            ("common.h", "#define VALUE 1\n"),
        ]);
        let (mesh, temporary) = (Mesh::new(), tempfile::tempdir().unwrap());
        let mut command = project.ready(With::Lazy(&mesh), "make -j2 ENDLESS=1");
        command.env("TMPDIR", temporary.path());
        let build = Timed::start(command, project.outside(), false);
        let dependencies = project.directory().join("x.Po");
        until("the recipe goes on", || {
            assert!(!build.has_ended(), "{}", build.said());
            dependencies.exists()
        });
        // By then the object is there as well, which only a program that opens it can tell: here
        // `x.o` has to be real before what follows means anything.
        let object = project.directory().join("x.o");
        until("the object is there", || {
            fs::read(&object).is_ok_and(|bytes| !bytes.starts_with(PLACEHOLDER))
        });
        build.signal_group(signal);
        build.wait_for(ENDS_WITHIN).unwrap_or_else(|hang| panic!("{signal:?}: {hang}"));
        assert_no_trace(&mesh, &temporary, &format!("{signal:?}"));
        project.build(With::Plain, "make -j2").ok();
        let made = fs::read_to_string(&dependencies).unwrap();
        assert!(made.contains("common.h"), "{signal:?}: {made}");
    }
}

/// As nohup(1) starts it, or a script in its background: what is ignored stays ignored.
#[test]
fn signals_that_were_ignored_at_the_start_stay_so() {
    for mode in [Mode::Lazy, Mode::Eager] {
        let files =
            [("Makefile", "all:\n\ttouch began\n\twhile ! test -e go; do sleep 0.01; done\n")];
        let (project, mesh) = (Project::made(files), Mesh::new());
        let command = project.ready(mode.with(&mesh), "make");
        let mut ignoring = project.command("sh");
        ignoring.args(["-c", "trap '' INT HUP TERM QUIT; exec \"$@\"", "sh"]);
        ignoring.arg(command.get_program()).args(command.get_args());
        ignoring.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let build = Timed::start(ignoring, project.outside(), false);
        until("it began", || project.directory().join("began").exists());
        for signal in [Signal::INT, Signal::HUP, Signal::TERM, Signal::QUIT] {
            build.signal_group(signal);
        }
        fs::write(project.directory().join("go"), "").unwrap();
        let output = build.wait_for(PATIENCE).unwrap();
        assert!(output.status.success(), "{mode:?}: {output:?}");
    }
}

/// What is interrupted is asked again by the next build with mesh, which then has all that was done.
#[test]
fn the_next_build_with_mesh_finishes() {
    let (scene, mesh, mut random) = (Scene::new(), Mesh::new(), Random::new());
    for mode in [Mode::Lazy, Mode::Eager] {
        for signal in [Signal::INT, Signal::KILL] {
            let (moment, temporary) = (Moment::draw(&mut random), tempfile::tempdir().unwrap());
            let context = format!("{mode:?}, {signal:?}, {moment:?}");
            let build = scene.start(mode.with(&mesh), &temporary, moment);
            end(build, Some(mode), signal).unwrap_or_else(|hang| panic!("{context}: {hang}"));
            let next = scene.project.build(mode.with(&mesh), "make").ok().snapshot;
            scene.new.differences(&next, &[]).assert_none(format_args!("{context}: the next"));
            assert_no_trace(&mesh, &temporary, &context);
        }
    }
}
