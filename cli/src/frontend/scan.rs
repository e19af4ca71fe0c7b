//! The include scanner: every file that a translation unit may read.
//!
//! It follows each `#include` of each reached file whatever `#if` it stands in, along the search
//! path of the compiler, and shows what it finds. So it reaches more than the preprocessor will
//! read, never less - with two exceptions, both handled: an include whose name is computed by
//! macros (all definitions seen are candidates; if that does not settle it, the compiler's own
//! `-M` answers), and `__has_include` of such a name (the call runs locally). What a definition asks
//! for is looked up from everywhere, and so is what macros are called with that ask (see
//! [`askers`]).

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mesh_protocol::name::ValueName;
use mesh_protocol::thunk::Source;

use super::askers::{self, Uses};
use super::context::Context;
use super::identity::Stamp;
use super::lex::{self, AsmFile, Directive, Directives, Operand, Text};
use super::macros::{self, Macros, Meaning};
use super::plan::FileSource;
use super::reason::{LocalReason, Step, Stop};
use super::view::{DirId, Place, View};

/// Where headers are looked for, directories that exist only, each once.
#[derive(Debug, Clone, Default)]
pub(crate) struct SearchPath {
    /// For `"…"` only, behind the includer's own directory.
    pub(crate) quote: Vec<DirId>,
    /// For both forms.
    pub(crate) bracket: Vec<DirId>,
    /// For the assembler's own directives, behind the working directory.
    pub(crate) assembler: Vec<DirId>,
    /// For `#embed`.
    pub(crate) embed: Vec<DirId>,
}

/// One scan of one translation unit.
pub(crate) struct Scan<'s, 'a> {
    context: &'s mut Context<'a>,
    search: &'s SearchPath,
    /// The definitions of the command line, as they would stand in a file.
    given: &'s str,
    waiting: Vec<(DirId, Rc<str>, FileSource, Text)>,
    reached: HashSet<(DirId, Rc<str>)>,
    /// Includes that were looked up already: from where, which directive, what.
    asked: HashSet<(Option<DirId>, Directive, Operand)>,
    computed: Vec<(DirId, Directive, Operand)>,
    /// What definitions ask for, and macros that ask for what they are given.
    asked_anywhere: HashSet<Operand>,
    askers: HashSet<Box<str>>,
    files: Vec<(Rc<str>, FileSource)>,
    clock_allowed: bool,
    /// Contents of which two files may count as one.
    merged: Merged,
}

/// Contents of which two files may count as one.
///
/// GCC takes two files for the same if one of them is to be read once and both have the same
/// size, time and content; clang, if they have the same inode. In a sandbox files of the same
/// content have the same time, and often the same inode.
#[derive(Debug, Default)]
enum Merged {
    #[default]
    None,
    Of(HashSet<ValueName>),
    All,
}

impl Merged {
    fn add(&mut self, content: ValueName) {
        match self {
            Self::None => *self = Self::Of(HashSet::from([content])),
            Self::Of(contents) => drop(contents.insert(content)),
            Self::All => {}
        }
    }

    fn contains(&self, content: &ValueName) -> bool {
        match self {
            Self::None => false,
            Self::Of(contents) => contents.contains(content),
            Self::All => true,
        }
    }
}

impl<'s, 'a> Scan<'s, 'a> {
    pub(crate) fn new(
        context: &'s mut Context<'a>,
        search: &'s SearchPath,
        given: &'s str,
    ) -> Self {
        let clock_allowed = context.variable("SOURCE_DATE_EPOCH").is_some();
        Self {
            context,
            search,
            given,
            waiting: Vec::new(),
            reached: HashSet::new(),
            asked: HashSet::new(),
            computed: Vec::new(),
            asked_anywhere: HashSet::new(),
            askers: HashSet::new(),
            files: Vec::new(),
            clock_allowed,
            merged: Merged::None,
        }
    }

    /// The compiler knows files by their inodes.
    pub(crate) fn by_inode(mut self) -> Self {
        self.merged = Merged::All;
        self
    }

