//! How a command starts: the file behind its name, the interpreters of scripts, and what all of
//! these load.
//!
//! A script is started as execve(2) starts it, but by us: the thunk's executable is the interpreter,
//! and its arguments are those that the kernel would give it. So `$0` is what it is without mesh.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::command::CommandError;
use super::context::Context;
use super::reason::{LocalReason, Step, Stop};
use super::runtime;
use super::view::{Place, join};

/// Scripts whose interpreter is a script: Linux allows five steps (`fs/exec.c`).
const INTERPRETERS_MAX: usize = 5;

/// Linux looks at this much of a script for its first line (`BINPRM_BUF_SIZE`).
const HEAD_BYTES: u64 = 256;

/// What a file is to execve(2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Head {
    Binary,
    /// `#!interpreter argument`
    Script {
        interpreter: String,
        argument: Option<String>,
    },
    /// Text without `#!`: shells and execvp(3) give it to `/bin/sh`.
    Text,
    Other,
}

impl Head {
    pub(crate) fn of(path: &str) -> std::io::Result<Self> {
        let mut head = Vec::new();
        File::open(path)?.take(HEAD_BYTES).read_to_end(&mut head)?;
        Ok(Self::parse(&head))
    }

    fn parse(head: &[u8]) -> Self {
        if head.starts_with(b"\x7fELF") {
            return Self::Binary;
        }
        let Some(line) = head.strip_prefix(b"#!") else {
            return if head.contains(&0) { Self::Other } else { Self::Text };
        };
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let Ok(line) = std::str::from_utf8(line) else { return Self::Other };
        let line = line.trim_matches([' ', '\t']);
        let (interpreter, argument) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        if interpreter.is_empty() {
            return Self::Other;
        }
        let argument = argument.trim_matches([' ', '\t']);
        let argument = (!argument.is_empty()).then(|| argument.to_owned());
        Self::Script { interpreter: interpreter.to_owned(), argument }
    }
}

/// What a thunk executes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Launch {
    /// An ELF file; every link on the way to it is shown, the last one may be one itself.
    pub(crate) executable: PathBuf,
    pub(crate) arguments: Vec<String>,
}

/// The program that a shell would start for `name`: its path, as execve(2) would be given it.
pub(crate) fn find(context: &Context<'_>, name: &str) -> Result<String, CommandError> {
    if name.contains('/') {
        let path = Path::new(&*context.view.path_of(context.cwd)).join(name);
        check(name, &path)?;
        return Ok(name.to_owned());
    }
    if let Some(found) = context.find_program(name) {
        let text = found.to_str().map(str::to_owned);
        return text.ok_or_else(|| LocalReason::Path(found).into());
    }
    let directories = context.path.split(':').filter(|directory| directory.starts_with('/'));
    for directory in directories {
        if let Err(error @ CommandError::NotExecutable { .. }) =
            check(name, &Path::new(directory).join(name))
        {
            return Err(error);
        }
    }
    Err(CommandError::NotFound { name: name.to_owned(), problem: "command not found" })
}

fn check(name: &str, path: &Path) -> Result<(), CommandError> {
    let not = |problem| Err(CommandError::NotExecutable { name: name.to_owned(), problem });
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            not("permission denied")
        }
        Err(_) => {
            let problem = "no such file or directory";
            Err(CommandError::NotFound { name: name.to_owned(), problem })
        }
        Ok(found) if found.is_dir() => not("is a directory"),
        Ok(found) if !found.is_file() || found.permissions().mode() & 0o111 == 0 => {
            not("permission denied")
        }
        Ok(_) => Ok(()),
    }
}

/// Shows all that it takes to start the program at `path` with these arguments, its own name first.
pub(crate) fn launch(
    context: &mut Context<'_>,
    path: &str,
    arguments: &[String],
) -> Result<Launch, CommandError> {
    let (mut path, mut arguments) = (path.to_owned(), arguments.to_vec());
    for _ in 0..=INTERPRETERS_MAX {
        let place = show(context, &path)?;
        let head = Head::of(&place.real).map_err(|error| failed(&path, &error))?;
        if head != Head::Binary
            && let Some(real) = runtime::behind(context, &path)?
        {
            arguments[0].clone_from(&real);
            path = real;
            continue;
        }
        let (interpreter, argument) = match head {
            Head::Binary => {
                load(context, &path, &place)?;
                let name = path.rsplit('/').next().unwrap_or_default();
                let executable = join(&context.view.path_of(place.includer), name);
                return Ok(Launch { executable: PathBuf::from(&*executable), arguments });
            }
            Head::Script { interpreter, argument } => (interpreter, argument),
            Head::Text => ("/bin/sh".to_owned(), None),
            Head::Other => {
                let problem = "exec format error";
                return Err(CommandError::NotExecutable { name: path, problem });
            }
        };
        check(&path, Path::new(&interpreter)).map_err(|_| CommandError::NotExecutable {
            name: format!("{path}: {interpreter}"),
            problem: "bad interpreter",
        })?;
        called_by_env(context, &interpreter, argument.as_deref())?;
        let called = [Some(interpreter.clone()), argument, Some(path)].into_iter().flatten();
        arguments.splice(..1, called);
        path = interpreter;
    }
    Err(CommandError::NotExecutable { name: path, problem: "too many levels of interpreters" })
}

