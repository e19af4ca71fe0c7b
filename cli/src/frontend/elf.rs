//! What a program or shared library needs to be loaded.

use std::fs::File;
use std::path::Path;

use object::elf;
use object::read::elf::{Dyn as _, FileHeader, ProgramHeader as _};
use object::read::{ReadCache, ReadRef};

/// The loader's view of one ELF file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Needs {
    /// `e_machine` and the class: two files that differ here cannot meet in one process.
    pub(crate) machine: (elf::Machine, bool),
    /// `e_type`.
    pub(crate) kind: elf::FileType,
    /// PT_INTERP: the loader itself.
    pub(crate) interpreter: Option<String>,
    /// DT_NEEDED.
    pub(crate) libraries: Vec<String>,
    /// DT_RUNPATH, or DT_RPATH if there is none, split, `$ORIGIN` not yet replaced.
    pub(crate) search: Vec<String>,
}

/// A program's own list of libraries is short; a longer one is no program.
const STRINGS_MAX: usize = 4096;

/// Reads it. None if the file is no ELF file, or a broken one.
pub(crate) fn needs(path: &Path) -> Option<Needs> {
    let file = File::open(path).ok()?;
    let cache = ReadCache::new(file);
    let data = &cache;
    let ident: &[u8] = data.read_bytes_at(0, 16).ok()?;
    match (ident.starts_with(&elf::ELFMAG), ident.get(4).copied().map(elf::FileClass)) {
        (true, Some(elf::ELFCLASS64)) => {
            read::<elf::FileHeader64<object::Endianness>, _>(data, true)
        }
        (true, Some(elf::ELFCLASS32)) => {
            read::<elf::FileHeader32<object::Endianness>, _>(data, false)
        }
        _ => None,
    }
}

fn read<'d, H, R>(data: R, is_64: bool) -> Option<Needs>
where
    H: FileHeader<Endian = object::Endianness>,
    R: ReadRef<'d>,
{
    let header = H::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let mut needs = Needs {
        machine: (header.e_machine(endian), is_64),
        kind: header.e_type(endian),
        interpreter: None,
        libraries: Vec::new(),
        search: Vec::new(),
    };
    let segments = header.program_headers(endian, data).ok()?;
    for segment in segments {
        if let Ok(Some(interpreter)) = segment.interpreter(endian, data) {
            needs.interpreter = Some(text(interpreter)?);
        }
        let Ok(Some(entries)) = segment.dynamic(endian, data) else { continue };
        let value =
            |tag| entries.iter().find(|e| e.tag(endian) == tag).map(|e| e.d_val(endian).into());
        let (table, size): (u64, u64) = (value(elf::DT_STRTAB)?, value(elf::DT_STRSZ)?);
        let string = |offset: u64| -> Option<String> {
            let position = file_offset::<H>(segments, endian, table)?;
            let start = position.checked_add(offset)?;
            let end = position.checked_add(size)?;
            text(data.read_bytes_at_until(start..end, 0).ok()?)
        };
        for entry in entries.iter().take(STRINGS_MAX) {
            let offset: u64 = entry.d_val(endian).into();
            match entry.tag(endian) {
                elf::DT_NEEDED => needs.libraries.push(string(offset)?),
                elf::DT_RUNPATH => needs.search = split(&string(offset)?),
                elf::DT_RPATH if value(elf::DT_RUNPATH).is_none() => {
                    needs.search = split(&string(offset)?);
                }
                _ => {}
            }
        }
    }
    Some(needs)
}

fn file_offset<H: FileHeader<Endian = object::Endianness>>(
    segments: &[H::ProgramHeader],
    endian: object::Endianness,
    address: u64,
) -> Option<u64> {
    segments.iter().filter(|s| s.p_type(endian) == elf::PT_LOAD).find_map(|segment| {
        let start: u64 = segment.p_vaddr(endian).into();
        let size: u64 = segment.p_filesz(endian).into();
        let inside = address.checked_sub(start).filter(|offset| *offset < size)?;
        Into::<u64>::into(segment.p_offset(endian)).checked_add(inside)
    })
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

fn split(paths: &str) -> Vec<String> {
    paths.split(':').filter(|path| !path.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_needs_its_loader_and_libraries() {
        let needs = needs(Path::new("/bin/sh")).unwrap();
        assert!(needs.interpreter.unwrap().contains("ld-linux"));
        assert!(needs.libraries.iter().any(|name| name.starts_with("libc.so")));
    }

    #[test]
    fn other_files_are_not_elf() {
        assert_eq!(needs(Path::new("/etc/passwd")), None);
        assert_eq!(needs(Path::new("/nowhere")), None);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cut");
        let whole = std::fs::read("/bin/sh").unwrap();
        for length in [0, 3, 5, 16, 63, 64, 100, 1000] {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(needs(&path).is_none_or(|needs| needs.libraries.is_empty()));
        }
    }
}
