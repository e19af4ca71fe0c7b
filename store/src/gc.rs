//! Garbage collection: down to the quota, oldest use first.
//!
//! Never taken:
//! - what is pinned, and what it leads to (see [`crate::reach`]);
//! - what was used since the oldest live session began, because a running build may count on it. Sessions
//!   that last are renewed (see [`crate::session`]).
//!
//! Access times are those of the files themselves: unlike an index that belongs to one process,
//! they are shared by all, and they survive everything that the objects survive.
//!
//! 1. Mark: list what there is and what pins reach.
//! 2. Sort by last use; an object that a materialised tree links to is as young as that tree.
//! 3. Sweep: a victim is first moved away, then looked at again; if it was used meanwhile it goes
//!    back, so that a process which found it there will find it there.
//! 4. Compact the log: reductions whose values are gone are void.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use mesh_protocol::name::Digest;

use crate::Store;
use crate::error::{Context, StoreError};
use crate::layout;
use crate::lock::FileLock;
use crate::recovery::for_each_object;
use crate::session;
use crate::sys;

/// 20 GiB: a few large projects with all their toolchains.
pub const QUOTA_BYTES_DEFAULT: u64 = 20 * 1024 * 1024 * 1024;

/// What to collect.
#[derive(Clone, Debug)]
pub struct GcOptions {
    /// Stop when the store is no larger than this.
    pub quota_bytes: u64,
    /// Only say what would go.
    pub dry_run: bool,
}

/// What a collection did, or would do. Executable twins and materialised trees count as objects.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GcReport {
    /// Objects that went.
    pub removed: u64,
    /// Their length together.
    pub removed_bytes: u64,
    /// Objects that stay.
    pub kept: u64,
    /// Their length together. More than the quota if too much is held.
    pub kept_bytes: u64,
    /// Of those, what is pinned or may be in use by a live session.
    pub held_bytes: u64,
    /// Remains of killed processes that were swept away.
    pub leftovers: u64,
}

/// Something that can go.
#[derive(Debug)]
struct Item {
    path: PathBuf,
    /// None for what is no object, but takes the place of one.
    digest: Option<Digest>,
    bytes: u64,
    inode: u64,
    used: SystemTime,
}

/// What a directory takes.
const DIRECTORY_BYTES: u64 = 4096;

impl Store {
    /// Brings the store down to the quota of `options`, as far as pins and running builds allow. One
    /// process at a time: another that collects is waited for, a minute at most.
    pub fn gc(&self, options: &GcOptions) -> Result<GcReport, StoreError> {
        let (file, path) = self.collection_lock()?;
        let _lock = FileLock::exclusive(&file, &path)?;
        self.collect(options)
    }

    /// What whoever collects holds a lock on.
    pub(crate) fn collection_lock(&self) -> Result<(File, PathBuf), StoreError> {
        let path = self.shared().layout.path("gc.lock");
        Ok((sys::open_lock_file(&path)?, path))
    }

    /// See [`Store::gc`], for one who has the lock.
    pub(crate) fn collect(&self, options: &GcOptions) -> Result<GcReport, StoreError> {
        let shared = self.shared();
        let added_before = shared.blobs.growth.added();
        let live = session::live(&shared.layout)?;
        let pins = self.pins()?.into_keys().collect();
        let kept = self.reachable(pins)?;
        let mut items = self.items()?;
        items.sort_by(|a, b| a.used.cmp(&b.used).then_with(|| a.path.cmp(&b.path)));
        let mut total: u64 = items.iter().map(|item| item.bytes).sum();
        let mut report = GcReport::default();
        for item in items {
            let held = item.used >= live.oldest
                || item.digest.is_some_and(|digest| kept.contains(&digest));
            let chosen = !held && total > options.quota_bytes;
            if chosen && (options.dry_run || self.sweep(&item, live.oldest)?) {
                total -= item.bytes;
                report.removed += 1;
                report.removed_bytes += item.bytes;
                continue;
            }
            report.kept += 1;
            report.kept_bytes += item.bytes;
            report.held_bytes += if held { item.bytes } else { 0 };
        }
        if !options.dry_run {
            report.leftovers = self.sweep_leftovers(live.oldest)?;
            self.note_usage(report.kept_bytes, added_before)?;
            if report.removed > 0 {
                self.compact_log()?;
            }
        }
        Ok(report)
    }

