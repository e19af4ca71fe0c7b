//! Locales: the files behind `LANG`, `LC_ALL` and their like, as setlocale(3) and gettext(3) find
//! them.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Passed, bring_file, value};
use crate::frontend::closure::loader_directories;
use crate::frontend::context::Context;
use crate::frontend::directory::{self, Whole};
use crate::frontend::reason::Step;

/// A program that asks for all of them gets none if one is missing.
const CATEGORIES: &[&str] = &[
    "LC_CTYPE",
    "LC_NUMERIC",
    "LC_TIME",
    "LC_COLLATE",
    "LC_MONETARY",
    "LC_MESSAGES",
    "LC_PAPER",
    "LC_NAME",
    "LC_ADDRESS",
    "LC_TELEPHONE",
    "LC_MEASUREMENT",
    "LC_IDENTIFICATION",
];

const LOCALES: &str = "/usr/lib/locale";
const ALIASES: &str = "/usr/share/locale/locale.alias";
const CATALOGUES: &[&str] = &["/usr/share/locale", "/usr/share/locale-langpack"];

/// Shows the files of all locales that these variables choose.
pub(super) fn show(context: &mut Context<'_>, passed: &Passed) -> Step<()> {
    for category in CATEGORIES {
        let names = ["LC_ALL", category, "LANG"];
        let Some(locale) = names.into_iter().find_map(|name| value(passed, name)) else { continue };
        if is_built_in(locale) {
            continue;
        }
        let (locale, aliased) = expanded(locale);
        if aliased {
            bring_file(context, ALIASES)?;
        }
        let is_there = show_category(context, passed, &locale, category)?;
        if is_there && *category == "LC_CTYPE" && !is_utf8(&locale) {
            show_conversions(context)?;
        }
        if is_there && *category == "LC_MESSAGES" {
            show_catalogues(context, passed, &locale)?;
        }
    }
    Ok(())
}

fn is_built_in(locale: &str) -> bool {
    matches!(locale, "C" | "POSIX")
}

/// The locale that `german` and other short names stand for, and whether it was such a name.
fn expanded(locale: &str) -> (String, bool) {
    let text = std::fs::read(ALIASES).unwrap_or_default();
    match aliased(&String::from_utf8_lossy(&text), locale) {
        Some(found) => (found, true),
        None => (locale.to_owned(), false),
    }
}

fn aliased(aliases: &str, locale: &str) -> Option<String> {
    let lines = aliases.lines().filter(|line| !line.starts_with('#'));
    let mut pairs = lines.filter_map(|line| line.trim().split_once([' ', '\t']));
    let (_, found) = pairs.find(|(name, _)| name.eq_ignore_ascii_case(locale))?;
    Some(found.trim().to_owned())
}

/// Shows the files of one category. False if the locale is not installed: it is C then.
fn show_category(
    context: &mut Context<'_>,
    passed: &Passed,
    locale: &str,
    category: &str,
) -> Step<bool> {
    // A file of this name is a locale by itself.
    if locale.contains('/') {
        let file = match category {
            "LC_MESSAGES" => format!("{locale}/{category}/SYS_LC_MESSAGES"),
            _ => format!("{locale}/{category}"),
        };
        return bring_file(context, &file);
    }
    let given = value(passed, "LOCPATH");
    let directories = given.unwrap_or_default().split(':').filter(|entry| !entry.is_empty());
    let mut found = false;
    for directory in directories.chain([LOCALES]) {
        for name in variants(locale) {
            let file = format!("{directory}/{name}/{category}");
            found |= match category {
                "LC_MESSAGES" => bring_file(context, &format!("{file}/SYS_LC_MESSAGES"))?,
                _ => bring_file(context, &file)?,
            };
        }
    }
    if !found && given.is_none() {
        found = bring_file(context, &format!("{LOCALES}/locale-archive"))?;
    }
    Ok(found)
}

