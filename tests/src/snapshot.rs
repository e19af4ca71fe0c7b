//! What a build left in its directory, byte for byte, and how two builds differ.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Differences shown before the rest is only counted.
const SHOWN_MAX: usize = 20;

/// The coarsest clock of a file system on Linux (100 ticks a second).
const TICK: Duration = Duration::from_millis(10);

/// More than a build of a test takes.
const RECENT: Duration = Duration::from_secs(24 * 60 * 60);

const TOO_MANY: &str = "is too many";

/// All that lies below a directory, by relative path.
#[derive(Clone, Debug, Default)]
pub struct Snapshot(BTreeMap<PathBuf, Entry>);

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    File(Vec<u8>),
    Directory,
    Link(PathBuf),
    /// A pipe, socket or device.
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    kind: Kind,
    mode: u32,
    modified: SystemTime,
    links: u64,
}

/// How two builds differ; nothing if they do not.
#[derive(Debug, Default)]
pub struct Differences(Vec<String>);

impl Snapshot {
    /// Reads `root`, without what lies below the relative paths `ignored`.
    pub fn take(root: &Path, ignored: &[&str]) -> Self {
        let mut all = Self::default();
        all.visit(root, Path::new(""), ignored);
        all
    }

    fn visit(&mut self, root: &Path, directory: &Path, ignored: &[&str]) {
        for found in fs::read_dir(root.join(directory)).expect("a directory can be read") {
            let path = directory.join(found.expect("an entry can be read").file_name());
            if ignored.iter().any(|one| path.starts_with(one)) {
                continue;
            }
            let entry = Entry::read(&root.join(&path));
            let deeper = entry.kind == Kind::Directory;
            self.0.insert(path.clone(), entry);
            if deeper {
                self.visit(root, &path, ignored);
            }
        }
    }

    /// The bytes of a file.
    #[track_caller]
    pub fn file(&self, path: &str) -> &[u8] {
        match self.0.get(Path::new(path)).map(|entry| &entry.kind) {
            Some(Kind::File(bytes)) => bytes,
            other => panic!("{path} is no file: {other:?}"),
        }
    }

    /// Is there anything at that path?
    pub fn contains(&self, path: &str) -> bool {
        self.0.contains_key(Path::new(path))
    }

    /// The files whose bytes satisfy `wanted`.
    pub fn files_that(&self, wanted: impl Fn(&[u8]) -> bool) -> Vec<&Path> {
        let files = self.0.iter().filter(|(_, entry)| match &entry.kind {
            Kind::File(bytes) => wanted(bytes),
            _ => false,
        });
        files.map(|(path, _)| path.as_path()).collect()
    }

    /// Has a file at that path, in both, the same bytes?
    pub fn same_file(&self, other: &Self, path: &str) -> bool {
        let kind =
            |snapshot: &Self| snapshot.0.get(Path::new(path)).map(|entry| entry.kind.clone());
        kind(self).is_some() && kind(self) == kind(other)
    }

    /// How `other` differs in names, kinds, modes, bytes and hard links. Of the paths `stamped`
    /// the bytes may differ: times or random numbers end up in them.
    pub fn differences(&self, other: &Self, stamped: &[&str]) -> Differences {
        let mut all = Differences::default();
        for path in self.0.keys().chain(other.0.keys().filter(|path| !self.0.contains_key(*path))) {
            match (self.0.get(path), other.0.get(path)) {
                (Some(one), Some(two)) => {
                    let loose = stamped.iter().any(|loose| Path::new(loose) == path);
                    all.compare(path, one, two, loose);
                }
                (Some(_), None) => all.add(path, "is missing"),
                (None, Some(two)) => all.add(path, format_args!("{TOO_MANY}: {:?}", two.kind)),
                (None, None) => {}
            }
        }
        all
    }

    /// How what both have differs, whatever only one of them has.
    pub fn differences_in_common(&self, other: &Self, stamped: &[&str]) -> Differences {
        let mut common = self.clone();
        common.0.retain(|path, _| other.0.contains_key(path));
        let mut all = common.differences(other, stamped);
        all.0.retain(|line| !line.contains(TOO_MANY));
        all
    }

    /// What a command that had nothing to do has changed all the same: times count as well.
    pub fn touched(&self, other: &Self) -> Differences {
        let mut all = self.differences(other, &[]);
        for (path, one) in &self.0 {
            let Some(two) = other.0.get(path) else { continue };
            if one.kind != Kind::Directory && one.modified != two.modified {
                all.add(path, "was written again");
            }
        }
        all
    }

