//! The program itself, called as builds call it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use super::*;
use crate::build::wire::frame::SOCKET_VARIABLE;
use crate::build::wire::{Answer, Done, RealTool, Request, Scrub, receive_request, send_answer};

/// A place with an interposer, and links to it.
struct World {
    place: TempDir,
    interposer: Interposer,
}

impl World {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir(place.path().join("links")).unwrap();
        let interposer =
            Interposer::install(place.path(), Some(&place.path().join("real"))).unwrap();
        Self { place, interposer }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().canonicalize().unwrap().join(name)
    }

    fn link(&self, name: &str) -> PathBuf {
        let link = self.path("links").join(name);
        symlink(self.interposer.path(), &link).unwrap();
        link
    }

    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let path = format!("{}:/usr/bin:/bin", self.path("links").display());
        command.env_clear().env("PATH", path).current_dir(self.place.path()).stdin(Stdio::null());
        command
    }

    /// Runs a call that gets this answer; with what was asked, and what was sent afterwards.
    fn answered(&self, mut call: Command, answer: Answer) -> (Output, Request, Vec<u8>) {
        let socket = self.path("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        call.env(SOCKET_VARIABLE, &socket);
        let serve = move || {
            let (mut caller, _): (UnixStream, _) = listener.accept().unwrap();
            let (request, [_, stdout, _]) = receive_request(&caller).unwrap().unwrap();
            File::from(stdout).write_all(b"through its own stream\n").unwrap();
            send_answer(&caller, &answer).unwrap();
            let mut after = Vec::new();
            caller.read_to_end(&mut after).unwrap();
            (request, after)
        };
        let server = std::thread::spawn(serve);
        let output = call.output().unwrap();
        let (request, after) = server.join().unwrap();
        (output, request, after)
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_call_that_others_do() {
    let world = World::new();
    let mut call = world.command(world.link("gcc"));
    // More than a socket takes at once.
    let long = "x".repeat(100_000);
    for name in ["ONE", "TWO", "THREE", "FOUR", "FIVE"] {
        call.env(name, &long);
    }
    call.args(["-c", "a b.c", ""]);
    let (stdout, stderr) = (b"out\n".repeat(20_000), b"warning".to_vec());
    let answer = Answer::Done(Done { stdout: stdout.clone(), stderr: stderr.clone(), status: 3 });
    let (output, request, after) = world.answered(call, answer);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(output.stdout, [&b"through its own stream\n"[..], &stdout].concat());
    assert_eq!((output.stderr, after), (stderr, vec![]));
    assert_eq!(request.arguments[1..], ["-c", "a b.c", ""]);
    assert!(request.arguments[0].ends_with("links/gcc"));
    assert_eq!(Path::new(&request.working_directory), world.path("").components().as_path());
    assert_eq!((request.file, &request.environment["FIVE"]), (None, &long));
}

#[test]
fn a_call_whose_streams_are_closed() {
    let world = World::new();
    world.link("gcc");
    let mut call = world.command("sh");
    call.args(["-c", "exec gcc <&- 2>&-"]);
    let answer =
        Answer::Done(Done { stdout: b"out".to_vec(), stderr: b"lost".to_vec(), status: 0 });
    let (output, _, _) = world.answered(call, answer);
    assert_eq!(text(&output.stdout), "through its own stream\nout");
    assert!(output.stderr.is_empty());
}

#[test]
fn a_call_that_the_tool_takes_over() {
    for (is_watched, scrub, seen) in [
        (false, None, "linked set"),
        (false, Some(Scrub { path: Some("/elsewhere".to_owned()) }), "/elsewhere"),
        (true, Some(Scrub { path: None }), "linked"),
    ] {
        let world = World::new();
        let mut call = world.command(world.link("gcc"));
        call.env("PATH", "linked").arg("-c");
        call.arg(format!("echo $0 $PATH ${{{SOCKET_VARIABLE}+set}}; exit 7"));
        let (file, name) = (PathBuf::from("/bin/sh"), None);
        let (output, _, after) =
            world.answered(call, Answer::Tool(RealTool { file, name, scrub, is_watched }));
        assert_eq!(output.status.code(), Some(7));
        let name = world.path("links/gcc");
        let said = format!("through its own stream\n{} {seen}\n", name.display());
        assert_eq!(text(&output.stdout), said);
        assert_eq!(after, if is_watched { vec![7] } else { vec![] });
    }
}

#[test]
fn a_tool_that_a_signal_ends_or_that_is_not_there() {
    for (file, code, words) in [("/bin/sh", 143, ""), ("/none", 127, "mesh: /none: not found\n")] {
        let world = World::new();
        let mut call = world.command(world.link("gcc"));
        call.args(["-c", "kill $$"]);
        let (file, name) = (PathBuf::from(file), Some("another".to_owned()));
        let tool = RealTool { file, name, scrub: None, is_watched: true };
        let (output, _, after) = world.answered(call, Answer::Tool(tool));
        assert_eq!((output.status.code(), after), (Some(i32::from(code)), vec![code]));
        assert_eq!(text(&output.stderr), words);
    }
}

#[test]
fn without_a_supervisor_it_is_the_tool() {
    let world = World::new();
    let link = world.link("echo");
    for (program, socket) in [(link.as_path(), "gone"), (Path::new("echo"), "")] {
        let output = world.command(program).arg("real").env(SOCKET_VARIABLE, socket).output();
        let output = output.unwrap();
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "real\n"));
    }
    let output = world.command(world.link("no-such-tool")).output().unwrap();
    assert_eq!(output.status.code(), Some(127));
    assert!(text(&output.stderr).ends_with("links/no-such-tool: not found\n"), "{output:?}");
}

