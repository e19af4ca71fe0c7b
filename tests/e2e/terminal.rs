//! What a person sees of a run on a terminal, and what a file gets instead.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;

use mesh_tests::{Members, Mesh, Project, With, binary};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::json;

use super::force::{script, shell};

/// A run that shows nothing for so long is broken.
const PATIENCE: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };

/// A terminal that understands as much as is needed: text, line ends, up, erase below, colours.
struct Terminal {
    master: File,
    unread: Vec<u8>,
    raw: String,
    lines: Vec<String>,
    row: usize,
    column: usize,
}

impl Terminal {
    fn new() -> (Self, File) {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let path = std::ffi::OsStr::from_bytes(name.to_bytes());
        let slave = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let terminal = Self {
            master: OwnedFd::into(master),
            unread: Vec::new(),
            raw: String::new(),
            lines: vec![String::new()],
            row: 0,
            column: 0,
        };
        terminal.resize(80);
        (terminal, slave)
    }

    fn resize(&self, columns: u16) {
        let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).unwrap();
    }

    /// Shows what comes until the screen satisfies; false if the program ends before.
    fn show_until(&mut self, satisfied: impl Fn(&Self) -> bool) -> bool {
        while !satisfied(self) {
            let mut ready = [PollFd::new(&self.master, PollFlags::IN)];
            assert_eq!(poll(&mut ready, Some(&PATIENCE)), Ok(1), "silence: {:?}", self.raw);
            let mut bytes = [0; 4096];
            // When nobody has the other end open any more, reading is an error on Linux.
            let Ok(count @ 1..) = self.master.read(&mut bytes) else { return false };
            self.unread.extend_from_slice(&bytes[..count]);
            self.show();
        }
        true
    }

    fn show(&mut self) {
        let whole = match std::str::from_utf8(&self.unread) {
            Ok(_) => self.unread.len(),
            Err(error) => error.valid_up_to(),
        };
        let mut text = String::from_utf8(self.unread.drain(..whole).collect()).unwrap();
        self.raw.push_str(&text);
        while let Some(first) = text.chars().next() {
            let length = if first == '\x1b' {
                let Some(end) = text[1..].find(|c: char| c.is_ascii_alphabetic()) else { break };
                self.obey(&text[1..end + 2]);
                end + 2
            } else {
                self.put(first);
                first.len_utf8()
            };
            text.drain(..length);
        }
        // The rest of an escape is still on its way.
        self.raw.truncate(self.raw.len() - text.len());
        self.unread.splice(..0, text.into_bytes());
    }

    fn put(&mut self, c: char) {
        match c {
            '\r' => self.column = 0,
            '\n' => {
                self.row += 1;
                if self.row == self.lines.len() {
                    self.lines.push(String::new());
                }
            }
            c => {
                let line = &mut self.lines[self.row];
                let at = line.char_indices().nth(self.column).map_or(line.len(), |(at, _)| at);
                line.truncate(at);
                line.push(c);
                self.column += 1;
            }
        }
    }

    fn obey(&mut self, escape: &str) {
        let number = escape[1..escape.len() - 1].parse().unwrap_or(1);
        match escape.as_bytes() {
            [b'[', .., b'm'] => {}
            [b'[', .., b'A'] => self.row = self.row.checked_sub(number).expect("below the top"),
            [b'[', b'J'] => {
                assert_eq!(self.column, 0);
                self.lines.truncate(self.row);
                self.lines.push(String::new());
            }
            _ => panic!("{escape:?} in {:?}", self.raw),
        }
    }

    fn line(&self, found: impl Fn(&str) -> bool) -> Option<&str> {
        self.lines.iter().map(String::as_str).find(|line| found(line))
    }
}

