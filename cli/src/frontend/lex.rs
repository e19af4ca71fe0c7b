//! The directives of one source file, found without preprocessing.
//!
//! One pass over the bytes that knows comments, strings, raw strings, character constants and
//! continued lines, and reads every directive whatever `#if` it stands in. Trigraphs are not
//! known: `??=include` is not found, and the compiler then fails in its sandbox.

/// What an include names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Operand {
    /// `"name"`
    Quote(Box<str>),
    /// `<name>`
    Angle(Box<str>),
    /// A macro.
    Macro(Box<str>),
    /// Anything else: a call of a macro, pieces put together.
    Opaque,
}

/// Which directive it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Directive {
    /// `#include`, `#import`.
    Include,
    /// `#include_next`.
    IncludeNext,
    /// `#embed`.
    Embed,
    /// `__has_include`, `__has_embed`, `__has_include_next`.
    Has,
}

/// A file that an assembler directive reads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum AsmFile {
    /// `.incbin "name"`: bytes.
    Binary(Box<str>),
    /// `.include "name"`: more assembler text.
    Text(Box<str>),
    /// The name is put together by macros.
    Opaque,
}

/// What one file says about others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Directives {
    pub(crate) includes: Vec<(Directive, Operand)>,
    /// Files that definitions ask for, from wherever they are used.
    pub(crate) asked: Vec<Operand>,
    /// Macros that ask for what they are given.
    pub(crate) askers: Vec<Box<str>>,
    pub(crate) assembler: Vec<AsmFile>,
    /// `__DATE__` or `__TIME__` stands somewhere outside comments and strings.
    pub(crate) clock: Option<&'static str>,
    /// So does `__TIMESTAMP__`.
    pub(crate) timestamp: bool,
    /// `#pragma once`: it matters whether another file counts as this one.
    pub(crate) once: bool,
    /// The same is asked about other files: `#import`, or a `_Pragma` that may be `once` where it is
    /// expanded.
    pub(crate) once_elsewhere: bool,
}

/// What kind of text it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Text {
    /// C and its relatives: assembler stands in strings.
    C,
    /// Assembler that goes through the preprocessor (`.S`).
    PreprocessedAssembler,
    /// Assembler alone (`.s`): a `#` begins a comment.
    Assembler,
}

/// Reads the directives of `bytes`.
pub(crate) fn directives(bytes: &[u8], text: Text) -> Directives {
    let mut lexer = Lexer { bytes, at: 0, text, found: Directives::default() };
    lexer.run();
    lexer.found
}

struct Lexer<'a> {
    bytes: &'a [u8],
    at: usize,
    text: Text,
    found: Directives,
}

