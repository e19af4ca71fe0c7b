//! What a compiler driver is asked to do: `argv` in, [`Invocation`] out. Pure.

use super::reason::{LocalReason, Step};
use super::table::{self, Form, Meaning, PATH_LIKE};

/// How far the driver goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Mode {
    /// To a program: no option given.
    #[default]
    Link,
    /// `-c`
    Object,
    /// `-S`
    Assembly,
    /// `-E`
    Preprocess,
}

/// What a source file is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Language {
    C,
    Cxx,
    CPreprocessed,
    CxxPreprocessed,
    Assembler,
    AssemblerWithCpp,
}

impl Language {
    /// Does it go to the assembler as it is, or preprocessed?
    pub(crate) fn is_assembler(self) -> bool {
        matches!(self, Self::Assembler | Self::AssemblerWithCpp)
    }
}

/// One source of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceFile {
    pub(crate) path: String,
    pub(crate) language: Language,
}

/// A call of a driver, understood.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Invocation {
    pub(crate) mode: Mode,
    pub(crate) sources: Vec<SourceFile>,
    pub(crate) output: Option<String>,
    /// `-iquote`, `-I`, `-isystem`, `-idirafter`, `--embed-dir=`.
    pub(crate) quote: Vec<String>,
    pub(crate) bracket: Vec<String>,
    pub(crate) system: Vec<String>,
    pub(crate) after: Vec<String>,
    pub(crate) embed: Vec<String>,
    /// `-include`, `-imacros`.
    pub(crate) forced: Vec<String>,
    pub(crate) defines: Vec<String>,
    /// `-MD`, `-MMD`, also behind `-Wp,`.
    pub(crate) dependencies: bool,
    pub(crate) dependency_file: Option<String>,
    pub(crate) split_debug: bool,
    pub(crate) coverage_notes: bool,
    pub(crate) stack_usage: bool,
    pub(crate) link_time: bool,
    /// clang starts an assembler, as GCC does.
    pub(crate) external_assembler: bool,
    /// A colour option was given.
    pub(crate) colour: bool,
    /// The words of the command line end up in the output.
    pub(crate) records: bool,
    /// `-march=native` and its like, as written.
    pub(crate) native: Vec<String>,
    /// Options that may change the default search path.
    pub(crate) search_flags: Vec<String>,
    /// Options that may change what is linked by default.
    pub(crate) link_flags: Vec<String>,
    /// `-L`.
    pub(crate) library_directories: Vec<String>,
    /// For the linker, in order: objects, `-l…`, the words of `-Wl,`.
    pub(crate) link_words: Vec<String>,
    /// Debug information is asked for, without which clang ignores `-gsplit-dwarf`.
    pub(crate) debug: bool,
}

impl Invocation {
    /// Is the result what the driver prints (`-E`, `-M` without `-o`)?
    pub(crate) fn prints(&self) -> bool {
        self.mode == Mode::Preprocess && self.output.is_none()
    }
}

/// Understands the words behind `argv[0]`.
pub(crate) fn parse(arguments: &[String], is_cxx: bool) -> Step<Invocation> {
    let mut parser = Parser {
        words: arguments.iter(),
        invocation: Invocation::default(),
        language: None,
        is_cxx,
        is_dependencies_only: false,
    };
    parser.run()?;
    parser.finish()
}

struct Parser<'a> {
    words: std::slice::Iter<'a, String>,
    invocation: Invocation,
    /// What `-x` said last.
    language: Option<Language>,
    is_cxx: bool,
    /// `-M` or `-MM`.
    is_dependencies_only: bool,
}

