//! What the build command is, as far as its own parallelism goes.
//!
//! A `make` that was asked for several jobs shares our slots through the jobserver; one that was
//! not stays serial, and so are its recipes' effects. So `-jN` is taken out of its arguments: with
//! it, `make` would open a jobserver of its own.

use std::ffi::{OsStr, OsString};
use std::path::Path;

/// How a build command is started.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct BuildCommand {
    /// The words, without `-jN` if it is a `make`.
    pub(crate) words: Vec<OsString>,
    /// What `MAKEFLAGS` says already, without `-jN`.
    pub(crate) makeflags: String,
    /// Does it use the jobserver?
    pub(crate) client: Client,
}

/// How a command finds the jobserver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Client {
    /// It does not.
    No,
    /// By inherited descriptors: any GNU make.
    Descriptors,
    /// By the pipe's path: ninja from 1.13 on, unless it was told how many jobs to run.
    Path,
}

/// Jobs that a `make` was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Jobs {
    One,
    Many,
}

impl BuildCommand {
    /// Reads a command; `makeflags` is the variable of that name. `version` asks a program for the
    /// line that it prints about its version.
    pub(crate) fn new(
        words: Vec<OsString>,
        makeflags: Option<&OsStr>,
        version: impl Fn(&OsStr) -> Option<String>,
    ) -> Self {
        let name = words.first().map(Path::new).and_then(Path::file_name);
        if !name.is_some_and(|name| name == "make" || name == "gmake") {
            let is_ninja = name.is_some_and(|name| name == "ninja");
            let knows = || version(&words[0]).is_some_and(|line| knows_jobserver(&line));
            let client = if is_ninja && knows() { Client::Path } else { Client::No };
            return Self { words, makeflags: String::new(), client };
        }
        let inherited = makeflags.and_then(OsStr::to_str).unwrap_or_default();
        let mut found = Arguments::default();
        let makeflags = found.flags(inherited);
        // A make above us has a jobserver: this build takes part in that one.
        let has_server = inherited.contains("--jobserver-auth");
        let mut words = words.into_iter();
        let mut kept: Vec<OsString> = words.by_ref().take(1).collect();
        let rest: Vec<OsString> = words.collect();
        kept.extend(if has_server { rest } else { found.take_jobs(rest) });
        let client = match found.jobs {
            Some(Jobs::Many) if !has_server => Client::Descriptors,
            _ => Client::No,
        };
        Self { words: kept, makeflags, client }
    }
}

/// `1.13.0` and newer.
fn knows_jobserver(version: &str) -> bool {
    let mut parts = version.trim().split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (1, 13)
}

#[derive(Default)]
struct Arguments {
    jobs: Option<Jobs>,
}

impl Arguments {
    /// `MAKEFLAGS`: single letters without a dash first, then words.
    fn flags(&mut self, text: &str) -> String {
        let mut words = Vec::new();
        for (at, word) in text.split_whitespace().enumerate() {
            let is_letters = at == 0 && !word.starts_with('-') && !word.contains('=');
            words.push(if is_letters { format!("-{word}").into() } else { word.to_owned().into() });
        }
        let left = self.take_jobs(words);
        left.iter().filter_map(|word| word.to_str()).collect::<Vec<_>>().join(" ")
    }

    /// The words without `-j` in any of its forms.
    fn take_jobs(&mut self, words: Vec<OsString>) -> Vec<OsString> {
        let mut kept = Vec::new();
        let mut words = words.into_iter().peekable();
        while let Some(word) = words.next() {
            let Some(text) = word.to_str() else {
                kept.push(word);
                continue;
            };
            if text == "--" {
                kept.push(word);
                kept.extend(words);
                break;
            }
            let is_number =
                |next: &mut OsString| next.to_str().is_some_and(|text| text.parse::<u32>().is_ok());
            if text == "--jobs" || text.starts_with("--jobs=") {
                let separate =
                    words.next_if(|next| text == "--jobs" && is_number(&mut next.clone()));
                let number = separate.as_deref().and_then(OsStr::to_str);
                self.asked(number.or(text.strip_prefix("--jobs=")));
            } else if let Some(letters) = text.strip_prefix('-').filter(|l| !l.starts_with('-')) {
                let (left, ends_in_jobs) = self.letters(letters);
                if ends_in_jobs && let Some(number) = words.next_if(|n| is_number(&mut n.clone())) {
                    self.asked(number.to_str());
                }
                if !left.is_empty() {
                    kept.push(format!("-{left}").into());
                }
                if takes_next(&left) {
                    kept.extend(words.next());
                }
            } else {
                kept.push(word);
            }
        }
        kept
    }

