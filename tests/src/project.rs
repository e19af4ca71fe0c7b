//! A project that is built again and again at the same absolute path: plainly and with `mesh`.
//!
//! The path matters: `-g` and `__FILE__` put it into objects. So both builds use one directory,
//! wiped and filled anew in between, with the same times on the sources.

use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use crate::{Finished, Mesh, Report, Snapshot, binary, finished, skip};

/// Modification time of the sources of [`Project::made`]: some day in 2001.
const SOURCE_TIME: Duration = Duration::from_secs(1_000_000_000);

/// A project's sources, and the directory they are built in.
pub struct Project {
    place: tempfile::TempDir,
    pristine: PathBuf,
    environment: Vec<(String, String)>,
    ignored: Vec<&'static str>,
    mesh_options: Vec<&'static str>,
}

/// Who runs a build command.
#[derive(Clone, Copy)]
pub enum With<'a> {
    /// Nobody: as if mesh were absent.
    Plain,
    /// `mesh build`.
    Lazy(&'a Mesh),
    /// `mesh build --eager`.
    Eager(&'a Mesh),
    /// `mesh build --slots 0`: on other members, as long as there are any.
    Elsewhere(&'a Mesh),
}

/// What one build command did.
#[derive(Debug)]
pub struct Built {
    /// Its status and what it said.
    pub finished: Finished,
    /// What lies in the project's directory after it.
    pub snapshot: Snapshot,
    /// What mesh reported.
    pub report: Option<Report>,
}

impl Project {
    /// The project below `tests/projects` of that name.
    pub fn own(name: &str) -> Self {
        Self::of(Path::new(env!("CARGO_MANIFEST_DIR")).join("projects").join(name))
    }

    /// A Debian source package that `tests/sources` has fetched.
    ///
    /// Without it the test is skipped, and `None` comes back.
    #[track_caller]
    pub fn source(package: &str) -> Option<Self> {
        let sources = target().join("sources");
        let found = sources.join(package);
        if found.is_dir() {
            return Some(Self::of(found));
        }
        let why = fs::read_to_string(sources.join(format!("{package}.missing")))
            .unwrap_or_else(|_| "run tests/sources".to_owned());
        skip::missing(format_args!("no source of {package}: {}", why.trim()));
        None
    }

    /// A project of these files (path and text), all of the same old time. Those that begin with
    /// `#!` are executable.
    pub fn made<P: AsRef<str>, T: AsRef<str>>(files: impl IntoIterator<Item = (P, T)>) -> Self {
        let place = new_place();
        let pristine = place.path().join("pristine");
        fs::create_dir(&pristine).expect("a directory can be made");
        for (path, text) in files {
            write_source(&pristine.join(path.as_ref()), text.as_ref());
        }
        Self::at(place, pristine)
    }

    /// The project in this directory, which stays as it is.
    pub fn of(pristine: PathBuf) -> Self {
        Self::at(new_place(), pristine)
    }

    fn at(place: tempfile::TempDir, pristine: PathBuf) -> Self {
        fs::create_dir(place.path().join("home")).expect("a home can be made");
        let (environment, ignored, mesh_options) = Default::default();
        let project = Self { place, pristine, environment, ignored, mesh_options };
        project.reset();
        project
    }
    /// The directory that is built in.
    pub fn directory(&self) -> PathBuf {
        self.place.path().join("project")
    }

    /// Sets a variable for the build commands.
    pub fn set(&mut self, key: &str, value: impl Into<String>) {
        self.environment.push((key.to_owned(), value.into()));
    }

    /// Leaves a relative path out of the snapshots.
    pub fn ignore(&mut self, path: &'static str) {
        self.ignored.push(path);
    }

    /// Gives mesh an option for every build.
    pub fn mesh_option(&mut self, option: &'static str) {
        self.mesh_options.push(option);
    }

    /// A directory beside the one that is built in.
    pub fn outside(&self) -> &Path {
        self.place.path()
    }

    /// Back to the sources alone, with their times.
    pub fn reset(&self) {
        let directory = self.directory();
        if directory.exists() {
            fs::remove_dir_all(&directory).expect("a directory can be removed");
        }
        copy_tree(&self.pristine, &directory);
    }

    /// What lies in the directory.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::take(&self.directory(), &self.ignored)
    }

    /// A command in the directory, with an environment that holds nothing by chance.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.current_dir(self.directory()).stdin(Stdio::null()).env_clear();
        command
            .env("PATH", path)
            .env("LANG", "C.UTF-8")
            .env("HOME", self.place.path().join("home"));
        command.envs(self.environment.iter().cloned());
        command
    }

    /// The build command `line` (words between spaces), ready to be started by `with`.
    pub fn build_command(&self, with: With<'_>, line: &str) -> Command {
        let words = line.split_whitespace();
        let (mesh, options): (_, &[&str]) = match with {
            With::Plain => {
                let mut words = words;
                let mut command = self.command(words.next().expect("a command has a word"));
                command.args(words);
                return command;
            }
            With::Lazy(mesh) => (mesh, &[]),
            With::Eager(mesh) => (mesh, &["--eager"]),
            With::Elsewhere(mesh) => (mesh, &["--slots", "0"]),
        };
        let mut command = self.command(binary());
        command.env("MESH_HOME", mesh.home()).args(["build", "--report"]).arg(self.report_path());
        command.args(options).args(&self.mesh_options).arg("--").args(words);
        command
    }

    /// Where builds write their report.
    pub fn report_path(&self) -> PathBuf {
        self.place.path().join("report.json")
    }

    /// Runs a build command to its end.
    pub fn build(&self, with: With<'_>, line: &str) -> Built {
        let mut command = self.ready(with, line);
        self.built(with, finished(command.output().expect("a build command starts")))
    }

    /// A build command to be started now; give what it left to [`Project::built`].
    pub fn ready(&self, with: With<'_>, line: &str) -> Command {
        let _ = fs::remove_file(self.report_path());
        self.wait_for_a_later_time();
        self.build_command(with, line)
    }

    /// What a build command that has ended did.
    pub fn built(&self, with: With<'_>, finished: Finished) -> Built {
        let report = match with {
            With::Plain => None,
            _ if self.report_path().exists() => Some(Report::read(&self.report_path())),
            _ => panic!("mesh wrote no report: {finished:#?}"),
        };
        Built { finished, snapshot: self.snapshot(), report }
    }

    /// Runs a line of shell in the directory, which must succeed: an edit, as a user makes it.
    #[track_caller]
    pub fn edit(&self, line: &str) {
        self.wait_for_a_later_time();
        finished(self.command("sh").args(["-ec", line]).output().expect("sh starts")).ok();
    }

    /// `make` compares times: what comes next must be later than what is there, also where the
    /// clock of the file system ticks slowly.
    fn wait_for_a_later_time(&self) {
        let probe = self.place.path().join("clock");
        let now = || {
            fs::write(&probe, "tick").expect("a file can be written");
            fs::metadata(&probe).and_then(|found| found.modified()).expect("files have times here")
        };
        let before = now();
        while now() <= before {}
    }
}

