//! Placeholders: small files that stand for outputs which do not exist yet.
//!
//! A lazy build answers a compiler call before the compiler has run and leaves a placeholder at the
//! output's path. It is known by its *inode*, not by its path: a build that renames it, links to it
//! or reaches it through a symbolic link still meets the same placeholder, and when the output
//! exists its bytes are written into that very inode, so all its names get them. Its mtime stays
//! what it was, so that `make` sees the order in which its commands ran.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesh_cli::frontend::Inode;
use mesh_protocol::name::OutputRef;
use mesh_store::ObjectReader;

use super::materialise;
use super::undo::journal::Journal;

const MAGIC: &str = "mesh placeholder 1\n";

const PERMISSIONS: u32 = 0o7777;

/// Shorter than any placeholder is.
pub(crate) const BYTES_MIN: u64 = 80;

/// Longer than any placeholder is: a bigger file need not be opened to know that it is none.
pub(crate) const BYTES_MAX: u64 = 256;

/// So much of an output is in memory before its file is touched; only larger ones are read while they are
/// written.
const READ_FIRST_BYTES: u64 = 4 << 20;

/// A placeholder that this build made and that has not become a file yet.
#[derive(Debug)]
struct Placeholder {
    /// What it stands for.
    output: OutputRef,
    /// Where it was made; the build may have moved it since.
    path: PathBuf,
    /// Its permission bits when it was made.
    mode: u32,
    /// Another build left it.
    is_foreign: bool,
    /// Locked by whoever fills or removes it.
    file: Mutex<File>,
}

impl Placeholder {
    fn is_program(&self) -> bool {
        self.mode & 0o111 != 0
    }
}

/// A placeholder that has become a file, wherever the build has moved it.
#[derive(Debug)]
pub(crate) struct Filled {
    pub(crate) metadata: Metadata,
    reader: File,
}

impl Filled {
    /// A path that leads to the file as long as this lives.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.reader.as_raw_fd()))
    }
}

/// The placeholders of one build.
#[derive(Debug)]
pub(crate) struct Placeholders {
    table: Mutex<BTreeMap<Inode, Arc<Placeholder>>>,
    /// Placeholders that have not become files yet, and how many of them are programs: asked for
    /// with each call of the build's.
    count: AtomicUsize,
    programs: AtomicUsize,
    journal: Option<Arc<Journal>>,
}