    /// A cluster of letters without its `j`; was `j` the last of them?
    fn letters(&mut self, letters: &str) -> (String, bool) {
        let mut left = String::new();
        let mut rest = letters;
        while let Some(letter) = rest.chars().next() {
            rest = &rest[letter.len_utf8()..];
            match letter {
                'j' => {
                    let digits =
                        rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
                    self.asked(Some(&rest[..digits]).filter(|digits| !digits.is_empty()));
                    if rest.is_empty() {
                        return (left, true);
                    }
                    rest = &rest[digits..];
                }
                // The rest of the word is their value.
                'C' | 'f' | 'I' | 'o' | 'W' | 'l' | 'O' | 'E' => {
                    left.push(letter);
                    left.push_str(rest);
                    return (left, false);
                }
                other => left.push(other),
            }
        }
        (left, false)
    }

    fn asked(&mut self, number: Option<&str>) {
        self.jobs = Some(if number == Some("1") { Jobs::One } else { Jobs::Many });
    }
}

/// Is the next word the value of this cluster's last letter?
fn takes_next(letters: &str) -> bool {
    letters.len() == 1 && matches!(letters, "C" | "f" | "I" | "o" | "W" | "E")
        || letters.len() > 1
            && letters.ends_with(['C', 'f', 'I', 'o', 'W', 'E'])
            && !letters[..letters.len() - 1].contains(['C', 'f', 'I', 'o', 'W', 'l', 'O', 'E'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str, makeflags: Option<&str>) -> (String, Client) {
        let words = line.split_whitespace().map(OsString::from).collect();
        let version = |_: &OsStr| Some("1.11.1".to_owned());
        let command = BuildCommand::new(words, makeflags.map(OsStr::new), version);
        let words: Vec<&str> = command.words.iter().filter_map(|word| word.to_str()).collect();
        (words.join(" "), command.client)
    }

    #[test]
    fn jobs_are_taken_out_in_all_their_forms() {
        for (line, left, client) in [
            ("make", "make", Client::No),
            ("make all V=1", "make all V=1", Client::No),
            ("make -j1 all", "make all", Client::No),
            ("make -j8 all", "make all", Client::Descriptors),
            ("make -j 8 all", "make all", Client::Descriptors),
            ("make -j all", "make all", Client::Descriptors),
            ("/usr/bin/make --jobs=4", "/usr/bin/make", Client::Descriptors),
            ("make --jobs 4 x", "make x", Client::Descriptors),
            ("make -sj2 x", "make -s x", Client::Descriptors),
            ("make -j2s x", "make -s x", Client::Descriptors),
            ("make -C j2 x", "make -C j2 x", Client::No),
            ("make -Cj2 x", "make -Cj2 x", Client::No),
            ("make -f j8.mk -j2", "make -f j8.mk", Client::Descriptors),
            ("make -- -j2", "make -- -j2", Client::No),
            ("ninja -j8", "ninja -j8", Client::No),
        ] {
            let found = read(line, None);
            assert_eq!((found.0.as_str(), found.1), (left, client), "{line}");
        }
    }

    #[test]
    fn a_ninja_that_knows_the_jobserver_is_its_client() {
        let read = |program: &str, version: Option<&str>| {
            let version = |_: &OsStr| version.map(str::to_owned);
            BuildCommand::new(vec![program.into()], None, version).client
        };
        assert_eq!(read("/usr/bin/ninja", Some("1.13.0.git\n")), Client::Path);
        assert_eq!(read("ninja", Some("2.0")), Client::Path);
        assert_eq!(read("ninja", Some("1.11.1\n")), Client::No);
        assert_eq!(read("ninja", None), Client::No);
        assert_eq!(read("sh", Some("9.9")), Client::No);
    }

    #[test]
    fn makeflags_count_too() {
        assert_eq!(read("make", Some("-j8")).1, Client::Descriptors);
        assert_eq!(read("make", Some("kj8")).1, Client::Descriptors);
        let inside = read("make -j4", Some(" -j4 --jobserver-auth=3,4"));
        assert_eq!(inside, ("make -j4".to_owned(), Client::No));
    }
}
