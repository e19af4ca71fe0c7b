//! Waiting for the build command, and for signals that end programs.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};

use rustix::process::{Pid as ProcessId, Signal as Number, kill_process};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

use super::caller::status_of;
use crate::error::CliError;
use crate::exit;

/// The signals by which users, terminals and the system end programs. Those that were ignored when
/// this process began stay so, as in any program that is started by nohup(1), or in the background
/// of a script.
pub(super) struct Signals {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
    hang_up: Option<Signal>,
    quit: Option<Signal>,
}

impl Signals {
    /// Listens from now on.
    pub(super) fn listen() -> Result<Self, CliError> {
        let ignored = ignored_signals();
        let listen = |kind: SignalKind| {
            let is_ignored = ignored >> (kind.as_raw_value() - 1) & 1 == 1;
            let listening = (!is_ignored).then(|| signal(kind)).transpose();
            listening.map_err(CliError::io("listening to signals"))
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
            quit: listen(SignalKind::quit())?,
        })
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) -> Number {
        tokio::select! {
            () = comes(&mut self.interrupt) => Number::INT,
            () = comes(&mut self.terminate) => Number::TERM,
            () = comes(&mut self.hang_up) => Number::HUP,
            () = comes(&mut self.quit) => Number::QUIT,
        }
    }
}

async fn comes(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// One bit for each signal, the first for number 1 (proc_pid_status(5), `SigIgn`).
fn ignored_signals() -> u64 {
    let mask = status_of("self", "SigIgn");
    mask.and_then(|mask| u64::from_str_radix(&mask, 16).ok()).unwrap_or(0)
}

/// A build command that was started.
pub(super) struct Running {
    pid: ProcessId,
    end: JoinHandle<std::io::Result<ExitStatus>>,
    status: Option<ExitStatus>,
}

impl Running {
    pub(super) fn new(mut child: Child) -> Self {
        let pid = ProcessId::from_child(&child);
        Self { pid, end: tokio::task::spawn_blocking(move || child.wait()), status: None }
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Waits for its end.
    pub(super) async fn ended(&mut self) -> Result<ExitStatus, CliError> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        let status = (&mut self.end).await.map_err(|error| CliError::new(exit::INTERNAL, error))?;
        let status = status.map_err(CliError::io("waiting for the build command"))?;
        self.status = Some(status);
        Ok(status)
    }

    /// Passes a signal on. A terminal has sent it to the whole group; then the command has it twice.
    pub(super) fn signal(&self, number: Number) {
        if self.status.is_none() {
            let _ = kill_process(self.pid, number);
        }
    }
}

/// Runs a command to its end, passing signals on.
pub(super) async fn conduct(child: Child) -> Result<ExitStatus, CliError> {
    let mut signals = Signals::listen()?;
    let mut running = Running::new(child);
    loop {
        tokio::select! {
            status = running.ended() => return status,
            number = signals.next() => running.signal(number),
        }
    }
}

/// The signal that ended a program.
pub(super) fn signal_of(status: ExitStatus) -> Option<Number> {
    status.signal().and_then(Number::from_named_raw)
}

/// As a shell would say it.
pub(super) fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(u8::MAX)
}