impl Parser<'_> {
    fn run(&mut self) -> Step<()> {
        while let Some(word) = self.words.next() {
            match word.strip_prefix('-') {
                Some("") => return Err(LocalReason::StandardInput.into()),
                Some(_) => self.option(word)?,
                None => self.file(word)?,
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &str) -> Step<()> {
        match self.language.map_or_else(|| language_of(path, self.is_cxx), |l| Ok(Some(l)))? {
            Some(language) => {
                self.invocation.sources.push(SourceFile { path: path.to_owned(), language });
            }
            None => self.invocation.link_words.push(path.to_owned()),
        }
        Ok(())
    }

    fn option(&mut self, word: &str) -> Step<()> {
        let Some(((name, form, meaning), joined)) = table::row(word) else {
            return Err(LocalReason::UnknownOption(word.to_owned()).into());
        };
        let value = match form {
            Form::Exact => String::new(),
            Form::Prefix => joined.to_owned(),
            Form::Either if !joined.is_empty() => joined.to_owned(),
            Form::Separate | Form::Either => {
                let next = self.words.next();
                next.ok_or_else(|| LocalReason::MissingArgument(word.to_owned()))?.clone()
            }
        };
        let is_separate = form == Form::Separate || (form == Form::Either && joined.is_empty());
        self.apply(Given { word, name, value, is_separate }, meaning)
    }

    fn apply(&mut self, given: Given<'_>, meaning: Meaning) -> Step<()> {
        use Meaning as M;
        self.remember_flag(&given, meaning);
        let call = &mut self.invocation;
        let value = given.value;
        match meaning {
            M::Plain => return plain(given.word),
            M::Search | M::LinkPlain => {}
            M::Question => return Err(LocalReason::Question(given.word.to_owned()).into()),
            M::Local => return Err(LocalReason::Option(given.word.to_owned()).into()),
            M::Preprocess => call.mode = call.mode.max(Mode::Preprocess),
            M::Assembly => call.mode = call.mode.max(Mode::Assembly),
            M::Object => call.mode = call.mode.max(Mode::Object),
            // It implies `-E`, whatever else is asked for.
            M::DependenciesOnly => {
                call.mode = Mode::Preprocess;
                self.is_dependencies_only = true;
            }
            M::Dependencies => call.dependencies = true,
            M::DependencyFile => call.dependency_file = Some(value),
            M::Output => call.output = Some(value),
            M::Language => self.language = language_option(&value)?,
            M::Bracket => call.bracket.push(value),
            M::Quote => call.quote.push(value),
            M::System => call.system.push(value),
            M::After => call.after.push(value),
            M::EmbedDirectory => call.embed.push(value),
            M::ForcedInclude => call.forced.push(value),
            M::Define => call.defines.push(value),
            M::LibraryDirectory => call.library_directories.push(value),
            M::Library => call.link_words.push(format!("-l{value}")),
            M::LinkValue => call.link_words.push(format!("{}{value}", given.name)),
            M::LinkerWords if given.name == "-Xlinker" => call.link_words.push(value),
            M::LinkerWords => call.link_words.extend(value.split(',').map(str::to_owned)),
            M::AssemblerWords => return assembler_words(call, &value),
            M::PreprocessorWords => return preprocessor_words(call, &value),
            M::SplitDebug => call.split_debug = true,
            M::NoSplitDebug => call.split_debug = false,
            M::CoverageNotes => call.coverage_notes = true,
            M::StackUsage => call.stack_usage = true,
            M::ExternalAssembler => call.external_assembler = true,
            M::IntegratedAssembler => call.external_assembler = false,
            M::LinkTime => return link_time(call, &value),
            M::Colour => call.colour = true,
            M::Records => call.records = true,
            M::Native => call.native.push(given.word.to_owned()),
            M::Charset => return charset(given.word, &value),
        }
        Ok(())
    }

    /// Keeps the words that matter when the compiler is asked about itself.
    fn remember_flag(&mut self, given: &Given<'_>, meaning: Meaning) {
        use Meaning as M;
        let call = &mut self.invocation;
        let keep = |list: &mut Vec<String>| {
            list.push(given.word.to_owned());
            if given.is_separate {
                list.push(given.value.clone());
            }
        };
        if matches!(meaning, M::Search | M::Native) {
            keep(&mut call.search_flags);
        }
        let for_link = match meaning {
            M::Plain => is_link_flag(given.word),
            M::Search | M::Native | M::LinkPlain | M::CoverageNotes | M::LinkTime => true,
            _ => false,
        };
        if for_link {
            keep(&mut call.link_flags);
        }
        if given.name == "-g" && meaning == M::Plain {
            call.debug = debug_level(&given.value).unwrap_or(call.debug);
        }
    }

    fn finish(mut self) -> Step<Invocation> {
        let call = &mut self.invocation;
        if self.is_dependencies_only {
            if call.dependencies || call.output.is_some() {
                return Err(LocalReason::Unclear("-M with an output").into());
            }
            call.mode = Mode::Preprocess;
        }
        if call.output.as_deref() == Some("-") || call.dependency_file.as_deref() == Some("-") {
            return Err(LocalReason::StandardOutput("-".to_owned()).into());
        }
        if call.dependency_file.is_some() && !call.dependencies {
            return Err(LocalReason::Unclear("-MF without -MD").into());
        }
        let inputs_to_link = call.link_words.iter().any(|word| !word.starts_with('-'));
        if call.sources.is_empty() && (call.mode != Mode::Link || !inputs_to_link) {
            return Err(LocalReason::Unclear("no input files").into());
        }
        if call.mode != Mode::Link && call.sources.len() > 1 && call.output.is_some() {
            return Err(LocalReason::Unclear("-o with several sources").into());
        }
        if call.mode != Mode::Link && inputs_to_link {
            return Err(LocalReason::Unclear("linker input file unused").into());
        }
        Ok(self.invocation)
    }
}

/// One option as it was given.
struct Given<'a> {
    word: &'a str,
    name: &'static str,
    value: String,
    /// Was the value a word of its own?
    is_separate: bool,
}

