//! Opens the files of mesh's own directories: whatever else has taken the place of one is an error
//! at once.
//!
//! A named pipe in place of a file would keep whoever opens it waiting for ever, a device may do
//! anything, and a symbolic link may lead to either. So files are opened without waiting
//! (`O_NONBLOCK`) and without following a link (`O_NOFOLLOW`), and what was opened is looked at. The
//! user's own files, which may be links to anywhere, are none of this module's business.

use std::fs::{self, DirBuilder, File, FileType, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;
use thiserror::Error;

/// Something that is not a regular file stands where mesh keeps one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("it is {0}, not a regular file; move it away")]
pub struct NotAFile(&'static str);

/// Opens a regular file with these options. Anything else, a symbolic link included, is a
/// [`NotAFile`] inside an error of kind [`ErrorKind::InvalidInput`].
pub fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    open_with(path, options, OFlags::NOFOLLOW)
}

/// As [`open`], and follows symbolic links: people keep their settings elsewhere.
pub fn open_followed(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    open_with(path, options, OFlags::empty())
}

/// Reads a whole regular file that is no longer than `bytes_max`.
pub fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    read_all(open(path, OpenOptions::new().read(true))?, bytes_max)
}

/// As [`read`], and follows symbolic links.
pub fn read_followed(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    read_all(open_followed(path, OpenOptions::new().read(true))?, bytes_max)
}

/// Opens a file that is there to be locked, and makes it if need be. Only its owner may open it:
/// whoever can open a file can lock it.
pub fn open_lock(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = open(path, &mut options)?;
    make_private(&file)?;
    Ok(file)
}

/// Takes away what others than its owner may do with a file that an earlier version made.
pub fn make_private(file: &File) -> io::Result<()> {
    let mode = file.metadata()?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    match file.set_permissions(fs::Permissions::from_mode(mode & 0o700)) {
        // Somebody else's file: it is up to them.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        result => result,
    }
}

/// Makes a directory that only its owner may enter, and those above it that are missing. One that
/// is there stays as it is.
pub fn create_private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn open_with(path: &Path, options: &mut OpenOptions, flags: OFlags) -> io::Result<File> {
    options.custom_flags((OFlags::NONBLOCK | flags).bits().cast_signed());
    let file = match options.open(path) {
        Ok(file) => file,
        Err(error) => return Err(explain(path, flags, error)),
    };
    match kind_of(file.metadata()?.file_type()) {
        None => Ok(file),
        Some(kind) => Err(not_a_file(kind)),
    }
}

/// What cannot be opened at all says so in other words: a pipe that nobody reads, a socket.
fn explain(path: &Path, flags: OFlags, error: io::Error) -> io::Error {
    let telling = [Errno::NXIO, Errno::LOOP, Errno::ISDIR, Errno::NODEV];
    let is_telling = error
        .raw_os_error()
        .is_some_and(|code| telling.iter().any(|errno| errno.raw_os_error() == code));
    let found = match flags.contains(OFlags::NOFOLLOW) {
        true => fs::symlink_metadata(path),
        false => fs::metadata(path),
    };
    match found.ok().and_then(|metadata| kind_of(metadata.file_type())) {
        Some(kind) if is_telling => not_a_file(kind),
        _ => error,
    }
}

fn not_a_file(kind: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, NotAFile(kind))
}

/// What people call it; none: a regular file.
fn kind_of(kind: FileType) -> Option<&'static str> {
    Some(match kind {
        kind if kind.is_file() => return None,
        kind if kind.is_dir() => "a directory",
        kind if kind.is_symlink() => "a symbolic link",
        kind if kind.is_fifo() => "a named pipe",
        kind if kind.is_socket() => "a socket",
        _ => "a device",
    })
}

fn read_all(file: File, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        let text = format!("it is longer than the {bytes_max} bytes that are allowed");
        return Err(io::Error::new(ErrorKind::InvalidData, text));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    fn reason(result: io::Result<File>) -> String {
        let error = result.unwrap_err();
        let source = error.get_ref().map(|inner| inner.to_string());
        source.unwrap_or_else(|| error.to_string())
    }

    #[test]
    fn whatever_is_no_file_is_named_and_nobody_waits_for_it() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        mknodat(CWD, at("pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        fs::create_dir(at("directory")).unwrap();
        let _listener = UnixListener::bind(at("socket")).unwrap();
        fs::write(at("file"), "text").unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        std::os::unix::fs::symlink("pipe", at("link to a pipe")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("link to a device")).unwrap();
        let ways: [fn(&mut OpenOptions) -> &mut OpenOptions; 3] =
            [|it| it.read(true), |it| it.append(true), |it| it.read(true).write(true)];
        for way in ways {
            let open = |name: &str| open(&at(name), way(&mut OpenOptions::new()));
            let said = |kind: &str| format!("it is {kind}, not a regular file; move it away");
            assert_eq!(reason(open("pipe")), said("a named pipe"));
            assert_eq!(reason(open("directory")), said("a directory"));
            assert_eq!(reason(open("socket")), said("a socket"));
            assert_eq!(reason(open("link")), said("a symbolic link"));
            let followed = |name: &str| open_followed(&at(name), way(&mut OpenOptions::new()));
            assert_eq!(reason(followed("link to a pipe")), said("a named pipe"));
            assert_eq!(reason(followed("link to a device")), said("a device"));
            assert!(open("file").is_ok() && followed("link").is_ok());
            assert_eq!(open("nothing").unwrap_err().kind(), ErrorKind::NotFound);
        }
    }

    #[test]
    fn a_file_is_read_up_to_a_bound() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("file");
        fs::write(&path, "four").unwrap();
        assert_eq!(read(&path, 4).unwrap(), b"four");
        assert_eq!(read(&path, 3).unwrap_err().kind(), ErrorKind::InvalidData);
    }

    #[test]
    fn locks_are_their_owners_alone_whoever_made_them() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("lock");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        open_lock(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
