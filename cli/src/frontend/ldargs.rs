//! What a linker is asked to do: its words in, [`LinkLine`] out. Pure.
//!
//! GNU ld manual, "Command-line Options"; long options may have one dash or two, their values
//! stand behind `=` or in the next word. gold and lld share what is here.

use super::reason::{LocalReason, Step};

/// Something to link, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    /// An object, archive, shared library or linker script.
    File(String),
    /// `-lname`; `:name` is an exact file name.
    Library {
        name: String,
        /// May it be a shared one?
        shared: bool,
    },
}

/// A call of a linker, understood.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct LinkLine {
    pub(crate) items: Vec<Item>,
    /// `-L`; a leading `=` or `$SYSROOT` is kept.
    pub(crate) directories: Vec<String>,
    /// `-rpath-link`, `-rpath`: where libraries needed by libraries are.
    pub(crate) needed_directories: Vec<String>,
    /// Version scripts and their like.
    pub(crate) inputs: Vec<String>,
    /// `-T`: also looked for along the library directories.
    pub(crate) scripts: Vec<String>,
    /// Beside the program: tag and path.
    pub(crate) outputs: Vec<(&'static str, String)>,
    pub(crate) output: Option<String>,
    pub(crate) sysroot: Option<String>,
    /// `-r`: no libraries needed by libraries.
    pub(crate) relocatable: bool,
    /// `-nostdlib`: only the directories given.
    pub(crate) only_given_directories: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Flag,
    /// A value that names no file.
    Value,
    Input,
    Script,
    Output(&'static str),
    Program,
    Directory,
    Needed,
    Sysroot,
    Library,
    Relocatable,
    Static,
    Dynamic,
    PluginOption,
    Push,
    Pop,
    NoDefaults,
    Question,
    Local,
}

use Kind::{Flag, Local, Value};

/// Words by their name without dashes.
const WORDS: &[(&str, Kind)] = &[
    ("o", Kind::Program),
    ("output", Kind::Program),
    ("L", Kind::Directory),
    ("library-path", Kind::Directory),
    ("l", Kind::Library),
    ("library", Kind::Library),
    ("rpath", Kind::Needed),
    ("rpath-link", Kind::Needed),
    ("sysroot", Kind::Sysroot),
    ("T", Kind::Script),
    ("script", Kind::Script),
    ("dT", Kind::Script),
    ("default-script", Kind::Script),
    ("version-script", Kind::Input),
    ("dynamic-list", Kind::Input),
    ("retain-symbols-file", Kind::Input),
    ("symbol-ordering-file", Kind::Input),
    ("section-ordering-file", Kind::Input),
    ("export-dynamic-symbol-list", Kind::Input),
    ("in-implib", Kind::Input),
    ("plugin", Kind::Input),
    ("Map", Kind::Output("map")),
    ("out-implib", Kind::Output("implib")),
    ("dependency-file", Kind::Output("d")),
    ("r", Kind::Relocatable),
    ("relocatable", Kind::Relocatable),
    ("i", Kind::Relocatable),
    ("Ur", Kind::Relocatable),
    ("static", Kind::Static),
    ("Bstatic", Kind::Static),
    ("dn", Kind::Static),
    ("non_shared", Kind::Static),
    ("Bdynamic", Kind::Dynamic),
    ("dy", Kind::Dynamic),
    ("call_shared", Kind::Dynamic),
    ("push-state", Kind::Push),
    ("pop-state", Kind::Pop),
    ("nostdlib", Kind::NoDefaults),
    ("v", Kind::Question),
    ("V", Kind::Question),
    ("version", Kind::Question),
    ("help", Kind::Question),
    ("target-help", Kind::Question),
    ("print-output-format", Kind::Question),
    ("print-sysroot", Kind::Question),
    ("verbose", Kind::Question),
    ("dll-verbose", Kind::Question),
    ("stats", Local),
    ("b", Local),
    ("format", Local),
    ("c", Local),
    ("mri-script", Local),
    ("R", Local),
    ("just-symbols", Local),
    ("reproduce", Local),
    ("A", Local),
    ("time-trace", Local),
    ("thinlto-cache-dir", Local),
    ("save-temps", Local),
    ("m", Value),
    ("e", Value),
    ("entry", Value),
    ("u", Value),
    ("undefined", Value),
    ("require-defined", Value),
    ("h", Value),
    ("soname", Value),
    ("z", Value),
    ("G", Value),
    ("gpsize", Value),
    ("F", Value),
    ("filter", Value),
    ("f", Value),
    ("auxiliary", Value),
    ("dynamic-linker", Value),
    ("I", Value),
    ("defsym", Value),
    ("y", Value),
    ("trace-symbol", Value),
    ("wrap", Value),
    ("init", Value),
    ("fini", Value),
    ("Ttext", Value),
    ("Tdata", Value),
    ("Tbss", Value),
    ("Ttext-segment", Value),
    ("Trodata-segment", Value),
    ("Tldata-segment", Value),
    ("section-start", Value),
    ("image-base", Value),
    ("oformat", Value),
    ("unresolved-symbols", Value),
    ("plugin-opt", Kind::PluginOption),
    ("exclude-libs", Value),
    ("hash-size", Value),
    ("Y", Value),
    ("a", Value),
    ("assert", Value),
    ("export-dynamic-symbol", Value),
    ("max-cache-size", Value),
    ("threads-count", Value),
    ("hash-style", Value),
    ("sort-section", Value),
    ("audit", Value),
    ("P", Value),
    ("depaudit", Value),
    ("spare-dynamic-tags", Value),
    ("architecture", Value),
    ("build-id", Flag),
    ("eh-frame-hdr", Flag),
    ("no-eh-frame-hdr", Flag),
    ("shared", Flag),
    ("Bshareable", Flag),
    ("pie", Flag),
    ("pic-executable", Flag),
    ("no-pie", Flag),
    ("no-dynamic-linker", Flag),
    ("as-needed", Flag),
    ("no-as-needed", Flag),
    ("whole-archive", Flag),
    ("no-whole-archive", Flag),
    ("start-group", Flag),
    ("end-group", Flag),
    ("(", Flag),
    (")", Flag),
    ("gc-sections", Flag),
    ("no-gc-sections", Flag),
    ("print-gc-sections", Flag),
    ("no-print-gc-sections", Flag),
    ("gc-keep-exported", Flag),
    ("E", Flag),
    ("export-dynamic", Flag),
    ("no-export-dynamic", Flag),
    ("Bsymbolic", Flag),
    ("Bsymbolic-functions", Flag),
    ("Bno-symbolic", Flag),
    ("Bgroup", Flag),
    ("dynamic-list-data", Flag),
    ("dynamic-list-cpp-new", Flag),
    ("dynamic-list-cpp-typeinfo", Flag),
    ("no-undefined", Flag),
    ("allow-shlib-undefined", Flag),
    ("no-allow-shlib-undefined", Flag),
    ("allow-multiple-definition", Flag),
    ("X", Flag),
    ("x", Flag),
    ("s", Flag),
    ("S", Flag),
    ("strip-all", Flag),
    ("strip-debug", Flag),
    ("strip-discarded", Flag),
    ("no-strip-discarded", Flag),
    ("discard-all", Flag),
    ("discard-locals", Flag),
    ("discard-none", Flag),
    ("n", Flag),
    ("nmagic", Flag),
    ("N", Flag),
    ("omagic", Flag),
    ("no-omagic", Flag),
    ("no-nmagic", Flag),
    ("q", Flag),
    ("emit-relocs", Flag),
    ("relax", Flag),
    ("no-relax", Flag),
    ("fatal-warnings", Flag),
    ("no-fatal-warnings", Flag),
    ("w", Flag),
    ("no-warnings", Flag),
    ("add-needed", Flag),
    ("no-add-needed", Flag),
    ("copy-dt-needed-entries", Flag),
    ("no-copy-dt-needed-entries", Flag),
    ("enable-new-dtags", Flag),
    ("disable-new-dtags", Flag),
    ("no-keep-memory", Flag),
    ("reduce-memory-overheads", Flag),
    ("sort-common", Flag),
    ("demangle", Flag),
    ("no-demangle", Flag),
    ("no-define-common", Flag),
    ("d", Flag),
    ("dc", Flag),
    ("dp", Flag),
    ("error-unresolved-symbols", Flag),
    ("noinhibit-exec", Flag),
    ("t", Flag),
    ("trace", Flag),
    ("M", Flag),
    ("print-map", Flag),
    ("cref", Flag),
    ("check-sections", Flag),
    ("no-check-sections", Flag),
    ("accept-unknown-input-arch", Flag),
    ("ld-generated-unwind-info", Flag),
    ("no-ld-generated-unwind-info", Flag),
    ("EL", Flag),
    ("EB", Flag),
    ("g", Flag),
    ("undefined-version", Flag),
    ("no-undefined-version", Flag),
    ("default-symver", Flag),
    ("default-imported-symver", Flag),
    ("no-warn-mismatch", Flag),
    ("force-exe-suffix", Flag),
    ("traditional-format", Flag),
    ("disable-multiple-abs-defs", Flag),
    ("embedded-relocs", Flag),
    ("task-link", Flag),
    ("unique", Flag),
    ("no-rosegment", Flag),
    ("rosegment", Flag),
    ("color-diagnostics", Flag),
    ("print-memory-usage", Flag),
    ("ctors-in-init-array", Flag),
    ("no-ctors-in-init-array", Flag),
    ("icf", Flag),
    ("threads", Flag),
    ("no-threads", Flag),
    ("compress-debug-sections", Flag),
    ("pack-dyn-relocs", Flag),
    ("orphan-handling", Flag),
    ("enable-non-contiguous-regions", Flag),
    ("separate-code", Flag),
    ("flto", Flag),
    ("fuse-ld", Flag),
    ("no-gc-keep-exported", Flag),
    ("target1-rel", Flag),
    ("be8", Flag),
    ("fix-cortex-a53-835769", Flag),
    ("fix-cortex-a53-843419", Flag),
    ("gdb-index", Flag),
    ("O", Flag),
    ("lto-O0", Flag),
    ("package-metadata", Flag),
    ("no-apply-dynamic-relocs", Flag),
    ("force-group-allocation", Flag),
];

/// Understands the words behind `argv[0]`.
pub(crate) fn parse(words: &[String]) -> Step<LinkLine> {
    let mut parser =
        Parser { words: words.iter(), line: LinkLine::default(), is_static: false, states: vec![] };
    while let Some(word) = parser.words.next() {
        match word.strip_prefix('-') {
            None if word.starts_with('@') => {
                return Err(LocalReason::ResponseFile(word.clone()).into());
            }
            None => parser.line.items.push(Item::File(word.clone())),
            Some("") => return Err(LocalReason::StandardInput.into()),
            Some(_) => parser.option(word)?,
        }
    }
    Ok(parser.line)
}

struct Parser<'a> {
    words: std::slice::Iter<'a, String>,
    line: LinkLine,
    is_static: bool,
    /// What `--push-state` kept.
    states: Vec<bool>,
}

