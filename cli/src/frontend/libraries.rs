//! The files that a link reads: `-l` along the library directories, the files that linker scripts
//! name, and the shared libraries that shared libraries need.

use std::collections::{HashSet, VecDeque};
use std::path::Path;

use super::closure::configured_directories;
use super::context::Context;
use super::elf;
use super::ldargs::{Item, LinkLine};
use super::ldscript;
use super::plan::FileSource;
use super::reason::{LocalReason, Step, Stop};
use super::view::{Place, View};

/// A text that is longer is no linker script.
const SCRIPT_BYTES_MAX: u64 = 1024 * 1024;

/// Collects what one link reads.
pub(crate) struct Libraries<'c, 'a> {
    context: &'c mut Context<'a>,
    /// Where `-l` looks, in order.
    directories: Vec<String>,
    /// Where needed libraries are looked for.
    needed_directories: Vec<String>,
    sysroot: Option<String>,
    waiting: VecDeque<Item>,
    seen: HashSet<String>,
    placeholders: Vec<std::path::PathBuf>,
    /// What is being linked for: the machine of the first object that has one.
    machine: Option<(object::elf::Machine, bool)>,
}

impl<'c, 'a> Libraries<'c, 'a> {
    /// For a link whose linker looks in `defaults` at last.
    pub(crate) fn new(context: &'c mut Context<'a>, line: &LinkLine, defaults: &[String]) -> Self {
        let sysroot = line.sysroot.clone().filter(|root| !root.is_empty() && root != "/");
        let mut libraries = Self {
            context,
            directories: Vec::new(),
            needed_directories: Vec::new(),
            sysroot,
            waiting: line.items.iter().cloned().collect(),
            seen: HashSet::new(),
            placeholders: Vec::new(),
            machine: None,
        };
        let defaults = if line.only_given_directories { &[] } else { defaults };
        for directory in line.directories.iter().chain(defaults) {
            libraries.add_directory(directory);
        }
        libraries.add_needed_directories(line, defaults);
        libraries
    }

    fn add_directory(&mut self, directory: &str) {
        let directory = self.below_sysroot(directory);
        if self.context.directory(&directory).is_some() {
            self.directories.push(directory);
        }
    }

    fn add_needed_directories(&mut self, line: &LinkLine, defaults: &[String]) {
        let mut all: Vec<String> = line.needed_directories.clone();
        for name in ["LD_RUN_PATH", "LD_LIBRARY_PATH"] {
            let value = self.context.variable(name).unwrap_or_default();
            all.extend(value.split(':').filter(|d| !d.is_empty()).map(str::to_owned));
        }
        all.extend(defaults.iter().cloned());
        all.extend(["/lib", "/usr/lib", "/lib64", "/usr/lib64"].map(str::to_owned));
        self.needed_directories = all.iter().map(|d| self.below_sysroot(d)).collect();
    }

    /// `=/usr/lib` and `$SYSROOT/usr/lib` are below the sysroot.
    fn below_sysroot(&self, directory: &str) -> String {
        let rest = directory.strip_prefix('=').or_else(|| directory.strip_prefix("$SYSROOT"));
        match rest {
            Some(rest) => format!("{}{rest}", self.sysroot.as_deref().unwrap_or_default()),
            None => directory.to_owned(),
        }
    }

    /// Shows them all.
    pub(crate) fn collect(mut self) -> Step<()> {
        while let Some(item) = self.waiting.pop_front() {
            match item {
                Item::File(path) => self.file(&path)?,
                Item::Library { name, shared } => self.library(&name, shared)?,
            }
        }
        if self.placeholders.is_empty() { Ok(()) } else { Err(Stop::NeedReal(self.placeholders)) }
    }

    fn file(&mut self, path: &str) -> Step<()> {
        if !self.seen.insert(path.to_owned()) {
            return Ok(());
        }
        let (place, file) = self.context.input(path)?;
        self.look_inside(&place, &file)
    }

    fn library(&mut self, name: &str, shared: bool) -> Step<()> {
        let names = match name.strip_prefix(':') {
            Some(exact) => vec![exact.to_owned()],
            None if shared => vec![format!("lib{name}.so"), format!("lib{name}.a")],
            None => vec![format!("lib{name}.a")],
        };
        for directory in self.directories.clone() {
            for file in &names {
                let path = format!("{directory}/{file}");
                if let Some(place) = self.regular(&path) {
                    self.file(&path)?;
                    // One for another machine is passed over.
                    if self.fits(&place) {
                        return Ok(());
                    }
                }
            }
        }
        // The linker will say that it is missing.
        Err(LocalReason::Missing(format!("-l{name}")).into())
    }