impl Lexer<'_> {
    fn run(&mut self) {
        if self.bytes.starts_with(b"\xef\xbb\xbf") {
            self.at = 3;
        }
        let mut line_start = true;
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                b'\n' => {
                    self.at += 1;
                    line_start = true;
                }
                b' ' | b'\t' | b'\r' | 0x0b | 0x0c => self.at += 1,
                b'\\' if self.continuation() > 0 => self.at += self.continuation(),
                b'/' if self.comment() => {}
                b'#' if line_start && self.text != Text::Assembler => {
                    self.at += 1;
                    self.directive();
                    line_start = false;
                }
                b'%' if line_start && self.bytes.get(self.at + 1) == Some(&b':') => {
                    self.at += 2;
                    self.directive();
                    line_start = false;
                }
                _ => {
                    self.token(byte);
                    line_start = false;
                }
            }
        }
    }

    /// The length of a backslash, blanks and a line end here; 0 if that is not what is here.
    fn continuation(&self) -> usize {
        let rest = &self.bytes[self.at..];
        if rest.first() != Some(&b'\\') {
            return 0;
        }
        let blanks = rest[1..].iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\r')).count();
        if rest.get(1 + blanks) == Some(&b'\n') { blanks + 2 } else { 0 }
    }

    /// Skips a comment here, if there is one.
    fn comment(&mut self) -> bool {
        // Between the two characters of a comment's begin a line may be continued; nobody does.
        match self.bytes.get(self.at + 1) {
            Some(b'*') => {
                self.at += 2;
                while self.at < self.bytes.len() && !self.bytes[self.at..].starts_with(b"*/") {
                    self.at += 1;
                }
                self.at = (self.at + 2).min(self.bytes.len());
                true
            }
            Some(b'/') if self.text != Text::Assembler => {
                while let Some(&byte) = self.bytes.get(self.at) {
                    match byte {
                        b'\n' => break,
                        b'\\' => self.at += self.continuation().max(1),
                        _ => self.at += 1,
                    }
                }
                true
            }
            _ => false,
        }
    }

    fn token(&mut self, byte: u8) {
        match byte {
            b'"' => self.string(),
            b'\'' => self.character(),
            b'_' | b'A'..=b'Z' | b'a'..=b'z' | b'$' | 0x80.. => self.identifier(),
            // A number, so that the quote of 1'000 is no character constant.
            b'0'..=b'9' => self.skip_number(),
            b'.' if self.text != Text::C => self.assembler_directive(self.at),
            _ => self.at += 1,
        }
    }

    fn skip_number(&mut self) {
        while let Some(&byte) = self.bytes.get(self.at) {
            let next_is_word = self
                .bytes
                .get(self.at + 1)
                .is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
            match byte {
                b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'.' => self.at += 1,
                b'\'' if next_is_word && self.text == Text::C => self.at += 1,
                _ => break,
            }
        }
    }

    fn word(&mut self) -> &[u8] {
        let start = self.at;
        while self.bytes.get(self.at).copied().is_some_and(is_word_byte) {
            self.at += 1;
        }
        &self.bytes[start..self.at]
    }

    fn identifier(&mut self) {
        let start = self.at;
        let word = self.word();
        let is_pragma = word == b"_Pragma";
        let (is_raw, clock) = match word {
            b"__DATE__" => (false, Some("__DATE__")),
            b"__TIME__" => (false, Some("__TIME__")),
            b"__TIMESTAMP__" => (false, Some("__TIMESTAMP__")),
            b"R" | b"u8R" | b"uR" | b"UR" | b"LR" => (true, None),
            _ => (false, None),
        };
        match clock {
            Some("__TIMESTAMP__") => self.found.timestamp = true,
            Some(name) => self.found.clock = Some(name),
            None => {}
        }
        if is_raw && self.text == Text::C && self.bytes.get(self.at) == Some(&b'"') {
            self.raw_string();
        }
        if is_pragma {
            self.pragma_operator();
        }
        // A byte that is no word: go on.
        if self.at == start {
            self.at += 1;
        }
    }

    /// `R"delimiter( … )delimiter"`. C before C++11 and C23 has none: there a macro `R` before a
    /// string would be one, and what looks like an ordinary string is then taken as such.
    fn raw_string(&mut self) {
        let open = self.at + 1;
        let delimiter_length = self.bytes[open..]
            .iter()
            .take(17)
            .take_while(|b| !matches!(b, b'(' | b')' | b'\\' | b'"' | b' ' | b'\n'))
            .count();
        if self.bytes.get(open + delimiter_length) != Some(&b'(') {
            return;
        }
        let mut close = vec![b')'];
        close.extend_from_slice(&self.bytes[open..open + delimiter_length]);
        close.push(b'"');
        let body = open + delimiter_length + 1;
        let length = find(&self.bytes[body..], &close);
        let Some(length) = length else { return };
        self.assembler_in(body, body + length);
        self.at = body + length + close.len();
    }

    fn string(&mut self) {
        let start = self.at + 1;
        self.at = start;
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                b'"' => {
                    self.assembler_in(start, self.at);
                    self.at += 1;
                    return;
                }
                b'\\' => self.at += self.continuation().max(2),
                // Assembler strings may go over lines; a C string may not.
                b'\n' => return,
                _ => self.at += 1,
            }
        }
        self.at = self.at.min(self.bytes.len());
    }

    fn character(&mut self) {
        // In assembler a quote stands alone before its character: `'a`.
        if self.text != Text::C {
            self.at = (self.at + 1).min(self.bytes.len());
            return;
        }
        self.at += 1;
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                b'\'' => {
                    self.at += 1;
                    return;
                }
                b'\\' => self.at += self.continuation().max(2),
                b'\n' => return,
                _ => self.at += 1,
            }
        }
        self.at = self.at.min(self.bytes.len());
    }

    /// Looks for `.incbin` and `.include` in the text of a string: inline assembler.
    fn assembler_in(&mut self, start: usize, end: usize) {
        if self.text != Text::C {
            return;
        }
        let mut from = start;
        while let Some(offset) = find(&self.bytes[from..end], b".inc") {
            let begin = from + offset;
            self.assembler_file(begin, end);
            from = begin + 4;
        }
    }

    fn assembler_directive(&mut self, begin: usize) {
        self.assembler_file(begin, self.bytes.len());
        self.at += 1;
        self.word();
    }

    fn assembler_file(&mut self, begin: usize, end: usize) {
        let text = &self.bytes[begin..end];
        let make: fn(Box<str>) -> AsmFile = if text.starts_with(b".incbin") {
            AsmFile::Binary
        } else if text.starts_with(b".include") {
            AsmFile::Text
        } else {
            return;
        };
        let word = if text.starts_with(b".incbin") { 7 } else { 8 };
        if text.get(word).copied().is_some_and(is_word_byte) {
            return;
        }
        let rest = text[word..].trim_ascii_start();
        // In a C string the quotes are escaped.
        let rest = rest.strip_prefix(b"\\").unwrap_or(rest);
        let name = rest.strip_prefix(b"\"").and_then(|rest| {
            let length = rest.iter().position(|b| matches!(b, b'"' | b'\\' | b'\n'))?;
            std::str::from_utf8(&rest[..length]).ok()
        });
        let file = name.filter(|name| !name.is_empty()).map_or(AsmFile::Opaque, |n| make(n.into()));
        self.found.assembler.push(file);
    }

    /// Reads a directive, the `#` behind us; leaves its rest for the main loop.
    fn directive(&mut self) {
        self.blanks();
        let start = self.at;
        self.word();
        let kind = match &self.bytes[start..self.at] {
            b"include" => Directive::Include,
            b"import" => {
                self.found.once_elsewhere = true;
                Directive::Include
            }
            b"include_next" => Directive::IncludeNext,
            b"embed" => Directive::Embed,
            b"if" | b"elif" => return self.conditional(None),
            b"define" => return self.definition(),
            b"pragma" => return self.pragma(),
            // What follows is free text: an apostrophe there opens nothing.
            b"error" | b"warning" | b"ident" | b"line" => return self.rest_of_line(),
            _ => return,
        };
        let operand = self.operand();
        self.found.includes.push((kind, operand));
    }

    fn pragma(&mut self) {
        self.blanks();
        let start = self.at;
        self.found.once |= self.word() == b"once";
        self.at = start;
    }

    /// Reads what follows `_Pragma`: it may be `once`, unless it is a literal with other words.
    fn pragma_operator(&mut self) {
        let start = self.at;
        self.blanks();
        if self.bytes.get(self.at) == Some(&b'(') {
            self.at += 1;
            self.blanks();
        }
        let rest = &self.bytes[self.at..];
        let literal = rest.strip_prefix(b"\"").and_then(|rest| rest.split(|b| *b == b'"').next());
        self.found.once_elsewhere |= literal.is_none_or(|words| words.trim_ascii() == b"once");
        self.at = start;
    }

    fn rest_of_line(&mut self) {
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                b'\n' => return,
                b'\\' => self.at += self.continuation().max(1),
                b'/' if self.comment() => {}
                _ => self.at += 1,
            }
        }
    }

    fn blanks(&mut self) {
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                b' ' | b'\t' | b'\r' | 0x0b | 0x0c => self.at += 1,
                b'\\' if self.continuation() > 0 => self.at += self.continuation(),
                b'/' if self.bytes.get(self.at + 1) == Some(&b'*') => {
                    self.comment();
                }
                _ => return,
            }
        }
    }

    /// Reads `"name"`, `<name>` or a macro.
    fn operand(&mut self) -> Operand {
        self.blanks();
        let close = match self.bytes.get(self.at) {
            Some(b'"') => b'"',
            Some(b'<') => b'>',
            Some(&byte) if is_word_byte(byte) => return self.macro_operand(),
            _ => return Operand::Opaque,
        };
        let start = self.at + 1;
        let rest = &self.bytes[start..];
        let Some(length) = rest.iter().position(|b| *b == close || *b == b'\n') else {
            return Operand::Opaque;
        };
        if rest[length] != close {
            return Operand::Opaque;
        }
        self.at = start + length + 1;
        match std::str::from_utf8(&rest[..length]) {
            Ok(name) if close == b'"' => Operand::Quote(name.into()),
            Ok(name) => Operand::Angle(name.into()),
            Err(_) => Operand::Opaque,
        }
    }

    fn macro_operand(&mut self) -> Operand {
        let start = self.at;
        self.word();
        let end = self.at;
        self.blanks();
        if self.bytes.get(self.at) == Some(&b'(') {
            return Operand::Opaque;
        }
        String::from_utf8(self.bytes[start..end].to_vec())
            .map_or(Operand::Opaque, |name| Operand::Macro(name.into()))
    }

    fn definition(&mut self) {
        self.blanks();
        let name = String::from_utf8_lossy(self.word()).into_owned();
        let start = self.at;
        if self.bytes.get(self.at) == Some(&b'(') {
            while !matches!(self.bytes.get(self.at), None | Some(b')' | b'\n')) {
                self.at += 1;
            }
        }
        let parameters = String::from_utf8_lossy(&self.bytes[start..self.at]).into_owned();
        self.conditional(Some(&Defined { name, parameters }));
    }

    /// The rest of an `#if`, or of a definition: looks for `__has_include` and the clock.
    fn conditional(&mut self, defined: Option<&Defined>) {
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                b'\n' => return,
                b'\\' if self.continuation() > 0 => self.at += self.continuation(),
                b'/' if self.comment() => {}
                b'_' => self.has_operator(defined),
                _ if byte.is_ascii_whitespace() => self.at += 1,
                _ => self.token(byte),
            }
        }
    }

    fn has_operator(&mut self, defined: Option<&Defined>) {
        let start = self.at;
        self.word();
        let is_has = matches!(
            &self.bytes[start..self.at],
            b"__has_include" | b"__has_include_next" | b"__has_embed"
        );
        if !is_has {
            self.at = start;
            return self.identifier();
        }
        self.blanks();
        if self.bytes.get(self.at) != Some(&b'(') {
            // Another name for it.
            self.found.askers.extend(defined.map(|defined| defined.name.as_str().into()));
            return;
        }
        self.at += 1;
        let operand = self.operand();
        match defined {
            Some(defined) => self.asked_by(defined, operand),
            None => self.found.includes.push((Directive::Has, operand)),
        }
    }

    /// In a definition, a name between `<` and `>` is words like others, which may be macros.
    fn asked_by(&mut self, defined: &Defined, operand: Operand) {
        let stands_for_itself = |word: &str| {
            let is_macro = word.contains(|c: char| c.is_ascii_uppercase());
            !is_macro && !defined.has_parameter(word)
        };
        let words = |name: &str| name.split(|c: char| !is_word_char(c)).all(stands_for_itself);
        match &operand {
            Operand::Macro(_) => self.found.askers.push(defined.name.as_str().into()),
            Operand::Angle(name) if !words(name) => {
                return self.found.includes.push((Directive::Has, Operand::Opaque));
            }
            Operand::Opaque => return self.found.includes.push((Directive::Has, operand)),
            Operand::Angle(_) | Operand::Quote(_) => {}
        }
        self.found.asked.push(operand);
    }
}

/// A macro whose definition is read.
struct Defined {
    name: String,
    /// As they stand there, the opening parenthesis included; nothing if it takes none.
    parameters: String,
}

impl Defined {
    fn has_parameter(&self, word: &str) -> bool {
        !word.is_empty() && self.parameters.split(|c: char| !is_word_char(c)).any(|it| it == word)
    }
}

/// Does it belong to an identifier or a number?
pub(crate) fn is_word_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80
}

/// Where `needle` begins in `haystack`.
fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
#[path = "lex_tests.rs"]
mod tests;
