//! From an object in the store to a file of the user.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use mesh_cli::frontend::{PlannedOutput, Writing, has_default_acl};
use mesh_protocol::name::ValueName;
use mesh_store::ObjectReader;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, UTIME_NOW};

use crate::error::CliError;

/// A file to be written.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) path: PathBuf,
    pub(crate) name: ValueName,
    /// Permission bits of a new file.
    pub(crate) mode: u32,
    pub(crate) writing: Writing,
}

/// Writes a file of the store as its tool would have written it. Returns the metadata of the file.
pub(crate) fn write(wanted: &Wanted, bytes: &mut ObjectReader) -> Result<Metadata, CliError> {
    let copy = |file: &mut File| bytes.copy_to(file);
    let written = match written_into(&wanted.path, wanted.writing) {
        Some(_) => overwrite(&wanted.path, copy),
        None => place(&wanted.path, wanted.mode, copy),
    };
    written.and_then(|file| file.metadata()).map_err(CliError::io(&wanted.path))
}

/// The file into which an output is written; none if the output is a new file.
fn written_into(path: &Path, writing: Writing) -> Option<Metadata> {
    let existing = fs::symlink_metadata(path).ok()?;
    (existing.is_file() && writing.is_into(&existing)).then_some(existing)
}

/// Is an output written into the file that is there?
pub(crate) fn is_written_into(path: &Path, writing: Writing) -> bool {
    written_into(path, writing).is_some()
}

/// Writes into the file that is at a path: it keeps its inode, and so its other names, its owner
/// and its permissions.
fn overwrite(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<File> {
    let mut file = File::options()
        .write(true)
        .truncate(true)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)?;
    write(&mut file)?;
    stamp(&file)?;
    Ok(file)
}

/// Is an output written into a file that a placeholder cannot stand for? It has other names, belongs
/// to somebody else, has extended attributes, or execute bits that say nothing about its content.
pub(crate) fn keeps_file(output: &PlannedOutput) -> bool {
    written_into(&output.path, output.writing).is_some_and(|existing| {
        existing.nlink() > 1
            || existing.uid() != rustix::process::geteuid().as_raw()
            || Some(existing.gid()) != group_of_new(&output.path)
            || has_odd_execute_bits(&existing, output.executable)
            || has_attributes(&output.path)
    })
}

/// Would a placeholder with these permissions have other ones when it becomes a file?
fn has_odd_execute_bits(existing: &Metadata, executable: bool) -> bool {
    let mode = existing.mode();
    let readable = (mode & 0o444) >> 2;
    mode & 0o111 != if executable { readable } else { 0 }
}

/// The group of a file that is made at this path.
fn group_of_new(path: &Path) -> Option<u32> {
    let directory = fs::metadata(path.parent()?).ok()?;
    let inherits = directory.mode() & Mode::SGID.as_raw_mode() != 0;
    Some(if inherits { directory.gid() } else { rustix::process::getegid().as_raw() })
}

/// Has the file attributes, such as an access control list, that a new one would not get?
fn has_attributes(path: &Path) -> bool {
    let mut names = [0; 256];
    match rustix::fs::llistxattr(path, &mut names) {
        Ok(length) => {
            let mut names = names[..length].split(|byte| *byte == 0);
            // The label is that of the directory.
            names.any(|name| !name.is_empty() && name != b"security.selinux")
        }
        Err(error) => error == rustix::io::Errno::RANGE,
    }
}

/// Puts a file at a path, with these permissions, whole or not at all: a build that is killed
/// leaves nothing there that is half written. What was there is unlinked, as compilers do. Gives
/// the file, open for reading and writing.
pub(crate) fn place(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<File> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let mut file = match rustix::fs::openat(CWD, directory, flags, Mode::from_raw_mode(mode)) {
        Ok(file) => File::from(file),
        // A file system without nameless files.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => {
            return place_by_rename(path, mode, write);
        }
        Err(error) => return Err(error.into()),
    };
    write(&mut file)?;
    stamp(&file)?;
    set_mode(&file, directory, mode)?;
    let source = format!("/proc/self/fd/{}", file.as_raw_fd());
    remove_if_there(path)?;
    rustix::fs::linkat(CWD, source, CWD, path, AtFlags::SYMLINK_FOLLOW)?;
    Ok(file)
}

fn place_by_rename(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<File> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.mesh{}", std::process::id()));
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut file = File::options().write(true).read(true).create_new(true).open(&beside)?;
    let placed = write(&mut file)
        .and_then(|()| stamp(&file))
        .and_then(|()| set_mode(&file, directory, mode))
        .and_then(|()| fs::rename(&beside, path));
    match placed {
        Ok(()) => Ok(file),
        Err(error) => {
            remove_if_there(&beside)?;
            Err(error)
        }
    }
}

