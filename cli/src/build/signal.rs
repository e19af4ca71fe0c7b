//! Signals to this process: ending by one, so that whoever started it sees the same as of a plain build, and
//! outliving one.
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

/// From now on, a write beyond the size that files may have (`ulimit -f`) is an error, as on a full disk, and
/// does not end this process. Programs that it starts have the signal as it was.
pub(crate) fn outlive_file_limit() {
    extern "C" fn do_nothing(_: libc::c_int) {}
    let handler: extern "C" fn(libc::c_int) = do_nothing;
    // SAFETY: the handler does nothing, and handlers do not outlive an execution (signal(7)); where the signal was
    // ignored, it is so again.
    unsafe {
        if libc::signal(libc::SIGXFSZ, handler as libc::sighandler_t) == libc::SIG_IGN {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        }
    }
}
