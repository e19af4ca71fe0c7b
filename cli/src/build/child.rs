//! Waiting for the build command, and passing signals on to it.

use std::process::{Child, ExitStatus};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::CliError;
use crate::exit;

/// Waits for a child and passes on the signals that end programs.
pub(super) struct Waiter {
    child: Child,
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

/// How it ended.
pub(super) struct Ended {
    /// As the system says it.
    pub(super) status: ExitStatus,
    /// We were told to end as well.
    pub(super) is_interrupted: bool,
}

impl Waiter {
    pub(super) fn new(child: Child) -> Result<Self, CliError> {
        let listen = |kind| signal(kind).map_err(CliError::io("listening to signals"));
        Ok(Self {
            child,
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    pub(super) async fn wait<F: Future<Output = ()>>(
        mut self,
        interrupted: impl Fn() -> F,
    ) -> Result<Ended, CliError> {
        use rustix::process::{Pid, Signal, kill_process};
        let pid = Pid::from_child(&self.child);
        let mut is_interrupted = false;
        let mut waiting = tokio::task::spawn_blocking(move || self.child.wait());
        loop {
            let signal = tokio::select! {
                status = &mut waiting => {
                    let status = status.map_err(|error| CliError::new(exit::INTERNAL, error))?;
                    let status = status.map_err(CliError::io("waiting for the build command"))?;
                    return Ok(Ended { status, is_interrupted });
                }
                _ = self.interrupt.recv() => Signal::INT,
                _ = self.terminate.recv() => Signal::TERM,
                _ = self.hang_up.recv() => Signal::HUP,
            };
            is_interrupted = true;
            interrupted().await;
            // A terminal has sent it to the whole group; then the command has it twice.
            let _ = kill_process(pid, signal);
        }
    }
}

/// As a shell would say it.
pub(super) fn code_of(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(u8::MAX)
}
