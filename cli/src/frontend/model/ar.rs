//! The archiver (GNU ar manual): `r`, `q` and `s` make an archive out of objects and what it held.

use super::super::context::{Context, OutputKind};
use super::super::plan::PlannedThunk;
use super::super::reason::{LocalReason, Step};
use super::super::view::View;
use super::{check_probe, finish_utility, is_deterministic, require_plugins};

#[derive(Debug, PartialEq, Eq)]
struct Arguments {
    archive: String,
    members: Vec<String>,
    /// `D` or `U` given, the last wins.
    deterministic: Option<bool>,
}

fn parse(words: &[String]) -> Step<Arguments> {
    let mut words = words.iter().peekable();
    let mut letters = String::new();
    // Letters come first, with or without a dash; more may come in words of their own.
    while let Some(word) = words.peek() {
        let is_first = letters.is_empty();
        match word.as_str() {
            "--version" | "--help" | "-V" => {
                return Err(LocalReason::Question(word.to_string()).into());
            }
            word if word.starts_with("--") => {
                return Err(LocalReason::Option(word.to_owned()).into());
            }
            word => match word.strip_prefix('-') {
                Some(more) => letters.push_str(more),
                None if is_first => letters.push_str(word),
                None => break,
            },
        }
        words.next();
    }
    let deterministic = letters.chars().rev().find_map(|letter| match letter {
        'D' => Some(true),
        'U' => Some(false),
        _ => None,
    });
    check_letters(&letters)?;
    let archive = words.next().ok_or(LocalReason::Unclear("ar without an archive"))?.clone();
    Ok(Arguments { archive, members: words.cloned().collect(), deterministic })
}

fn check_letters(letters: &str) -> Step<()> {
    let has = |letter: char| letters.contains(letter);
    let reason = |why: &'static str| Err(LocalReason::Unclear(why).into());
    if has('x') {
        return reason("ar x writes the members as files");
    }
    if has('t') || has('p') {
        return Err(LocalReason::StandardOutput(format!("ar {letters}")).into());
    }
    if !has('r') && !has('q') && !has('s') {
        return reason("ar operation is not modelled");
    }
    // `T` thin, `o` keeps times, `a`, `b`, `i`, `N`, `M`, `l` take more words. `u` compares times,
    // but is ignored, with a word about it, where archives hold none; others stay here anyway.
    if !letters.chars().all(|letter| "rqscSDUvPfu".contains(letter)) {
        return reason("ar modifier is not modelled");
    }
    Ok(())
}

pub(super) fn plan(mut context: Context<'_>, words: Vec<String>) -> Step<PlannedThunk> {
    let arguments = parse(&words)?;
    match arguments.deterministic {
        Some(true) => {}
        Some(false) => return Err(LocalReason::NotDeterministic("ar U".to_owned()).into()),
        None => is_deterministic(&context, "[D]")?,
    }
    require_plugins(&mut context);
    for member in &arguments.members {
        check_probe(member)?;
        context.input(member)?;
    }
    existing_archive(&mut context, &arguments.archive)?;
    context.output("out", &arguments.archive, OutputKind::FILE)?;
    finish_utility(context, words, "ar", &arguments.archive)
}

/// An archive that is there already is an input too; a thin one names files that are not.
pub(super) fn existing_archive(context: &mut Context<'_>, archive: &str) -> Step<bool> {
    if context.place(archive).is_err() {
        return Ok(false);
    }
    let (place, file) = context.input(archive)?;
    if !View::is_placeholder(&file) && context.view.read(&place.real)?.starts_with(b"!<thin>\n") {
        return Err(LocalReason::ThinArchive(archive.to_owned()).into());
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Step<Arguments> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn letters_with_and_without_dash() {
        for line in [
            "rcs l.a a.o b.o",
            "rcu l.a a.o b.o",
            "-rcs l.a a.o b.o",
            "-r -c -s l.a a.o b.o",
            "rc -s l.a a.o b.o",
        ] {
            let found = parsed(line).unwrap();
            assert_eq!((found.archive.as_str(), found.members.len()), ("l.a", 2), "{line}");
        }
        assert_eq!(parsed("rcsD l.a").unwrap().deterministic, Some(true));
        assert_eq!(parsed("crU l.a").unwrap().deterministic, Some(false));
    }

    #[test]
    fn what_stays_here() {
        for line in [
            "",
            "x l.a",
            "t l.a",
            "p l.a",
            "rcT l.a a.o",
            "d l.a a.o",
            "rcs",
            "--plugin x rcs l.a",
            "-M",
            "rb x l.a a.o",
            "--thin rcs l.a a.o",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
