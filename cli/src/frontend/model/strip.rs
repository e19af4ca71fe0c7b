//! The symbol remover: in place, or to `-o`.

use super::super::context::{Context, OutputKind};
use super::super::plan::PlannedThunk;
use super::super::reason::{LocalReason, Step};
use super::super::writing::Writing;
use super::{finish_utility, is_deterministic, require_plugins};

#[derive(Debug, Default, PartialEq, Eq)]
struct Arguments {
    files: Vec<String>,
    output: Option<String>,
    deterministic: Option<bool>,
}

fn parse(words: &[String]) -> Step<Arguments> {
    const EXACT: &[&str] = &[
        "-s",
        "--strip-all",
        "-g",
        "-S",
        "-d",
        "--strip-debug",
        "--strip-dwo",
        "--strip-unneeded",
        "--only-keep-debug",
        "-M",
        "--merge-notes",
        "--no-merge-notes",
        "-x",
        "--discard-all",
        "-X",
        "--discard-locals",
        "--keep-file-symbols",
        "--keep-section-symbols",
        "-w",
        "--wildcard",
        "-v",
        "--verbose",
    ];
    const SEPARATE: &[&str] = &["-N", "-K", "-R", "-F", "-I", "-O"];
    const PREFIXES: &[&str] = &[
        "--strip-symbol=",
        "--keep-symbol=",
        "--remove-section=",
        "--keep-section=",
        "--remove-relocations=",
        "--target=",
        "--input-target=",
        "--output-target=",
    ];
    let mut found = Arguments::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut next =
            || words.next().cloned().ok_or_else(|| LocalReason::MissingArgument(word.clone()));
        match word.as_str() {
            "-o" => found.output = Some(next()?),
            "-D" | "--enable-deterministic-archives" => found.deterministic = Some(true),
            "-U" | "--disable-deterministic-archives" => found.deterministic = Some(false),
            word if EXACT.contains(&word) || PREFIXES.iter().any(|p| word.starts_with(p)) => {}
            word if SEPARATE.contains(&word) => drop(next()?),
            // `-p` keeps times.
            word if word.starts_with('-') => {
                return Err(LocalReason::Option(word.to_owned()).into());
            }
            _ => found.files.push(word.clone()),
        }
    }
    if found.files.is_empty() || (found.output.is_some() && found.files.len() > 1) {
        return Err(LocalReason::Unclear("strip of nothing, or of many files to one").into());
    }
    Ok(found)
}

pub(super) fn plan(mut context: Context<'_>, words: Vec<String>) -> Step<PlannedThunk> {
    let arguments = parse(&words)?;
    match arguments.deterministic {
        Some(true) => {}
        Some(false) => return Err(LocalReason::NotDeterministic("strip -U".to_owned()).into()),
        None => is_deterministic(&context, "-D --enable-deterministic-archives")?,
    }
    require_plugins(&mut context);
    for file in &arguments.files {
        let (_, source) = context.input(file)?;
        let target = arguments.output.as_ref().unwrap_or(file);
        let is_in_place = arguments.output.is_none();
        let writing = if is_in_place { Writing::InPlace } else { Writing::ReplaceUnlessEmpty };
        let kind = OutputKind { required: true, executable: source.executable, writing };
        context.output("out", target, kind)?;
    }
    let subject = arguments.files.join(" ");
    finish_utility(context, words, "strip", &subject)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Step<Arguments> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn files_and_output() {
        let found = parsed("-s -R .comment --strip-unneeded -o out prog").unwrap();
        assert_eq!((found.files, found.output), (vec!["prog".to_owned()], Some("out".to_owned())));
        assert_eq!(parsed("a b").unwrap().files.len(), 2);
        for line in ["", "-o x a b", "-p a", "--info", "-o"] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
