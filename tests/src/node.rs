//! `mesh join` as a process: what it says, and what is done to it.

use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Finished, Mesh, Usage, usage};

/// What a slow machine may take for one step. Whoever waits longer waits for ever.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// The port at which a node on a [`Host`](crate::Host) listens; on loopback it takes any.
const PORT: u16 = 4001;

/// Of what a node said, so much is shown when its test fails.
const LINES_SHOWN: usize = 40;

/// A node that runs. Killed in the end, and with the thread that started it.
#[derive(Debug)]
pub struct Node {
    child: Child,
    said: Receiver<String>,
    /// All that it said so far, and how much of it was looked through.
    heard: Vec<String>,
    looked_at: usize,
}

impl Node {
    /// `mesh join` with these arguments, without mDNS, at the address of its home's host.
    pub fn join(mesh: &Mesh, arguments: &[&str]) -> Self {
        let (ip, port) = match mesh.host() {
            Some(host) => (host.address(), PORT),
            None => (Ipv4Addr::LOCALHOST, 0),
        };
        let listen = format!("/ip4/{ip}/tcp/{port}");
        let mut command = mesh.command_with_parent(["join", "--no-mdns", "--listen", &listen]);
        command.args(arguments);
        Self::start(&mut command)
    }

    /// Any command that goes on like a node: it is done with it what is done with one.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("mesh starts");
        let lines = BufReader::new(child.stderr.take().expect("stderr is a pipe")).lines();
        let (say, said) = mpsc::channel();
        // Ends with the node.
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| say.send(line)));
        Self { child, said, heard: Vec::new(), looked_at: 0 }
    }

    /// Waits for a line that has this in it. Lines before it are passed over.
    #[track_caller]
    pub fn says(&mut self, what: &str) {
        loop {
            while let Some(line) = self.heard.get(self.looked_at) {
                self.looked_at += 1;
                if line.contains(what) {
                    return;
                }
            }
            assert!(self.hear(PATIENCE), "it never said {what:?}");
        }
    }

    /// Waits until it is so: looks now, and after each line that the node says.
    #[track_caller]
    pub fn says_until(&mut self, what: &str, mut is_so: impl FnMut() -> bool) {
        loop {
            self.heard.extend(self.said.try_iter());
            if is_so() {
                return;
            }
            assert!(self.hear(PATIENCE), "waited for {what}, in vain");
        }
    }

    /// Waits for so long that it has said its last line; true if it has.
    pub fn falls_silent(&mut self, within: Duration) -> bool {
        let until = Instant::now() + within;
        loop {
            match self.said.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => self.heard.push(line),
                Err(error) => return error == RecvTimeoutError::Disconnected,
            }
        }
    }

    /// Waits for its end: its exit code and all that it said.
    #[track_caller]
    pub fn wait(mut self) -> Finished {
        assert!(self.falls_silent(PATIENCE), "it does not end");
        let status = self.child.wait().expect("a child can be waited for");
        let stderr = std::mem::take(&mut self.heard).join("\n");
        Finished { code: status.code(), signal: status.signal(), stdout: String::new(), stderr }
    }

    /// Waits for one line; false if none comes.
    fn hear(&mut self, patience: Duration) -> bool {
        let line = self.said.recv_timeout(patience).ok();
        self.heard.extend(line.clone());
        line.is_some()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has used so far.
    #[track_caller]
    pub fn usage(&self) -> Usage {
        usage(self.pid()).expect("the node runs")
    }

    /// Has it ended by itself?
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Kills it, so that it cannot put anything in order, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// `SIGSTOP`: its connections stay open and say nothing.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// `SIGCONT`
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// `SIGINT`: it ends when it has put things in order.
    pub fn ask_to_end(&self) {
        self.signal(Signal::INT);
    }

    /// The same, and waits for a good end.
    #[track_caller]
    pub fn interrupt(mut self) {
        self.ask_to_end();
        assert!(self.child.wait().expect("a child can be waited for").success());
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a child can be signalled");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            self.heard.extend(self.said.try_iter());
            let from = self.heard.len().saturating_sub(LINES_SHOWN);
            eprintln!("--- process {} said:\n{}", self.pid(), self.heard[from..].join("\n"));
        }
    }
}
