//! What the options of compiler drivers mean, as far as files are concerned.
//!
//! GCC's manual, "Option Summary"; clang's "Command Line Argument Reference". The longest row
//! that fits wins.

/// How an option and its value are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// The word alone.
    Exact,
    /// The word, and anything behind it.
    Prefix,
    /// The value is the next word.
    Separate,
    /// The value follows at once or is the next word.
    Either,
}

/// What an option means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// No file, no output.
    Plain,
    /// As `Plain`, and it may change where headers are looked for.
    Search,
    /// As `Plain`, and only the linker cares: it may change what is linked by default.
    LinkPlain,
    /// The tool prints something about itself.
    Question,
    /// It has effects that are not modelled.
    Local,
    Preprocess,
    Assembly,
    Object,
    /// `-M`, `-MM`.
    DependenciesOnly,
    /// `-MD`, `-MMD`.
    Dependencies,
    DependencyFile,
    Output,
    Language,
    Bracket,
    Quote,
    System,
    After,
    EmbedDirectory,
    ForcedInclude,
    Define,
    LibraryDirectory,
    Library,
    /// A word for the linker with its value.
    LinkValue,
    /// `-Wl,a,b`, `-Xlinker a`.
    LinkerWords,
    /// `-Wa,a,b`, `-Xassembler a`.
    AssemblerWords,
    /// `-Wp,a,b`, `-Xpreprocessor a`.
    PreprocessorWords,
    SplitDebug,
    /// `-gno-split-dwarf`.
    NoSplitDebug,
    CoverageNotes,
    StackUsage,
    LinkTime,
    /// `-fno-integrated-as`.
    ExternalAssembler,
    /// `-fintegrated-as`.
    IntegratedAssembler,
    Colour,
    /// The words of the command line end up in the output.
    Records,
    /// `-march=native`.
    Native,
    /// A charset: fine if it is UTF-8.
    Charset,
}

