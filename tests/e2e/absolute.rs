//! Tools called by their absolute paths: in the build's mount namespace they are interposed too.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mesh_tests::{Family, Finished, Report, Snapshot, binary, finished, skip};

use crate::generators::ANY_ORDER;

const NOBODY: u32 = 65534;

/// Every way to a tool that does not go by `PATH`, thunks and calls that run here.
const BUILD: &str = r#"
    /usr/bin/cc -g -c one.c -o one.o
    sh -c 'cd /usr/bin && ./gcc -c "$0/two.c" -o "$0/two.o"' "$PWD"
    gcc -c main.c -o main.o
    /usr/bin/ar rcs lib.a one.o two.o
    /usr/bin/ld -r -o both.o one.o two.o
    /usr/bin/cc main.o lib.a -o main
    /usr/bin/strip -o small main
    ./main > said
    /usr/bin/gcc -S one.c -o one.s
    /usr/bin/as one.s -o again.o
    env -i /usr/bin/gcc -c one.c -o cleared.o
    ln -s /usr/bin/gcc other && ./other -c one.c -o other.o
    sh -c './other -c absent.c' 2> words || true
    /usr/bin/cc -c absent.c 2>> words || true
    /usr/bin/gcc -v -c one.c -o told.o 2> /dev/null
    /usr/bin/gcc -v -flto -frandom-seed=1 one.c two.c main.c -o whole 2> /dev/null
    /usr/bin/g++ -v -x c++ -c one.c -o plus.o 2> /dev/null
    /usr/bin/as --verbose one.s -o told-as.o > as.words 2>&1
    /usr/bin/ld -v -r -o told-ld.o one.o two.o > ld.words
    /usr/bin/ld --verbose > ld.script
    /usr/bin/ar rcvs told.a one.o > ar.words
    /usr/bin/ranlib -V > ranlib.words
    /usr/bin/strip -v -o told-small main > strip.words
    gcc-ar rcs plugin.a one.o
    command -v cc gcc g++ ld ar strip > found
    sha256sum /usr/bin/ld > sums
    sh -c 'cd /usr/bin && sha256sum ar' >> sums
"#;

/// Calls of [`BUILD`] that become thunks, at least.
const THUNKS_MIN: u64 = 9;

const SOURCES: &[(&str, &str)] = &[
    ("one.c", "int one(void) { return 1; }\n"),
    ("two.c", "int two(void) { return 2; }\n"),
    (
        "main.c",
        "#include <stdio.h>\nint one(void); int two(void);\n\
         int main(void) { printf(\"%d\\n\", one() + two()); return 0; }\n",
    ),
];

/// A user with a directory to work in and a `mesh` that they can execute.
struct User {
    place: tempfile::TempDir,
    /// Somebody else than this process.
    other: Option<u32>,
}

impl User {
    fn new(other: Option<u32>) -> Self {
        let user = Self { place: tempfile::tempdir().unwrap(), other };
        fs::copy(binary(), user.path("mesh")).unwrap();
        user.own(user.place.path());
        user.start_over();
        user
    }

    /// This user, and where that is root an ordinary one; without those whom the system does not
    /// let have mount namespaces.
    fn all() -> Vec<Self> {
        let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
        let users = [Some(None), is_root.then_some(Some(NOBODY))];
        let users = users.into_iter().flatten().map(Self::new);
        users.filter(Self::may_mount).collect()
    }

    fn may_mount(&self) -> bool {
        let mut unshare = self.command("unshare");
        if self.other.is_some() || fs::metadata("/proc/self").unwrap().uid() != 0 {
            unshare.args(["--user", "--map-root-user"]);
        }
        let may = unshare.args(["--mount", "true"]).output().is_ok_and(|o| o.status.success());
        if !may {
            skip::unable("this system lets nobody have a mount namespace");
        }
        may
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn own(&self, path: &Path) {
        if let Some(user) = self.other {
            chown(path, Some(user), Some(user)).unwrap();
        }
    }

    /// The sources alone.
    fn start_over(&self) {
        let work = self.path("work");
        let _ = fs::remove_dir_all(&work);
        fs::create_dir(&work).unwrap();
        self.own(&work);
        for (name, text) in SOURCES {
            fs::write(work.join(name), text).unwrap();
            self.own(&work.join(name));
        }
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.path("work")).env_clear().stdin(Stdio::null());
        command.env("PATH", "/usr/bin:/bin").env("HOME", self.place.path());
        command.env("MESH_HOME", self.path("home"));
        if let Some(user) = self.other {
            command.uid(user).gid(user);
        }
        command
    }

    fn build(&self, options: &[&str], script: &str) -> (Finished, Report) {
        let report = self.path("report");
        let mut command = self.command(self.path("mesh"));
        command.arg("build").args(options).arg("--report").arg(&report);
        command.args(["--", "sh", "-ec", script]);
        let finished = ended(command);
        assert_eq!(finished.code, Some(0), "{finished:#?}");
        (finished, Report::read(&report))
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::take(&self.path("work"), &[])
    }
}

fn ended(mut command: Command) -> Finished {
    let output = command.output().unwrap();
    finished(output)
}

