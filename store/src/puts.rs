//! What people put into the store themselves, so that a node can tell others of it, also when it was
//! away while that happened.
//!
//! One name a line, the newest last. Unlike a pin it keeps nothing. Losing the file costs that others
//! are not told, so it is neither in the log nor brought to the disk; lines that are no names do not count.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use mesh_protocol::limits;
use mesh_protocol::name::Digest;

use crate::Store;
use crate::error::{Context, StoreError};
use crate::files;
use crate::lock::FileLock;

const FILE: &str = "puts";

/// A line: a hash in hexadecimal, a length, and what stands around them.
const LINE_BYTES: u64 = 96;

/// When the file is longer, the oldest go.
const BYTES_MAX: u64 = 2 * limits::PUTS_KEPT as u64 * LINE_BYTES;

impl Store {
    /// Writes down that a person put these here.
    pub fn note_puts(&self, names: &[Digest]) -> Result<(), StoreError> {
        let path = self.shared().layout.path(FILE);
        let file = open(&path)?;
        let _lock = FileLock::exclusive(&file, &path)?;
        let mut lines: String = names.iter().map(|name| format!("{name}\n")).collect();
        if file.metadata().at("look at", &path)?.len() > BYTES_MAX {
            let kept = newest(&read(&file, &path)?);
            lines = kept.iter().rev().map(|name| format!("{name}\n")).collect::<String>() + &lines;
            file.set_len(0).at("cut", &path)?;
        }
        (&file).write_all(lines.as_bytes()).at("write", &path)
    }

    /// What people put here and is here still, the newest first; at most [`limits::PUTS_KEPT`].
    pub fn puts(&self) -> Result<Vec<Digest>, StoreError> {
        let path = self.shared().layout.path(FILE);
        let file = open(&path)?;
        let text = {
            let _lock = FileLock::exclusive(&file, &path)?;
            read(&file, &path)?
        };
        let is_here = |name: &Digest| self.shared().layout.blob(*name).exists();
        Ok(newest(&text).into_iter().filter(is_here).collect())
    }
}

fn open(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600);
    files::open(path, &mut options).at("open", path)
}

/// As much of its end as can count.
fn read(mut file: &File, path: &Path) -> Result<String, StoreError> {
    let length = file.metadata().at("look at", path)?.len();
    let from = length.saturating_sub(BYTES_MAX);
    file.seek(std::io::SeekFrom::Start(from)).at("read", path)?;
    let mut bytes = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut bytes).at("read", path)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Each name once, where it stands last.
fn newest(text: &str) -> Vec<Digest> {
    let mut seen = HashSet::new();
    let names = text.lines().rev().filter_map(|line| line.parse::<Digest>().ok());
    names.filter(|name| seen.insert(*name)).take(limits::PUTS_KEPT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StoreOptions;

    #[test]
    fn what_was_put_is_known_to_the_next_process_as_long_as_it_is_here() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(StoreOptions::new(home.path())).unwrap();
        assert_eq!(store.puts().unwrap(), []);
        let [one, two] = [b"one", b"two"].map(|bytes| store.put_bytes(bytes).unwrap());
        store.note_puts(&[one, two]).unwrap();
        store.note_puts(&[one, Digest::of(b"never here")]).unwrap();
        let next = Store::open(StoreOptions::new(home.path())).unwrap();
        assert_eq!(next.puts().unwrap(), [one, two]);
        std::fs::remove_file(store.root().join(Store::relative_blob_path(one))).unwrap();
        assert_eq!(next.puts().unwrap(), [two]);
    }

    #[test]
    fn the_list_does_not_grow_without_end_and_nonsense_in_it_does_no_harm() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(StoreOptions::new(home.path())).unwrap();
        let kept = store.put_bytes(b"kept").unwrap();
        let path = store.root().join(FILE);
        let line = format!("{}\n", "x".repeat(LINE_BYTES as usize - 1));
        std::fs::write(&path, line.repeat(3 * limits::PUTS_KEPT)).unwrap();
        store.note_puts(&[kept]).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{kept}\n"));
        let other = |number: usize| Digest::of(&number.to_le_bytes());
        for round in 0..5 {
            let from = round * limits::PUTS_KEPT;
            let names: Vec<Digest> = (from..from + limits::PUTS_KEPT).map(other).collect();
            store.note_puts(&names).unwrap();
            let length = std::fs::metadata(&path).unwrap().len();
            assert!(length <= BYTES_MAX + limits::PUTS_KEPT as u64 * LINE_BYTES, "{length}");
        }
        let newest = newest(&read(&open(&path).unwrap(), &path).unwrap());
        assert_eq!(newest.len(), limits::PUTS_KEPT);
        assert_eq!(newest[0], other(5 * limits::PUTS_KEPT - 1));
    }
}
