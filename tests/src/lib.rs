//! The harness of the end-to-end tests: real `mesh` processes with a home of their own.

#![allow(clippy::expect_used)] // a harness that cannot do its work fails the test that asked

mod faults;
mod members;
mod network;
mod node;
mod processes;
mod project;
mod random;
pub mod readme;
mod report;
mod session;
pub mod skip;
mod snapshot;
mod timed;
mod trial;

pub use faults::{Chaos, Fault};
pub use members::{Members, Seen, name, wait_until};
pub use network::{Host, Network};
pub use node::{Node, PATIENCE};
pub use processes::{
    Family, Usage, Watch, descendants_named, names_of_those_that_have, usage, wait_until_none_has,
};
pub use project::{Built, Project, With, target};
pub use random::Random;
pub use report::{Local, Report};
pub use session::{Mode, Session};
pub use snapshot::{Differences, Snapshot};
pub use timed::Timed;
pub use trial::{Sources, Trial, is_installed};

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// One user of `mesh`: a home directory, removed in the end.
pub struct Mesh {
    home: tempfile::TempDir,
    host: Option<Host>,
    /// `mesh` of another user, whom this one may become.
    other: Option<PathBuf>,
}

/// The ordinary user that root becomes.
const NOBODY: u32 = 65534;

/// What a finished command left.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Default for Mesh {
    fn default() -> Self {
        Self::new()
    }
}

impl Mesh {
    /// A user with an empty home.
    pub fn new() -> Self {
        let home = tempfile::tempdir().expect("a temporary directory can be made");
        Self { home, host: None, other: None }
    }

    /// An ordinary user with an empty home, where this one is root. None where it is not; that is said.
    pub fn ordinary() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skip::unable("only root can become somebody else");
            return None;
        }
        let mut mesh = Self::new();
        std::os::unix::fs::chown(mesh.home(), Some(NOBODY), Some(NOBODY)).expect("root gives away");
        // Where this one is built others may not come.
        let own = mesh.home().join("mesh");
        std::fs::copy(binary(), &own).expect("a program can be copied");
        mesh.other = Some(own);
        Some(mesh)
    }

    /// A user with an empty home on a host of a [`Network`].
    pub fn at(host: Host) -> Self {
        Self { host: Some(host), ..Self::new() }
    }

    /// Where it is, if not on this machine itself.
    pub fn host(&self) -> Option<&Host> {
        self.host.as_ref()
    }

    /// The home directory.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// `mesh` with these arguments, ready to be started.
    pub fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = match &self.other {
            Some(own) => self.program(own),
            None => self.program(binary()),
        };
        command.args(arguments).env("MESH_HOME", self.home()).stdin(Stdio::null());
        command
    }

    /// The same, to be killed when the thread that starts it ends, however that ends.
    pub fn command_with_parent<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = self.program("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        command.arg(self.other.clone().unwrap_or_else(binary)).args(arguments);
        command.env("MESH_HOME", self.home()).stdin(Stdio::null());
        command
    }

    fn program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = match (&self.host, &self.other) {
            (Some(host), _) => return host.command(program),
            (None, None) => return Command::new(program),
            (None, Some(_)) => Command::new("setpriv"),
        };
        let user = NOBODY.to_string();
        command
            .args(["--reuid", &user, "--regid", &user, "--clear-groups", "--"])
            .arg(program.as_ref());
        command.env_remove("HOME").current_dir("/");
        command
    }

    /// Runs `mesh` to its end.
    pub fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Finished {
        finished(self.command(arguments).output().expect("mesh starts"))
    }

    /// Runs `mesh` with this on standard input.
    pub fn run_with<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
        stdin: &[u8],
    ) -> Finished {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("mesh starts");
        let mut pipe = child.stdin.take().expect("stdin is a pipe");
        std::thread::scope(|scope| {
            // mesh may end without having read it all.
            scope.spawn(move || pipe.write_all(stdin));
            finished(child.wait_with_output().expect("mesh ends"))
        })
    }

    /// Runs `mesh`, which must succeed; its output without the last line break.
    #[track_caller]
    pub fn ok<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> String {
        self.run(arguments).ok()
    }
}

impl Finished {
    /// The output of a command that must have succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self.stdout.trim_end_matches('\n').to_owned()
    }
}

/// What a process that has ended left.
pub fn finished(output: Output) -> Finished {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Finished {
        code: output.status.code(),
        signal: output.status.signal(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

/// The `mesh` that was built beside this test.
pub fn binary() -> PathBuf {
    program_beside_tests("mesh")
}

fn program_beside_tests(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a process knows its file");
    let profile = test.parent().and_then(Path::parent).expect("tests are in target/PROFILE/deps");
    let binary = profile.join(name);
    assert!(binary.exists(), "{} is not built: run tests/run", binary.display());
    binary
}
