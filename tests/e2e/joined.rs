//! `mesh join` in the foreground, as long as a test wants it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use mesh_tests::Mesh;
use rustix::process::{Pid, Signal, kill_process};

/// What a slow machine may take for one step.
const PATIENCE: Duration = Duration::from_secs(60);

/// `mesh join`, as long as it runs.
pub(crate) struct Joined {
    child: Child,
    said: mpsc::Receiver<String>,
}

impl Joined {
    pub(crate) fn start(mesh: &Mesh, arguments: &[&str]) -> Self {
        let mut command = mesh.command(["join", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0"]);
        let mut child = command.args(arguments).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (say, said) = mpsc::channel();
        // Ends with the node.
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| say.send(line)));
        Self { child, said }
    }

    /// Waits for a line that has this in it.
    pub(crate) fn says(&mut self, what: &str) {
        let mut before = Vec::new();
        loop {
            match self.said.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(what) => return,
                Ok(line) => before.push(line),
                Err(error) => panic!("it never said {what:?} ({error}), but {before:#?}"),
            }
        }
    }

    pub(crate) fn interrupt(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Joined {
    /// Waits until it has ended by itself, in peace.
    pub(crate) fn ends(mut self) {
        assert!(self.child.wait().unwrap().success());
    }

    /// As a power cut does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
