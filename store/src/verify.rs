//! Verification: read every blob and compare it with its name.

use mesh_protocol::name::Digest;

use crate::error::StoreError;
use crate::store::Store;

/// How far a verification is.
#[derive(Clone, Copy, Debug)]
pub struct VerifyProgress {
    /// Blobs checked.
    pub checked: u64,
    /// Blobs there are.
    pub total: u64,
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Blobs checked.
    pub checked: u64,
    /// Their bytes.
    pub checked_bytes: u64,
    /// Those that were not what their name says; they are in quarantine now, and whatever needs
    /// them is computed again.
    pub corrupt: Vec<Digest>,
}

impl Store {
    /// Checks every blob; `progress` is told after each.
    pub fn verify(
        &self,
        progress: &mut dyn FnMut(VerifyProgress),
    ) -> Result<VerifyReport, StoreError> {
        let blobs = self.blobs()?;
        let total = blobs.len() as u64;
        let mut report = VerifyReport::default();
        for (name, _) in blobs {
            match self.layout().check(name) {
                Ok(()) => {}
                Err(StoreError::Corrupt(name)) => report.corrupt.push(name),
                // Collected meanwhile by another process.
                Err(StoreError::Missing(_)) => continue,
                Err(error) => return Err(error),
            }
            report.checked += 1;
            report.checked_bytes += name.length;
            progress(VerifyProgress { checked: report.checked, total });
        }
        Ok(report)
    }
}
