//! Questions to a tool about itself, each asked once.
//!
//! An answer holds as long as the program file is the same and the few environment variables
//! that change it are; so that is its key.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::identity::Stamp;
use super::reason::{LocalReason, Step};

/// A program as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Compiler {
    /// Its path, symbolic links kept.
    pub(crate) program: PathBuf,
    stamp: Stamp,
}

impl Compiler {
    /// The program at `path`.
    pub(crate) fn at(path: &Path) -> Step<Self> {
        let stamp =
            Stamp::at(path).ok_or_else(|| LocalReason::Missing(path.display().to_string()))?;
        Ok(Self { program: path.to_owned(), stamp })
    }
}

/// What a tool said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) success: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Variables that change what a compiler says about itself.
const VARIABLES: &[&str] = &["LIBRARY_PATH"];

/// Variables that a question must not be mixed with: they have a place of their own in a search
/// path, or make the compiler write files.
const WITHHELD: &[&str] = &[
    "CPATH",
    "C_INCLUDE_PATH",
    "CPLUS_INCLUDE_PATH",
    "OBJC_INCLUDE_PATH",
    "DEPENDENCIES_OUTPUT",
    "SUNPRO_DEPENDENCIES",
];

type Question = (Compiler, Vec<String>, Vec<Option<String>>, String);

/// The answers so far.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    known: Mutex<HashMap<Question, Arc<Answer>>>,
    pub(crate) asked: AtomicU64,
}

/// Asks, for one call.
pub(crate) struct Prober<'a> {
    pub(crate) answers: &'a Answers,
    pub(crate) environment: &'a BTreeMap<String, String>,
    /// `PATH` without the interposer.
    pub(crate) path: &'a str,
}

impl Prober<'_> {
    /// Runs `compiler arguments…` with nothing on standard input, in the C locale, or takes the
    /// answer that it gave before.
    pub(crate) fn ask(&self, compiler: &Compiler, arguments: &[&str]) -> Step<Arc<Answer>> {
        let variables = VARIABLES.iter().map(|name| self.environment.get(*name).cloned());
        let words = arguments.iter().map(|word| (*word).to_owned()).collect();
        let question = (compiler.clone(), words, variables.collect(), self.path.to_owned());
        if let Some(answer) = self.known().get(&question) {
            return Ok(Arc::clone(answer));
        }
        self.answers.asked.fetch_add(1, Ordering::Relaxed);
        let answer = Arc::new(self.run(&compiler.program, arguments, Path::new("/"))?);
        self.known().insert(question, Arc::clone(&answer));
        Ok(answer)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<Question, Arc<Answer>>> {
        self.answers.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs it now, in `directory`.
    pub(crate) fn run(&self, program: &Path, arguments: &[&str], directory: &Path) -> Step<Answer> {
        let environment = self.environment.iter();
        let environment = environment.filter(|(name, _)| !WITHHELD.contains(&name.as_str()));
        self.run_with(program, arguments, directory, environment)
    }

    /// Runs it with the call's own environment.
    pub(crate) fn run_as_called(
        &self,
        program: &Path,
        arguments: &[&str],
        directory: &Path,
    ) -> Step<Answer> {
        self.run_with(program, arguments, directory, self.environment.iter())
    }

    fn run_with<'e>(
        &self,
        program: &Path,
        arguments: &[&str],
        directory: &Path,
        environment: impl Iterator<Item = (&'e String, &'e String)>,
    ) -> Step<Answer> {
        let output = Command::new(program)
            .args(arguments)
            .current_dir(directory)
            .stdin(Stdio::null())
            .env_clear()
            .envs(environment)
            .env("PATH", self.path)
            .env("LC_ALL", "C")
            .output()
            .map_err(|error| LocalReason::Toolchain(format!("{}: {error}", program.display())))?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Answer {
            success: output.status.success(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        })
    }

    /// The one line that it prints, if it succeeds.
    pub(crate) fn line(&self, compiler: &Compiler, arguments: &[&str]) -> Step<Option<String>> {
        let answer = self.ask(compiler, arguments)?;
        Ok(answer.success.then(|| answer.stdout.trim_end().to_owned()).filter(|l| !l.is_empty()))
    }
}

/// Splits a line that `-###` printed into its words: blanks part them, double quotes and
/// backslashes keep.
pub(crate) fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' => word.get_or_insert_default().extend(characters.next()),
            ' ' if !quoted => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_printed_line() {
        let line = " /usr/cc1 -quiet \"-mtune=generic\" \"a b\" --param \"x=1\" c\\\"d \"\"";
        let wanted = ["/usr/cc1", "-quiet", "-mtune=generic", "a b", "--param", "x=1", "c\"d", ""];
        assert_eq!(words(line), wanted);
    }
}
