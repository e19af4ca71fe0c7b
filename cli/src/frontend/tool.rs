//! Which tool hides behind a name.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::path::Path;

/// A tool that has a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tool {
    /// A compiler driver for C.
    CompilerC,
    /// A compiler driver for C++.
    CompilerCxx,
    /// The archiver.
    Archiver,
    /// The assembler.
    Assembler,
    /// The linker.
    Linker,
    /// The archive indexer.
    Ranlib,
    /// The symbol remover.
    Strip,
}

/// The bare names, without target and version.
const NAMES: &[(&str, Tool)] = &[
    ("gcc", Tool::CompilerC),
    ("cc", Tool::CompilerC),
    ("clang", Tool::CompilerC),
    ("g++", Tool::CompilerCxx),
    ("c++", Tool::CompilerCxx),
    ("clang++", Tool::CompilerCxx),
    ("ar", Tool::Archiver),
    ("as", Tool::Assembler),
    ("ld", Tool::Linker),
    ("ld.bfd", Tool::Linker),
    ("ld.gold", Tool::Linker),
    ("ranlib", Tool::Ranlib),
    ("strip", Tool::Strip),
];

impl Tool {
    /// The tool called `name`: `gcc`, `g++-12`, `x86_64-linux-gnu-ar`, `aarch64-linux-gnu-gcc-12.2`.
    pub fn of(name: &str) -> Option<Self> {
        let unversioned = strip_version(name);
        let exact = |wanted: &str| NAMES.iter().find(|(known, _)| *known == wanted);
        if let Some((_, tool)) = exact(unversioned) {
            return Some(*tool);
        }
        let (target, bare) = unversioned.rsplit_once('-')?;
        // `gcc-ar` and `git-ld` are other programs, with a target before them too.
        let (_, tool) = exact(bare)?;
        let is_wrapper = target.split('-').any(|word| exact(word).is_some());
        (is_target(target) && !is_wrapper).then_some(*tool)
    }

    /// Is it a compiler driver?
    pub fn is_compiler(self) -> bool {
        matches!(self, Self::CompilerC | Self::CompilerCxx)
    }
}

/// `gcc-12` and `gcc-12.2.0` are `gcc`.
fn strip_version(name: &str) -> &str {
    match name.rsplit_once('-') {
        Some((bare, version))
            if version.starts_with(|c: char| c.is_ascii_digit())
                && version.bytes().all(|b| b.is_ascii_digit() || b == b'.') =>
        {
            bare
        }
        _ => name,
    }
}

/// `x86_64-linux-gnu`, `arm-none-eabi`, `x86_64-w64-mingw32`: two to four words, the first a
/// machine.
fn is_target(text: &str) -> bool {
    const MACHINES: &[&str] = &[
        "x86_64",
        "i386",
        "i486",
        "i586",
        "i686",
        "aarch64",
        "arm",
        "armv",
        "riscv",
        "powerpc",
        "ppc",
        "mips",
        "s390",
        "sparc",
        "m68k",
        "loongarch",
        "alpha",
        "hppa",
        "sh4",
        "avr",
        "msp430",
        "xtensa",
        "wasm",
        "bpf",
        "ia64",
        "or1k",
        "nios2",
        "microblaze",
    ];
    let words = text.split('-').count();
    (2..=4).contains(&words) && MACHINES.iter().any(|machine| text.starts_with(machine))
}

/// Every name of a modelled tool in these directories, each once, sorted.
pub fn tool_names_in<P: AsRef<Path>>(directories: &[P]) -> Vec<String> {
    let mut names = BTreeSet::new();
    for directory in directories {
        let Ok(entries) = std::fs::read_dir(directory) else { continue };
        for entry in entries.flatten() {
            if let Ok(name) = entry.file_name().into_string()
                && Tool::of(&name).is_some()
                && is_program(&entry.path())
            {
                names.insert(name);
            }
        }
    }
    names.into_iter().collect()
}

/// Is there a regular file with an execute bit?
pub(crate) fn is_program(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| is_executable(&found))
}

/// Is it a regular file with an execute bit?
pub fn is_executable(found: &Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    found.is_file() && found.permissions().mode() & 0o111 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_target_and_version() {
        for (name, tool) in [
            ("gcc", Tool::CompilerC),
            ("cc", Tool::CompilerC),
            ("gcc-12", Tool::CompilerC),
            ("clang-14", Tool::CompilerC),
            ("clang++-14", Tool::CompilerCxx),
            ("x86_64-linux-gnu-g++-12", Tool::CompilerCxx),
            ("aarch64-linux-gnu-gcc-12.2.0", Tool::CompilerC),
            ("arm-none-eabi-ar", Tool::Archiver),
            ("x86_64-linux-gnu-ld.bfd", Tool::Linker),
        ] {
            assert_eq!(Tool::of(name), Some(tool), "{name}");
        }
    }

    #[test]
    fn other_programs_have_no_model() {
        for name in [
            "gcc-ar",
            "gcc-nm-12",
            "x86_64-linux-gnu-gcc-ar",
            "x86_64-linux-gnu-gcc-ranlib-12",
            "llvm-ar",
            "git-ld",
            "cpp",
            "gccgo",
            "ld.so",
            "ldd",
            "c89-gcc",
            "",
            "-",
            "-12",
            "nm",
            "objcopy",
            "colorgcc",
            "clang-format",
            "clang-tidy-14",
        ] {
            assert_eq!(Tool::of(name), None, "{name}");
        }
    }
}
