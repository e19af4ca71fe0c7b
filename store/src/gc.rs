//! Garbage collection: mark what must stay, sweep what has been used least recently.

use std::collections::BTreeSet;
use std::fs;
use std::time::SystemTime;

use mesh_protocol::name::{Digest, ValueName};
use mesh_protocol::thunk::Thunk;
use mesh_protocol::tree::TreeEntry;

use crate::blob::gone;
use crate::error::StoreError;
use crate::layout::fan_out;
use crate::session;
use crate::store::Store;

/// What a store may hold unless somebody says otherwise: 20 GiB.
pub const QUOTA_BYTES_DEFAULT: u64 = 20 * 1024 * 1024 * 1024;

/// How to collect.
#[derive(Clone, Debug)]
pub struct GcOptions {
    /// Blobs are removed until they take no more than this.
    pub quota_bytes: u64,
    /// Only say what would be removed.
    pub dry_run: bool,
}

/// What a collection did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Blobs removed.
    pub removed: u64,
    /// Their bytes.
    pub removed_bytes: u64,
    /// Blobs that stay.
    pub kept: u64,
    /// Their bytes.
    pub kept_bytes: u64,
    /// Bytes that stay, whatever the quota: pinned or in use.
    pub held_bytes: u64,
}

impl Store {
    /// Removes the blobs used least recently until the quota is met; never what is pinned or what
    /// another process may be using.
    pub fn gc(&self, options: &GcOptions) -> Result<GcReport, StoreError> {
        let pinned = self.reachable_from_pins()?;
        let in_use_since = self.in_use_since()?;
        let mut blobs = self.blobs()?;
        let used = |found: &fs::Metadata| {
            let times = [found.accessed(), found.modified()];
            times.into_iter().flatten().max().unwrap_or(SystemTime::UNIX_EPOCH)
        };
        blobs.sort_by_key(|(name, found)| (used(found), *name));
        let mut report = GcReport::default();
        let mut total: u64 = blobs.iter().map(|(_, found)| found.len()).sum();
        for (name, found) in blobs {
            let in_use = in_use_since.is_some_and(|since| used(&found) >= since);
            let held = in_use || pinned.contains(&name);
            if held || total <= options.quota_bytes {
                report.kept += 1;
                report.kept_bytes += found.len();
                report.held_bytes += if held { found.len() } else { 0 };
                continue;
            }
            if !options.dry_run {
                self.remove_blob(name)?;
            }
            total -= found.len();
            report.removed += 1;
            report.removed_bytes += found.len();
        }
        if !options.dry_run && report.removed > 0 && in_use_since.is_none() {
            // Laid-out trees hold their files' bytes through hard links.
            self.layout().remove_trees()?;
        }
        Ok(report)
    }

    fn in_use_since(&self) -> Result<Option<SystemTime>, StoreError> {
        session::oldest(&self.root().join("sessions"), self.session().path())
    }

    fn remove_blob(&self, name: Digest) -> Result<(), StoreError> {
        for kind in ["exec", "blobs"] {
            let path = self.root().join(fan_out(kind, name));
            gone(fs::remove_file(&path), &path)?;
        }
        Ok(())
    }

    /// What is pinned, and all that those objects name: a tree's files, a thunk's inputs.
    fn reachable_from_pins(&self) -> Result<BTreeSet<Digest>, StoreError> {
        let mut reached = BTreeSet::new();
        let mut next: Vec<Digest> = self.pins()?.into_keys().collect();
        while let Some(name) = next.pop() {
            if reached.insert(name) {
                next.extend(self.named_by(name));
            }
        }
        Ok(reached)
    }

    fn named_by(&self, name: Digest) -> Vec<Digest> {
        if let Ok(tree) = self.read_tree(ValueName(name)) {
            let entries = tree.entries().filter_map(|(_, entry)| match entry {
                TreeEntry::File { name, .. } | TreeEntry::Directory(name) => Some(name.digest()),
                TreeEntry::Symlink(_) => None,
            });
            return entries.collect();
        }
        let bytes = self.read(name, mesh_protocol::limits::THUNK_BYTES).unwrap_or_default();
        let Ok(thunk) = Thunk::decode(&bytes) else { return Vec::new() };
        let thunks = thunk.dependencies().into_iter().map(|output| output.thunk.digest());
        thunk.values().into_iter().map(|value| value.digest()).chain(thunks).collect()
    }
}
