//! The guardian: a process that outlives a build that is killed, and cleans up after it.
//!
//! `kill -9` of a build's process group leaves nobody who could take back what it had not finished
//! and remove the directory of its socket, so the build starts this process first, in a group of its
//! own, before either is there. It waits for the end of the build, seen by the end of its standard
//! input, removes that directory and takes back what the journal says is unfinished.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdin, Command, ExitCode, Stdio};

use super::undo::journal;

/// What the guardian is called, in `argv[0]`.
const NAME: &str = "mesh-guardian";

/// A guardian at work. It looks at the journal when this is dropped, or when this process dies.
/// Nobody waits for it: if the build ends in trouble, it needs the journal's lock, which is ours.
#[derive(Debug)]
pub(crate) struct Guardian {
    _end: Option<ChildStdin>,
}

impl Guardian {
    /// Starts one for the build with this journal, which will make this directory.
    pub(crate) fn start(journal: &Path, place: &Path) -> io::Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .arg0(NAME)
            .args([journal, place])
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { _end: child.stdin.take() })
    }
}

/// Becomes the guardian if this process was started as one.
pub(crate) fn run_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args_os();
    let is_asked = arguments.next().is_some_and(|name| name == NAME);
    let journal = arguments.next().filter(|_| is_asked)?;
    // Nothing is ever written: this returns when the build's end of the pipe is closed.
    let _ = io::copy(&mut io::stdin(), &mut io::sink());
    if let Some(place) = arguments.next() {
        // A build that ends by itself has removed it.
        let _ = std::fs::remove_dir_all(place);
    }
    let cleaned = journal::clean(Path::new(&journal), rustix::fs::FlockOperation::LockExclusive);
    Some(if cleaned.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
