//! A small build whose every detail must be the same with mesh as without.
//!
//! Where a [`Session`](crate::Session) lets a lazy build that fails go further than plain make, a
//! trial excuses nothing: status, streams, files, modes, links, and which file is newer than which.

use std::collections::BTreeSet;

use crate::session::{PLACEHOLDER, comparable, context};
use crate::{Built, Differences, Mesh, Mode, Project, Timed, With, finished, skip};

/// Files of a project: path and text.
pub type Sources<'a> = &'a [(&'a str, &'a str)];

/// What every trial made of a Makefile has beside it.
const SOURCES: Sources<'_> = &[
    ("bad.c", "int a(\n"),
    ("ok.c", "int ok;\n"),
    ("main.c", "int main(void) { return 0; }\n"),
    ("hello.c", "#include <stdio.h>\nint main(void) { return puts(\"hello\") < 0; }\n"),
    ("warned.c", "int f(int x) { int unused; return x; }\n"),
    ("missing.c", "#include \"missing.h\"\n"),
];

/// Corrects what is wrong in [`SOURCES`].
const FIX: &str = "echo 'int a;' > bad.c; echo '#define FOUND 1' > missing.h";

/// Set this to 1 to check trials themselves.
const PLAIN_VARIABLE: &str = "MESH_TRIALS_PLAIN";

/// Build commands in broken sources, an edit, the same commands again, and once more.
#[derive(Clone, Debug)]
pub struct Trial {
    files: Vec<(String, String)>,
    builds: Vec<String>,
    fix: String,
    environment: Vec<(&'static str, String)>,
    ignored: Vec<&'static str>,
    stamped: Vec<&'static str>,
    mesh_options: Vec<&'static str>,
    needs: Vec<&'static str>,
    streams: Streams,
    order_counts: bool,
}

/// How the streams of two builds are compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Streams {
    /// Each by itself, to the byte.
    Apart,
    /// Both in one file, as they came.
    Together,
    /// As sets of lines, because commands run at once.
    AnyOrder,
    /// Not at all: a linker that runs beside others writes its lines in pieces.
    Torn,
}

impl Trial {
    /// `make` with one rule: it makes `out` of `bad.c` and `ok.c`, by these lines of shell.
    pub fn recipe(lines: &str) -> Self {
        let recipe: String = lines.lines().map(|line| format!("\t{}\n", line.trim())).collect();
        Self::makefile(&format!("out: bad.c ok.c\n{recipe}"))
    }

    /// `make` with this Makefile. Lines that begin with four spaces become recipes.
    pub fn makefile(text: &str) -> Self {
        let tabbed = |line: &str| match line.strip_prefix("    ") {
            Some(recipe) => format!("\t{recipe}\n"),
            None => format!("{line}\n"),
        };
        let makefile: String = text.lines().map(tabbed).collect();
        Self::of(SOURCES).file("Makefile", &makefile)
    }

    /// `make` in these files.
    pub fn of(files: Sources<'_>) -> Self {
        let owned = |(path, text): &(&str, &str)| ((*path).to_owned(), (*text).to_owned());
        Self {
            files: files.iter().map(owned).collect(),
            builds: vec!["make".to_owned()],
            fix: FIX.to_owned(),
            environment: Vec::new(),
            ignored: Vec::new(),
            stamped: Vec::new(),
            mesh_options: Vec::new(),
            needs: Vec::new(),
            streams: Streams::Apart,
            order_counts: true,
        }
    }

    /// Adds a source, or replaces it.
    #[must_use]
    pub fn file(mut self, path: &str, text: &str) -> Self {
        self.files.retain(|(other, _)| other != path);
        self.files.push((path.to_owned(), text.to_owned()));
        self
    }

    /// A script `ask.sh`, which is the build command.
    pub fn script(text: &str) -> Self {
        Self::of(SOURCES).file("ask.sh", text).builds(&["sh ask.sh"])
    }

    /// A Python script, which is the build command.
    pub fn python(text: &str) -> Self {
        Self::of(SOURCES).file("ask.py", text).builds(&["python3 ask.py"]).needs("python3")
    }

    /// The build commands (words between spaces), in place of `make`.
    #[must_use]
    pub fn builds(mut self, lines: &[&str]) -> Self {
        self.builds = lines.iter().map(|&line| line.to_owned()).collect();
        self
    }

