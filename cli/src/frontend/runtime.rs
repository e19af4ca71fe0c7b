//! Interpreters with a standard library: which of its directories belong to their closure.
//!
//! The interpreter itself is asked, so that it does not matter where it is installed. Only what
//! comes with it counts: packages that were installed later are inputs of the command, or the
//! names of thunks would depend on what else a machine has.

use std::path::{Path, PathBuf};

use super::context::Context;
use super::directory::{self, Whole};
use super::probe::Answer;
use super::reason::{LocalReason, Step};

/// An interpreter, by the name of its program without a version.
struct Runtime {
    name: &'static str,
    /// Makes it print the path of its own executable, then the directories of its standard
    /// library, one a line.
    question: &'static [&'static str],
}

/// docs/run.md shows this table to users.
const RUNTIMES: &[Runtime] = &[
    Runtime {
        name: "python",
        // Isolated and without `site`: neither PYTHONPATH nor installed packages.
        question: &["-I", "-S", "-c", "import sys; print(sys.executable, *sys.path, sep='\\n')"],
    },
    Runtime {
        name: "perl",
        // Debian keeps what perl needs to start in a directory of its own, `perl-base`.
        question: &[
            "-MConfig",
            "-e",
            "print map {qq($_\\n)} $^X, @Config{qw(privlibexp archlibexp)}, grep m{/perl-base$}, @INC",
        ],
    },
];

impl Runtime {
    fn of(path: &str) -> Option<&'static Self> {
        let name = path.rsplit('/').next()?;
        let bare = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
        RUNTIMES.iter().find(|runtime| runtime.name == bare)
    }

    /// The lines that it prints.
    fn ask(&self, context: &Context<'_>, path: &str) -> Step<Vec<String>> {
        let cwd = context.view.path_of(context.cwd);
        let program = Path::new(&*cwd).join(path);
        let answer = context.prober().run_as_called(&program, self.question, Path::new(&*cwd))?;
        let Answer { success: true, stdout, .. } = answer else {
            let reason = format!("{path} does not say where its standard library is");
            return Err(LocalReason::Toolchain(reason).into());
        };
        Ok(stdout.lines().map(str::to_owned).collect())
    }
}

/// The executable behind a script that stands in for an interpreter (pyenv, asdf). None for other
/// programs, or if the interpreter itself is at `path`.
pub(crate) fn behind(context: &Context<'_>, path: &str) -> Step<Option<String>> {
    let Some(runtime) = Runtime::of(path) else { return Ok(None) };
    let place = context.place(path)?;
    if !super::closure::is_script(&place.real) {
        return Ok(None);
    }
    let executable = runtime.ask(context, path)?.into_iter().next();
    Ok(executable.filter(|found| found.starts_with('/') && found != path))
}

/// Shows the standard library of the interpreter at `path`, if it is one.
pub(crate) fn show(context: &mut Context<'_>, path: &str) -> Step<()> {
    let Some(runtime) = Runtime::of(path) else { return Ok(()) };
    if !context.runtimes.insert(PathBuf::from(path)) {
        return Ok(());
    }
    let answer = runtime.ask(context, path)?;
    for library in answer.iter().skip(1).filter(|line| line.starts_with('/')) {
        if Path::new(library).is_dir() {
            directory::show(context, library, Whole::Runtime)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_versions() {
        for (path, name) in [
            ("python3", Some("python")),
            ("/usr/bin/python3.11", Some("python")),
            ("/opt/bin/perl5.36.0", Some("perl")),
            ("/usr/bin/python3-config", None),
            ("/bin/sh", None),
        ] {
            assert_eq!(Runtime::of(path).map(|runtime| runtime.name), name, "{path}");
        }
    }
}
