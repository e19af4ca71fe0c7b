//! After a power cut: checks what may have been on its way to the disk.
//!
//! The durable mark says up to when everything reached the disk. If it was written in an earlier
//! run of the machine, all objects that changed since are hashed, and bad ones go to quarantine;
//! copies that are made on demand are simply removed. A reduction that names a bad object is then
//! not recalled, because the object is missing. To find them quickly after an orderly restart,
//! only directories that themselves changed since the mark are looked through.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use crate::blob::{Blobs, Checked, Place};
use crate::durable::DurableMark;
use crate::error::{Context, StoreError};
use crate::layout::{self, Layout};
use crate::notice::{Notice, Notices};
use crate::sys;

/// Checks, if the machine was started anew since the store was last written durably.
pub(crate) fn recover(
    layout: &Layout,
    blobs: &Blobs,
    mark: &DurableMark,
    notices: &Notices,
    boot_id: &str,
) -> Result<(), StoreError> {
    if is_current(mark, boot_id)? {
        return Ok(());
    }
    let _lock = mark.lock()?;
    // Another process may have been quicker.
    if is_current(mark, boot_id)? {
        return Ok(());
    }
    let begun = SystemTime::now();
    if let Some(last) = mark.read()? {
        let (checked, quarantined) = check_objects(layout, blobs, last.until)?;
        remove_copies(layout, blobs, last.until)?;
        if checked > 0 {
            notices.push(Notice::Recovered { checked, quarantined });
        }
    }
    // What survived was read from the disk, so it is there.
    mark.write(begun, boot_id)
}

/// Was the mark written in this run, and not by a clock that was ahead of ours?
fn is_current(mark: &DurableMark, boot_id: &str) -> Result<bool, StoreError> {
    let last = mark.read()?;
    Ok(last.is_some_and(|last| {
        !boot_id.is_empty() && last.boot_id == boot_id && last.until <= SystemTime::now()
    }))
}

/// Did it change after `until`, or at a time that has not come yet (a clock that was wrong)?
fn is_young(metadata: &fs::Metadata, until: SystemTime) -> bool {
    let changed = sys::change_time(metadata);
    changed >= until || changed > SystemTime::now()
}

fn check_objects(
    layout: &Layout,
    blobs: &Blobs,
    until: SystemTime,
) -> Result<(u64, u64), StoreError> {
    let (mut checked, mut quarantined) = (0, 0);
    for_each_object(&layout.path("blobs"), Some(until), &mut |prefix, path, metadata| {
        if !is_young(metadata, until) {
            return Ok(());
        }
        checked += 1;
        let rest = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let good = match layout::digest_of_entry(prefix, rest) {
            Some(digest) => blobs.check(Place::Blob, digest)? == Checked::Good,
            None => false,
        };
        quarantined += u64::from(!good);
        Ok(())
    })?;
    Ok((checked, quarantined))
}

fn remove_copies(layout: &Layout, blobs: &Blobs, until: SystemTime) -> Result<(), StoreError> {
    let mut removed = false;
    for_each_object(&layout.path("exec"), Some(until), &mut |_, path, metadata| {
        if is_young(metadata, until) {
            removed = true;
            sys::remove(path)?;
        }
        Ok(())
    })?;
    let trees = layout.path("trees");
    for entry in fs::read_dir(&trees).at("list", &trees)? {
        let metadata = entry.and_then(|entry| entry.metadata()).at("list", &trees)?;
        removed |= is_young(&metadata, until);
    }
    // A tree may hold links of a twin that is gone, so all go.
    if removed { blobs.drop_trees() } else { Ok(()) }
}

/// Calls `take` with the two digits of the directory, the path and the metadata of everything in
/// a fan-out; with `since`, only where a directory changed since then.
pub(crate) fn for_each_object(
    top: &Path,
    since: Option<SystemTime>,
    take: &mut dyn FnMut(&str, &Path, &fs::Metadata) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    for directory in fs::read_dir(top).at("list", top)? {
        let directory = directory.at("list", top)?.path();
        let metadata = fs::symlink_metadata(&directory).at("look at", &directory)?;
        if !metadata.is_dir() || since.is_some_and(|since| !is_young(&metadata, since)) {
            continue;
        }
        let name = directory.file_name().and_then(|name| name.to_str());
        let prefix = name.unwrap_or_default().to_owned();
        for entry in fs::read_dir(&directory).at("list", &directory)? {
            let path = entry.at("list", &directory)?.path();
            match fs::symlink_metadata(&path) {
                Ok(metadata) => take(&prefix, &path, &metadata)?,
                // Collected meanwhile.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(StoreError::io("look at", &path, error)),
            }
        }
    }
    Ok(())
}
