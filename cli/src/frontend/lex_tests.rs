use super::*;

fn quote(name: &str) -> (Directive, Operand) {
    (Directive::Include, Operand::Quote(name.into()))
}

fn angle(name: &str) -> (Directive, Operand) {
    (Directive::Include, Operand::Angle(name.into()))
}

fn includes(source: &str) -> Vec<(Directive, Operand)> {
    directives(source.as_bytes(), Text::C).includes
}

fn assembler(source: &str, text: Text) -> Vec<AsmFile> {
    directives(source.as_bytes(), text).assembler
}

#[test]
fn plain_includes() {
    let source = "#include <a.h>\n  #  include \"b.h\" // x\n#include/**/<c/d.h>\n#import <e.h>\n";
    assert_eq!(includes(source), [angle("a.h"), quote("b.h"), angle("c/d.h"), angle("e.h")]);
    assert_eq!(
        includes("#include_next <x.h>"),
        [(Directive::IncludeNext, Operand::Angle("x.h".into()))]
    );
    assert_eq!(includes("%: include <a.h>"), [angle("a.h")]);
    assert_eq!(includes("\u{feff}#include <a.h>"), [angle("a.h")]);
    assert_eq!(includes("#include <a.h>\r\n#include <b.h>\r\n"), [angle("a.h"), angle("b.h")]);
}

#[test]
fn every_branch_counts() {
    let source = "#if 0\n#include <a.h>\n#else\n#include <b.h>\n#endif\n";
    assert_eq!(includes(source), [angle("a.h"), angle("b.h")]);
}

#[test]
fn lines_may_be_continued() {
    assert_eq!(includes("#inc\\\nlude <a.h>\n"), []);
    assert_eq!(includes("#include \\\n <a.h>\n"), [angle("a.h")]);
    assert_eq!(includes("# \\\r\n include \"a.h\"\n"), [quote("a.h")]);
    assert_eq!(includes("// x \\\n#include <no.h>\n#include <a.h>"), [angle("a.h")]);
    assert_eq!(includes("#define X \\\n#include <no.h>\n#include <a.h>"), [angle("a.h")]);
}

#[test]
fn comments_and_strings_hide() {
    assert_eq!(includes("/* \n#include <no.h>\n*/ #include <a.h>\n"), [angle("a.h")]);
    assert_eq!(includes("char *s = \"/*\";\n#include <a.h>\n/* \" */"), [angle("a.h")]);
    assert_eq!(includes("int c = '\"';\n#include <a.h>\nint d = '\"';"), [angle("a.h")]);
    assert_eq!(includes("int c = '\\'';\n#include <a.h>"), [angle("a.h")]);
    assert_eq!(includes("s = R\"x(\n#include <no.h>\n)\" )x\";\n#include <a.h>"), [angle("a.h")]);
    assert_eq!(includes("s = \"a\\\n#include <no.h>\";\n#include <a.h>"), [angle("a.h")]);
    assert_eq!(includes("int x; #include <no.h>\n"), []);
}

#[test]
fn odd_text_opens_nothing() {
    let source =
        "#if 0\nit's \"fine\n#endif\n#include <a.h>\n#error don't /* x\n*/\n#include <b.h>\n";
    assert_eq!(includes(source), [angle("a.h"), angle("b.h")]);
    assert_eq!(includes("int x = 1'000'000;\n#include <a.h>"), [angle("a.h")]);
    assert_eq!(includes("#warning it's\n#include <a.h>"), [angle("a.h")]);
    for cut in
        ["#include", "#include \"", "#include <a", "\"", "'", "/*", "R\"(", "#", "\\", "\"\\"]
    {
        directives(cut.as_bytes(), Text::C);
        directives(cut.as_bytes(), Text::Assembler);
    }
}

#[test]
fn computed_operands() {
    let macro_named = |name: &str| (Directive::Include, Operand::Macro(name.into()));
    assert_eq!(includes("#include HEADER\n"), [macro_named("HEADER")]);
    assert_eq!(includes("#include STR(x.h)\n"), [(Directive::Include, Operand::Opaque)]);
    assert_eq!(includes("#include\n"), [(Directive::Include, Operand::Opaque)]);
}

#[test]
fn has_include_is_an_include() {
    let has = |operand| (Directive::Has, operand);
    let source = "#if defined __has_include && __has_include(<a.h>) || __has_include ( \"b.h\" )\n";
    assert_eq!(
        includes(source),
        [has(Operand::Angle("a.h".into())), has(Operand::Quote("b.h".into()))]
    );
    assert_eq!(includes("#ifdef __has_include\n#if defined(__has_include)\n"), []);
    assert_eq!(includes("#if __has_include(X)\n"), [has(Operand::Macro("X".into()))]);
    assert_eq!(includes("#elif __has_embed(<a>)\n"), [has(Operand::Angle("a".into()))]);
}

