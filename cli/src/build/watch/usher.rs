//! A process that lets all calls of programs go on which outlive their build.
//!
//! The kernel refuses their watched calls as soon as nobody can answer them. So whoever ends a build
//! that has left programs behind starts this process, which ends with the last of them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

use super::filter;

/// What the process is called, in `argv[0]`.
const NAME: &str = "mesh-usher";

/// Starts one for the calls that arrive at this listener.
pub(crate) fn start(listener: &OwnedFd) -> io::Result<()> {
    Command::new("/proc/self/exe")
        .arg0(NAME)
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::from(listener.try_clone()?))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map(drop)
}

/// Becomes the usher if this process was started as one.
pub(crate) fn run_if_asked() -> Option<ExitCode> {
    if std::env::args_os().next().is_none_or(|name| name != NAME) {
        return None;
    }
    let Ok(listener) = io::stdin().as_fd().try_clone_to_owned() else {
        return Some(ExitCode::FAILURE);
    };
    Some(match serve(&listener) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    })
}

fn serve(listener: &OwnedFd) -> io::Result<()> {
    while !filter::is_abandoned(listener)? {
        match filter::receive(listener) {
            // A caller may have died before it is answered.
            Ok(call) => drop(filter::proceed(listener, call.id)),
            Err(error)
                if [Some(libc::EINTR), Some(libc::ENOENT)].contains(&error.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
