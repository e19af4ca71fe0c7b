//! The compiler drivers: gcc, g++, cc, c++, clang, clang++.
//!
//! One call is one thunk, whatever it does: preprocess to a file, compile, assemble, link, or all
//! of it at once. The driver itself runs in the thunk with the very arguments of the call, so
//! that its dependency files and diagnostics are its own.

use std::path::{Path, PathBuf};

use rustix::fs::Access;

use super::super::context::{Context, Draft, OutputKind};
use super::super::environment::{For, environment};
use super::super::lex::Text;
use super::super::macros;
use super::super::native;
use super::super::options::{self, Invocation, Language, Mode};
use super::super::outputs::{self, Expected};
use super::super::plan::PlannedThunk;
use super::super::probe::{Compiler, words as words_of};
use super::super::reason::{LocalReason, Step};
use super::super::scan::{self, Scan, SearchPath};
use super::super::search::{SearchLanguage, default_directories};
use super::super::tool::Tool;
use super::super::writing::Writing;
use super::super::{closure, ldargs};
use super::{check_probe, check_temporary, ld};

/// What glibc has every translation unit include.
const PREINCLUDED: &str = "stdc-predef.h";

/// Programs that stand before the compiler, under its name.
const LAUNCHERS: &[&str] = &["ccache", "sccache", "distcc", "icecc", "colorgcc"];

pub(super) fn plan(
    mut context: Context<'_>,
    words: Vec<String>,
    is_cxx: bool,
) -> Step<PlannedThunk> {
    let call = options::parse(&words, is_cxx)?;
    check_sources(&context, &call)?;
    pass_launchers(&mut context)?;
    let compiler = Compiler::at(&context.program)?;
    let kind = CompilerKind::of(&context, &compiler)?;
    kind.check(&call)?;
    kind.check_temporary_directory(&context)?;
    let purpose = if call.mode == Mode::Link { For::Link } else { For::Compile };
    let environment = environment(&mut context, purpose)?;
    let words = native::spell_out(&context, &compiler, &words, &call.native)?;
    headers(&mut context, &compiler, kind, &call, &words)?;
    toolchain(&mut context, &compiler, kind, &call)?;
    if call.mode == Mode::Link {
        link(&mut context, &compiler, &call)?;
    }
    for expected in outputs::expected(&call).into_iter().filter(|it| kind.leaves(&call, it)) {
        let writing = kind.writing(&call, &expected);
        let kind = OutputKind { required: expected.required, executable: false, writing };
        context.output(expected.tag, &expected.path, kind)?;
    }
    // A driver that only assembles or links would warn that it is not used.
    let diagnoses = call.sources.iter().any(|source| source.language != Language::Assembler);
    let colour = diagnoses && !(call.colour || call.records || call.link_time);
    let mut arguments = vec![context.program.to_string_lossy().into_owned()];
    arguments.extend(colour.then(|| super::COLOUR.to_owned()));
    arguments.extend(words);
    let description = describe(&call);
    context.finish(Draft { arguments, environment, strip_colour_unless_tty: colour, description })
}

fn describe(call: &Invocation) -> String {
    let sources: Vec<&str> = call.sources.iter().map(|source| source.path.as_str()).collect();
    match (call.mode, &call.output) {
        (Mode::Link, output) => format!("link {}", output.as_deref().unwrap_or("a.out")),
        (Mode::Preprocess, _) => format!("cpp {}", sources.join(" ")),
        _ if call.sources.iter().all(|source| source.language == Language::Cxx) => {
            format!("c++ {}", sources.join(" "))
        }
        _ => format!("cc {}", sources.join(" ")),
    }
}

fn check_sources(context: &Context<'_>, call: &Invocation) -> Step<()> {
    let objects = call.link_words.iter().filter(|word| !word.starts_with('-'));
    let sources = call.sources.iter().map(|source| &source.path);
    for path in sources.clone().chain(objects).chain(&call.output) {
        check_probe(path)?;
    }
    sources.into_iter().try_for_each(|path| check_temporary(context, path))
}

