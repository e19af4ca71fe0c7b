//! Macros that stand for the name of a header.
//!
//! Read only when a computed include is met: every `#define` of a file that could name a header
//! or another macro, and every one that could not.

use std::collections::HashMap;

use super::lex::{Operand, is_word_char};

/// The definitions of one text by macro.
pub(crate) type Macros = HashMap<Box<str>, Vec<Operand>>;

/// How many macros may stand for each other until one names a header.
const DEPTH_MAX: usize = 32;

/// Every macro that `bytes` define.
pub(crate) fn macros(bytes: &[u8]) -> Macros {
    let mut found = Macros::new();
    for_each_directive(bytes, |word, rest| {
        if word == "define" && rest.starts_with([' ', '\t']) {
            define(&mut found, rest.trim_start());
        }
    });
    found
}

/// Calls `take` with the word of each directive and the rest of its line, continued lines put together.
pub(crate) fn for_each_directive(bytes: &[u8], mut take: impl FnMut(&str, &str)) {
    let text = String::from_utf8_lossy(bytes).replace("\\\r\n", " ").replace("\\\n", " ");
    for line in text.lines() {
        let Some(line) = line.trim_start().strip_prefix('#') else { continue };
        let line = line.trim_start();
        let (word, rest) = line.split_at(line.find(|c| !is_word_char(c)).unwrap_or(line.len()));
        take(word, rest);
    }
}

/// Takes a definition as it stands behind `#define`.
fn define(found: &mut Macros, definition: &str) {
    let end = definition.find(|c| !is_word_char(c)).unwrap_or(definition.len());
    let (name, body) = definition.split_at(end);
    let operand = if body.starts_with('(') { Operand::Opaque } else { body_operand(body) };
    found.entry(name.into()).or_default().push(operand);
}

/// The argument of `-D` as the directive that it stands for.
pub(crate) fn directive_of_option(argument: &str) -> String {
    match argument.split_once('=') {
        Some((name, body)) => format!("#define {name} {}\n", body.replace('\n', " ")),
        None => format!("#define {argument} 1\n"),
    }
}

fn body_operand(body: &str) -> Operand {
    let mut body = body.trim();
    for opener in ["/*", "//"] {
        // A comment behind the name; `//` inside a quoted name is part of it.
        if let Some(at) = body.rfind(opener)
            && !body[at..].contains(['"', '>'])
        {
            body = body[..at].trim_end();
        }
    }
    let inner = |open: char, close: char| {
        body.strip_prefix(open)
            .and_then(|rest| rest.strip_suffix(close))
            .filter(|name| !name.is_empty() && !name.contains([open, close]))
    };
    if let Some(name) = inner('"', '"') {
        return Operand::Quote(name.into());
    }
    if let Some(name) = inner('<', '>') {
        return Operand::Angle(name.into());
    }
    let is_word = !body.is_empty()
        && !body.starts_with(|c: char| c.is_ascii_digit())
        && body.chars().all(|c| c.is_alphanumeric() || c == '_');
    if is_word { Operand::Macro(body.into()) } else { Operand::Opaque }
}

/// What a macro in an include may stand for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// One of these headers, whichever definition holds.
    Headers(Vec<Operand>),
    /// Nobody defines it: the include is in a branch that is not taken, or an error.
    Undefined,
    /// One of its definitions cannot be told.
    Unclear,
}

/// Macros without a definition that stand for a file.
const BUILT_IN: &[&str] = &["__FILE__", "__BASE_FILE__"];

/// What `name` may stand for.
pub(crate) fn meaning(all: &[&Macros], name: &str) -> Meaning {
    if !BUILT_IN.contains(&name) && !all.iter().any(|macros| macros.contains_key(name)) {
        return Meaning::Undefined;
    }
    let mut headers = Vec::new();
    match collect(all, name, &mut headers, 0) {
        Some(()) if !headers.is_empty() => Meaning::Headers(headers),
        _ => Meaning::Unclear,
    }
}

fn collect(all: &[&Macros], name: &str, headers: &mut Vec<Operand>, depth: usize) -> Option<()> {
    if depth > DEPTH_MAX {
        return None;
    }
    let definitions: Vec<&Operand> =
        all.iter().filter_map(|macros| macros.get(name)).flatten().collect();
    if definitions.is_empty() {
        return None;
    }
    for operand in definitions {
        match operand {
            Operand::Macro(next) => collect(all, next, headers, depth + 1)?,
            Operand::Opaque => return None,
            header if headers.contains(header) => {}
            header => headers.push(header.clone()),
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quote(name: &str) -> Operand {
        Operand::Quote(name.into())
    }

    #[test]
    fn all_definitions_are_candidates() {
        let source =
            b"#define A \"a.h\"\n# define B A /* why */\n#define A <b/c.h>\n#define C(x) x\n";
        let given = ["D=\"d.h\"", "E"].map(directive_of_option).concat();
        let given = macros(given.as_bytes());
        let found = macros(source);
        let all = [&found, &given];
        let angle = Operand::Angle("b/c.h".into());
        assert_eq!(meaning(&all, "B"), Meaning::Headers(vec![quote("a.h"), angle]));
        assert_eq!(meaning(&all, "D"), Meaning::Headers(vec![quote("d.h")]));
        for unclear in ["C", "E", "__FILE__"] {
            assert_eq!(meaning(&all, unclear), Meaning::Unclear, "{unclear}");
        }
        assert_eq!(meaning(&all, "F"), Meaning::Undefined);
    }

    #[test]
    fn a_circle_ends() {
        let found = macros(b"#define A B\n#define B A\n");
        assert_eq!(meaning(&[&found], "A"), Meaning::Unclear);
    }
}