/// `de_DE.UTF-8@euro`, and what the C library takes in its place: with the codeset written plainly,
/// then without codeset, modifier or territory.
fn variants(locale: &str) -> BTreeSet<String> {
    let (rest, modifier) = split(locale, '@');
    let (rest, codeset) = split(rest, '.');
    let (language, territory) = split(rest, '_');
    let plain = codeset.map(plain_codeset);
    let codesets = [None, codeset.map(str::to_owned), plain];
    let mut names = BTreeSet::new();
    for territory in [None, territory] {
        for codeset in &codesets {
            for modifier in [None, modifier] {
                let part = |sign: char, text: Option<&str>| {
                    text.map_or_else(String::new, |text| format!("{sign}{text}"))
                };
                names.insert(format!(
                    "{language}{}{}{}",
                    part('_', territory),
                    part('.', codeset.as_deref()),
                    part('@', modifier)
                ));
            }
        }
    }
    names.retain(|name| !name.is_empty() && !name.starts_with('.'));
    names
}

fn split(text: &str, sign: char) -> (&str, Option<&str>) {
    text.split_once(sign).map_or((text, None), |(before, after)| (before, Some(after)))
}

/// `UTF-8` as `utf8`; digits alone are of ISO.
fn plain_codeset(codeset: &str) -> String {
    let plain: String = codeset.chars().filter(char::is_ascii_alphanumeric).collect();
    let plain = plain.to_ascii_lowercase();
    match plain.bytes().all(|byte| byte.is_ascii_digit()) {
        true => format!("iso{plain}"),
        false => plain,
    }
}

fn is_utf8(locale: &str) -> bool {
    let (rest, _) = split(locale, '@');
    split(rest, '.').1.is_some_and(|codeset| plain_codeset(codeset) == "utf8")
}

/// Characters of other encodings are converted by modules that the C library loads.
fn show_conversions(context: &mut Context<'_>) -> Step<()> {
    for directory in loader_directories() {
        let path = format!("{directory}/gconv");
        if Path::new(&path).is_dir() {
            directory::show(context, &path, Whole::Named)?;
        }
    }
    Ok(())
}

/// Which translations a program asks for is not known: those of the language are brought.
fn show_catalogues(context: &mut Context<'_>, passed: &Passed, locale: &str) -> Step<()> {
    let languages = value(passed, "LANGUAGE").unwrap_or_default();
    let languages = languages.split(':').filter(|name| !name.is_empty());
    let names: BTreeSet<String> = languages.chain([locale]).flat_map(variants).collect();
    for name in names.iter().filter(|name| !is_built_in(name) && !name.contains('/')) {
        for base in CATALOGUES {
            let path = format!("{base}/{name}");
            if Path::new(&path).is_dir() {
                directory::show(context, &path, Whole::Named)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_of_a_locale() {
        let names = |locale| variants(locale).into_iter().collect::<Vec<_>>();
        assert_eq!(names("C.UTF-8"), ["C", "C.UTF-8", "C.utf8"]);
        let german = names("de_DE.UTF-8@euro");
        for name in ["de_DE.UTF-8@euro", "de_DE.utf8@euro", "de_DE", "de@euro", "de.utf8", "de"] {
            assert!(german.iter().any(|known| known == name), "{name}: {german:?}");
        }
        assert_eq!(german.len(), 12);
    }

    #[test]
    fn codesets() {
        assert_eq!(plain_codeset("ISO-8859-15"), "iso885915");
        assert_eq!(plain_codeset("8859-1"), "iso88591");
        assert!(is_utf8("de_DE.UTF-8@euro") && !is_utf8("de_DE") && !is_utf8("ja_JP.eucJP"));
    }

    #[test]
    fn short_names() {
        let aliases = "# comment\nbokmal\tnb_NO.ISO-8859-1\ngerman   de_DE.ISO-8859-1\n";
        assert_eq!(aliased(aliases, "German").as_deref(), Some("de_DE.ISO-8859-1"));
        assert_eq!(aliased(aliases, "de_DE"), None);
    }
}