/// If the program found on `PATH` is a compiler cache or the like, takes the compiler behind it.
fn pass_launchers(context: &mut Context<'_>) -> Step<()> {
    let name = context.program.file_name().map(ToOwned::to_owned).unwrap_or_default();
    if !is_launcher(&context.program) {
        return Ok(());
    }
    let directories = context.path.split(':').filter(|d| d.starts_with('/'));
    let candidates = directories.map(|directory| Path::new(directory).join(&name));
    let behind = candidates
        .filter(|path| super::super::tool::is_program(path))
        .find(|path| !is_launcher(path));
    context.program = behind.ok_or_else(|| {
        LocalReason::Toolchain(format!("no compiler behind {}", context.program.display()))
    })?;
    Ok(())
}

fn is_launcher(program: &Path) -> bool {
    let real = program.canonicalize().unwrap_or_else(|_| PathBuf::from(program));
    let name = real.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    LAUNCHERS.contains(&name)
}

/// Who made the compiler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CompilerKind {
    Gcc,
    Clang,
}

impl CompilerKind {
    fn of(context: &Context<'_>, compiler: &Compiler) -> Step<Self> {
        let path = context.program.to_string_lossy().into_owned();
        if closure::is_script(&path) {
            return Err(LocalReason::Script(path).into());
        }
        let answer = context.prober().ask(compiler, &["--version"])?;
        if answer.stdout.contains("clang version") {
            Ok(Self::Clang)
        } else if answer.stdout.contains("Free Software Foundation") {
            Ok(Self::Gcc)
        } else {
            let name = compiler.program.display();
            Err(LocalReason::Toolchain(format!("{name} is neither GCC nor clang")).into())
        }
    }

    /// Without a usable directory for its temporary files clang gives up, where GCC takes another.
    fn check_temporary_directory(self, context: &Context<'_>) -> Step<()> {
        let variables = ["TMPDIR", "TMP", "TEMP", "TEMPDIR"];
        let mut given = variables.iter().filter_map(|name| Some((name, context.variable(name)?)));
        match given.next() {
            Some((name, directory))
                if self == Self::Clang
                    && rustix::fs::access(directory, Access::WRITE_OK | Access::EXEC_OK)
                        .is_err() =>
            {
                Err(LocalReason::Environment((*name).to_owned()).into())
            }
            _ => Ok(()),
        }
    }

    /// Combinations whose outputs nobody here has names for.
    fn check(self, call: &Invocation) -> Step<()> {
        let beside = call.coverage_notes || call.stack_usage || call.split_debug;
        if call.mode == Mode::Link && call.link_time && beside {
            return Err(LocalReason::Unclear("link-time optimisation with outputs beside").into());
        }
        if self == Self::Clang && call.mode == Mode::Link && beside && !call.sources.is_empty() {
            return Err(LocalReason::Unclear("clang links with outputs beside").into());
        }
        Ok(())
    }

    /// Does this compiler leave an output that compilers leave in general?
    fn leaves(self, call: &Invocation, output: &Expected) -> bool {
        // clang itself leaves none without debug information; the assembler's text has always one.
        let is_assembled = call.external_assembler || output.language.is_assembler();
        let splits = is_assembled || call.debug && !call.link_time;
        self == Self::Gcc || output.tag != "dwo" || splits
    }

    /// How an output is written, unless it is that of a link.
    fn writing(self, call: &Invocation, output: &Expected) -> Writing {
        let is_object = output.tag == "out" && call.mode == Mode::Object;
        match (self, output.tag) {
            (Self::Gcc, "out") if is_object => Writing::ReplaceUnlessEmpty,
            // objcopy writes it.
            (Self::Gcc, "dwo") => Writing::ReplaceUnlessEmpty,
            (Self::Clang, "out") if is_object && call.external_assembler => {
                Writing::ReplaceUnlessEmpty
            }
            (Self::Clang, "out") if is_object && output.language.is_assembler() => Writing::InPlace,
            (Self::Clang, "out") => Writing::Replace,
            _ => Writing::InPlace,
        }
    }
}