#[test]
fn a_terminal_shows_what_runs_and_in_the_end_what_it_came_to() {
    let mesh = Mesh::new();
    let shell = shell(&mesh);
    let quick = script(&shell, "echo warned >&2; echo > /out", json!({}));
    // It runs until its time is over, so that it is seen to run.
    let limits = json!({"limits": {"timeout_ms": 3000}});
    let endless = script(&shell, "while :; do :; done", limits);
    let (mut terminal, slave) = Terminal::new();
    let mut command = mesh.command(["force", "-k", "-"]);
    command.env("TERM", "xterm").env_remove("NO_COLOR");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(slave);
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{quick}\n{endless}").unwrap();

    let step = |line: &str| line.ends_with("s sh -c while :; do :; done");
    let status = |line: &str| line.starts_with("[") && line.ends_with(" 0 local");
    let both = |terminal: &Terminal| terminal.line(step).and(terminal.line(status)).is_some();
    assert!(terminal.show_until(both), "{:?}", terminal.raw);
    // As long as there may be more thunks, the block stays, and follows the terminal's width.
    terminal.resize(15);
    let narrow = |line: &str| line.starts_with("[") && line.chars().count() == 14;
    assert!(terminal.show_until(|terminal| terminal.line(narrow).is_some()), "{:?}", terminal.raw);
    assert!(terminal.show_until(|terminal| terminal.line(|l| l.contains("failed:")).is_some()));
    drop(stdin);
    assert!(!terminal.show_until(|_| false));
    assert_eq!(child.wait().unwrap().code(), Some(1));

    let lines: Vec<&str> = terminal.lines.iter().map(String::as_str).collect();
    let [warned, failed, closing, error, ""] = lines[..] else { panic!("{lines:#?}") };
    assert_eq!(warned, "warned");
    assert!(failed.ends_with("failed: it ran out of time"), "{failed}");
    assert!(
        closing.starts_with("mesh: 2 thunks, 1 run, 0 reused, 1 failed, 0 local, "),
        "{closing}"
    );
    assert!(error.starts_with("mesh: 1 "), "{error}");
    assert!(terminal.raw.contains("\x1b[1m[") && terminal.raw.contains("\x1b[J"));
}

/// The build has a terminal of its own; what it writes stands above the block, unbroken.
#[test]
fn a_build_writes_above_the_block() {
    let (project, mesh) = (Project::own("slow"), Mesh::new());
    let (mut terminal, slave) = Terminal::new();
    let mut command = project.command(binary());
    command.env("MESH_HOME", mesh.home()).env("TERM", "xterm").args(["build", "--", "make"]);
    let own = slave.try_clone().unwrap();
    let mut child = command.stdin(Stdio::null()).stdout(own).stderr(slave).spawn().unwrap();
    drop(command);
    let status = |line: &str| line.starts_with("[") && line.ends_with(" 0 local");
    let step = |line: &str| line.ends_with("s cc many.c");
    let both = |terminal: &Terminal| terminal.line(step).and(terminal.line(status)).is_some();
    assert!(terminal.show_until(both), "{:?}", terminal.raw);
    assert!(!terminal.show_until(|_| false));
    assert!(child.wait().unwrap().success());

    let lines: Vec<&str> = terminal.lines.iter().map(String::as_str).collect();
    let [commands @ .., closing, ""] = &lines[..] else { panic!("{lines:#?}") };
    let plain = project.build(With::Plain, "make -B").ok().finished.stdout;
    assert_eq!(commands, plain.lines().collect::<Vec<_>>());
    assert!(closing.starts_with("mesh: 6 thunks, 6 run, 0 reused, 0 local, "), "{closing}");
}

/// What was typed cannot be read twice: it is not asked for before a step may fail no more.
#[test]
fn what_is_typed_is_asked_for_once() {
    let late = "int f(int n) { return n; }\n__asm__(\"no_such_instruction\");\n";
    let recipe = "all: ok.o\n\t@printf 'name? '; read name; echo \"[$$name]\"\n\
        \tgcc -c bad.c\nok.o: ok.c\n\tgcc -c ok.c\n";
    let files = [("Makefile", recipe), ("ok.c", "int ok;\n"), ("bad.c", late)];
    let (project, mesh) = (Project::made(files), Mesh::new());
    for _ in ["cold", "warm"] {
        project.edit("rm -f ok.o");
        let (mut terminal, slave) = Terminal::new();
        let mut command = project.command(binary());
        command.env("MESH_HOME", mesh.home()).env("TERM", "xterm").args(["build", "--", "make"]);
        let (input, output) = (slave.try_clone().unwrap(), slave.try_clone().unwrap());
        let mut child = command.stdin(input).stdout(output).stderr(slave).spawn().unwrap();
        drop(command);
        let asks = |terminal: &Terminal| terminal.line(|line| line == "name? ").is_some();
        assert!(terminal.show_until(asks), "{:?}", terminal.raw);
        terminal.master.write_all(b"bob\n").unwrap();
        assert!(!terminal.show_until(|_| false));
        assert_eq!(child.wait().unwrap().code(), Some(2), "{:?}", terminal.raw);
        let answers = terminal.lines.iter().filter(|line| line.as_str() == "[bob]").count();
        assert_eq!(answers, 1, "{:#?}", terminal.lines);
        assert!(terminal.line(|line| line == "name? bob").is_some(), "{:#?}", terminal.lines);
    }
}