/// One row: the word, how its value is written, what it means.
pub(crate) type Row = (&'static str, Form, Meaning);

use Form::{Either, Exact, Prefix, Separate};
use Meaning as M;

/// The rows. Order does not matter.
pub(crate) const OPTIONS: &[Row] = &[
    // What to do.
    ("-c", Exact, M::Object),
    ("-S", Exact, M::Assembly),
    ("-E", Exact, M::Preprocess),
    ("-M", Exact, M::DependenciesOnly),
    ("-MM", Exact, M::DependenciesOnly),
    ("-MD", Exact, M::Dependencies),
    ("-MMD", Exact, M::Dependencies),
    ("-MF", Either, M::DependencyFile),
    ("-MT", Either, M::Plain),
    ("-MQ", Either, M::Plain),
    ("-MP", Exact, M::Plain),
    ("-MG", Exact, M::Local),
    ("-MJ", Either, M::Local),
    ("-MV", Exact, M::Plain),
    ("-o", Either, M::Output),
    ("-x", Either, M::Language),
    ("-fsyntax-only", Exact, M::Local),
    ("-pipe", Exact, M::Plain),
    ("-pass-exit-codes", Exact, M::Plain),
    ("-Qunused-arguments", Exact, M::Plain),
    ("-no-canonical-prefixes", Exact, M::Plain),
    ("-H", Exact, M::Plain),
    // Questions.
    ("-v", Exact, M::Question),
    ("-###", Exact, M::Question),
    ("--version", Exact, M::Question),
    ("-version", Exact, M::Question),
    ("--help", Prefix, M::Question),
    ("-help", Exact, M::Question),
    ("--target-help", Exact, M::Question),
    ("-print-", Prefix, M::Question),
    ("--print-", Prefix, M::Question),
    ("-dump", Prefix, M::Question),
    // Where headers are.
    ("-I", Either, M::Bracket),
    ("-iquote", Either, M::Quote),
    ("-isystem", Either, M::System),
    ("-idirafter", Either, M::After),
    ("--embed-dir=", Prefix, M::EmbedDirectory),
    ("-include", Either, M::ForcedInclude),
    ("-imacros", Either, M::ForcedInclude),
    ("-include-pch", Separate, M::Local),
    ("-isysroot", Either, M::Search),
    ("--sysroot=", Prefix, M::Search),
    ("--sysroot", Separate, M::Search),
    ("-nostdinc", Exact, M::Search),
    ("-nostdinc++", Exact, M::Search),
    ("-nostdlibinc", Exact, M::Search),
    ("-nobuiltininc", Exact, M::Search),
    ("-stdlib=", Prefix, M::Search),
    ("-target", Separate, M::Search),
    ("--target=", Prefix, M::Search),
    ("--gcc-toolchain=", Prefix, M::Search),
    ("-m", Prefix, M::Search),
    ("-mllvm", Separate, M::Plain),
    ("-iprefix", Either, M::Local),
    ("-iwithprefix", Either, M::Local),
    ("-iwithprefixbefore", Either, M::Local),
    ("-imultilib", Either, M::Local),
    ("-imultiarch", Either, M::Local),
    ("-I-", Exact, M::Local),
    ("-remap", Exact, M::Local),
    ("-F", Either, M::Local),
    ("-B", Either, M::Local),
    // The preprocessor.
    ("-D", Either, M::Define),
    ("-U", Either, M::Plain),
    ("-A", Either, M::Plain),
    ("-P", Exact, M::Plain),
    ("-C", Exact, M::Plain),
    ("-CC", Exact, M::Plain),
    ("-undef", Exact, M::Plain),
    ("-trigraphs", Exact, M::Local),
    ("-traditional", Prefix, M::Plain),
    ("-no-integrated-cpp", Exact, M::Local),
    ("-Wp,", Prefix, M::PreprocessorWords),
    ("-Xpreprocessor", Separate, M::PreprocessorWords),
    // The language and the code.
    ("-ansi", Exact, M::Plain),
    ("-std=", Prefix, M::Plain),
    ("--std=", Prefix, M::Plain),
    ("-pedantic", Prefix, M::Plain),
    ("--pedantic", Prefix, M::Plain),
    ("-w", Exact, M::Plain),
    ("-W", Prefix, M::Plain),
    ("--warn-", Prefix, M::Plain),
    ("-O", Prefix, M::Plain),
    ("-g", Prefix, M::Plain),
    ("-gsplit-dwarf", Exact, M::SplitDebug),
    ("-gsplit-dwarf=split", Exact, M::SplitDebug),
    ("-gsplit-dwarf=", Prefix, M::Local),
    ("-gno-split-dwarf", Exact, M::NoSplitDebug),
    ("-p", Exact, M::Plain),
    ("-pg", Exact, M::Plain),
    ("-pthread", Exact, M::Plain),
    ("-pthreads", Exact, M::Plain),
    ("--param", Separate, M::Plain),
    ("--param=", Prefix, M::Plain),
    ("-march=native", Exact, M::Native),
    ("-mtune=native", Exact, M::Native),
    ("-mcpu=native", Exact, M::Native),
    ("-Wa,", Prefix, M::AssemblerWords),
    ("-Xassembler", Separate, M::AssemblerWords),
    ("-Xclang", Separate, M::Local),
    ("-d", Prefix, M::Local),
    ("-Q", Exact, M::Local),
    ("-time", Prefix, M::Local),
    ("-aux-info", Separate, M::Local),
    ("-specs", Prefix, M::Local),
    ("--specs", Prefix, M::Local),
    ("-wrapper", Separate, M::Local),
    ("-save-temps", Prefix, M::Local),
    ("--save-temps", Prefix, M::Local),
    // -f…
    ("-f", Prefix, M::Plain),
    ("-fdiagnostics-color", Prefix, M::Colour),
    ("-fno-diagnostics-color", Exact, M::Colour),
    ("-fdiagnostics-plain-output", Exact, M::Colour),
    ("-fcolor-diagnostics", Exact, M::Colour),
    ("-fno-color-diagnostics", Exact, M::Colour),
    ("-fansi-escape-codes", Exact, M::Colour),
    ("-fdiagnostics-format=", Prefix, M::Local),
    ("-fdiagnostics-add-output=", Prefix, M::Local),
    ("-fdiagnostics-set-output=", Prefix, M::Local),
    ("-fdiagnostics-generate-patch", Exact, M::Plain),
    ("-frecord-gcc-switches", Exact, M::Records),
    ("-frecord-command-line", Exact, M::Records),
    ("-fverbose-asm", Exact, M::Records),
    ("-ftest-coverage", Exact, M::CoverageNotes),
    ("--coverage", Exact, M::CoverageNotes),
    ("-coverage", Exact, M::CoverageNotes),
    ("-fstack-usage", Exact, M::StackUsage),
    ("-flto", Prefix, M::LinkTime),
    // The driver wants its plugin even where `-fno-lto` follows.
    ("-fno-lto", Exact, M::LinkPlain),
    ("-fuse-linker-plugin", Exact, M::LinkTime),
    ("-fno-use-linker-plugin", Exact, M::LinkPlain),
    ("-flinker-output=", Prefix, M::LinkPlain),
    ("-fplugin", Prefix, M::Local),
    ("-fpass-plugin=", Prefix, M::Local),
    ("-fprofile-use", Prefix, M::Local),
    ("-fprofile-instr-use", Prefix, M::Local),
    ("-fprofile-sample-use", Prefix, M::Local),
    ("-fprofile-list=", Prefix, M::Local),
    ("-fprofile-note=", Prefix, M::Local),
    ("-fprofile-remapping-file", Prefix, M::Local),
    ("-fbranch-probabilities", Exact, M::Local),
    ("-fauto-profile", Prefix, M::Local),
    ("-fdump-", Prefix, M::Local),
    ("-fopt-info", Prefix, M::Local),
    ("-fsave-optimization-record", Prefix, M::Local),
    ("-fcallgraph-info", Prefix, M::Local),
    ("-fcompare-debug", Prefix, M::Local),
    ("-ftime-report", Prefix, M::Local),
    ("-ftime-trace", Prefix, M::Local),
    ("-fmem-report", Prefix, M::Local),
    ("-fmodule", Prefix, M::Local),
    ("-fimplicit-module", Prefix, M::Local),
    ("-fbuild-session", Prefix, M::Local),
    ("-fdeps-", Prefix, M::Local),
    ("-fpch-", Prefix, M::Local),
    ("-fcrash-diagnostics", Prefix, M::Local),
    ("-fsanitize-blacklist=", Prefix, M::Local),
    ("-fsanitize-ignorelist=", Prefix, M::Local),
    ("-fsanitize-coverage-", Prefix, M::Local),
    ("-fxray-", Prefix, M::Local),
    ("-fthinlto-index=", Prefix, M::Local),
    ("-foffload", Prefix, M::Local),
    ("-fintegrated-as", Exact, M::IntegratedAssembler),
    ("-integrated-as", Exact, M::IntegratedAssembler),
    ("-fno-integrated-as", Exact, M::ExternalAssembler),
    ("-no-integrated-as", Exact, M::ExternalAssembler),
    // It changes how an output is written over what is there.
    ("-fno-temp-file", Exact, M::Local),
    ("-fuse-ld=", Prefix, M::LinkPlain),
    ("-finput-charset=", Prefix, M::Charset),
    ("-fexec-charset=", Prefix, M::Charset),
    ("-fwide-exec-charset=", Prefix, M::Local),
    ("-fanalyzer", Exact, M::Plain),
    ("-wa", Prefix, M::Local),
    // The linker.
    ("-L", Either, M::LibraryDirectory),
    ("-l", Either, M::Library),
    ("-Wl,", Prefix, M::LinkerWords),
    ("-Xlinker", Separate, M::LinkerWords),
    ("-T", Either, M::LinkValue),
    ("-u", Either, M::LinkValue),
    ("-z", Either, M::LinkValue),
    ("-e", Either, M::LinkValue),
    ("-static", Exact, M::LinkPlain),
    ("-static-pie", Exact, M::LinkPlain),
    ("-static-libgcc", Exact, M::LinkPlain),
    ("-static-libstdc++", Exact, M::LinkPlain),
    ("-static-libasan", Exact, M::LinkPlain),
    ("-static-libubsan", Exact, M::LinkPlain),
    ("-static-libtsan", Exact, M::LinkPlain),
    ("-shared", Exact, M::LinkPlain),
    ("-shared-libgcc", Exact, M::LinkPlain),
    ("-nostdlib", Exact, M::LinkPlain),
    ("-nostdlib++", Exact, M::LinkPlain),
    ("-nodefaultlibs", Exact, M::LinkPlain),
    ("-nostartfiles", Exact, M::LinkPlain),
    ("-nolibc", Exact, M::LinkPlain),
    ("-rdynamic", Exact, M::LinkPlain),
    ("-s", Exact, M::LinkPlain),
    ("-pie", Exact, M::LinkPlain),
    ("-no-pie", Exact, M::LinkPlain),
    ("-nopie", Exact, M::LinkPlain),
    ("-symbolic", Exact, M::LinkPlain),
    ("-r", Exact, M::LinkPlain),
];

/// Options whose value may look like a path without naming a file that is read or written.
pub(crate) const PATH_LIKE: &[&str] = &[
    "-ffile-prefix-map=",
    "-fdebug-prefix-map=",
    "-fmacro-prefix-map=",
    "-fprofile-prefix-map=",
    "-fcoverage-prefix-map=",
    "-fprofile-prefix-path=",
    "-fdebug-compilation-dir=",
    "-fcoverage-compilation-dir=",
    "-fprofile-generate=",
    "-fprofile-instr-generate=",
    "-fprofile-dir=",
    "-fprofile-filter-files=",
    "-fprofile-exclude-files=",
    "-frandom-seed=",
];

/// The row for a word, and the value that is joined to it.
pub(crate) fn row(word: &str) -> Option<(Row, &str)> {
    let fits = |row: &&Row| match row.1 {
        Form::Exact | Form::Separate => word == row.0,
        Form::Prefix | Form::Either => word.starts_with(row.0),
    };
    let best = OPTIONS.iter().filter(fits).max_by_key(|row| row.0.len())?;
    Some((*best, &word[best.0.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_row_wins() {
        for (word, name, value) in [
            ("-I", "-I", ""),
            ("-Ifoo", "-I", "foo"),
            ("-isystem", "-isystem", ""),
            ("-includex.h", "-include", "x.h"),
            ("-MMD", "-MMD", ""),
            ("-Wl,-z,now", "-Wl,", "-z,now"),
            ("-Wall", "-W", "all"),
            ("-march=native", "-march=native", ""),
            ("-march=native2", "-m", "arch=native2"),
            ("-dumpversion", "-dump", "version"),
            ("-static", "-static", ""),
        ] {
            let ((found, _, _), rest) = row(word).unwrap();
            assert_eq!((found, rest), (name, value), "{word}");
        }
        assert_eq!(row("--frobnicate"), None);
        assert_eq!(row("-cc1"), None);
    }

    #[test]
    fn no_row_stands_twice() {
        for (index, (name, ..)) in OPTIONS.iter().enumerate() {
            assert!(OPTIONS[index + 1..].iter().all(|(other, ..)| other != name), "{name}");
        }
    }
}