/// Shows every header that the sources may read.
fn headers(
    context: &mut Context<'_>,
    compiler: &Compiler,
    kind: CompilerKind,
    call: &Invocation,
    words: &[String],
) -> Step<()> {
    let mut given = String::new();
    for definition in &call.defines {
        check_clock(context, definition)?;
        given.push_str(&macros::directive_of_option(definition));
    }
    let mut searches: Vec<(SearchLanguage, SearchPath)> = Vec::new();
    for source in &call.sources {
        let (language, text, preprocessed) = match source.language {
            Language::C => (SearchLanguage::C, Text::C, true),
            Language::Cxx => (SearchLanguage::Cxx, Text::C, true),
            Language::AssemblerWithCpp => {
                (SearchLanguage::Assembler, Text::PreprocessedAssembler, true)
            }
            Language::CPreprocessed | Language::CxxPreprocessed => {
                (SearchLanguage::C, Text::C, false)
            }
            Language::Assembler => (SearchLanguage::Assembler, Text::Assembler, false),
        };
        if !searches.iter().any(|(known, _)| *known == language) {
            let search = if preprocessed {
                search_path(context, compiler, call, language)?
            } else {
                SearchPath { assembler: directories(context, &call.bracket), ..Default::default() }
            };
            searches.push((language, search));
        }
        let Some((_, search)) = searches.iter().find(|(known, _)| *known == language) else {
            continue;
        };
        let mut scan = Scan::new(context, search, &given);
        if kind == CompilerKind::Clang {
            scan = scan.by_inode();
        }
        scan.source(&source.path, text)?;
        if preprocessed {
            scan.preincluded(PREINCLUDED)?;
            for name in &call.forced {
                scan.forced(name)?;
            }
        }
        let path = source.path.clone();
        scan.run(|context| ask_dependencies(context, words, call, &path))?;
    }
    Ok(())
}

fn check_clock(context: &Context<'_>, definition: &str) -> Step<()> {
    let file = || format!("-D{definition}");
    if definition.contains("__TIMESTAMP__") {
        return Err(LocalReason::Timestamp(file()).into());
    }
    let clock = ["__DATE__", "__TIME__"].into_iter().find(|name| definition.contains(name));
    match clock {
        Some(macro_name) if context.variable("SOURCE_DATE_EPOCH").is_none() => {
            Err(LocalReason::Clock { macro_name, file: file() }.into())
        }
        _ => Ok(()),
    }
}

fn directories(context: &mut Context<'_>, list: &[String]) -> Vec<super::super::view::DirId> {
    list.iter().filter_map(|directory| context.directory(directory)).collect()
}

fn search_path(
    context: &mut Context<'_>,
    compiler: &Compiler,
    call: &Invocation,
    language: SearchLanguage,
) -> Step<SearchPath> {
    let defaults = default_directories(&context.prober(), compiler, language, &call.search_flags)?;
    let list = |value: Option<&str>| -> Vec<String> {
        let parts = value.into_iter().flat_map(|value| value.split(':'));
        parts.map(|part| if part.is_empty() { "." } else { part }.to_owned()).collect()
    };
    let by_language = match language {
        SearchLanguage::Cxx => "CPLUS_INCLUDE_PATH",
        SearchLanguage::C | SearchLanguage::Assembler => "C_INCLUDE_PATH",
    };
    let sysroot = sysroot(&call.search_flags);
    let rooted = |list: &[String]| -> Vec<String> {
        let below = |path: &String| {
            let rest = path.strip_prefix('=').or_else(|| path.strip_prefix("$SYSROOT"));
            rest.map_or_else(|| path.clone(), |rest| format!("{sysroot}{rest}"))
        };
        list.iter().map(below).collect()
    };
    let quote = directories(context, &rooted(&call.quote));
    let assembler = directories(context, &call.bracket);
    let mut user = directories(context, &rooted(&call.bracket));
    user.extend(directories(context, &list(context.variable("CPATH"))));
    let mut system = directories(context, &rooted(&call.system));
    system.extend(directories(context, &list(context.variable(by_language))));
    let default_ids = directories(context, &defaults);
    for id in &default_ids {
        let path = context.view.path_of(*id);
        if !context.anchors.contains(&path) {
            context.anchors.push(path);
        }
    }
    system.extend(default_ids);
    system.extend(directories(context, &rooted(&call.after)));
    let embed = directories(context, &call.embed);
    let bracket = scan::without_repeats(&context.view, user, system);
    Ok(SearchPath { quote, bracket, assembler, embed })
}