impl Built {
    /// The build must have succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.finished.code, Some(0), "{:#?}", self.finished);
        self
    }

    /// What mesh reported of it.
    #[track_caller]
    pub fn report(&self) -> &Report {
        self.report.as_ref().expect("mesh ran this build")
    }
}

/// The directory `target` of this build.
pub fn target() -> PathBuf {
    let profile = binary();
    let target = profile.ancestors().nth(2).expect("the binary is in target/PROFILE");
    target.to_owned()
}

fn new_place() -> tempfile::TempDir {
    let temporary = target().join("tmp");
    fs::create_dir_all(&temporary).expect("target/tmp can be made");
    // Not below /tmp: mesh takes sources there for probes.
    let place = tempfile::Builder::new().prefix("project").tempdir_in(temporary);
    place.expect("a temporary directory can be made")
}

fn write_source(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a source is in a directory"))
        .expect("a directory can be made");
    fs::write(path, text).expect("a source can be written");
    let mode = if text.starts_with("#!") { 0o755 } else { 0o644 };
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode can be set");
    let file = File::options().append(true).open(path).expect("a source can be opened");
    let modified = SystemTime::UNIX_EPOCH + SOURCE_TIME;
    file.set_times(FileTimes::new().set_modified(modified)).expect("times can be set");
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory can be made");
    for entry in fs::read_dir(from).expect("a directory can be read") {
        let entry = entry.expect("an entry can be read");
        let (source, copy) = (entry.path(), to.join(entry.file_name()));
        let metadata = fs::symlink_metadata(&source).expect("what is listed is there");
        if metadata.is_dir() {
            copy_tree(&source, &copy);
        } else if metadata.is_symlink() {
            let target = fs::read_link(&source).expect("a link can be read");
            symlink(target, &copy).expect("a link can be made");
        } else {
            fs::copy(&source, &copy).expect("a file can be copied");
            let modified = metadata.modified().expect("files have times here");
            let times = FileTimes::new().set_modified(modified);
            let file = File::options().append(true).open(&copy).expect("a copy can be opened");
            file.set_times(times).expect("times can be set");
        }
    }
}
