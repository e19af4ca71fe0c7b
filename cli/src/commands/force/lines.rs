//! `mesh force -`: thunks as JSON lines on standard input, results as JSON lines on standard output.

use std::io::{self, BufRead, BufReader, Read};

use mesh_protocol::limits;
use mesh_protocol::name::{OutputRef, ThunkName};
use mesh_protocol::thunk::Thunk;
use mesh_store::Store;
use serde_json::{Map, Value, json};

use super::{Forced, Trouble};
use crate::commands::print_line;
use crate::error::CliError;
use crate::exit;

/// Lines of standard input that are worked on at once; more wait unread.
const LINES_AT_ONCE: usize = 4096;

/// A line of standard input: its number, and the thunk in it or what is wrong.
struct Line {
    number: u64,
    thunk: Result<(ThunkName, Thunk), Trouble>,
}

/// What went wrong so far.
#[derive(Default)]
struct Tally {
    failed: u64,
    /// The smallest code: a failed step before what is wrong with the data or with this machine.
    code: Option<u8>,
}

impl Tally {
    fn count(&mut self, code: u8) {
        self.failed += 1;
        self.code = Some(self.code.map_or(code, |known| known.min(code)));
    }

    fn verdict(&self) -> Result<(), CliError> {
        match (self.code, self.failed) {
            (None, _) => Ok(()),
            (Some(code), 1) => Err(CliError::new(code, "1 thunk failed")),
            (Some(code), count) => Err(CliError::new(code, format_args!("{count} thunks failed"))),
        }
    }
}

/// Forces what the lines hold; results come in the order in which they are done.
pub(super) async fn run(forced: &Forced) -> Result<(), CliError> {
    let mut incoming = read_lines(forced.store.clone());
    let mut works = tokio::task::JoinSet::new();
    let mut tally = Tally::default();
    let mut open = true;
    while open || !works.is_empty() {
        tokio::select! {
            line = incoming.recv(), if open && works.len() < LINES_AT_ONCE => match line {
                Some(Ok(line)) => {
                    let forced = forced.clone();
                    works.spawn(async move { force_line(&forced, line).await });
                }
                Some(Err(error)) => return Err(CliError::io("standard input")(error)),
                None => open = false,
            },
            Some(done) = works.join_next() => {
                let (result, code) = done.map_err(|error| CliError::new(exit::INTERNAL, error))?;
                code.into_iter().for_each(|code| tally.count(code));
                forced.console.aside(|| print_line(Value::Object(result)))?;
            }
        }
    }
    tally.verdict()
}

/// Reads lines and stores their thunks on a thread of its own, one by one: as tasks, the first thousand of
/// them would come before the driver's, which would hear of the first thunk when the last is stored.
fn read_lines(store: Store) -> tokio::sync::mpsc::Receiver<io::Result<Line>> {
    let (sender, incoming) = tokio::sync::mpsc::channel(LINES_AT_ONCE);
    std::thread::spawn(move || {
        let mut stdin = BufReader::new(io::stdin());
        for number in 1_u64.. {
            let line = match read_line(&mut stdin) {
                Ok(None) => return,
                Ok(Some(text)) if text.trim_ascii().is_empty() => continue,
                Ok(Some(text)) => Ok(Line { number, thunk: take_thunk(&store, &text) }),
                Err(error) => Err(error),
            };
            let stop = line.is_err();
            if sender.blocking_send(line).is_err() || stop {
                return;
            }
        }
    });
    incoming
}

/// Reads one line, of which it keeps no more than shows that it is too long. None: there is none.
fn read_line(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let length = input.by_ref().take(limits::THUNK_BYTES + 1).read_until(b'\n', &mut line)?;
    if length == 0 {
        return Ok(None);
    }
    if line.len() as u64 > limits::THUNK_BYTES && !line.ends_with(b"\n") {
        input.skip_until(b'\n')?;
    }
    Ok(Some(line))
}

fn take_thunk(store: &Store, line: &[u8]) -> Result<(ThunkName, Thunk), Trouble> {
    let wrong = |reason: String| Trouble::new(exit::DATA, reason);
    if line.len() as u64 > limits::THUNK_BYTES {
        return Err(wrong("the line is longer than a thunk may be".to_owned()));
    }
    let text = std::str::from_utf8(line).map_err(|_| wrong("the line is not UTF-8".to_owned()))?;
    let thunk = Thunk::from_json(text).map_err(|error| wrong(error.to_string()))?;
    let (name, bytes) = thunk.encode().map_err(|error| wrong(error.to_string()))?;
    store.put_bytes(&bytes).map_err(|error| Trouble::from(CliError::from(error)))?;
    Ok((name, thunk))
}

/// The result of one line, and the exit code if it failed.
async fn force_line(forced: &Forced, line: Line) -> (Map<String, Value>, Option<u8>) {
    let mut result = Map::from_iter([("line".to_owned(), json!(line.number))]);
    let done = match line.thunk {
        Ok((name, thunk)) => {
            result.insert("thunk".to_owned(), json!(name));
            force_thunk(forced, name, &thunk, &mut result).await
        }
        Err(trouble) => Err(trouble),
    };
    let code = done.err().map(|trouble| trouble.report(&mut result));
    (result, code)
}

/// Forces all outputs of a thunk. An optional one may be missing, but only if the thunk succeeded.
async fn force_thunk(
    forced: &Forced,
    name: ThunkName,
    thunk: &Thunk,
    result: &mut Map<String, Value>,
) -> Result<(), Trouble> {
    let mut outputs = Map::new();
    for (tag, declared) in &thunk.spec().outputs {
        match forced.driver.demand(OutputRef { thunk: name, tag: tag.clone() }).await {
            Ok(object) => {
                outputs.insert(tag.to_string(), json!(object));
            }
            Err(error) if !declared.required && error.is_absence() => {}
            Err(error) => return Err(forced.trouble(&error)),
        }
    }
    result.insert("outputs".to_owned(), Value::Object(outputs));
    result.extend(forced.remembered(name)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_takes_no_more_memory_than_a_thunk_may() {
        let long = vec![b'x'; usize::try_from(limits::THUNK_BYTES).unwrap() * 2];
        let mut input = io::Cursor::new([&long[..], b"\nnext\n\nlast"].concat());
        let mut next = || read_line(&mut input).unwrap();
        assert_eq!(next().unwrap().len() as u64, limits::THUNK_BYTES + 1);
        assert_eq!(next().unwrap(), b"next\n");
        assert_eq!(next().unwrap(), b"\n");
        assert_eq!(next().unwrap(), b"last");
        assert!(next().is_none());
    }

    #[test]
    fn the_exit_code_does_not_depend_on_the_order() {
        for codes in [[exit::DATA, exit::FOUND_WRONG], [exit::FOUND_WRONG, exit::DATA]] {
            let mut tally = Tally::default();
            codes.into_iter().for_each(|code| tally.count(code));
            assert_eq!(tally.verdict().unwrap_err().code(), exit::FOUND_WRONG);
        }
        assert!(Tally::default().verdict().is_ok());
    }
}
