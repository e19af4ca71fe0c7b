//! What a build has shown, and what it shows again because it was taken back to its start.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use super::Stream;

/// Bytes that are remembered.
const REMEMBERED_BYTES_MAX: usize = 1 << 20;

/// Remembers lines that were shown, and leaves out as many when they come again.
///
/// Lines rather than bytes: commands that run side by side print in another order each time.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    streams: [Lines; 2],
    /// Bytes that were shown in this pass.
    remembered: usize,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Lines {
    /// By the hash of a line: how often it has been shown in this pass.
    shown: HashMap<u64, u64>,
    /// A line whose end was not shown yet.
    open: Vec<u8>,
    /// By the hash of a line: how often it is to be left out in this pass.
    skip: HashMap<u64, u64>,
    /// The beginning of a line that is to be left out.
    skip_open: Vec<u8>,
    /// A line that may be left out, as far as it has come.
    pending: Vec<u8>,
}

impl Seen {
    /// What of these bytes has not been shown yet.
    pub(super) fn pass(&mut self, stream: Stream, bytes: &[u8]) -> Vec<u8> {
        let lines = &mut self.streams[stream as usize];
        let new = lines.leave_out(bytes, &self.hasher);
        if self.remembered <= REMEMBERED_BYTES_MAX {
            self.remembered += new.len();
            lines.remember(&new, &self.hasher);
        }
        new
    }

    /// Beginnings of lines that nothing has followed for a while: prompts, for example.
    pub(super) fn give_up_on_partial_lines(&mut self) -> Vec<(Stream, Vec<u8>)> {
        let mut given = Vec::new();
        for stream in [Stream::Out, Stream::Err] {
            let lines = &mut self.streams[stream as usize];
            let bytes = std::mem::take(&mut lines.pending);
            if !bytes.is_empty() {
                lines.remember(&bytes, &self.hasher);
                given.push((stream, bytes));
            }
        }
        given
    }

    /// Has more been shown than is remembered?
    pub(super) fn is_full(&self) -> bool {
        self.remembered > REMEMBERED_BYTES_MAX
    }

    /// Is there nothing to be left out?
    pub(crate) fn is_empty(&self) -> bool {
        self.streams.iter().all(|lines| lines.skip.is_empty() && lines.skip_open.is_empty())
    }

    /// For the next pass: all that was shown is to be left out.
    pub(super) fn shown(mut self) -> Self {
        self.remembered = 0;
        for lines in &mut self.streams {
            let shown = std::mem::take(&mut lines.shown);
            let open = std::mem::take(&mut lines.open);
            *lines = Lines { skip: shown, skip_open: open, ..Lines::default() };
        }
        self
    }
}

impl Lines {
    fn leave_out(&mut self, bytes: &[u8], hasher: &RandomState) -> Vec<u8> {
        let mut new = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.pending.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.pending);
                new.extend_from_slice(self.new_part(&line, hasher));
            }
        }
        if self.skip.is_empty() && self.skip_open.is_empty() {
            new.append(&mut self.pending);
        }
        new
    }

    fn new_part<'a>(&mut self, line: &'a [u8], hasher: &RandomState) -> &'a [u8] {
        let hash = hasher.hash_one(line);
        if let Some(count) = self.skip.get_mut(&hash) {
            *count -= 1;
            if *count == 0 {
                self.skip.remove(&hash);
            }
            return &[];
        }
        if !self.skip_open.is_empty()
            && let Some(rest) = line.strip_prefix(self.skip_open.as_slice())
        {
            self.skip_open.clear();
            return rest;
        }
        line
    }

    fn remember(&mut self, bytes: &[u8], hasher: &RandomState) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.open.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                *self.shown.entry(hasher.hash_one(self.open.as_slice())).or_default() += 1;
                self.open.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(seen: &mut Seen, text: &str) -> String {
        String::from_utf8(seen.pass(Stream::Out, text.as_bytes())).unwrap()
    }

    #[test]
    fn each_line_is_left_out_as_often_as_it_was_shown() {
        let mut seen = Seen::default();
        assert_eq!(pass(&mut seen, "a\nb\na\nwhat n"), "a\nb\na\nwhat n");
        let mut seen = seen.shown();
        assert_eq!(pass(&mut seen, "b\na\n"), "");
        assert_eq!(pass(&mut seen, "c\na\na\nwha"), "c\na\n");
        assert_eq!(pass(&mut seen, "t now\nd"), "ow\nd");
        let mut seen = seen.shown();
        assert_eq!(pass(&mut seen, "e\nc\nd"), "e\n");
        assert_eq!(pass(&mut seen, "x"), "");
        assert_eq!(seen.give_up_on_partial_lines(), [(Stream::Out, b"dx".to_vec())]);
    }
}
