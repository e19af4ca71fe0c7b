//! Looks at every object again.

use std::fs;
use std::path::{Path, PathBuf};

use mesh_protocol::name::Digest;

use crate::Store;
use crate::blob::{Checked, Place};
use crate::error::{Context, StoreError};
use crate::layout;
use crate::recovery::for_each_object;
use crate::session;
use crate::sys;

/// How far a verification is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VerifyProgress {
    /// Files hashed so far.
    pub checked: u64,
    /// Files that were there at the start.
    pub total: u64,
    /// Bytes hashed so far.
    pub checked_bytes: u64,
    /// Bytes of all files.
    pub total_bytes: u64,
}

/// What a verification found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct VerifyReport {
    /// Files that were hashed, executable twins included.
    pub checked: u64,
    /// Their length together.
    pub checked_bytes: u64,
    /// The damaged objects; they are in `quarantine/` now.
    pub corrupt: Vec<Digest>,
    /// Executable twins that were damaged and removed; they are made again on demand.
    pub twins_removed: u64,
    /// Files that are no objects at all; they are in `quarantine/` too.
    pub strays: u64,
}

/// What is in the store.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StoreStats {
    /// Objects.
    pub blobs: u64,
    /// Their length together.
    pub blob_bytes: u64,
    /// Length of the executable twins, which are made from objects.
    pub derived_bytes: u64,
    /// Materialised trees.
    pub trees: u64,
    /// Thunks whose reduction is known.
    pub reductions: u64,
    /// Pinned objects.
    pub pins: u64,
    /// Length of the log.
    pub log_bytes: u64,
    /// Damaged files kept for inspection.
    pub quarantined: u64,
    /// Processes that have the store open, this one included.
    pub sessions: u64,
    /// Which index this process uses: `sled` or `memory`.
    pub index: &'static str,
}

/// One file to look at.
struct Candidate {
    place: Place,
    path: PathBuf,
    /// None if its name is that of no object.
    digest: Option<Digest>,
    length: u64,
}

impl Store {
    /// Hashes every object and moves damaged ones to quarantine, so that they count as missing
    /// and whatever needs them makes them again.
    pub fn verify(
        &self,
        progress: &mut dyn FnMut(VerifyProgress),
    ) -> Result<VerifyReport, StoreError> {
        let candidates = self.candidates()?;
        let mut state = VerifyProgress {
            total: candidates.len() as u64,
            total_bytes: candidates.iter().map(|candidate| candidate.length).sum(),
            ..Default::default()
        };
        let mut report = VerifyReport::default();
        progress(state);
        for candidate in &candidates {
            self.verify_one(candidate, &mut report)?;
            state.checked += 1;
            state.checked_bytes += candidate.length;
            progress(state);
        }
        report.checked = state.checked;
        report.checked_bytes = state.checked_bytes;
        Ok(report)
    }

    fn verify_one(&self, file: &Candidate, report: &mut VerifyReport) -> Result<(), StoreError> {
        let shared = self.shared();
        let Some(digest) = file.digest else {
            sys::move_aside(&file.path, &shared.layout.path("quarantine"), "stray-")?;
            report.strays += 1;
            return Ok(());
        };
        match (shared.blobs.check(file.place, digest)?, file.place) {
            (Checked::Good | Checked::Gone, _) => {}
            (Checked::Bad, Place::Executable) => report.twins_removed += 1,
            (Checked::Bad, _) => report.corrupt.push(digest),
        }
        Ok(())
    }

    fn candidates(&self) -> Result<Vec<Candidate>, StoreError> {
        let mut candidates = Vec::new();
        for (top, place) in [("blobs", Place::Blob), ("exec", Place::Executable)] {
            let top = self.shared().layout.path(top);
            for_each_object(&top, None, &mut |prefix, path, metadata| {
                let rest = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let digest = layout::digest_of_entry(prefix, rest);
                let (path, length) = (path.to_owned(), metadata.len());
                candidates.push(Candidate { place, path, digest, length });
                Ok(())
            })?;
        }
        Ok(candidates)
    }

    /// Counts what is in the store. Looks at every object once.
    pub fn stats(&self) -> Result<StoreStats, StoreError> {
        let layout = &self.shared().layout;
        let mut stats = StoreStats::default();
        for_each_object(&layout.path("blobs"), None, &mut |_, _, metadata| {
            stats.blobs += 1;
            stats.blob_bytes += metadata.len();
            Ok(())
        })?;
        for_each_object(&layout.path("exec"), None, &mut |_, _, metadata| {
            stats.derived_bytes += metadata.len();
            Ok(())
        })?;
        stats.trees = count(&layout.path("trees"))?;
        stats.quarantined = count(&layout.path("quarantine"))?;
        stats.sessions = session::live(layout)?.count;
        stats.pins = self.pins()?.len() as u64;
        self.shared().memo.for_each_thunk(&mut |_| stats.reductions += 1)?;
        (stats.log_bytes, stats.index) = self.shared().memo.describe()?;
        Ok(stats)
    }
}

fn count(directory: &Path) -> Result<u64, StoreError> {
    Ok(fs::read_dir(directory).at("list", directory)?.count() as u64)
}