#[test]
fn every_way_to_a_tool_leads_to_the_same_files() {
    for user in User::all() {
        let mut plain = user.command("sh");
        plain.args(["-ec", BUILD]);
        let plain = ended(plain);
        assert_eq!(plain.code, Some(0), "{plain:#?}");
        let wanted = user.snapshot();
        for (options, again) in [(&[][..], false), (&[], true), (&["--eager"], true)] {
            user.start_over();
            let (finished, report) = user.build(options, BUILD);
            assert_eq!(finished.stdout, plain.stdout);
            let differences = wanted.differences(&user.snapshot(), &[]);
            differences.assert_none(format_args!("{options:?}:\n{}", report.reasons()));
            assert!(report.thunks >= THUNKS_MIN, "{}", report.json);
            assert_eq!(report.executed == 0, again, "{}", report.json);
        }
    }
}

/// What varies between two plain builds, or says when something was done.
const CMAKE_IGNORED: &[&str] = &[
    "build/.ninja_log",
    "build/.ninja_deps",
    "build/CMakeFiles/CMakeOutput.log",
    "build/CMakeFiles/CMakeError.log",
    "build/CMakeFiles/Makefile2",
];

/// Configured and built by CMake, which calls every tool by its path.
fn cmake(generator: &str, build: &str) {
    let script = format!("cmake -S . -B build -G '{generator}' > /dev/null; {build} > /dev/null");
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("projects/cmake");
    for user in User::all() {
        let start_over = || {
            user.start_over();
            for source in fs::read_dir(&sources).unwrap() {
                let source = source.unwrap();
                let copy = user.path("work").join(source.file_name());
                fs::copy(source.path(), &copy).unwrap();
                user.own(&copy);
            }
        };
        let snapshot = || Snapshot::take(&user.path("work"), CMAKE_IGNORED);
        start_over();
        let mut plain = user.command("sh");
        plain.args(["-ec", &script]);
        let plain = ended(plain);
        assert_eq!(plain.code, Some(0), "{plain:#?}");
        let wanted = snapshot();
        assert!(wanted.contains("build/CMakeCache.txt") && wanted.contains("build/measure"));
        for again in [false, true] {
            start_over();
            let (_, report) = user.build(&[], &script);
            let differences = wanted.differences(&snapshot(), ANY_ORDER);
            differences.assert_none(format_args!("local:\n{}", report.reasons()));
            assert!(report.thunks > 0, "{}", report.json);
            assert_eq!(report.executed == 0, again, "{}", report.json);
        }
    }
}

#[test]
fn configured_and_built_by_ninja() {
    cmake("Ninja", "ninja -C build");
}

#[test]
fn configured_and_built_by_make() {
    cmake("Unix Makefiles", "make -C build");
}

#[test]
fn without_binding_only_path_counts() {
    let user = User::new(None);
    let script = "/usr/bin/cc -c one.c -o one.o; cc -c two.c -o two.o";
    let (_, report) = user.build(&["--no-bind"], script);
    assert_eq!((report.thunks, report.local.len()), (1, 0), "{}", report.json);
    user.start_over();
    let mut make = user.command(user.path("mesh"));
    fs::write(user.path("work/Makefile"), "all:\n\t/usr/bin/cc -c one.c\n").unwrap();
    let made = ended({
        make.arg("make").env("MESH_NO_BIND", "1");
        make
    });
    assert!(made.code == Some(0) && made.stderr.contains("mesh: 0 thunks"), "{made:#?}");
}

/// What mesh runs for itself must be the tools, not their stand-ins.
#[test]
fn mesh_inside_of_a_build() {
    for user in User::all() {
        let script = "../mesh run -q -i one.c -o run.o -- gcc -c one.c -o run.o
             MESH_HOME=$PWD/../inner ../mesh build -q -- sh -ec '
                 gcc -c one.c -o by-name.o; /usr/bin/gcc -c one.c -o by-path.o'
             env -i /usr/bin/gcc -c one.c -o plain.o
             cmp run.o plain.o; cmp by-name.o plain.o; cmp by-path.o plain.o";
        user.build(&[], script);
    }
}

/// `mesh` writes down where it is bound, and takes nothing with it when it is killed.
#[test]
fn a_killed_build_leaves_no_mount() {
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    for user in User::all() {
        let before = mounts();
        let mut command = user.command(user.path("mesh"));
        let script = "grep -c mesh-real /proc/self/mountinfo > ready.new; mv ready.new ready;
                      exec tail -f /dev/null";
        command.args(["build", "-q", "--", "sh", "-ec", script]).process_group(0);
        let mut running = command.spawn().unwrap();
        let ready = user.path("work/ready");
        while !ready.exists() {
            assert!(running.try_wait().unwrap().is_none(), "the build goes on");
        }
        assert_ne!(fs::read_to_string(&ready).unwrap().trim(), "0");
        assert_eq!(mounts(), before, "nobody else sees them");
        let family = Family::of(&running);
        let group = format!("-{}", running.id());
        Command::new("kill").args(["-KILL", "--", &group]).status().unwrap();
        assert_eq!(running.wait().unwrap().signal(), Some(9));
        family.wait_until_gone();
        assert_eq!(mounts(), before);
        fs::remove_dir_all(user.path("home")).unwrap();
    }
}

/// A build of root may become somebody who cannot reach root's files.
#[test]
fn tools_work_for_whom_a_build_becomes() {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return skip::unable("only root can become somebody else");
    }
    let user = User::new(None);
    if !user.may_mount() {
        return;
    }
    let script = "chmod 711 ..; chmod 777 .; chmod 700 ../home
         setpriv --reuid 65534 --regid 65534 --clear-groups /usr/bin/gcc -c one.c -o theirs.o
         /usr/bin/gcc -c one.c -o ours.o; cmp theirs.o ours.o";
    user.build(&[], "true");
    fs::set_permissions(user.path("home"), std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .unwrap();
    user.build(&[], script);
}
