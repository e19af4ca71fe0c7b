//! The corner cases of `tests/projects/corner`, each lazy and eager: what plain make leaves, and
//! says, is what mesh leaves and says.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use mesh_tests::{Built, Mesh, Mode, Project, Session, With, is_installed, skip};

/// One case.
struct Case {
    session: Session,
    /// What is run again when all is done.
    goal: String,
    environment: Vec<(&'static str, String)>,
    /// A program without which the case cannot be built.
    needs: Option<&'static str>,
    /// The clock is an input: a second session makes it all again.
    clocked: bool,
    /// No call runs here.
    all_thunks: bool,
}

impl Case {
    /// `make TARGET` alone.
    fn of(target: &str) -> Self {
        let goal = format!("make {target}");
        let session = Session::new([goal.clone()]);
        Self {
            session,
            goal,
            environment: Vec::new(),
            needs: None,
            clocked: false,
            all_thunks: false,
        }
    }

    /// A longer session.
    fn lines(mut self, lines: &[&str]) -> Self {
        self.session = Session::new(lines.iter().copied());
        self
    }

    fn goal(mut self, goal: &str) -> Self {
        goal.clone_into(&mut self.goal);
        self.session = Session::new([goal]);
        self
    }

    fn stamped(mut self, paths: &[&'static str]) -> Self {
        self.session = self.session.stamped(paths);
        self
    }

    fn in_any_order(mut self) -> Self {
        self.session = self.session.in_any_order();
        self
    }

    fn needs(mut self, program: &'static str) -> Self {
        self.needs = Some(program);
        self
    }

    fn set(mut self, key: &'static str, value: &str) -> Self {
        self.environment.push((key, value.to_owned()));
        self
    }

    fn clocked(mut self) -> Self {
        self.clocked = true;
        self
    }

    /// Each call of a tool has a model that is right.
    fn all_thunks(mut self) -> Self {
        self.all_thunks = true;
        self
    }

    fn project(&self) -> Project {
        let mut project = Project::own("corner");
        project.ignore(".ccache");
        for (key, value) in &self.environment {
            project.set(key, value);
        }
        project
    }

    fn check(&self, mode: Mode) {
        if let Some(program) = self.needs
            && !is_installed(program)
        {
            return skip::missing(format_args!("{program} is not installed"));
        }
        let (project, mesh) = (self.project(), Mesh::new());
        let plain = self.session.hold(&project, With::Plain);
        let done = plain.last().is_some_and(|last| last.finished.code == Some(0));
        if done {
            let nothing = project.build(mode.with(&Mesh::new()), &self.goal).ok();
            assert_nothing_done(plain.last().unwrap(), &nothing, "mesh after plain make");
        }
        let plain_again = project.build(With::Plain, &self.goal);

        let other = self.session.hold(&project, mode.with(&mesh));
        self.session.compare(&plain, mode, &other);
        for report in other.iter().filter_map(|built| built.report.as_ref()) {
            let no_local = !self.all_thunks || report.local.is_empty();
            assert!(no_local, "no call runs here: {}", report.json);
        }
        let other_again = project.build(With::Plain, &self.goal);
        if done {
            assert_nothing_done(other.last().unwrap(), &other_again, "plain make after mesh");
        } else {
            assert_eq!(plain_again.finished.code, other_again.finished.code);
            let differences = match mode {
                Mode::Lazy => {
                    plain_again.snapshot.differences_in_common(&other_again.snapshot, &[])
                }
                Mode::Eager => plain_again.snapshot.differences(&other_again.snapshot, &[]),
            };
            differences.assert_none("plain make after a failure");
        }

        let repeated = self.session.hold(&project, mode.with(&mesh));
        self.session.compare(&plain, mode, &repeated);
        for report in repeated.iter().filter_map(|built| built.report.as_ref()) {
            let again = self.clocked || report.executed == 0;
            assert!(again, "nothing is run twice: {}", report.json);
        }
    }
}

fn assert_nothing_done(before: &Built, after: &Built, who: &str) {
    before.snapshot.touched(&after.snapshot).assert_none(who);
    if let Some(report) = &after.report {
        assert_eq!((report.thunks, report.local.len()), (0, 0), "{who}: {}", report.json);
    }
}

/// Tests `NAME::lazy` and `NAME::eager` for each case, and the list of their targets.
macro_rules! cases {
    ($($name:ident $(. $method:ident($($argument:expr),*))*;)*) => {
        $(mod $name {
            #[allow(unused_imports)] // Only some cases name constants.
            use super::{COVERAGE_STAMPS, Case, Mode, STATIC_MAP};

            fn case() -> Case {
                Case::of(&stringify!($name).replace('_', "-"))$(.$method($($argument),*))*
            }

            #[test]
            fn lazy() {
                case().check(Mode::Lazy);
            }

            #[test]
            fn eager() {
                case().check(Mode::Eager);
            }
        })*

        fn tested() -> BTreeSet<String> {
            [$(stringify!($name)),*].into_iter().map(|name| name.replace('_', "-")).collect()
        }
    };
}

cases! {
    // What a compiler reads.
    plain;
    search_order.lines(&[
        "make search-order",
        "cp search/spare/config.h search/early/config.h; rm -r out",
        "make search-order",
        "rm search/early/config.h; rm -r out",
        "make search-order",
    ]);
    include_option;
    spaces;
    response.lines(&[
        "make response",
        "echo -O2 > more.rsp",
        "make response",
    ]);
    macro_include;
    has_include.lines(&[
        "make has-include",
        "echo '#define MAYBE 3' > maybe.h; rm -r out",
        "make has-include",
    ]);
    incbin.lines(&[
        "make incbin",
        "echo other > blob.bin; echo later > search/late/late.bin",
        "make incbin",
    ]);
    include_next;
    environment;
    native;
    embedded_paths;
    generated_header;
    rewritten_header;
    removed_source;
    odd_language;
    once;
    symlinks;
    unicode;
    cxx;
    launcher_script;
    compiler_link;
    other_names;
    clang.needs("clang++");
    clang_twins.needs("clang");
    clang_assembler.needs("clang").all_thunks();
    clang_split.needs("clang");
    ccache_in_recipe.needs("ccache");

    // What a compiler writes.
    dependencies;
    debug;
    split_dwarf;
    coverage;
    coverage_random.stamped(COVERAGE_STAMPS);
    several_sources;
    no_output_name;
    preprocess;
    assembly;
    save_temps;
    standard_input;
    versions;
    date_fixed;
    date.stamped(&["out/date/when", "out/date/when.o"]).clocked();
    timestamp.lines(&[
        "make timestamp",
        "touch -d '2020-01-02 03:04:05' stamp.c; rm -r out",
        "make timestamp",
    ]);
    pch.stamped(&["out/pch/greet.h.gch"]);
    umask;
    same_path_twice;
    moved.lines(&[
        "make moved",
        "echo '/* changed */' >> greet.h",
        "make moved",
    ]);
    stack_usage;
    install;
    syntax;
    written_over;
    clang_written_over.needs("clang");
    lto_random.stamped(&["out/lto-random/main.o", "out/lto-random/greet.o"]);

    // Archives and links.
    archive;
    archive_update;
    thin_archive;
    archive_script;
    shared;
    static_link.stamped(&[STATIC_MAP]);
    linker;
    assembler_only;
    strip;
    lto;
    lto_partition.all_thunks();
    linker_script;
    relocatable;
    response_link;
    names_only;
    libtool.needs("libtool");

    // Builds that look at their own outputs.
    generator;
    grep_object;
    objcopy_object;
    extract;
    recursive;
    probe;
    sums;
    touched;
    removed;
    stat_size;
    test_flags;
    tar;
    redirect;
    background.in_any_order();

    // Failures and warnings.
    fails;
    fails_at_link;
    fails_late.lines(&[
        "make fails-late",
        "sed -i s/undeclared/1/ broken.c",
        "make fails-late",
    ]);
    fails_deep;
    fails_in_archive;
    warns;
    werror;
    missing_header;
    missing_source;
    bad_option;
    ignored;
    keep_going.goal("make -k keep-going");
    deleted_header.lines(&[
        "make deleted-header",
        "rm gone.h; touch dependent.c",
        "make deleted-header",
    ]);
    deleted_and_dropped.lines(&[
        "make deleted-and-dropped",
        "rm gone.h; sed -i /gone.h/d dependent.c",
        "make deleted-and-dropped",
    ]);
}

/// What is made of a random number each time.
const COVERAGE_STAMPS: &[&str] = &[
    "out/coverage-random/greet",
    "out/coverage-random/greet-main.gcno",
    "out/coverage-random/greet-greet.gcno",
    "out/coverage-random/greet-main.gcda",
    "out/coverage-random/greet-greet.gcda",
    "out/coverage-random/report",
];

/// A list of what was linked, with the names of temporary files.
const STATIC_MAP: &str = "out/static-link/map";

/// The targets of the Makefile that have tests of their own below.
const ELSEWHERE: &[&str] = &["embed"];

#[test]
fn every_target_has_a_test() {
    let project = Project::own("corner");
    let list = "$(info cases: $(COMPILE) $(OUTPUTS) $(LINK) $(LOOKS) $(TROUBLE) $(SPECIAL))";
    let command = format!("printf '%s\\n' 'include Makefile' '{list}' | make -nf - clean");
    let listed = project.command("sh").args(["-c", &command]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let listed = listed.lines().find_map(|line| line.strip_prefix("cases: ")).unwrap();
    let listed: BTreeSet<String> = listed.split_whitespace().map(str::to_owned).collect();
    let mut tested = tested();
    tested.extend(ELSEWHERE.iter().map(|&name| name.to_owned()));
    assert_eq!(listed, tested);
}

/// The first compiler here that knows `#embed`.
fn embedding_compiler() -> Option<&'static str> {
    const NAMES: &[&str] =
        &["gcc", "gcc-15", "gcc-16", "clang", "clang-19", "clang-20", "clang-21"];
    NAMES.iter().copied().find(|name| {
        let asked =
            Command::new(name).args(["-std=c23", "-dM", "-E", "-x", "c", "/dev/null"]).output();
        asked.is_ok_and(|asked| {
            String::from_utf8_lossy(&asked.stdout).contains("__STDC_EMBED_FOUND__")
        })
    })
}

#[test]
fn embed() {
    let Some(compiler) = embedding_compiler() else {
        return skip::unable("no compiler here knows #embed");
    };
    let lines = [
        format!("make embed EMBED_CC={compiler}"),
        "echo other > blob.bin; rm -r out".to_owned(),
        format!("make embed EMBED_CC={compiler}"),
    ];
    let mut case = Case::of(&format!("embed EMBED_CC={compiler}"));
    case.session = Session::new(lines);
    case.check(Mode::Lazy);
    case.check(Mode::Eager);
}

/// A directory with `gcc -> ccache` first in the user's own `PATH`.
fn with_ccache_first(mode: Mode) {
    if !Path::new("/usr/bin/ccache").exists() {
        return skip::missing("ccache is not installed");
    }
    let links = tempfile::tempdir().unwrap();
    for name in ["gcc", "g++"] {
        std::os::unix::fs::symlink("/usr/bin/ccache", links.path().join(name)).unwrap();
    }
    let path = format!("{}:{}", links.path().display(), std::env::var("PATH").unwrap());
    let place = links.path().join("cache");
    let case = Case::of("plain cxx archive")
        .set("PATH", &path)
        .set("CCACHE_DIR", place.to_str().unwrap())
        .set("CCACHE_NODIRECT", "1");
    case.check(mode);
}

#[test]
fn ccache_first_in_path_lazy() {
    with_ccache_first(Mode::Lazy);
}

#[test]
fn ccache_first_in_path_eager() {
    with_ccache_first(Mode::Eager);
}

/// Compilers pass over a directory for temporary files that is not there.
fn without_temporary_directory(mode: Mode) {
    Case::of("plain archive lto").set("TMPDIR", "/nowhere/at/all").check(mode);
}

#[test]
fn without_temporary_directory_lazy() {
    without_temporary_directory(Mode::Lazy);
}

#[test]
fn without_temporary_directory_eager() {
    without_temporary_directory(Mode::Eager);
}

/// All that can succeed, in one build, several commands at once.
fn everything_at_once(mode: Mode) {
    let case = Case::of("-j2").in_any_order().stamped(&[STATIC_MAP]);
    case.check(mode);
}

#[test]
fn everything_at_once_lazy() {
    everything_at_once(Mode::Lazy);
}

#[test]
fn everything_at_once_eager() {
    everything_at_once(Mode::Eager);
}
