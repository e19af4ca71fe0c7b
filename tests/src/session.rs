//! A user's session in a project, held twice: plainly, and with `mesh`. Both must come out alike.

use std::fmt::Write as _;

use crate::{Built, Mesh, Project, Report, With, skip};

/// Build commands (`make …`) and edits of the sources (any other line of shell) between them.
#[derive(Clone, Debug)]
pub struct Session {
    lines: Vec<String>,
    stamped: Vec<&'static str>,
    /// Do the streams have to be the same?
    says_the_same: bool,
}

/// Lazy or eager, where both have to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// `mesh build`
    Lazy,
    /// `mesh build --eager`
    Eager,
}

impl Mode {
    /// This mode with that home.
    ///
    /// A mesh without `build` is compared as if it were plain: that tests this harness alone.
    pub fn with(self, mesh: &Mesh) -> With<'_> {
        match self {
            _ if mesh.run(["build", "--help"]).code != Some(0) => {
                skip::unable("this mesh has no `build`; plain make was compared with itself");
                With::Plain
            }
            Self::Lazy => With::Lazy(mesh),
            Self::Eager => With::Eager(mesh),
        }
    }
}

impl Session {
    /// A session of these lines. Those that begin with `make` are builds.
    pub fn new<L: Into<String>>(lines: impl IntoIterator<Item = L>) -> Self {
        let lines = lines.into_iter().map(Into::into).collect();
        Self { lines, stamped: Vec::new(), says_the_same: true }
    }

    /// The bytes of these files are never the same twice: times or random numbers are in them.
    #[must_use]
    pub fn stamped(mut self, paths: &[&'static str]) -> Self {
        self.stamped.extend(paths);
        self
    }

    /// Commands run at once: what they say may come in any order.
    #[must_use]
    pub fn in_any_order(mut self) -> Self {
        self.says_the_same = false;
        self
    }

    /// Holds the session in fresh sources; the builds' results in order.
    #[track_caller]
    pub fn hold(&self, project: &Project, with: With<'_>) -> Vec<Built> {
        project.reset();
        let mut builds = Vec::new();
        for line in &self.lines {
            match line.split_whitespace().next() {
                Some("make") => builds.push(project.build(with, line)),
                _ => project.edit(line),
            }
        }
        builds
    }

    /// Fails the test unless each build ended alike: status, streams, files.
    ///
    /// A lazy build that fails has gone further than plain make before it knew: it may leave more
    /// files, and fewer of those that an earlier build had left. Where it says that it runs the
    /// build command again, the command repeats what it says on standard output.
    #[track_caller]
    pub fn compare(&self, plain: &[Built], mode: Mode, other: &[Built]) {
        let lines = self.lines.iter().filter(|line| line.starts_with("make"));
        let mut went_further = false;
        for ((line, one), two) in lines.zip(plain).zip(other) {
            let context = context(two);
            let placeholders = two.snapshot.files_that(|bytes| bytes.starts_with(PLACEHOLDER));
            assert!(placeholders.is_empty(), "left as placeholders: {placeholders:?}{context}");
            let (ended, ended_with_mesh) = (one.finished.code, two.finished.code);
            assert_eq!(ended, ended_with_mesh, "exit status of `{line}`{context}");
            went_further |= mode == Mode::Lazy && ended != Some(0);
            let differences = if mode == Mode::Lazy && ended != Some(0) {
                one.snapshot.differences_in_common(&two.snapshot, &self.stamped)
            } else {
                one.snapshot.differences(&two.snapshot, &self.stamped)
            };
            differences.assert_none(format_args!("files after `{line}`{context}"));
            if self.says_the_same {
                let said = |text: &str| comparable(text);
                let (one, two) = (&one.finished, &two.finished);
                assert_eq!(said(&one.stderr), said(&two.stderr), "errors of `{line}`{context}");
                went_further |=
                    mode == Mode::Lazy && two.stderr.contains("running the build again");
                let same = said(&one.stdout) == said(&two.stdout);
                let excused = same || went_further;
                assert!(excused, "`{line}` says{context}\n{}\n{}", one.stdout, two.stdout);
            }
        }
        assert_eq!(plain.len(), other.len());
    }
}

/// How a placeholder begins.
pub(crate) const PLACEHOLDER: &[u8] = b"mesh placeholder ";

/// What helps to understand a failed comparison.
pub(crate) fn context(built: &Built) -> String {
    let mut text = String::new();
    let _ = write!(text, "\n--- stderr with mesh:\n{}", built.finished.stderr);
    if let Some(report) = &built.report {
        let Report { thunks, executed, reused, failed, .. } = report;
        let _ = write!(
            text,
            "--- {thunks} thunks, {executed} executed, {reused} reused, {failed} failed; local:\n{}\n---",
            report.reasons()
        );
    }
    text
}

/// Without mesh's own talk, and with the same name for every temporary file of a compiler.
pub(crate) fn comparable(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with("mesh: "));
    lines.map(|line| without_temporary_names(line) + "\n").collect()
}

fn without_temporary_names(line: &str) -> String {
    const PREFIX: &str = "/tmp/cc";
    let mut parts = line.split(PREFIX);
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_alphanumeric());
        result += PREFIX;
        result += if part.len() == rest.len() { "" } else { "*" };
        result += rest;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_varies_is_taken_out() {
        let said = "mesh: 3 thunks\nld: /tmp/ccAb12xY.o: in `main' /tmp/ccZZZZZZ.s\nend";
        assert_eq!(comparable(said), "ld: /tmp/cc*.o: in `main' /tmp/cc*.s\nend\n");
    }
}