/// One-letter options whose value may be joined to them.
const JOINED: &[&str] =
    &["L", "l", "o", "T", "m", "e", "u", "h", "z", "G", "F", "f", "I", "y", "R", "O"];

impl Parser<'_> {
    fn option(&mut self, word: &str) -> Step<()> {
        let unknown = || LocalReason::UnknownOption(format!("{word} of the linker"));
        let (name, value) = split(word);
        if let Some((_, kind)) = WORDS.iter().find(|(known, _)| *known == name) {
            return self.apply(word, *kind, value.map(str::to_owned));
        }
        if ["warn-", "no-warn-", "no-print-"].iter().any(|prefix| name.starts_with(prefix)) {
            return Ok(());
        }
        let short = word.strip_prefix('-').filter(|rest| !rest.starts_with('-'));
        let joined = short.and_then(|rest| {
            let letter = JOINED.iter().find(|letter| rest.starts_with(**letter))?;
            let kind = WORDS.iter().find(|(known, _)| known == letter)?.1;
            Some((kind, rest[1..].to_owned()))
        });
        let (kind, value) = joined.ok_or_else(unknown)?;
        self.apply(word, kind, Some(value))
    }

    fn apply(&mut self, word: &str, kind: Kind, joined: Option<String>) -> Step<()> {
        let takes_value = matches!(
            kind,
            Value
                | Kind::Input
                | Kind::Script
                | Kind::Output(_)
                | Kind::Program
                | Kind::Directory
                | Kind::Needed
                | Kind::Sysroot
                | Kind::Library
                | Kind::PluginOption
        );
        let value = match joined {
            Some(value) => value,
            None if takes_value => {
                let next = self.words.next();
                next.ok_or_else(|| LocalReason::MissingArgument(word.to_owned()))?.clone()
            }
            None => String::new(),
        };
        let line = &mut self.line;
        match kind {
            Flag | Value => {}
            Kind::Input => line.inputs.push(value),
            Kind::Script => line.scripts.push(value),
            Kind::Output(_) if value == "-" || value.contains('%') => {
                return Err(LocalReason::Option(format!("{word} {value}")).into());
            }
            Kind::Output(tag) => line.outputs.push((tag, value)),
            Kind::Program => line.output = Some(value),
            Kind::Directory => line.directories.push(value),
            Kind::Needed => line.needed_directories.extend(value.split(':').map(str::to_owned)),
            Kind::Sysroot => line.sysroot = Some(value),
            Kind::Library => {
                line.items.push(Item::Library { name: value, shared: !self.is_static });
            }
            Kind::PluginOption if !is_plain_plugin_option(&value) => {
                return Err(LocalReason::Option(format!("{word} of the linker")).into());
            }
            Kind::PluginOption => {}
            Kind::Relocatable => line.relocatable = true,
            Kind::Static => self.is_static = true,
            Kind::Dynamic => self.is_static = false,
            Kind::Push => self.states.push(self.is_static),
            Kind::Pop => self.is_static = self.states.pop().unwrap_or(self.is_static),
            Kind::NoDefaults => line.only_given_directories = true,
            Kind::Question => return Err(LocalReason::Question(word.to_owned()).into()),
            Local => return Err(LocalReason::Option(format!("{word} of the linker")).into()),
        }
        Ok(())
    }
}

