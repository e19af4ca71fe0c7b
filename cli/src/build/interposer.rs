//! The interposer: this binary under a compiler's name, in a directory early in `PATH`.
//!
//! It hands the call to the supervisor and does what the answer says. Everything slow - caches,
//! scanning, hashing - is in the supervisor, so a call costs little more than starting a process.
//! With no supervisor about (a directory of links that outlived its build), it is the real tool.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use super::wire::{self, Reply, Request};

/// Where the supervisor listens; set for the build command.
pub(crate) const SOCKET_VARIABLE: &str = "MESH_BUILD_SOCKET";

/// What a shell says of a program that it cannot find.
const NOT_FOUND: u8 = 127;

/// The tool that this process stands in for, if it was started under another name than `mesh`.
pub(crate) fn tool_name() -> Option<OsString> {
    let called = std::env::args_os().next()?;
    let name = Path::new(&called).file_name()?;
    (name != "mesh" && std::env::var_os(SOCKET_VARIABLE).is_some()).then(|| name.to_owned())
}

/// Stands in for `tool`.
pub(crate) fn run(tool: &OsString) -> ExitCode {
    let socket = std::env::var_os(SOCKET_VARIABLE).unwrap_or_default();
    let answer = match UnixStream::connect(socket) {
        Ok(socket) => ask(&socket),
        Err(error) => Err(error),
    };
    match answer {
        Ok(Some(Reply::Done { stdout, stderr, status })) => {
            // A reader that has gone is the caller's business, as it would be the compiler's.
            let _ = io::stdout().write_all(&stdout).and_then(|()| io::stdout().flush());
            let _ = io::stderr().write_all(&stderr);
            status.into()
        }
        Ok(Some(Reply::Local(program))) => become_tool(Path::new(&program)),
        // No supervisor, or a call that cannot be put into words: the real tool knows.
        Ok(None) | Err(_) => match behind(tool) {
            Some(program) => become_tool(&program),
            None => {
                eprintln!("mesh: {}: not found in PATH", tool.display());
                NOT_FOUND.into()
            }
        },
    }
}

/// Asks the supervisor; `None` if an argument, a variable or the directory is not UTF-8.
fn ask(socket: &UnixStream) -> io::Result<Option<Reply>> {
    let text = |text: OsString| text.into_string().ok();
    let arguments: Option<Vec<String>> = std::env::args_os().map(text).collect();
    let variables = std::env::vars_os().map(|(key, value)| Some((text(key)?, text(value)?)));
    let environment: Option<BTreeMap<String, String>> = variables.collect();
    let directory = text(std::env::current_dir()?.into_os_string());
    let (Some(arguments), Some(environment), Some(working_directory)) =
        (arguments, environment, directory)
    else {
        return Ok(None);
    };
    let request = Request { arguments, working_directory, environment };
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let streams = wire::standard_streams(&stdin, &stdout, &stderr);
    wire::send_request(socket, &request, streams)?;
    wire::receive_reply(socket).map(Some)
}

/// Executes the real tool in place of this process. It is called by its absolute path, because
/// compilers look for their parts beside where they think they are.
fn become_tool(program: &Path) -> ExitCode {
    let error = Command::new(program).args(std::env::args_os().skip(1)).exec();
    eprintln!("mesh: {}: {error}", program.display());
    NOT_FOUND.into()
}

/// The first program of that name in `PATH` that is not this binary.
fn behind(tool: &OsString) -> Option<PathBuf> {
    let own = std::fs::metadata("/proc/self/exe").ok()?;
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).map(|directory| directory.join(tool));
    found.into_iter().find(|candidate| is_other_program(candidate, &own))
}

fn is_other_program(candidate: &Path, own: &std::fs::Metadata) -> bool {
    std::fs::metadata(candidate).is_ok_and(|found| {
        let same = (found.dev(), found.ino()) == (own.dev(), own.ino());
        found.is_file() && found.mode() & 0o111 != 0 && !same
    })
}