/// Makes a file newer than all that was made before, as it is when its tool has taken its time: what is
/// remembered comes within one tick of the clock that files are stamped by. Since Linux 6.13 a file
/// that somebody has looked at gets an exact time when it is changed next, and no file gets an
/// earlier one from then on (`Documentation/filesystems/multigrain-ts.rst`).
fn stamp(file: &File) -> io::Result<()> {
    rustix::fs::fstat(file)?;
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    Ok(rustix::fs::futimens(file, &times)?)
}

/// Sets the permissions, whatever our own umask took away. A file that got the default access
/// control list of its directory has them: the umask does not count there.
fn set_mode(file: &File, directory: &Path, mode: u32) -> io::Result<()> {
    if has_default_acl(directory) {
        return Ok(());
    }
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))
}

/// Removes a file; it is no error if there is none.
fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The permission bits that a tool's output gets: those of the file that the tool writes into, or
/// what `umask` leaves of all.
pub(crate) fn mode_for(output: &PlannedOutput, executable: bool, umask: u32) -> u32 {
    if let Some(existing) = written_into(&output.path, output.writing) {
        return existing.mode() & 0o7777;
    }
    let all = if executable { 0o777 } else { 0o666 };
    let is_masked = !output.path.parent().is_some_and(has_default_acl);
    if is_masked { all & !umask } else { all }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use mesh_store::{Store, StoreOptions};

    use super::*;

    fn output(path: &Path, writing: Writing) -> PlannedOutput {
        PlannedOutput {
            tag: "out".parse().unwrap(),
            path: path.to_owned(),
            required: true,
            executable: false,
            writing,
        }
    }

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Writes "new" over a file with another name; gives whether that one sees it, and the mode.
    fn write_over(old: &str, mode: u32, writing: Writing) -> (bool, u32) {
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(StoreOptions::new(place.path().join("store"))).unwrap();
        let name = ValueName(store.put_bytes(b"new").unwrap());
        let (path, other) = (place.path().join("output"), place.path().join("other"));
        fs::write(&path, old).unwrap();
        set(&path, mode);
        fs::hard_link(&path, &other).unwrap();
        let mode = mode_for(&output(&path, writing), false, 0o027);
        let wanted = Wanted { path: path.clone(), name, mode, writing };
        let mut bytes = store.open_checked(name.digest()).unwrap();
        let written = write(&wanted, &mut bytes).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        (fs::read(&other).unwrap() == b"new", written.mode() & 0o7777)
    }

    #[test]
    fn each_writing_does_as_its_tools_do() {
        assert_eq!(write_over("old content", 0o751, Writing::InPlace), (true, 0o751));
        assert_eq!(write_over("old content", 0o751, Writing::Replace), (false, 0o640));
        assert_eq!(write_over("old content", 0o600, Writing::ReplaceUnlessEmpty), (false, 0o640));
        assert_eq!(write_over("", 0o600, Writing::ReplaceUnlessEmpty), (true, 0o600));
        assert_eq!(write_over("", 0o600, Writing::Replace), (false, 0o640));
    }

    #[test]
    fn a_default_access_control_list_counts_instead_of_the_umask() {
        let place = tempfile::tempdir().unwrap();
        // Version 2; owner, group and others, each with their permissions and no id.
        let mut list = 2_u32.to_le_bytes().to_vec();
        for (tag, permissions) in [(1_u16, 7_u16), (4, 6), (32, 0)] {
            list.extend([tag, permissions].into_iter().flat_map(u16::to_le_bytes));
            list.extend(u32::MAX.to_le_bytes());
        }
        let name = "system.posix_acl_default";
        let flags = rustix::fs::XattrFlags::empty();
        if rustix::fs::setxattr(place.path(), name, &list, flags).is_err() {
            // A file system without them.
            return;
        }
        let path = place.path().join("output");
        let mode = mode_for(&output(&path, Writing::Replace), false, 0o077);
        let file = super::place(&path, mode, |_| Ok(())).unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o660);
    }

    #[test]
    fn a_file_is_kept_where_a_new_one_would_be_noticed() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("output");
        let keeps = |writing| keeps_file(&output(&path, writing));
        assert!(!keeps(Writing::InPlace), "nothing is there");
        fs::write(&path, "old").unwrap();
        set(&path, 0o600);
        assert!(!keeps(Writing::InPlace));
        set(&path, 0o755);
        assert!(keeps(Writing::InPlace), "it would lose its execute bits");
        set(&path, 0o644);
        fs::hard_link(&path, place.path().join("other")).unwrap();
        assert!(keeps(Writing::InPlace));
        assert!(!keeps(Writing::Replace));
        assert!(!keeps(Writing::ReplaceUnlessEmpty));
    }
}
