//! How a tool writes an output over what is there.
//!
//! It shows in the inode, and so in hard links, open descriptors, owner and permissions. The rules
//! were observed with strace: GCC 12, clang 14, binutils 2.40, lld 14.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::Access;

use super::context::OutputKind;
use super::reason::{LocalReason, Step};

/// Set-user-ID, set-group-ID and sticky: a write may clear them, and some tools set them again.
const SPECIAL_PERMISSIONS: u32 = 0o7000;

/// How a tool writes an output over what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Writing {
    /// Into a new file that takes the place of what was there: clang, lld.
    #[default]
    Replace,
    /// As [`Writing::Replace`] if the file that is there has content, else into that file, whose
    /// name somebody may have reserved (`bfd_open_file` in `bfd/cache.c`): assembler, linker.
    ReplaceUnlessEmpty,
    /// Into the file that is there: GCC's `-S` and `-E`, dependency files, archives, `strip`.
    InPlace,
}

impl Writing {
    /// Does the tool write into a file that looks so, if it is there?
    pub fn is_into(self, existing: &Metadata) -> bool {
        match self {
            Self::Replace => false,
            Self::ReplaceUnlessEmpty => existing.len() == 0,
            Self::InPlace => true,
        }
    }
}

/// Do files that are made in this directory get its default access control list, whatever the umask
/// (acl(5), "Object creation and default ACLs")?
pub fn has_default_acl(directory: &Path) -> bool {
    let mut nothing = [0; 0];
    rustix::fs::getxattr(directory, "system.posix_acl_default", &mut nothing).is_ok()
}

/// Refuses an output that the tool could not write, or writes by rules of its own.
pub(crate) fn check(path: &str, kind: OutputKind) -> Step<()> {
    let unwritable = || LocalReason::UnwritableOutput(path.to_owned());
    let place = Path::new(path);
    let directory = place.parent().unwrap_or(place);
    let may = |path: &Path, what| rustix::fs::access(path, what).is_ok();
    if !may(directory, Access::WRITE_OK | Access::EXEC_OK) {
        return Err(unwritable().into());
    }
    if kind.executable && has_default_acl(directory) {
        // Linkers set the execute bits by rules of their own.
        return Err(LocalReason::DefaultAcl(path.to_owned()).into());
    }
    let Ok(existing) = std::fs::symlink_metadata(place) else { return Ok(()) };
    let present = |what| Err(LocalReason::PresentOutput(path.to_owned(), what).into());
    if existing.mode() & SPECIAL_PERMISSIONS != 0 {
        return present("has special permissions");
    }
    let is_into = kind.writing.is_into(&existing);
    if is_into && kind.writing == Writing::ReplaceUnlessEmpty && kind.executable {
        // Which execute bits it gets differs between linkers.
        return present("empty");
    }
    // Only what is unlinked and made anew need not be writable; clang asks nevertheless.
    let is_unlinked = kind.writing == Writing::ReplaceUnlessEmpty && !is_into;
    if !is_unlinked && !may(place, Access::WRITE_OK) {
        return Err(unwritable().into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::reason::Stop;
    use super::*;

    fn kind(writing: Writing, executable: bool) -> OutputKind {
        OutputKind { required: true, executable, writing }
    }

    #[test]
    fn what_is_written_into() {
        let directory = tempfile::tempdir().unwrap();
        let (empty, full) = (directory.path().join("empty"), directory.path().join("full"));
        fs::write(&empty, "").unwrap();
        fs::write(&full, "content").unwrap();
        let (empty, full) = (fs::metadata(empty).unwrap(), fs::metadata(full).unwrap());
        let into = |writing: Writing| (writing.is_into(&empty), writing.is_into(&full));
        assert_eq!(into(Writing::Replace), (false, false));
        assert_eq!(into(Writing::ReplaceUnlessEmpty), (true, false));
        assert_eq!(into(Writing::InPlace), (true, true));
    }

    #[test]
    fn what_only_the_tool_itself_may_write() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("p");
        let checked = |kind| check(path.to_str().unwrap(), kind);
        let is_local = |kind| matches!(checked(kind), Err(Stop::Local(_)));
        assert_eq!(checked(kind(Writing::InPlace, true)), Ok(()), "nothing is there");
        fs::write(&path, "").unwrap();
        assert!(is_local(kind(Writing::ReplaceUnlessEmpty, true)));
        assert_eq!(checked(kind(Writing::ReplaceUnlessEmpty, false)), Ok(()));
        fs::set_permissions(&path, Permissions::from_mode(0o4755)).unwrap();
        assert!(is_local(kind(Writing::InPlace, true)));
        let nowhere = directory.path().join("none/p");
        assert!(check(nowhere.to_str().unwrap(), kind(Writing::Replace, false)).is_err());
    }
}
