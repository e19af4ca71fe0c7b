//! Which processes the kernel ends first when a machine has no memory left: `oom_score_adj`, proc(5).
//!
//! A process writes it to its own directory in /proc. A job has no /proc that can be written to, and must have
//! none: so the first process of a sandbox, which keeps its own file open from before, takes the score of a job
//! for the moment in which it makes the program. Everybody may raise it, and lower it again to what it was.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// The most: whatever else runs on the machine is spared as long as a job can be ended, and a sandbox's first
/// process, which has to tell how its job ended, too.
const OF_A_JOB: &str = "1000";

/// The score of this process; none where it cannot be changed.
pub(super) struct Score(Option<(File, String)>);

impl Score {
    /// Opens it.
    pub(super) fn open() -> Self {
        let path = "/proc/self/oom_score_adj";
        let file = File::options().read(true).write(true).open(path);
        Self(file.ok().and_then(|file| {
            let mut own = [0; 16];
            let length = file.read_at(&mut own, 0).ok()?;
            Some((file, String::from_utf8_lossy(&own[..length]).into_owned()))
        }))
    }

    /// Can it be raised, and lowered again?
    pub(super) fn works(&self) -> bool {
        let set = |text: &str| self.set(text).is_some_and(|set| set.is_ok());
        self.0.as_ref().is_some_and(|(_, own)| set(OF_A_JOB) && set(own))
    }

    /// Makes a process that has the score of a job.
    pub(super) fn of_a_job<T>(&self, make: impl FnOnce() -> T) -> T {
        // Where it fails the program runs with the score of its owner's: `mesh doctor` tells.
        let _ = self.set(OF_A_JOB);
        let made = make();
        if let Some((_, own)) = &self.0 {
            let _ = self.set(own);
        }
        made
    }

    fn set(&self, text: &str) -> Option<std::io::Result<()>> {
        self.0.as_ref().map(|(file, _)| file.write_all_at(text.as_bytes(), 0))
    }
}
