//! The assembler, called directly (GNU as manual, "Command-Line Options").

use super::super::context::{Context, OutputKind};
use super::super::lex::Text;
use super::super::plan::PlannedThunk;
use super::super::reason::{LocalReason, Step};
use super::super::scan::{Scan, SearchPath};
use super::super::writing::Writing;
use super::{check_probe, check_temporary, finish_utility};

/// An option that reads and writes nothing.
pub(crate) fn is_harmless(word: &str) -> bool {
    const EXACT: &[&str] = &[
        "--32",
        "--64",
        "--x32",
        "--noexecstack",
        "--execstack",
        "--fatal-warnings",
        "--warn",
        "--no-warn",
        "-W",
        "-g",
        "--gen-debug",
        "--nocompress-debug-sections",
        "-D",
        "-f",
        "-J",
        "-K",
        "-L",
        "--keep-locals",
        "-R",
        "-Z",
        "--strip-local-absolute",
        "--no-pad-sections",
        "--divide",
        "--traditional-format",
        "--sectname-subst",
        "--reduce-memory-overheads",
        "-Qy",
        "-Qn",
        "-EL",
        "-EB",
        "-O0",
        "-O1",
        "-O2",
        "-Os",
        "-O",
    ];
    const PREFIXES: &[&str] = &[
        "-m",
        "--gdwarf",
        "--gstabs",
        "--compress-debug-sections",
        "--hash-size",
        "--listing-",
        "--debug-prefix-map=",
        "--elf-stt-common=",
        "--generate-missing-build-notes=",
        "--size-check=",
        "--alternate",
        "--defsym=",
        "--nocompress",
        "--gz",
    ];
    EXACT.contains(&word) || PREFIXES.iter().any(|prefix| word.starts_with(prefix))
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Arguments {
    sources: Vec<String>,
    directories: Vec<String>,
    output: Option<String>,
    dependencies: Option<String>,
}

fn parse(words: &[String]) -> Step<Arguments> {
    let mut found = Arguments::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = |joined: &str| match joined {
            "" => words.next().cloned().ok_or_else(|| LocalReason::MissingArgument(word.clone())),
            joined => Ok(joined.to_owned()),
        };
        match word.as_str() {
            "-" | "--" => return Err(LocalReason::StandardInput.into()),
            "--MD" => found.dependencies = Some(value("")?),
            "--defsym" | "--debug-prefix-map" => drop(value("")?),
            "-v" | "--version" | "-version" | "--help" | "--target-help" | "-V"
            | "--statistics" => {
                return Err(LocalReason::Question(word.clone()).into());
            }
            word if is_harmless(word) => {}
            word if word.starts_with("-I") => found.directories.push(value(&word[2..])?),
            word if word.starts_with("-o") => found.output = Some(value(&word[2..])?),
            word if word.starts_with("-a") => {
                return Err(LocalReason::StandardOutput(word.to_owned()).into());
            }
            word if word.starts_with('-') => {
                return Err(LocalReason::UnknownOption(word.to_owned()).into());
            }
            _ => found.sources.push(word.clone()),
        }
    }
    if found.sources.is_empty() {
        return Err(LocalReason::StandardInput.into());
    }
    Ok(found)
}

pub(super) fn plan(mut context: Context<'_>, words: Vec<String>) -> Step<PlannedThunk> {
    let arguments = parse(&words)?;
    for source in &arguments.sources {
        check_probe(source)?;
        check_temporary(&context, source)?;
    }
    let mut search = SearchPath::default();
    for directory in &arguments.directories {
        search.assembler.extend(context.directory(directory));
    }
    let mut scan = Scan::new(&mut context, &search, "");
    for source in &arguments.sources {
        scan.source(source, Text::Assembler)?;
    }
    scan.run(|_| Ok(Vec::new()))?;
    let output = arguments.output.as_deref().unwrap_or("a.out");
    context.output("out", output, OutputKind::file(Writing::ReplaceUnlessEmpty))?;
    if let Some(file) = &arguments.dependencies {
        context.output("d", file, OutputKind::file(Writing::InPlace))?;
    }
    let subject = arguments.sources.join(" ");
    finish_utility(context, words, "as", &subject)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Step<Arguments> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn sources_and_output() {
        let found =
            parsed("--64 -I inc -Iother --defsym X=1 -mtune=generic -g a.s -o a.o").unwrap();
        assert_eq!(found.sources, ["a.s"]);
        assert_eq!(found.directories, ["inc", "other"]);
        assert_eq!(found.output.as_deref(), Some("a.o"));
    }

    #[test]
    fn what_stays_here() {
        for line in ["", "-", "--version", "-al a.s", "--frob a.s", "a.s -o"] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
