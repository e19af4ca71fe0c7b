//! Ending this process by a signal, so that whoever started it sees the same as of a plain build.
#![allow(unsafe_code)] // signal(2): handlers that are installed can be taken away by no crate of ours.

use rustix::process::{Resource, Rlimit, Signal, getpid, kill_process, setrlimit};

/// Ends this process as if it had no handler for this signal. Returns only if that fails.
pub(crate) fn end_by(signal: Signal) {
    // What is worth a core dump has left its own.
    let no_core = Rlimit { current: Some(0), maximum: Some(0) };
    let _ = setrlimit(Resource::Core, no_core);
    // SAFETY: takes a handler away and installs none.
    unsafe { libc::signal(signal.as_raw(), libc::SIG_DFL) };
    let _ = kill_process(getpid(), signal);
}