    /// The source itself.
    pub(crate) fn source(&mut self, path: &str, text: Text) -> Step<()> {
        let (place, file) = self.context.input(path)?;
        self.enqueue(&place, file, text);
        Ok(())
    }

    /// `-include`, `-imacros`: from the working directory, then as `"…"`.
    pub(crate) fn forced(&mut self, name: &str) -> Step<()> {
        let cwd = self.context.cwd;
        self.include(cwd, Directive::Include, &Operand::Quote(name.into()))
    }

    /// What the compiler includes by itself, if it is there.
    pub(crate) fn preincluded(&mut self, name: &str) -> Step<()> {
        let cwd = self.context.cwd;
        self.include(cwd, Directive::Include, &Operand::Angle(name.into()))
    }

    /// Follows everything. `ask_compiler` runs its `-M`, and gives the files it lists.
    pub(crate) fn run(
        mut self,
        ask_compiler: impl Fn(&Context<'a>) -> Step<Vec<String>>,
    ) -> Step<()> {
        let given = lex::directives(self.given.as_bytes(), Text::C);
        let cwd = self.context.cwd;
        self.obey(cwd, "the command line", &given)?;
        loop {
            while let Some((directory, real, file, text)) = self.waiting.pop() {
                self.follow(directory, &real, &file, text)?;
                self.files.push((real, file));
            }
            self.look_for_asked()?;
            if !self.waiting.is_empty() {
                continue;
            }
            if self.computed.is_empty() {
                return self.check_twins();
            }
            if !self.resolve_computed()? {
                self.context.caches.dependency_runs.fetch_add(1, Ordering::Relaxed);
                for path in ask_compiler(self.context)? {
                    let place = self.context.place(&path)?;
                    let file = self.context.view.add(&place, true)?;
                    self.enqueue(&place, file, Text::C);
                }
                self.computed.clear();
            }
        }
    }

    /// Refuses two files that are one for the compiler in a sandbox, but not here.
    fn check_twins(&self) -> Step<()> {
        let mut known: HashMap<ValueName, &Rc<str>> = HashMap::new();
        for (real, file) in &self.files {
            let Source::Value(content) = file.source else { continue };
            if !self.merged.contains(&content) {
                continue;
            }
            let first = *known.entry(content).or_insert(real);
            let inode = |path: &Rc<str>| Stamp::at(&**path).map(|stamp| stamp.inode());
            if first != real && inode(first) != inode(real) {
                return Err(LocalReason::Twins(first.to_string(), real.to_string()).into());
            }
        }
        Ok(())
    }

    fn enqueue(&mut self, place: &Place, file: FileSource, text: Text) {
        if self.reached.insert((place.includer, Rc::clone(&place.real))) {
            self.waiting.push((place.includer, Rc::clone(&place.real), file, text));
        }
    }

    fn follow(&mut self, at: DirId, real: &Rc<str>, file: &FileSource, text: Text) -> Step<()> {
        let directives = self.context.directives(real, file, text)?;
        if let Source::Value(content) = file.source
            && directives.once
        {
            self.merged.add(content);
        }
        self.obey(at, real, &directives)
    }

    /// Follows what stands in a text that is read at `at`.
    fn obey(&mut self, at: DirId, real: &str, directives: &Directives) -> Step<()> {
        if directives.timestamp {
            return Err(LocalReason::Timestamp(real.to_owned()).into());
        }
        if let Some(macro_name) = directives.clock.filter(|_| !self.clock_allowed) {
            return Err(LocalReason::Clock { macro_name, file: real.to_owned() }.into());
        }
        if directives.once_elsewhere {
            self.merged = Merged::All;
        }
        self.asked_anywhere.extend(directives.asked.iter().cloned());
        self.askers.extend(directives.askers.iter().cloned());
        for (directive, operand) in &directives.includes {
            match operand {
                Operand::Macro(_) | Operand::Opaque => {
                    self.computed.push((at, *directive, operand.clone()));
                }
                operand => self.include(at, *directive, operand)?,
            }
        }
        for file in &directives.assembler {
            self.assembler_file(real, file)?;
        }
        Ok(())
    }

    /// Looks up what macros ask for, from each directory of which a file is read.
    fn look_for_asked(&mut self) -> Step<()> {
        let mut asked: Vec<Operand> = self.asked_anywhere.iter().cloned().collect();
        if !self.askers.is_empty() {
            let mut uses = vec![Arc::new(askers::uses(self.given.as_bytes()))];
            for (real, file) in &self.files {
                uses.push(self.context.uses(real, file)?);
            }
            let uses: Vec<&Uses> = uses.iter().map(Arc::as_ref).collect();
            match askers::asked(&uses, &self.askers) {
                Some(more) => asked.extend(more),
                None => return Err(self.computed_at(self.context.cwd)),
            }
        }
        if asked.is_empty() {
            return Ok(());
        }
        let directories: HashSet<DirId> = self.reached.iter().map(|(at, _)| *at).collect();
        for operand in self.named(&asked)? {
            for at in &directories {
                self.include(*at, Directive::Has, &operand)?;
            }
        }
        Ok(())
    }

    /// The files that these stand for. A parameter is no macro; what it is given is asked for, too.
    fn named(&self, asked: &[Operand]) -> Step<Vec<Operand>> {
        let is_literal =
            |operand: &Operand| matches!(operand, Operand::Quote(_) | Operand::Angle(_));
        if asked.iter().all(is_literal) {
            return Ok(asked.to_vec());
        }
        let tables = self.tables()?;
        let all: Vec<&Macros> = tables.iter().map(Arc::as_ref).collect();
        let mut named = Vec::new();
        for operand in asked {
            match operand {
                Operand::Quote(_) | Operand::Angle(_) => named.push(operand.clone()),
                Operand::Opaque => return Err(self.computed_at(self.context.cwd)),
                Operand::Macro(name) => match macros::meaning(&all, name) {
                    Meaning::Headers(headers) => named.extend(headers),
                    Meaning::Undefined => {}
                    Meaning::Unclear => return Err(self.computed_at(self.context.cwd)),
                },
            }
        }
        Ok(named)
    }

    fn computed_at(&self, at: DirId) -> Stop {
        LocalReason::ComputedInclude(self.context.view.path_of(at).to_string()).into()
    }

    /// All definitions that have been seen.
    fn tables(&self) -> Step<Vec<Arc<Macros>>> {
        let mut tables = vec![Arc::new(macros::macros(self.given.as_bytes()))];
        for (real, file) in &self.files {
            tables.push(self.context.macros(real, file)?);
        }
        Ok(tables)
    }

    fn include(&mut self, at: DirId, directive: Directive, operand: &Operand) -> Step<()> {
        let (name, from) = match operand {
            Operand::Quote(name) => (name, Some(at)),
            Operand::Angle(name) => (name, None),
            Operand::Macro(_) | Operand::Opaque => return Ok(()),
        };
        let question = (from, directive, operand.clone());
        if self.asked.contains(&question) || name.is_empty() {
            return Ok(());
        }
        self.asked.insert(question);
        let search = self.search;
        let embed = if directive == Directive::Embed { &search.embed[..] } else { &[] };
        let quote = if from.is_some() { &search.quote[..] } else { &[] };
        let list = from.iter().chain(embed).chain(quote).chain(&search.bracket);
        for directory in list {
            let Some(place) = self.look(*directory, name)? else { continue };
            let is_text = directive != Directive::Embed;
            let file = self.context.view.add(&place, is_text)?;
            if is_text {
                self.enqueue(&place, file, Text::C);
            }
            // The next one may be any later one: whoever includes it was found somewhere on the
            // path, and where does not matter if all are there.
            if directive != Directive::IncludeNext {
                break;
            }
        }
        Ok(())
    }

    /// Looks for a file in one directory of the path.
    fn look(&self, directory: DirId, name: &str) -> Step<Option<Place>> {
        let view = &self.context.view;
        let is_simple = !name.contains('/');
        if is_simple && view.has_gch(directory, name) {
            return Err(LocalReason::PrecompiledHeader(format!("{name}.gch")).into());
        }
        if is_simple && view.kind(directory, name).is_none() {
            return Ok(None);
        }
        let place = view.resolve(directory, name).filter(|place| !place.is_directory);
        if let Some(place) = &place
            && !is_simple
        {
            let leaf = name.rsplit('/').next().unwrap_or(name);
            if view.has_gch(place.includer, leaf) {
                return Err(LocalReason::PrecompiledHeader(format!("{name}.gch")).into());
            }
        }
        Ok(place)
    }

    fn assembler_file(&mut self, real: &str, file: &AsmFile) -> Step<()> {
        let (name, is_text) = match file {
            AsmFile::Binary(name) => (name, false),
            AsmFile::Text(name) => (name, true),
            AsmFile::Opaque => return Err(LocalReason::ComputedInclude(real.to_owned()).into()),
        };
        let directories = std::iter::once(&self.context.cwd).chain(&self.search.assembler);
        let view = &self.context.view;
        let found = directories
            .filter_map(|directory| view.resolve(*directory, name))
            .find(|place| !place.is_directory);
        if let Some(place) = found {
            let file = self.context.view.add(&place, false)?;
            if is_text {
                self.enqueue(&place, file, Text::Assembler);
            }
        }
        Ok(())
    }

    /// Looks up the computed includes that macros settle. False if one is left.
    fn resolve_computed(&mut self) -> Step<bool> {
        let tables = self.tables()?;
        let all: Vec<&Macros> = tables.iter().map(Arc::as_ref).collect();
        let mut settled = true;
        let mut undefined = Vec::new();
        for (at, directive, operand) in std::mem::take(&mut self.computed) {
            let meaning = match &operand {
                Operand::Macro(name) => macros::meaning(&all, name),
                _ => Meaning::Unclear,
            };
            match meaning {
                Meaning::Headers(headers) => {
                    for header in headers {
                        self.include(at, directive, &header)?;
                    }
                }
                Meaning::Undefined => undefined.push((at, directive, operand)),
                Meaning::Unclear if matches!(directive, Directive::Has | Directive::Embed) => {
                    return Err(self.computed_at(at));
                }
                Meaning::Unclear => settled = false,
            }
        }
        // A header that was just found may define them.
        if !self.waiting.is_empty() {
            self.computed = undefined;
        }
        Ok(settled)
    }
}

/// The files that a rule printed by `-M` depends on.
pub(crate) fn dependencies_in(rule: &str) -> Vec<String> {
    let Some((_, list)) = rule.split_once(": ") else { return Vec::new() };
    let mut files = Vec::new();
    let mut file = String::new();
    let mut characters = list.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, characters.peek()) {
            ('\\', Some(' ' | '#')) | ('$', Some('$')) => file.extend(characters.next()),
            ('\\', Some('\n')) => {}
            (' ' | '\n' | '\t', _) => files.push(std::mem::take(&mut file)),
            (other, _) => file.push(other),
        }
    }
    files.push(file);
    files.retain(|file| !file.is_empty());
    files
}

/// Directories of a search path as they exist, each once: an `-I` that repeats a system directory
/// counts as that (GCC manual, "Directory Options").
pub(crate) fn without_repeats(view: &View<'_>, user: Vec<DirId>, system: Vec<DirId>) -> Vec<DirId> {
    let is_system: HashSet<Rc<str>> = system.iter().map(|id| view.path_of(*id)).collect();
    let user = user.into_iter().filter(|id| !is_system.contains(&view.path_of(*id)));
    let mut seen = HashSet::new();
    user.chain(system.iter().copied()).filter(|id| seen.insert(*id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_make() {
        let rule = "x.o: a.c b\\ c.h \\\n d$$e.h f\\#g.h\n";
        assert_eq!(dependencies_in(rule), ["a.c", "b c.h", "d$e.h", "f#g.h"]);
        assert!(dependencies_in("").is_empty());
    }
}
