//! Network namespaces without a name: each lives as long as a process that waits in it, which ends
//! when the test does, however that ends. So nothing has to be tidied up, and nothing can be left.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

/// A network namespace.
#[derive(Debug)]
pub(super) struct Namespace {
    /// Waits for the end of its input, which we hold.
    holder: Child,
    /// Was a user namespace needed to make it?
    in_user_namespace: bool,
}

impl Namespace {
    /// A new one, in a user namespace of its own unless we are root. The text says why not.
    pub(super) fn new() -> Result<Self, String> {
        let by_root = rustix::process::geteuid().is_root();
        let mut unshare = Command::new("unshare");
        match by_root {
            true => unshare.arg("--net"),
            false => unshare.args(["--user", "--map-root-user", "--net"]),
        };
        Self::hold(unshare, !by_root)
    }

    /// Another one, so that an interface can be moved from this one to it.
    pub(super) fn another(&self) -> Result<Self, String> {
        let mut unshare = self.command("unshare");
        unshare.arg("--net");
        Self::hold(unshare, self.in_user_namespace)
    }

    fn hold(mut unshare: Command, in_user_namespace: bool) -> Result<Self, String> {
        unshare.args(["--", "sh", "-c", "echo ready; exec cat"]);
        unshare.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut holder = unshare.spawn().map_err(|error| format!("unshare: {error}"))?;
        let mut line = String::new();
        let said = holder.stdout.as_mut().expect("stdout is a pipe");
        BufReader::new(said).read_line(&mut line).expect("a pipe can be read");
        if line.trim() == "ready" {
            return Ok(Self { holder, in_user_namespace });
        }
        let output = holder.wait_with_output().expect("a child can be waited for");
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }

    /// A process in it.
    pub(super) fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// The words with which a command is started in it.
    pub(super) fn enter(&self) -> Vec<String> {
        let mut words = vec!["nsenter".to_owned(), format!("--target={}", self.pid())];
        if self.in_user_namespace {
            words.extend(["--user", "--preserve-credentials"].map(str::to_owned));
        }
        words.extend(["--net", "--"].map(str::to_owned));
        words
    }

    /// The same for one that must not be root, which we are in a user namespace of our own: it gets
    /// a further one, where it is an ordinary user again.
    pub(super) fn enter_as_user(&self) -> Vec<String> {
        let mut words = self.enter();
        if self.in_user_namespace {
            let user = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--"];
            words.extend(user.map(str::to_owned));
        }
        words
    }

    /// A command in it, ready to be started.
    pub(super) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        super::entered(&self.enter(), program)
    }

    /// Runs a program that reads orders from its standard input; the text says why it failed.
    pub(super) fn order(&self, program: &[&str], orders: &str) -> Result<(), String> {
        let mut command = self.command(program[0]);
        command.args(&program[1..]).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("{program:?}: {error}"))?;
        let mut stdin = child.stdin.take().expect("stdin is a pipe");
        // It may end without having read it all; then its status tells.
        let _ = stdin.write_all(orders.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().expect("a child can be waited for");
        if output.status.success() {
            return Ok(());
        }
        Err(format!("{program:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
