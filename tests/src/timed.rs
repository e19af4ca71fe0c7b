//! Commands with a time limit: a hang is a failure that says what was printed so far.

use std::fs::{self, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::Family;

/// Time limit of one build command.
const LIMIT: Duration = Duration::from_secs(60);

/// A command in a process group of its own, whose streams go to files.
///
/// Files, because a pipe would stay open as long as anybody who was left behind by the command.
pub struct Timed {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Timed {
    /// Starts the command. Its streams go to `stdout` and `stderr` in `directory`, or both to
    /// `stdout` if `together`.
    pub fn start(mut command: Command, directory: &Path, together: bool) -> Self {
        let stdout = directory.join("stdout");
        let stderr = if together { stdout.clone() } else { directory.join("stderr") };
        for path in [&stdout, &stderr] {
            fs::write(path, "").expect("a file can be written");
        }
        let open = |path: &Path| -> Stdio {
            OpenOptions::new().append(true).open(path).expect("a file can be opened").into()
        };
        command.stdout(open(&stdout)).stderr(open(&stderr)).process_group(0);
        let child = command.spawn().expect("a build command starts");
        Self { child, stdout, stderr }
    }

    /// The process, which leads its group.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends a signal to its process group. The group is gone if it has ended before.
    pub fn signal_group(&self, signal: Signal) {
        let _ = kill_process_group(self.pid(), signal);
    }

    /// What it has written to standard output by now.
    pub fn said(&self) -> String {
        lossy(&read(&self.stdout))
    }

    /// Has it ended? Then its number is free for others only after [`Timed::wait`].
    pub fn has_ended(&self) -> bool {
        self.ends_within(Duration::ZERO)
    }

    /// Waits for its end, at most so long.
    pub fn ends_within(&self, limit: Duration) -> bool {
        let process = pidfd_open(self.pid(), PidfdFlags::empty()).expect("a child has a number");
        let mut ready = [PollFd::new(&process, PollFlags::IN)];
        let limit = Timespec::try_from(limit).expect("a limit is short");
        poll(&mut ready, Some(&limit)) == Ok(1)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// After 60 seconds, with what was printed; whatever it has started is killed.
    pub fn wait(self) -> Result<Output, String> {
        self.wait_for(LIMIT)
    }

    /// The same, with another limit.
    ///
    /// # Errors
    /// After that time.
    pub fn wait_for(mut self, limit: Duration) -> Result<Output, String> {
        if !self.ends_within(limit) {
            let family = Family::of(&self.child);
            self.signal_group(Signal::KILL);
            family.kill();
            self.reap();
            let (stdout, stderr) = (lossy(&read(&self.stdout)), lossy(&read(&self.stderr)));
            return Err(format!(
                "still running after {limit:?}; stdout:\n{stdout}--- stderr:\n{stderr}---"
            ));
        }
        let status = self.reap();
        let (stdout, stderr) = (read(&self.stdout), read(&self.stderr));
        let stderr = if self.stdout == self.stderr { Vec::new() } else { stderr };
        Ok(Output { status, stdout, stderr })
    }

    fn reap(&mut self) -> ExitStatus {
        self.child.wait().expect("a child can be waited for")
    }
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).expect("a file can be read")
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hang_is_ended_and_says_what_was_printed() {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo begun; echo warned >&2; tail -f /dev/null & wait"]);
        let hanging = Timed::start(command, directory.path(), false);
        while !hanging.said().contains("begun") {}
        let family = Family::of_process(hanging.pid().as_raw_nonzero().get() as u32);
        let error = hanging.wait_for(Duration::from_millis(500)).unwrap_err();
        assert!(error.contains("begun\n") && error.contains("warned\n"), "{error}");
        family.wait_until_gone();
    }

    #[test]
    fn both_streams_in_one_file_are_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two >&2; echo three; exit 3"]);
        let output = Timed::start(command, directory.path(), true).wait().unwrap();
        assert_eq!(output.status.code(), Some(3));
        assert_eq!(output.stdout, b"one\ntwo\nthree\n");
        assert!(output.stderr.is_empty());
    }
}
