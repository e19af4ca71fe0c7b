//! The files that a linker script names.
//!
//! Only the commands that name files: `INPUT`, `GROUP` (with `AS_NEEDED` inside), `INCLUDE`,
//! `SEARCH_DIR`, `STARTUP` (GNU ld manual, "Commands Dealing with Files").

/// What one script names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Script {
    /// Files as they stand, or `-lname`.
    pub(crate) files: Vec<String>,
    /// `SEARCH_DIR`.
    pub(crate) directories: Vec<String>,
    /// Other scripts.
    pub(crate) includes: Vec<String>,
}

/// Reads a script. None if it is not text.
pub(crate) fn parse(bytes: &[u8]) -> Option<Script> {
    let text = std::str::from_utf8(bytes).ok()?;
    let tokens = tokens(text);
    let mut script = Script::default();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token.as_str() {
            "INPUT" | "GROUP" | "STARTUP" => at = files(&tokens, at, &mut script.files),
            "SEARCH_DIR" => at = files(&tokens, at, &mut script.directories),
            "INCLUDE" => {
                script.includes.extend(tokens.get(at).cloned());
                at += 1;
            }
            _ => {}
        }
    }
    Some(script)
}

/// The words between the parentheses at `at`; what follows them.
fn files(tokens: &[String], at: usize, found: &mut Vec<String>) -> usize {
    if tokens.get(at).is_none_or(|token| token != "(") {
        return at;
    }
    let mut depth = 0;
    for (offset, token) in tokens[at..].iter().enumerate() {
        match token.as_str() {
            "(" => depth += 1,
            ")" => depth -= 1,
            "AS_NEEDED" | "," => {}
            file => found.push(file.to_owned()),
        }
        if depth == 0 {
            return at + offset + 1;
        }
    }
    tokens.len()
}

fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            c if c.is_whitespace() => {
                rest = &rest[c.len_utf8()..];
                continue;
            }
            '/' if rest.starts_with("/*") => {
                rest = rest.find("*/").map_or("", |end| &rest[end + 2..]);
                continue;
            }
            '"' => {
                let end = rest[1..].find('"').map_or(rest.len(), |end| end + 1);
                tokens.push(rest[1..end].to_owned());
                rest = rest.get(end + 1..).unwrap_or("");
                continue;
            }
            '(' | ')' | ',' | ';' | '{' | '}' => 1,
            _ => rest
                .find(|c: char| c.is_whitespace() || "(),;{}\"".contains(c))
                .unwrap_or(rest.len()),
        };
        tokens.push(rest[..length].to_owned());
        rest = &rest[length..];
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_of_glibc() {
        let text = b"/* GNU ld script */\nOUTPUT_FORMAT(elf64-x86-64)\nGROUP ( /lib/libc.so.6 \
            /usr/lib/libc_nonshared.a  AS_NEEDED ( /lib64/ld.so -lm ) )\nSEARCH_DIR(\"/x\") INCLUDE y";
        let script = parse(text).unwrap();
        assert_eq!(
            script.files,
            ["/lib/libc.so.6", "/usr/lib/libc_nonshared.a", "/lib64/ld.so", "-lm"]
        );
        assert_eq!(script.directories, ["/x"]);
        assert_eq!(script.includes, ["y"]);
    }

    #[test]
    fn broken_scripts_end() {
        for text in ["GROUP", "GROUP (", "INPUT ( a", "\"", "/*", "INCLUDE", "é(é"] {
            assert!(parse(text.as_bytes()).is_some());
        }
        assert_eq!(parse(b"\xff\xfe"), None);
    }
}
