use super::super::reason::Stop;
use super::*;

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn parsed(line: &str) -> Invocation {
    parse(&words(line), false).unwrap_or_else(|stop| panic!("{line}: {stop:?}"))
}

fn local(line: &str) -> LocalReason {
    match parse(&words(line), false) {
        Err(Stop::Local(reason)) => reason,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn an_ordinary_compile() {
    let call = parsed("-O2 -g -Wall -std=c99 -DA=1 -D B -I inc -Isrc -c -o a.o a.c -MD -MF a.d");
    assert_eq!(call.mode, Mode::Object);
    assert_eq!(call.sources, [SourceFile { path: "a.c".to_owned(), language: Language::C }]);
    assert_eq!(call.output.as_deref(), Some("a.o"));
    assert_eq!(call.bracket, ["inc", "src"]);
    assert_eq!(call.defines, ["A=1", "B"]);
    assert_eq!(call.dependency_file.as_deref(), Some("a.d"));
    assert!(call.dependencies && call.debug && !call.colour);
}

#[test]
fn search_options() {
    let call = parsed(
        "-iquote q -isystem s -isystems2 -idirafter a -include f.h -imacros m.h -nostdinc \
         --sysroot=/r --sysroot /r2 -m32 -c a.c",
    );
    assert_eq!(call.quote, ["q"]);
    assert_eq!(call.system, ["s", "s2"]);
    assert_eq!(call.after, ["a"]);
    assert_eq!(call.forced, ["f.h", "m.h"]);
    assert_eq!(call.search_flags, ["-nostdinc", "--sysroot=/r", "--sysroot", "/r2", "-m32"]);
}

#[test]
fn languages() {
    let language = |line: &str| parsed(line).sources[0].language;
    assert_eq!(language("-c a.cc"), Language::Cxx);
    assert_eq!(language("-c a.C"), Language::Cxx);
    assert_eq!(language("-c a.S"), Language::AssemblerWithCpp);
    assert_eq!(language("-c a.s"), Language::Assembler);
    assert_eq!(language("-c a.i"), Language::CPreprocessed);
    assert_eq!(language("-c -x c++ a.c"), Language::Cxx);
    assert_eq!(language("-x c a.txt -c"), Language::C);
    assert_eq!(parse(&words("-c a.c"), true).unwrap().sources[0].language, Language::Cxx);
    let call = parsed("-x c a.txt -x none b.o");
    assert_eq!((call.sources.len(), call.link_words), (1, vec!["b.o".to_owned()]));
}

#[test]
fn links() {
    let call =
        parsed("-o p a.o -L lib -Lb -lm -Wl,-z,now -Xlinker --as-needed b.a -T s.ld -pthread");
    assert_eq!(call.mode, Mode::Link);
    assert_eq!(call.library_directories, ["lib", "b"]);
    let wanted = ["a.o", "-lm", "-z", "now", "--as-needed", "b.a", "-Ts.ld"];
    assert_eq!(call.link_words, wanted);
    assert_eq!(call.link_flags, ["-pthread"]);
    let call = parsed("a.c b.c -o p");
    assert_eq!((call.sources.len(), call.mode), (2, Mode::Link));
}

#[test]
fn dependency_files() {
    let call = parsed("-Wp,-MMD,x/.a.d -c a.c");
    assert_eq!(call.dependency_file.as_deref(), Some("x/.a.d"));
    assert!(call.dependencies);
    let call = parsed("-MMD -MP -MT t -MQ q -MFx.d -c a.c");
    assert_eq!(call.dependency_file.as_deref(), Some("x.d"));
}

#[test]
fn outputs_beside() {
    let call = parsed("-g -gsplit-dwarf --coverage -fstack-usage -flto=auto -c a.c");
    assert!(call.split_debug && call.coverage_notes && call.stack_usage && call.link_time);
    assert!(!parsed("-flto -fno-lto -g0 -c a.c").debug);
}

#[test]
fn native_is_noted() {
    assert_eq!(parsed("-march=native -c a.c").native, ["-march=native"]);
    assert!(parsed("-march=x86-64-v2 -c a.c").native.is_empty());
}

#[test]
fn link_time_optimisation() {
    for line in [
        "-flto a.c",
        "-flto=auto a.c",
        "-flto -flto-partition=none a.c",
        "-flto=4 -flto-compression-level=3 a.c",
        "-fuse-linker-plugin a.c",
        // The driver asks for its plugin nevertheless.
        "-flto -fno-lto a.c",
    ] {
        assert!(parsed(line).link_time, "{line}");
    }
    for line in ["a.c", "-fno-lto a.c", "-flto-partition=none a.c"] {
        assert!(!parsed(line).link_time, "{line}");
    }
    assert_eq!(parsed("-flto -fno-use-linker-plugin a.o").link_flags.len(), 2);
}

#[test]
fn split_debug_information() {
    let split = |line: &str| {
        let call = parsed(line);
        (call.split_debug, call.debug)
    };
    assert_eq!(split("-gsplit-dwarf -c a.c"), (true, false));
    assert_eq!(split("-g -gsplit-dwarf=split -gz -c a.c"), (true, true));
    assert_eq!(split("-gsplit-dwarf -ggdb -gno-split-dwarf -c a.c"), (false, true));
    assert_eq!(split("-gsplit-dwarf -g3 -g0 -gpubnames -c a.c"), (true, false));
    assert!(matches!(local("-g -gsplit-dwarf=single -c a.c"), LocalReason::Option(_)));
}

#[test]
fn the_last_word_about_the_assembler_counts() {
    for line in ["-fno-integrated-as -c a.c", "-fintegrated-as -no-integrated-as -c a.c"] {
        assert!(parsed(line).external_assembler, "{line}");
    }
    for line in ["-c a.c", "-fno-integrated-as -fintegrated-as -c a.c"] {
        assert!(!parsed(line).external_assembler, "{line}");
    }
}

#[test]
fn questions_and_streams_stay_here() {
    for line in [
        "--version",
        "-v -c a.c",
        "-dumpversion",
        "-print-file-name=libc.a",
        "-### a.c",
        "--help=optimizers",
        "-dumpmachine",
    ] {
        assert!(matches!(local(line), LocalReason::Question(_)), "{line}");
    }
    for line in ["-S a.c -o -", "-c a.c -MD -MF -"] {
        assert!(matches!(local(line), LocalReason::StandardOutput(_)), "{line}");
    }
    for line in ["-E a.c", "-M a.c", "-MM -c a.c b.c", "-E -P a.c"] {
        assert!(parsed(line).prints(), "{line}");
    }
    for line in ["-M a.c -o x", "-MM -MD a.c"] {
        assert!(matches!(local(line), LocalReason::Unclear(_)), "{line}");
    }
    assert_eq!(local("-E -"), LocalReason::StandardInput);
    assert_eq!(local("-x c -c -o a.o -"), LocalReason::StandardInput);
}

#[test]
fn what_is_not_modelled_stays_here() {
    for line in [
        "-save-temps -c a.c",
        "-fplugin=x.so -c a.c",
        "-fprofile-use -c a.c",
        "-specs=x -c a.c",
        "-wrapper gdb -c a.c",
        "-B dir -c a.c",
        "-fdump-tree-all -c a.c",
        "-fsyntax-only a.c",
        "-flto=jobserver -c a.c",
        "-Wa,-al -c a.c",
        "-Wp,-v -c a.c",
        "-fnew-thing=some/file -c a.c",
        "-fexec-charset=latin1 -c a.c",
        "-MG -MD -c a.c",
        "-fmodules-ts -c a.cc",
        "-Xclang -load -c a.c",
        "-ftime-report -c a.c",
        "-fno-temp-file -c a.c",
    ] {
        assert!(matches!(local(line), LocalReason::Option(_)), "{line}");
    }
    for line in ["--frobnicate -c a.c", "-cc1 a.c", "-k -c a.c"] {
        assert!(matches!(local(line), LocalReason::UnknownOption(_)), "{line}");
    }
    for line in ["-c a.h", "a.hpp", "-x c-header -c a.c"] {
        assert!(matches!(local(line), LocalReason::PrecompiledHeader(_)), "{line}");
    }
    for line in ["-c a.f90", "-c a.m", "-x go -c a.c"] {
        assert!(matches!(local(line), LocalReason::Language(_)), "{line}");
    }
    for line in ["", "-c", "-c a.o", "-c a.c b.c -o x", "-O2", "-c a.c -MF x.d", "-c a.c b.o"] {
        assert!(matches!(local(line), LocalReason::Unclear(_)), "{line}");
    }
    assert_eq!(local("-c a.c -o"), LocalReason::MissingArgument("-o".to_owned()));
}

#[test]
fn harmless_words_for_other_tools() {
    let call = parsed("-Wa,--noexecstack,-mrelax-relocations=no -Wp,-D_FORTIFY_SOURCE=2 -c a.c");
    assert_eq!(call.defines, ["_FORTIFY_SOURCE=2"]);
    assert_eq!(parsed("-Wa,-I,inc,-Iother -c a.S").bracket, ["inc", "other"]);
    parsed("-ffile-prefix-map=/a/b=. -fprofile-generate=/tmp/x -finput-charset=UTF-8 -c a.c");
}
