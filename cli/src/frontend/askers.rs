//! Macros that ask whether a file is there: `#define HAVE(x) __has_include(x)`.
//!
//! Their questions stand where they are used, in any file. Read only when there is such a macro: each call
//! in a directive, and which macros name which.

use std::collections::{HashMap, HashSet};

use super::lex::{Operand, is_word_char as is_word};
use super::macros::for_each_directive;

/// Macros in the directives of one file.
#[derive(Debug, Default)]
pub(crate) struct Uses {
    /// The first argument of each call, by macro.
    calls: HashMap<Box<str>, Vec<Operand>>,
    /// By word: the macros in whose definitions it stands.
    named_by: HashMap<Box<str>, Vec<Box<str>>>,
    /// Words that stand for themselves, so that what they are called with does not show.
    loose: HashSet<Box<str>>,
}

/// Reads the directives of a file.
pub(crate) fn uses(bytes: &[u8]) -> Uses {
    let mut uses = Uses::default();
    for_each_directive(bytes, |word, rest| match word {
        "define" => uses.definition(&without_comments(rest)),
        "if" | "elif" => uses.words(&without_comments(rest), None),
        _ => {}
    });
    uses
}

impl Uses {
    fn definition(&mut self, rest: &str) {
        let rest = rest.trim_start();
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (name, body) = rest.split_at(end);
        let body = match body.strip_prefix('(').and_then(|body| body.split_once(')')) {
            Some((_, body)) => body,
            None => body,
        };
        self.words(body.trim(), Some(name));
    }

    /// Notes each word of `text`, which is the definition of `macro_name` or a condition.
    fn words(&mut self, text: &str, macro_name: Option<&str>) {
        let mut rest = text;
        let mut is_after_defined = false;
        while let Some(start) = rest.find(is_word) {
            let (before, from) = rest.split_at(start);
            let is_tested =
                is_after_defined && before.trim_start().trim_start_matches('(').trim().is_empty();
            let end = from.find(|c| !is_word(c)).unwrap_or(from.len());
            let (word, after) = from.split_at(end);
            is_after_defined = word == "defined";
            rest = after;
            if is_tested || is_after_defined || word.starts_with(|c: char| c.is_ascii_digit()) {
                continue;
            }
            if let Some(macro_name) = macro_name {
                self.named_by.entry(word.into()).or_default().push(macro_name.into());
            }
            match after.trim_start().strip_prefix('(') {
                Some(argument) => {
                    let calls = self.calls.entry(word.into()).or_default();
                    calls.extend(argument_operand(argument));
                }
                // Another name for it.
                None if macro_name.is_some() && text == word => {}
                None => drop(self.loose.insert(word.into())),
            }
        }
    }
}

/// Returns everything that the macros `askers` may be asked, whoever calls them; none if that cannot be
/// told.
pub(crate) fn asked(all: &[&Uses], askers: &HashSet<Box<str>>) -> Option<Vec<Operand>> {
    let mut known: HashSet<&str> = HashSet::new();
    let mut next: Vec<&str> = askers.iter().map(AsRef::as_ref).collect();
    let mut operands = Vec::new();
    while let Some(asker) = next.pop() {
        if !known.insert(asker) {
            continue;
        }
        for uses in all {
            if uses.loose.contains(asker) {
                // A macro without arguments may stand alone: what it asks is in its definition.
                let takes_arguments = all.iter().any(|uses| uses.calls.contains_key(asker));
                if askers.contains(asker) || takes_arguments {
                    return None;
                }
            }
            next.extend(uses.named_by.get(asker).into_iter().flatten().map(AsRef::as_ref));
            operands.extend(uses.calls.get(asker).into_iter().flatten().cloned());
        }
    }
    Some(operands)
}

/// Reads a macro's argument; none if it can be no file.
fn argument_operand(argument: &str) -> Option<Operand> {
    let argument = argument.trim_start();
    let quoted = |close: char, make: fn(Box<str>) -> Operand| {
        let name = argument[1..].split_once(close).map(|(name, _)| make(name.into()));
        Some(name.unwrap_or(Operand::Opaque))
    };
    match argument.chars().next()? {
        '"' => quoted('"', Operand::Quote),
        '<' => quoted('>', Operand::Angle),
        c if c.is_ascii_digit() || c == ')' => None,
        c if is_word(c) => {
            let end = argument.find(|c| !is_word(c)).unwrap_or(argument.len());
            let (word, after) = argument.split_at(end);
            let is_whole = after.trim_start().starts_with([')', ',']);
            Some(if is_whole { Operand::Macro(word.into()) } else { Operand::Opaque })
        }
        _ => Some(Operand::Opaque),
    }
}

fn without_comments(line: &str) -> String {
    let mut text = line.to_owned();
    while let Some(begin) = text.find("/*") {
        let end = text[begin + 2..].find("*/").map_or(text.len(), |end| begin + 2 + end + 2);
        text.replace_range(begin..end, " ");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(source: &str, askers: &[&str]) -> Option<Vec<Operand>> {
        let askers = askers.iter().map(|name| (*name).into()).collect();
        let mut found = asked(&[&uses(source.as_bytes())], &askers)?;
        found.sort_by_key(|operand| format!("{operand:?}"));
        found.dedup();
        Some(found)
    }

    #[test]
    fn what_they_are_called_with() {
        let quote = |name: &str| Operand::Quote(name.into());
        let source = "#if defined HAVE && HAVE(<a.h>) || defined(HAVE) // HAVE(\n\
                      #elif HAVE /* x */ ( \"b.h\" ) \n#if OTHER(\"c.h\")\n#ifdef HAVE\n";
        let angle = Operand::Angle("a.h".into());
        assert_eq!(of(source, &["HAVE"]), Some(vec![angle, quote("b.h")]));
        assert_eq!(of("#if HAVE(NAME)\n", &["HAVE"]), Some(vec![Operand::Macro("NAME".into())]));
        assert_eq!(of("#if HAVE(x(1))\n#if HAVE(-1)\n", &["HAVE"]), Some(vec![Operand::Opaque]));
        assert_eq!(of("#if HAVE(12)\n HAVE(\"code.h\");\n", &["HAVE"]), Some(vec![]));
    }

    #[test]
    fn through_others() {
        let quote = |name: &str| Operand::Quote(name.into());
        let source = "#define A(x) HAVE(x)\n#define B A\n#define C B(\"c.h\")\n#if C\n";
        let found = of(source, &["HAVE"]).unwrap();
        assert!(found.contains(&quote("c.h")), "{found:?}");
        assert_eq!(of("#if APPLY(HAVE, \"a.h\")\n", &["HAVE"]), None, "it is an argument");
        assert_eq!(of("#define D HAVE\n#if D ( \"d.h\")\n", &["HAVE"]), Some(vec![quote("d.h")]));
    }
}
