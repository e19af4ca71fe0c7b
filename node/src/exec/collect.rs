//! From what a job left to objects in the store.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use mesh_protocol::limits;
use mesh_protocol::name::ValueName;
use mesh_protocol::thunk::{Output, OutputObject, Thunk};
use mesh_protocol::tree::{Tree, TreeEntry};
use mesh_store::{Store, StoreError};

use super::{EngineError, Failure};

/// Is asked again and again whether collecting may go on.
pub type GoOn<'a> = &'a dyn Fn() -> io::Result<()>;

/// Puts one output, opened for reading, into the store. None: it is nothing that the store keeps. An error of
/// `go_on` ends it.
pub fn collect(
    store: &Store,
    output: &Output,
    opened: OwnedFd,
    go_on: GoOn<'_>,
) -> Result<Option<OutputObject>, EngineError> {
    let file = File::from(opened);
    let found = file.metadata()?;
    if found.is_dir() {
        let path = format!("/proc/self/fd/{}/.", file.as_raw_fd());
        return match collect_tree(store, Path::new(&path), 0, go_on) {
            Ok(name) => Ok(Some(OutputObject::Tree(name))),
            // Sockets and the like, or too much for one directory: no tree holds them, so there is no such output.
            Err(StoreError::Unsupported { .. } | StoreError::Form { .. }) => Ok(None),
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
    let put = store.put_file_while(&file, go_on);
    let name = ValueName(put.map_err(|e| EngineError::Store(e.into()))?);
    Ok(Some(OutputObject::File { name, executable: is_executable(&found) }))
}

fn is_executable(found: &Metadata) -> bool {
    found.permissions().mode() & 0o111 != 0
}

/// Puts a directory into the store. Nobody changes it any more.
fn collect_tree(
    store: &Store,
    directory: &Path,
    depth: usize,
    go_on: GoOn<'_>,
) -> Result<ValueName, StoreError> {
    let unsupported =
        |path: &Path, problem| StoreError::Unsupported { path: path.to_owned(), problem };
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| StoreError::Io { action: "collect", path, source }
    };
    if depth > limits::TREE_DEPTH {
        return Err(unsupported(directory, "nested too deeply for a tree"));
    }
    let mut entries = BTreeMap::new();
    for entry in fs::read_dir(directory).map_err(io(directory))? {
        go_on().map_err(io(directory))?;
        let entry = entry.map_err(io(directory))?;
        let path = entry.path();
        let Ok(name) = entry.file_name().into_string() else {
            return Err(unsupported(&path, "not a name in UTF-8"));
        };
        let kind = entry.file_type().map_err(io(&path))?;
        let stored = if kind.is_dir() {
            TreeEntry::Directory(collect_tree(store, &path, depth + 1, go_on)?)
        } else if kind.is_symlink() {
            let target = fs::read_link(&path).map_err(io(&path))?;
            let target = target.into_os_string().into_string();
            TreeEntry::Symlink(target.map_err(|_| unsupported(&path, "a link that is not UTF-8"))?)
        } else if kind.is_file() {
            let file = File::open(&path).map_err(io(&path))?;
            let executable = is_executable(&file.metadata().map_err(io(&path))?);
            TreeEntry::File { name: ValueName(store.put_file_while(&file, go_on)?), executable }
        } else {
            return Err(unsupported(&path, "neither a file nor a directory"));
        };
        entries.insert(name, stored);
    }
    let tree = Tree::new(entries).map_err(|source| StoreError::Form {
        what: directory.display().to_string(),
        source: source.into(),
    })?;
    store.put_tree_value(&tree)
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use mesh_store::StoreOptions;

    use super::*;

    /// Agrees so many times.
    fn times(count: u32) -> impl Fn() -> io::Result<()> {
        let left = Cell::new(count);
        move || match left.get().checked_sub(1) {
            Some(less) => {
                left.set(less);
                Ok(())
            }
            None => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    #[test]
    fn what_is_given_up_leaves_nothing_behind() {
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(StoreOptions::new(place.path().join("store"))).unwrap();
        let large = place.path().join("large");
        fs::write(&large, vec![7; 4 * limits::STORE_HELD_BYTES as usize]).unwrap();
        let output = Output::required("/large".parse().unwrap());
        let open = |path: &Path| OwnedFd::from(File::open(path).unwrap());
        let tried = collect(&store, &output, open(&large), &times(1));
        assert!(matches!(tried, Err(EngineError::Store(_))), "{tried:?}");
        let directory = place.path().join("directory");
        fs::create_dir(&directory).unwrap();
        fs::rename(&large, directory.join("large")).unwrap();
        assert!(collect(&store, &output, open(&directory), &times(2)).is_err());
        let left =
            |below: &str| fs::read_dir(place.path().join("store").join(below)).unwrap().count();
        assert_eq!((left("tmp"), left("blobs")), (0, 0));
        let whole = collect(&store, &output, open(&directory), &times(u32::MAX)).unwrap();
        assert!(matches!(whole, Some(OutputObject::Tree(_))), "{whole:?}");
    }
}
