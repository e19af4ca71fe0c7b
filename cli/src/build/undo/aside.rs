//! Where the files that a build replaces are kept until it has succeeded.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD};

/// Suffix of the directory that is beside the journal.
const SUFFIX: &str = ".undo";

/// Prefix of a directory that has to be beside the build's files, on their file system.
const BESIDE_PREFIX: &str = ".mesh-undo-";

/// Directories of ours, one for each file system that a build changes.
#[derive(Debug)]
pub(super) struct Aside {
    /// The one that is tried first.
    first: PathBuf,
    /// What tells this build's directories from those of others.
    suffix: String,
    /// By device: the directory that worked.
    places: HashMap<u64, PathBuf>,
    made: Vec<PathBuf>,
    count: u64,
}

impl Aside {
    /// None yet; the first will be beside the journal.
    pub(super) fn new(journal: &Path) -> Self {
        let name = journal.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let first = journal.with_file_name(format!("{name}{SUFFIX}"));
        Self { first, suffix: name, places: HashMap::new(), made: Vec::new(), count: 0 }
    }

    /// Gives a file another name in one of the directories. `made` is told of a directory before it
    /// is made.
    pub(super) fn link(
        &mut self,
        path: &Path,
        found: &Metadata,
        made: impl Fn(&Path) -> io::Result<()>,
    ) -> io::Result<PathBuf> {
        self.place(path, found, made, |aside| {
            Ok(rustix::fs::linkat(CWD, path, CWD, aside, AtFlags::empty())?)
        })
    }

    /// Copies a file, sharing blocks where the file system can: then size does not matter. `None`
    /// if it has more than `most` bytes. Gives the bytes copied, too.
    pub(super) fn copy(
        &mut self,
        path: &Path,
        found: &Metadata,
        most: u64,
        made: impl Fn(&Path) -> io::Result<()>,
    ) -> io::Result<Option<(PathBuf, u64)>> {
        let mut copied = None;
        let copy = self.place(path, found, made, |aside| {
            let source = File::open(path)?;
            let target = File::options().write(true).create_new(true).open(aside)?;
            if found.len() > 0 && rustix::fs::ioctl_ficlone(&target, &source).is_ok() {
                copied = Some(0);
            } else if found.len() <= most {
                copied = Some(io::copy(&mut &source, &mut &target)?);
            }
            Ok(())
        })?;
        Ok(copied.map(|bytes| (copy, bytes)))
    }

    /// Puts something in the first directory where that is possible.
    fn place(
        &mut self,
        path: &Path,
        found: &Metadata,
        made: impl Fn(&Path) -> io::Result<()>,
        mut put: impl FnMut(&Path) -> io::Result<()>,
    ) -> io::Result<PathBuf> {
        self.count += 1;
        let name = self.count.to_string();
        let mut problem = None;
        for directory in self.candidates(path, found) {
            if !self.made.contains(&directory) {
                made(&directory)?;
                if let Err(error) = fs::DirBuilder::new().mode(0o700).create(&directory) {
                    problem = Some(error);
                    continue;
                }
                self.made.push(directory.clone());
            }
            let aside = directory.join(&name);
            match put(&aside) {
                Ok(()) => {
                    self.places.insert(found.dev(), directory);
                    return Ok(aside);
                }
                Err(error) => problem = Some(error),
            }
        }
        Err(problem.unwrap_or_else(|| io::ErrorKind::CrossesDevices.into()))
    }

    /// Removes all of them, with what is in them.
    pub(super) fn remove(&mut self) {
        for directory in self.made.drain(..) {
            remove(&directory);
        }
    }

    /// Directories to be tried for a file: the one that worked for its device, the one beside the
    /// journal, and one as far up as this user may make one.
    fn candidates(&self, path: &Path, found: &Metadata) -> Vec<PathBuf> {
        let known = self.places.get(&found.dev()).unwrap_or(&self.first);
        vec![known.clone(), self.above(path)]
    }

    fn above(&self, path: &Path) -> PathBuf {
        let parent = path.parent().unwrap_or(Path::new("/"));
        let device = |path: &Path| fs::metadata(path).ok().map(|found| found.dev());
        let here = device(parent);
        let is_fit = |above: &&Path| {
            above.parent().is_some()
                && device(above) == here
                && rustix::fs::access(*above, Access::WRITE_OK).is_ok()
        };
        let top = parent.ancestors().take_while(is_fit).last().unwrap_or(parent);
        top.join(format!("{BESIDE_PREFIX}{}", self.suffix))
    }
}

/// The journal whose directory of kept files this is.
pub(super) fn journal_of(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?.strip_suffix(SUFFIX)?;
    Some(path.with_file_name(name))
}

/// Removes a directory of kept files; one that is gone is no matter.
pub(super) fn remove(directory: &Path) {
    let _ = fs::remove_dir_all(directory);
}