/// Does `-g…` turn debug information on or off? None: it says how, not whether.
fn debug_level(value: &str) -> Option<bool> {
    match value {
        "0" | "gdb0" => Some(false),
        ""
        | "1"
        | "2"
        | "3"
        | "full"
        | "limited"
        | "mlt"
        | "line-tables-only"
        | "line-directives-only"
        | "modules" => Some(true),
        value if value.starts_with("gdb") || value.starts_with("dwarf") => Some(true),
        _ => None,
    }
}

/// An option of a family that names no files - unless this one does.
fn plain(word: &str) -> Step<()> {
    let value = word.split_once('=').map_or("", |(_, value)| value);
    let suspicious = word.starts_with("-f") && value.contains('/');
    if suspicious && !PATH_LIKE.iter().any(|known| word.starts_with(known)) {
        return Err(LocalReason::Option(word.to_owned()).into());
    }
    Ok(())
}

/// Does a plain option change which start files and libraries are linked, or how?
fn is_link_flag(word: &str) -> bool {
    matches!(
        word,
        "-p" | "-pg" | "-pthread" | "-pthreads" | "-fPIE" | "-fpie" | "-fno-pie" | "-fPIC"
    ) || [
        "-fopenmp",
        "-fopenacc",
        "-fsanitize",
        "-fprofile-",
        "-fgnu-tm",
        "-ftree-parallelize",
        "-ffast-math",
        "-Ofast",
        "-fsplit-stack",
        "-fcilkplus",
        "-funsafe-math",
        "-fvtable-verify",
        "-fgnu-runtime",
        "-fnext-runtime",
        "-fno-fast-math",
        "-mno-",
        "-fno-openmp",
    ]
    .iter()
    .any(|prefix| word.starts_with(prefix))
}

fn link_time(call: &mut Invocation, value: &str) -> Step<()> {
    if value == "=jobserver" {
        return Err(LocalReason::Option("-flto=jobserver".to_owned()).into());
    }
    // `-flto-partition=` and its like say how, not whether.
    call.link_time |= !value.starts_with('-');
    Ok(())
}

