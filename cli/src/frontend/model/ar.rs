//! The archiver (GNU ar manual): `r`, `q` and `s` make an archive out of objects and what it held.

use std::collections::BTreeSet;
use std::path::Path;

use object::read::archive::{ArchiveFile, ArchiveKind};

use super::super::context::{Context, OutputKind};
use super::super::plan::PlannedThunk;
use super::super::reason::{LocalReason, Step};
use super::super::view::View;
use super::super::writing::Writing;
use super::{check_probe, finish_utility, is_deterministic, require_plugins};

#[derive(Debug, PartialEq, Eq)]
struct Arguments {
    archive: String,
    members: Vec<String>,
    letters: String,
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
    Ok(Arguments { archive, members: words.cloned().collect(), letters, deterministic })
}

impl Arguments {
    /// Does it make the same of this archive as it would of none? So it is where each member is
    /// replaced in its place, which makes a thunk that is known from the build that made the archive.
    fn makes_anew(&self, archive: &[u8]) -> bool {
        // Without `c` it says that it creates the archive; `v` tells what is replaced from what is
        // added; `P` and `f` match other names.
        let is_silent = self.letters.contains('c') && !self.letters.contains('v');
        if !self.letters.contains('r') || !is_silent || self.letters.contains(['P', 'f', 'q']) {
            return false;
        }
        let given = self.members.iter().map(|member| base_name(member));
        let Ok(parsed) = ArchiveFile::parse(archive) else { return false };
        // Unknown: it has neither symbols nor long names, by which it could be told.
        let is_gnu =
            matches!(parsed.kind(), ArchiveKind::Gnu | ArchiveKind::Gnu64 | ArchiveKind::Unknown);
        let held: Result<Vec<_>, _> =
            parsed.members().map(|member| member.map(|member| member.name())).collect();
        let Ok(held) = held else { return false };
        // Of two members of one name, the first is replaced, twice.
        let distinct: BTreeSet<_> = held.iter().collect();
        is_gnu && distinct.len() == held.len() && given.map(str::as_bytes).eq(held)
    }
}

fn base_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
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
    if !is_made_anew(&context, &arguments)? {
        existing_archive(&mut context, &arguments.archive)?;
    }
    context.output("out", &arguments.archive, OutputKind::file(Writing::InPlace))?;
    finish_utility(context, words, "ar", &arguments.archive)
}

fn is_made_anew(context: &Context<'_>, arguments: &Arguments) -> Step<bool> {
    let Ok(place) = context.place(&arguments.archive) else { return Ok(false) };
    match context.view.files.read(Path::new(&*place.real)) {
        Ok(archive) => Ok(arguments.makes_anew(&archive)),
        // Whoever needs its bytes will say why there are none.
        Err(_) => Ok(false),
    }
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

    /// A real archive of empty objects with these names.
    fn archive(members: &[&str]) -> Vec<u8> {
        let directory = tempfile::tempdir().unwrap();
        for member in members {
            std::fs::write(directory.path().join(member), "").unwrap();
        }
        let mut ar = std::process::Command::new("ar");
        let made = ar.current_dir(directory.path()).arg("rcD").arg("l.a").args(members);
        assert!(made.status().unwrap().success());
        std::fs::read(directory.path().join("l.a")).unwrap()
    }

    #[test]
    fn an_archive_whose_members_are_all_replaced_is_made_anew() {
        let made_anew =
            |line: &str, held: &[&str]| parsed(line).unwrap().makes_anew(&archive(held));
        let long = "a_name_that_stands_in_the_table_of_names.o";
        assert!(made_anew("rcs l.a a.o sub/b.o", &["a.o", "b.o"]));
        assert!(made_anew("rcu l.a a.o", &["a.o"]));
        assert!(made_anew(&format!("rc l.a {long} b.o"), &[long, "b.o"]));
        for (line, held) in [
            ("rcs l.a a.o b.o", &["b.o", "a.o"][..]),
            ("rcs l.a a.o b.o", &["a.o"]),
            ("rcs l.a a.o", &["a.o", "b.o"]),
            ("rcs l.a a.o sub/a.o", &["a.o"]),
            ("rs l.a a.o", &["a.o"]),
            ("rcv l.a a.o", &["a.o"]),
            ("rcP l.a a.o", &["a.o"]),
            ("qc l.a a.o", &["a.o"]),
            ("s l.a", &["a.o"]),
        ] {
            assert!(!made_anew(line, held), "{line} on {held:?}");
        }
        assert!(!parsed("rcs l.a a.o").unwrap().makes_anew(b"no archive"));
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
