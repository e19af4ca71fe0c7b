//! The interposer: this binary under a compiler's name, in a directory early in `PATH`.
//!
//! It hands the call to the supervisor and does what the answer says. Everything slow - caches,
//! scanning, hashing - is in the supervisor, so a call costs little more than starting a process.
//! With no supervisor about (a directory of links that outlived its build), it is the real tool.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use mesh_cli::frontend::Frontends;
use rustix::fs::Mode;

use super::wire::{self, Reply, Request};

/// Where the supervisor listens; set for the build command.
pub(crate) const SOCKET_VARIABLE: &str = "MESH_BUILD_SOCKET";

/// What a shell says of a program that it cannot find.
const NOT_FOUND: u8 = 127;

/// The tool that this process stands in for, if it was started under a modelled tool's name.
pub(crate) fn tool_name() -> Option<OsString> {
    let called = std::env::args_os().next()?;
    let name = Path::new(&called).file_name()?;
    name.to_str().is_some_and(Frontends::is_modelled).then(|| name.to_owned())
}

/// Stands in for `tool`.
pub(crate) fn run(tool: &OsString) -> ExitCode {
    match attend() {
        Ok(Some((Reply::Done { stdout, stderr, status }, _))) => {
            // A reader that has gone is the caller's business, as it would be the compiler's.
            let _ = io::stdout().write_all(&stdout).and_then(|()| io::stdout().flush());
            let _ = io::stderr().write_all(&stderr);
            status.into()
        }
        Ok(Some((Reply::Local(program), _))) => become_tool(Path::new(&program)),
        Ok(Some((Reply::Report(program), socket))) => run_tool(Path::new(&program), &socket),
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

/// Connects to the supervisor and asks it; `None` if there is none.
fn attend() -> io::Result<Option<(Reply, UnixStream)>> {
    let Some(path) = std::env::var_os(SOCKET_VARIABLE) else { return Ok(None) };
    let socket = UnixStream::connect(path)?;
    Ok(ask(&socket)?.map(|reply| (reply, socket)))
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
    // It can only be read by setting it; this process has one thread.
    let umask = rustix::process::umask(Mode::empty());
    rustix::process::umask(umask);
    let umask = umask.bits();
    let request = Request { arguments, working_directory, environment, umask };
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let streams = wire::standard_streams(&stdin, &stdout, &stderr);
    wire::send_request(socket, &request, streams)?;
    wire::receive_reply(socket).map(Some)
}

/// Executes the real tool in place of this process.
fn become_tool(program: &Path) -> ExitCode {
    let error = real_tool(program).exec();
    eprintln!("mesh: {}: {error}", program.display());
    NOT_FOUND.into()
}

/// Runs the real tool, tells the supervisor how it ended, and ends likewise.
fn run_tool(program: &Path, mut socket: &UnixStream) -> ExitCode {
    let status = match real_tool(program).status() {
        Ok(status) => status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
        Err(error) => {
            eprintln!("mesh: {}: {error}", program.display());
            NOT_FOUND.into()
        }
    };
    let status = u8::try_from(status).unwrap_or(u8::MAX);
    // The supervisor only counts with it.
    let _ = socket.write_all(&[status]);
    status.into()
}

/// The real tool with the words of this call. The tools that a compiler starts itself are not
/// interposed: it has decided to run here. A script may call others, and those are.
fn real_tool(program: &Path) -> Command {
    let mut command = Command::new(program);
    // A bare name leads to the tool without our links in `PATH`, so it can keep it.
    if let Some(name) = std::env::args_os().next()
        && !name.as_encoded_bytes().contains(&b'/')
    {
        command.arg0(name);
    }
    command.args(std::env::args_os().skip(1));
    if !is_script(program) {
        command.env_remove(SOCKET_VARIABLE);
        if let Some(path) = std::env::var_os("PATH") {
            let own = own_directory();
            let others = std::env::split_paths(&path).filter(|place| Some(place) != own.as_ref());
            // What was split can be joined.
            command.envs(std::env::join_paths(others).ok().map(|path| ("PATH", path)));
        }
    }
    command
}

/// Where the interposer's links are, seen from the link that was called.
fn own_directory() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let called = std::env::args_os().next()?;
    let own = std::fs::metadata("/proc/self/exe").ok()?;
    let name = Path::new(&called).file_name()?.to_owned();
    std::env::split_paths(&path).find(|directory| {
        std::fs::metadata(directory.join(&name)).is_ok_and(|found| is_same(&found, &own))
    })
}

fn is_script(program: &Path) -> bool {
    let mut head = [0; 2];
    let read = std::fs::File::open(program).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && head == *b"#!"
}

/// The first program of that name in `PATH` that is not this binary.
fn behind(tool: &OsString) -> Option<PathBuf> {
    let own = std::fs::metadata("/proc/self/exe").ok()?;
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).map(|directory| directory.join(tool));
    found.into_iter().find(|candidate| is_other_program(candidate, &own))
}

fn is_other_program(candidate: &Path, own: &std::fs::Metadata) -> bool {
    std::fs::metadata(candidate)
        .is_ok_and(|found| found.is_file() && found.mode() & 0o111 != 0 && !is_same(&found, own))
}

fn is_same(one: &std::fs::Metadata, other: &std::fs::Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}
