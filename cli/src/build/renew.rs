//! Making `make` look again at what it took for done.
//!
//! In a lazy pass a recipe goes on after a call that will fail: it may ignore the failure, or take
//! another way because of it, and its target then looks finished. So before the build command
//! runs again, the files that the failed call names look modified, and every target that depends on
//! them is made again. In the end they get their times back.

use std::collections::BTreeMap;
use std::fs::{File, FileTimes};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::step::Step;

/// Files that look modified until this is dropped, with their own times.
#[derive(Debug, Default)]
pub(crate) struct Renewed(BTreeMap<PathBuf, SystemTime>);

impl Renewed {
    /// Renews the files that the calls of these steps name. One that cannot be is left as it is:
    /// its owner, or a file system that may only be read, has a reason.
    pub(crate) fn renew(&mut self, steps: &[Arc<Step>]) {
        for step in steps {
            let directory = Path::new(&step.call.working_directory);
            for word in step.call.arguments.iter().skip(1) {
                let path = directory.join(word);
                let is_output = step.outputs.iter().any(|output| output.path == path);
                if !word.starts_with('-') && !is_output && !self.0.contains_key(&path) {
                    // A word that is no file.
                    let _ = self.touch(path);
                }
            }
        }
    }

    fn touch(&mut self, path: PathBuf) -> io::Result<()> {
        let metadata = std::fs::metadata(&path)?;
        if metadata.is_file() {
            set_modified(&path, SystemTime::now())?;
            self.0.insert(path, metadata.modified()?);
        }
        Ok(())
    }
}

impl Drop for Renewed {
    fn drop(&mut self) {
        for (path, modified) in &self.0 {
            // The build may have removed it.
            let _ = set_modified(path, *modified);
        }
    }
}

fn set_modified(path: &Path, modified: SystemTime) -> io::Result<()> {
    // Opened for reading: its content stays.
    File::open(path)?.set_times(FileTimes::new().set_modified(modified))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::step::CallKey;
    use mesh_protocol::name::ThunkName;

    #[test]
    fn sources_look_new_for_a_while() {
        let place = tempfile::tempdir().unwrap();
        let source = place.path().join("a.c");
        std::fs::write(&source, "x").unwrap();
        let past = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        set_modified(&source, past).unwrap();
        let call = CallKey {
            arguments: ["cc", "-c", "a.c", "gone.c"].map(str::to_owned).into(),
            working_directory: place.path().to_str().unwrap().to_owned(),
        };
        let name = ThunkName::of(b"");
        let step = Step::new(name, call, String::new(), Vec::new(), false, None);
        let mut renewed = Renewed::default();
        renewed.renew(&[Arc::new(step)]);
        let modified = || std::fs::metadata(&source).unwrap().modified().unwrap();
        assert!(modified() > past);
        drop(renewed);
        assert_eq!(modified(), past);
    }
}