impl Placeholders {
    /// None yet. Without a journal they stay when the build ends without having filled them.
    pub(crate) fn new(journal: Option<Arc<Journal>>) -> Self {
        Self { table: Mutex::default(), count: 0.into(), programs: 0.into(), journal }
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<Inode, Arc<Placeholder>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert(&self, inode: Inode, placeholder: Placeholder) {
        let mut table = self.table();
        table.entry(inode).or_insert_with(|| Arc::new(placeholder));
        self.recount(&table);
    }

    fn take(&self, inode: Inode) -> Option<Arc<Placeholder>> {
        let mut table = self.table();
        let taken = table.remove(&inode);
        self.recount(&table);
        taken
    }

    fn recount(&self, table: &BTreeMap<Inode, Arc<Placeholder>>) {
        self.count.store(table.len(), Ordering::Release);
        let programs = table.values().filter(|placeholder| placeholder.is_program()).count();
        self.programs.store(programs, Ordering::Release);
    }

    /// Are there none?
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Will one of them be a program?
    pub(crate) fn has_programs(&self) -> bool {
        self.programs.load(Ordering::Acquire) > 0
    }

    /// What the placeholder with this inode stands for, if it will be a program.
    pub(crate) fn program(&self, inode: Inode) -> Option<OutputRef> {
        let table = self.table();
        let placeholder = table.get(&inode).filter(|placeholder| placeholder.is_program());
        placeholder.map(|placeholder| placeholder.output.clone())
    }

    /// Puts a placeholder at `path`, in place of what is there, as assemblers and linkers replace
    /// their output: the old file is unlinked, never written to. It gets exactly these permissions.
    pub(crate) fn create(&self, path: &Path, output: OutputRef, mode: u32) -> io::Result<Inode> {
        // Whole from the beginning: an empty file would look like a finished one to `make`.
        let file = materialise::place(path, mode, |file| {
            file.write_all(format!("{MAGIC}{output}\n").as_bytes())
        })?;
        let inode = Inode::of(&file.metadata()?);
        let path = path.to_owned();
        let file = Mutex::new(file);
        let placeholder = Placeholder { output, path, mode, is_foreign: false, file };
        self.insert(inode, placeholder);
        Ok(inode)
    }

    /// What the file with this inode stands for, if it is one of this build's placeholders.
    pub(crate) fn output(&self, inode: Inode) -> Option<OutputRef> {
        self.table().get(&inode).map(|placeholder| placeholder.output.clone())
    }

    /// Where the placeholder was made.
    pub(crate) fn path(&self, inode: Inode) -> Option<PathBuf> {
        self.table().get(&inode).map(|placeholder| placeholder.path.clone())
    }

    /// Takes over a placeholder that another build left at `path`.
    pub(crate) fn adopt(&self, path: &Path, inode: Inode, output: OutputRef) -> io::Result<()> {
        let file = File::options().read(true).write(true).open(path)?;
        let mode = file.metadata()?.mode() & PERMISSIONS;
        let path = path.to_owned();
        // If another file is there by now, filling will not find the placeholder in it.
        let file = Mutex::new(file);
        let placeholder = Placeholder { output, path, mode, is_foreign: true, file };
        self.insert(inode, placeholder);
        Ok(())
    }

    /// Makes it the real file: bytes, and execute bits if the output has them. Its mtime stays.
    /// Gives the file; `None` if the build has deleted or overwritten it meanwhile.
    pub(crate) fn fill(
        &self,
        inode: Inode,
        bytes: &mut ObjectReader,
        executable: bool,
    ) -> io::Result<Option<Filled>> {
        let Some(placeholder) = self.table().get(&inode).cloned() else { return Ok(None) };
        let mut file = placeholder.file.lock().unwrap_or_else(PoisonError::into_inner);
        let before = file.metadata()?;
        let lives = before.nlink() > 0 && is_untouched(&mut file, &placeholder.output)?;
        if lives {
            let journal = self.journal.as_ref().filter(|_| placeholder.is_foreign);
            if let Some(journal) = journal {
                journal.filling(inode, &placeholder.path)?;
            }
            // Permissions that the build gave it meanwhile count.
            let is_as_made = before.mode() & PERMISSIONS == placeholder.mode;
            write_all(&mut file, &before, bytes, is_as_made.then_some(executable))?;
            if let Some(journal) = journal {
                journal.filled(inode)?;
            }
        }
        let reader = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let metadata = file.metadata()?;
        // Only now does it stop being a placeholder: who opened it meanwhile has waited.
        self.take(inode);
        Ok(lives.then_some(Filled { metadata, reader }))
    }

    /// Removes it, wherever the build has moved it: what it stood for will not come.
    pub(crate) fn remove(&self, inode: Inode) -> io::Result<()> {
        let Some(placeholder) = self.take(inode) else { return Ok(()) };
        let mut file = placeholder.file.lock().unwrap_or_else(PoisonError::into_inner);
        if file.metadata()?.nlink() == 0 || !is_untouched(&mut file, &placeholder.output)? {
            return Ok(());
        }
        let Some(directory) = placeholder.path.parent() else { return Ok(()) };
        let beside = fs::read_dir(directory)?.filter_map(|entry| Some(entry.ok()?.path()));
        for path in std::iter::once(placeholder.path.clone()).chain(beside) {
            if fs::symlink_metadata(&path).is_ok_and(|found| Inode::of(&found) == inode) {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }
}

/// Makes a placeholder that a finished build left at `path` the real file.
pub(crate) fn fill_at(
    path: &Path,
    output: OutputRef,
    bytes: &mut ObjectReader,
    executable: bool,
) -> io::Result<()> {
    let table = Placeholders::new(None);
    let inode = Inode::of(&fs::metadata(path)?);
    table.adopt(path, inode, output)?;
    table.fill(inode, bytes, executable).map(drop)
}

/// From the first change of the file until it has its time again, whoever asks for its time sees a file
/// that is newer than what was made of it, and does not wait for us. So nothing is done in between that could be done
/// before or after.
fn write_all(
    file: &mut File,
    before: &Metadata,
    bytes: &mut ObjectReader,
    executable: Option<bool>,
) -> io::Result<()> {
    let (length, modified) = (bytes.length(), before.modified()?);
    let mut first = Vec::new();
    Read::by_ref(bytes).take(READ_FIRST_BYTES).read_to_end(&mut first)?;
    file.rewind()?;
    // Whoever asks for its size, and so does not wait either, never sees an empty file: that is a mistake to
    // objcopy, for one.
    file.set_len(length)?;
    file.write_all(&first)?;
    if length > first.len() as u64 {
        bytes.copy_to(file)?;
    }
    file.set_modified(modified)?;
    let mode = before.mode();
    let wanted = match executable {
        Some(true) => mode | (mode & 0o444) >> 2,
        Some(false) => mode & !0o111,
        None => mode,
    };
    if wanted != mode {
        file.set_permissions(fs::Permissions::from_mode(wanted))?;
    }
    Ok(())
}

fn is_untouched(file: &mut File, output: &OutputRef) -> io::Result<bool> {
    Ok(read_from(file)?.as_ref() == Some(output))
}

/// The output that the file at `path` stands for, if it is a placeholder of any build.
pub(crate) fn read(path: &Path) -> io::Result<Option<OutputRef>> {
    let mut file = File::open(path)?;
    read_from(&mut file)
}

fn read_from(file: &mut File) -> io::Result<Option<OutputRef>> {
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > BYTES_MAX {
        return Ok(None);
    }
    file.rewind()?;
    let mut text = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut text)?;
    let text = std::str::from_utf8(&text).ok();
    let output = text.and_then(|text| text.strip_prefix(MAGIC)?.strip_suffix('\n')?.parse().ok());
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_protocol::name::ThunkName;
    use mesh_store::{Store, StoreOptions};

    fn output() -> OutputRef {
        OutputRef { thunk: ThunkName::of(b"thunk"), tag: "object".parse().unwrap() }
    }

    fn bytes(content: &[u8]) -> ObjectReader {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(StoreOptions::new(home.path())).unwrap();
        let name = store.put_bytes(content).unwrap();
        store.open_checked(name).unwrap()
    }

    #[test]
    fn every_name_of_a_placeholder_gets_the_bytes_and_keeps_its_time() {
        let directory = tempfile::tempdir().unwrap();
        let [made, moved, linked] = ["a.Tpo", "a.Po", "b"].map(|name| directory.path().join(name));
        let table = Placeholders::new(None);
        let inode = table.create(&made, output(), 0o644).unwrap();
        let past = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        File::options().write(true).open(&made).unwrap().set_modified(past).unwrap();
        fs::rename(&made, &moved).unwrap();
        fs::hard_link(&moved, &linked).unwrap();
        assert_eq!(table.output(Inode::of(&fs::metadata(&linked).unwrap())), Some(output()));
        table.fill(inode, &mut bytes(b"real"), true).unwrap();
        for path in [moved, linked] {
            assert_eq!(fs::read(&path).unwrap(), b"real");
            let metadata = fs::metadata(&path).unwrap();
            assert_eq!(metadata.modified().unwrap(), past);
            assert_eq!(metadata.mode() & 0o777, 0o755);
        }
    }

    /// Nobody waits for us to learn a size.
    #[test]
    fn while_it_is_filled_it_has_its_old_size_or_its_new_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        let table = Placeholders::new(None);
        let inode = table.create(&path, output(), 0o644).unwrap();
        let (old, new) = (fs::metadata(&path).unwrap().len(), 32 << 20);
        let mut content = bytes(&vec![7; new as usize]);
        let is_filled = std::sync::atomic::AtomicBool::new(false);
        let sizes = std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let mut sizes = std::collections::BTreeSet::new();
                while !is_filled.load(std::sync::atomic::Ordering::Relaxed) {
                    sizes.insert(fs::metadata(&path).unwrap().len());
                }
                sizes
            });
            table.fill(inode, &mut content, false).unwrap();
            is_filled.store(true, std::sync::atomic::Ordering::Relaxed);
            watcher.join().unwrap()
        });
        assert!(sizes.iter().all(|size| [old, new].contains(size)), "{sizes:?}");
    }

    #[test]
    fn what_the_build_overwrote_or_deleted_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let [first, second] = ["a", "b"].map(|name| directory.path().join(name));
        let table = Placeholders::new(None);
        let overwritten = table.create(&first, output(), 0o644).unwrap();
        let deleted = table.create(&second, output(), 0o644).unwrap();
        fs::write(&first, "mine").unwrap();
        fs::remove_file(&second).unwrap();
        for inode in [overwritten, deleted] {
            assert!(table.fill(inode, &mut bytes(b"real"), false).unwrap().is_none());
        }
        assert_eq!(fs::read(&first).unwrap(), b"mine");
        assert!(!second.exists());
    }

    #[test]
    fn a_placeholder_is_removed_also_after_a_move_beside() {
        let directory = tempfile::tempdir().unwrap();
        let [made, moved] = ["a.Tpo", "a.Po"].map(|name| directory.path().join(name));
        let table = Placeholders::new(None);
        let inode = table.create(&made, output(), 0o644).unwrap();
        fs::rename(&made, &moved).unwrap();
        assert_eq!(read(&moved).unwrap(), Some(output()));
        table.remove(inode).unwrap();
        assert!(!moved.exists());
        assert!(table.is_empty());
    }
}
