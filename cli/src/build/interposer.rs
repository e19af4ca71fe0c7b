//! The interposer: this binary in a compiler's place, by a link early in `PATH` or bound over the
//! compiler's own file ([`super::binding`]).
//!
//! It hands the call to the supervisor and does what the answer says. Everything slow - caches,
//! scanning, hashing - is in the supervisor, so a call costs little more than starting a process.
//! With no supervisor about (a link that outlived its build, say), it is the real tool.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitCode};

use rustix::fs::Mode;

use super::stand_in::StandIn;
use super::wire::{self, Reply, Request};

/// Where the supervisor listens; set for the build command.
pub(crate) const SOCKET_VARIABLE: &str = "MESH_BUILD_SOCKET";

/// What a shell says of a program that it cannot find.
const NOT_FOUND: u8 = 127;

/// Set by a GCC driver for what it runs, which is then a part of a compilation that runs here.
const GCC_VARIABLE: &str = "COLLECT_GCC";

/// Does what its caller wanted of the tool.
pub(crate) fn run(stand_in: &StandIn) -> ExitCode {
    match attend(stand_in) {
        Ok(Some((Reply::Done { stdout, stderr, status }, _))) => {
            // A reader that has gone is the caller's business, as it would be the compiler's.
            let _ = io::stdout().write_all(&stdout).and_then(|()| io::stdout().flush());
            let _ = io::stderr().write_all(&stderr);
            status.into()
        }
        Ok(Some((Reply::Local(program), _))) => become_tool(stand_in, Path::new(&program)),
        Ok(Some((Reply::Report(program), socket))) => {
            run_tool(stand_in, Path::new(&program), &socket)
        }
        // No supervisor, or a call that cannot be put into words: the real tool knows.
        Ok(None) | Err(_) => match stand_in.behind() {
            Some(program) => become_tool(stand_in, &program),
            None => {
                eprintln!("mesh: {}: not found", stand_in.called.display());
                NOT_FOUND.into()
            }
        },
    }
}

/// Connects to the supervisor and asks it; `None` if there is none, or none of its business.
fn attend(stand_in: &StandIn) -> io::Result<Option<(Reply, UnixStream)>> {
    let Some(path) = std::env::var_os(SOCKET_VARIABLE) else { return Ok(None) };
    if std::env::var_os(GCC_VARIABLE).is_some() {
        return Ok(None);
    }
    let socket = UnixStream::connect(path)?;
    Ok(ask(stand_in, &socket)?.map(|reply| (reply, socket)))
}

/// Asks the supervisor; `None` if an argument, a variable or the directory is not UTF-8.
fn ask(stand_in: &StandIn, socket: &UnixStream) -> io::Result<Option<Reply>> {
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
    let file = stand_in.bound().and_then(Path::to_str).map(str::to_owned);
    let request = Request { arguments, file, working_directory, environment, umask };
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let streams = wire::standard_streams(&stdin, &stdout, &stderr);
    wire::send_request(socket, &request, streams)?;
    wire::receive_reply(socket).map(Some)
}

/// Executes the real tool in place of this process.
fn become_tool(stand_in: &StandIn, program: &Path) -> ExitCode {
    let error = real_tool(stand_in, program).exec();
    eprintln!("mesh: {}: {error}", program.display());
    NOT_FOUND.into()
}

/// Runs the real tool, tells the supervisor how it ended, and ends likewise.
fn run_tool(stand_in: &StandIn, program: &Path, mut socket: &UnixStream) -> ExitCode {
    let status = match real_tool(stand_in, program).status() {
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
fn real_tool(stand_in: &StandIn, program: &Path) -> Command {
    let file = stand_in.program_at(program);
    let file = file.as_deref().unwrap_or(program);
    let mut command = Command::new(file);
    command.arg0(stand_in.name_for(program)).args(std::env::args_os().skip(1));
    if !is_script(file) {
        command.env_remove(SOCKET_VARIABLE);
        command.envs(stand_in.path_without_links().map(|path| ("PATH", path)));
    }
    command
}

fn is_script(program: &Path) -> bool {
    let mut head = [0; 2];
    let read = std::fs::File::open(program).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && head == *b"#!"
}