    /// How the files differ in which is newer than which.
    ///
    /// Two files within one tick of the clock here may come in any order there. A time from before
    /// the build, which `touch -d`, `cp -p` or `tar x` has set, must be the same.
    pub fn order_differences(&self, other: &Self) -> Differences {
        let mut all = Differences::default();
        let in_both = self.0.iter().filter_map(|(path, one)| {
            let two = other.0.get(path)?;
            let files = matches!((&one.kind, &two.kind), (Kind::File(_), Kind::File(_)));
            files.then_some((path, one.modified, two.modified))
        });
        let mut files: Vec<_> = in_both.collect();
        files.sort_by_key(|(_, modified, _)| *modified);
        let Some(&(_, newest, _)) = files.last() else { return all };
        let recent = newest - RECENT;
        for (at, &(path, modified, modified_there)) in files.iter().enumerate() {
            if modified < recent && modified != modified_there {
                all.add(path, format_args!("time {modified:?} became {modified_there:?}"));
            }
            let later = files[at..].iter().filter(|(_, later, _)| *later > modified + TICK);
            for (newer, ..) in later.filter(|(_, _, later_there)| *later_there < modified_there) {
                all.add(path, format_args!("was older than {} and is newer", newer.display()));
            }
        }
        all
    }
}

impl Entry {
    fn read(path: &Path) -> Self {
        let metadata = fs::symlink_metadata(path).expect("what is listed is there");
        let kind = if metadata.is_symlink() {
            Kind::Link(fs::read_link(path).expect("a link can be read"))
        } else if metadata.is_dir() {
            Kind::Directory
        } else if metadata.is_file() {
            Kind::File(fs::read(path).expect("a file can be read"))
        } else {
            Kind::Other
        };
        let mode = metadata.permissions().mode() & 0o7777;
        let modified = metadata.modified().expect("files have times here");
        let links = if kind == Kind::Directory { 0 } else { metadata.nlink() };
        Self { kind, mode, modified, links }
    }
}

impl Differences {
    fn add(&mut self, path: &Path, what: impl fmt::Display) {
        self.0.push(format!("{}: {what}", path.display()));
    }

    fn compare(&mut self, path: &Path, one: &Entry, two: &Entry, loose: bool) {
        if one.mode != two.mode {
            self.add(path, format_args!("mode {:o} became {:o}", one.mode, two.mode));
        }
        if one.links != two.links {
            self.add(path, format_args!("{} hard links became {}", one.links, two.links));
        }
        match (&one.kind, &two.kind) {
            (Kind::File(_), Kind::File(_)) if loose => {}
            (Kind::File(a), Kind::File(b)) if a != b => self.add(path, different_bytes(a, b)),
            (a, b) if a != b => self.add(path, format_args!("{a:?} became {b:?}")),
            _ => {}
        }
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Fails the test if there are any.
    #[track_caller]
    pub fn assert_none(&self, between: impl fmt::Display) {
        assert!(self.is_empty(), "{between}:\n{self}");
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.0.iter().take(SHOWN_MAX) {
            writeln!(f, "  {line}")?;
        }
        match self.0.len().saturating_sub(SHOWN_MAX) {
            0 => Ok(()),
            more => writeln!(f, "  and {more} more"),
        }
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(bytes) => write!(f, "a file of {} bytes", bytes.len()),
            Self::Directory => f.write_str("a directory"),
            Self::Link(target) => write!(f, "a link to {}", target.display()),
            Self::Other => f.write_str("something else"),
        }
    }
}

/// Text is shown around the first difference, anything else as bytes.
fn different_bytes(a: &[u8], b: &[u8]) -> String {
    let at = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let mut text = format!("{} bytes became {}, differ from byte {at} on", a.len(), b.len());
    for (name, bytes) in [("was", a), ("is", b)] {
        let from = at.saturating_sub(24);
        let shown = &bytes[from..bytes.len().min(at + 40)];
        let _ = write!(text, "\n    {name:>3}: {}", shown.escape_ascii());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files with these times in milliseconds after a day in 2026.
    fn files(times: &[(&str, u64)]) -> Snapshot {
        let day = SystemTime::UNIX_EPOCH + Duration::from_secs(1_780_000_000);
        let entry = |milliseconds| Entry {
            kind: Kind::File(Vec::new()),
            mode: 0o644,
            modified: day + Duration::from_millis(milliseconds),
            links: 1,
        };
        Snapshot(times.iter().map(|(path, time)| (path.into(), entry(*time))).collect())
    }

    #[test]
    fn the_order_of_times_counts_and_no_time_does() {
        let plain = files(&[("a", 0), ("b", 50), ("c", 55)]);
        let same = files(&[("a", 3000), ("b", 4001), ("c", 4000)]);
        assert!(plain.order_differences(&same).is_empty());
        let tied = files(&[("a", 0), ("b", 0), ("c", 0)]);
        assert!(plain.order_differences(&tied).is_empty());
        let turned = plain.order_differences(&files(&[("a", 60), ("b", 50), ("c", 70)]));
        assert_eq!(turned.to_string(), "  a: was older than b and is newer\n");
    }

    #[test]
    fn a_time_that_was_set_is_the_same() {
        let day = 24 * 60 * 60 * 1000;
        let plain = files(&[("old", 0), ("new", 2 * day)]);
        let same = files(&[("old", 0), ("new", 2 * day + 500)]);
        assert!(plain.order_differences(&same).is_empty());
        let other = files(&[("old", 1), ("new", 2 * day)]);
        assert_eq!(plain.order_differences(&other).0.len(), 1);
    }
}