fn sysroot(flags: &[String]) -> String {
    let mut root = String::new();
    let mut flags = flags.iter();
    while let Some(flag) = flags.next() {
        match flag.as_str() {
            "--sysroot" | "-isysroot" => root = flags.next().cloned().unwrap_or_default(),
            other => {
                let joined = other.strip_prefix("--sysroot=").or(other.strip_prefix("-isysroot"));
                root = joined.map_or(root, str::to_owned);
            }
        }
    }
    root
}

/// Lets the compiler itself list what one source depends on.
fn ask_dependencies(
    context: &Context<'_>,
    words: &[String],
    call: &Invocation,
    source: &str,
) -> Step<Vec<String>> {
    let mut arguments: Vec<&str> = Vec::new();
    let mut rest = words.iter().map(String::as_str);
    while let Some(word) = rest.next() {
        match word {
            "-c" | "-S" | "-E" | "-MD" | "-MMD" | "-MP" => {}
            "-o" | "-MF" | "-MT" | "-MQ" => drop(rest.next()),
            _ if ["-o", "-MF", "-MT", "-MQ", "-Wp,-M"].iter().any(|p| word.starts_with(p)) => {}
            _ if word != source && call.sources.iter().any(|other| other.path == word) => {}
            _ => arguments.push(word),
        }
    }
    arguments.push("-M");
    let cwd = context.view.path_of(context.cwd);
    let answer = context.prober().run_as_called(&context.program, &arguments, Path::new(&*cwd))?;
    if !answer.success {
        return Err(LocalReason::ComputedInclude(source.to_owned()).into());
    }
    Ok(scan::dependencies_in(&answer.stdout))
}

/// Adds the programs that the driver starts.
fn toolchain(
    context: &mut Context<'_>,
    compiler: &Compiler,
    kind: CompilerKind,
    call: &Invocation,
) -> Step<()> {
    if kind == CompilerKind::Clang {
        return clang_installation(context, compiler, call);
    }
    for source in &call.sources {
        match source.language {
            Language::Cxx | Language::CxxPreprocessed => {
                program(context, compiler, "cc1plus")?;
            }
            Language::C | Language::CPreprocessed | Language::AssemblerWithCpp => {
                program(context, compiler, "cc1")?;
            }
            Language::Assembler => {}
        }
    }
    let assembles = matches!(call.mode, Mode::Object | Mode::Link) && !call.sources.is_empty();
    if assembles {
        program(context, compiler, "as")?;
        if call.split_debug {
            program(context, compiler, "objcopy")?;
        }
    }
    // Asked for dependencies only, the driver looks for it as if it were to link.
    if call.link_time && call.mode != Mode::Preprocess || call.prints() {
        gcc_file(context, compiler, "liblto_plugin.so")?;
    }
    Ok(())
}

/// A program as the driver finds it: in its own directories, else along `PATH`.
fn program(context: &mut Context<'_>, compiler: &Compiler, name: &str) -> Step<PathBuf> {
    let option = format!("-print-prog-name={name}");
    let found = context.prober().line(compiler, &[&option])?.unwrap_or_else(|| name.to_owned());
    context.require_program(&found)
}

/// A file of the compiler's own directory, if it has it.
fn gcc_file(context: &mut Context<'_>, compiler: &Compiler, name: &str) -> Step<()> {
    let option = format!("-print-file-name={name}");
    let found = context.prober().line(compiler, &[&option])?;
    if let Some(path) = found.filter(|path| path.starts_with('/') && Path::new(path).exists()) {
        context.roots.insert(path.into());
    }
    Ok(())
}

/// clang compiles and assembles by itself; it looks for a GCC installation to take headers and
/// start files from, and must find the same one in the sandbox.
fn clang_installation(
    context: &mut Context<'_>,
    compiler: &Compiler,
    call: &Invocation,
) -> Step<()> {
    let mut arguments: Vec<&str> = call.search_flags.iter().map(String::as_str).collect();
    arguments.extend(["-E", "-v", "-x", "c++", "/dev/null"]);
    let answer = context.prober().ask(compiler, &arguments)?;
    let selected =
        answer.stderr.lines().find_map(|l| l.strip_prefix("Selected GCC installation: "));
    if let Some(directory) = selected {
        for name in ["crtbegin.o", "32/crtbegin.o", "x32/crtbegin.o"] {
            let path = Path::new(directory).join(name);
            if path.exists() {
                context.roots.insert(path);
            }
        }
    }
    let mut languages = call.sources.iter().map(|source| source.language);
    let is_assembly = languages.any(|language| language == Language::Assembler);
    if call.external_assembler || call.split_debug || is_assembly {
        // Old versions start these where `-fno-integrated-as` was not given, too.
        for name in ["as", "objcopy"] {
            program(context, compiler, name)?;
        }
    }
    Ok(())
}