    /// Forgets reductions that no longer have their values.
    fn compact_log(&self) -> Result<(), StoreError> {
        let memo = &self.shared().memo;
        let mut void = HashSet::new();
        let mut thunks = Vec::new();
        memo.for_each_thunk(&mut |thunk| thunks.push(thunk))?;
        for thunk in thunks {
            let here = |digest: Digest| self.shared().layout.blob(digest).exists();
            let complete = memo
                .reduction(thunk)?
                .is_some_and(|found| found.values().all(|value| here(value.digest())));
            if !complete {
                void.insert(thunk);
            }
        }
        memo.compact(!void.is_empty(), &|thunk| !void.contains(&thunk))?;
        Ok(())
    }

    /// Everything that takes space.
    fn items(&self) -> Result<Vec<Item>, StoreError> {
        let layout = &self.shared().layout;
        let (mut items, linked) = self.trees()?;
        for top in ["blobs", "exec"] {
            for_each_object(&layout.path(top), None, &mut |prefix, path, metadata| {
                let rest = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let used = sys::access_time(metadata);
                items.push(Item {
                    path: path.to_owned(),
                    digest: layout::digest_of_entry(prefix, rest),
                    bytes: metadata.len(),
                    inode: metadata.ino(),
                    used,
                });
                Ok(())
            })?;
        }
        for item in &mut items {
            if let Some(used) = linked.get(&item.inode) {
                item.used = item.used.max(*used);
            }
        }
        Ok(items)
    }

    /// The materialised trees, and the inodes that they link to with the time of last use.
    fn trees(&self) -> Result<(Vec<Item>, HashMap<u64, SystemTime>), StoreError> {
        let trees = self.shared().layout.path("trees");
        let (mut items, mut linked) = (Vec::new(), HashMap::new());
        for entry in fs::read_dir(&trees).at("list", &trees)? {
            let path = entry.at("list", &trees)?.path();
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            // No digest: a tree that is pinned can be made again from what is kept.
            let used = sys::access_time(&metadata);
            let mut directories = 0;
            walk(&path, &mut |metadata| {
                if metadata.is_dir() {
                    directories += 1;
                } else if metadata.nlink() > 1 {
                    let entry = linked.entry(metadata.ino()).or_insert(used);
                    *entry = used.max(*entry);
                }
            })?;
            let bytes = (directories + 1) * DIRECTORY_BYTES;
            items.push(Item { path, digest: None, bytes, inode: metadata.ino(), used });
        }
        Ok((items, linked))
    }

    /// Removes a victim, unless it has been used since it was chosen. True if it is gone.
    fn sweep(&self, item: &Item, oldest: SystemTime) -> Result<bool, StoreError> {
        let tmp = self.shared().layout.tmp();
        let Some(aside) = sys::move_aside(&item.path, &tmp, "gc-")? else { return Ok(false) };
        let metadata = fs::symlink_metadata(&aside).at("look at", &aside)?;
        if sys::access_time(&metadata) < oldest {
            sys::remove(&aside)?;
            return Ok(true);
        }
        fs::rename(&aside, &item.path).at("rename to", &item.path)?;
        Ok(false)
    }

    /// Removes what killed processes left half-made.
    pub(crate) fn sweep_leftovers(&self, oldest: SystemTime) -> Result<u64, StoreError> {
        let tmp = self.shared().layout.tmp();
        let mut removed = 0;
        for entry in fs::read_dir(&tmp).at("list", &tmp)? {
            let path = entry.at("list", &tmp)?.path();
            let old = fs::symlink_metadata(&path)
                .is_ok_and(|metadata| sys::change_time(&metadata) < oldest);
            if old {
                sys::remove(&path)?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

fn walk(dir: &Path, take: &mut dyn FnMut(&fs::Metadata)) -> Result<(), StoreError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        result => result.at("list", dir)?,
    };
    for entry in entries {
        let entry = entry.at("list", dir)?;
        let Ok(metadata) = entry.metadata() else { continue };
        take(&metadata);
        if metadata.is_dir() {
            walk(&entry.path(), take)?;
        }
    }
    Ok(())
}
