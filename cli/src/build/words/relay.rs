//! A process that goes on copying what programs of a build write which outlive it.

use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

use super::Stream;

/// What the process is called, in `argv[0]`.
const NAME: &str = "mesh-relay";

/// Starts one. If that is not possible, those programs learn that nobody reads.
pub(super) fn start(source: &impl AsFd, to: Stream) {
    let start = || {
        let input = source.as_fd().try_clone_to_owned()?;
        rustix::fs::fcntl_setfl(&input, rustix::fs::OFlags::empty())?;
        let output = match to {
            Stream::Out => std::io::stdout().as_fd().try_clone_to_owned()?,
            Stream::Err => std::io::stderr().as_fd().try_clone_to_owned()?,
        };
        Command::new("/proc/self/exe")
            .arg0(NAME)
            .current_dir("/")
            .stdin(Stdio::from(input))
            .stdout(Stdio::from(output))
            .stderr(Stdio::null())
            .spawn()
    };
    let _ = start();
}

/// Becomes the relay if this process was started as one.
pub(crate) fn run_if_asked() -> Option<ExitCode> {
    if std::env::args_os().next().is_none_or(|name| name != NAME) {
        return None;
    }
    // It ends when the last writer has, or nobody reads any more.
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::stdout());
    Some(ExitCode::SUCCESS)
}