/// What a GCC driver runs is a part of what has been decided already.
#[test]
fn below_a_compiler_nobody_is_asked() {
    let world = World::new();
    let mut call = world.command(world.link("echo"));
    let socket = world.path("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    listener.set_nonblocking(true).unwrap();
    call.arg("real").env(SOCKET_VARIABLE, &socket).env("COLLECT_GCC", "gcc");
    assert_eq!(text(&call.output().unwrap().stdout), "real\n");
    assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn where_it_is_bound_the_tool_is_below_real() {
    let world = World::new();
    let own = world.interposer.path();
    let original = world.path("real").join(own.strip_prefix("/").unwrap());
    std::fs::create_dir_all(original.parent().unwrap()).unwrap();
    write(&original, b"#!/bin/sh\necho original $1\n").unwrap();
    for program in [own.to_owned(), world.link("gcc")] {
        let output = world.command(program).arg("x").env_remove("PATH").output().unwrap();
        assert_eq!(text(&output.stdout), "original x\n");
    }
}

#[test]
fn it_is_known_again_and_made_anew_when_it_is_torn() {
    let world = World::new();
    let path = world.interposer.path();
    let found = |path: &Path| std::fs::metadata(path).unwrap();
    let other = tempfile::tempdir().unwrap();
    let other = Interposer::install(other.path(), None).map(|it| (it, other)).unwrap().0;
    assert!(is_any(path, &found(path)) && world.interposer.is(&found(path)));
    assert!(!world.interposer.is(&found(Path::new("/bin/sh"))));
    assert!(!is_any(Path::new("/bin/sh"), &found(Path::new("/bin/sh"))));
    assert_ne!(other.path().file_name(), path.file_name(), "it knows another directory");
    std::fs::write(path, &PROGRAM[..100]).unwrap();
    assert!(!is_any(path, &found(path)));
    let again = Interposer::install(world.place.path(), Some(&world.place.path().join("real")));
    assert!(is_any(path, &found(path)) && again.unwrap().is(&found(path)));
    let long = PathBuf::from("/".repeat(ROOM));
    assert!(Interposer::install(world.place.path(), Some(&long)).is_err());
}
