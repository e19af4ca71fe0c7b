//! Response files: `@file` stands for the words in the file (GCC manual, "Overall Options").

use super::context::Context;
use super::reason::{LocalReason, Step};

/// Files may name files; nobody nests them deeper.
const DEPTH_MAX: usize = 8;
/// More than a link of Chromium takes.
const WORDS_MAX: usize = 100_000;

/// The words with every `@file` replaced. A word whose file does not exist stands for itself.
pub(crate) fn expand(context: &Context<'_>, words: &[String]) -> Step<Vec<String>> {
    let mut expanded = Vec::new();
    expand_into(context, words, &mut expanded, 0)?;
    Ok(expanded)
}

fn expand_into(
    context: &Context<'_>,
    words: &[String],
    expanded: &mut Vec<String>,
    depth: usize,
) -> Step<()> {
    for word in words {
        let file = word.strip_prefix('@').filter(|name| !name.is_empty());
        let place = file.and_then(|name| context.view.resolve(context.cwd, name));
        let Some(place) = place else {
            expanded.push(word.clone());
            continue;
        };
        if depth >= DEPTH_MAX || expanded.len() > WORDS_MAX || place.is_directory {
            return Err(LocalReason::ResponseFile(word.clone()).into());
        }
        let bytes = context.view.read(&place.real)?;
        let text =
            std::str::from_utf8(&bytes).map_err(|_| LocalReason::ResponseFile(word.clone()))?;
        expand_into(context, &split(text), expanded, depth + 1)?;
    }
    Ok(())
}

/// Words are parted by white space; quotes of both kinds keep it, a backslash keeps any
/// character (libiberty's `buildargv`).
fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (character, quote) {
            ('\\', _) => word.get_or_insert_default().extend(characters.next()),
            (c, Some(open)) if c == open => quote = None,
            (c, Some(_)) => word.get_or_insert_default().push(c),
            ('"' | '\'', None) => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (c, None) if c.is_ascii_whitespace() => words.extend(word.take()),
            (c, None) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_as_libiberty_splits_them() {
        let text = "-I a\n\"b c\" 'd\"e' f\\ g \"h\\\"i\" \"\"\t-DX='\"y\"'";
        assert_eq!(split(text), ["-I", "a", "b c", "d\"e", "f g", "h\"i", "", "-DX=\"y\""]);
        assert!(split(" \n").is_empty());
    }
}