/// Shows everything that the link reads.
///
/// The driver's own words for the linker (start files, directories, libraries, plugin) come from
/// one `-###` with a stand-in for the inputs; the words of the call take its place.
fn link(context: &mut Context<'_>, compiler: &Compiler, call: &Invocation) -> Step<()> {
    const STAND_IN: &str = "/dev/null";
    let mut arguments: Vec<&str> = vec!["-###", "-o", "a.out"];
    arguments.extend(call.link_flags.iter().map(String::as_str));
    arguments.push(STAND_IN);
    let answer = context.prober().ask(compiler, &arguments)?;
    let line = answer.stderr.lines().rfind(|line| line.contains(STAND_IN) && line.starts_with(' '));
    let unclear = || LocalReason::Toolchain("the driver does not show its link".to_owned());
    let mut own = words_of(line.ok_or_else(unclear)?).into_iter();
    let linker = own.next().ok_or_else(unclear)?;
    let mut all = Vec::new();
    for directory in &call.library_directories {
        all.push(format!("-L{directory}"));
    }
    for word in own {
        match word.as_str() {
            STAND_IN => all.extend(call.link_words.iter().cloned()),
            word if word.starts_with("-plugin-opt=") => {}
            _ => all.push(word),
        }
    }
    let mut parsed = ldargs::parse(&all)?;
    // The driver's plugin and its library belong to the toolchain.
    let plugins = parsed.inputs.extract_if(.., |path| path.ends_with("liblto_plugin.so"));
    context.roots.extend(plugins.map(PathBuf::from));
    let writing = ld::writing_of(&linkers(context, compiler, call, &linker)?);
    let defaults = match context.roots.iter().find(|root| is_linker(root)).cloned() {
        Some(linker) => ld::default_directories(context, &Compiler::at(&linker)?)?,
        None => Vec::new(),
    };
    ld::collect(context, &parsed, &defaults)?;
    let output = call.output.as_deref().unwrap_or("a.out");
    let kind = OutputKind { required: true, executable: !parsed.relocatable, writing };
    context.output("out", output, kind)
}

fn is_linker(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.and_then(Tool::of) == Some(Tool::Linker)
}

/// Adds collect2, the linker, and what link-time optimisation takes. Returns the linker.
fn linkers(
    context: &mut Context<'_>,
    compiler: &Compiler,
    call: &Invocation,
    shown: &str,
) -> Step<PathBuf> {
    context.require_program(shown)?;
    let chosen = call.link_flags.iter().rev().find_map(|flag| flag.strip_prefix("-fuse-ld="));
    let linker = match chosen {
        None => program(context, compiler, "ld")?,
        Some(name @ ("bfd" | "gold" | "lld")) => program(context, compiler, &format!("ld.{name}"))?,
        Some(other) => return Err(LocalReason::Option(format!("-fuse-ld={other}")).into()),
    };
    let specs = |flag: &String| {
        [
            ("-fopenmp", "libgomp.spec"),
            ("-fopenacc", "libgomp.spec"),
            ("-fgnu-tm", "libitm.spec"),
            ("-ftree-parallelize", "libgomp.spec"),
            ("-fsanitize", "libsanitizer.spec"),
        ]
        .into_iter()
        .find(|(prefix, _)| flag.starts_with(prefix))
    };
    for (_, spec) in call.link_flags.iter().filter_map(specs) {
        gcc_file(context, compiler, spec)?;
    }
    if call.link_time {
        for name in ["lto-wrapper", "lto1", "as"] {
            program(context, compiler, name)?;
        }
        // With several partitions it writes a Makefile and runs it; its recipes use the others.
        for name in ["make", "sh", "touch", "mv"] {
            if let Some(path) = context.find_program(name) {
                context.roots.insert(path);
            }
        }
        if Path::new("/bin/sh").exists() {
            context.roots.insert("/bin/sh".into());
        }
    }
    Ok(linker)
}