fn charset(word: &str, value: &str) -> Step<()> {
    if value.eq_ignore_ascii_case("utf-8") || value.eq_ignore_ascii_case("utf8") {
        return Ok(());
    }
    Err(LocalReason::Option(word.to_owned()).into())
}

/// `-Wa,…`: only words that read and write nothing.
fn assembler_words(call: &mut Invocation, words: &str) -> Step<()> {
    let mut words = words.split(',');
    while let Some(word) = words.next() {
        match word {
            "-I" => call.bracket.extend(words.next().map(str::to_owned)),
            "--defsym" => drop(words.next()),
            word if word.starts_with("-I") => call.bracket.push(word[2..].to_owned()),
            word if super::model::is_harmless_for_as(word) => {}
            word => return Err(LocalReason::Option(format!("-Wa,{word}")).into()),
        }
    }
    Ok(())
}

/// `-Wp,…`: macros and dependency files.
fn preprocessor_words(call: &mut Invocation, words: &str) -> Step<()> {
    let mut words = words.split(',');
    while let Some(word) = words.next() {
        match word {
            "-MD" | "-MMD" => {
                let file = words.next();
                let file = file.ok_or_else(|| LocalReason::MissingArgument(word.to_owned()))?;
                call.dependencies = true;
                call.dependency_file = Some(file.to_owned());
            }
            "-MP" => {}
            "-MT" | "-MQ" => drop(words.next()),
            word if word.starts_with("-D") && word.len() > 2 => {
                call.defines.push(word[2..].to_owned());
            }
            word if word.starts_with("-U") && word.len() > 2 => {}
            word => return Err(LocalReason::Option(format!("-Wp,{word}")).into()),
        }
    }
    Ok(())
}

/// What `-x` says. None for `none`: by suffix again.
fn language_option(name: &str) -> Step<Option<Language>> {
    Ok(Some(match name {
        "none" => return Ok(None),
        "c" => Language::C,
        "c++" => Language::Cxx,
        "cpp-output" => Language::CPreprocessed,
        "c++-cpp-output" => Language::CxxPreprocessed,
        "assembler" => Language::Assembler,
        "assembler-with-cpp" => Language::AssemblerWithCpp,
        header if header.ends_with("-header") => {
            return Err(LocalReason::PrecompiledHeader(format!("-x {header}")).into());
        }
        other => return Err(LocalReason::Language(format!("-x {other}")).into()),
    }))
}

/// What a suffix says. None: the linker's.
fn language_of(path: &str, is_cxx: bool) -> Step<Option<Language>> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let Some((_, suffix)) = name.rsplit_once('.') else { return Ok(None) };
    Ok(Some(match suffix {
        "c" if is_cxx => Language::Cxx,
        "c" => Language::C,
        "i" if is_cxx => Language::CxxPreprocessed,
        "i" => Language::CPreprocessed,
        "cc" | "cp" | "cxx" | "cpp" | "CPP" | "c++" | "C" => Language::Cxx,
        "ii" => Language::CxxPreprocessed,
        "s" => Language::Assembler,
        "S" | "sx" => Language::AssemblerWithCpp,
        "h" | "hh" | "H" | "hp" | "hxx" | "hpp" | "HPP" | "h++" | "tcc" => {
            return Err(LocalReason::PrecompiledHeader(path.to_owned()).into());
        }
        "m" | "mi" | "mm" | "M" | "mii" | "f" | "for" | "ftn" | "F" | "FOR" | "fpp" | "FPP"
        | "FTN" | "f90" | "f95" | "f03" | "f08" | "F90" | "F95" | "F03" | "F08" | "go" | "d"
        | "di" | "dd" | "adb" | "ads" | "r" | "brig" | "cu" | "cl" | "bc" | "ll" | "cppm"
        | "ixx" | "gch" | "pch" | "pcm" | "mod" => {
            return Err(LocalReason::Language(path.to_owned()).into());
        }
        _ => return Ok(None),
    }))
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
