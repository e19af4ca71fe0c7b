//! What a build prints: held back while a step before it may still fail, and shown once, in order.
//!
//! The build does not write to our standard streams itself. It gets a pipe in place of each, or a
//! terminal in place of a terminal, and a thread copies what comes. A step that was answered early
//! leaves a mark where its own words belong; what is written behind a mark waits until that step
//! has finished. When a build is taken back to its start, what was shown stays shown, and is left
//! out when the build prints it again ([`seen`]).
//!
//! ```text
//!   build ─▶ pipe ─▶ queue:  make's line │ mark 1 │ make's line │ mark 2 │ …  ─▶ our streams
//!                                          ▲ step 1 finishes, with its warnings
//! ```
//!
//! Programs still see a terminal where there is one, with its width; signals still come from the
//! real one, which stays the controlling terminal and standard input.

pub(crate) mod relay;
mod seen;
mod source;

use std::collections::{BTreeMap, VecDeque};
use std::fs::Metadata;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec};

pub(crate) use seen::Seen;
use source::Source;

use super::undo::journal::StepNumber;
use crate::ui::Console;

/// How long the beginning of a line is held back for the rest of it, in seconds.
const PARTIAL_LINE_S: i64 = 1;

/// Bytes that are held back before the build has to wait with more: as many as a pipe holds whose
/// reader is busy (pipe(7)), so that a build without a reader learns it as early as otherwise.
const HELD_BYTES_MAX: usize = 64 << 10;

/// One of our streams.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// Which of our streams a build gets a substitute for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cover {
    /// All but those that lead nowhere.
    All,
    /// A terminal that shows a live block, which the build's words would break.
    LiveTerminal,
}

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Words {
    shared: Arc<Shared>,
    /// What the build gets in place of standard output and error, until it has it.
    given: Mutex<[Option<OwnedFd>; 2]>,
    covers: bool,
    /// The files that the build's own words go to, and where they are shown.
    own: Vec<((u64, u64), Stream)>,
    /// Wakes the thread; closed, it ends it.
    wake: UnixStream,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    out: Out,
}

struct Out {
    console: Console,
}

impl std::fmt::Debug for Out {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Out")
    }
}

#[derive(Debug, Default)]
struct State {
    sources: Vec<Arc<Source>>,
    queue: VecDeque<Item>,
    held: usize,
    /// Steps that have finished, with their words, whose turn has not come.
    finished: BTreeMap<StepNumber, Vec<(Stream, Vec<u8>)>>,
    /// The beginning of a line that is shown on a terminal, and where.
    partial: Option<(Stream, Vec<u8>)>,
    seen: Seen,
    /// Our standard output is closed.
    is_gone: bool,
}

#[derive(Debug)]
enum Item {
    Bytes(Arc<Source>, Vec<u8>),
    Step(StepNumber),
}

impl Words {
    /// Makes the substitutes. `seen`: what an earlier pass of the build has shown already.
    pub(crate) fn open(console: &Console, cover: Cover, seen: Seen) -> io::Result<Self> {
        let ends = source::open(cover, console.is_live())?;
        let mut own = vec![
            (metadata_of(&io::stdout()), Stream::Out),
            (metadata_of(&io::stderr()), Stream::Err),
        ];
        own.extend(ends.given().map(|(end, stream)| (metadata_of(end), stream)));
        let inode = |found: Metadata| (found.dev(), found.ino());
        let own = own.into_iter().filter_map(|(found, stream)| Some((inode(found.ok()?), stream)));
        let own = own.collect();
        let state = State { sources: ends.sources, seen, ..State::default() };
        let out = Out { console: console.clone() };
        let shared = Arc::new(Shared { state: Mutex::new(state), out });
        let (wake, woken) = UnixStream::pair()?;
        let copying = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("mesh-words".to_owned())
            .spawn(move || copying.copy(&woken))?;
        let given = [ends.stdout, ends.stderr];
        let covers = given.iter().any(Option::is_some);
        Ok(Self { shared, given: Mutex::new(given), covers, own, wake })
    }