#[test]
fn a_dumb_terminal_a_file_and_the_quiet_see_words_only() {
    let mesh = Mesh::new();
    let thunk = script(&shell(&mesh), "echo warned >&2; echo > /out", json!({}));
    let input = mesh.home().join("thunks");
    std::fs::write(&input, format!("{thunk}\n")).unwrap();
    let run = |arguments: &[&str], term: &str| {
        let (mut terminal, slave) = Terminal::new();
        let mut command = mesh.command(arguments);
        command.env("TERM", term).stdin(File::open(&input).unwrap()).stdout(Stdio::null());
        let mut child = command.stderr(slave).spawn().unwrap();
        drop(command);
        assert!(!terminal.show_until(|_| false));
        assert!(child.wait().unwrap().success());
        terminal.raw
    };
    let dumb = run(&["force", "-"], "dumb");
    assert!(dumb.starts_with("warned\r\nmesh: 1 thunk, 1 run, 0 reused, 0 local, "), "{dumb:?}");
    assert!(!dumb.contains('\x1b'), "{dumb:?}");
    assert_eq!(run(&["force", "--quiet", "-"], "xterm"), "");
    let piped = mesh.run_with(["force", "-"], format!("{thunk}\n").as_bytes());
    assert!(piped.stderr.starts_with("mesh: 1 thunk, 0 run, 1 reused, 0 local, "), "{piped:?}");
    assert!(!piped.stderr.contains('\x1b'), "{piped:?}");
}

#[test]
fn a_node_shows_what_it_runs_and_for_whom() {
    let (members, worker) = (Members::on_loopback(1), Mesh::new());
    let requester = members.home(0);
    let ticket = requester.ok(["invite"]);
    let (mut terminal, slave) = Terminal::new();
    terminal.resize(120);
    let mut command = worker.command_with_parent(["join", "--no-mdns", "--name", "attic"]);
    command.args(["--listen", "/ip4/127.0.0.1/tcp/0", &ticket]).env("TERM", "xterm");
    let mut node = command.env_remove("NO_COLOR").stderr(slave).spawn().unwrap();
    drop(command);
    let shows =
        |line: &'static str| move |terminal: &Terminal| terminal.line(|l| l == line).is_some();
    assert!(terminal.show_until(shows("0 running for others  0 done  1 member here")));

    let shell = shell(requester);
    let limits = json!({"limits": {"timeout_ms": 3000}});
    let endless = script(&shell, "while :; do :; done", limits);
    let mut command = requester.command(["force", "--slots", "0", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut forcing = command.spawn().unwrap();
    writeln!(forcing.stdin.take().unwrap(), "{endless}").unwrap();
    let step = |line: &str| line.ends_with("s n0: sh -c while :; do :; done");
    let status = |line: &str| line.starts_with("1 running for others  0 done");
    let both = |terminal: &Terminal| terminal.line(step).and(terminal.line(status)).is_some();
    assert!(terminal.show_until(both), "{:?}", terminal.raw);
    worker.ok(["pause"]);
    let held = |line: &str| line.contains("for others  gives nothing: paused by its owner  ");
    assert!(terminal.show_until(|terminal| terminal.line(held).is_some()), "{:?}", terminal.raw);
    assert_eq!(forcing.wait().unwrap().code(), Some(1));
    let nothing = |line: &str| line.ends_with(" 1 came to nothing  1 member here");
    assert!(terminal.show_until(|terminal| terminal.line(nothing).is_some()), "{:?}", terminal.raw);

    worker.ok(["stop"]);
    assert!(!terminal.show_until(|_| false));
    assert!(node.wait().unwrap().success());
    let lines: Vec<&str> = terminal.lines.iter().map(String::as_str).collect();
    assert!(lines[..lines.len() - 1].iter().all(|line| line.starts_with("mesh: ")), "{lines:#?}");
    for told in ["mesh: gives others nothing: paused by its owner", "mesh: ending"] {
        assert!(lines.contains(&told), "{told}: {lines:#?}");
    }
}