/// Does this option of the plugin read and write nothing? Others keep intermediate files, write
/// remarks or read profiles.
fn is_plain_plugin_option(option: &str) -> bool {
    let option = option.trim_start_matches('-');
    let level = option.strip_prefix('O').is_some_and(|level| level.len() <= 1);
    let prefixes = ["pass-through=", "mcpu=", "jobs=", "lto-partitions="];
    level || prefixes.iter().any(|prefix| option.starts_with(prefix))
}

/// The name of an option without dashes, and what stands behind `=`.
fn split(word: &str) -> (&str, Option<&str>) {
    let bare = word.strip_prefix("--").or_else(|| word.strip_prefix('-')).unwrap_or(word);
    match bare.split_once('=') {
        // `-z` and `-l` keep a `=` in their value, and `-L=dir` means the sysroot.
        Some((name, value)) if name.len() > 1 => (name, Some(value)),
        _ => (bare, None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::reason::Stop;
    use super::*;

    fn line(text: &str) -> Step<LinkLine> {
        parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    fn library(name: &str, shared: bool) -> Item {
        Item::Library { name: name.to_owned(), shared }
    }

    #[test]
    fn items_keep_their_order_and_state() {
        let text = "-dynamic-linker /lib/ld.so -o p a.o -Bstatic -lx --push-state -Bdynamic \
                    --library=y --pop-state -lz -L/l -L =/m --start-group b.a --end-group -l:q.a";
        let line = line(text).unwrap();
        let file = |name: &str| Item::File(name.to_owned());
        assert_eq!(
            line.items,
            [
                file("a.o"),
                library("x", false),
                library("y", true),
                library("z", false),
                file("b.a"),
                library(":q.a", false)
            ]
        );
        assert_eq!(line.directories, ["/l", "=/m"]);
        assert_eq!(line.output.as_deref(), Some("p"));
    }

    #[test]
    fn files_in_and_out() {
        let text = "--version-script=v.map -T l.ld -Tother.ld -Ttext=0x100 -Ttext 0x1 -Map=m.map \
                    -Map n.map --dynamic-list d -soname s.so -rpath /a:/b -z now -znow -O1 -r";
        let line = line(text).unwrap();
        assert_eq!(line.inputs, ["v.map", "d"]);
        assert_eq!(line.scripts, ["l.ld", "other.ld"]);
        assert_eq!(line.outputs, [("map", "m.map".to_owned()), ("map", "n.map".to_owned())]);
        assert_eq!(line.needed_directories, ["/a", "/b"]);
        assert!(line.relocatable);
    }

    #[test]
    fn what_is_unclear_stays_here() {
        assert!(line("-plugin-opt=O2 -plugin-opt=-pass-through=-lgcc a.o").is_ok());
        for text in [
            "-plugin-opt=-debug a.o",
            "-plugin-opt=save-temps",
            "--frobnicate",
            "-o",
            "--version",
            "-c x",
            "-R x",
            "-",
            "@x",
            "-Map -",
        ] {
            assert!(matches!(line(text), Err(Stop::Local(_))), "{text}");
        }
    }

    #[test]
    fn no_word_stands_twice() {
        for (index, (name, _)) in WORDS.iter().enumerate() {
            assert!(WORDS[index + 1..].iter().all(|(other, _)| other != name), "{name}");
        }
    }
}