    fn look_inside(&mut self, place: &Place, file: &FileSource) -> Step<()> {
        let name = place.real.rsplit('/').next().unwrap_or_default().to_owned();
        if View::is_placeholder(file) {
            if name.ends_with(".so") || name.contains(".so.") {
                self.placeholders.push((*place.real).into());
            }
            return Ok(());
        }
        let mut head = [0; 8];
        let read = read_head(&place.real, &mut head);
        let head = &head[..read];
        if head == b"!<thin>\n" {
            return Err(LocalReason::ThinArchive(place.real.to_string()).into());
        }
        if head == b"!<arch>\n" || head.starts_with(b"BC\xc0\xde") {
            return Ok(());
        }
        if head.starts_with(b"\x7fELF") {
            return self.elf_file(place);
        }
        self.script(place)
    }

    fn regular(&self, path: &str) -> Option<Place> {
        let place = self.context.view.resolve(self.context.cwd, path);
        place.filter(|place| !place.is_directory)
    }

    /// Could the linker take it? An ELF file for another machine it passes over.
    fn fits(&self, place: &Place) -> bool {
        let Some(machine) = self.machine else { return true };
        elf::needs(Path::new(&*place.real)).is_none_or(|needs| needs.machine == machine)
    }

    fn elf_file(&mut self, place: &Place) -> Step<()> {
        let Some(needs) = elf::needs(Path::new(&*place.real)) else { return Ok(()) };
        self.machine.get_or_insert(needs.machine);
        if needs.kind != object::elf::ET_DYN {
            return Ok(());
        }
        let origin = place.real.rsplit_once('/').map_or("", |(directory, _)| directory);
        let own: Vec<String> = needs.search.iter().map(|d| d.replace("$ORIGIN", origin)).collect();
        for library in &needs.libraries {
            self.needed_library(library, &own)?;
        }
        Ok(())
    }

    /// A missing one is not our error: the linker may not need it.
    fn needed_library(&mut self, name: &str, own: &[String]) -> Step<()> {
        let directories = self.needed_directories.iter().chain(own).cloned();
        for directory in directories.collect::<Vec<_>>() {
            let path = format!("{directory}/{name}");
            if self.regular(&path).is_some_and(|place| self.fits(&place)) {
                return self.file(&path);
            }
        }
        for directory in configured_directories() {
            let path = format!("{directory}/{name}");
            if Path::new(&path).exists() {
                self.context.input("/etc/ld.so.conf")?;
                let reason = LocalReason::Toolchain(format!("{path} is found by ld.so.conf only"));
                return Err(reason.into());
            }
        }
        Ok(())
    }

    fn script(&mut self, place: &Place) -> Step<()> {
        let found = super::stored::regular_file(Path::new(&*place.real)).ok().flatten();
        if found.is_none_or(|metadata| metadata.len() > SCRIPT_BYTES_MAX) {
            return Ok(());
        }
        let bytes = self.context.view.read(&place.real)?;
        let Some(script) = ldscript::parse(&bytes) else { return Ok(()) };
        for directory in &script.directories {
            self.add_directory(directory);
        }
        let beside = place.real.rsplit_once('/').map_or("", |(directory, _)| directory).to_owned();
        for include in &script.includes {
            self.script_file(include, &beside)?;
        }
        for file in &script.files {
            match file.strip_prefix("-l") {
                Some(name) => {
                    let item = Item::Library { name: name.to_owned(), shared: true };
                    self.waiting.push_back(item);
                }
                None => self.script_file(file, &beside)?,
            }
        }
        Ok(())
    }

    /// A script given by `-T` or `INCLUDE`, or a file that a script names: from the working
    /// directory, beside the script, then along the library directories.
    pub(crate) fn script_file(&mut self, name: &str, beside: &str) -> Step<()> {
        let rooted = match (&self.sysroot, name.starts_with('/')) {
            (Some(root), true) => vec![format!("{root}{name}"), name.to_owned()],
            (None, true) => vec![name.to_owned()],
            (_, false) => {
                let mut all = vec![self.below_sysroot(name), format!("{beside}/{name}")];
                all.extend(self.directories.iter().map(|directory| format!("{directory}/{name}")));
                all
            }
        };
        for path in rooted {
            if self.regular(&path).is_some() {
                return self.file(&path);
            }
        }
        Err(LocalReason::Missing(name.to_owned()).into())
    }
}

fn read_head(path: &str, head: &mut [u8; 8]) -> usize {
    use std::io::Read as _;
    std::fs::File::open(path).and_then(|mut file| file.read(head)).unwrap_or(0)
}