    /// Gives the substitutes to a command; once.
    pub(crate) fn lend(&self, command: &mut Command) {
        let [stdout, stderr] = std::mem::take(&mut *lock(&self.given));
        if let Some(stdout) = stdout {
            command.stdout(Stdio::from(stdout));
        }
        if let Some(stderr) = stderr {
            command.stderr(Stdio::from(stderr));
        }
    }

    /// Does everything that the build prints come through here?
    pub(crate) fn covers_all(&self) -> bool {
        self.covers
    }

    /// The stream of the build's own that leads to this file.
    pub(crate) fn stream_to(&self, file: &Metadata) -> Option<Stream> {
        let inode = (file.dev(), file.ino());
        self.own.iter().find(|(own, _)| *own == inode).map(|(_, stream)| *stream)
    }

    /// Has more been shown than could be left out when it came again?
    pub(crate) fn is_full(&self) -> bool {
        self.shared.state().seen.is_full()
    }

    /// What is written from now on belongs behind this step's words.
    pub(crate) fn mark(&self, step: StepNumber) {
        let mut state = self.shared.state();
        self.shared.read(&mut state);
        state.queue.push_back(Item::Step(step));
    }

    /// A marked step has finished, and wrote this.
    pub(crate) fn finished(&self, step: StepNumber, words: Vec<(Stream, Vec<u8>)>) {
        let mut state = self.shared.state();
        state.finished.insert(step, words);
        self.shared.show(&mut state);
        // The thread may have stopped reading because of what is shown now.
        let _ = (&self.wake).write(&[0]);
    }

    /// Shows what a step wrote that has no mark.
    pub(crate) fn say(&self, words: Vec<(Stream, Vec<u8>)>) {
        let mut state = self.shared.state();
        for (stream, bytes) in words {
            self.shared.emit(&mut state, stream, &bytes);
        }
    }

    /// After the build command has ended: shows all that was written, and lets another process copy
    /// what programs that outlive the build still write.
    pub(crate) fn finish(&self) {
        let mut state = self.shared.state();
        self.shared.read(&mut state);
        self.shared.show(&mut state);
        self.shared.flush(&mut state);
        for source in std::mem::take(&mut state.sources) {
            relay::start(&source, source.stream);
        }
    }

