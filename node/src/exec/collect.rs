//! From what a job left to objects in the store.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use mesh_protocol::limits;
use mesh_protocol::name::ValueName;
use mesh_protocol::thunk::{Output, OutputObject, Thunk};
use mesh_store::{Store, StoreError};

use super::{EngineError, Failure};

/// Puts one output, opened for reading, into the store. None: it is neither a file nor a
/// directory.
pub fn collect(
    store: &Store,
    output: &Output,
    opened: OwnedFd,
) -> Result<Option<OutputObject>, EngineError> {
    let file = File::from(opened);
    let found = file.metadata()?;
    if found.is_dir() {
        let path = format!("/proc/self/fd/{}/.", file.as_raw_fd());
        return match store.put_tree(Path::new(&path)) {
            Ok(name) => Ok(Some(OutputObject::Tree(name))),
            // Sockets and the like: no tree holds them, so there is no such output.
            Err(StoreError::Unsupported { .. }) => Ok(None),
            Err(error) => Err(EngineError::Store(error.into())),
        };
    }
    if !found.is_file() {
        return Ok(None);
    }
    if output.dynamic
        && let Some(object) = collect_thunk(store, &file, &found)?
    {
        return Ok(Some(object));
    }
    let name = ValueName(store.put_file(&file).map_err(|e| EngineError::Store(e.into()))?);
    let executable = found.permissions().mode() & 0o111 != 0;
    Ok(Some(OutputObject::File { name, executable }))
}

/// Bytes that are a thunk, in either form, become one.
fn collect_thunk(
    store: &Store,
    file: &File,
    found: &Metadata,
) -> Result<Option<OutputObject>, EngineError> {
    if found.len() > limits::THUNK_BYTES {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    // Another descriptor of the same file: the offset of this one stays where it is.
    let again = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    again.take(limits::THUNK_BYTES).read_to_end(&mut bytes)?;
    let Some(thunk) = read_thunk(&bytes) else { return Ok(None) };
    let Ok((name, canonical)) = thunk.encode() else { return Ok(None) };
    store.put_bytes(&canonical).map_err(|error| EngineError::Store(Failure::from(error)))?;
    Ok(Some(OutputObject::Thunk(name)))
}

fn read_thunk(bytes: &[u8]) -> Option<Thunk> {
    if Thunk::is_encoded(bytes) {
        return Thunk::decode(bytes).ok();
    }
    let text = std::str::from_utf8(bytes).ok()?;
    text.trim_start().starts_with('{').then(|| Thunk::from_json(text).ok())?
}