#[test]
fn definitions_ask_from_wherever_they_are_used() {
    let found = |source: &str| {
        let found = directives(source.as_bytes(), Text::C);
        let askers: Vec<String> = found.askers.iter().map(ToString::to_string).collect();
        (found.asked, askers, found.includes)
    };
    let angle = Operand::Angle("a.h".into());
    assert_eq!(found("#define HAVE __has_include(<a.h>)"), (vec![angle], vec![], vec![]));
    let asks = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let parameter = Operand::Macro("x".into());
    let asker = (vec![parameter], asks(&["HAVE"]), vec![]);
    assert_eq!(found("#define HAVE(x) 1 && __has_include(x)"), asker);
    assert_eq!(found("#define HAVE __has_include\n"), (vec![], asks(&["HAVE"]), vec![]));
    let opaque = (vec![], vec![], vec![(Directive::Has, Operand::Opaque)]);
    for unclear in
        ["HAVE(x) __has_include(#x)", "HAVE(x) __has_include(<x/a.h>)", "H __has_embed(<DIR/a>)"]
    {
        assert_eq!(found(&format!("#define {unclear}\n")), opaque, "{unclear}");
    }
    assert_eq!(found("#define __has_include(x) 0\n"), (vec![], vec![], vec![]));
}

#[test]
fn embed_names_a_file() {
    let found = includes("char x[] = {\n#embed \"blob.bin\" limit(4)\n};");
    assert_eq!(found, [(Directive::Embed, Operand::Quote("blob.bin".into()))]);
}

#[test]
fn the_clock_outside_comments_and_strings() {
    let clock = |source: &str| directives(source.as_bytes(), Text::C).clock;
    assert_eq!(clock("char *d = __DATE__ \" x\";"), Some("__DATE__"));
    assert_eq!(clock("#define BUILT __TIME__\n"), Some("__TIME__"));
    assert_eq!(clock("// __DATE__\n/* __TIME__ */ \"__DATE__\" x__DATE__ __DATE__x"), None);
    assert!(directives(b"__TIMESTAMP__", Text::C).timestamp);
    assert!(!directives(b"__DATE__", Text::C).timestamp);
}

#[test]
fn files_that_are_read_once() {
    let found = |source: &str| {
        let found = directives(source.as_bytes(), Text::C);
        (found.once, found.once_elsewhere)
    };
    assert_eq!(found("#pragma once\n"), (true, false));
    assert_eq!(found(" # /**/ pragma \\\n once // x\n"), (true, false));
    assert_eq!(found("#pragma onces\n#pragma GCC once\n// #pragma once\n"), (false, false));
    assert_eq!(found("#import \"a.h\"\n"), (false, true));
    assert_eq!(found("_Pragma (\"once\")"), (false, true));
    assert_eq!(found("#define ONCE _Pragma(\"once\")\n"), (false, true));
    assert_eq!(found("#define PRAGMA(x) _Pragma(#x)\n"), (false, true));
    assert_eq!(found("_Pragma(\"GCC poison once\") my_Pragma(x)"), (false, false));
}

#[test]
fn assembler_reads_files() {
    let binary = |name: &str| AsmFile::Binary(name.into());
    let text = |name: &str| AsmFile::Text(name.into());
    let inline = "__asm__(\".incbin \\\"a.bin\\\"\\n\");";
    assert_eq!(assembler(inline, Text::C), [binary("a.bin")]);
    assert_eq!(assembler("asm(R\"(.incbin \"a.bin\")\");", Text::C), [binary("a.bin")]);
    assert_eq!(assembler("x.include = 1; // .incbin \"x\"\n", Text::C), []);
    let source = "\t.include \"m.inc\"\nl: .incbin \"b.bin\", 0, 4 # .incbin\n";
    assert_eq!(
        assembler(source, Text::PreprocessedAssembler),
        [text("m.inc"), binary("b.bin"), AsmFile::Opaque]
    );
    assert_eq!(assembler("\t.incbin FILE\n", Text::PreprocessedAssembler), [AsmFile::Opaque]);
    assert_eq!(assembler("asm(\".incbin \\\"\" FILE \"\\\"\");", Text::C), [AsmFile::Opaque]);
    let plain = directives(b"#include <x.h>\n .include \"y\"\n", Text::Assembler);
    assert_eq!((plain.includes, plain.assembler), (vec![], vec![text("y")]));
}