    /// The pass is taken back: what was not shown is forgotten. Gives what was shown.
    pub(crate) fn forget(&self) -> Seen {
        let mut state = self.shared.state();
        state.sources.clear();
        state.queue.clear();
        self.shared.flush(&mut state);
        std::mem::take(&mut state.seen).shown()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The thread: copies until nobody needs it.
    fn copy(&self, woken: &UnixStream) {
        let _ = woken.set_nonblocking(true);
        loop {
            let sources = {
                let state = self.state();
                if state.held > HELD_BYTES_MAX { Vec::new() } else { state.sources.clone() }
            };
            let mut polled: Vec<PollFd<'_>> = sources
                .iter()
                .map(|source| PollFd::from_borrowed_fd(source.as_fd(), PollFlags::IN))
                .collect();
            polled.push(PollFd::new(woken, PollFlags::IN));
            let patience = Timespec { tv_sec: PARTIAL_LINE_S, tv_nsec: 0 };
            let ready = rustix::event::poll(&mut polled, Some(&patience));
            let is_ended =
                polled.last().is_some_and(|woken| woken.revents().contains(PollFlags::HUP));
            drop(polled);
            if is_ended {
                return;
            }
            let mut byte = [0; 64];
            let _ = io::Read::read(&mut &*woken, &mut byte);
            sources.iter().for_each(|source| source.follow_size());
            let mut state = self.state();
            match ready {
                Ok(0) => {
                    let rest = state.seen.give_up_on_partial_lines();
                    for (stream, bytes) in rest {
                        self.write(&mut state, stream, &bytes);
                    }
                    self.flush(&mut state);
                }
                Ok(_) if state.held <= HELD_BYTES_MAX => {
                    self.read(&mut state);
                    self.show(&mut state);
                }
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    /// Takes all that has been written so far.
    fn read(&self, state: &mut State) {
        let mut bytes = vec![0; 64 * 1024];
        let mut at = 0;
        while let Some(source) = state.sources.get(at).map(Arc::clone) {
            match rustix::io::read(&*source, &mut bytes) {
                Ok(0) => drop(state.sources.remove(at)),
                Ok(count) => {
                    state.held += count;
                    state.queue.push_back(Item::Bytes(source, bytes[..count].to_vec()));
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => at += 1,
                // A terminal that nobody has open.
                Err(_) => drop(state.sources.remove(at)),
            }
        }
    }

    /// Shows what no step that has not finished stands before.
    fn show(&self, state: &mut State) {
        while let Some(item) = state.queue.pop_front() {
            match item {
                Item::Bytes(source, bytes) => {
                    state.held -= bytes.len();
                    if source.is_terminal {
                        self.emit_lines(state, source.stream, &bytes);
                    } else {
                        self.emit(state, source.stream, &bytes);
                    }
                }
                Item::Step(step) => match state.finished.remove(&step) {
                    Some(words) => {
                        for (stream, bytes) in words {
                            self.emit(state, stream, &bytes);
                        }
                    }
                    None => {
                        state.queue.push_front(Item::Step(step));
                        return;
                    }
                },
            }
        }
    }

    /// Above a live block, whole lines only.
    fn emit_lines(&self, state: &mut State, stream: Stream, bytes: &[u8]) {
        let (_, mut lines) = state.partial.take().unwrap_or((stream, Vec::new()));
        lines.extend_from_slice(bytes);
        let end = lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let rest = lines.split_off(end);
        state.partial = Some((stream, rest)).filter(|(_, rest)| !rest.is_empty());
        self.pass(state, stream, &lines);
    }

    fn emit(&self, state: &mut State, stream: Stream, bytes: &[u8]) {
        self.flush(state);
        self.pass(state, stream, bytes);
    }

    fn flush(&self, state: &mut State) {
        if let Some((stream, partial)) = state.partial.take() {
            self.pass(state, stream, &partial);
        }
    }

    /// Leaves out what has been shown before.
    fn pass(&self, state: &mut State, stream: Stream, bytes: &[u8]) {
        let new = state.seen.pass(stream, bytes);
        self.write(state, stream, &new);
    }

    fn write(&self, state: &mut State, stream: Stream, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        match stream {
            Stream::Err => self.out.console.print(bytes),
            Stream::Out if state.is_gone => {}
            Stream::Out => {
                let write = || {
                    let mut stdout = io::stdout().lock();
                    stdout.write_all(bytes).and_then(|()| stdout.flush())
                };
                if self.out.console.aside(write).is_err() {
                    // Whoever writes from now on learns that nobody reads.
                    state.is_gone = true;
                    state.sources.retain(|source| source.stream != Stream::Out);
                    state.queue.retain(|item| match item {
                        Item::Bytes(source, _) => source.stream != Stream::Out,
                        Item::Step(_) => true,
                    });
                    state.held = 0;
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The metadata of an open file.
pub(crate) fn metadata_of(stream: &impl AsFd) -> io::Result<Metadata> {
    std::fs::File::from(stream.as_fd().try_clone_to_owned()?).metadata()
}

/// Do both lead to the same file?
fn is_same(one: &impl AsFd, other: &impl AsFd) -> bool {
    let inode = |stream: io::Result<Metadata>| stream.ok().map(|found| (found.dev(), found.ino()));
    inode(metadata_of(one)).zip(inode(metadata_of(other))).is_some_and(|(one, other)| one == other)
}

/// Is there anybody to read it? A device that is no terminal is written to directly: it may answer
/// as only it does.
fn leads_somewhere(stream: &impl AsFd) -> bool {
    metadata_of(stream).is_ok_and(|found| !found.file_type().is_char_device())
}

/// Does a terminal show both?
fn are_terminals() -> (bool, bool) {
    (io::stdout().is_terminal(), io::stderr().is_terminal())
}
