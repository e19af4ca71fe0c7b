//! The interposer: what is in a compiler's place during a build, by a link early in `PATH` or bound
//! over the compiler's own file.
//!
//! It hands the call to the supervisor and does what the answer says. Everything slow - caches,
//! scanning, hashing, deciding - is in the supervisor. With no supervisor about (a link that
//! outlived its build, say), it is the real tool.
//!
//! A build starts it for each call, so it is a program of its own, without libc, allocator or
//! relocations: starting it takes a fourth of the time that `mesh` itself takes. `mesh` carries it
//! inside and writes it to a file.
#![no_std]
#![no_main]
#![no_builtins]
#![deny(unsafe_code)]

mod frame;
mod sys;

use core::ffi::CStr;

use frame::{
    ANSWER_HEAD, DONE, MAGIC, REQUEST_HEAD, ROOM, ROOM_MAGIC, SCRUBBED, SOCKET_VARIABLE, TOOL,
    WATCHED_TOOL,
};
use sys::{Buffer, Descriptor, Error, Kind, Start};

/// What a shell says of a program that it cannot find.
const NOT_FOUND: u8 = 127;

/// Set by a GCC driver for what it runs, which is then a part of a compilation that runs here.
const GCC_VARIABLE: &str = "COLLECT_GCC";

/// The directory that stands for `/`, filled in when this program is written to its file.
#[repr(C)]
struct Real {
    magic: [u8; ROOM_MAGIC.len()],
    path: [u8; ROOM],
}

#[used]
static REAL: Real = Real { magic: ROOM_MAGIC, path: [0; ROOM] };

/// Does what its caller wanted of the tool, and gives the exit status.
fn run(start: &mut Start) -> u8 {
    if let Some(socket) = supervisor(start)
        && ask(start, &socket).is_ok()
        && let Ok(answer) = Answer::receive(&socket)
    {
        match answer.kind {
            DONE => return answer.relay(&socket),
            TOOL | WATCHED_TOOL => return answer.be_tool(start, &socket),
            _ => {}
        }
    }
    // No supervisor, or a call that it has no words for: the real tool knows.
    behind(start)
}

/// The supervisor, if there is one and this is its business.
fn supervisor(start: &Start) -> Option<Descriptor> {
    let path = start.environment.variable(SOCKET_VARIABLE)?;
    match start.environment.variable(GCC_VARIABLE) {
        Some(_) => None,
        None => Descriptor::connect(path).ok(),
    }
}

/// Sends the call, with the caller's standard streams.
fn ask(start: &Start, socket: &Descriptor) -> Result<(), Error> {
    let (mut directory, mut file) = (Buffer::new(), Buffer::new());
    directory.read_working_directory()?;
    file.read_link(c"/proc/self/exe")?;
    let (arguments, environment) = (start.arguments.block()?, start.environment.block()?);
    let parts = [arguments, environment, directory.bytes(), file.bytes()];
    let mut head = [0; REQUEST_HEAD];
    head[..8].copy_from_slice(&MAGIC);
    let lengths = parts.map(<[u8]>::len);
    let numbers = [start.arguments.len(), sys::umask() as usize];
    for (place, number) in head[8..].chunks_exact_mut(4).zip(lengths.into_iter().chain(numbers)) {
        place.copy_from_slice(&u32::try_from(number).map_err(|_| Error::TOO_LONG)?.to_le_bytes());
    }
    socket.send_with_streams(&head).or_else(|error| match error {
        // A stream is closed: nothing is read from there, and what is written is lost.
        Error::BAD_DESCRIPTOR => {
            sys::open_standard_streams()?;
            socket.send_with_streams(&head)
        }
        error => Err(error),
    })?;
    socket.send_all(parts)
}

/// What the supervisor says, apart from the words that follow.
struct Answer {
    kind: u8,
    status: u8,
    lengths: [usize; 2],
}

impl Answer {
    fn receive(socket: &Descriptor) -> Result<Self, Error> {
        let mut head = [0; ANSWER_HEAD];
        socket.read_exact(&mut head)?;
        let [kind, status, _, _, a, b, c, d, e, f, g, h] = head;
        let lengths = [[a, b, c, d], [e, f, g, h]].map(|n| u32::from_le_bytes(n) as usize);
        Ok(Self { kind, status, lengths })
    }

