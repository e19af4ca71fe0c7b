//! The language of messages: which files it takes to speak it.
//!
//! The C locale is built into the C library; every other one, C.UTF-8 included, is read from
//! `/usr/lib/locale`, and translated messages from `/usr/share/locale`. Without those files the
//! tool would fall back to C, and its quotation marks would differ.

use super::context::Context;

/// Later ones are overruled by earlier ones.
const CTYPE: &[&str] = &["LC_ALL", "LC_CTYPE", "LANG"];
const MESSAGES: &[&str] = &["LC_ALL", "LC_MESSAGES", "LANG"];

const LOCALES: &str = "/usr/lib/locale";
const CATALOGUES: &str = "/usr/share/locale";

/// Message catalogues of compilers and binutils begin with one of these.
const DOMAINS: &[&str] =
    &["gcc", "cpplib", "gas", "ld", "bfd", "binutils", "opcodes", "libc", "clang"];

/// The variables that choose a locale, as the thunk needs them; what they choose is shown.
pub(crate) fn variables(context: &mut Context<'_>) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    for (category, names) in [("LC_CTYPE", CTYPE), ("LC_MESSAGES", MESSAGES)] {
        let chosen = names.iter().find_map(|name| context.variable(name));
        let Some(locale) = chosen.filter(|locale| !is_built_in(locale)) else { continue };
        let locale = locale.to_owned();
        if show_locale(context, &locale, category) {
            variables.push((category.to_owned(), locale.clone()));
            if category == "LC_MESSAGES" {
                variables.extend(show_catalogues(context, &locale));
            }
        }
    }
    variables
}

fn is_built_in(locale: &str) -> bool {
    matches!(locale, "C" | "POSIX")
}

/// Shows the files of one category. False if the locale is not installed: it is C then.
fn show_locale(context: &mut Context<'_>, locale: &str, category: &str) -> bool {
    if locale.contains('/') {
        return false;
    }
    let inner = if category == "LC_MESSAGES" { "/SYS_LC_MESSAGES" } else { "" };
    let mut names = vec![locale.to_owned()];
    if let Some((language, codeset)) = locale.split_once('.') {
        let codeset: String = codeset.chars().filter(char::is_ascii_alphanumeric).collect();
        names.push(format!("{language}.{}", codeset.to_ascii_lowercase()));
    }
    let mut found = false;
    for name in names {
        found |= show(context, &format!("{LOCALES}/{name}/{category}{inner}"));
    }
    found || show(context, &format!("{LOCALES}/locale-archive"))
}

/// Shows the message catalogues that exist for a locale or for `LANGUAGE`.
fn show_catalogues(context: &mut Context<'_>, locale: &str) -> Option<(String, String)> {
    let language = context.variable("LANGUAGE").map(str::to_owned);
    let list = language.as_deref().into_iter().flat_map(|list| list.split(':')).chain([locale]);
    let mut any = false;
    for name in list.flat_map(variants) {
        let directory = format!("{CATALOGUES}/{name}/LC_MESSAGES");
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            let Ok(file) = entry.file_name().into_string() else { continue };
            let domain = file.trim_end_matches(".mo");
            let bare = domain.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-');
            if file.ends_with(".mo") && DOMAINS.contains(&bare) {
                any |= show(context, &format!("{directory}/{file}"));
            }
        }
    }
    language.filter(|_| any).map(|language| ("LANGUAGE".to_owned(), language))
}

/// `de_DE.UTF-8`, `de_DE`, `de`.
fn variants(locale: &str) -> Vec<String> {
    let without_codeset = locale.split(['.', '@']).next().unwrap_or(locale);
    let language = without_codeset.split('_').next().unwrap_or(without_codeset);
    let mut names: Vec<String> =
        [locale, without_codeset, language].iter().map(|name| (*name).to_owned()).collect();
    names.dedup();
    names.retain(|name| !name.is_empty() && !name.contains('/'));
    names
}

fn show(context: &mut Context<'_>, path: &str) -> bool {
    context.input(path).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_of_a_locale() {
        assert_eq!(variants("de_DE.UTF-8"), ["de_DE.UTF-8", "de_DE", "de"]);
        assert_eq!(variants("C"), ["C"]);
        assert!(variants("../x").is_empty());
    }
}