/// Shows what a file needs that the command may start or load: its libraries or, if it may be
/// executed, its interpreter with what that needs. The file itself is the caller's business.
pub(crate) fn support(context: &mut Context<'_>, path: &str, executable: bool) -> Step<()> {
    let place = context.place(path)?;
    if executable || super::closure::is_loadable(&place.real) {
        support_at(context, path, 0)?;
    }
    Ok(())
}

fn support_at(context: &mut Context<'_>, path: &str, depth: usize) -> Step<()> {
    let Some(place) = context.view.resolve(context.cwd, path) else { return Ok(()) };
    if place.is_directory || depth > INTERPRETERS_MAX {
        return Ok(());
    }
    match Head::of(&place.real).map_err(|error| failed(path, &error))? {
        Head::Binary => load(context, path, &place),
        Head::Script { interpreter, argument } => {
            called_by_env(context, &interpreter, argument.as_deref())?;
            support_shown(context, &interpreter, depth + 1)
        }
        Head::Text | Head::Other => Ok(()),
    }
}

fn support_shown(context: &mut Context<'_>, path: &str, depth: usize) -> Step<()> {
    let path = runtime::behind(context, path)?.unwrap_or_else(|| path.to_owned());
    if context.view.resolve(context.cwd, &path).is_none() {
        return Ok(());
    }
    show(context, &path)?;
    support_at(context, &path, depth)
}

/// `#!/usr/bin/env python3`: the script's interpreter is the one that `env` will find.
fn called_by_env(context: &mut Context<'_>, interpreter: &str, argument: Option<&str>) -> Step<()> {
    if !interpreter.ends_with("/env") {
        return Ok(());
    }
    let Some(name) = argument.and_then(env_command) else { return Ok(()) };
    let Some(found) = context.find_program(name) else { return Ok(()) };
    let found = found.to_str().ok_or_else(|| LocalReason::Path(found.clone()))?.to_owned();
    let real = runtime::behind(context, &found)?.unwrap_or(found);
    if let Some(directory) = Path::new(&real).parent() {
        context.add_to_path(directory);
    }
    support_shown(context, &real, 1)
}

/// The command in `python3`, `-S python3 -u` and `-S A=b python3`.
fn env_command(argument: &str) -> Option<&str> {
    let mut words = argument.split([' ', '\t']);
    words.find(|word| !word.is_empty() && !word.starts_with('-') && !word.contains('='))
}

fn show(context: &mut Context<'_>, path: &str) -> Step<Place> {
    let (place, _) = context.input(path)?;
    Ok(place)
}

fn load(context: &mut Context<'_>, path: &str, place: &Place) -> Step<()> {
    context.loads.insert(PathBuf::from(&*place.real));
    runtime::show(context, path)
}

fn failed(path: &str, error: &std::io::Error) -> Stop {
    LocalReason::Failed(format!("{path}: {error}")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(interpreter: &str, argument: Option<&str>) -> Head {
        let argument = argument.map(str::to_owned);
        Head::Script { interpreter: interpreter.to_owned(), argument }
    }

    #[test]
    fn first_lines() {
        for (head, wanted) in [
            (&b"\x7fELF\x02"[..], Head::Binary),
            (b"#!/bin/sh\nexit", script("/bin/sh", None)),
            (b"#! /bin/sh -e -u \n", script("/bin/sh", Some("-e -u"))),
            (b"#!\t/usr/bin/env\t-S  python3 -u", script("/usr/bin/env", Some("-S  python3 -u"))),
            (b"#!\n", Head::Other),
            (b"#!\xff\n", Head::Other),
            (b"echo hello\n", Head::Text),
            (b"", Head::Text),
            (b"MZ\0\0", Head::Other),
        ] {
            assert_eq!(Head::parse(head), wanted, "{head:?}");
        }
    }

    #[test]
    fn commands_of_env() {
        assert_eq!(env_command("python3"), Some("python3"));
        assert_eq!(env_command("-S  python3 -u"), Some("python3"));
        assert_eq!(env_command("-S A=b perl"), Some("perl"));
        assert_eq!(env_command("-"), None);
    }
}