    /// Writes what the tool wrote, or would have.
    fn relay(&self, socket: &Descriptor) -> u8 {
        for (length, stream) in self.lengths.into_iter().zip([1, 2]) {
            // A reader that has gone is the caller's business, as it would be the compiler's.
            let _ = socket.relay(length, &Descriptor::of_number(stream));
        }
        self.status
    }

    /// Becomes the tool, or runs it. Where its description does not arrive whole, nothing was done
    /// yet, and the tool can be found without.
    fn be_tool(&self, start: &mut Start, socket: &Descriptor) -> u8 {
        let Some(words) = socket.read_text(self.lengths[0]) else { return behind(start) };
        let mut words = words.split_inclusive(|byte| *byte == 0).map(CStr::from_bytes_with_nul);
        let (Some(Ok(file)), Some(Ok(name)), Some(Ok(path))) =
            (words.next(), words.next(), words.next())
        else {
            return behind(start);
        };
        if !name.is_empty() {
            start.arguments.set(0, name);
        }
        if self.status == SCRUBBED {
            start.environment.remove(SOCKET_VARIABLE);
            if !path.is_empty() {
                start.environment.replace("PATH", path);
            }
        }
        if self.kind == TOOL {
            return become_program(start, file);
        }
        let status = match sys::fork() {
            Ok(None) => return become_program(start, file),
            Ok(Some(child)) => sys::wait(child),
            Err(error) => complain(file.to_bytes(), error),
        };
        // The supervisor only counts with it.
        let _ = socket.send_all([&[status], &[], &[], &[]]);
        status
    }
}

/// The tool itself, where no supervisor can say.
fn behind(start: &mut Start) -> u8 {
    let Some(called) = start.arguments.first() else { return NOT_FOUND };
    let mut own = Buffer::new();
    if own.read_link(c"/proc/self/exe").is_ok()
        && let Some(original) = original(own.bytes())
    {
        return become_program(start, original.text());
    }
    let called = called.to_bytes();
    let name = called.rsplit(|byte| *byte == b'/').next().unwrap_or(called);
    let path = start.environment.variable("PATH").unwrap_or(c"").to_bytes();
    for directory in path.split(|byte| *byte == b':') {
        let mut candidate = Buffer::new();
        // An empty entry is the working directory (POSIX, `PATH`).
        let parts = if directory.is_empty() { [b"", &b""[..]] } else { [directory, b"/"] };
        if !(candidate.push(parts[0]) && candidate.push(parts[1]) && candidate.push(name)) {
            continue;
        }
        let Some(program) = program_at(&candidate) else { continue };
        // A compiler finds its parts by what it is called. A bare name leads to it.
        if called.contains(&b'/')
            && let Some(name) = sys::keep(candidate.text())
        {
            start.arguments.set(0, name);
        }
        return become_program(start, program.text());
    }
    complain(called, Error::NOT_THERE)
}

/// Where what is called `path` can be executed, past all interposers.
fn program_at(path: &Buffer) -> Option<Buffer> {
    let found = Kind::of(path.text())?;
    if !found.is_program() {
        return None;
    }
    if !found.is_this_program() {
        return Some(path.clone());
    }
    let mut file = Buffer::new();
    file.read_canonical(path.text()).ok()?;
    original(file.bytes())
}

/// The tool over whose file an interposer is bound.
fn original(file: &[u8]) -> Option<Buffer> {
    let mut path = Buffer::new();
    // The compiler knows what was there when it ran.
    for byte in REAL.path.iter().map(sys::read_anew).take_while(|byte| *byte != 0) {
        path.push(&[byte]);
    }
    let is_whole = !path.bytes().is_empty() && path.push(file);
    let found = is_whole.then(|| Kind::of(path.text())).flatten()?;
    (!found.is_this_program()).then_some(path)
}

fn become_program(start: &Start, file: &CStr) -> u8 {
    complain(file.to_bytes(), sys::execute(file, start))
}

/// Says why there is no tool.
fn complain(what: &[u8], error: Error) -> u8 {
    let stderr = Descriptor::of_number(2);
    for part in [b"mesh: ", what, b": ", error.text().as_bytes(), b"\n"] {
        let _ = stderr.write_all(part);
    }
    NOT_FOUND
}