    /// The edit (a line of shell) between the builds.
    #[must_use]
    pub fn fix(mut self, line: &str) -> Self {
        line.clone_into(&mut self.fix);
        self
    }

    /// A variable of the build commands.
    #[must_use]
    pub fn set(mut self, key: &'static str, value: &str) -> Self {
        self.environment.push((key, value.to_owned()));
        self
    }

    /// Leaves paths out of the comparison.
    #[must_use]
    pub fn ignore(mut self, paths: &[&'static str]) -> Self {
        self.ignored.extend(paths);
        self
    }

    /// The bytes of these files are never the same twice.
    #[must_use]
    pub fn stamped(mut self, paths: &[&'static str]) -> Self {
        self.stamped.extend(paths);
        self
    }

    /// An option of `mesh build`.
    #[must_use]
    pub fn mesh_option(mut self, option: &'static str) -> Self {
        self.mesh_options.push(option);
        self
    }

    /// A program without which the trial is skipped.
    #[must_use]
    pub fn needs(mut self, program: &'static str) -> Self {
        self.needs.push(program);
        self
    }

    /// Standard output and standard error are one file.
    #[must_use]
    pub fn together(mut self) -> Self {
        self.streams = Streams::Together;
        self
    }

    /// Commands run at once: lines may come, and files may be made, in any order.
    #[must_use]
    pub fn in_any_order(mut self) -> Self {
        self.streams = Streams::AnyOrder;
        self.times_vary()
    }

    /// The same, and the lines of one command may come in between those of another.
    #[must_use]
    pub fn in_pieces(mut self) -> Self {
        self.streams = Streams::Torn;
        self.times_vary()
    }

    /// Files may have any order in time: they are made at once, or some of them are the words of
    /// a compiler, which come to whoever waits for it together with its object.
    #[must_use]
    pub fn times_vary(mut self) -> Self {
        self.order_counts = false;
        self
    }

    /// Compares plain builds with builds by mesh: lazily with nothing remembered and again with
    /// all remembered, or eagerly. With `MESH_TRIALS_PLAIN=1` plain builds are compared with
    /// themselves instead, which checks the trial.
    ///
    /// # Panics
    /// With the first difference. Where plain builds differ as well, it says so.
    #[track_caller]
    pub fn check(&self, mode: Mode) {
        if let Some(program) = self.needs.iter().find(|program| !is_installed(program)) {
            return skip::missing(format_args!("{program} is not installed"));
        }
        if std::env::var_os(PLAIN_VARIABLE).is_some_and(|value| value == "1") {
            return self.compare_with_itself().unwrap_or_else(|plain| panic!("{plain}"));
        }
        let Err(difference) = self.compare_in(mode) else { return };
        match self.compare_with_itself() {
            Ok(()) => panic!("{difference}"),
            Err(plain) => panic!("{difference}\n--- and plain builds differ as well: {plain}"),
        }
    }

    /// Compares plain builds with those by mesh.
    ///
    /// # Errors
    /// The first difference.
    pub fn compare_in(&self, mode: Mode) -> Result<(), String> {
        let project = self.project();
        let plain = self.hold(&project, With::Plain)?;
        match mode {
            Mode::Lazy => self.compare_lazy(&project, &plain),
            Mode::Eager => self.compare_eager(&project, &plain),
        }
    }

    /// Compares plain builds with themselves, which checks the trial.
    ///
    /// # Errors
    /// The first difference.
    pub fn compare_with_itself(&self) -> Result<(), String> {
        let project = self.project();
        let plain = self.hold(&project, With::Plain)?;
        self.compare_plain(&project, &plain)
    }

    fn compare_plain(&self, project: &Project, plain: &[Held]) -> Result<(), String> {
        self.compare(plain, &self.hold(project, With::Plain)?, "plain once more")
    }

    fn compare_lazy(&self, project: &Project, plain: &[Held]) -> Result<(), String> {
        let mesh = Mesh::new();
        for who in ["lazy", "lazy once more"] {
            self.compare(plain, &self.hold(project, Mode::Lazy.with(&mesh))?, who)?;
        }
        assert_no_journals(&mesh);
        Ok(())
    }

    fn compare_eager(&self, project: &Project, plain: &[Held]) -> Result<(), String> {
        let mesh = Mesh::new();
        self.compare(plain, &self.hold(project, Mode::Eager.with(&mesh))?, "eager")?;
        assert_no_journals(&mesh);
        Ok(())
    }

    fn project(&self) -> Project {
        let mut project = Project::made(self.files.iter().map(|(path, text)| (path, text)));
        for (key, value) in &self.environment {
            project.set(key, value);
        }
        for path in &self.ignored {
            project.ignore(path);
        }
        for option in &self.mesh_options {
            project.mesh_option(option);
        }
        project
    }

    /// All builds: in broken sources, in fixed ones, with nothing to do, and that by plain make.
    fn hold(&self, project: &Project, with: With<'_>) -> Result<Vec<Held>, String> {
        project.reset();
        let mut held = self.round(project, with, "in the sources as they come")?;
        project.edit(&self.fix);
        held.extend(self.round(project, with, "after the edit")?);
        held.extend(self.round(project, with, "with nothing to do")?);
        held.extend(self.round(project, With::Plain, "plainly with nothing to do")?);
        Ok(held)
    }

    fn round(&self, project: &Project, with: With<'_>, when: &str) -> Result<Vec<Held>, String> {
        let build = |line: &String| {
            let what = format!("`{line}` {when}");
            let before = project.snapshot();
            let command = project.ready(with, line);
            let together = self.streams == Streams::Together;
            let output = Timed::start(command, project.outside(), together).wait();
            let output = finished(output.map_err(|hang| format!("{what}: {hang}"))?);
            let built = project.built(with, output);
            let touched = before.touched(&built.snapshot);
            Ok(Held { what, built, touched })
        };
        self.builds.iter().map(build).collect()
    }

    fn compare(&self, plain: &[Held], other: &[Held], who: &str) -> Result<(), String> {
        assert_eq!(plain.len(), other.len());
        for (plain, other) in plain.iter().zip(other) {
            self.compare_builds(plain, other).map_err(|difference| {
                format!("{who}: {}: {difference}{}", plain.what, context(&other.built))
            })?;
        }
        Ok(())
    }

    fn compare_builds(&self, plain: &Held, other: &Held) -> Result<(), String> {
        let (one, two) = (&plain.built, &other.built);
        let left = two.snapshot.files_that(|bytes| bytes.starts_with(PLACEHOLDER));
        if !left.is_empty() {
            return Err(format!("left as placeholders: {left:?}"));
        }
        let ended = |built: &Built| (built.finished.code, built.finished.signal);
        if ended(one) != ended(two) {
            return Err(format!("status and signal {:?} became {:?}", ended(one), ended(two)));
        }
        self.compare_streams("output", &one.finished.stdout, &two.finished.stdout)?;
        self.compare_streams("errors", &one.finished.stderr, &two.finished.stderr)?;
        none("files", &one.snapshot.differences(&two.snapshot, &self.stamped))?;
        if self.order_counts {
            none("times", &one.snapshot.order_differences(&two.snapshot))?;
        }
        let (one, two) = (plain.touched.to_string(), other.touched.to_string());
        if self.stamped.is_empty() && one != two {
            return Err(format!("it has changed\n{two}--- instead of\n{one}---"));
        }
        Ok(())
    }

    fn compare_streams(&self, name: &str, one: &str, two: &str) -> Result<(), String> {
        let (one, two) = (comparable(one), comparable(two));
        let same = match self.streams {
            Streams::AnyOrder => set_of_lines(&one) == set_of_lines(&two),
            Streams::Apart | Streams::Together => one == two,
            Streams::Torn => true,
        };
        if same { Ok(()) } else { Err(format!("other {name}\n--- was:\n{one}--- is:\n{two}---")) }
    }
}

fn none(what: &str, differences: &Differences) -> Result<(), String> {
    if differences.is_empty() { Ok(()) } else { Err(format!("{what}:\n{differences}")) }
}

fn assert_no_journals(mesh: &Mesh) {
    let left = mesh.home().join("builds").read_dir().map_or(0, Iterator::count);
    assert_eq!(left, 0, "journals of builds that have ended");
}

/// A build of a trial, which round it was, and what it has changed.
struct Held {
    what: String,
    built: Built,
    touched: Differences,
}

fn set_of_lines(text: &str) -> BTreeSet<&str> {
    text.lines().collect()
}

/// Is there a program of that name in `PATH`?
pub fn is_installed(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|directory| directory.join(program).is_file())
}
